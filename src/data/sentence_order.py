"""Orders of a text: sentences in a random order, and a text that begins at a random token.

An order (B, T) says for each place of a row which token stands there. A fixed token stays where it is, and nothing
moves past it: an end of text keeps documents apart.

Source: Lewis et al. 2020 (BART), section 2.2, sentence permutation and document rotation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import FLAGS, REAL, check_same_shape, check_tensor


def permuted_sentences(fixed: Tensor, ends_sentence: Tensor, noise: Tensor) -> Tensor:
    """The order (B, T) in which the sentences between fixed tokens stand by the noise (B, T) at their first tokens.

    A sentence goes up to a token that ends one, to the next fixed token, or to the end of the row.

    >>> import torch
    >>> from clozelab.data.sentence_order import permuted_sentences
    >>> ends = torch.tensor([[False, True, False, False, True, False]])  # three sentences, the last without an end
    >>> noise = torch.tensor([[0.8, 0.0, 0.3, 0.0, 0.0, 0.1]])
    >>> permuted_sentences(torch.zeros_like(ends), ends, noise)
    tensor([[5, 2, 3, 4, 0, 1]])

    Raises `InputError` for shapes and types that do not fit.
    """
    check_same_shape(fixed=_flags(fixed, "fixed"), ends_sentence=_flags(ends_sentence, "ends_sentence"), noise=noise)
    begins = fixed.clone()
    begins[:, 1:] |= fixed[:, :-1] | ends_sentence[:, :-1]
    key = check_tensor(noise, "noise", "(B, T)", REAL).gather(1, _last_true(begins))
    order = key.argsort(dim=1, stable=True)
    return order.gather(1, _stretch(fixed).gather(1, order).argsort(dim=1, stable=True))


def rotated(fixed: Tensor, noise: Tensor) -> Tensor:
    """The order (B, T) in which each stretch between fixed tokens begins at a random one of its tokens.

    The noise (B, T) at the first token of a stretch says which.

    >>> import torch
    >>> from clozelab.data.sentence_order import rotated
    >>> rotated(torch.tensor([[False, False, False, True, False]]), torch.tensor([[0.7, 0.0, 0.0, 0.0, 0.0]]))
    tensor([[2, 0, 1, 3, 4]])

    Raises `InputError` for shapes and types that do not fit.
    """
    check_same_shape(fixed=_flags(fixed, "fixed"), noise=check_tensor(noise, "noise", "(B, T)", REAL))
    stretch, places = _stretch(fixed), torch.arange(fixed.shape[1]).expand_as(fixed)
    begins = torch.ones_like(fixed)
    begins[:, 1:] = stretch[:, 1:] != stretch[:, :-1]
    first = _last_true(begins)
    sizes = torch.zeros(len(fixed), 2 * fixed.shape[1] + 1, dtype=torch.int64)
    size = sizes.scatter_add_(1, stretch, torch.ones_like(stretch)).gather(1, stretch)
    by = (noise.gather(1, first) * size).long()
    return first + (places - first + by) % size


def _flags(flags: Tensor, name: str) -> Tensor:
    return check_tensor(flags, name, "(B, T)", FLAGS)


def _stretch(fixed: Tensor) -> Tensor:
    """(B, T) ascending: the number of the stretch of a token; each fixed token is one by itself."""
    return 2 * fixed.cumsum(1) - fixed.long()


def _last_true(begins: Tensor) -> Tensor:
    """(B, T): the column of the last True up to each, 0 where there is none."""
    return torch.arange(begins.shape[1]).masked_fill(~begins, 0).cummax(1).values
