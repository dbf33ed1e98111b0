"""What stands in place of a single hidden token: BERT's 80/10/10."""

from __future__ import annotations

from torch import Tensor

from ..checks import FLAGS, REAL, WHOLE, number, same_shape, tensor, whole_number
from ..errors import InputError


def replace_tokens(
    tokens: Tensor,
    mask: Tensor,
    noise: Tensor,
    *,
    mask_id: int,
    replacements: Tensor,
    mask_share: float = 0.8,
    random_share: float = 0.1,
) -> Tensor:
    """The input of masked LM: hidden tokens become [MASK], a random token, or stay, in the given shares.

    One uniform draw for each token is cut into three: below `mask_share` it becomes `mask_id`, in the next
    `random_share` a random id from `replacements`, above both it stays. Exactly a partition: two independent
    draws, one for "mask?" and one for "random?", would give 80/10/10 as 81/9/10. Where the draw lies within
    its part says which random id, so one draw is enough. A random id may equal the original, so that
    random_share / len(replacements) more than the rest is seen unchanged. Outside `mask` nothing changes.

        tokens    the  cat  sat   on  the  mat
        mask        .    x    .    x    x    .
        noise       .  0.3    . 0.85 0.95    .
        result    the  [M]  sat  dog  the  mat
        paid        .  cat    .   on  the    .

    Shapes: tokens (..., T) integer, mask (..., T) bool, noise (..., T) in [0, 1), replacements (N,) ids that are
    text and not special; the result is a new tensor (..., T).

    >>> tokens, noise = torch.tensor([5, 6, 7, 8, 5, 9]), torch.tensor([0.1, 0.3, 0.1, 0.85, 0.95, 0.1])
    >>> mask = torch.tensor([False, True, False, True, True, False])
    >>> replace_tokens(tokens, mask, noise, mask_id=2, replacements=torch.arange(5, 15))
    tensor([ 5,  2,  7, 10,  5,  9])

    Raises `InputError` for shapes and types that do not fit, shares that are none, and no replacements.
    Source: Devlin et al. 2018 (BERT), section 3.1 and appendix A.1.
    """
    check_shares(mask_share, random_share)
    tensor(tokens, "tokens", "(..., T)", WHOLE)
    same_shape(
        tokens=tokens, mask=tensor(mask, "mask", "(..., T)", FLAGS), noise=tensor(noise, "noise", "(..., T)", REAL)
    )
    mask_id = whole_number(mask_id, "mask_id")
    if random_share > 0 and not len(tensor(replacements, "replacements", "(N)", WHOLE)):
        raise InputError("no id may stand in the place of another: expected replacements, the ids that are text")
    masked = mask & (noise < mask_share)
    random = mask & ~masked & (noise < mask_share + random_share)
    result = tokens.masked_fill(masked, mask_id)
    if random_share > 0:
        within = (noise[random] - mask_share) / random_share  # uniform in [0, 1) again
        drawn = (within * len(replacements)).long().clamp(0, len(replacements) - 1)
        result.masked_scatter_(random, replacements.to(tokens)[drawn])
    return result


def check_shares(mask_share: float, random_share: float) -> None:
    """Raises `InputError` for shares that do not leave a share."""
    shares = number(mask_share, "mask_share"), number(random_share, "random_share")
    if not (min(shares) >= 0 and max(shares) >= 0 and sum(shares) <= 1 + 1e-9):  # a NaN is none of these
        raise InputError(
            f"mask_share {mask_share} and random_share {random_share} must not be negative and sum to at most 1: the "
            "rest is the share that stays unchanged"
        )
