"""BART: golden rows, every choice of spans explained, words, sentences and documents, copies apart, floors, writing."""

import itertools
import math
from collections import defaultdict

import pytest
import torch

from clozelab import SpecialIds
from clozelab.data import Examples, Noise
from clozelab.data.infilling import hidden_budget, poisson_lengths
from clozelab.errors import InputError
from clozelab.evaluation import evaluate
from clozelab.languages import MarkovSource
from clozelab.objectives import BART
from clozelab.objectives.bart import denoising_batch, units

from .cases import batch_of, reading_model

BOS, EOS, STOP, M, START = 0, 2, 7, 99, 98
SPECIAL = SpecialIds(
    100, pad=1, eos=EOS, mask=M, others=(BOS,), roles={"decoder_start": START}, ends_sentence=torch.arange(100) == STOP
)
GOLDEN = [BOS, 10, 11, STOP, 12, STOP, 13, 14, 15, STOP]


def text_of(tokens, special=SPECIAL, document_ids=None):
    """Examples with an end of text behind each."""
    tokens = torch.tensor(tokens)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    noise = Noise.of(0, 0, range(len(tokens)))
    return Examples(tokens, everywhere, everywhere, noise, special, document_ids=document_ids).with_end()


def denoised(text, spans, order=None, deleted=(), **words):
    """The batch of one text with spans (start, length) of its units, read in an order."""
    order = torch.arange(text.tokens.shape[1])[None] if order is None else torch.tensor([order])
    starts, lengths = (torch.tensor([column]) for column in zip(*spans))
    missing = torch.zeros(order.shape, dtype=torch.bool)
    missing[0, list(deleted)] = True
    return denoising_batch(text, order, units(text, order, **words), starts, lengths, missing)


# ------------------------------------------------------------------ golden rows


def test_the_golden_row_of_infilling():
    """Units count without bos, which is never hidden: 11 and the full stop are 1 and 2, 14 is 6, the mask before 4."""
    batch = denoised(text_of([GOLDEN]), [(6, 1), (1, 2), (4, 0)])
    assert batch["input_ids"].tolist() == [[BOS, 10, M, 12, M, STOP, 13, M, 15, STOP, EOS]]
    assert batch["labels"].tolist() == [[*GOLDEN, EOS]]
    assert batch["decoder_input_ids"].tolist() == [[START, *GOLDEN]]
    assert batch["hidden"].tolist() == [[0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0]]
    assert bool(batch["attention_mask"].all())


def test_the_golden_row_of_sentences_in_another_order():
    """The third, the first, the second; what is hidden of the order is told at its place in the text."""
    order = [0, 6, 7, 8, 9, 1, 2, 3, 4, 5, 10]
    batch = denoised(text_of([GOLDEN]), [(1, 1)], order)
    assert batch["input_ids"].tolist() == [[BOS, 13, M, 15, STOP, 10, 11, STOP, 12, STOP, EOS]]
    assert batch["labels"].tolist() == [[*GOLDEN, EOS]]
    assert batch["hidden"].tolist() == [[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]]


def test_a_deleted_token_leaves_no_mask_and_counts_as_hidden():
    batch = denoised(text_of([GOLDEN]), [(-1, 0)], deleted=(2, 7))
    assert batch["input_ids"].tolist() == [[BOS, 10, STOP, 12, STOP, 13, 15, STOP, EOS]]
    assert batch["hidden"][0].nonzero()[:, 0].tolist() == [2, 7]


# ------------------------------------------------------------------ what every source says


@pytest.mark.parametrize("length", range(1, 5))
def test_every_source_is_explained_by_its_spans(length):
    """All spans of a short text, empty ones too: with each mask replaced by its span, the source is the text again."""
    text, tried = list(range(10, 10 + length)), 0
    every = [(start, size) for start in range(length + 1) for size in range(length + 1 - start)]
    for spans in itertools.chain(*(itertools.combinations(every, many) for many in (1, 2, 3))):
        covered = [start + k for start, size in spans for k in range(size)]
        if len(set(covered)) < len(covered):
            continue
        tried += 1
        batch = denoised(text_of([text]), spans)
        # Masks stand in the order of their starts, an empty one before the span that begins at its place.
        answers = iter(text[start : start + size] for start, size in sorted(spans))
        source = batch["input_ids"][0].tolist()
        restored = [token for one in source for token in (next(answers) if one == M else [one])]
        assert restored == [*text, EOS]
        assert source.count(M) == len(spans)
        assert batch["hidden"][0].nonzero()[:, 0].tolist() == sorted(covered)
    assert tried > length


def test_sources_are_never_longer_than_their_texts_and_hide_the_budget():
    rows, n = 300, 31
    batch = BART().collator(SPECIAL).block(torch.arange(10, 10 + n).expand(rows, n), range(rows))
    assert (batch["hidden"].sum(1) == hidden_budget(torch.tensor(n), 0.3)).all()
    lengths = batch["attention_mask"].sum(1)
    assert lengths.max() <= n + 1 == BART().source_length(n + 2)
    masks = (batch["input_ids"] == M).sum(1)
    assert (lengths == n + 1 - batch["hidden"].sum(1) + masks).all()
    visible = batch["labels"].masked_fill(batch["hidden"] != 0, -1)
    for source, labels in zip(batch["input_ids"].tolist(), visible.tolist()):
        assert sorted(one for one in source if one not in (M, SPECIAL.pad)) == sorted(one for one in labels if one >= 0)


def test_noise_belongs_to_seed_epoch_and_example():
    """In fairseq other random numbers of the process change it."""
    text = torch.arange(10, 40)[None]
    first = BART().collator(SPECIAL, seed=3).block(text, [5], epoch=2)
    torch.manual_seed(99)
    again = BART().collator(SPECIAL, seed=3).block(text, [5], epoch=2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    for seed, epoch, example in ((4, 2, 5), (3, 3, 5), (3, 2, 6)):
        other = BART().collator(SPECIAL, seed=seed).block(text, [example], epoch=epoch)
        assert other["input_ids"].tolist() != first["input_ids"].tolist()


def test_rotation_keeps_every_token_and_where_it_begins_is_uniform():
    rows, n = 3000, 6
    objective = BART(mask_rate=0.01, permute_sentences=False, rotate=True)
    batch = objective.collator(SPECIAL).block(torch.arange(10, 10 + n).expand(rows, n), range(rows))
    for source in batch["input_ids"][:50].tolist():
        shown = [one - 10 for one in source if 10 <= one < 90]
        assert all((b - a) % n in (1, 2) for a, b in itertools.pairwise(shown))  # one is hidden
    firsts = batch["input_ids"][:, 0]
    counts = torch.bincount(firsts[firsts < 90] - 10, minlength=n)
    expected = counts.sum() / n
    assert ((counts - expected) ** 2 / expected).sum().item() < 20.5  # 5 degrees of freedom, p = 0.001


def test_deletion_has_its_rate():
    objective = BART(mask_rate=0.3, delete_rate=0.2)
    batch = objective.collator(SPECIAL).block(torch.arange(10, 50).expand(500, 40), range(500))
    deleted = (batch["hidden"].sum(1) - 12).double()  # of the 28 that infilling leaves
    assert deleted.mean().item() == pytest.approx(0.2 * 28, abs=4 * (28 * 0.16 / 500) ** 0.5)


# ------------------------------------------------------------------ words, protected tokens, documents


def test_whole_words_are_hidden_whole_and_counted():
    """Even ids begin a word: 10 11 | 12 | 14 15 15."""
    special = SpecialIds(
        100, pad=1, eos=EOS, mask=M, starts_word=torch.arange(100) % 2 == 0, ends_sentence=torch.arange(100) == STOP
    )
    text = text_of([[10, 11, 12, 14, 15, 15]], special)
    batch = denoised(text, [(0, 1), (2, 0), (2, 1)], whole_words=True)
    assert batch["input_ids"].tolist() == [[M, 12, M, M, EOS]]
    rows = BART(whole_words=True, mask_rate=0.5).collator(special).block(text.tokens[:, :6].expand(50, 6), range(50))
    for hidden in rows["hidden"].tolist():
        words = hidden[:2], hidden[2:3], hidden[3:6]
        assert all(len(set(word)) == 1 for word in words)
        assert sum(word[0] for word in words) == 2
    with pytest.raises(InputError, match="no table of words"):
        BART(whole_words=True).collator(SPECIAL)([[10, 11]])


def test_protected_tokens_stay_and_ends_of_text_are_never_hidden():
    ids = [10, STOP, 11, STOP, EOS, 12, STOP, 13, 14]
    examples = [
        {"input_ids": ids, "special_tokens_mask": [0, 0, 0, 0, 0, 0, 0, 1, 0], "example_id": n} for n in range(60)
    ]
    batch = BART(mask_rate=1.0).collator(SPECIAL)(examples)
    for source, hidden in zip(batch["input_ids"].tolist(), batch["hidden"].tolist()):
        assert [one for one in source if one not in (M, SPECIAL.pad)] == [EOS, 13, EOS]
        assert hidden == [1, 1, 1, 1, 0, 1, 1, 0, 1, 0]


def test_documents_are_denoised_and_read_apart_and_cost_what_they_cost_alone():
    """The same spans in one row and in two; the decoder begins each document where the encoder does."""
    ids, documents = [[10, 11, 12, 13, EOS, 20, 21, 22]], torch.tensor([[0] * 5 + [1] * 3])
    packed = denoised(text_of(ids, document_ids=documents), [(1, 2), (5, 1)])
    assert packed["input_ids"].tolist() == [[10, M, 13, EOS, 20, M, 22, EOS]]
    assert packed["document_ids"].tolist() == [[0] * 4 + [1] * 4]
    assert packed["decoder_input_ids"].tolist() == [[START, 10, 11, 12, 13, START, 20, 21, 22]]
    assert packed["decoder_position_ids"].tolist() == [[0, 1, 2, 3, 4, 4, 5, 6, 7]]
    objective = BART()
    model = reading_model(objective)
    first = denoised(text_of([ids[0][:4]]), [(1, 2)])
    later = denoised(text_of([ids[0][5:]]), [(1, 1)])

    def small(batch):
        """Ids of the model's vocabulary."""
        return {key: value % 70 if "input" in key or key == "labels" else value for key, value in batch.items()}

    together = objective(model, small(packed))["logits"]
    apart = objective(model, small(first))["logits"] + objective(model, small(later))["logits"]
    assert together.count == apart.count
    assert together.sum.item() == pytest.approx(apart.sum.item(), rel=1e-12)
    unaligned = objective(model, small({key: packed[key] for key in packed if key != "decoder_position_ids"}))["logits"]
    assert unaligned.sum.item() != pytest.approx(apart.sum.item(), rel=1e-6)


def test_a_vocabulary_that_tells_no_sentences_is_refused_until_they_stay():
    special = SpecialIds(100, pad=1, eos=EOS, mask=M)
    with pytest.raises(InputError, match="no table of the tokens that end one: set permute_sentences=False"):
        BART().collator(special)([[10, 11, 12]])
    assert BART(permute_sentences=False).collator(special)([[10, 11, 12]])["labels"].tolist() == [[10, 11, 12, EOS]]


def test_an_empty_text_has_nothing_to_predict():
    batch = BART().collator(SPECIAL)([[], [10, 11, 12]])
    assert (batch["labels"][0] == -100).all()
    assert batch["labels"][1].tolist() == [10, 11, 12, EOS]


# ------------------------------------------------------------------ copies apart


def test_hidden_and_copied_targets_are_reported_apart():
    """By hand, target by target."""
    objective = BART()
    batch, model = batch_of(objective), reading_model(objective)
    found = evaluate(objective, model, [batch]).breakdown["hidden"]
    logits = model.unembed(model(**objective.model_inputs(model, batch)))
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["labels"], reduction="none")
    for value, kind in enumerate(("copied", "hidden")):
        here = (batch["labels"] != -100) & (batch["hidden"] == value)
        assert found[kind] == pytest.approx(each[here].mean().item(), rel=1e-9)
    shares = batch["hidden"].sum() / (batch["labels"] != -100).sum()
    assert 0.25 < shares < 0.4


# ------------------------------------------------------------------ the floor


def every_corruption(n, mask_rate, mean):
    """{(visible places, and masks between them, as a tuple with "M"): probability} of a text of n tokens.

    From the definition: draws until the budget is full, and every order of masks and visible tokens.
    """
    budget, p = int(hidden_budget(torch.tensor(n), mask_rate)), poisson_lengths(mean, 60).tolist()
    drawn: dict = defaultdict(float)

    def draw(lengths, probability):
        left = budget - sum(lengths)
        if len(lengths) == budget - 1:
            drawn[(*lengths, left)] += probability
            return
        for size in range(left):
            draw((*lengths, size), probability * p[size])
        drawn[(*lengths, left)] += probability * (1 - sum(p[:left]))

    draw((), 1.0)
    assert sum(drawn.values()) == pytest.approx(1.0)
    found: dict = defaultdict(float)
    for lengths, probability in drawn.items():
        visible = n - budget
        orders = list(itertools.permutations(range(visible + len(lengths)), len(lengths)))  # the slot of each mask
        for slots in orders:
            source, place = [], 0
            for slot in range(visible + len(lengths)):
                if slot in slots:
                    source.append("M")
                    place += lengths[slots.index(slot)]
                else:
                    source.append(place)
                    place += 1
            found[tuple(source)] += probability / len(orders)
    return found


@pytest.mark.parametrize(("n", "mask_rate", "mean"), [(4, 0.5, 1.0), (6, 0.3, 3.0), (4, 0.75, 1.5), (3, 1.0, 1.0)])
def test_the_floor_is_the_conditional_by_brute_force(n, mask_rate, mean):
    """Every text of two symbols, every drawing of lengths, and every order of masks and visible tokens."""
    source = MarkovSource.random(2, entropy=0.4, seed=1)
    special = source.special_ids(5)
    corruptions = every_corruption(n, mask_rate, mean)
    joint: dict = defaultdict(float)
    for text in itertools.product([0, 1], repeat=n):
        p_text = source.log_prob(torch.tensor(text)).exp().item()
        for places, probability in corruptions.items():
            joint[tuple(special.mask if one == "M" else text[one] for one in places), text] += p_text * probability
    p_inputs: dict = defaultdict(float)
    for (inputs, _), probability in joint.items():
        p_inputs[inputs] += probability
    cases = list(joint)
    width = max(len(inputs) for inputs, _ in cases) + 1
    batch = {
        "input_ids": torch.tensor([[*one, special.eos] + [special.pad] * (width - 1 - len(one)) for one, _ in cases]),
        "labels": torch.tensor([[*text, special.eos] for _, text in cases]),
    }
    objective = BART(permute_sentences=False, mask_rate=mask_rate, mean_noise_span_length=mean)
    nats = objective.entropy_floor(source, batch, special)["logits"]
    expected = torch.tensor([-math.log(joint[one] / p_inputs[one[0]]) for one in cases], dtype=torch.float64)
    torch.testing.assert_close(nats, expected, rtol=1e-9, atol=1e-9)


def test_the_draws_of_the_objective_are_those_that_the_floor_knows():
    """How often each source occurs, against the enumeration."""
    rows, n = 20_000, 5
    source = MarkovSource.random(n, entropy=0.8)
    special, expected = source.special_ids(5), every_corruption(n, 0.5, 1.5)
    objective = BART(permute_sentences=False, mask_rate=0.5, mean_noise_span_length=1.5)
    batch = objective.collator(special).block(torch.arange(n).expand(rows, n), range(rows))
    counts: dict = defaultdict(int)
    for row in batch["input_ids"].tolist():
        counts[tuple("M" if one == special.mask else one for one in row if one not in (special.pad, special.eos))] += 1
    assert counts.keys() <= expected.keys()
    often = {one: p * rows for one, p in expected.items() if p * rows > 10}
    statistic = sum((counts[one] - mean) ** 2 / mean for one, mean in often.items())
    assert statistic < len(often) + 4 * (2 * len(often)) ** 0.5  # four standard deviations of a chi-square


def test_inputs_that_are_not_of_the_text_have_no_floor():
    source = MarkovSource.random(3, entropy=0.6)
    special = source.special_ids()
    labels = torch.tensor([[0, 1, 2, special.eos]])
    for inputs in ([2, special.mask, special.eos], [0, special.mask, special.mask, 1, special.eos]):
        batch = {"input_ids": torch.tensor([inputs]), "labels": labels}
        with pytest.raises(InputError, match=r"are the labels theirs|do not fit"):
            BART(permute_sentences=False).entropy_floor(source, batch, special)


def test_the_floor_of_what_moves_or_is_missing_is_not_known():
    for more in ({}, {"permute_sentences": False, "rotate": True}, {"permute_sentences": False, "delete_rate": 0.1}):
        with pytest.raises(InputError, match="known for the infilling of tokens alone"):
            BART(**more).entropy_floor(MarkovSource.random(2, entropy=0.4), {}, SPECIAL)


# ------------------------------------------------------------------ writing


def test_the_whole_text_is_written_again_and_what_was_copied_is_told(tokenizer):
    """Overfit one text with its masks: the blanks are filled, and all else is marked as given."""
    special, text = tokenizer.special, "The cat sat on the mat, and the dog sat on the cat."
    ids = tokenizer.encode(text)
    objective = BART(permute_sentences=False)
    order = torch.arange(len(ids) + 1)[None]
    whole = text_of([ids], special)
    batch = denoising_batch(
        whole,
        order,
        units(whole, order),
        torch.tensor([[2, 6]]),
        torch.tensor([[2, 1]]),
        torch.zeros_like(order).bool(),
    )
    torch.manual_seed(0)
    model = objective.build_model(tokenizer.vocab_size, "tiny", d_model=32, n_layers=1, n_heads=2, n_decoder_layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        objective(model, batch).backward()
        optimizer.step()
    blanked = tokenizer.decode(ids[:2]) + " ___" + tokenizer.decode(ids[4:6]) + " ___" + tokenizer.decode(ids[7:])
    done = objective.complete(model, tokenizer, blanked, greedy=True)
    assert str(done) == text
    by_model = [part for part, written in done.parts if written]
    assert by_model == [tokenizer.decode(ids[2:4]), tokenizer.decode(ids[6:7])]
    assert str(objective.sample(model, tokenizer, text)).startswith("The")
