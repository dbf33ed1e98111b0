"""Fill-in-the-middle: both forms, their inverse, cuts, documents, and never a middle without its end."""

from collections import Counter

import pytest
import torch

from clozelab import FillInTheMiddle, InputError
from clozelab.data import SpecialIds, train_characters
from clozelab.objectives.fill_in_the_middle import ROLES, RoleIds, move_middle, restore_middle

from .cases import SPECIAL, WORDS, texts

IDS = RoleIds(90, 91, 92, 93)
TEXT = list(range(10, 16))
OURS = RoleIds.of(SPECIAL)


@pytest.mark.parametrize(
    ("cuts", "psm", "spm"),
    [
        ((2, 4), [90, 10, 11, 91, 14, 15, 92, 12, 13, 93], [90, 91, 14, 15, 92, 10, 11, 12, 13, 93]),
        ((0, 3), [90, 91, 13, 14, 15, 92, 10, 11, 12, 93], [90, 91, 13, 14, 15, 92, 10, 11, 12, 93]),
        ((3, 3), [90, 10, 11, 12, 91, 13, 14, 15, 92, 93], [90, 91, 13, 14, 15, 92, 10, 11, 12, 93]),
        ((0, 6), [90, 91, 92, *TEXT, 93], [90, 91, 92, *TEXT, 93]),
    ],
)
def test_the_golden_rows_of_both_forms(cuts, psm, spm):
    assert move_middle(TEXT, *cuts, IDS, spm=False) == psm
    assert move_middle(TEXT, *cuts, IDS, spm=True) == spm


def test_every_cut_of_every_short_text_can_be_undone():
    for n in range(1, 7):
        for first in range(n + 1):
            for second in range(first, n + 1):
                for spm in (False, True):
                    row = move_middle(TEXT[:n], first, second, IDS, spm=spm)
                    assert restore_middle(row, IDS)[0] == TEXT[:n]
                    assert Counter(row) == Counter([*TEXT[:n], *IDS])


def test_a_row_whose_end_was_cut_is_refused():
    with pytest.raises(InputError, match="its end was cut"):
        restore_middle(move_middle(TEXT, 2, 4, IDS, spm=False)[:-1], IDS)


@pytest.mark.parametrize("form", ["psm", "spm", "joint"])
def test_the_batch_gives_back_its_texts_and_keeps_every_end(form):
    examples = texts((24, 9, 31, 1, 12))
    batch = FillInTheMiddle(fim_rate=1.0, form=form).collator(SPECIAL)(examples)
    for example, row, mask in zip(examples, batch["input_ids"], batch["attention_mask"]):
        row = row[mask == 1].tolist()
        assert row[-1] == OURS.end
        assert restore_middle(row, OURS)[0] == example["input_ids"]
    assert torch.equal(batch["labels"] == -100, batch["attention_mask"] == 0)


def test_the_rate_is_the_share_of_moved_texts_and_the_others_stay_as_they_are():
    examples = texts((8,) * 2000)
    batch = FillInTheMiddle(fim_rate=0.3).collator(SPECIAL)(examples)
    moved = batch["input_ids"][:, 0] == OURS.prefix
    assert moved.double().mean().item() == pytest.approx(0.3, abs=4 * (0.21 / 2000) ** 0.5)
    for b in (~moved).nonzero()[:20, 0].tolist():
        assert batch["input_ids"][b, :8].tolist() == examples[b]["input_ids"]
    spm = batch["input_ids"][moved][:, 1] == OURS.suffix
    cut_at_the_start = 2 / 9 - 1 / 81  # psm with an empty prefix looks like spm
    assert spm.double().mean().item() == pytest.approx(0.5 + 0.5 * cut_at_the_start, abs=0.08)


def test_cuts_are_uniform_and_may_coincide():
    """Two cuts in 0 .. n: an empty middle with probability 1 / (n + 1)."""
    n, rows = 7, 8000
    batch = FillInTheMiddle(fim_rate=1.0, form="psm").collator(SPECIAL).block(torch.zeros(rows, n).long(), range(rows))
    lengths = [n - sum(restore_middle(row.tolist(), OURS)[1:]) for row in batch["input_ids"]]
    empty = sum(length == 0 for length in lengths) / rows
    assert empty == pytest.approx(1 / (n + 1), abs=4 * (0.11 / rows) ** 0.5)
    pairs = [(a, b) for a in range(n + 1) for b in range(n + 1)]
    expected = sum(abs(a - b) for a, b in pairs) / len(pairs)
    assert sum(lengths) / rows == pytest.approx(expected, abs=4 * 1.9 / rows**0.5)


def test_documents_are_cut_by_themselves_and_keep_their_end_of_text():
    eos = SPECIAL.eos
    text = torch.tensor([[10, 11, 12, eos, 20, 21, eos, eos, 30]])
    batch = FillInTheMiddle(fim_rate=1.0).collator(SPECIAL, within_documents=True).block(text, [5])
    row, documents = batch["input_ids"][0].tolist(), batch["document_ids"][0].tolist()
    parts = [[token for token, d in zip(row, documents) if d == number] for number in range(4)]
    assert [part[-1] for part in parts[:3]] == [eos] * 3
    assert restore_middle(parts[0][:-1], OURS)[0] == [10, 11, 12]
    assert restore_middle(parts[1][:-1], OURS)[0] == [20, 21]
    assert parts[2] == [eos]  # an empty document has no middle
    assert restore_middle(parts[3], OURS)[0] == [30]


def test_rows_are_widened_and_never_cut():
    length = 24
    text = torch.randint(0, WORDS, (50, FillInTheMiddle().source_length(length)))
    batch = FillInTheMiddle(fim_rate=1.0).collator(SPECIAL).block(text, range(50))
    assert batch["input_ids"].shape == (50, length)


def test_a_vocabulary_without_the_roles_is_refused_before_the_first_batch():
    with pytest.raises(InputError, match="no id for the role 'fim_prefix'"):
        FillInTheMiddle().collator(SpecialIds(9, pad=0, eos=1))
    assert FillInTheMiddle.roles == ROLES


def test_labels_of_your_own_move_with_their_tokens():
    text = list(range(5, 17))
    examples = [{"input_ids": text, "labels": [-100, -100, *text[2:]], "example_id": b} for b in range(40)]
    batch = FillInTheMiddle(fim_rate=1.0).collator(SPECIAL)(examples)
    out = batch["labels"] == -100
    assert (batch["input_ids"][out].view(40, 2).sort(1).values == torch.tensor([5, 6])).all()  # wherever they went
    assert (batch["labels"] == batch["input_ids"])[~out].all()


def test_a_text_that_holds_a_role_is_refused():
    with pytest.raises(InputError, match=r"the text holds some of the ids .* that mark what was moved"):
        FillInTheMiddle().collator(SPECIAL)([[5, 6, SPECIAL["fim_middle"], 7]])


@pytest.mark.parametrize("form", ["psm", "spm", "joint"])
def test_a_blank_is_asked_in_the_form_that_was_learned(form, tokenizer_with_roles, monkeypatch):
    prompts = []

    def generate(model, prompt, **settings):
        prompts.append(prompt[0].tolist())
        return prompt

    monkeypatch.setattr("clozelab.generation.moved_texts.generate", generate)
    tokenizer, objective = tokenizer_with_roles, FillInTheMiddle(form=form)
    objective.complete(objective.build_model(tokenizer.vocab_size, d_model=16, n_heads=2), tokenizer, "ab___ba")
    special, before, after = tokenizer.special, tokenizer.encode("ab"), tokenizer.encode("ba")
    prefix, suffix, middle, _ = (special[role] for role in ROLES)
    psm, spm = [prefix, *before, suffix, *after, middle], [prefix, suffix, *after, middle, *before]
    assert prompts == [spm if form == "spm" else psm]


@pytest.fixture
def tokenizer_with_roles():
    return train_characters(["abba"], sentinels=0, roles=ROLES)
