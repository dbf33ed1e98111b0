"""The span boundary objective: golden pairs, which states the second head reads, its count, its floor, its trunk."""

import math

import pytest
import torch

from clozelab import MaskedLM
from clozelab.data import SpecialIds
from clozelab.errors import InputError
from clozelab.languages import MarkovSource
from clozelab.models import EncoderOnly, SpanBoundaryEncoder
from clozelab.objectives import SpanBoundary

from .cases import SPECIAL, VOCAB, batch_of, reading_model

GOLDEN = SpecialIds(40, pad=0, eos=1, mask=2)
TEXT = list(range(20, 30))


def hiding(*places):
    """The objective with a scheme that hides these places."""

    def places_alone(tokens, maskable, generator):
        return maskable & torch.isin(torch.arange(len(tokens)), torch.tensor(places))

    return SpanBoundary(scheme=places_alone)


def pairs(objective, texts=(TEXT,), special=GOLDEN, **settings):
    """{(the two places beside a span): [(token, its place in the span)]} of each row."""
    batch = objective.collator(special, **settings)([list(text) for text in texts])
    labels, found = objective.targets(batch)["boundary"].labels, []
    for row in zip(labels.tolist(), batch["boundary_before"].tolist(), batch["boundary_after"].tolist()):
        of_row = {}
        for t, (label, before, after) in enumerate(zip(*row)):
            assert (label != -100) == (before > 0) == (after > 0)
            if before:
                of_row.setdefault((t - before, t + after), []).append((label, before))
        found.append(of_row)
    return found


# ------------------------------------------------------------------ golden pairs


def test_the_golden_pairs():
    """20 .. 29, hidden 2 to 4 and 7: (1, 5) says 22 23 24 at the places 1 2 3, and (6, 8) says 27 at 1."""
    [found] = pairs(hiding(2, 3, 4, 7))
    assert found == {(1, 5): [(22, 1), (23, 2), (24, 3)], (6, 8): [(27, 1)]}


def test_a_span_that_touches_an_end_has_no_pair():
    assert pairs(hiding(0, 1, 4, 8, 9)) == [{(3, 5): [(24, 1)]}]
    [long, short] = pairs(hiding(4, 5), (TEXT, TEXT[:6]))  # at the end of the text, before padding
    assert (long, short) == ({(3, 6): [(24, 1), (25, 2)]}, {})
    assert pairs(hiding(*range(10))) == [{}]


def test_a_span_is_said_by_its_own_document_alone():
    text = [20, 21, 22, 1, 24, 25, 26]
    assert pairs(hiding(2, 4), (text,)) == [{(1, 3): [(22, 1)], (3, 5): [(24, 1)]}]
    assert pairs(hiding(2, 4), (text,), within_documents=True) == [{(1, 3): [(22, 1)]}]  # its end of text is its own


def test_at_most_twenty_tokens_of_a_span():
    text = [20 + n % 10 for n in range(40)]
    [found] = pairs(hiding(*range(5, 30)), (text,))
    assert {ends: [place for _, place in said] for ends, said in found.items()} == {(4, 30): list(range(1, 21))}


def test_the_labels_are_those_of_masked_lm_and_so_are_the_masks():
    options = {"scheme": "geometric-spans", "mask_rate": 0.3}
    mine, masked = batch_of(SpanBoundary(**options)), batch_of(MaskedLM(**options))
    assert all(torch.equal(mine[key], masked[key]) for key in masked)


# ------------------------------------------------------------------ what the second head reads


def state_reads(model, batch):
    """(T, T) bool: which states of the trunk the second head's output at t moves with, in the first row."""
    states = torch.randn(1, batch["input_ids"].shape[1], 16, dtype=torch.float64, requires_grad=True)
    outputs = model.from_boundaries(states, batch["boundary_before"], batch["boundary_after"])
    weights = torch.linspace(1, 2, 16).double()
    moved = [
        torch.autograd.grad((outputs[0, t] * weights).sum(), states, retain_graph=True)[0][0].abs().sum(-1) > 1e-9
        for t in range(10)
    ]
    return torch.stack(moved)


REQUIRED = {2: [1, 5], 3: [1, 5], 4: [1, 5], 7: [6, 8]}


def reads_as_required(model):
    batch = hiding(2, 3, 4, 7).collator(GOLDEN)([TEXT])
    found = state_reads(model, batch)
    return {t: row.nonzero()[:, 0].tolist() for t, row in enumerate(found) if row.any()} == REQUIRED


def test_the_second_head_moves_with_the_two_states_beside_the_span_and_with_no_other():
    assert reads_as_required(reading_model(SpanBoundary()))


class ReadsInside(SpanBoundaryEncoder):
    """Beside the boundaries, the state of the token itself, of which the first head says all that it knows."""

    def from_boundaries(self, states, before, after):
        return super().from_boundaries(states, before, after) + states * (before > 0)[..., None]


class ReadsOneSide(SpanBoundaryEncoder):
    """The state before the span in both places."""

    def from_boundaries(self, states, before, after):
        return super().from_boundaries(states, before, -before)


class ReadsTheLastToken(SpanBoundaryEncoder):
    """The end of the span where the token behind it is meant."""

    def from_boundaries(self, states, before, after):
        return super().from_boundaries(states, before, after - 1)


@pytest.mark.parametrize("wrong", [ReadsInside, ReadsOneSide, ReadsTheLastToken])
def test_a_head_that_reads_other_states_is_found(wrong):
    model = reading_model(SpanBoundary())
    model.__class__ = wrong
    assert not reads_as_required(model)


def test_two_tokens_of_a_span_differ_by_their_place():
    """The same two states: without the place both would be predicted alike."""
    objective = hiding(2, 3, 4)
    model, batch = reading_model(objective), objective.collator(GOLDEN)([TEXT])
    states = model(**objective.model_inputs(model, batch))["boundary"].states[0, 2:5]
    assert not torch.allclose(states[0], states[1])
    torch.nn.init.zeros_(model.places.weight)
    states = model(**objective.model_inputs(model, batch))["boundary"].states[0, 2:5]
    assert torch.allclose(states[0], states[1])


# ------------------------------------------------------------------ two parts


def test_each_part_has_a_count_of_its_own():
    objective = hiding(0, 1, 4)
    batch = objective.collator(GOLDEN)([TEXT, TEXT])
    assert {name: int(count) for name, count in objective.counts(batch).items()} == {"logits": 6, "boundary": 2}
    loss = objective(objective.build_model(40, d_model=16, n_layers=1, n_heads=2), batch)
    assert loss.item() == pytest.approx(loss["logits"].sum.item() / 6 + loss["boundary"].sum.item() / 2)


def test_the_weight_is_that_of_the_second_head_alone():
    model, batch = reading_model(SpanBoundary()), batch_of(SpanBoundary())
    one, none = SpanBoundary()(model, batch), SpanBoundary(boundary_weight=0.0)(model, batch)
    masked = MaskedLM()(model.trunk, {key: batch[key] for key in ("input_ids", "labels", "attention_mask")})
    assert none.item() == pytest.approx(masked.item())
    assert one.item() == pytest.approx(masked.item() + one["boundary"].mean.item())


def test_a_model_without_the_second_head_is_refused_by_name():
    encoder = MaskedLM().build_model(VOCAB, d_model=16, n_layers=1, n_heads=2)
    with pytest.raises(InputError, match="output boundary of the model, which gives logits alone: its heads"):
        SpanBoundary()(encoder, batch_of(SpanBoundary()))


# ------------------------------------------------------------------ floor

SOURCE = MarkovSource.random(3, entropy=0.7)
MASKS_ALONE = {"mask_rate": 0.4, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}


def test_the_floor_is_the_posterior_given_the_two_neighbours_of_the_span():
    """By brute force over what is in the span, from its neighbours alone: the rest of the row says no more."""
    special, objective = SOURCE.special_ids(), SpanBoundary(**MASKS_ALONE)
    batch = objective.collator(special).block(SOURCE.sample(12, 10), range(12))
    floors = objective.entropy_floor(SOURCE, batch, special)["boundary"]
    expected = torch.zeros(12, dtype=torch.float64)
    for b in range(12):
        for t in (batch["boundary_before"][b] > 0).nonzero()[:, 0].tolist():
            left, right = t - int(batch["boundary_before"][b, t]), t + int(batch["boundary_after"][b, t])
            inside = torch.cartesian_prod(*[torch.arange(3)] * (right - left - 1)).reshape(-1, right - left - 1)
            ends = [batch["input_ids"][b, end].expand(len(inside), 1) for end in (left, right)]
            p = SOURCE.log_prob(torch.cat([ends[0], inside, ends[1]], 1)).exp()
            is_label = inside[:, t - left - 1] == batch["labels"][b, t]
            expected[b] -= math.log(p[is_label].sum() / p.sum())
    torch.testing.assert_close(floors, expected)
    assert (expected > 0).sum() > 6


def test_the_floor_of_the_first_part_is_that_of_masked_lm():
    special = SOURCE.special_ids()
    mine, masked = SpanBoundary(**MASKS_ALONE), MaskedLM(scheme="geometric-spans", **MASKS_ALONE)
    batch = mine.collator(special).block(SOURCE.sample(12, 10), range(12))
    expected = masked.entropy_floor(SOURCE, batch, special)["logits"]
    assert torch.equal(mine.entropy_floor(SOURCE, batch, special)["logits"], expected)
    with pytest.raises(InputError, match="the exact floor of masked LM needs hidden tokens that are all masks"):
        SpanBoundary().entropy_floor(SOURCE, batch, special)


# ------------------------------------------------------------------ the trunk alone


def test_the_trunk_fills_blanks_and_the_second_head_does_not_matter(tokenizer):
    objective = SpanBoundary()
    torch.manual_seed(0)
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2)
    before = str(objective.complete(model, tokenizer, "The ___ sat", greedy=True))
    for weight in model.layers.parameters():
        torch.nn.init.normal_(weight)
    assert str(objective.complete(model, tokenizer, "The ___ sat", greedy=True)) == before
    assert isinstance(model.trunk, EncoderOnly)


def test_special_ids_are_never_hidden():
    text = [[5, 6, SPECIAL.eos, 7, SPECIAL.sentinels[0], 8] * 4] * 20
    batch = SpanBoundary(mask_rate=0.9).collator(SPECIAL)(
        [{"input_ids": t, "example_id": n} for n, t in enumerate(text)]
    )
    hidden = batch["labels"] != -100
    assert not (hidden & SPECIAL.is_special(torch.tensor(text))).any()
    assert hidden.sum(1).eq(round(0.9 * 16)).all()
