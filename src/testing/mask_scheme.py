"""Is this masking scheme right? A scheme is a function (tokens, maskable, generator, ...) -> bool[T]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..checks import check_int, check_number
from ..data.masking import KNOWN_TO_COLLATOR, MaskScheme, scheme_keys
from ..data.special_ids import MAX_IDS
from ..errors import InputError
from ..escape import shown
from . import mask_statistics
from .mask_trial import MaskTrial, Row
from .randomness import own_random_state, random_states
from .report import FAULT, NOTE, OK, Check, Finding, Report, raised, run_checks, table


def check_mask_scheme(
    scheme: MaskScheme,
    *,
    rate: float | None = None,
    length: int = 64,
    count: int = 1000,
    vocab_size: int = 1000,
    rows: Sequence[Sequence[int] | Mapping[str, Any]] | None = None,
    skip: Collection[str] = (),
) -> Report:
    """Check a scheme `(tokens, maskable, generator) -> bool[T]` on random tokens (T,), or on rows of your own.

    - `rate`: the share of maskable tokens that it is meant to hide; None: any;
    - `length`, `count`: the statistics are those of `count` texts of `length` tokens; the rest is tried on short ones;
    - `rows`: at least 2 examples in place of random tokens, for a scheme that looks at what the tokens are (random ids
      hold no nouns and no ends of sentences), or that asks for data by further parameters: each a list of token ids, or
      a dict with `input_ids` and that data. `word_ids` and `document_ids` are made up where no rows are given;
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

    A scheme of the content is tried on examples of its own:

    >>> def one_entity(tokens, maskable, generator, entity_ids):
    ...     found = entity_ids[maskable & (entity_ids > 0)].unique()
    ...     return maskable & (entity_ids == found[torch.randint(len(found), (1,), generator=generator)])
    >>> rows = [{"input_ids": [5, 6, 7, 8], "entity_ids": [1, 1, 0, 2]}, {"input_ids": [9, 5], "entity_ids": [0, 1]}]
    >>> check_mask_scheme(one_entity, rows=rows, skip=["nothing to hide"]).passed
    True

    Returns the `Report`. Raises `CheckFailed` for a fault, `InputError` for settings that make no sense, and for a
    scheme that asks for data which the rows do not have.
    """
    if rate is not None and not 0 < check_number(rate, "rate") <= 1:
        raise InputError(f"rate must lie in (0, 1], or be None for any, got {rate!r}")
    for name, value, most in (("length", length, 2**20), ("count", count, 10**6), ("vocab_size", vocab_size, MAX_IDS)):
        check_int(value, name, most=most)
    if length < 8 or count < 100 or vocab_size < 2:
        raise InputError(
            f"expected length >= 8, count >= 100 and vocab_size >= 2, got {length}, {count} and {vocab_size}: fewer "
            "are too few for statistics"
        )
    if not callable(scheme) or isinstance(scheme, type):
        raise InputError(f"expected a scheme (tokens, maskable, generator) -> bool[T], got {shown(scheme)}")
    own = None if rows is None else _own_rows(rows, scheme_keys(scheme))
    if own is None and (unknown := set(scheme_keys(scheme)) - KNOWN_TO_COLLATOR):
        raise InputError(
            f"the scheme asks for {', '.join(sorted(unknown))}, which random tokens do not have: give rows=[...], "
            "dicts with 'input_ids' and that data"
        )
    trial = MaskTrial(scheme, rate, length, count, vocab_size, own)
    return run_checks(getattr(scheme, "__name__", type(scheme).__name__), CHECKS, trial, skip)


def _own_rows(rows: Sequence[Sequence[int] | Mapping[str, Any]], keys: Sequence[str]) -> tuple[Row, ...]:
    if isinstance(rows, (int, str)) or not isinstance(rows, Sequence) or len(rows) < 2:
        raise InputError(f"expected at least 2 rows, each a list of token ids or a dict, got {shown(rows)}")
    own = []
    for number, row in enumerate(rows):
        given: Mapping[str, Any] = row if isinstance(row, Mapping) else {"input_ids": row}
        if without := {"input_ids", *keys} - given.keys():
            raise InputError(f"row {number} has no {', '.join(sorted(without))}, which the scheme asks for")
        try:
            tokens = torch.as_tensor(given["input_ids"], dtype=torch.int64)
            data = {key: torch.as_tensor(given[key]) for key in keys}
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"expected numbers as row {number}, got {shown(row)}") from error
        if tokens.dim() != 1 or len(tokens) == 0:
            raise InputError(f"expected token ids (T,) as row {number}, got {tuple(tokens.shape)}")
        own.append((tokens, data))
    return tuple(own)


def _returns(trial: MaskTrial) -> Finding:
    for number, length in enumerate((trial.length, 1, 2, 3, 5)):
        row = trial.row(length, number)
        length = len(row[0])
        try:
            mask = trial.ask(row, torch.ones(length, dtype=torch.bool), 0)
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
    if trial.rows is not None:
        rows = ((row, trial.chance(len(row[0]), seed) < 0.7, seed) for row, _, seed in rows)
    for row, maskable, seed in rows:
        if not maskable.any():
            continue
        mask = trial.ask(row, maskable, seed)
        if bool((mask & ~maskable).any()):
            return Finding(
                FAULT,
                "hides tokens that are not maskable",
                table(tokens=row[0], maskable=maskable, hidden=mask),
                "special tokens and padding would be hidden and enter the loss; return mask & maskable",
            )
    return Finding(OK, "only maskable tokens are hidden")


def _targets(trial: MaskTrial) -> Finding:
    asked, without, smallest = Counter[int](), Counter[int](), ""
    for row, maskable, seed in trial.short_rows():
        if not maskable.any():
            continue
        asked[len(row[0])] += 1
        if not trial.ask(row, maskable, seed).any():
            without[len(row[0])] += 1
            smallest = smallest or table(tokens=row[0], maskable=maskable, hidden=torch.zeros_like(maskable))
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
        row = trial.row(length, 0)
        nothing = torch.zeros(len(row[0]), dtype=torch.bool)
        what = f"a row of {len(row[0])} tokens, none of them maskable"
        try:
            mask = trial.ask(row, nothing, 0)
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
    for (given, data), maskable, seed in trial.short_rows():
        if not maskable.any():
            continue
        tokens, free = given.clone(), maskable.clone()
        trial.call(tokens, free, data, torch.Generator().manual_seed(seed))
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
    for row, maskable, seed in trial.short_rows():
        if not maskable.any():
            continue
        first, again = trial.ask(row, maskable, seed), trial.ask(row, maskable, seed)
        if not torch.equal(first, again):
            return Finding(
                FAULT,
                "the same tokens and the same generator give another mask the second time",
                table(tokens=row[0], once=first, again=again),
                "no run can be repeated or resumed; draw from the generator that is given: "
                "torch.rand(..., generator=generator)",
            )
    return Finding(OK, "the same generator gives the same mask")


def _global_state(trial: MaskTrial) -> Finding:
    row = trial.row(32, 0)
    free = torch.ones(len(row[0]), dtype=torch.bool)
    masks = []
    for seed in (1, 2):
        with own_random_state(seed):
            before = random_states()
            masks.append(trial.ask(row, free, 0))
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
    "variety": mask_statistics.variety,
    "words": mask_statistics.words,
    "rate": mask_statistics.rate,
    "protected rate": mask_statistics.protected_rate,
    "short texts": mask_statistics.short_texts,
    "spans": mask_statistics.spans,
    "position": mask_statistics.position,
}
"""By the names that `skip` takes, in the order in which they run."""
