"""CM3: golden rows, their inverse, the number and the ends of spans, documents, the floor, and several blanks."""

import itertools
import math
from collections import Counter, defaultdict

import pytest
import torch

from clozelab import InputError
from clozelab.data import SpecialIds, train_characters
from clozelab.languages import MarkovSource
from clozelab.objectives import CM3
from clozelab.objectives.cm3 import move_spans, restore_moved_spans

from .cases import SPECIAL, WORDS, texts

M, E = (99, 98, 97), 90
TEXT = list(range(10, 18))
OURS = SPECIAL.sentinels, SPECIAL["span_end"]
CHAIN = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))


def all_cuts(n, spans):
    return itertools.combinations_with_replacement(range(n + 1), 2 * spans)


def rows_of(batch):
    return [row[mask == 1].tolist() for row, mask in zip(batch["input_ids"], batch["attention_mask"])]


# ------------------------------------------------------------------ rows


@pytest.mark.parametrize(
    ("cuts", "row"),
    [
        ((2, 4, 6, 7), [10, 11, 99, 14, 15, 98, 17, 99, 12, 13, E, 98, 16, E]),
        ((), TEXT),
        ((0, 8), [99, 99, *TEXT, E]),
        ((8, 8), [*TEXT, 99, 99, E]),
        ((0, 3, 3, 8), [99, 98, 99, 10, 11, 12, E, 98, 13, 14, 15, 16, 17, E]),
    ],
)
def test_the_golden_rows(cuts, row):
    """The first is that of the CM3 code: spans 2-3 and 6."""
    assert move_spans(TEXT, cuts, M, E) == row
    assert restore_moved_spans(row, M, E) == (TEXT, [*cuts])


def test_every_set_of_spans_of_every_short_text_can_be_undone():
    for n, spans in itertools.product(range(1, 6), range(4)):
        rows = set()
        for cuts in all_cuts(n, spans):
            row = move_spans(TEXT[:n], cuts, M, E)
            assert restore_moved_spans(row, M, E) == (TEXT[:n], list(cuts))
            assert Counter(row) == Counter([*TEXT[:n], *M[:spans], *M[:spans], *[E] * spans])
            rows.add(tuple(row))
        assert len(rows) == math.comb(n + 2 * spans, 2 * spans)  # no two sets of cuts give one row


@pytest.mark.parametrize(
    "row",
    [
        [10, 99, 12, 99, 11],  # the last end is cut
        [10, 99, 12, 98, 99, 11, E],  # and a whole span
        [10, 99, 98, 98, 11, E, 99, 12, E],  # spelled out in another order
        [10, 98, 12, 98, 11, E],  # counted from the second sentinel
        [10, 99, 12, 99, 11, E, 13],  # text behind
        [10, E, 11],
    ],
)
def test_a_row_that_was_cut_or_is_out_of_step_is_refused(row):
    with pytest.raises(InputError, match="was its end cut"):
        restore_moved_spans(row, M, E)


@pytest.mark.parametrize("predict_sentinels", [False, True])
def test_the_batch_gives_back_its_texts_and_the_loss_leaves_out_sentinels_alone(predict_sentinels):
    examples = texts((24, 9, 31, 1, 12) * 8)
    batch = CM3(mean_spans=2.0, predict_sentinels=predict_sentinels).collator(SPECIAL)(examples)
    for example, row in zip(examples, rows_of(batch)):
        assert restore_moved_spans(row, *OURS)[0] == example["input_ids"]
    sentinel = torch.isin(batch["input_ids"], torch.tensor(SPECIAL.sentinels))
    ignored = batch["attention_mask"] == 0 if predict_sentinels else sentinel | (batch["attention_mask"] == 0)
    assert torch.equal(batch["labels"] == -100, ignored)
    assert torch.equal(batch["labels"][~ignored], batch["input_ids"][~ignored])


def test_the_number_of_spans_is_poisson_up_to_its_most():
    n, rows = 6, 2500
    objective = CM3(mean_spans=1.0, max_spans=2)
    batch = objective.collator(SPECIAL).block(torch.zeros(rows, n).long(), range(rows))
    counts = Counter((batch["input_ids"] == OURS[1]).sum(1).tolist())
    for spans, p in enumerate((math.exp(-1), math.exp(-1), 1 - 2 * math.exp(-1))):
        assert counts[spans] / rows == pytest.approx(p, abs=4 * (p * (1 - p) / rows) ** 0.5)
    assert max(counts) == 2


def test_ends_are_uniform_spans_that_overlap_being_drawn_anew():
    """2k sorted cuts against k pairs of ends that are drawn until none overlap, by the exact distribution of each.

    The ends of the latter are real numbers in a text of length 1: at whole places, where ends may coincide, it would
    depend on what counts as an overlap.
    """
    n, rows = 2, 4000
    objective = CM3(mean_spans=50.0, max_spans=2)  # two spans for sure
    batch = objective.collator(SPECIAL).block(torch.arange(n).expand(rows, n), range(rows))
    found = Counter(tuple(restore_moved_spans(row, *OURS)[1]) for row in rows_of(batch))
    ends = torch.rand(200_000, 2, 2, generator=torch.Generator().manual_seed(0)).sort(2).values  # (N, span, end)
    first, second = ends.unbind(1)
    apart = (first[:, 1] < second[:, 0]) | (second[:, 1] < first[:, 0])
    drawn = (ends[apart].flatten(1).sort(1).values * (n + 1)).long().tolist()
    expected = Counter(map(tuple, drawn))
    for cuts in all_cuts(n, 2):
        p = expected[cuts] / len(drawn)
        assert found[cuts] / rows == pytest.approx(p, abs=5 * (p / rows) ** 0.5), cuts
        assert objective._cut_probability(n, cuts) == pytest.approx(p, abs=5 * (p / len(drawn)) ** 0.5)


def test_documents_are_treated_by_themselves_and_keep_their_end_of_text():
    eos = SPECIAL.eos
    text = torch.tensor([[10, 11, 12, eos, 20, 21, eos, eos, 30]])
    collate = CM3(mean_spans=2.0).collator(SPECIAL, within_documents=True)
    spans = Counter()
    for example_id in range(20):
        batch = collate.block(text, [example_id])
        row, documents = batch["input_ids"][0].tolist(), batch["document_ids"][0].tolist()
        parts = [[token for token, d in zip(row, documents) if d == number] for number in range(4)]
        assert [part[-1] for part in parts[:3]] == [eos] * 3
        for part, document in zip(parts, ([10, 11, 12], [20, 21], [], [30])):
            restored, cuts = restore_moved_spans(part[: len(part) - (part[-1] == eos)], *OURS)
            assert restored == document
            spans[len(cuts) // 2] += bool(document)
        assert parts[2] == [eos]  # an empty document has no spans
    assert len(spans) > 2


def test_rows_are_widened_and_never_cut():
    for objective in (CM3(), CM3(mean_spans=9.0, max_spans=2)):
        text = torch.randint(0, WORDS, (200, objective.source_length(30)))
        assert objective.collator(SPECIAL).block(text, range(200))["input_ids"].shape[1] <= 30
    assert (CM3().source_length(30), CM3(max_spans=2).source_length(30)) == (18, 24)


def test_labels_of_your_own_move_with_their_tokens():
    text = list(range(5, 17))
    own = [-100 if token % 3 == 0 else token for token in text]
    batch = CM3(mean_spans=3.0).collator(SPECIAL)([{"input_ids": text, "labels": own, "example_id": 3}])
    row, labels = batch["input_ids"][0], batch["labels"][0]
    assert bool((row == OURS[1]).any())
    assert torch.equal(labels == -100, torch.isin(row, torch.tensor([*OURS[0], 6, 9, 12, 15])))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CM3().collator(SpecialIds(9, pad=0, eos=1)), "no id for the role 'span_end'"),
        (
            lambda: CM3().collator(SpecialIds(9, 0, 1, sentinels=(8, 7), roles={"span_end": 6}))([[2, 3]]),
            "max_spans is 4, and the vocabulary has 2 sentinels",
        ),
        (lambda: CM3().collator(SPECIAL)([[5, SPECIAL.sentinels[1], 7]]), "some of the ids .* that mark what was"),
        (lambda: CM3().collator(SPECIAL)([[5, SPECIAL["span_end"], 7]]), "some of the ids .* that mark what was"),
        (lambda: CM3().source_length(12), "no text beside the 12 ids of 4 spans"),
        (lambda: CM3(max_spans=0), r"max_spans must lie in \[1, 256\], got 0"),
        (lambda: CM3(mean_spans=-1), "mean_spans must be at least 0"),
        (lambda: CM3().entropy_floor(CHAIN, {}, SPECIAL), "set predict_sentinels=True"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ------------------------------------------------------------------ reading, and the floor


def test_a_row_is_read_from_the_left():
    batch = CM3().collator(SPECIAL)([TEXT])
    read = CM3().reads(batch)["logits", "input_ids"][0]
    assert torch.equal(read, torch.ones_like(read).tril())


def rows_with_probabilities(source, n, objective, special):
    """{row: probability} over all texts of n symbols, numbers of spans and unordered cuts, by the definition."""
    rows = defaultdict(float)
    mean, most = objective.mean_spans, objective.max_spans
    poisson = [math.exp(-mean) * mean**k / math.factorial(k) for k in range(most)]
    for text in itertools.product(range(source.symbols), repeat=n):
        p_text = source.log_prob(torch.tensor(text)).exp().item()
        for k, p in enumerate([*poisson, 1 - sum(poisson)]):
            for cuts in itertools.product(range(n + 1), repeat=2 * k):
                row = move_spans(text, sorted(cuts), special.sentinels, special["span_end"])
                rows[tuple(row)] += p_text * p / (n + 1) ** (2 * k)
    return rows


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_floor_of_every_row_is_its_probability_given_its_first_token(n):
    objective, special = CM3(mean_spans=1.3, max_spans=2, predict_sentinels=True), CHAIN.special_ids(3, ["span_end"])
    rows = rows_with_probabilities(CHAIN, n, objective, special)
    assert sum(rows.values()) == pytest.approx(1)
    first = defaultdict(float)
    for row, p in rows.items():
        first[row[0]] += p
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[special.pad] * (width - len(row))] for row in rows])
    padding = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    nats = objective.entropy_floor(CHAIN, {"input_ids": ids, "attention_mask": padding}, special)["logits"]
    assert nats.tolist() == pytest.approx([-math.log(p / first[row[0]]) for row, p in rows.items()], rel=1e-9)


def test_a_document_without_spans_costs_its_text_and_that_it_was_left_alone():
    """With no spans at all the floor is that of causal LM."""
    objective, special = CM3(mean_spans=0.0, predict_sentinels=True), CHAIN.special_ids(4, ["span_end"])
    text = CHAIN.sample(20, 8)
    batch = objective.collator(special).block(text, range(20))
    assert torch.equal(batch["input_ids"], text)
    causal = CHAIN.stationary[text[:, 0]].log() - CHAIN.log_prob(text)
    torch.testing.assert_close(objective.entropy_floor(CHAIN, batch, special)["logits"], causal)


# ------------------------------------------------------------------ several blanks


@pytest.fixture
def tokenizer_with_roles():
    return train_characters(["abba ab"], sentinels=4, roles=["span_end"])


def scripted(monkeypatch, tokenizer, spans):
    """Generation that spells out these spans in turn; returns the prompts that it is given."""
    prompts, left = [], iter(spans)

    def generate(model, prompt, **settings):
        prompts.append(prompt[0].tolist())
        span = [*tokenizer.encode(next(left)), tokenizer.special["span_end"]]
        return torch.cat([prompt, torch.tensor([span])], 1)

    monkeypatch.setattr("clozelab.generation.moved_texts.generate", generate)
    return prompts


def test_blanks_are_filled_from_the_left_each_behind_the_spans_before_it(tokenizer_with_roles, monkeypatch):
    tokenizer, objective = tokenizer_with_roles, CM3()
    prompts = scripted(monkeypatch, tokenizer, ["bb", "", "a"])
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_heads=2)
    completion = objective.complete(model, tokenizer, "a___a___b___")
    assert completion.marked() == "a[bb]ab[a]"
    (first, second, third), end = tokenizer.special.sentinels[:3], tokenizer.special["span_end"]
    a, b = (tokenizer.encode(one)[0] for one in "ab")
    visible = [a, first, a, second, b, third]
    assert prompts == [
        [*visible, first],
        [*visible, first, b, b, end, second],
        [*visible, first, b, b, end, second, end, third],
    ]


def test_the_prompts_are_the_rows_that_were_learned(tokenizer_with_roles, monkeypatch):
    """What the model has read and written in the end is the row that the collator makes of the whole text."""
    tokenizer, objective = tokenizer_with_roles, CM3()
    prompts = scripted(monkeypatch, tokenizer, ["bb", "a"])
    text = str(objective.complete(objective.build_model(tokenizer.vocab_size, d_model=16), tokenizer, "a___a___b"))
    special = tokenizer.special
    row = move_spans(tokenizer.encode(text), (1, 3, 4, 5), special.sentinels, special["span_end"])
    assert [*prompts[-1], *tokenizer.encode("a"), special["span_end"]] == row


def test_more_blanks_than_were_learned_are_refused(tokenizer_with_roles):
    objective = CM3(max_spans=2)
    model = objective.build_model(tokenizer_with_roles.vocab_size, d_model=16, n_heads=2)
    with pytest.raises(InputError, match="at most 2 blanks ___, as the model was trained on, got 3"):
        objective.complete(model, tokenizer_with_roles, "a___b___a___")
