"""Is this collator right? Any callable from a list of examples to a batch: ours, Hugging Face's, your own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..checks import check_int
from ..data import IGNORED, SpecialIds, load_tokenizer, restore_spans, span_lengths
from ..errors import InputError
from .randomness import own_random_state, random_states
from .report import FAULT, NOTE, OK, Check, Finding, Report, percent, run_checks, table

KINDS = ("causal", "masked", "span")
SURE = 5.0
"""Standard errors beyond which a difference is no accident."""


def check_collator(
    collator: Callable[[list[Any]], Any],
    special: SpecialIds | Any = None,
    *,
    kind: str | None = None,
    shares: tuple[float, float, float] | None = (0.8, 0.1, 0.1),
    spans: tuple[float, float] | None = None,
    example: Callable[[list[int]], Any] | None = None,
    workers: int = 2,
    rows: int = 64,
    skip: Collection[str] = (),
) -> Report:
    """Check a collator on random texts: what it hides, what it pays, and what its noise depends on.

    - `special`: the ids that are no text, as `SpecialIds` or a tokenizer (ours or Hugging Face's); None takes the
      collator's own `special` or `tokenizer`;
    - `kind`: "causal", "masked" or "span"; None finds out from a batch;
    - `shares`: of the hidden tokens of a masked LM, how many become the mask token, a random one, stay; None: any;
    - `spans`: (noise density, mean span) that a span corruption means to have, which fixes its lengths; None: any;
    - `example`: from token ids to what the collator takes; None: `{"input_ids": ids}`;
    - `workers`: of the `DataLoader` that is compared with one without;
    - `rows`: the statistics of a masked LM are those of so many texts of 512 tokens. 64 find shares that are off by 3
      in 100, such as 80/2/18; 81/9/10 instead of 80/10/10 takes 1000;
    - `skip`: names of checks that are not wanted.

    The collator is copied for each trial, as a worker or another process copies it, and never itself called. Where it
    has a `set_epoch`, that is called between epochs.

    >>> from clozelab.objectives import MaskedLM
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
            raise InputError(f"expected {value[1]} numbers as {name}, got {value[0]!r:.80}")
    check_int(workers, "workers", 0)
    if check_int(rows, "rows") < 64:
        raise InputError(f"expected rows >= 64, got {rows}: less says nothing about a random thing")
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, or None to find out, got {kind!r}")
    special = getattr(collator, "special", getattr(collator, "tokenizer", None)) if special is None else special
    if special is None:
        raise InputError(
            "this collator does not tell its special ids: give SpecialIds(...) or the tokenizer, so that text can be "
            "told from what is not"
        )
    if not isinstance(special, SpecialIds):
        special = getattr(special, "special", None) or load_tokenizer(special, sentinels=0).special
    trial = _Trial(collator, special, kind, shares, spans, example or (lambda ids: {"input_ids": ids}), workers, rows)
    name = getattr(collator, "__name__", type(collator).__name__)
    return run_checks(name, CHECKS, trial, skip)


Row = tuple[tuple[int, ...], tuple[int, ...]]
"""What a batch says of one text: what is read, what is paid, padding taken off."""


@dataclass(frozen=True, eq=False)
class _Trial:
    collator: Callable[[list[Any]], Any]
    special: SpecialIds
    asked_kind: str | None
    shares: tuple[float, float, float] | None
    spans: tuple[float, float] | None
    example: Callable[[Any], Any]
    workers: int
    rows_of_sample: int

    def fresh(self) -> Callable[[list[Any]], Any]:
        """The collator as it was given, before it was ever called."""
        return copy.deepcopy(self.collator)

    def texts(self, *lengths: int, seed: int = 0) -> list[list[int]]:
        """Random texts of these lengths, no two alike, each closed by an end of text where it is long enough."""
        generator = torch.Generator().manual_seed(seed)
        choice = self.special.replacements
        texts = [choice[torch.randint(len(choice), (n,), generator=generator)].tolist() for n in lengths]
        closed = self.kind != "span"  # span corruption appends its own
        return [[*text[:-1], self.special.eos] if closed and len(text) > 1 else text for text in texts]

    def batch(self, texts: Sequence[Sequence[int]], collate: Callable | None = None) -> Mapping[str, Any]:
        return (collate or self.fresh())([self.example(list(text)) for text in texts])

    def rows(self, batch: Mapping[str, Any]) -> list[Row]:
        """What the batch says of each text, wherever its padding is."""
        inputs, labels = batch["input_ids"], batch["labels"]
        read = batch["attention_mask"] != 0 if "attention_mask" in batch else inputs != self.special.pad
        if self.kind == "span":
            return [(tuple(i[r].tolist()), tuple(x[x != IGNORED].tolist())) for i, x, r in zip(inputs, labels, read)]
        return [(tuple(i[r].tolist()), tuple(x[r].tolist())) for i, x, r in zip(inputs, labels, read)]

    def epochs(self, texts: Sequence[Sequence[int]], workers: int, count: int = 1) -> list[list[Row]]:
        """The rows of several passes by one `DataLoader`, its global random state begun anew as a script does."""
        collate = self.fresh()
        examples = [self.example(list(text)) for text in texts]
        loader = DataLoader(examples, batch_size=4, collate_fn=collate, num_workers=workers)  # type: ignore[arg-type]
        passes = []
        with own_random_state(0):
            for epoch in range(count):
                if hasattr(collate, "set_epoch"):
                    collate.set_epoch(epoch)  # type: ignore[attr-defined]
                passes.append([row for batch in loader for row in self.rows(batch)])
        return passes

    @cached_property
    def kind(self) -> str:
        if self.asked_kind is not None:
            return self.asked_kind
        choice = self.special.replacements
        texts = [choice[torch.arange(64) * (k + 3) % len(choice)].tolist() for k in range(4)]
        batch = self.fresh()([self.example(text) for text in texts])
        inputs, labels = batch["input_ids"], batch["labels"]
        if "decoder_input_ids" in batch or inputs.shape != labels.shape or inputs.shape[1] != 64:
            return "span"
        return (
            "causal"
            if torch.equal(inputs, torch.tensor(texts)) and (labels != IGNORED).float().mean() > 0.9
            else "masked"
        )

    @cached_property
    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of a masked LM: texts, inputs and labels (N, 512), enough for statistics."""
        texts = self.texts(*[512] * self.rows_of_sample, seed=1)
        batch = self.batch(texts)
        return torch.tensor(texts), batch["input_ids"], batch["labels"]

    @cached_property
    def ragged(self) -> list[list[int]]:
        return self.texts(*(61, 97, 70, 88, 64, 110, 75, 82, 68, 93, 79, 66), seed=2)  # long enough for several spans


# --------------------------------------------------------------------------- of every kind


def _returns(trial: _Trial) -> Finding:
    batch = trial.batch(trial.texts(12, 20, 16))
    why = "Hugging Face's keys are what models, objectives and the Trainer read"
    if not isinstance(batch, Mapping):
        return Finding(FAULT, f"returns a {type(batch).__name__}, not a dict of tensors", why=why)
    for key in ("input_ids", "labels"):
        value = batch.get(key)
        if not isinstance(value, Tensor) or value.dim() != 2 or len(value) != 3 or value.dtype != torch.int64:
            came = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            return Finding(FAULT, f"{key!r} of 3 texts must be torch.int64 (3, T), got {came}", why=why)
    return Finding(OK, f"{trial.kind} batches with {', '.join(batch)}")


def _unchanged(trial: _Trial) -> Finding:
    forms: tuple[Callable[[list[int]], Any], ...] = (list, torch.tensor)
    for form in forms:
        examples = [trial.example(form(text)) for text in trial.ragged[:4]]
        before = copy.deepcopy(examples)
        try:
            trial.fresh()(examples)
        except Exception:
            if form is list:
                raise
            continue  # tensors are a courtesy
        if repr(before) != repr(examples):
            return Finding(
                FAULT,
                "changes the examples that it is given",
                f"before  {str(before[0])[:100]}\nafter   {str(examples[0])[:100]}",
                "in a data set that is held in memory the next epoch begins with what this one left behind",
            )
    return Finding(OK, "the examples are left as they were")


def _nothing(trial: _Trial) -> Finding | None:
    if trial.kind != "masked":
        return None
    batch = trial.batch([[trial.special.eos], trial.texts(16)[0]])
    paid = int((batch["labels"][0] != IGNORED).sum())
    if paid:
        return Finding(
            FAULT, f"pays for {paid} positions of a text that is an end of text alone", why="there is nothing to hide"
        )
    return Finding(OK, "a text of special ids alone is left alone")


def _repeatable(trial: _Trial) -> Finding:
    first, again = (trial.epochs(trial.ragged, 0)[0] for _ in range(2))
    if first != again:
        return Finding(
            FAULT,
            "two copies of the collator give other batches for the same texts",
            _differ(first, again),
            "no run can be repeated or resumed",
        )
    return Finding(OK, "a copy gives the same batches")


def _global_state(trial: _Trial) -> Finding:
    batches = []
    for seed in (1, 2):
        with own_random_state(seed):
            before = random_states()
            batches.append(trial.rows(trial.batch(trial.ragged)))
            moved = [name for name, state in random_states().items() if state != before[name]]
        if moved:
            return Finding(
                FAULT,
                f"draws from, or sets, the global random state of {' and '.join(moved)}",
                why="whatever else draws from it changes the masks, and the masks change whatever else does",
            )
    if batches[0] != batches[1]:
        return Finding(FAULT, "the batch depends on the global random state", _differ(*batches))
    return Finding(OK, "the global random state is neither read nor changed")


def _order(trial: _Trial) -> Finding:
    texts = trial.ragged[:6]
    straight = trial.rows(trial.batch(texts))
    turned = trial.rows(trial.batch(texts[::-1]))[::-1]
    if straight != turned:
        return Finding(
            FAULT,
            "what is hidden of a text depends on its place in the batch",
            _differ(straight, turned),
            "no text can be looked at alone, and another batch size is another experiment",
        )
    return Finding(OK, "a text is treated alike wherever it stands in its batch")


def _workers(trial: _Trial) -> Finding | None:
    if trial.kind == "causal" or not trial.workers:
        return None
    alone, together = trial.epochs(trial.ragged, 0)[0], trial.epochs(trial.ragged, trial.workers)[0]
    if alone != together:
        return Finding(
            FAULT,
            f"the masks are others with {trial.workers} workers than with none",
            _differ(alone, together),
            "the same seed on another machine is another run, and nobody sees it",
        )
    return Finding(OK, f"the masks are the same with {trial.workers} workers as with none")


def _epochs(trial: _Trial) -> Finding | None:
    if trial.kind == "causal":
        return None
    for workers in {0, trial.workers}:
        first, second = trial.epochs(trial.ragged, workers, count=2)
        if first == second:
            return Finding(
                FAULT,
                f"with {workers} workers the second epoch has the masks of the first",
                table(read_in_both=list(first[0][0][:16]), paid_in_both=list(first[0][1][:16])),
                "each text has one mask for ever, so the model can learn the answers by heart: its training loss "
                "falls, its held-out loss rises",
            )
    return Finding(OK, "each epoch has masks of its own")


def _ranks(trial: _Trial) -> Finding | None:
    if trial.kind == "causal":
        return None
    texts = trial.texts(*[80] * 16, seed=3)
    patterns = []
    for rank in (0, 1):  # two processes of one script: the same collator, the same seed, every other text
        with own_random_state(0):
            rows = trial.rows(trial.batch(texts[rank::2]))
        # where something is hidden, whatever the texts are
        marks = (IGNORED,) if trial.kind == "masked" else trial.special.sentinels
        patterns.append([tuple(t in marks for t in (paid if trial.kind == "masked" else read)) for read, paid in rows])
    if patterns[0] == patterns[1]:
        return Finding(
            FAULT,
            "two processes with the same seed hide the same positions of different texts",
            why="the batch of N processes has only one process's worth of noise in it",
        )
    return Finding(OK, "two processes hide other positions")


# --------------------------------------------------------------------------- of masked LM


def _unselected(trial: _Trial) -> Finding | None:
    if trial.kind != "masked":
        return None
    padded = trial.texts(6, 24, seed=4)
    pieces = [
        (padded, trial.batch(padded)),
        (trial.sample[0], {"input_ids": trial.sample[1], "labels": trial.sample[2]}),
    ]
    for texts, batch in pieces:
        for text, read, paid in zip(texts, batch["input_ids"], batch["labels"]):
            original = torch.as_tensor(text)
            original = torch.nn.functional.pad(original, (0, len(read) - len(original)), value=trial.special.pad)
            if int(read[0]) == trial.special.pad and int(original[0]) != trial.special.pad:
                original = original.roll(int((original == trial.special.pad).sum()))  # padded on the left
            changed = (read != original) & (paid == IGNORED)
            if bool(changed.any()):
                at = int(changed.nonzero()[0])
                here = slice(max(0, at - 3), at + 4)
                return Finding(
                    FAULT,
                    f"inputs are changed where nothing is paid ({percent(float(changed.float().mean()))} of a text)",
                    table(text=original[here], read=read[here], paid=paid[here]),
                    "the text is damaged without a word to the model about it, and padding becomes text",
                )
            wrong = (paid != IGNORED) & (paid != original)
            if bool(wrong.any()):
                at = int(wrong.nonzero()[0])
                here = slice(max(0, at - 3), at + 4)
                return Finding(
                    FAULT,
                    "labels are not the tokens that stood there",
                    table(text=original[here], read=read[here], paid=paid[here]),
                    "the model is paid for something else than the text",
                )
    return Finding(OK, "inputs are the text wherever nothing is paid, labels are the text wherever something is")


def _paid(trial: _Trial) -> Finding | None:
    if trial.kind != "masked":
        return None
    _, read, paid = trial.sample
    share = float((paid != IGNORED).float().mean())
    if share > 0.95:
        return Finding(
            FAULT,
            f"{percent(share)} of the positions are paid, also those that the model can read",
            table(read=read[0, :12], paid=paid[0, :12]),
            "most of the loss is then copying, which any residual stream does at once",
        )
    return Finding(OK, f"{percent(share)} of the positions are paid")


def _partition(trial: _Trial) -> Finding | None:
    if trial.kind != "masked" or trial.special.mask is None:
        return None
    text, read, paid = trial.sample
    hidden = paid != IGNORED
    count = int(hidden.sum())
    masked = float((read[hidden] == trial.special.mask).double().mean())
    same = float((read[hidden] == text[hidden]).double().mean())
    other = 1 - masked - same
    found = (
        f"{percent(masked)} become the mask token, {percent(other)} another one, {percent(same)} stay, of {count} "
        "hidden tokens"
    )
    if trial.shares is None:
        return Finding(NOTE, found)
    coincidence = trial.shares[1] / len(trial.special.replacements)  # a random token may be the one that stood there
    wanted = trial.shares[0], trial.shares[1] - coincidence, trial.shares[2] + coincidence
    for share, want in zip((masked, other, same), wanted):
        if abs(share - want) > SURE * (max(want * (1 - want), 1e-4) / count) ** 0.5:
            return Finding(
                FAULT,
                f"{found}; asked for were {' / '.join(percent(share) for share in trial.shares)}",
                why="independent draws for each part eat into one another: draw once and cut [0, 1) into three",
            )
    return Finding(OK, found)


def _replacements(trial: _Trial) -> Finding | None:
    if trial.kind != "masked":
        return None
    text, read, paid = trial.sample
    special = torch.tensor([id for id in trial.special.all if id != trial.special.mask])
    put = (paid != IGNORED) & (read != text) & torch.isin(read, special)
    if bool(put.any()):
        row, at = put.nonzero()[0].tolist()
        here = slice(max(0, at - 3), at + 4)
        found = read[put].unique().tolist()
        return Finding(
            FAULT,
            f"special ids stand in place of hidden tokens: {found[:8]}, {int(put.sum())} times",
            table(text=text[row, here], read=read[row, here], paid=paid[row, here]),
            "padding, ends of text and sentinels appear in the middle of texts, where they mean what they do not mean",
        )
    return Finding(OK, "random replacements are never special ids")


def _protected(trial: _Trial) -> Finding | None:
    if trial.kind != "masked":
        return None
    texts = trial.texts(*[6, 12] * 40, seed=5)
    labels = trial.batch(texts)["labels"]
    bad = torch.isin(labels, torch.tensor(trial.special.all))
    if bool(bad.any()):
        row = int(bad.nonzero()[0][0])
        return Finding(
            FAULT,
            "special ids are hidden and paid for",
            table(paid=labels[row]),
            "that a text ends at its end, or that padding is padding, is no question",
        )
    return Finding(OK, "special ids and padding are never hidden")


def _targets(trial: _Trial) -> Finding | None:
    if trial.kind == "causal":
        return None
    short: tuple[int, list[int], list[int]] | None = None
    shares = []
    for length in (2, 4, 8, 16, 32):
        texts = trial.texts(*[length] * 200, seed=length)
        labels = trial.batch(texts)["labels"]
        without = (labels != IGNORED).sum(1) == 0
        if bool(without.any()):
            row = int(without.nonzero()[0])
            short = short or (length, texts[row], labels[row].tolist())
            shares.append(f"{percent(float(without.float().mean()))} at {length}")
    if short is not None:
        return Finding(
            FAULT,
            f"texts without any target: {', '.join(shares)} tokens",
            table(text=short[1], paid=short[2]),
            "such a text teaches nothing, and a batch of them has the mean 0 / 0 = NaN",
        )
    return Finding(OK, "every text has a target, the shortest too")


# --------------------------------------------------------------------------- of span corruption


def _round_trip(trial: _Trial) -> Finding | None:
    if trial.kind != "span":
        return None
    for text in sorted(trial.texts(*range(2, 40), seed=6), key=len):
        ((read, said),) = trial.rows(trial.batch([text]))
        problem = ""
        for eos in (trial.special.eos, None):
            try:
                restored = restore_spans(torch.tensor(read), torch.tensor(said), trial.special.sentinels, eos=eos)
            except InputError as error:
                problem = problem or str(error)
                continue
            if restored.tolist() == text:
                break
            problem = problem or "put together, inputs and targets are another text"
        else:
            return Finding(
                FAULT,
                f"inputs and targets do not give the text again: {problem}",
                "\n".join((table(text=text), table(read=list(read)), table(paid=list(said)))),
                "sentinels that are out of step ask for one span and pay for another; their order is that of "
                "SpecialIds.sentinels",
            )
    return Finding(OK, "inputs and targets together are the text again, for 2 to 39 tokens")


def _decoder(trial: _Trial) -> Finding | None:
    if trial.kind != "span":
        return None
    batch = trial.batch(trial.ragged[:4])
    if "decoder_input_ids" not in batch:
        return Finding(NOTE, "no 'decoder_input_ids': the model must shift the labels itself, as T5 does")
    given, labels = batch["decoder_input_ids"], batch["labels"]
    paid = labels[:, 1:] != IGNORED
    if bool((given < 0).any()) or bool((given[:, 1:] != labels[:, :-1])[paid].any()):
        row = table(decoder_reads=given[0, :12], paid=labels[0, :12])
        return Finding(FAULT, "the decoder does not read the labels one place later", row, "it reads what it must say")
    return Finding(OK, f"the decoder reads the labels one place later, behind {int(given[0, 0])}")


def _lengths(trial: _Trial) -> Finding | None:
    if trial.kind != "span":
        return None
    for length in (8, 20, 64, 141, 568):
        found = {tuple(map(len, row)) for row in trial.rows(trial.batch(trial.texts(*[length] * 16, seed=7)))}
        if trial.spans is not None:
            density, mean_noise_span_length = trial.spans
            plans = [
                span_lengths(length, density=density, mean_noise_span_length=mean_noise_span_length, final_sentinel=f)
                for f in (False, True)
            ]
            if len(found) != 1 or next(iter(found)) not in {(plan.inputs, plan.targets) for plan in plans}:
                return Finding(
                    FAULT,
                    f"{length} tokens become {sorted(found)[:3]} inputs and targets, not {plans[0].inputs} and "
                    f"{plans[0].targets}",
                    why="blocks that were cut to the planned length are padded or cut off",
                )
        elif len(found) != 1:
            least, most = min(found), max(found)
            return Finding(
                NOTE, f"{length} tokens become from {least} to {most} inputs and targets, so rows are padded"
            )
    return Finding(OK, "texts of one length become inputs and targets of one length")


# --------------------------------------------------------------------------- of causal LM


def _labels(trial: _Trial) -> Finding | None:
    if trial.kind != "causal":
        return None
    texts = trial.texts(12, 7, seed=8)
    rows = trial.rows(trial.batch(texts))
    said_here = False
    for text, (read, paid) in zip(texts, rows):
        if list(read) != text:
            return Finding(FAULT, "the inputs are not the text", table(text=text, read=list(read)))
        said_here = all(label in (token, IGNORED) for token, label in zip(text, paid))
        said_next = all(label in (token, IGNORED) for token, label in zip(text[1:], paid))
        if not (said_here or said_next):
            return Finding(
                FAULT,
                "labels are neither the inputs nor the inputs shifted by one",
                table(read=text, paid=list(paid)),
                "each position is to be paid for the token that follows",
            )
    if said_here:
        return Finding(OK, "labels are the inputs: who computes the loss must shift them")
    return Finding(OK, "labels are the inputs shifted by one already: who computes the loss must not shift them again")


def _end(trial: _Trial) -> Finding | None:
    if trial.kind == "masked":
        return None
    texts = trial.texts(12, 7, seed=9)
    for text, (_, paid) in zip(texts, trial.rows(trial.batch(texts))):
        if trial.special.eos not in paid:
            return Finding(
                FAULT,
                "the end of a text is never paid for",
                table(text=text, paid=list(paid)) if trial.kind == "causal" else table(paid=list(paid)),
                "the model never learns to stop; take padding from lengths, not from id == pad, which here "
                f"is {trial.special.pad} while the end of text is {trial.special.eos}",
            )
    return Finding(OK, "the end of a text is paid for")


CHECKS: dict[str, Check[_Trial]] = {
    "returns": _returns,
    "unchanged": _unchanged,
    "targets": _targets,
    "nothing to hide": _nothing,
    "unselected": _unselected,
    "paid": _paid,
    "partition": _partition,
    "replacements": _replacements,
    "protected": _protected,
    "round trip": _round_trip,
    "decoder": _decoder,
    "lengths": _lengths,
    "labels": _labels,
    "end of text": _end,
    "repeatable": _repeatable,
    "global state": _global_state,
    "order": _order,
    "workers": _workers,
    "epochs": _epochs,
    "ranks": _ranks,
}
"""By the names that `skip` takes, in the order in which they run."""


# --------------------------------------------------------------------------- helpers


def _differ(first: Sequence[Row], second: Sequence[Row]) -> str:
    """The place where two batches first say different things of a text, and some tokens around it."""
    (read, paid), (again, paid_again) = next((a, b) for a, b in zip(first, second) if a != b)
    if read == again:
        read, again = paid, paid_again
    at = next((t for t, (a, b) in enumerate(zip(read, again)) if a != b), min(len(read), len(again)))
    here = slice(max(0, at - 3), at + 9)
    return table(once=list(read[here]), then=list(again[here]))
