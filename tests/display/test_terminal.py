"""`show_objectives` prints the batch that a model would get, and explains its signs."""

import io

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from clozelab.data import load_tokenizer, train_bpe
from clozelab.display import show_objectives, word_tokenizer
from clozelab.display.tokens import token_texts
from clozelab.errors import InputError
from clozelab.objectives import (
    OBJECTIVES,
    CausalLM,
    FillInTheMiddle,
    MaskedDiffusion,
    MaskedLM,
    PrefixLM,
    SpanCorruption,
)

SENTENCE = "Thank you for inviting me to your party last week ."
WORDS = SENTENCE.split()


def lines_of(*objectives, text=SENTENCE, width=200, **settings):
    """What is printed, line by line."""
    console = Console(file=io.StringIO(), width=width)
    roles = [role for objective in objectives for role in objective.roles]
    console.print(show_objectives(objectives, word_tokenizer(text, roles=roles), text, **settings))
    return console.file.getvalue().splitlines()


def line(lines, label):
    """The cells of the first line with a label."""
    found = next(line for line in lines if line.startswith(f"{label} "))
    return found.removeprefix(label).split()


def batch_of(objective, seed):
    tokenizer = word_tokenizer(SENTENCE, roles=objective.roles)
    tokens = torch.tensor([tokenizer.encode(SENTENCE)])
    return objective.collator(tokenizer.special, seed=seed).block(tokens, [0]), tokens


def test_causal_predicts_the_next_word_everywhere_but_at_the_end():
    lines = lines_of(CausalLM())
    assert line(lines, "reads") == line(lines, "text") == WORDS
    assert line(lines, "predicts") == [*WORDS[1:], "·"]
    assert "10 of 11 outputs are in the loss" in lines
    assert "·  not in the loss" in lines


def test_masked_words_stand_below_their_masks():
    lines = lines_of(MaskedLM(mask_rate=0.3, mask_replace_prob=1.0, random_replace_prob=0.0))
    reads, predicts = line(lines, "reads"), line(lines, "predicts")
    hidden = [t for t, word in enumerate(reads) if word == "[M]"]
    assert len(hidden) == 3
    assert predicts == [word if t in hidden else "·" for t, word in enumerate(WORDS)]
    assert "[M]  the mask token, in the place of one hidden token" in lines


def test_a_random_word_is_named_with_the_word_it_stands_for():
    lines = lines_of(MaskedLM(mask_rate=0.3, mask_replace_prob=0.0, random_replace_prob=1.0))
    changed = [(new, old) for new, old in zip(line(lines, "reads"), WORDS) if new != old]
    assert changed
    for new, old in changed:
        assert f"{new}: drawn at random, in the place of {old}" in lines


def test_a_kept_word_is_said_to_be_in_the_loss():
    lines = lines_of(MaskedLM(mask_rate=0.3, mask_replace_prob=0.0, random_replace_prob=0.0))
    assert line(lines, "reads") == WORDS
    kept = [word for word in line(lines, "predicts") if word != "·"]
    assert len(kept) == 3
    for word in kept:
        assert f"{word}: left as it was, and still in the loss" in lines


def test_a_causal_model_has_no_kept_words():
    assert not [line for line in lines_of(CausalLM(), text="a a a a") if "left as it was" in line]


def test_span_corruption_is_two_texts():
    lines = lines_of(SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0))
    assert line(lines, "encoder reads")[-1] == "</s>"
    assert line(lines, "decoder reads")[:2] == ["<pad>", "<0>"]
    assert line(lines, "predicts")[0] == "<0>"
    assert any(line.startswith("<0>, <1>  sentinels") for line in lines)


def test_a_prefix_has_the_rank_that_the_batch_has():
    lines = lines_of(PrefixLM(), seed=4)
    batch, _ = batch_of(PrefixLM(), 4)
    assert [int(rank) for rank in line(lines, "rank")] == batch["reading_rank"][0].tolist()
    assert any(line.startswith("rank  a token reads") for line in lines)


def test_diffusion_has_the_weights_that_the_batch_has():
    lines = lines_of(MaskedDiffusion(), seed=4)
    batch, _ = batch_of(MaskedDiffusion(), 4)
    shown = [0.0 if weight == "·" else float(weight) for weight in line(lines, "weight")]
    in_loss = batch["weights"][0] * (batch["labels"][0] != -100)
    assert shown == pytest.approx(in_loss.tolist(), rel=5e-3)
    assert any("their sum is divided by 11" in line for line in lines)


def test_the_roles_of_a_moved_middle_are_named():
    lines = lines_of(FillInTheMiddle(fim_rate=1.0, form="psm"))
    reads = line(lines, "reads")
    assert reads[0] == "<fim_prefix>"
    assert [word for word in reads if not word.startswith("<fim")] != WORDS  # moved
    assert sorted(word for word in reads if not word.startswith("<fim")) == sorted(WORDS)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_lines_that_wrap_keep_their_labels_and_the_width(name):
    text = " ".join(f"word{n} 世界" for n in range(30))
    lines = lines_of(OBJECTIVES[name](), text=text, width=80)
    labels = ("text", "reads", "encoder reads", "decoder reads", "predicts", "rank", "weight")
    cells = [line for line in lines if "word" in line]
    assert len(cells) > 4
    assert all(line.startswith(labels) for line in cells)
    assert all(cell_len(line) <= 80 for line in lines)


def test_one_legend_explains_all_objectives():
    lines = lines_of(*(kind() for kind in OBJECTIVES.values()))
    assert sum(line == "·  not in the loss" for line in lines) == 1
    titles = [line.split()[0] for line in lines if " hides " in line]
    assert titles == list(OBJECTIVES)


def test_part_of_a_character_is_written_as_the_vocabulary_writes_it():
    tokenizer = train_bpe(["a"], vocab_size=400)
    assert token_texts(tokenizer, tokenizer.encode("\u4e16")) == ["ä", "¸", "ĸ"]


def test_roles_are_those_of_a_loaded_tokenizer_too():
    roles = FillInTheMiddle.roles
    tokenizer = load_tokenizer(word_tokenizer(SENTENCE).backend, roles=roles)
    assert token_texts(tokenizer, [tokenizer.special[role] for role in roles]) == [f"<{role}>" for role in roles]


def test_what_cannot_be_shown_is_refused():
    tokenizer = word_tokenizer("x")
    with pytest.raises(InputError, match="the text is empty"):
        show_objectives([CausalLM()], tokenizer, "")
    with pytest.raises(InputError, match="no id for the role 'fim_prefix'"):
        show_objectives([FillInTheMiddle()], tokenizer, "x")
    with pytest.raises(InputError, match="the objective"):
        show_objectives([None], tokenizer, "x")
