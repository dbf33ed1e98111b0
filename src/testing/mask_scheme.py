"""Is this masking scheme right? A scheme is a function (tokens, maskable, generator) -> bool[T]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..checks import check_int, check_number
from ..data.masking import BatchScheme, MaskScheme, scheme_name
from ..errors import InputError
from .randomness import own_random_state, random_states
from .report import FAULT, NOTE, OK, Check, Finding, Report, percent, raised, run_checks, table

SURE = 5.0
"""Standard errors beyond which a difference is no accident: 1 honest scheme in a million."""


def check_mask_scheme(
    scheme: MaskScheme,
    *,
    rate: float | None = None,
    length: int = 64,
    rows: int = 1000,
    vocab_size: int = 1000,
    skip: Collection[str] = (),
) -> Report:
    """Check a scheme `(tokens, maskable, generator) -> bool[T]`, on random tokens (T,).

    - `rate`: the share of maskable tokens that it means to hide; None: any;
    - `length`, `rows`: the statistics are those of `rows` texts of `length` tokens; the rest is tried on short ones;
    - `skip`: names of checks that are not wanted.

    A position that is hidden more often than others is noted and is no fault: T5's own scheme never hides the first
    token and always hides the last.

    >>> from clozelab.testing import CheckFailed
    >>> def every_other(tokens, maskable, generator):
    ...     return torch.arange(len(tokens)) % 2 == 0
    >>> try:
    ...     check_mask_scheme(every_other)
    ... except CheckFailed as failed:
    ...     print(failed.report.faults)
    ...     print(failed.report.findings["protected"].example)
    ['protected', 'nothing to hide', 'varies']
    tokens    642 127
    maskable    .   x
    hidden      x   .

    Returns the `Report`. Raises `CheckFailed` for a fault, `InputError` for settings that make no sense.
    """
    if rate is not None and not 0 < check_number(rate, "rate") < 1:
        raise InputError(f"rate must lie strictly between 0 and 1, or be None for any, got {rate!r}")
    for name, value in (("length", length), ("rows", rows), ("vocab_size", vocab_size)):
        check_int(value, name)
    if length < 8 or rows < 100 or vocab_size < 2:
        raise InputError(
            f"expected length >= 8, rows >= 100 and vocab_size >= 2, got {length}, {rows} and {vocab_size}: less says "
            "nothing about a random thing"
        )
    if not callable(scheme) or isinstance(scheme, type):
        raise InputError(f"expected a scheme (tokens, maskable, generator) -> bool[T], got {scheme!r:.80}")
    trial = _Trial(scheme, rate, length, rows, vocab_size)
    return run_checks(scheme_name(scheme) or "scheme", CHECKS, trial, skip)


@dataclass(frozen=True, eq=False)
class _Trial:
    scheme: MaskScheme
    rate: float | None
    length: int
    rows: int
    vocab_size: int

    def ask(self, tokens: Tensor, maskable: Tensor, seed: int) -> Tensor:
        """The mask for copies of a row."""
        return self.ask_with(tokens.clone(), maskable.clone(), seed)

    def ask_with(self, tokens: Tensor, maskable: Tensor, seed: int) -> Tensor:
        """The mask for this very row; a scheme of ours, which may want words, gets words of two and three tokens."""
        generator = torch.Generator().manual_seed(seed)
        if isinstance(self.scheme, BatchScheme):
            noise = torch.rand(1, len(tokens), generator=generator, dtype=torch.float64)
            words = (torch.arange(len(tokens)) * 5 // 11)[None]
            return self.scheme.batch(maskable[None], noise, words)[0]
        return self.scheme(tokens, maskable, generator)

    def tokens(self, length: int, seed: int) -> Tensor:
        return torch.randint(self.vocab_size, (length,), generator=torch.Generator().manual_seed(10**6 + seed))

    def short_rows(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """(tokens, maskable, seed), the smallest first, so that what is found first is the smallest example."""
        for length in (1, 2, 3, 4, 6, 8, 12, 16, 32):
            for seed in range(40):
                share = (1.0, 0.8, 0.5, 0.2)[seed % 4]
                # Not from the generator's own seed: what is maskable must say nothing about what the scheme draws.
                chance = torch.rand(length, generator=torch.Generator().manual_seed(2 * 10**6 + seed))
                yield self.tokens(length, seed), chance <= share, seed

    @cached_property
    def masks(self) -> Tensor:
        """(rows, length): of texts in which everything may be hidden."""
        free = torch.ones(self.length, dtype=torch.bool)
        return torch.stack([self.ask(self.tokens(self.length, seed), free, seed) for seed in range(self.rows)])


def _returns(trial: _Trial) -> Finding:
    for length in (trial.length, 1, 2, 3, 5):
        tokens = trial.tokens(length, 0)
        try:
            mask = trial.ask(tokens, torch.ones(length, dtype=torch.bool), 0)
        except Exception as error:
            return Finding(
                FAULT,
                f"raises {raised(error)} for {length} tokens, all of them maskable",
                why="short texts are everywhere; a loader that meets one dies in the middle of a run",
            )
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (length,):
            came = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            return Finding(
                FAULT,
                f"for {length} tokens it returns {came}, not torch.bool ({length},)",
                why="a mask of 0s and 1s indexes instead of selecting, and a mask of another shape broadcasts",
            )
    return Finding(OK, "a boolean mask of the shape of the tokens")


def _protected(trial: _Trial) -> Finding:
    for tokens, maskable, seed in trial.short_rows():
        if not maskable.any():
            continue
        mask = trial.ask(tokens, maskable, seed)
        if bool((mask & ~maskable).any()):
            return Finding(
                FAULT,
                "hides tokens that are not maskable",
                table(tokens=tokens, maskable=maskable, hidden=mask),
                "special tokens and padding would be hidden, and paid for; return mask & maskable",
            )
    return Finding(OK, "only maskable tokens are hidden")


def _targets(trial: _Trial) -> Finding:
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
    return Finding(OK, f"every one of {asked.total()} short rows has a target")


def _nothing(trial: _Trial) -> Finding:
    for length in (0, 3):
        tokens, nothing = trial.tokens(length, 0), torch.zeros(length, dtype=torch.bool)
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


def _unchanged(trial: _Trial) -> Finding:
    for given, maskable, seed in trial.short_rows():
        if not maskable.any():
            continue
        tokens, free = given.clone(), maskable.clone()
        trial.ask_with(tokens, free, seed)
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


def _generator(trial: _Trial) -> Finding:
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


def _global_state(trial: _Trial) -> Finding:
    tokens, free = trial.tokens(32, 0), torch.ones(32, dtype=torch.bool)
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


def _varies(trial: _Trial) -> Finding:
    different = len(trial.masks.unique(dim=0))
    if different == 1:
        return Finding(
            FAULT,
            f"all {trial.rows} rows of {trial.length} tokens get the same mask, whatever the generator",
            table(hidden=trial.masks[0, :24]),
            "the model learns those positions and no others, and every epoch repeats the one before",
        )
    return Finding(OK, f"{different} different masks in {trial.rows} rows")


def _rate(trial: _Trial) -> Finding:
    shares = trial.masks.double().mean(1)  # (rows,)
    mean, spread = float(shares.mean()), float(shares.std())
    found = f"{percent(mean)} of {trial.length} tokens are hidden, ± {percent(spread)} from row to row"
    error = spread / trial.rows**0.5
    allowed = SURE * error + 0.5 / trial.length  # a row can hide only whole tokens
    if trial.rate is not None and abs(mean - trial.rate) > allowed:
        return Finding(
            FAULT,
            f"{found}, but {percent(trial.rate)} were asked for (± {percent(allowed)} would be accident and rounding)",
            why="the rate decides how much is read and how much is paid: two rates are two objectives",
        )
    return Finding(OK if trial.rate is not None else NOTE, found)


def _spans(trial: _Trial) -> Finding:
    masks = trial.masks
    starts = masks.clone()
    starts[:, 1:] &= ~masks[:, :-1]
    runs, hidden = int(starts.sum()), int(masks.sum())
    ends = torch.nn.functional.pad(masks, (1, 1)).int().diff(dim=1)  # +1 where a run begins, -1 behind its end
    lengths = (ends == -1).nonzero()[:, 1] - (ends == 1).nonzero()[:, 1]
    longest = int(lengths.max()) if runs else 0
    return Finding(
        NOTE,
        f"{runs / trial.rows:.2f} runs in a row, of {hidden / max(runs, 1):.2f} tokens on average, {longest} at most",
    )


def _position(trial: _Trial) -> Finding:
    often = trial.masks.double().mean(0)  # (length,)
    mean = float(often.mean())
    error = max((mean * (1 - mean) / trial.rows) ** 0.5, 1e-9)
    worst = float(((often - mean) / error).abs().max())
    if worst <= SURE:
        return Finding(OK, f"every position is hidden about as often ({percent(mean)})")
    least, most = int(often.argmin()), int(often.argmax())
    bars = "▁▂▃▄▅▆▇█"
    top = float(often.max())
    histogram = "".join(bars[min(7, int(8 * float(share) / top))] for share in often)
    return Finding(
        NOTE,
        f"hidden with a bias by position: {least} in {percent(float(often[least]))} of rows, {most} in "
        f"{percent(float(often[most]))}, {percent(mean)} on average",
        f"{histogram}  positions 0 to {trial.length - 1}",
        "what is never hidden is never learned, what is always hidden is never read. T5's scheme has such a bias by "
        "construction, so this is no fault; know it when you compare",
    )


CHECKS: dict[str, Check[_Trial]] = {
    "returns": _returns,
    "protected": _protected,
    "targets": _targets,
    "nothing to hide": _nothing,
    "unchanged": _unchanged,
    "generator": _generator,
    "global state": _global_state,
    "varies": _varies,
    "rate": _rate,
    "spans": _spans,
    "position": _position,
}
"""By the names that `skip` takes, in the order in which they run."""
