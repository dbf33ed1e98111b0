"""What `ObjectiveTrainer` divides by, where the Trainer's own count is wrong: hidden shifts, and losses of routers."""

import multiprocessing
import os
import socket

import pytest
import torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from clozelab import OBJECTIVES, CausalLM  # noqa: E402
from clozelab.errors import InputError  # noqa: E402
from clozelab.integrations.trainer import ObjectiveTrainer  # noqa: E402

from .trainer_settings import arguments  # noqa: E402

THEIR_COUNTS = transformers.__version__ == "5.23.0"
"""Whether the counts of the Trainer are those that were observed."""


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
    if THEIR_COUNTS:  # theirs counts one label more a row: 216 for 208
        theirs, _ = logged(transformers.Trainer, model, rows, collate)
        assert theirs == pytest.approx(true * 208 / 216, rel=1e-5)


# ------------------------------------------------------------------ several processes


def one_of_two(rank, port, make, special, rows, results):
    """Trains and evaluates in one of two processes that were forked, so that neither imports everything again."""
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    os.environ.update(address, LOCAL_RANK=str(rank))
    try:
        results.put((rank, trained_and_evaluated(make, special, rows, per_device_eval_batch_size=1)))
    except BaseException as error:
        results.put((rank, repr(error)))


def trained_and_evaluated(make, special, rows, **sizes):
    """(weights, held-out loss) after two steps of all eight rows; seven are held out."""
    objective, model = make("causal")
    trainer = ObjectiveTrainer(
        model,
        arguments(**{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, **sizes}),
        objective=objective,
        data_collator=objective.collator(special),
        train_dataset=rows,
        eval_dataset=rows[:7],
        optimizers=(torch.optim.SGD(model.parameters(), lr=0.5), None),
    )
    trainer.train()
    flat = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    return flat.tolist(), trainer.evaluate()["eval_loss"]


def test_two_processes_train_and_evaluate_as_one(make, special, rows):
    """Four micro-batches in each of two processes are eight in one; the last held-out batch is filled up."""
    fork, port = multiprocessing.get_context("fork"), free_port()
    results = fork.Queue()
    both = [
        fork.Process(target=one_of_two, args=(rank, port, make, special, rows, results), daemon=True)
        for rank in range(2)
    ]
    for process in both:
        process.start()
    found = dict(results.get(timeout=60) for _ in both)
    for process in both:
        process.join(timeout=30)
    weights, heldout = trained_and_evaluated(make, special, rows, gradient_accumulation_steps=8)
    for rank in range(2):
        assert not isinstance(found[rank], str), found[rank]
        assert found[rank][0] == pytest.approx(weights, abs=1e-9)
        assert found[rank][1] == pytest.approx(heldout, rel=1e-9)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


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
    if THEIR_COUNTS:  # theirs adds it once for each of the eight micro-batches
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
