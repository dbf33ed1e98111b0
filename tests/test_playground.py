"""The playground answers with the batch of the library, or with what the library refuses. Its page: tests/browser."""

import html
import sys

import pytest

from clozelab import MaskedLM
from clozelab.cli import main
from clozelab.display import word_tokenizer
from clozelab.objectives import OBJECTIVES
from clozelab.playground import MOST_CHARACTERS, TEXT, TOKENIZERS, answer, hide_these, options_of, tokens_of


def page_of(text, name, tokenizer="words", options=None, hidden=()):
    """The page inside of the element."""
    element = answer(text, name, tokenizer, options or {}, hidden)
    assert element.startswith("<iframe"), element
    return html.unescape(element)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", ["causal", "masked", "span", "ul2", "bart"])
def test_an_objective_answers_for_each_tokenizer(name, tokenizer):
    assert f'"{name}"' in page_of(TEXT, name, tokenizer)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_asked_with_its_defaults_as_they_stand_in_the_fields(name):
    given = {option.name: option.default for option in options_of(OBJECTIVES[name])}
    assert page_of("the cat sat on the mat", name, options=given)
    assert not {"z_loss", "label_smoothing"} & given.keys()  # they change no batch


@pytest.mark.parametrize("hidden", [[1], [0, 3]])
def test_tokens_that_are_clicked_are_hidden(hidden):
    tokenizer = word_tokenizer("the cat sat on")
    collate = MaskedLM(scheme=hide_these([*hidden, 50])).collator(tokenizer.special)
    labels = collate([tokenizer.encode("the cat sat on")])["labels"]
    assert (labels[0] != -100).nonzero().flatten().tolist() == hidden
    assert page_of("the cat sat on", "masked", hidden=hidden) != page_of("the cat sat on", "masked", hidden=[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "masked", "words", {}), "the text is empty"),
        ((" \n", "masked", "words", {}), "the text is empty"),
        (("a " * MOST_CHARACTERS, "masked", "words", {}), "expected at most 400 characters"),
        (("a b", "masked", "words", {"mask_rate": 2.0}), "mask_rate must lie in (0, 1], got 2.0"),
        (("a b", "masked", "words", {"mask_rate": "<b>"}), "mask_rate must be a number"),
        (("a b", "causal", "words", {}, [0]), "causal has no scheme"),
        (("a b", "masked", "words", {"mask_rate": 0.3}, [0]), "would be ignored"),
    ],
)
def test_what_cannot_be_shown_is_said_in_its_place(arguments, message):
    said = answer(*arguments)
    assert said.startswith('<p role="alert">')
    assert message in html.unescape(said)
    assert "<b>" not in said


def test_a_text_is_shown_and_not_run():
    assert "<script>alert(1)" not in answer("<script>alert(1)</script> a", "causal", "words", {})


def test_only_the_first_tokens_can_be_clicked():
    assert len(tokens_of("a" * 300, "characters")) == 64


def test_without_gradio_the_command_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["playground"]) == 2
    assert capsys.readouterr().err == 'clozelab: gradio is not installed: pip install "clozelab[playground]"\n'


@pytest.mark.parametrize("port", ["0", "65536", "many"])
def test_a_port_is_checked(port, capsys):
    assert main(["playground", "--port", port]) == 2
    assert "a port from 1 to 65535" in capsys.readouterr().err
