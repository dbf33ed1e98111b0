"""Held-out loss on masks that never change, and the baselines that it must beat."""

import math
from itertools import pairwise

import pytest
import torch

from clozelab.data import IGNORED, pack
from clozelab.errors import InputError
from clozelab.evaluation import (
    evaluate,
    fixed_batches,
    label_counts,
    positions_read,
    uniform_baseline,
    unigram_baseline,
    unigram_loss,
)
from clozelab.objectives import (
    OBJECTIVES,
    CausalLM,
    FillInTheMiddle,
    Likelihood,
    MaskedDiffusion,
    MaskedLM,
    Prediction,
    PrefixLM,
    SpanCorruption,
    Target,
    next_token_labels,
    options,
)

from ..objectives.cases import DRAW_NOTHING

TEXTS = ["Thank you for inviting me to your party last week .", "The cat sat on the mat."] * 40


@pytest.fixture
def blocks(tokenizer, tmp_path):
    return pack(TEXTS, tokenizer, cache_dir=tmp_path).blocks(32)


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return OBJECTIVES[request.param]()


def model_of(objective, tokenizer):
    torch.manual_seed(0)
    return objective.build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2)


def test_held_out_masks_never_change_and_are_not_those_of_training(objective, tokenizer, blocks):
    collator = objective.collator(tokenizer.special, seed=3)
    first = fixed_batches(blocks, collator, rows=8, batch_size=4)
    collator.set_epoch(5)
    again = fixed_batches(blocks, collator, rows=8, batch_size=4)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again) for key in a)
    if objective.name not in DRAW_NOTHING:
        trained = [collator.block(blocks.take(range(4)), range(4), epoch=epoch) for epoch in range(3)]
        assert not any(
            first[0].keys() == batch.keys()
            and all(first[0][key].shape == batch[key].shape and torch.equal(first[0][key], batch[key]) for key in batch)
            for batch in trained
        )


def test_the_loss_does_not_depend_on_how_the_rows_are_batched(objective, tokenizer, blocks):
    collator, model = objective.collator(tokenizer.special), model_of(objective, tokenizer).double()
    results = [evaluate(objective, model, fixed_batches(blocks, collator, rows=8, batch_size=b)) for b in (1, 3, 8)]
    assert len({result.count for result in results}) == 1
    for other in results[1:]:
        assert other.nats == pytest.approx(results[0].nats, rel=1e-12)
        assert other.breakdown.keys() == results[0].breakdown.keys()
        for name, means in other.breakdown.items():
            assert means == pytest.approx(results[0].breakdown[name], rel=1e-12)


def test_positions_are_counted_as_the_model_computes_them(tokenizer, blocks):
    tokens = blocks.take([0])
    # Three of the 32 are ends of text, which masked LM never hides: round(0.15 x 29) = 4.
    assert int((tokens == tokenizer.special.eos).sum()) == 3
    # Of span corruption 5 of 32 are hidden in 2 spans: 27 + 2 sentinels + end of text are read, 5 + 2 + 1 predicted.
    expected = {CausalLM: (32, 31, 31), MaskedLM: (32, 4, 4), SpanCorruption: (30 + 8, 8, 8)}
    for kind, numbers in expected.items():
        objective = kind()
        result = evaluate(
            objective, model_of(objective, tokenizer), [objective.collator(tokenizer.special).block(tokens, [0])]
        )
        assert (result.positions, result.loss_positions, result.count) == numbers
        assert result.loss_share == numbers[1] / numbers[0]


def test_diffusion_is_divided_by_all_tokens_and_predicts_the_hidden_ones(tokenizer, blocks):
    objective = MaskedDiffusion()
    batch = objective.collator(tokenizer.special).block(blocks.take([0, 1]), [0, 1])
    result = evaluate(objective, model_of(objective, tokenizer), [batch])
    assert result.count == 64
    assert result.loss_positions == int((batch["labels"] != IGNORED).sum()) < 64


# ------------------------------------------------------------------ bits per byte


def bytes_of(objective, batch, tokenizer):
    return int(tokenizer.byte_lengths[objective.scored_ids(batch)].sum())


def test_bits_per_byte_of_a_causal_model_are_those_of_all_tokens_but_the_first(tokenizer, blocks):
    batch = CausalLM().collator(tokenizer.special).block(blocks.take([0]), [0])
    result = evaluate(
        CausalLM(), model_of(CausalLM(), tokenizer), [batch], scored_bytes=bytes_of(CausalLM(), batch, tokenizer)
    )
    text = tokenizer.decode(batch["labels"][0, 1:].tolist(), skip_special=True)
    assert result.bits_per_byte == pytest.approx(result.nats * 31 / math.log(2) / len(text.encode()))
    assert result.likelihood is Likelihood.EXACT
    assert result.per_byte == f", {result.bits_per_byte:.3f} bits per byte"


def test_bits_per_byte_of_diffusion_bound_those_of_the_whole_text(tokenizer, blocks):
    tokens, objective = blocks.take([0]), MaskedDiffusion()
    batch = objective.collator(tokenizer.special).block(tokens, [0])
    result = evaluate(
        objective, model_of(objective, tokenizer), [batch], scored_bytes=bytes_of(objective, batch, tokenizer)
    )
    text = tokenizer.decode(tokens[0].tolist(), skip_special=True)
    assert result.bits_per_byte == pytest.approx(result.nats * 32 / math.log(2) / len(text.encode()))
    assert result.likelihood is Likelihood.BOUND
    assert result.per_byte.startswith(", at most ")


@pytest.mark.parametrize("kind", [PrefixLM, FillInTheMiddle])
def test_bits_per_byte_of_the_other_likelihoods_are_of_the_text_they_predict(kind, tokenizer, blocks):
    objective = kind()
    batch = objective.collator(tokenizer.special).block(blocks.take([0, 1]), [0, 1])
    result = evaluate(
        objective, model_of(objective, tokenizer), [batch], scored_bytes=bytes_of(objective, batch, tokenizer)
    )
    labels = next_token_labels(batch)
    size = len(b"".join(tokenizer.decode([i], skip_special=True).encode() for i in labels[labels != IGNORED].tolist()))
    assert result.bits_per_byte == pytest.approx(result.nats * result.count / math.log(2) / size)


@pytest.mark.parametrize("kind", [MaskedLM, SpanCorruption])
def test_a_loss_that_is_no_likelihood_has_no_bits_per_byte(kind, tokenizer, blocks):
    objective = kind()
    batch = objective.collator(tokenizer.special).block(blocks.take([0]), [0])
    result = evaluate(
        objective, model_of(objective, tokenizer), [batch], scored_bytes=bytes_of(objective, batch, tokenizer)
    )
    assert result.bits_per_byte is None
    assert result.likelihood is Likelihood.NONE
    assert result.per_byte == ""


@pytest.mark.parametrize("given", [-1, 1.5, torch.ones(5)])
def test_scored_bytes_are_a_number(given, tokenizer, blocks):
    batch = CausalLM().collator(tokenizer.special).block(blocks.take([0]), [0])
    with pytest.raises(InputError, match="scored_bytes"):
        evaluate(CausalLM(), model_of(CausalLM(), tokenizer), [batch], scored_bytes=given)


# ------------------------------------------------------------------ parts and breakdowns


@options
class Halves(CausalLM):
    """Odd and even labels as two parts; a breakdown by the first token of a row."""

    name = "halves"

    def targets(self, batch):
        labels = next_token_labels(batch)
        odd, even = (labels.where((labels % 2 == rest) & (labels >= 0), IGNORED) for rest in (1, 0))
        return {"odd": Target(odd), "even": Target(even, weight=0.5)}

    def loss(self, outputs, batch):
        return super().loss(dict.fromkeys(("odd", "even"), outputs["logits"]), batch)

    def breakdown(self, batch):
        return {"first": batch["input_ids"][:, 0] % 3, "row": torch.arange(len(batch["input_ids"]))}


def test_parts_have_means_and_counts_of_their_own(tokenizer, blocks):
    objective = Halves()
    model = model_of(objective, tokenizer)
    batches = fixed_batches(blocks, objective.collator(tokenizer.special), rows=8, batch_size=3)
    result = evaluate(objective, model, batches)
    counts = {name: sum(int(objective.counts(batch)[name]) for batch in batches) for name in ("odd", "even")}
    assert {name: part.count for name, part in result.parts.items()} == counts
    assert counts["odd"] != counts["even"]
    assert result.nats == pytest.approx(result.parts["odd"].mean + 0.5 * result.parts["even"].mean, rel=1e-6)
    whole = evaluate(CausalLM(), model, batches)
    together = sum(part.mean * part.count for part in result.parts.values())
    assert together == pytest.approx(whole.nats * whole.count, rel=1e-6)


def test_a_breakdown_is_the_loss_of_the_rows_of_each_value_from_one_forward_pass(tokenizer, blocks):
    objective, calls = Halves(), []
    model = model_of(objective, tokenizer).double()
    model.register_forward_hook(lambda *_: calls.append(1))
    batches = fixed_batches(blocks, objective.collator(tokenizer.special), rows=6, batch_size=6)
    result = evaluate(objective, model, batches)
    assert len(calls) == 1
    assert set(result.breakdown) == {"first", "row"}
    for name, means in result.breakdown.items():
        values = objective.breakdown(batches[0])[name]
        assert list(means) == sorted(set(values.tolist()))
        for value, nats in means.items():
            rows = {key: kept[values == value] for key, kept in batches[0].items()}
            assert nats == pytest.approx(objective(model, rows).mean.item(), rel=1e-10)


def test_bins_are_the_loss_of_all_their_rows_together(tokenizer, blocks):
    """24 values in 6 ranges, 3 values in 3: of each part the sum over rows, divided once."""

    @options
    class Eighths(Halves):
        name = "eighths"

        def breakdown(self, batch):
            return {
                "first": torch.arange(len(batch["input_ids"])) * 7 % 24 - 20,
                "row": torch.arange(len(batch["input_ids"])) // 8,
            }

    objective = Eighths()
    model = model_of(objective, tokenizer).double()
    [batch] = fixed_batches(blocks, objective.collator(tokenizer.special), rows=24, batch_size=24)
    result = evaluate(objective, model, [batch])
    assert [len(result.bins[name]) for name in ("first", "row")] == [6, 3]
    assert [(one.low, one.high) for one in result.bins["row"]] == [(0, 0), (1, 1), (2, 2)]
    for name, bins in result.bins.items():
        values = objective.breakdown(batch)[name]
        assert (bins[0].low, bins[-1].high) == (int(values.min()), int(values.max()))
        assert all(before.high < after.low for before, after in pairwise(bins))
        for low, high, nats in bins:
            rows = {key: kept[(values >= low) & (values <= high)] for key, kept in batch.items()}
            assert nats == pytest.approx(objective(model, rows).mean.item(), rel=1e-10)
    first = result.bins["row"][0].nats
    assert f"; row 0 {first:.3f}, 1 " in result.by_kind
    assert result.by_kind.startswith(f"first {result.bins['first'][0].low}..")


def test_kinds_of_rows_are_called_by_their_words(tokenizer, blocks):
    @options
    class Kinds(Halves):
        name, kinds = "kinds", {"first": ("R", "S", "X")}

    objective = Kinds()
    model = model_of(objective, tokenizer)
    batches = fixed_batches(blocks, objective.collator(tokenizer.special), rows=6, batch_size=6)
    result, numbered = (evaluate(one, model, batches) for one in (objective, Halves()))
    known = {("R", "S", "X")[value]: nats for value, nats in numbered.breakdown["first"].items()}
    assert (result.breakdown["first"], result.bins.keys()) == (known, {"row"})
    assert result.by_kind.startswith(", ".join(f"{kind} {nats:.3f}" for kind, nats in known.items()) + "; row 0 ")


def test_the_curve_of_diffusion_adds_up_to_its_loss(tokenizer, blocks):
    objective = MaskedDiffusion()
    batches = fixed_batches(blocks, objective.collator(tokenizer.special), rows=24, batch_size=5)
    result = evaluate(objective, model_of(objective, tokenizer).double(), batches)
    hidden = [int(n) for batch in batches for n in objective.breakdown(batch)["hidden tokens"]]
    means = result.breakdown["hidden tokens"]
    assert set(means) == set(hidden)
    assert sum(32 * means[n] for n in hidden) == pytest.approx(result.nats * result.count, rel=1e-10)


def test_label_smoothing_and_z_loss_are_left_out(objective, tokenizer, blocks):
    smoothed = type(objective)(label_smoothing=0.2, z_loss=0.1)
    model = model_of(objective, tokenizer)
    batches = fixed_batches(blocks, objective.collator(tokenizer.special), rows=4)
    plain, other = evaluate(objective, model, batches), evaluate(smoothed, model, batches)
    assert (plain.nats, plain.breakdown) == (other.nats, other.breakdown)
    assert (smoothed.label_smoothing, smoothed.z_loss) == (0.2, 0.1)
    assert smoothed(model, batches[0]).mean.item() > objective(model, batches[0]).mean.item() + 0.01


# ------------------------------------------------------------------ baselines


def test_the_unigram_loss_is_the_cross_entropy_of_the_counts():
    seen, heldout = torch.tensor([7, 1, 0]), torch.tensor([2, 1, 1])
    smoothed = [8 / 11, 2 / 11, 1 / 11]
    expected = -(2 * math.log(smoothed[0]) + math.log(smoothed[1]) + math.log(smoothed[2])) / 4
    assert unigram_loss(seen, heldout) == pytest.approx(expected)
    assert unigram_loss(seen, heldout, count=8) == pytest.approx(expected / 2)


def test_labels_are_counted_where_they_are_in_the_loss_with_their_weights(objective, tokenizer, blocks):
    batch = objective.collator(tokenizer.special).block(blocks.take([0, 1]), [0, 1])
    counts = label_counts(objective, [batch], tokenizer.vocab_size)
    for name, target in objective.targets(batch).items():
        weights = torch.ones(target.labels.shape) if target.weights is None else target.weights
        ids, shares = target.soft_labels or (target.labels[..., None], 1.0)
        for token in set(target.labels[target.loss_mask].tolist()):
            here = (ids == token) & target.loss_mask[..., None]
            expected = float((weights[..., None] * shares * here).sum())
            assert float(counts[name][token]) == pytest.approx(expected, rel=1e-6)
        assert float(counts[name].sum()) == pytest.approx(float(weights[target.loss_mask].sum()), rel=1e-6)
    assert positions_read(batch) >= int((batch["labels"] != IGNORED).sum())


def losses_of(logits, objective, batches):
    """The loss of a model that always gives the same {output: logits (V,)}.

    Where ids are drawn from the first output, its expectation: with each id at all places where one is drawn, as often
    as that id is drawn.
    """
    first = next(iter(logits))

    def outputs(batch, drawn):
        targets, made = objective.targets(batch), {}
        for name, one in targets.items():
            sampled = one.labels.masked_fill(targets[first].loss_mask, drawn) if one.detects_replaced else None
            made[name] = Prediction(logits[name].expand(*one.labels.shape, -1), sampled=sampled)
        return made

    def mean(drawn):
        losses = [objective.loss(outputs(batch, drawn), batch) for batch in batches]
        return sum(losses[1:], losses[0]).mean.item()

    if not detectors_of(objective, batches[0]):
        return mean(0)
    return sum(p * mean(drawn) for drawn, p in enumerate(logits[first].softmax(0).tolist()))


def detectors_of(objective, batch):
    return {name for name, target in objective.targets(batch).items() if target.detects_replaced}


def replaced_share(logits, objective, batches):
    """In the expectation, of ids that are drawn from logits (V,) of the first output."""
    of_first, of_all = ([list(objective.targets(batch).values())[n] for batch in batches] for n in (0, -1))
    drawn = sum((1 - logits.softmax(0)[one.labels[one.loss_mask]]).sum() for one in of_first)
    return drawn / sum(one.loss_mask.sum() for one in of_all)


def test_baselines_are_the_losses_of_models_that_give_the_same_logits_everywhere(objective, tokenizer, blocks):
    collator, size = objective.collator(tokenizer.special), tokenizer.vocab_size
    seen = [collator.block(blocks.take(range(8)), range(8), epoch=epoch) for epoch in range(3)]
    batches = fixed_batches(blocks, collator, rows=8, batch_size=3)
    counted = label_counts(objective, seen, size)
    same = {name: torch.zeros(size).double() for name in counted}
    frequent = {name: (counts + 1).log() for name, counts in counted.items()}
    for name in detectors_of(objective, batches[0]):
        share = replaced_share(next(iter(frequent.values())), objective, batches)
        same[name], frequent[name] = torch.zeros(2).double(), torch.stack([1 - share, share]).log()
    uniform = losses_of(same, objective, batches)
    assert uniform_baseline(objective, batches, size) == pytest.approx(uniform, rel=1e-6)
    unigram = losses_of(frequent, objective, batches)
    assert unigram_baseline(objective, seen, batches, size) == pytest.approx(unigram, rel=1e-6)
    assert unigram < uniform


def test_the_model_keeps_its_mode(objective, tokenizer, blocks):
    model = model_of(objective, tokenizer).train()
    evaluate(objective, model, [objective.collator(tokenizer.special).block(blocks.take([0]), [0])])
    assert model.training


def test_nothing_to_evaluate_on_is_refused(objective, tokenizer):
    with pytest.raises(InputError, match="at least one batch"):
        evaluate(objective, model_of(objective, tokenizer), [])
