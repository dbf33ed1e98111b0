"""Who attends to whom and what is in the loss, as a matrix with the words beside it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data import IGNORED, Tokenizer
from ..errors import InputError
from ..objectives import Objective
from .tokens import token_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_attention(
    axes: Axes,
    objective: Objective,
    model: nn.Module | None,
    batch: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    *,
    row: int = 0,
) -> Axes:
    """A row of a batch: cell (t, s) is coloured where output t attends to input s, strongly if t is in the loss.

    The cells are the model's `attention_matrix`, or the objective's own `reads` where `model` is None. Left of each row
    stands the token that is read at that position; right of it, in bold, the token that must be predicted there. For an
    encoder-decoder, the encoder's rows stand above a line and the decoder's below it.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> from clozelab import CausalLM
    >>> from clozelab.display import draw_attention, word_tokenizer
    >>> objective, tokenizer = CausalLM(), word_tokenizer("the cat sat")
    >>> batch = objective.collator(tokenizer.special).block(torch.tensor([tokenizer.encode("the cat sat")]), [0])
    >>> draw_attention(Figure().subplots(), objective, None, batch, tokenizer).get_title()
    'causal (GPT): 2 of 3 outputs are in the loss'

    Raises `InputError` for a model without an `attention_matrix`.
    """
    if "input_ids" not in batch:
        raise InputError(f"expected a batch with input_ids, got {', '.join(batch) or 'an empty one'}")
    one = {key: value[row : row + 1] for key, value in batch.items() if isinstance(value, Tensor)}
    encoder = one["input_ids"][0].tolist() if "decoder_input_ids" in one else []
    ids = encoder + one["decoder_input_ids" if encoder else "input_ids"][0].tolist()
    cells = _reads(objective, one) if model is None else _attention(model, one)  # (T, T) bool
    answers = {}  # by row of the picture
    for target in objective.targets(one).values():
        labels = enumerate(target.labels[0].tolist(), start=len(encoder))
        answers |= {t: label for t, label in labels if label != IGNORED}
    paint = torch.tensor([int(objective.colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    strength = torch.tensor([1.0 if t in answers else 0.25 for t in range(len(ids))])[:, None]
    shade = (cells * strength)[..., None]  # (T, T, 1): 0 is white, 1 is the colour
    words = token_texts(tokenizer, ids)
    axes.imshow((1 - shade * (1 - paint)).numpy())
    axes.set_xticks(range(len(ids)), words, rotation=90, fontsize=8, parse_math=False)  # a $ is a $
    axes.set_yticks(range(len(ids)), words, fontsize=8, parse_math=False)
    for t, word in zip(answers, token_texts(tokenizer, answers.values())):
        axes.text(
            len(ids) - 0.3, t, word, color=objective.colour, va="center", fontsize=8, weight="bold", parse_math=False
        )
    if encoder:
        axes.axhline(len(encoder) - 0.5, color="black", linewidth=1)
        axes.axvline(len(encoder) - 0.5, color="black", linewidth=1)
    outputs = len(ids) - len(encoder)
    title = f"{objective.name} ({objective.canonical}): {len(answers)} of {outputs} outputs are in the loss"
    axes.set_title(title, fontsize=10)
    return axes


def _attention(model: nn.Module, one: Mapping[str, Tensor]) -> Tensor:
    """(T, T) bool of a batch of one row: what each layer of the model attends to."""
    matrix_of = getattr(model, "attention_matrix", None)
    if matrix_of is None:
        raise InputError(
            f"{type(model).__name__} has no attention_matrix to draw: give None for what the objective declares"
        )
    asks = inspect.signature(matrix_of).parameters  # positions and the like move no cell
    matrix = matrix_of(**{key: value for key, value in one.items() if key in asks})
    if isinstance(matrix, dict):
        return _stacked(*(matrix[name][0] for name in ("encoder", "cross", "decoder")))
    return matrix[0]


def _reads(objective: Objective, one: Mapping[str, Tensor]) -> Tensor:
    """(T, T) bool of a batch of one row: which inputs may move the first output; an encoder has no outputs."""
    first = next(iter(objective.targets(dict(one))))
    by_input = {key: reads[0] for (output, key), reads in objective.reads(dict(one)).items() if output == first}
    if "decoder_input_ids" not in by_input:
        return by_input["input_ids"]
    cross = by_input["input_ids"]
    nothing = torch.zeros(cross.shape[1], cross.shape[1], dtype=torch.bool)
    return _stacked(nothing, cross, by_input["decoder_input_ids"])


def _stacked(encoder: Tensor, cross: Tensor, decoder: Tensor) -> Tensor:
    """One matrix over both texts; the encoder does not read the decoder's."""
    nothing = torch.zeros(len(encoder), len(decoder), dtype=torch.bool)
    return torch.cat((torch.cat((encoder, nothing), 1), torch.cat((cross, decoder), 1)))
