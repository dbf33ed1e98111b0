"""What stands in place of a single hidden token: BERT's 80/10/10."""

from __future__ import annotations

from torch import Tensor

from ..checks import FLAGS, REAL, WHOLE, check_int, check_number, check_same_shape, check_tensor
from ..errors import InputError


def replace_tokens(
    tokens: Tensor,
    mask: Tensor,
    noise: Tensor,
    *,
    mask_id: int,
    replacements: Tensor,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
) -> Tensor:
    """The input of masked LM: hidden tokens become [MASK], a random token, or stay, in the given shares.

    One uniform draw for each token is cut into three: below `mask_replace_prob` it becomes `mask_id`, in the next
    `random_replace_prob` a random id from `replacements`, above both it stays. Exactly a partition: two independent
    draws, one for "mask?" and one for "random?", would give 80/10/10 as 81/9/10. Where the draw lies within
    its part says which random id, so one draw is enough. A random id may equal the original, so that
    random_replace_prob / len(replacements) more than the rest is seen unchanged. Outside `mask` nothing changes.

        tokens    the  cat  sat   on  the  mat
        mask        .    x    .    x    x    .
        noise       .  0.3    . 0.85 0.95    .
        result    the  [M]  sat  dog  the  mat
        label       .  cat    .   on  the    .

    Shapes: tokens (..., T) integer, mask (..., T) bool, noise (..., T) in [0, 1), replacements (N,) ids that are
    text and not special; the result is a new int64 tensor (..., T).

    >>> import torch
    >>> from clozelab.data import replace_tokens
    >>> tokens, noise = torch.tensor([5, 6, 7, 8, 5, 9]), torch.tensor([0.1, 0.3, 0.1, 0.85, 0.95, 0.1])
    >>> mask = torch.tensor([False, True, False, True, True, False])
    >>> replace_tokens(tokens, mask, noise, mask_id=2, replacements=torch.arange(5, 15))
    tensor([ 5,  2,  7, 10,  5,  9])

    Raises `InputError` for shapes and types that do not fit, shares that are none, and no replacements.
    Source: Devlin et al. 2018 (BERT), section 3.1 and appendix A.1.
    """
    check_shares(mask_replace_prob, random_replace_prob)
    tokens = check_tensor(tokens, "tokens", "(..., T)", WHOLE).long()  # a narrow type may hold no mask id
    check_same_shape(
        tokens=tokens,
        mask=check_tensor(mask, "mask", "(..., T)", FLAGS),
        noise=check_tensor(noise, "noise", "(..., T)", REAL),
    )
    mask_id = check_int(mask_id, "mask_id")
    if random_replace_prob > 0 and not len(check_tensor(replacements, "replacements", "(N)", WHOLE)):
        raise InputError("no id may stand in the place of another: expected replacements, the ids that are text")
    masked = mask & (noise < mask_replace_prob)
    random = mask & ~masked & (noise < mask_replace_prob + random_replace_prob)
    result = tokens.masked_fill(masked, mask_id)
    if random_replace_prob > 0:
        within = (noise[random] - mask_replace_prob) / random_replace_prob  # uniform in [0, 1) again
        drawn = (within * len(replacements)).long().clamp(0, len(replacements) - 1)
        result.masked_scatter_(random, replacements.to(tokens)[drawn])
    return result


def check_shares(mask_replace_prob: float, random_replace_prob: float) -> None:
    """Raises `InputError` for two probabilities that are negative or sum to more than 1."""
    mask_share = check_number(mask_replace_prob, "mask_replace_prob")
    random_share = check_number(random_replace_prob, "random_replace_prob")
    if not (mask_share >= 0 and random_share >= 0 and mask_share + random_share <= 1 + 1e-9):  # a NaN is none of these
        raise InputError(
            f"mask_replace_prob {mask_replace_prob} and random_replace_prob {random_replace_prob} must not be negative "
            "and sum to at most 1: the rest is the share that stays unchanged"
        )
