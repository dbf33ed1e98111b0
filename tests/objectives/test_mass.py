"""MASS: the golden row, every span of short texts, positions, documents, the floor, writing in place."""

import itertools
import math

import pytest
import torch

from clozelab import SpecialIds
from clozelab.data import Examples, Noise
from clozelab.errors import InputError
from clozelab.generation import fill_spans
from clozelab.languages import MarkovSource, gap_costs
from clozelab.objectives import MASS
from clozelab.objectives.mass import mass_batch

from .cases import SPECIAL, batch_of, reading_model

M, START = 99, 98
IDS = SpecialIds(100, pad=0, eos=1, mask=M, roles={"decoder_start": START})


def examples_of(tokens, document_ids=None, **more):
    tokens = torch.tensor(tokens)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    noise = Noise.of(0, 0, range(len(tokens)))
    return Examples(tokens, everywhere, everywhere, noise, IDS, **{"document_ids": document_ids, **more})


def hide(*places, length=6):
    return torch.tensor([[t in places for t in range(length)]])


# ------------------------------------------------------------------ the row


def test_the_golden_row():
    batch = mass_batch(examples_of([[10, 11, 12, 13, 14, 15]]), hide(2, 3, 4))
    assert batch["input_ids"].tolist() == [[10, 11, M, M, M, 15]]
    assert batch["decoder_input_ids"].tolist() == [[11, 12, 13]]
    assert batch["decoder_position_ids"].tolist() == [[2, 3, 4]]
    assert batch["labels"].tolist() == [[12, 13, 14]]


@pytest.mark.parametrize("length", range(1, 7))
def test_the_text_of_every_span_comes_back(length):
    """Each label stands at its position, where the encoder reads a mask; the decoder reads the token before it."""
    text = torch.arange(10, 10 + length)
    for start, end in itertools.combinations(range(length + 1), 2):
        batch = mass_batch(examples_of([text.tolist()]), hide(*range(start, end), length=length))
        places = batch["decoder_position_ids"][0]
        assert places.tolist() == list(range(start, end))
        assert (batch["input_ids"][0, places] == M).all()
        assert torch.equal(batch["input_ids"][0].scatter(0, places, batch["labels"][0]), text)
        before = [START, *text.tolist()]
        assert batch["decoder_input_ids"][0].tolist() == [before[place] for place in places.tolist()]


def test_spans_have_their_size_and_each_start_is_equally_likely():
    rows, n = 4000, 9
    batch = MASS().collator(IDS).block(torch.arange(10, 10 + n).expand(rows, n), range(rows))
    hidden = batch["input_ids"] == M
    assert (hidden.sum(1) == 4).all()  # round(4.5) is 4, as in Python
    firsts = batch["decoder_position_ids"][:, 0]
    assert torch.equal(firsts, hidden.long().argmax(1))
    counts, expected = torch.bincount(firsts, minlength=n), rows / 6
    assert counts.nonzero()[:, 0].tolist() == list(range(6))
    assert ((counts[:6] - expected) ** 2 / expected).sum().item() < 20.5  # 5 degrees of freedom, p = 0.001


def test_all_hidden_is_causal_lm_in_the_decoder_and_one_hidden_is_masked_lm():
    whole = MASS(mask_rate=1.0).collator(IDS)([[10, 11, 12]])
    assert whole["input_ids"].tolist() == [[M, M, M]]
    assert whole["decoder_input_ids"].tolist() == [[START, 10, 11]]
    assert whole["labels"].tolist() == [[10, 11, 12]]
    one = MASS(mask_rate=0.01).collator(IDS)([[10, 11, 12]])
    assert one["labels"].shape == (1, 1)


def test_protected_tokens_stay_and_what_is_not_in_the_loss_is_hidden_without_a_label():
    row = {"input_ids": [10, 11, 12, 13], "special_tokens_mask": [0, 1, 0, 0], "loss_mask": [1, 1, 0, 1]}
    batch = MASS(mask_rate=1.0).collator(IDS)([row])
    assert batch["input_ids"].tolist() == [[M, 11, M, M]]
    assert batch["decoder_input_ids"].tolist() == [[START, 11, 12]]
    assert batch["labels"].tolist() == [[10, -100, 13]]


def test_labels_of_your_own_are_refused_and_an_empty_text_has_nothing_to_predict():
    with pytest.raises(InputError, match="bring other labels"):
        MASS().collator(IDS)([{"input_ids": [10, 11, 12], "labels": [10, 11, 13]}])
    assert (MASS().collator(IDS)([[], [10, 11]])["labels"][0] == -100).all()


# ------------------------------------------------------------------ documents, positions


def test_each_document_has_a_span_that_begins_after_itself_alone():
    documents = torch.tensor([[0, 0, 0, 1, 1, 1]])
    batch = mass_batch(examples_of([[10, 11, 1, 20, 21, 22]], documents), hide(1, 3, 4))
    assert batch["decoder_input_ids"].tolist() == [[10, START, 20]]
    assert batch["decoder_position_ids"].tolist() == [[1, 3, 4]]
    assert batch["decoder_document_ids"].tolist() == [[0, 1, 1]]
    rows = (
        MASS()
        .collator(IDS, within_documents=True)
        .block(torch.tensor([[10, 11, 12, 1, 20, 21, 22, 23]] * 50), range(50))
    )
    for labels, owners in zip(rows["labels"], rows["decoder_document_ids"]):
        assert owners.tolist() == [0, 0, 1, 1]
        assert labels.ge(20).tolist() == [False, False, True, True]


def test_positions_reach_the_loss():
    """A decoder that counts from 0, or knows no positions where it reads, predicts something else."""
    objective = MASS()
    batch, model = batch_of(objective, (12, 12, 12)), reading_model(objective)
    whole = objective(model, batch).item()
    from_zero = batch | {"decoder_position_ids": torch.arange(6).expand(3, 6)}
    assert objective(model, from_zero).item() != pytest.approx(whole, rel=1e-6)
    model.config.cross_rotary = False
    blind = objective(model, batch).item()
    assert blind != pytest.approx(whole, rel=1e-6)
    assert objective(model, from_zero).item() == pytest.approx(blind, rel=1e-12)  # which is why it must know them


# ------------------------------------------------------------------ the floor

SOURCE = MarkovSource.random(3, entropy=0.6, seed=2)


@pytest.mark.parametrize("length", [3, 5])
def test_the_floor_is_the_conditional_by_brute_force(length):
    """Of every text of three symbols and every span: the texts that agree where it is visible."""
    texts, special = torch.cartesian_prod(*[torch.arange(3)] * length), SOURCE.special_ids()
    p = SOURCE.log_prob(texts).exp()
    for start, end in itertools.combinations(range(length + 1), 2):
        hidden = hide(*range(start, end), length=length).expand(texts.shape)
        everywhere = torch.ones_like(hidden)
        examples = Examples(texts, everywhere, everywhere, Noise.of(0, 0, range(len(texts))), special)
        nats = MASS().entropy_floor(SOURCE, mass_batch(examples, hidden), special)["logits"]
        visible = texts.masked_fill(hidden, -1)
        agree = (visible[:, None] == visible[None]).all(-1)  # (N, N)
        torch.testing.assert_close(nats, -(p / (agree * p).sum(1)).log())


def test_gaps_of_any_set_of_hidden_tokens_cost_their_conditional():
    texts = torch.cartesian_prod(*[torch.arange(3)] * 5)
    p = SOURCE.log_prob(texts).exp()
    for flags in itertools.product([False, True], repeat=5):
        hidden = torch.tensor(flags).expand(texts.shape)
        visible = texts.masked_fill(hidden, -1)
        agree = (visible[:, None] == visible[None]).all(-1)
        torch.testing.assert_close(gap_costs(SOURCE, texts, hidden), -(p / (agree * p).sum(1)).log())


# ------------------------------------------------------------------ writing in place


def test_the_decoder_writes_as_it_was_trained_at_positions_behind_the_token_before():
    """Teacher-forced logits of the batch, and those that generation computes with its cache, choose the same tokens."""
    objective = MASS()
    model = reading_model(objective)
    batch = objective.collator(SPECIAL).block(torch.arange(5, 17)[None], [3])
    first, n = int(batch["decoder_position_ids"][0, 0]), batch["labels"].shape[1]
    start = int(batch["decoder_input_ids"][0, 0])
    settings = {"start_id": start, "eos": None, "max_new_tokens": n, "greedy": True}
    written = fill_spans(model, batch["input_ids"], first_position=first, **settings)
    forced = batch | {"decoder_input_ids": torch.cat([torch.tensor([[start]]), written[:, :-1]], 1)}
    logits = model.unembed(model(**objective.model_inputs(model, forced)))
    assert torch.equal(logits.argmax(-1), written)
    assert first > 0
    assert not torch.equal(fill_spans(model, batch["input_ids"], **settings), written)


def test_blanks_side_by_side_are_filled_in_place_and_a_text_is_continued(tokenizer):
    special, objective = tokenizer.special, MASS()
    torch.manual_seed(0)
    model = objective.build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2, n_decoder_layers=1)
    seen = []
    encode = model.encode
    model.encode = lambda ids, *rest: seen.append(ids[0].tolist()) or encode(ids, *rest)
    done = objective.complete(model, tokenizer, "The cat ___ ___ on the mat.")
    cat, mat = tokenizer.encode("The cat"), tokenizer.encode(" on the mat.")
    assert seen == [[*cat, special["mask"], special["mask"], *mat]]
    assert [written for _, written in done.parts] == [False, True, False]
    assert done.parts[0][0] == "The cat"
    seen.clear()
    assert str(objective.complete(model, tokenizer, "The cat", max_new_tokens=3)).startswith("The cat")
    assert seen == [[*cat, *[special["mask"]] * 3]]
    assert str(objective.sample(model, tokenizer, "The cat sat on the mat.")).startswith("The")
    with pytest.raises(InputError, match="blanks ___ side by side, got some with ' sat' between them"):
        objective.complete(model, tokenizer, "The ___ sat ___")


def test_an_untrained_model_costs_a_uniform_guess():
    batch = batch_of(MASS())
    logits = torch.zeros(*batch["labels"].shape, SPECIAL.vocab_size)
    assert MASS()(logits, batch).item() == pytest.approx(math.log(SPECIAL.vocab_size), rel=1e-6)
