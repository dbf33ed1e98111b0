"""Is this masking scheme right? A scheme is a function (tokens, maskable, generator) -> bool[T]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from ..checks import check_int, check_number
from ..data.masking import MaskScheme
from ..errors import InputError
from . import mask_statistics
from .mask_trial import MaskTrial
from .randomness import own_random_state, random_states
from .report import FAULT, NOTE, OK, Check, Finding, Report, raised, run_checks, table


def check_mask_scheme(
    scheme: MaskScheme,
    *,
    rate: float | None = None,
    length: int = 64,
    rows: int = 1000,
    vocab_size: int = 1000,
    texts: Sequence[Sequence[int]] | None = None,
    skip: Collection[str] = (),
) -> Report:
    """Check a scheme `(tokens, maskable, generator) -> bool[T]` on random tokens (T,), or on texts of your own.

    - `rate`: the share of maskable tokens that it is meant to hide; None: any;
    - `length`, `rows`: the statistics are those of `rows` texts of `length` tokens; the rest is tried on short ones;
    - `texts`: token ids of at least 2 texts, in place of random tokens, for a scheme that looks at what the tokens
      are: random ids hold no nouns and no ends of sentences;
    - `skip`: names of checks to leave out.

    A position that is hidden more often than others is a note and not a fault: T5's own scheme never hides the first
    token and always hides the last.

    >>> import torch
    >>> from clozelab.testing import CheckFailed, check_mask_scheme
    >>> def every_other(tokens, maskable, generator):
    ...     return torch.arange(len(tokens)) % 2 == 0
    >>> try:
    ...     check_mask_scheme(every_other)
    ... except CheckFailed as failed:
    ...     print(failed.report.faults)
    ...     print(failed.report.findings["protected"].example)
    ['protected', 'nothing to hide', 'varies', 'protected rate']
    tokens    642 127
    maskable    .   x
    hidden      x   .

    Returns the `Report`. Raises `CheckFailed` for a fault, `InputError` for settings that make no sense.
    """
    if rate is not None and not 0 < check_number(rate, "rate") <= 1:
        raise InputError(f"rate must lie in (0, 1], or be None for any, got {rate!r}")
    for name, value in (("length", length), ("rows", rows), ("vocab_size", vocab_size)):
        check_int(value, name)
    if length < 8 or rows < 100 or vocab_size < 2:
        raise InputError(
            f"expected length >= 8, rows >= 100 and vocab_size >= 2, got {length}, {rows} and {vocab_size}: fewer are "
            "too few for statistics"
        )
    if not callable(scheme) or isinstance(scheme, type):
        raise InputError(f"expected a scheme (tokens, maskable, generator) -> bool[T], got {scheme!r:.80}")
    own = None if texts is None else tuple(torch.as_tensor(text, dtype=torch.int64) for text in texts)
    if own is not None and (len(own) < 2 or any(text.dim() != 1 or len(text) == 0 for text in own)):
        raise InputError(f"expected at least 2 texts, each a list of token ids, got {len(own)}")
    trial = MaskTrial(scheme, rate, length, rows, vocab_size, own)
    return run_checks(getattr(scheme, "__name__", type(scheme).__name__), CHECKS, trial, skip)


def _returns(trial: MaskTrial) -> Finding:
    for length in (trial.length, 1, 2, 3, 5):
        tokens = trial.tokens(length, 0)
        length = len(tokens)
        try:
            mask = trial.ask(tokens, torch.ones(length, dtype=torch.bool), 0)
        except Exception as error:
            return Finding(
                FAULT,
                f"raises {raised(error)} for {length} tokens, all of them maskable",
                why="short texts occur in every corpus, and the loader would stop in the middle of a run",
            )
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (length,):
            came = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            return Finding(
                FAULT,
                f"for {length} tokens it returns {came}, not torch.bool ({length},)",
                why="a mask of 0s and 1s indexes instead of selecting, and a mask of another shape broadcasts",
            )
    return Finding(OK, "a boolean mask of the shape of the tokens")


def _protected(trial: MaskTrial) -> Finding:
    rows = trial.short_rows()
    if trial.texts is not None:
        rows = ((t, trial.chance(len(t), seed) < 0.7, seed) for t, _, seed in rows)
    for tokens, maskable, seed in rows:
        if not maskable.any():
            continue
        mask = trial.ask(tokens, maskable, seed)
        if bool((mask & ~maskable).any()):
            return Finding(
                FAULT,
                "hides tokens that are not maskable",
                table(tokens=tokens, maskable=maskable, hidden=mask),
                "special tokens and padding would be hidden and enter the loss; return mask & maskable",
            )
    return Finding(OK, "only maskable tokens are hidden")


def _targets(trial: MaskTrial) -> Finding:
    asked, without, smallest = Counter[int](), Counter[int](), ""
    for tokens, maskable, seed in trial.short_rows():
        if not maskable.any():
            continue
        asked[len(tokens)] += 1
        if not trial.ask(tokens, maskable, seed).any():
            without[len(tokens)] += 1
            smallest = smallest or table(tokens=tokens, maskable=maskable, hidden=torch.zeros_like(maskable))
    if smallest:
        shares = ", ".join(f"{n / asked[length]:.0%} at {length}" for length, n in without.items())
        return Finding(
            FAULT,
            f"rows with something to hide are left without a target ({shares} tokens)",
            smallest,
            "such a row costs a forward pass and teaches nothing, and a batch of them has the mean 0 / 0 = NaN",
        )
    return Finding(OK, f"each of {asked.total()} rows has a target")


def _nothing(trial: MaskTrial) -> Finding:
    for length in (0, 3):
        tokens = trial.tokens(length, 0)
        nothing = torch.zeros(len(tokens), dtype=torch.bool)
        what = f"a row of {length} tokens, none of them maskable"
        try:
            mask = trial.ask(tokens, nothing, 0)
        except Exception as error:
            return Finding(
                NOTE,
                f"raises {raised(error)} for {what}",
                why="clozelab's collator never asks for such a row, other code may",
            )
        if mask.shape != nothing.shape or bool(mask.any()):
            return Finding(FAULT, f"hides something in {what}", why="there is nothing to hide")
    return Finding(OK, "a row with nothing to hide is left alone")


def _unchanged(trial: MaskTrial) -> Finding:
    for given, maskable, seed in trial.short_rows():
        if not maskable.any():
            continue
        tokens, free = given.clone(), maskable.clone()
        trial.scheme(tokens, free, torch.Generator().manual_seed(seed))
        if not torch.equal(tokens, given) or not torch.equal(free, maskable):
            name, before, after = (
                ("maskable", maskable, free) if torch.equal(tokens, given) else ("tokens", given, tokens)
            )
            return Finding(
                FAULT,
                f"changes {name}, which belong to the caller",
                table(before=before, after=after),
                "the corpus itself would be changed, more in every epoch; work on a clone()",
            )
    return Finding(OK, "tokens and maskable are left as they are")


def _generator(trial: MaskTrial) -> Finding:
    for tokens, maskable, seed in trial.short_rows():
        if not maskable.any():
            continue
        first, again = trial.ask(tokens, maskable, seed), trial.ask(tokens, maskable, seed)
        if not torch.equal(first, again):
            return Finding(
                FAULT,
                "the same tokens and the same generator give another mask the second time",
                table(tokens=tokens, once=first, again=again),
                "no run can be repeated or resumed; draw from the generator that is given: "
                "torch.rand(..., generator=generator)",
            )
    return Finding(OK, "the same generator gives the same mask")


def _global_state(trial: MaskTrial) -> Finding:
    tokens = trial.tokens(32, 0)
    free = torch.ones(len(tokens), dtype=torch.bool)
    masks = []
    for seed in (1, 2):
        with own_random_state(seed):
            before = random_states()
            masks.append(trial.ask(tokens, free, 0))
            moved = [name for name, state in random_states().items() if state != before[name]]
        if moved:
            return Finding(
                FAULT,
                f"draws from, or sets, the global random state of {' and '.join(moved)}",
                why="workers copy that state, so they repeat one another's masks, and whatever else draws from it "
                "changes the masks; draw from the generator that is given",
            )
    if not torch.equal(*masks):
        return Finding(FAULT, "the mask depends on the global random state", table(once=masks[0], again=masks[1]))
    return Finding(OK, "the global random state is neither read nor changed")


CHECKS: dict[str, Check[MaskTrial]] = {
    "returns": _returns,
    "protected": _protected,
    "targets": _targets,
    "nothing to hide": _nothing,
    "unchanged": _unchanged,
    "generator": _generator,
    "global state": _global_state,
    "varies": mask_statistics.varies,
    "rate": mask_statistics.rate,
    "protected rate": mask_statistics.protected_rate,
    "short texts": mask_statistics.short_texts,
    "spans": mask_statistics.spans,
    "position": mask_statistics.position,
}
"""By the names that `skip` takes, in the order in which they run."""
