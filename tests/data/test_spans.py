"""Spans and sentinels: figure 2 of the paper, every short mask and its inverse, the lengths that go together."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clozelab.data import (
    Noise,
    corrupt_span_batch,
    corrupt_spans,
    random_spans_mask,
    restore_spans,
    solve_span_lengths,
    span_lengths,
    split_spans,
)
from clozelab.errors import InputError

S = tuple(range(999, 899, -1))
X, Y, Z = S[:3]
PAPER = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]


def test_the_papers_sentence_gives_the_papers_inputs_and_targets():
    """Figure 2 of Raffel et al. 2020, word for word."""
    ids = {word: i for i, word in enumerate(dict.fromkeys(PAPER))}
    words = {**{i: word for word, i in ids.items()}, X: "<X>", Y: "<Y>", Z: "<Z>"}
    tokens = torch.tensor([ids[word] for word in PAPER])
    mask = torch.tensor([word in ("for", "inviting", "last") for word in PAPER])
    inputs, targets = corrupt_spans(tokens, mask, S, final_sentinel=True)
    assert " ".join(words[i] for i in inputs.tolist()) == "Thank you <X> me to your party <Y> week ."
    assert " ".join(words[i] for i in targets.tolist()) == "<X> for inviting <Y> last <Z>"


@pytest.mark.parametrize(
    ("mask", "inputs", "targets"),
    [
        ("001101", [10, 11, X, 14, Y], [X, 12, 13, Y, 15]),
        ("110010", [X, 12, 13, Y, 15], [X, 10, 11, Y, 14]),  # begins hidden: T5's own code is off by one here
        ("100001", [X, 11, 12, 13, 14, Y], [X, 10, Y, 15]),  # begins and ends hidden: fairseq loses a span
        ("111111", [X], [X, 10, 11, 12, 13, 14, 15]),
        ("000000", [10, 11, 12, 13, 14, 15], []),
        ("101010", [X, 11, Y, 13, Z, 15], [X, 10, Y, 12, Z, 14]),
    ],
)
def test_each_hidden_run_is_one_sentinel(mask, inputs, targets):
    tokens = torch.arange(10, 16)
    result = corrupt_spans(tokens, torch.tensor([c == "1" for c in mask]), S)
    assert [t.tolist() for t in result] == [inputs, targets]


@pytest.mark.parametrize("eos", [None, 1])
@pytest.mark.parametrize("final_sentinel", [False, True])
def test_every_mask_of_length_up_to_eight_round_trips(eos, final_sentinel):
    """2 + 4 + ... + 256 = 510 masks, each row by itself and all rows of a length as a batch."""
    for n in range(1, 9):
        masks = torch.tensor(list(itertools.product([False, True], repeat=n)))
        tokens = torch.arange(10, 10 + n).expand(len(masks), n)
        batch = corrupt_span_batch(tokens, masks, S, eos=eos, final_sentinel=final_sentinel)
        for b, mask in enumerate(masks):
            inputs, targets = corrupt_spans(tokens[b], mask, S, eos=eos, final_sentinel=final_sentinel)
            assert torch.equal(restore_spans(inputs, targets, S, eos=eos), tokens[b])
            assert torch.equal(batch.inputs[b, : batch.input_lengths[b]], inputs)
            assert torch.equal(batch.targets[b, : batch.target_lengths[b]], targets)


@given(st.lists(st.tuples(st.integers(10, 500), st.booleans()), min_size=1, max_size=60))
def test_any_text_and_mask_round_trips(pairs):
    tokens = torch.tensor([token for token, _ in pairs])
    mask = torch.tensor([hidden for _, hidden in pairs])
    inputs, targets = corrupt_spans(tokens, mask, S, eos=1)
    assert torch.equal(restore_spans(inputs, targets, S, eos=1), tokens)
    runs = sum(1 for key, _ in itertools.groupby(mask.tolist()) if key)
    assert len(inputs) == len(tokens) - mask.sum() + runs + 1
    assert len(targets) == mask.sum() + runs + 1


def test_padded_rows_give_what_they_give_alone():
    tokens = torch.tensor([[10, 11, 12, 13, 14], [20, 21, 22, 0, 0]])
    mask = torch.tensor([[False, True, True, False, True], [True, False, True, True, True]])
    is_token = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    batch = corrupt_span_batch(tokens, mask, S, eos=1, is_token=is_token, pad=0)
    inputs, targets = corrupt_spans(tokens[1, :3], mask[1, :3], S, eos=1)
    assert batch.inputs[1].tolist() == [*inputs.tolist(), *[0] * (batch.inputs.shape[1] - len(inputs))]
    assert batch.targets[1].tolist() == [*targets.tolist(), *[0] * (batch.targets.shape[1] - len(targets))]


def test_documents_travel_with_their_tokens():
    tokens = torch.tensor([[10, 11, 1, 12, 13, 14]])
    documents = torch.tensor([[0, 0, 0, 1, 1, 1]])
    mask = torch.tensor([[False, True, False, False, True, True]])
    batch = corrupt_span_batch(tokens, mask, S, eos=1, documents=documents)
    assert batch.inputs.tolist() == [[10, X, 1, 12, Y, 1]]
    assert batch.input_documents.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert batch.targets.tolist() == [[X, 11, Y, 13, 14, 1]]
    assert batch.target_documents.tolist() == [[0, 0, 1, 1, 1, 1]]


def test_the_first_sentinel_is_the_first_declared_whatever_its_direction():
    mask = torch.tensor([False, True, False, True])
    for sentinels in ([99, 98], [98, 99], [50, 7]):
        inputs, targets = corrupt_spans(torch.tensor([10, 11, 12, 13]), mask, sentinels)
        assert inputs.tolist() == [10, sentinels[0], 12, sentinels[1]]
        assert targets.tolist() == [sentinels[0], 11, sentinels[1], 13]


def test_running_out_of_sentinels_names_the_counts_and_the_cure():
    mask = torch.tensor([True, False] * 4)
    with pytest.raises(InputError, match=r"hides 4 spans.*4 sentinels are needed, but there are 3.*reserve more"):
        corrupt_spans(torch.arange(10, 18), mask, [99, 98, 97])
    corrupt_spans(torch.arange(10, 18), mask, [99, 98, 97, 96])
    with pytest.raises(InputError, match=r"final sentinel.*5 sentinels are needed, but there are 4"):
        corrupt_spans(torch.arange(10, 18), mask, [99, 98, 97, 96], final_sentinel=True)


def test_a_published_recipe_runs_out_of_a_hundred():
    """Mean span 3 at density 0.5 hides 128 spans behind 512 inputs: UL2's X-denoiser."""
    raw = solve_span_lengths(512, noise_density=0.5)
    assert raw.spans == 128
    noise = Noise.of(0, 0, [0]).uniform(0, raw.raw)
    mask = random_spans_mask(torch.ones(1, raw.raw, dtype=torch.bool), noise, 0.5, 3.0)
    with pytest.raises(InputError, match="128 sentinels are needed, but there are 100"):
        corrupt_span_batch(torch.full((1, raw.raw), 10), mask, S)


def test_a_text_that_holds_a_sentinel_is_refused():
    with pytest.raises(InputError, match=r"holds the sentinel ids \[998\]"):
        corrupt_spans(torch.tensor([10, 998, 12]), torch.tensor([False, False, True]), S)
    with pytest.raises(InputError, match=r"holds the sentinel ids \[998, 999\]"):  # and nothing else
        corrupt_spans(torch.tensor([999, 998]), torch.tensor([False, True]), S)


def test_rows_of_other_lengths_are_filled_up_with_zero_and_no_rows_are_no_error():
    mask = torch.tensor([[False, True, True], [False, True, False]])
    spans = corrupt_span_batch(torch.tensor([[10, 11, 12], [20, 21, 22]]), mask, S)
    assert spans.inputs.tolist() == [[10, X, 0], [20, X, 22]]
    assert spans.targets.tolist() == [[X, 11, 12], [X, 21, 0]]
    none = corrupt_span_batch(torch.zeros(0, 3, dtype=torch.int64), mask[:0], S)
    assert (none.inputs.shape, none.targets.shape) == ((0, 0), (0, 0))


def test_at_half_density_the_targets_are_no_longer_than_the_inputs():
    """As in T5's code, which takes a token away; of three tokens two would be hidden, behind two sentinels."""
    for inputs in range(3, 40):
        solved = solve_span_lengths(inputs, noise_density=0.5)
        assert solved.targets <= inputs
        assert solved.inputs <= inputs
    assert solve_span_lengths(3, noise_density=0.5).raw == 2


def test_sentinels_out_of_step_are_found():
    inputs, targets = torch.tensor([10, X, 12, Y]), torch.tensor([X, 11, Y, 13])
    assert restore_spans(inputs, targets, S).tolist() == [10, 11, 12, 13]
    for wrong in ([Y, 11, X, 13], [10, 11, X, 14, Y], [X, 11], [X, 11, Z, 13], [X, 11, X, 13], [7]):
        with pytest.raises(InputError, match="out of step"):
            restore_spans(inputs, torch.tensor(wrong), S)
    with pytest.raises(InputError, match="end-of-text"):
        restore_spans(inputs, targets, S, eos=1)


def test_spans_can_be_read_off_whatever_a_model_generates():
    assert split_spans([5, 6, Y, 7, Y, X, 8], S) == [(1, [7]), (1, []), (0, [8])]


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(3, dtype=torch.long)])
def test_a_mask_must_be_boolean(wrong):
    with pytest.raises(InputError, match="boolean"):
        corrupt_spans(torch.arange(10, 13), wrong, S)


def test_tokens_and_mask_must_have_one_shape():
    with pytest.raises(InputError, match="same shape"):
        corrupt_spans(torch.arange(10, 13), torch.zeros(4, dtype=torch.bool), S)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.uint32], ids=str)
def test_ids_of_narrow_types_give_what_wide_ones_give(dtype):
    """Packed text is uint16; a sentinel of 999 does not fit into uint8."""
    tokens, mask = torch.arange(10, 16), torch.tensor([True, False, False, True, True, False])
    expected, results = corrupt_spans(tokens, mask, S), corrupt_spans(tokens.to(dtype), mask, S)
    assert all(result.dtype == torch.int64 for result in results)
    assert all(torch.equal(result, one) for result, one in zip(results, expected))
    if dtype != torch.uint8:
        assert torch.equal(restore_spans(results[0].to(dtype), results[1].to(dtype), S), tokens)


def test_a_batch_of_no_tokens_is_an_end_of_text_each():
    empty = torch.zeros(2, 0, dtype=torch.long)
    batch = corrupt_span_batch(empty, empty.bool(), S, eos=1, documents=empty)
    assert batch.inputs.tolist() == batch.targets.tolist() == [[1], [1]]


# ------------------------------------------------------------------ lengths

PUBLISHED = [
    (64, 0.15, 3, 70, 14),
    (100, 0.15, 3, 110, 22),
    (128, 0.15, 3, 141, 29),
    (256, 0.15, 3, 284, 58),
    (512, 0.15, 3, 568, 114),
    (1024, 0.15, 3, 1137, 229),
    (2048, 0.15, 3, 2274, 456),
    (512, 0.15, 8, 588, 100),
    (512, 0.15, 64, 600, 92),
    (512, 0.5, 3, 766, 512),
    (512, 0.5, 8, 908, 512),
    (512, 0.5, 64, 1006, 512),
]


@pytest.mark.parametrize(("inputs", "noise_density", "mean_noise_span_length", "raw", "targets"), PUBLISHED)
def test_the_solver_gives_the_lengths_of_t5_and_ul2(inputs, noise_density, mean_noise_span_length, raw, targets):
    solved = solve_span_lengths(inputs, noise_density=noise_density, mean_noise_span_length=mean_noise_span_length)
    assert (solved.raw, solved.inputs, solved.targets) == (raw, inputs, targets)


@pytest.mark.parametrize("noise_density", [0.1, 0.15, 0.3, 0.5, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("mean_noise_span_length", [1.0, 1.5, 3.0, 10.0, 64.0])
@pytest.mark.parametrize("final_sentinel", [False, True])
def test_plan_and_result_agree_at_every_setting(noise_density, mean_noise_span_length, final_sentinel):
    """Where T5's helper does not clamp as its mask does, plan and result differ by one (128, 0.15, 64)."""
    sentinels = range(100_000, 98_000, -1)
    for inputs in (3, 4, 5, 7, 12, 33, 63, 64, 128, 511, 1024):
        try:
            plan = solve_span_lengths(
                inputs,
                noise_density=noise_density,
                mean_noise_span_length=mean_noise_span_length,
                final_sentinel=final_sentinel,
            )
        except InputError:
            assert inputs < 3
            continue
        noise = Noise.of(0, 0, [0, 1]).uniform(0, plan.raw)
        everything = torch.ones(2, plan.raw, dtype=torch.bool)
        mask = random_spans_mask(everything, noise, noise_density, mean_noise_span_length)
        batch = corrupt_span_batch(torch.full((2, plan.raw), 10), mask, sentinels, eos=1, final_sentinel=final_sentinel)
        assert batch.inputs.shape == (2, plan.inputs)
        assert batch.targets.shape == (2, plan.targets)
        assert (batch.input_lengths == plan.inputs).all()
        assert (batch.target_lengths == plan.targets).all()
        assert plan.inputs <= inputs
        longer = span_lengths(
            plan.raw + 1,
            noise_density=noise_density,
            mean_noise_span_length=mean_noise_span_length,
            final_sentinel=final_sentinel,
        )
        assert longer.inputs > inputs or noise_density == 0.5


def test_a_mean_span_of_one_is_solved_as_t5_solves_it():
    """Hugging Face's and nanoT5's copies begin the search one too late: 65 inputs for 64."""
    solved = solve_span_lengths(64, noise_density=0.2, mean_noise_span_length=1.0)
    assert (solved.raw, solved.inputs, solved.targets) == (63, 64, 27)


def test_too_short_a_length_is_refused():
    with pytest.raises(InputError, match="3 is the least"):
        solve_span_lengths(2)
