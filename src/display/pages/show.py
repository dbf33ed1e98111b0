"""What objectives hide, read and predict, as a page that answers to hand and keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...checks import check_int, check_type
from ...data import Mixture, Packed, Tokenizer
from ...errors import InputError
from ...escape import escape_control_characters, shorten
from ...evaluation.heldout_batches import heldout_batches
from ...objectives import Objective
from ..tokens import cuts_words
from .cards import Card, Rates, page_data
from .page import framed, rendered

RATES = (0.15, 0.3, 0.5, 0.8)
SMALLER = "give fewer objectives, seeds, epochs or rates, or a smaller length"


def show_page(
    objectives: Sequence[Objective],
    tokenizer: Tokenizer,
    text: str,
    *,
    seeds: Sequence[int] = range(4),
    epochs: Sequence[int] = range(3),
    rates: Sequence[float] = RATES,
    length: int = 128,
    embed: bool = False,
) -> str:
    """One HTML page of what each objective makes of a text: the whole file, which loads nothing from elsewhere.

    Point at a target, or move to it with Tab and the arrow keys: the inputs that its output reads light up, and a
    sentence says what it reads, its weight, and why it is in the loss. `seeds` and `epochs` of the noise can be stepped
    through, and for an objective with a rate (`mask_rate`, `noise_density`, ...) its own value and `rates`; all batches
    are in the page, as the objective's own collator makes them. Of a longer text the first `length` tokens are shown.

    With `embed` it is one element, an `<iframe>` with the page inside, to be put into another page: it takes that one's
    width, and its light or dark paper, and is as high as it needs to be.

    >>> from clozelab import CausalLM, MaskedLM
    >>> from clozelab.display import show_page, word_tokenizer
    >>> text = "the cat sat on the mat"
    >>> page = show_page([CausalLM(), MaskedLM()], word_tokenizer(text), text)
    >>> page.startswith("<!doctype html>"), len(page) < 100_000
    (True, True)

    Raises `InputError` for a text without tokens, a vocabulary that lacks a role of an objective, and a page of more
    than 4 MB.
    """
    data = show_data(objectives, tokenizer, text, seeds=seeds, epochs=epochs, rates=rates, length=length)
    names = [one["name"] for one in data["objectives"]]
    line = shorten(escape_control_characters(text), 200)
    title = f"{', '.join(names) if len(names) < 4 else f'{len(names)} objectives'}: hide, read, predict"
    page = rendered("show.html", SMALLER, title=title, text=line, data=data, embedded=embed)
    return framed(page, title) if embed else page


def show_data(
    objectives: Sequence[Objective],
    tokenizer: Tokenizer,
    text: str,
    *,
    seeds: Sequence[int],
    epochs: Sequence[int],
    rates: Sequence[float],
    length: int,
) -> dict[str, Any]:
    """The data of the page, as `clozelab.display.pages.cards` describes it."""
    check_type(objectives, Sequence, "the objectives", "put one in a list")
    check_type(tokenizer, Tokenizer, "the tokenizer")
    if not objectives or not seeds or not epochs:
        raise InputError("expected at least one objective, one seed and one epoch to show")
    ids = tokenizer.encode(text)
    if not ids:
        raise InputError("the text is empty: nothing can be hidden in it")
    shown = ids[: check_int(length, "length", 1)]
    tokens, spaces = torch.tensor([shown]), cuts_words(tokenizer, shown)
    cards, described, refused = [], [], {}
    for objective in objectives:
        card = Card(check_type(objective, Objective, "the objective"), tokenizer, shown)
        variants = Rates.of(objective, rates)
        at = [[[0] * len(variants.objectives) for _ in epochs] for _ in seeds]
        for r, variant in enumerate(variants.objectives):
            for s, seed in enumerate(seeds):
                collator = variant.collator(tokenizer.special, seed=seed)
                for e, epoch in enumerate(epochs):
                    at[s][e][r] = card.add(collator.block(tokens, [0], epoch=epoch), variant)
        described.append(card.described(at, variants, spaces=spaces))
        cards.append(card)
        refused |= {f"{objective.name}, {value}": why for value, why in variants.refused.items()}
    return page_data(
        cards,
        described,
        spaces,
        seeds=[*seeds],
        epochs=[*epochs],
        tokens=len(ids),
        refused=[f"{value}: {why}" for value, why in refused.items()],
    )


def heldout_data(
    objectives: Sequence[Objective],
    tokenizer: Tokenizer,
    heldout: Packed | Mixture,
    length: int,
    *,
    seed: int,
    within_documents: bool = False,
) -> dict[str, Any]:
    """The same of the first held-out example that each objective is evaluated on, of `length` input tokens.

    Of a mixture it is one of the first corpus.
    """
    cards, described = [], []
    for objective in objectives:
        collator = objective.collator(tokenizer.special, seed=seed, within_documents=within_documents)
        [(blocks, [batch, *_]), *_] = heldout_batches(heldout, collator, objective.source_length(length), rows=1).parts
        card = Card(objective, tokenizer, blocks.take([0])[0].tolist())
        at = [[[card.add({key: value[:1] for key, value in batch.items()})]]]
        described.append(card.described(at, Rates("", [], [objective], 0), spaces=cuts_words(tokenizer, card.text)))
        cards.append(card)
    spaces = any(cuts_words(tokenizer, card.text) for card in cards)
    return page_data(cards, described, spaces, seeds=[seed], epochs=["held out"], tokens=None, refused=[])
