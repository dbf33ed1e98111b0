"""Our collators and objectives in the Hugging Face Trainer agree with the bare loop, for their models and ours."""

import pytest
import torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from torch.utils.data import DataLoader  # noqa: E402
from transformers import TrainingArguments  # noqa: E402

from clozelab import OBJECTIVES, CausalLM, MaskedLM  # noqa: E402
from clozelab.data import load_tokenizer, train_bpe  # noqa: E402
from clozelab.errors import InputError  # noqa: E402
from clozelab.evaluation import evaluate  # noqa: E402
from clozelab.integrations.trainer import ObjectiveTrainer  # noqa: E402
from clozelab.objectives import Target, options, total_counts  # noqa: E402

THEIRS = [name for name, objective in OBJECTIVES.items() if objective.export_refusal is None]
RUNS = [(name, True) for name in THEIRS] + [(name, False) for name in OBJECTIVES]
NAMED = [f"{name} on {'theirs' if theirs else 'ours'}" for name, theirs in RUNS]


@pytest.fixture(autouse=True)
def _quiet(capsys):
    """The Trainer prints its log."""
    transformers.logging.set_verbosity_error()


def arguments(**settings):
    """On the CPU, in order, no more than the bare loop does."""
    return TrainingArguments(
        **{
            "output_dir": "unused",
            "use_cpu": True,
            "report_to": [],
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 1,
            "train_sampling_strategy": "sequential",
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "dataloader_pin_memory": False,
            "num_train_epochs": 2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 3,
            **settings,
        }
    )


def trained(objective, model, collate, rows, **settings):
    """The weights after a run of the Trainer, and its log."""
    trainer = ObjectiveTrainer(
        model,
        arguments(**settings),
        objective=objective,
        data_collator=collate,
        train_dataset=rows,
        optimizers=(torch.optim.SGD(model.parameters(), lr=0.5), None),
    )
    trainer.train()
    return weights(model), [line["loss"] for line in trainer.state.log_history if "loss" in line]


def bare(objective, model, collate, rows, *, epochs=2, micro_batch_size=2, micros=3):
    """The same steps in PyTorch alone: counts first."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for epoch in range(epochs):
        collate.set_epoch(epoch)
        batches = list(DataLoader(rows, micro_batch_size, collate_fn=collate))
        for step in (batches[k : k + micros] for k in range(0, len(batches), micros)):
            counts = total_counts(objective.counts(batch) for batch in step)
            shares = [objective(model, batch).over(counts) for batch in step]
            sum(shares).backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(sum(shares).item())
    return weights(model), losses


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(("name", "theirs"), RUNS, ids=NAMED)
def test_a_run_of_the_trainer_is_a_run_of_the_bare_loop(name, theirs, make, special, rows):
    """Steps of 3 and 1 micro-batches of ragged rows, with other masks in the second epoch."""
    (objective, model), (_, other) = make(name, theirs=theirs), make(name, theirs=theirs)
    begin = weights(model)
    ours, losses = bare(objective, model, objective.collator(special), rows)
    here, logged = trained(objective, other, objective.collator(special), rows)
    assert float((ours - begin).abs().max()) > 1e-3  # it moved
    assert float((ours - here).abs().max()) < 1e-6
    assert logged == pytest.approx(losses, abs=1e-4)  # the Trainer rounds its log


def test_parts_with_different_counts_are_each_divided_by_their_own(special, rows, make):
    """One number of items a batch cannot say this: the Trainer's own interface would mix the parts."""

    @options
    class TwoParts(MaskedLM):
        """The hidden tokens, and every token that stands at an even place."""

        name = "two-parts"

        def targets(self, batch):
            even = batch["input_ids"].masked_fill(torch.arange(batch["input_ids"].shape[1]) % 2 == 1, -100)
            return {"logits": Target(batch["labels"]), "even": Target(even, weight=0.5)}

        def loss(self, outputs, batch):
            return super().loss({"logits": outputs["logits"], "even": outputs["logits"]}, batch)

    objective, model = TwoParts(), make("masked")[1]
    other = make("masked")[1]
    here, _ = trained(objective, model, objective.collator(special), rows)
    ours, _ = bare(objective, other, objective.collator(special), rows)
    assert float((ours - here).abs().max()) < 1e-6
    trainer = ObjectiveTrainer(
        model, arguments(), objective=objective, data_collator=objective.collator(special), eval_dataset=rows
    )
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_logits_loss"] + 0.5 * metrics["eval_even_loss"])


@pytest.mark.parametrize(("name", "theirs"), RUNS, ids=NAMED)
def test_an_evaluation_is_one_mean_over_all_rows(name, theirs, make, special, rows):
    objective, model = make(name, theirs=theirs)
    collate = objective.collator(special)
    batches = list(DataLoader(rows, 3, collate_fn=collate))
    expected = evaluate(objective, model, batches).nats
    trainer = ObjectiveTrainer(
        model,
        arguments(per_device_eval_batch_size=3),
        objective=objective,
        data_collator=collate,
        eval_dataset=rows,
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-6)
    means = [objective(model, batch).mean.item() for batch in batches]
    assert sum(means) / len(means) != pytest.approx(expected, rel=1e-5)  # the mean of means is another number


@pytest.mark.parametrize("workers", [0, 2])
def test_training_has_fresh_masks_in_each_epoch_and_evaluation_keeps_its_own(workers, make, special, rows):
    """A learning rate of zero: only the masks can change what is measured."""
    objective, model = make("masked")
    collate = objective.collator(special)
    persistent = {"dataloader_num_workers": workers, "dataloader_persistent_workers": workers > 0}
    trainer = ObjectiveTrainer(
        model,
        arguments(eval_strategy="epoch", num_train_epochs=3, gradient_accumulation_steps=4, **persistent),
        objective=objective,
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=rows,
        optimizers=(torch.optim.SGD(model.parameters(), lr=0.0), None),
    )
    trainer.train()
    log = trainer.state.log_history
    heldout = [line["eval_loss"] for line in log if "eval_loss" in line]
    training = [line["loss"] for line in log if "loss" in line]
    assert len(heldout) == len(training) == 3
    assert len(set(heldout)) == 1
    assert len(set(training)) == 3
    assert training[0] == pytest.approx(heldout[0], abs=1e-4)  # epoch 0 has the masks that evaluation keeps


def test_a_dataset_of_lists_trains_as_rows_do(make, special, rows):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"input_ids": [row["input_ids"].tolist() for row in rows], "note": ["x"] * 8})
    (objective, one), (_, two) = make("masked"), make("masked")
    here, _ = trained(objective, one, objective.collator(special), table)
    there, _ = trained(objective, two, objective.collator(special), rows)
    assert torch.equal(here, there)


def test_columns_that_only_the_collator_reads_reach_it(make, special, rows):
    """The Trainer removes those that the model's forward does not name, unless they are the collator's."""
    objective, model = make("masked")
    named = [{**row, "example_id": 100 + k, "note": "x"} for k, row in enumerate(rows)]
    own = [{key: row[key] for key in ("input_ids", "example_id")} for row in named]
    ours, _ = bare(objective, model, objective.collator(special), own)
    here, _ = trained(objective, make("masked")[1], objective.collator(special), named)
    without, _ = trained(objective, make("masked")[1], objective.collator(special), rows)
    assert float((ours - here).abs().max()) < 1e-6
    assert float((ours - without).abs().max()) > 1e-6  # an example id decides the noise


def test_data_of_a_scheme_reaches_it_in_training_and_in_evaluation(make, special, rows):
    def hide_entities(tokens, maskable, generator, entity_ids):
        return maskable & (entity_ids == 1)

    objective, model = MaskedLM(scheme=hide_entities), make("masked")[1]
    rows = [{**row, "entity_ids": torch.arange(len(row["input_ids"])) % 3 % 2} for row in rows]
    collate = objective.collator(special, pad_to_multiple_of=16)
    trainer = ObjectiveTrainer(
        model, arguments(), objective=objective, data_collator=collate, train_dataset=rows, eval_dataset=rows
    )
    for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader(), trainer.get_test_dataloader(rows)):
        for batch in loader:
            assert batch["input_ids"].shape[1] % 16 == 0
            hidden, real = (batch["labels"] != -100).sum(1), batch["attention_mask"].sum(1)
            assert torch.equal(hidden, (real + 1) // 3)


def test_their_tokenizer_feeds_our_collator(make):
    base = train_bpe(["a cat sat on the mat"] * 2, vocab_size=400, sentinels=4)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=base.backend, **names)
    ours = load_tokenizer(fast, sentinels=8)
    assert ours.special.sentinels[:4] == base.special.sentinels
    rows = [{"input_ids": fast(text)["input_ids"]} for text in ("a cat sat on the mat", "the mat sat on a cat") * 4]
    objective, model = make("span", vocab_size=ours.vocab_size)
    _, losses = trained(objective, model, objective.collator(ours.special), rows, num_train_epochs=4)
    assert losses[-1] < losses[0]


def test_what_the_trainer_would_ignore_is_refused(make, special):
    objective, model = make("masked")
    collate = objective.collator(special)
    with pytest.raises(InputError, match="compute_metrics would be ignored"):
        ObjectiveTrainer(model, objective=objective, data_collator=collate, compute_metrics=lambda _: {})
    smoothed = arguments(label_smoothing_factor=0.1)
    with pytest.raises(InputError, match="label_smoothing_factor would be ignored"):
        ObjectiveTrainer(model, smoothed, objective=objective, data_collator=collate)
    with pytest.raises(InputError, match="data_collator"):
        ObjectiveTrainer(model, objective=objective, data_collator=lambda rows: rows)

    class Scheduled(MaskedLM):
        name = "scheduled"
        uses_progress = True

    with pytest.raises(InputError, match="changes with the progress of the run"):
        ObjectiveTrainer(model, objective=options(Scheduled)(), data_collator=collate)


def test_an_evaluation_has_no_label_smoothing(make, special, rows):
    """So that its loss can be compared with others, and with what `clozelab.evaluation.evaluate` says."""
    objective, model = MaskedLM(label_smoothing=0.1, z_loss=1e-2), make("masked")[1]
    trainer = ObjectiveTrainer(
        model, arguments(), objective=objective, data_collator=objective.collator(special), eval_dataset=rows
    )
    expected = evaluate(objective, model, [objective.collator(special)(rows)]).nats
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-9)
    assert float(objective(model, objective.collator(special)(rows))) > expected + 1e-3


# ------------------------------------------------------------------ models whose own count is wrong


class Wrapped(torch.nn.Module):
    """A module around a model, as adapters and probes are."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.config = inner, inner.config

    def forward(self, input_ids, attention_mask=None, labels=None, **more):
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **more)


OF_GPT = {"vocab_size": 120, "n_embd": 16, "n_layer": 1, "n_head": 1, "n_positions": 64, "pad_token_id": 0}
OF_GPT |= {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
OF_LLAMA = {"vocab_size": 120, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "pad_token_id": 0}
OF_LLAMA |= {"num_attention_heads": 1, "num_key_value_heads": 1}
SHIFT_UNKNOWN = {
    "GPT-2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**OF_GPT)),
    "OpenAI-GPT": lambda: transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**OF_GPT)),
    "CTRL": lambda: transformers.CTRLLMHeadModel(transformers.CTRLConfig(**OF_GPT, dff=16)),
    "wrapped Llama": lambda: Wrapped(transformers.LlamaForCausalLM(transformers.LlamaConfig(**OF_LLAMA))),
}
"""The Trainer knows of none of them that its loss shifts the labels."""


def logged(cls, model, rows, collate, **more):
    """(the loss of the first step, of eight ragged micro-batches; the loss of an evaluation); the weights stay."""
    trainer = cls(
        model=model,
        args=arguments(num_train_epochs=1, per_device_train_batch_size=1, gradient_accumulation_steps=8),
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=rows,
        optimizers=(torch.optim.SGD(model.parameters(), lr=0.0), None),
        **more,
    )
    trainer.train()
    return trainer.state.log_history[0]["loss"], trainer.evaluate()["eval_loss"]


@pytest.mark.parametrize("name", SHIFT_UNKNOWN)
def test_the_count_is_right_where_the_trainer_does_not_know_that_labels_are_shifted(name, special, rows):
    torch.manual_seed(0)
    model, objective = SHIFT_UNKNOWN[name]().eval(), CausalLM()
    collate = objective.collator(special)
    with torch.no_grad():
        batch = collate(rows)
        true = float(objective(model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch))
    training, evaluation = logged(ObjectiveTrainer, model, rows, collate, objective=objective)
    assert (training, evaluation) == pytest.approx((true, true), rel=1e-6)
    if transformers.__version__ == "5.23.0":  # theirs counts one label more a row: 216 for 208
        theirs, _ = logged(transformers.Trainer, model, rows, collate)
        assert theirs == pytest.approx(true * 208 / 216, rel=1e-5)


# ------------------------------------------------------------------ losses of a model's own

ROUTED = {"output_router_logits": True, "router_aux_loss_coef": 0.5, **OF_LLAMA}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
MIXTURES = {
    "Mixtral": lambda: transformers.MixtralForCausalLM(transformers.MixtralConfig(num_local_experts=4, **ROUTED)),
    "OLMoE": lambda: transformers.OlmoeForCausalLM(transformers.OlmoeConfig(**EXPERTS, **ROUTED)),
    "Qwen3-MoE": lambda: transformers.Qwen3MoeForCausalLM(
        transformers.Qwen3MoeConfig(moe_intermediate_size=8, head_dim=16, **EXPERTS, **ROUTED)
    ),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_the_loss_of_routers_is_a_part_of_the_mean_however_a_step_is_cut(name, special, rows):
    torch.manual_seed(0)
    model, objective = MIXTURES[name](), CausalLM()
    collate = objective.collator(special)
    with torch.no_grad():
        whole, cut = collate(rows), [collate([row]) for row in rows]
        own = model(**whole)  # as transformers computes it: loss = cross-entropy + 0.5 x aux_loss
        tokens = [len(row["input_ids"]) for row in rows]
        router = sum(n * float(model(**batch).aux_loss) for n, batch in zip(tokens, cut)) / sum(tokens)
        true = float(objective(own.logits, whole)) + 0.5 * router
    training, evaluation = logged(ObjectiveTrainer, model, rows, collate, objective=objective)
    assert training == pytest.approx(true, rel=1e-6)
    assert evaluation == pytest.approx(float(own.loss), rel=1e-6)  # one batch of eight rows
    if transformers.__version__ == "5.23.0":  # theirs adds it once for each of the eight micro-batches
        theirs, _ = logged(transformers.Trainer, model, rows, collate)
        assert theirs > true + 0.5 * 6 * router


def test_routers_are_trained_with_the_gradient_of_their_loss(special, rows):
    torch.manual_seed(0)
    model, objective = MIXTURES["Mixtral"](), CausalLM()
    batch = objective.collator(special)(rows)
    model(**batch).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    trainer = ObjectiveTrainer(model, arguments(), objective=objective, data_collator=objective.collator(special))
    trainer.compute_loss(model, batch).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], rtol=1e-4, atol=1e-7), name


def test_a_loss_that_nothing_adds_is_named(special, rows):
    torch.manual_seed(0)
    model, objective = MIXTURES["Mixtral"](), CausalLM()
    with pytest.raises(InputError, match="MixtralForCausalLM returns aux_loss, which would be dropped"):
        objective(model, objective.collator(special)(rows))
    shape = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in OF_NLLB.items()}
    nllb = transformers.NllbMoeForConditionalGeneration(
        transformers.NllbMoeConfig(
            vocab_size=120, d_model=16, num_experts=2, expert_capacity=64, output_router_logits=True, pad_token_id=0,
            decoder_start_token_id=0, max_position_embeddings=64, **shape,
        )
    )  # fmt: skip
    span = OBJECTIVES["span"]()
    batch = span.collator(special)(rows)
    with pytest.raises(InputError, match=r"NllbMoe.* computes the loss of its routers from labels"):
        span(nllb, batch)
    nllb.config.output_router_logits = False
    assert span(nllb, batch).mean > 0
    model.config.output_router_logits = True
    model.forward = lambda input_ids, attention_mask: transformers.modeling_outputs.CausalLMOutput(logits=None)
    trainer = ObjectiveTrainer(model, arguments(), objective=objective, data_collator=objective.collator(special))
    with pytest.raises(
        InputError, match="output_router_logits of MixtralForCausalLM is set, but it returns no aux_loss"
    ):
        trainer.compute_loss(model, objective.collator(special)(rows))


OF_NLLB = {"layers": 2, "attention_heads": 1, "ffn_dim": 16, "sparse_step": 2}
