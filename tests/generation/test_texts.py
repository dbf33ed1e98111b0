"""From text to text: what stays as it was, what a model generated, and how each blank reaches its model."""

import pytest
import torch

from clozelab.data import train_bpe, train_characters
from clozelab.errors import InputError
from clozelab.generation import BLANK, Completion, encode_blanks, fill_span_text
from clozelab.models import build
from clozelab.objectives import OBJECTIVES

TEXT = "The cat sat on the mat, and the dog sat on the cat."


@pytest.fixture(scope="module")
def model_of(tokenizer):
    """A model of each architecture with random weights, so that it generates something."""

    def made(architecture: str) -> torch.nn.Module:
        model = build(architecture, "tiny", tokenizer.special.vocab_size, d_model=32, n_layers=1, n_heads=2)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(std=0.3, generator=generator)
        return model

    return {name: made(name) for name in ("decoder-only", "encoder-only", "encoder-decoder")}


CAN = {
    task: [name for name, objective in OBJECTIVES.items() if task in objective.completes]
    for task in ("continue", "fill")
}


@pytest.mark.parametrize("name", CAN["continue"])
def test_a_text_is_continued_and_the_text_itself_stays(model_of, tokenizer, name):
    objective = OBJECTIVES[name]()
    completion = objective.complete(model_of[objective.architecture], tokenizer, TEXT, max_new_tokens=5)
    (text, by_model), (more, too) = completion.parts
    assert (text, by_model, too) == (TEXT, False, True)
    assert more
    assert str(completion) == text + more


@pytest.mark.parametrize("name", CAN["continue"])
def test_an_empty_text_is_begun(model_of, tokenizer, name):
    objective = OBJECTIVES[name]()
    completion = objective.complete(model_of[objective.architecture], tokenizer, "", max_new_tokens=5)
    assert all(by_model for _, by_model in completion.parts)


@pytest.mark.parametrize("name", CAN["fill"])
def test_a_blank_is_filled_and_its_surroundings_stay(model_of, tokenizer, name):
    objective = OBJECTIVES[name]()
    completion = objective.complete(model_of[objective.architecture], tokenizer, f"The cat {BLANK} on the mat.")
    assert "".join(text for text, by_model in completion.parts if not by_model) == "The cat on the mat."
    assert [by_model for _, by_model in completion.parts] in ([False, True, False], [False])  # a span may be empty


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_sample_is_drawn_from_the_generator_alone(model_of, tokenizer, name):
    objective = OBJECTIVES[name]()
    model, before = model_of[objective.architecture], torch.get_rng_state()

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return objective.sample(model, tokenizer, TEXT, generator=generator, temperature=30.0)

    first = drawn(0)
    assert drawn(0) == first
    # A span is empty until its sentinel comes up, one id of some four hundred: a few seeds alone may draw none.
    assert any(str(drawn(seed)) != str(first) for seed in range(1, 30))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_special_is_generated(model_of, tokenizer, name):
    """No pad, mask, sentinel or role in the text, at any temperature."""
    objective = OBJECTIVES[name]()
    text = str(objective.sample(model_of[objective.architecture], tokenizer, TEXT, temperature=30.0))
    assert not any(special in text for special in ("<pad>", "<mask>", "[MASK]", "<extra_id", "fim_", "span_end"))


def test_a_middle_ends_where_its_model_ends_it(model_of, tokenizer):
    """The prompt of fill-in-the-middle is prefix, suffix, middle; what comes back stands between."""
    special, seen = tokenizer.special, []
    model = model_of["decoder-only"]
    handle = model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    OBJECTIVES["fim"]().complete(model, tokenizer, f"The cat {BLANK} on the mat.", max_new_tokens=3)
    handle.remove()
    before, after = tokenizer.encode("The cat"), tokenizer.encode(" on the mat.")
    prompt = [special["fim_prefix"], *before, special["fim_suffix"], *after, special["fim_middle"]]
    assert seen[0].tolist() == [prompt]


def test_each_span_stands_where_its_sentinel_stood(model_of, tokenizer, monkeypatch):
    """Whatever order the model generates them in; of two answers the first counts, and a blank may stay empty."""
    special = tokenizer.special
    first, second, third = special.sentinels[:3]
    dog, cat = tokenizer.encode(" dog"), tokenizer.encode(" cat")
    targets = torch.tensor([[second, *dog, first, *cat, second, *cat, third, special.eos, *dog]])
    monkeypatch.setattr("clozelab.generation.texts.fill_spans", lambda *_, **__: targets)
    text = f"The {BLANK} saw the {BLANK} sit{BLANK}."
    completion = OBJECTIVES["span"]().complete(model_of["encoder-decoder"], tokenizer, text)
    assert completion.marked() == "The[ cat] saw the[ dog] sit."


def test_a_text_with_several_middles_is_refused(model_of, tokenizer):
    with pytest.raises(InputError, match="expected one blank ___, got 2"):
        OBJECTIVES["fim"]().complete(model_of["decoder-only"], tokenizer, f"{BLANK} cat {BLANK}")


@pytest.mark.parametrize("name", [name for name in CAN["fill"] if name not in CAN["continue"]])
def test_a_text_without_blanks_is_refused_where_it_cannot_be_continued(model_of, tokenizer, name):
    objective = OBJECTIVES[name]()
    with pytest.raises(InputError, match="expected a text with blanks written ___"):
        objective.complete(model_of[objective.architecture], tokenizer, TEXT)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_model_of_another_architecture_is_refused(model_of, tokenizer, name):
    objective = OBJECTIVES[name]()
    wrong = next(architecture for architecture in model_of if architecture != objective.architecture)
    with pytest.raises(InputError, match="was it trained by this objective"):
        objective.sample(model_of[wrong], tokenizer, TEXT)


# ------------------------------------------------------------------ texts with blanks


def test_blanks_become_ids_in_order_and_the_space_before_them_is_left_out(tokenizer):
    ids = encode_blanks(tokenizer, f"The cat {BLANK} on {BLANK}.", [7, 8])
    assert ids == [*tokenizer.encode("The cat"), 7, *tokenizer.encode(" on"), 8, *tokenizer.encode(".")]


def test_a_space_before_a_blank_stays_where_the_vocabulary_has_a_token_for_it():
    """A vocabulary of words with their spaces brings it with the answer; one of characters lost the user's."""
    words = train_bpe([TEXT] * 4, vocab_size=340, sentinels=2)
    characters = train_characters([TEXT], sentinels=2)
    for tokenizer, kept in ((words, "The cat"), (characters, "The cat ")):
        blank = tokenizer.special.sentinels[0]
        ids = encode_blanks(tokenizer, f"The cat {BLANK} down.", [blank])
        assert tokenizer.decode(ids[: ids.index(blank)]) == kept


def test_more_blanks_than_ids_are_refused(tokenizer):
    with pytest.raises(InputError, match="the text has 2 blanks, but only 1 ids"):
        encode_blanks(tokenizer, f"{BLANK} cat {BLANK}", [7])


def test_neighbours_of_one_origin_are_decoded_together(tokenizer):
    ids = tokenizer.encode("The cat sat")
    completion = Completion.of(tokenizer, [*ids, *ids], [False] * len(ids) + [True] * len(ids))
    assert completion.parts == (("The cat sat", False), ("The cat sat", True))
    assert completion.marked("<", ">") == "The cat sat<The cat sat>"


@pytest.mark.parametrize(
    "before", [torch.zeros(1, 8), torch.tensor(3), "x", 3, [1.5], [-1], [10**30], [10**6]], ids=repr
)
def test_what_is_no_list_of_ids_before_a_text_is_refused(model_of, tokenizer, before):
    for form in ({}, {"decoder_only": True}):
        model = model_of["decoder-only" if form else "encoder-decoder"]
        with pytest.raises(InputError, match=r"before|must lie in"):
            fill_span_text(model, tokenizer, f"a {BLANK}", before=before, **form)
    with pytest.raises(InputError, match="expected decoder_only as bool"):
        fill_span_text(model_of["encoder-decoder"], tokenizer, f"a {BLANK}", decoder_only=torch.zeros(3))
