"""Our collators and objectives in the Hugging Face Trainer agree with the bare loop, for their models and ours."""

import pytest
import torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from torch.utils.data import DataLoader  # noqa: E402

from clozelab import OBJECTIVES, MaskedLM  # noqa: E402
from clozelab.data import load_tokenizer, train_bpe  # noqa: E402
from clozelab.errors import InputError  # noqa: E402
from clozelab.evaluation import evaluate  # noqa: E402
from clozelab.integrations.trainer import ObjectiveTrainer  # noqa: E402
from clozelab.objectives import Target, options, total_counts  # noqa: E402

from ..objectives.cases import LOOPED_NAMES  # noqa: E402
from .trainer_settings import arguments  # noqa: E402

THEIRS = [name for name, objective in OBJECTIVES.items() if objective.export_refusal is None]
RUNS = [
    pytest.param(*one.values, theirs, id=f"{one.id} on {'theirs' if theirs else 'ours'}", marks=one.marks)
    for theirs in (True, False)
    for one in LOOPED_NAMES
    if one.id in THEIRS or not theirs
]


def learning_rate(objective):
    """Of plain gradient descent, which a part of a large weight would throw off at that of the others."""
    return 0.5 / max(1.0, getattr(objective, "discriminator_weight", 1.0))


def trained(objective, model, collate, rows, **settings):
    """The weights after a run of the Trainer, and its log."""
    trainer = ObjectiveTrainer(
        model,
        arguments(**settings),
        objective=objective,
        data_collator=collate,
        train_dataset=rows,
        optimizers=(torch.optim.SGD(model.parameters(), lr=learning_rate(objective)), None),
    )
    trainer.train()
    return weights(model), [line["loss"] for line in trainer.state.log_history if "loss" in line]


def bare(objective, model, collate, rows, *, epochs=2, micro_batch_size=2, micros=3):
    """The same steps in PyTorch alone: counts first."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate(objective))
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


@pytest.mark.parametrize(("name", "theirs"), RUNS)
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


@pytest.mark.parametrize(("name", "theirs"), RUNS)
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
    next(model.parameters()).data *= 1.5  # the next evaluation is of other weights, and of nothing before it
    assert trainer.evaluate()["eval_loss"] == pytest.approx(evaluate(objective, model, batches).nats, rel=1e-6)


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
        schedule = "the rate falls"

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
