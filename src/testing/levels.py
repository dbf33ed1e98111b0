"""Whether the sets of tokens that a weighted loss hides make it a bound of -ln p(text)."""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor

from .report import FAULT, OK, SURE, Finding, percent

LEAST_SHARE = 1.5e-3
"""More than the share of tokens that the papers' form hides at least (1e-3), which moves each weight by as much."""


def weighted_sets(hidden: Tensor, mass: Tensor) -> Finding:
    """Hidden tokens (B, n) bool of B rows, and each row's sum of weights over its hidden tokens, divided by n, (B,).

    The mean over all orders in which a text is filled in bounds -ln p(text). In it the set S of hidden tokens has the
    weight E[mass; the hidden set is S] = 1 / (n C(n, |S|)), whatever the model is.

    Source: Nie et al. 2025 (LLaDA), its likelihood with an exact count of masks; Uria et al. 2014, "A deep and
    tractable density estimator".
    """
    rows, n = hidden.shape
    wrong = []
    for k in range(1, n + 1):
        for subset in combinations(range(n), k):
            here = (hidden == torch.tensor([t in subset for t in range(n)])).all(1)
            share, wanted = mass * here, 1 / (n * math.comb(n, k))
            error = max(float(share.std()), 0.1 * wanted**0.5) / rows**0.5
            if abs(float(share.mean()) - wanted) > SURE * error + LEAST_SHARE:
                wrong.append((subset, float(share.mean()), wanted))
    if not wrong:
        return Finding(OK, f"every set of hidden tokens has the weight that a bound needs, in {rows} draws")
    subset, found, wanted = max(wrong, key=lambda one: abs(one[1] - one[2]))
    counts = ", ".join(f"{k}: {percent(float((hidden.sum(1) == k).double().mean()))}" for k in range(n + 1))
    return Finding(
        FAULT,
        f"hiding the tokens {list(subset)} of {n} has a weight of {found:.4f}, a bound needs {wanted:.4f} (and so for "
        f"{len(wrong)} of {2**n - 1} sets)",
        f"hidden tokens and their share of the rows: {counts}",
        "the weighted sum bounds -ln p only where every number of hidden tokens counts as much, and every choice of "
        "them is as probable: draw the level uniformly, and the choice from another stream",
    )
