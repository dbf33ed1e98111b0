"""Who reads whom and which positions pay, as a matrix with the words beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data import IGNORED, Tokenizer
from ..errors import InputError
from ..models import DecoderOnly, EncoderDecoder, EncoderOnly
from ..objectives import Objective
from .curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_visibility(
    axes: Axes,
    objective: Objective,
    model: DecoderOnly | EncoderOnly | EncoderDecoder,
    batch: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    *,
    row: int = 0,
) -> Axes:
    """A row of a batch as the model gets it: a cell is coloured where output t may read input s, strongly if t pays.

    Left of each row stands what is read at that place, right of it, in bold, what must be said there, if that is paid.
    An encoder-decoder has two texts: above the line the encoder's rows, below it the decoder's, which read both.

    >>> from matplotlib.figure import Figure
    >>> from clozelab.display import word_tokenizer
    >>> from clozelab.objectives import CausalLM
    >>> objective, tokenizer = CausalLM(), word_tokenizer("the cat sat")
    >>> batch = objective.collator(tokenizer.special).block(torch.tensor([tokenizer.encode("the cat sat")]), [0])
    >>> model = objective.build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
    >>> draw_visibility(Figure().subplots(), objective, model, batch, tokenizer).get_title()
    'causal (GPT): 2 of 3 positions pay'

    Raises `InputError` for a model that does not say who may read whom.
    """
    if not isinstance(model, (DecoderOnly, EncoderOnly, EncoderDecoder)):
        raise InputError(f"expected a model of ours, which has a visibility, got {type(model).__name__}")
    one = {key: value[row : row + 1] for key, value in batch.items() if isinstance(value, Tensor)}
    readable: Any = model.visibility(**{key: value for key, value in one.items() if key != "labels"})
    read, first = one["input_ids"][0].tolist(), 0  # tokens of the rows and columns, and where outputs begin
    if isinstance(readable, dict):
        encoder, decoder, cross = (readable[name][0] for name in ("encoder", "decoder", "cross"))
        nothing = torch.zeros(len(encoder), len(decoder), dtype=torch.bool)  # an encoder does not read the decoder
        readable = torch.cat((torch.cat((encoder, nothing), 1), torch.cat((cross, decoder), 1)))[None]
        first, read = len(read), read + one["decoder_input_ids"][0].tolist()
    places, labels = objective.align(torch.arange(one["labels"].shape[1])[None] + first, one["labels"])
    said = {t: label for t, label in zip(places[0].tolist(), labels[0].tolist()) if label != IGNORED}

    def words(ids: Sequence[int]) -> list[str]:
        return [piece.strip().replace("extra_id_", "") for piece in tokenizer.pieces(ids)]

    colour = COLOURS.get(objective.name, "#000000")
    paint = torch.tensor([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    strength = torch.tensor([1.0 if t in said else 0.25 for t in range(len(read))])[:, None]
    shade = (readable[0] * strength)[..., None]  # (T, S, 1): 0 is white, 1 is the colour
    axes.imshow((1 - shade * (1 - paint)).numpy())
    axes.set_xticks(range(len(read)), words(read), rotation=90, fontsize=8)
    axes.set_yticks(range(len(read)), words(read), fontsize=8)
    for t, word in zip(said, words(list(said.values()))):
        axes.text(len(read) - 0.3, t, word, color=colour, va="center", fontsize=8, weight="bold")
    if first:
        axes.axhline(first - 0.5, color="black", linewidth=1)
        axes.axvline(first - 0.5, color="black", linewidth=1)
    axes.set_title(f"{objective.name} ({objective.canonical}): {len(said)} of {len(read)} positions pay", fontsize=10)
    return axes
