"""Is this collator right? Any callable from a list of examples to a batch: ours, Hugging Face's, your own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ...checks import check_int
from ...data import SpecialIds, load_tokenizer
from ...errors import InputError
from ...escape import shown
from ..report import Check, Report, run_checks
from . import masked, noise, own, padding, places, sentinels
from .kinds import KINDS
from .trial import CollatorTrial

CHECKS: dict[str, Check[CollatorTrial]] = {
    "returns": noise.returns,
    "unchanged": noise.unchanged,
    "targets": masked.targets,
    "nothing to hide": masked.nothing,
    "unselected": masked.unselected,
    "loss positions": masked.loss_positions,
    "partition": masked.partition,
    "replacements": masked.replacements,
    "protected": masked.protected,
    "round trip": sentinels.round_trip,
    "decoder": sentinels.decoder,
    "lengths": sentinels.lengths,
    "labels": sentinels.labels,
    "end of text": sentinels.end,
    "prefix": places.prefix,
    "hidden": places.hidden,
    "levels": places.levels,
    "middle": places.middle,
    "blanks": places.blanks,
    "padding": padding.padding,
    "recovered": padding.recovered,
    "repeatable": noise.repeatable,
    "global state": noise.global_state,
    "order": noise.order,
    "workers": noise.with_workers,
    "epochs": noise.epochs,
    "ranks": noise.ranks,
    **own.CHECKS,
}
"""By the names that `skip` takes, in the order in which they run."""

ESSENTIAL = ("returns",)
"""Without it nothing else can be looked at."""


def check_collator(
    collator: Callable[[list[Any]], Any],
    special: SpecialIds | Any = None,
    *,
    kind: str | None = None,
    shares: tuple[float, float, float] | None = None,
    spans: tuple[float, float] | None = None,
    example: Callable[[list[int]], Any] | None = None,
    workers: int = 2,
    rows: int = 64,
    skip: Collection[str] = (),
) -> Report:
    """Check a collator on random texts: what it hides, what enters the loss, and what its noise depends on.

    - `special`: the ids that are not text, as `SpecialIds` or a tokenizer (ours or Hugging Face's); None takes the
      collator's own `special` or `tokenizer`;
    - `kind`: "next-token", "masked", "spans", "prefix", "weighted" (hidden tokens with weights and a count, as masked
      diffusion has them), "middle" (moved to the end, as in fill-in-the-middle), "blanks" (several spans moved, as in
      CM3) or "other", of which less is known and less is checked; None finds out from a batch;
    - `shares`: of the hidden tokens of a masked LM, how many become the mask token, a random one, stay; None: those
      that the objective or the collator has as `mask_replace_prob` and `random_replace_prob`, or BERT's 80 / 10 / 10
      where some do not become the mask token;
    - `spans`: (noise density, mean span) that a span corruption is meant to have, which fixes its lengths; None: those
      of the objective, or any;
    - `example`: from token ids to what the collator takes; None: `{"input_ids": ids}`;
    - `workers`: of the `DataLoader` that is compared with one without;
    - `rows`: the statistics of a masked LM are those of so many texts of 512 tokens. 64 find shares that are off by 3
      in 100, such as 80/2/18; 81/9/10 instead of 80/10/10 takes 1000;
    - `skip`: names of checks to leave out.

    The collator is copied for each trial, as a worker or another process copies it, and never itself called. Where it
    has a `set_epoch`, that is called between epochs. Of a collator of clozelab's the objective is asked as well. What
    cannot be tried on a batch of this kind is listed as not checked.

    >>> from clozelab import MaskedLM, SpecialIds
    >>> from clozelab.testing import check_collator
    >>> special = SpecialIds(vocab_size=50, pad=0, eos=1, mask=2)
    >>> report = check_collator(MaskedLM().collator(special))
    >>> report.passed, report.findings["partition"].found
    (True, '79.6% become the mask token, 9.6% another one, 10.8% stay, of 4928 hidden tokens')

    Returns the `Report`. Raises `CheckFailed` for a fault, `InputError` for settings that make no sense.
    """
    if not callable(collator):
        raise InputError(f"expected a collator, a function of a list of examples, got {type(collator).__name__}")
    for name, value in (("shares", (shares, 3)), ("spans", (spans, 2))):
        if value[0] is not None and not (isinstance(value[0], (tuple, list)) and len(value[0]) == value[1]):
            raise InputError(f"expected {value[1]} numbers as {name}, got {shown(value[0])}")
    if example is not None and not callable(example):
        raise InputError(f"expected a function from token ids to an example, got {shown(example)}")
    check_int(workers, "workers", 0)
    if check_int(rows, "rows") < 64:
        raise InputError(f"expected rows >= 64, got {rows}: fewer are too few for statistics")
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, or None to find out, got {kind!r}")
    if example is None and (keys := {*getattr(collator, "extra", ()), *getattr(collator, "keep", ())}):
        raise InputError(
            f"the collator needs {', '.join(sorted(keys))} of each example: give example=, from token ids to "
            "a dict with them"
        )
    special = getattr(collator, "special", getattr(collator, "tokenizer", None)) if special is None else special
    if special is None:
        raise InputError(
            "the special ids of this collator are not known: give SpecialIds(...) or the tokenizer, which separate "
            "text from what is not"
        )
    if not isinstance(special, SpecialIds):
        special = getattr(special, "special", None) or load_tokenizer(special, sentinels=0).special
    as_example = example or (lambda ids: {"input_ids": ids})
    trial = CollatorTrial(collator, special, kind, shares, spans, as_example, workers, rows)
    name = getattr(collator, "__name__", type(collator).__name__)
    return run_checks(name, CHECKS, trial, skip, essential=ESSENTIAL)
