"""Which tokens are hidden: pure functions from (what may be masked, noise) to a boolean mask, True = hidden.

No function hides a position that is not maskable, and each hides at least one position of a row that has any: a row
without a target would cost compute and teach nothing. A user's scheme draws its own noise:

    scheme(tokens, maskable, generator) -> bool[T]

and gets data of the example by the names of further parameters:

    scheme(tokens, maskable, generator, entity_ids) -> bool[T]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import FLAGS, REAL, WHOLE, check_same_shape, check_tensor
from ..errors import InputError
from .examples import Examples

MaskScheme = Callable[..., Tensor]
"""A scheme of your own: (tokens (T,), maskable (T,), generator) to a boolean mask (T,).

A further parameter without a default gets the example's value of that name: `word_ids` and `document_ids` (T,) as the
collator knows them, any other from the example itself."""

KNOWN_TO_COLLATOR = frozenset({"word_ids", "document_ids"})
"""Data of a scheme that needs no key of the example."""


def scheme_keys(scheme: MaskScheme) -> tuple[str, ...]:
    """The names of the data that a scheme asks for: its parameters behind the third, without a default.

    >>> from clozelab.data import scheme_keys
    >>> scheme_keys(lambda tokens, maskable, generator, entity_ids, rate=0.15: entity_ids > 0)
    ('entity_ids',)
    """
    try:
        parameters = list(inspect.signature(scheme).parameters.values())[3:]
    except (TypeError, ValueError):  # of a function without a signature, as some of C have
        return ()
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return tuple(one.name for one in parameters if one.kind in plain and one.default is inspect.Parameter.empty)


def scheme_mask(scheme: MaskScheme, examples: Examples, maskable: Tensor, stream: int) -> Tensor:
    """The mask (B, T) of a user's scheme, example by example, checked.

    A scheme sees one example without its padding: (tokens (n,), maskable (n,), generator), and the data that it names.
    It is not called for an example in which nothing is maskable. Raises `InputError` for a mask of another type or
    shape, or of what is not maskable.
    """
    check_same_shape(tokens=examples.tokens, maskable=check_tensor(maskable, "maskable", "(B, T)", FLAGS))
    mask = torch.zeros_like(maskable)
    data = {key: _data_of(examples, key) for key in scheme_keys(scheme)}
    for b, generator in enumerate(examples.noise.generators(stream)):
        here = examples.is_token[b]
        free = maskable[b, here]
        if bool(free.any()):
            own = {key: values[b].clone() for key, values in data.items()}
            drawn = scheme(examples.tokens[b, here], free.clone(), generator, **own)  # copies: ours stay as they are
            mask[b, here] = _checked_mask(drawn, free, getattr(scheme, "__name__", type(scheme).__name__))
    return mask


def _data_of(examples: Examples, key: str) -> list[Tensor]:
    """What a scheme asks for, of each example."""
    if key in examples.extra:
        return examples.extra[key]
    if key == "word_ids":
        per_token = examples.words()
    elif key == "document_ids" and examples.document_ids is not None:
        per_token = examples.document_ids
    else:
        raise InputError(
            f"the scheme asks for {key!r}, which the examples do not have"
            + (": build the collator with within_documents=True" if key == "document_ids" else "")
        )
    return [row[here] for row, here in zip(per_token, examples.is_token)]


def _checked_mask(mask: Any, maskable: Tensor, name: str) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != maskable.shape:
        came = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"the scheme {name} must return a boolean tensor of shape {tuple(maskable.shape)}, True where a token "
            f"is hidden, but returned {came}"
        )
    if (mask & ~maskable).any():
        at = (mask & ~maskable).nonzero()[:, -1].tolist()
        raise InputError(
            f"the scheme {name} hides the protected positions {at[:5]}: special tokens and padding are not "
            "maskable; return mask & maskable"
        )
    return mask


# --------------------------------------------------------------------------- independent tokens


def bernoulli_mask(maskable: Tensor, noise: Tensor, rate: float) -> Tensor:
    """Hide each maskable token with probability `rate`, independently; at least one in a row.

    Independent draws leave a row of n maskable tokens without any target with probability (1 - rate)^n: 27%
    at n = 8. So the token with the smallest noise is always hidden. It would be the first to be hidden if
    the rate were raised, and where any token is hidden it already is. A token's chance is thereby
    rate + (1 - rate)^n / n instead of `rate`: 0.184 for 0.15 at n = 8, 0.1500005 at n = 64.

    Shapes: maskable (..., T) bool and noise (..., T) in [0, 1) to (..., T) bool.

    >>> import torch
    >>> from clozelab.data import bernoulli_mask
    >>> noise = torch.tensor([0.9, 0.1, 0.5, 0.0])
    >>> bernoulli_mask(torch.tensor([True, True, True, False]), noise, rate=0.15)
    tensor([False,  True, False, False])
    >>> bernoulli_mask(torch.tensor([True, False, True, False]), noise, rate=0.15)  # none below 0.15
    tensor([False, False,  True, False])

    Raises `InputError` for shapes and types that do not fit and a rate outside (0, 1].
    Source: Devlin et al. 2018 (BERT), section 3.1, in the form that Hugging Face uses, plus the minimum.
    """
    check_rate("rate", rate)
    check_noise(maskable, noise)
    if maskable.shape[-1] == 0:
        return torch.zeros_like(maskable)
    smallest = noise.masked_fill(~maskable, 2.0).amin(-1, keepdim=True)
    return maskable & ((noise < rate) | (noise == smallest))


def exact_count_mask(maskable: Tensor, noise: Tensor, rate: float) -> Tensor:
    """Hide max(1, round(rate * n)) of a row's n maskable tokens, every choice equally likely.

    The tokens with the smallest noise are the hidden ones. `round` is half to even, as in Python. Google's
    BERT counts [CLS] and [SEP] in n although it never hides them; here n counts what may be hidden.

    Shapes: maskable (..., T) bool and noise (..., T) to (..., T) bool.

    >>> import torch
    >>> from clozelab.data import exact_count_mask
    >>> noise = torch.tensor([0.9, 0.1, 0.5, 0.0])
    >>> exact_count_mask(torch.tensor([True, True, True, False]), noise, rate=0.6)  # round(1.8) = 2
    tensor([False,  True,  True, False])

    Raises `InputError` for shapes and types that do not fit and a rate outside (0, 1].
    Source: `create_masked_lm_predictions` of Google's BERT.
    """
    check_rate("rate", rate)
    check_noise(maskable, noise)
    counts = hidden_count(maskable.sum(-1), rate)  # (...)
    most = int(counts.max()) if counts.numel() else 0
    in_order = bool((counts != most).any())  # where all rows hide as many, which of them comes first is all one
    smallest = noise.masked_fill(~maskable, 2.0).topk(most, largest=False, sorted=in_order).indices  # (..., most)
    chosen = torch.arange(most, device=maskable.device) < counts[..., None]
    return torch.zeros_like(maskable).scatter(-1, smallest, chosen)


def hidden_count(n: Tensor, rate: float) -> Tensor:
    """How many of n maskable tokens (...) an exact count hides: max(1, round(rate * n)) as in Python, and 0 of 0."""
    return (n.double() * rate).round().long().clamp(min=1).minimum(n)


# --------------------------------------------------------------------------- whole words


def whole_word_mask(maskable: Tensor, noise: Tensor, rate: float, word_ids: Tensor) -> Tensor:
    """Hide whole words, drawn in random order, up to max(1, round(rate * n)) of a row's n maskable tokens.

    `word_ids` (..., T) says which word each token belongs to, as the tokenizer that split the text says it
    (`Tokenizer.word_ids`, or `word_ids()` of a Hugging Face encoding); -1 where a token belongs to none, and
    such a token is never hidden. A word is a run of one id: a new one begins where the id changes. A word that would
    overshoot the budget is passed over, as in BERT; if every word would, the first one drawn is hidden, where at least
    half of the row stays visible, and otherwise a run of the budget's length within it: a piece of half a text is no
    word (a Llama tokenizer makes one piece of a whole text, and many do of a Chinese one). A word of which any part is
    protected is left alone; a row that has no other words hides one token.

    Shapes: maskable, noise, word_ids (B, T) or (T,) to a mask of that shape.

    >>> import torch
    >>> from clozelab.data import whole_word_mask
    >>> noise = torch.tensor([0.9, 0.1, 0.5, 0.3])
    >>> whole_word_mask(torch.ones(4, dtype=torch.bool), noise, 0.5, torch.tensor([0, 0, 1, 2]))
    tensor([False, False,  True,  True])

    Raises `InputError` for shapes and types that do not fit and a rate outside (0, 1].
    Source: the whole-word option of Google's BERT (May 2019); without the rule of Hugging Face, which takes
    a word to begin where characters are missing between tokens and finds one single word in Chinese.
    """
    check_noise(maskable, noise, "(B, T)" if isinstance(maskable, Tensor) and maskable.dim() != 1 else "(T)")
    check_same_shape(maskable=maskable, word_ids=check_tensor(word_ids, "word_ids", "(..., T)", WHOLE))
    if maskable.dim() == 1:
        return whole_word_mask(maskable[None], noise[None], rate, word_ids[None])[0]
    check_rate("rate", rate)
    mask = torch.zeros_like(maskable)
    budgets = hidden_count(maskable.sum(1), rate).tolist()
    for b, budget in enumerate(budgets):
        words = [range(begin, end) for begin, end in zip(*word_runs(word_ids[b].numpy()))]
        free, draws = maskable[b].tolist(), noise[b].tolist()
        whole = [places for places in words if all(free[t] for t in places)]
        whole.sort(key=lambda places, draws=draws: draws[places[0]])  # random order
        taken: list[int] = []
        for places in whole:
            if len(taken) + len(places) <= budget:
                taken += places
        if not taken and whole:
            taken = list(whole[0])
            if 2 * len(taken) > sum(free):
                first = int(draws[taken[-1]] * (len(taken) - budget + 1))  # not the draw that chose the word
                taken = taken[first : first + budget]
        alone = sorted((t for places in words for t in places if free[t]), key=draws.__getitem__)[:1]
        mask[b, taken or alone] = True
    return mask


def word_runs(word_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first token, token behind the last) of each word of a row (T,): a run of one id, -1 belonging to none."""
    begins = np.flatnonzero(np.diff(word_ids, prepend=-1) | (word_ids < 0))
    ends = np.append(begins[1:], len(word_ids))[: len(begins)]
    is_word = word_ids[begins] >= 0
    return begins[is_word], ends[is_word]


# --------------------------------------------------------------------------- checks at the public door


def check_rate(name: str, value: float) -> None:
    """Raises `InputError` for what is no share of the tokens in (0, 1]."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0.0 < value <= 1.0:
        raise InputError(
            f"{name} must lie in (0, 1], got {value!r}: it is a share of the tokens, 0.15 where one means 15 percent"
        )


def check_noise(maskable: Tensor, noise: Tensor, shape: str = "(..., T)") -> None:
    """Raises `InputError` where maskable and noise are not bools and numbers in [0, 1) of one shape."""
    check_tensor(maskable, "maskable", shape, FLAGS)
    check_same_shape(maskable=maskable, noise=check_tensor(noise, "noise", shape, REAL))
    if not bool(((noise >= 0) & (noise < 1)).all()):
        raise InputError("noise must lie in [0, 1): it is drawn uniformly, by Noise.uniform or torch.rand")
