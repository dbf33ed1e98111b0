"""`show_objectives` prints the batch that a model would get, and explains its signs."""

import io
import math
import re

import pytest
import tokenizers
import torch
from rich.cells import cell_len
from rich.console import Console
from tokenizers import models, pre_tokenizers

from clozelab.data import load_tokenizer
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
    Target,
    options,
)

SENTENCE = "Thank you for inviting me to your party last week ."
WORDS = SENTENCE.split()


def lines_of(*objectives, text=SENTENCE, width=200, tokenizer=None, console=None, **settings):
    """What is printed, line by line."""
    console = Console(file=io.StringIO(), width=width, highlight=False) if console is None else console
    roles = [role for objective in objectives for role in objective.roles]
    tokenizer = word_tokenizer(text, roles=roles) if tokenizer is None else tokenizer
    console.print(show_objectives(objectives, tokenizer, text, **settings))
    return console.file.getvalue().split("\n")


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
    assert any(re.fullmatch("·  +not in the loss", line) for line in lines)


def test_masked_words_stand_below_their_masks():
    lines = lines_of(MaskedLM(mask_rate=0.3, mask_replace_prob=1.0, random_replace_prob=0.0))
    reads, predicts = line(lines, "reads"), line(lines, "predicts")
    hidden = [t for t, word in enumerate(reads) if word == "[M]"]
    assert len(hidden) == 3
    assert predicts == [word if t in hidden else "·" for t, word in enumerate(WORDS)]
    assert any(re.fullmatch(r"\[M\]  +the mask token, in the place of one hidden token", line) for line in lines)


@pytest.mark.parametrize(
    ("random", "word"), [(1.0, "random"), (0.0, "kept")], ids=["another token", "the token itself"]
)
def test_random_and_kept_words_are_named_below_what_is_read(random, word):
    lines = lines_of(MaskedLM(mask_rate=0.3, mask_replace_prob=0.0, random_replace_prob=random))
    reads, hidden_as, predicts = (line(lines, label) for label in ("reads", "hidden as", "predicts"))
    in_loss = [t for t, answer in enumerate(predicts) if answer != "·"]
    assert [t for t, how in enumerate(hidden_as) if how != "·"] == in_loss
    assert {hidden_as[t] for t in in_loss} == {word}
    assert all((reads[t] == WORDS[t]) == (word == "kept") for t in in_loss)
    assert [predicts[t] for t in in_loss] == [WORDS[t] for t in in_loss]
    assert any(line.startswith("hidden as  what the model reads where it must predict") for line in lines)


@pytest.mark.parametrize(
    "name", [name for name, kind in OBJECTIVES.items() if "random_replace_prob" in kind.declared_options()]
)
def test_every_objective_that_draws_tokens_at_random_says_where(name):
    objective = OBJECTIVES[name](mask_rate=0.3, mask_replace_prob=0.0, random_replace_prob=1.0)
    for seed in range(4):
        lines = lines_of(objective, seed=seed)
        changed = [t for t, (read, word) in enumerate(zip(line(lines, "reads"), WORDS)) if read != word]
        if changed:  # a causal row of a mixture has none
            assert [t for t, how in enumerate(line(lines, "hidden as")) if how == "random"] == changed
        else:
            assert not [line for line in lines if line.startswith("hidden as")]


def test_an_output_of_two_classes_predicts_numbers():
    """As a discriminator's, whose labels are no ids of the vocabulary."""

    @options
    class Discriminator(MaskedLM):
        name = "discriminator"

        def targets(self, batch):
            return {"replaced": Target((batch["labels"] != -100).long())}

        def uniform_values(self, vocab_size):
            return {"replaced": math.log(2)}

    lines = lines_of(Discriminator(mask_rate=0.3))
    assert sorted(line(lines, "predicts")) == ["0"] * 8 + ["1"] * 3
    assert not [line for line in lines if line.startswith(("<pad>", "hidden as"))]


def test_a_row_of_masks_alone_does_not_say_so_twice():
    lines = lines_of(MaskedLM(mask_replace_prob=1.0, random_replace_prob=0.0))
    assert not [line for line in lines if line.startswith("hidden as")]
    assert "[M]" in line(lines, "reads")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_options_are_those_of_training_and_are_told(name):
    own = {name for name in OBJECTIVES[name].declared_options() if name not in ("label_smoothing", "z_loss")}
    told = [line for line in lines_of(OBJECTIVES[name](), width=500) if line.startswith("with ")]
    assert len(told) == bool(own)
    for option in own:
        assert f"{option} {getattr(OBJECTIVES[name](), option)}" in told[0]
        assert told[0].endswith(": the defaults of training")


def test_an_option_that_was_given_is_told_with_its_default():
    told = [line for line in lines_of(MaskedLM(mask_rate=0.3, z_loss=0.1)) if line.startswith("with ")]
    assert "mask_rate 0.3 (default 0.15), final_mask_rate None, mask_replace_prob 0.8," in told[0]
    assert told[0].endswith("z_loss 0.1 (default 0.0)") or "z_loss 0.1 (default 0.0)," in told[0]


def test_a_rate_that_falls_is_shown_as_the_end_of_a_run():
    said = " ".join(lines_of(MaskedLM(mask_rate=0.5, final_mask_rate=0.1)))
    assert "mask_rate 0.5 to 0.1, evaluated at 0.1: what is shown is the end of a run" in said


def test_a_causal_model_hides_nothing_in_place():
    assert not [line for line in lines_of(CausalLM(), text="a a a a") if line.startswith("hidden as")]


def test_span_corruption_is_two_texts():
    lines = lines_of(SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0))
    assert line(lines, "encoder reads")[-1] == "</s>"
    assert line(lines, "decoder reads")[:2] == ["<pad>", "<0>"]
    assert line(lines, "predicts")[0] == "<0>"
    assert any(line.startswith("<0> <1>  sentinels") for line in lines)


def test_a_prefix_has_the_rank_that_the_batch_has():
    lines = lines_of(PrefixLM(), seed=4)
    batch, _ = batch_of(PrefixLM(), 4)
    assert [int(rank) for rank in line(lines, "rank")] == batch["reading_rank"][0].tolist()
    assert any(re.match("rank  +a token reads", line) for line in lines)


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


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_lines_that_wrap_keep_their_labels_and_the_width(name, width):
    text = " ".join(f"word{n} 世界" for n in range(60))
    lines = lines_of(OBJECTIVES[name](), text=text, width=width)
    labels = ("text", "reads", "encoder reads", "decoder reads", "predicts", "replaced?", "no. ", "rank", "weight")
    cells = [line for line in lines if "世界" in line]
    assert len(cells) > 4
    assert all(line.startswith(labels) for line in cells)
    assert all(cell_len(line) <= width for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_a_long_text_is_shown_as_far_as_an_example_reaches_and_the_rest_is_counted():
    text = " ".join([*["in"] * 127, "last", *["out"] * 72])
    lines = lines_of(CausalLM(), text=text)
    words = [word for line in lines if line.startswith("text ") for word in line.split()[1:]]
    assert words == text.split()[:128]
    assert "not shown: 72 of the 200 tokens of the text" in lines
    assert not [line for line in lines_of(CausalLM(), text=text, length=200) if "tokens of the text" in line]


def test_a_long_token_is_cut_and_the_legend_says_so():
    words = {word: n for n, word in enumerate(["see", "a" * 100, "now", "[UNK]"])}
    backend = tokenizers.Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = load_tokenizer(backend, sentinels=1)
    lines = lines_of(CausalLM(), text="see " + "a" * 100 + " now", tokenizer=tokenizer, width=60)
    assert all(cell_len(line) <= 60 for line in lines)
    assert line(lines, "predicts") == ["a" * 31 + "…"]
    assert any(re.fullmatch("…  +the rest of a long token is not shown", line) for line in lines)


def test_keys_that_are_not_shown_are_named():
    lines = lines_of(CausalLM())
    assert "not shown of the batches: attention_mask (1 everywhere: nothing is padded)" in lines


def test_the_legend_explains_what_appears_and_nothing_else():
    lines = lines_of(CausalLM())
    assert lines[lines.index("") + 1 :] == [
        "·  not in the loss",
        "not shown of the batches: attention_mask (1 everywhere: nothing is padded)",
        "",
    ]


@pytest.mark.parametrize("no_colour", [False, True], ids=["in colour", "NO_COLOR"])
def test_colours_are_explained_where_there_are_colours(no_colour):
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="256", no_color=no_colour)
    lines = lines_of(MaskedLM(), console=console)
    told = [line for line in lines if "colours: " in line]
    assert len(told) == (not no_colour)
    assert all("drawn at random" in line and "not text" in line for line in told)


def test_only_what_is_not_in_the_loss_is_dim():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="256")
    lines = lines_of(MaskedLM(mask_replace_prob=0.0, random_replace_prob=1.0), console=console)
    [reads], [predicts] = ([line for line in lines if label in line] for label in ("reads  ", "predicts  "))
    assert reads.count("\x1b[1;35m") == predicts.count("\x1b[1;32m") == 2
    assert "\x1b[2m·" in predicts


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_knows_few_characters_gets_those_alone(encoding):
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") as file:
        text = "世界 é · ␣ the cat sat on the mat"
        Console(file=file, width=80).print(show_objectives([MaskedLM()], word_tokenizer(text), text))
        file.seek(0)
        printed = file.read()
    assert "\\u4e16\\u754c" in printed
    assert "?" not in printed
    assert ("-  " if encoding == "ascii" else "·  ") in printed


def test_one_legend_explains_all_objectives():
    lines = lines_of(*(kind() for kind in OBJECTIVES.values()))
    assert sum(line.endswith("  not in the loss") for line in lines) == 1
    titles = [line.split()[0] for line in lines if " hides " in line]
    assert titles == list(OBJECTIVES)


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
