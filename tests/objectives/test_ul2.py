"""UL2 in two stacks and in one: golden rows, each denoiser alone, shares, the way back, floors, generation."""

import itertools
from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from clozelab import SpanCorruption, SpecialIds
from clozelab.data import Examples, Noise, restore_spans, span_counts
from clozelab.errors import InputError
from clozelab.evaluation import evaluate
from clozelab.languages import MarkovSource
from clozelab.objectives import UL2, UL2R, options
from clozelab.objectives.span_corruption import span_batch
from clozelab.objectives.ul2 import MODES, Denoiser, with_modes
from clozelab.objectives.ul2r import prefix_and_spans

from .cases import VOCAB, WORDS, batch_of, reading_model

R, S, X = 2, 3, 4
SPECIAL = SpecialIds(
    100, pad=0, eos=1, sentinels=range(99, 69, -1), roles={"mode_r": R, "mode_s": S, "mode_x": X, "decoder_start": 5}
)
X0, X1 = 99, 98


def examples_of(tokens, special=SPECIAL, document_ids=None):
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    noise = Noise.of(0, 0, range(len(tokens)))
    return Examples(tokens, everywhere, everywhere, noise, special, document_ids=document_ids)


def hide(*places, length=8):
    return torch.tensor([[t in places for t in range(length)]])


def only(base, denoiser):
    """The objective with one denoiser alone."""

    @options
    class Alone(base):
        name = "alone"
        denoisers = (denoiser,)
        reads = base.reads  # a claim, which is not inherited

    return Alone()


# ------------------------------------------------------------------ golden rows


@pytest.mark.parametrize(
    ("mode", "hidden", "inputs", "targets"),
    [
        (0, hide(2, 3, 6), [R, 10, 11, X0, 14, 15, X1, 17], [X0, 12, 13, X1, 16, 1]),
        (1, hide(5, 6, 7), [S, 10, 11, 12, 13, 14, X0], [X0, 15, 16, 17, 1]),
        (2, hide(1, 2, 3, 4, 7), [X, 10, X0, 15, 16, X1], [X0, 11, 12, 13, 14, X1, 17, 1]),
    ],
)
def test_the_golden_rows_of_both_forms(mode, hidden, inputs, targets):
    moded, hidden = with_modes(examples_of(torch.arange(10, 18)[None]), hidden, torch.tensor([mode]))
    two = span_batch(moded, hidden)
    assert two["input_ids"].tolist() == [[*inputs, 1]]
    assert two["decoder_input_ids"].tolist() == [[5, *targets[:-1]]]
    assert two["labels"].tolist() == [targets]
    one = prefix_and_spans(moded, hidden)
    assert one["input_ids"].tolist() == [inputs + targets]
    assert one["reading_rank"].tolist() == [[0] * len(inputs) + list(range(1, len(targets) + 1))]
    assert one["labels"].tolist() == [[-100] * len(inputs) + targets]
    in_loss = UL2R().targets(one)["logits"].loss_mask[0].nonzero()[:, 0].tolist()
    assert in_loss == list(range(len(inputs) - 1, len(inputs + targets) - 1))  # the first is the last of the inputs


def test_each_document_begins_with_the_mode_of_its_row():
    text = torch.tensor([[10, 11, 12, 1, 20, 21, 22, 1]])
    documents = torch.tensor([[0] * 4 + [1] * 4])
    moded, hidden = with_modes(examples_of(text, document_ids=documents), hide(2, 3, 4, 6), torch.tensor([2]))
    two = span_batch(moded, hidden)
    x2 = 97
    assert two["input_ids"].tolist() == [[X, 10, 11, X0, X, X1, 21, x2, 1, 1]]
    assert two["document_ids"].tolist() == [[0] * 4 + [1] * 6]
    assert two["labels"].tolist() == [[X0, 12, 1, X1, 20, x2, 22, 1]]
    one = prefix_and_spans(moded, hidden)
    assert one["input_ids"].tolist() == [[X, 10, 11, X0, X0, 12, 1, X, X1, 21, x2, 1, X1, 20, x2, 22, 1]]
    assert one["document_ids"].tolist() == [[0] * 7 + [1] * 10]
    assert one["labels"].tolist() == [[-100] * 4 + [X0, 12, 1] + [-100] * 5 + [X1, 20, x2, 22, 1]]


# ------------------------------------------------------------------ the denoisers


@pytest.mark.parametrize("denoiser", [one for one in UL2.denoisers if one.mode != "mode_s"], ids=str)
def test_each_denoiser_is_span_corruption_bit_for_bit(denoiser):
    """The same noise, the same spans; one token more in front of the inputs."""
    alone = only(UL2, denoiser)
    lengths = {"mean_noise_span_length": denoiser.mean_noise_span_length, "noise_density": denoiser.noise_density}
    batch, span = batch_of(alone), batch_of(SpanCorruption(**lengths))
    assert torch.equal(batch["input_ids"][:, 1:], span["input_ids"])
    assert torch.equal(batch["decoder_input_ids"], span["decoder_input_ids"])
    assert torch.equal(batch["labels"], span["labels"])
    assert (batch["mode"] == MODES.index(denoiser.mode)).all()


def test_both_forms_hide_the_same_tokens():
    @options
    class TheSameMixture(UL2R):
        name = "the-same"
        denoisers = UL2.denoisers
        reads = UL2R.reads

    two, one = batch_of(UL2()), batch_of(TheSameMixture())
    assert torch.equal(two["mode"], one["mode"])
    for labels, others in zip(two["labels"], one["labels"]):
        assert torch.equal(labels[labels != -100], others[others != -100])


@pytest.mark.parametrize(
    ("cls", "shares"), [(UL2, [2 / 7, 1 / 7, 4 / 7]), (UL2R, [0.25, 0.5, 0.25])], ids=["ul2", "ul2r"]
)
def test_modes_have_their_shares(cls, shares):
    """R two, S one and X four of seven; of UL2R a quarter, a half, a quarter."""
    rows = 4000
    counts = torch.bincount(cls().collator(SPECIAL).block(torch.full((rows, 8), 10), range(rows))["mode"])
    expected = rows * torch.tensor(shares)
    assert ((counts - expected) ** 2 / expected).sum().item() < 13.8  # 2 degrees of freedom, p = 0.001


def test_the_end_that_s_hides_is_a_quarter_in_the_mean():
    """The split is uniform in n/2 .. n - 1."""
    rows, n = 4000, 16
    batch = only(UL2, Denoiser("mode_s", 1)).collator(SPECIAL).block(torch.full((rows, n), 10), range(rows))
    hidden = (batch["labels"] == 10).sum(1)
    counts = torch.bincount(hidden, minlength=n + 1)
    assert counts.nonzero()[:, 0].tolist() == list(range(1, n // 2 + 1))
    expected = rows / (n // 2)
    assert ((counts[1 : n // 2 + 1] - expected) ** 2 / expected).sum().item() < 24.3  # 7 degrees of freedom, p = 0.001


@pytest.mark.parametrize("cls", [UL2, UL2R])
def test_the_way_back_restores_every_text(cls):
    """From inputs and targets, whatever the mode; its token stands first, never hidden and never in the loss."""
    texts = [torch.randint(10, 60, (n,), generator=torch.Generator().manual_seed(n)) for n in range(2, 32)]
    batch = cls().collator(SPECIAL)([{"input_ids": text, "example_id": n} for n, text in enumerate(texts)])
    ids = torch.tensor([R, S, X])[batch["mode"]]
    assert torch.equal(batch["input_ids"][:, 0], ids)
    assert not torch.isin(batch["labels"], torch.tensor([R, S, X])).any()
    for row, labels, text, rank in zip(
        batch["input_ids"], batch["labels"], texts, batch.get("reading_rank", torch.zeros_like(batch["input_ids"]))
    ):
        inputs = row[(rank == 0) & (row != SPECIAL.pad)][1:]
        inputs = torch.cat([inputs, torch.tensor([1])]) if cls is UL2R else inputs
        assert torch.equal(restore_spans(inputs, labels[labels != -100], SPECIAL.sentinels, eos=1), text)


@pytest.mark.parametrize("cls", [UL2, UL2R])
def test_rows_fit_their_length_and_most_of_a_row_is_used(cls):
    special = replace(SPECIAL, vocab_size=300, sentinels=range(299, 199, -1))
    for length in (16, 40, 128):
        source = cls().source_length(length)
        batch = cls().collator(special).block(torch.full((400, source), 10), range(400))
        assert length - 1 <= batch["input_ids"].shape[1] <= length
    with pytest.raises(InputError, match="no text beside a mode"):
        cls().source_length(3)


def test_sentinels_suffice_for_512_inputs():
    """85 of the hundred that tokenizers reserve: X hides half of 510 tokens in spans of 3."""
    assert max(one.spans(UL2().source_length(512)) for one in UL2.denoisers) == 85


@pytest.mark.parametrize("cls", [UL2, UL2R])
def test_labels_of_your_own_are_refused(cls):
    with pytest.raises(InputError, match="bring other labels"):
        cls().collator(SPECIAL)([{"input_ids": [10, 11, 12], "labels": [10, 11, 13]}])


@pytest.mark.parametrize("cls", [UL2, UL2R])
def test_an_empty_text_has_nothing_to_predict(cls):
    batch = cls().collator(SPECIAL)([{"input_ids": []}, {"input_ids": [10, 11, 12, 13]}])
    assert (batch["labels"][0] == -100).all()
    assert (batch["labels"][1] != -100).any()


@pytest.mark.parametrize("cls", [UL2, UL2R])
def test_the_held_out_loss_is_split_by_mode(cls):
    objective = cls()
    batch = batch_of(objective, (24,) * 60)
    found = evaluate(objective, reading_model(objective), [batch]).breakdown["mode"]
    assert list(found) == ["R", "S", "X"]
    for mode, nats in enumerate(found.values()):
        rows = batch["mode"] == mode
        alone = objective(reading_model(objective), {key: value[rows] for key, value in batch.items()})
        assert nats == pytest.approx(alone.item(), rel=1e-6)


# ------------------------------------------------------------------ floors

SOURCE = MarkovSource.random(2, entropy=0.4, seed=1)


@pytest.mark.parametrize("cls", [UL2, UL2R])
def test_the_floor_is_the_conditional_given_mode_and_inputs_by_brute_force(cls):
    """Of every text of 6 symbols under two denoisers of one mode, which share inputs only where their counts agree."""
    special = SOURCE.special_ids(5, roles=MODES)
    denoisers = Denoiser("mode_x", 1, 1.5, 0.5), Denoiser("mode_x", 2, 3, 0.5), Denoiser("mode_x", 1, 2, 0.5)
    p_mask: dict = defaultdict(float)
    for one in denoisers:
        hidden, spans = span_counts(6, one.noise_density, one.mean_noise_span_length)
        masks = [
            mask
            for mask in itertools.product([False, True], repeat=6)
            if sum(mask) == hidden
            and not mask[0]
            and mask[-1]
            and sum(key for key, _ in itertools.groupby(mask)) == spans
        ]
        for mask in masks:
            p_mask[mask] += one.share / 4 / len(masks)
    assert sum(p_mask.values()) == pytest.approx(1.0)
    cases = [(text, mask) for text in itertools.product([0, 1], repeat=6) for mask in p_mask]
    texts, masks = (torch.tensor(part) for part in zip(*cases))
    p = SOURCE.log_prob(texts).exp() * torch.tensor([p_mask[mask] for _, mask in cases], dtype=torch.float64)
    moded = with_modes(examples_of(texts, special), masks, torch.full((len(cases),), 2))
    batch = (span_batch if cls is UL2 else prefix_and_spans)(*moded)
    rank = batch.get("reading_rank", torch.zeros_like(batch["input_ids"]))
    inputs = [tuple(row) for row in batch["input_ids"].masked_fill(rank > 0, special.pad).tolist()]
    p_inputs: dict = defaultdict(float)
    for key, of_case in zip(inputs, p.tolist()):
        p_inputs[key] += of_case
    expected = -(p / torch.tensor([p_inputs[key] for key in inputs], dtype=torch.float64)).log()
    torch.testing.assert_close(cls().entropy_floor(SOURCE, batch, special)["logits"], expected)


def test_the_floor_of_s_is_that_of_the_tokens_behind_the_prefix():
    special = SOURCE.special_ids(5, roles=MODES)
    text = SOURCE.sample(1, 9)
    moded, hidden = with_modes(examples_of(text, special), hide(6, 7, 8, length=9), torch.tensor([1]))
    found = UL2().entropy_floor(SOURCE, span_batch(moded, hidden), special)["logits"].item()
    assert found == pytest.approx((SOURCE.log_prob(text[:, :6]) - SOURCE.log_prob(text)).item())


# ------------------------------------------------------------------ generation


@pytest.mark.parametrize("cls", [UL2, UL2R])
def test_a_mode_asks_for_its_task(cls, tokenizer):
    """A blank is filled in mode R, and a text without one is continued in mode S, from a blank at its end."""
    special, seen = tokenizer.special, []
    objective = cls()
    model = objective.build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2)
    read = model.encode if cls is UL2 else model.forward

    def recorded(ids, *args, **more):
        seen.append(ids[0].tolist())
        return read(ids, *args, **more)

    setattr(model, "encode" if cls is UL2 else "forward", recorded)
    blank, cat, mat = special.sentinels[0], tokenizer.encode("The cat"), tokenizer.encode(" on the mat.")
    end = [special.eos] if cls is UL2 else []
    objective.complete(model, tokenizer, "The cat ___ on the mat.", max_new_tokens=3)
    assert seen[0] == [special["mode_r"], *cat, blank, *mat, *end]
    seen.clear()
    objective.complete(model, tokenizer, "The cat", max_new_tokens=3)
    assert seen[0] == [special["mode_s"], *cat, blank, *end]


def test_a_decoder_spells_out_what_it_was_trained_to(tokenizer):
    """Overfit one row of mode S: what it continues is the text that was hidden."""
    special = tokenizer.special
    text, objective = "The cat sat on the mat, and the dog sat on the cat.", only(UL2R, Denoiser("mode_s", 1))
    ids = torch.tensor([tokenizer.encode(text)])
    batch = objective.collator(special).block(ids, [0])
    torch.manual_seed(0)
    model = objective.build_model(tokenizer.vocab_size, "tiny", d_model=32, n_layers=2, n_heads=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        objective(model, batch).backward()
        optimizer.step()
    shown = batch["input_ids"][0, 1 : int((batch["reading_rank"] == 0).sum()) - 1].tolist()
    done = objective.complete(model, tokenizer, tokenizer.decode(shown), max_new_tokens=20, greedy=True)
    assert str(done) == text


def test_vocabularies_without_modes_are_refused():
    assert VOCAB > WORDS
    with pytest.raises(InputError, match="no id for the role 'mode_r'"):
        UL2().collator(SpecialIds(20, pad=0, eos=1, sentinels=(19, 18)))
