"""Does an output depend on its own answer? Change a token of the text, corrupt it again, and see which outputs move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_int, check_number, check_type
from ..data import IGNORED, Batch, Collator, SpecialIds
from ..errors import InputError
from ..models.language_model import call
from ..objectives import Objective
from ..objectives.model_calls import predictions
from .perturbation import candidate_ids, check_steady, differ, replacements
from .scoring import in_full_precision

IDS = frozenset({"input_ids", "decoder_input_ids", "labels"})
"""Keys of a batch that hold ids of the text. All others must stay as they are when a token of it changes."""

ROWS = 256
"""Of a batch, at most, where an example has no more variants than that."""


@dataclass(frozen=True)
class AnswerReport:
    """How many outputs were tested against a change of their own answer, and which moved."""

    tested: int
    """(output, changed token) pairs in which the label of the output changed, and the input at its place did not."""
    leaks: tuple[tuple[str, int, int, int], ...]
    """(output, its place, example, place of the changed token in the text) of each that moved."""

    @property
    def passed(self) -> bool:
        """Some were tested, and none moved."""
        return self.tested > 0 and not self.leaks

    def __str__(self) -> str:
        if not self.tested:
            return "nothing tested: no label changed with a token of the text"
        if not self.leaks:
            return f"no output moves with its own answer, in {self.tested:,} pairs"
        name, output, example, token = self.leaks[0]
        return (
            f"LEAK: {name} {output} moves with its own answer, token {token} of example {example} "
            f"({len(self.leaks):,} of {self.tested:,} pairs)"
        )


def answer_leaks(
    objective: Objective,
    model: nn.Module,
    examples: Sequence[Mapping[str, Any] | Sequence[int] | Tensor],
    special: SpecialIds,
    *,
    seed: int = 0,
    alternatives: int = 3,
    tolerance: float = 0.0,
) -> AnswerReport:
    """Change one token of a text at a time, corrupt it again with the same noise, and see which outputs move.

    An output whose label changed must not have moved: it would depend on the answer. Exempt is an output at whose own
    place the input changed too, as that of a token that masked LM keeps visible by design (of an objective that keeps
    some and predicts the next token: at the next place, where the output reads it); so are targets that are `copied`,
    and a change after which the corruption hides other tokens, which cannot be compared.

    - `examples` as the collator takes them; each keeps its `example_id`, its number in the list where it has none;
    - `special`: only tokens of text are changed, and only to ids of text;
    - `alternatives`, `tolerance` as in `probe`.

    The model needs random or trained weights: fresh blocks of ours are the identity.

    >>> import torch
    >>> from clozelab import PrefixLM, SpecialIds
    >>> from clozelab.evaluation import answer_leaks
    >>> objective, special = PrefixLM(), SpecialIds(vocab_size=20, pad=0, eos=1)
    >>> model = objective.build_model(20, "tiny", d_model=16, n_layers=2, n_heads=2)
    >>> for weight in model.parameters():
    ...     _ = torch.nn.init.normal_(weight, std=0.3)
    >>> print(answer_leaks(objective, model, [[5, 6, 7, 8, 9, 10]], special))
    no output moves with its own answer, in 3 pairs

    Raises `InputError` for a model whose output differs from run to run or is NaN, and what the collator raises.
    """
    check_type(objective, Objective, "the objective")
    check_type(model, nn.Module, "the model")
    check_int(alternatives, "alternatives", 1)
    if not check_number(tolerance, "tolerance") >= 0:
        raise InputError(f"tolerance must be at least 0, got {tolerance}")
    collate = objective.collator(special, seed=seed)
    candidates = candidate_ids(model, special.replacements)
    trials: list[_Trial] = []
    for number, example in enumerate(examples):
        original = {"example_id": number, **(example if isinstance(example, Mapping) else {"input_ids": example})}
        collate([original])  # which checks it
        variants, places = _variants(original, special, candidates, alternatives)
        if variants:
            trials.append(_Trial(number, original, variants, places))
    tested: set[tuple[str, int, int, int]] = set()
    leaks: set[tuple[str, int, int, int]] = set()
    with in_full_precision(model):
        for before, after, rows in _batches(collate, trials):
            changed = {name: pairs for name, pairs in _changed_answers(objective, before, after).items() if pairs.any()}
            if not changed:
                continue
            states = _states(objective, model, before)
            again = states if tested else _states(objective, model, before)  # once is enough to see random numbers
            others = _states(objective, model, after)
            for name, pairs in changed.items():  # (N, T)
                check_steady(states[name], again[name], tolerance)
                moved = pairs & differ(states[name], others[name], tolerance)
                for found, which in ((tested, pairs), (leaks, moved)):
                    found |= {(name, int(t), *rows[int(n)]) for n, t in which.nonzero()}
    return AnswerReport(len(tested), tuple(sorted(leaks)))


@dataclass(frozen=True)
class _Trial:
    """An example, and copies of it with one token changed each."""

    number: int
    original: dict[str, Any]
    variants: list[dict[str, Any]]
    places: list[int]


def _batches(collate: Collator, trials: Sequence[_Trial]) -> Iterator[tuple[Batch, Batch, list[tuple[int, int]]]]:
    """(originals, variants, the example and the changed place of each row): examples of one length share a batch.

    Where the lengths of rows change with the text, as with a corruption that hides by the ids, each is a batch alone.
    """
    by_length: dict[int, list[_Trial]] = {}
    for trial in trials:
        by_length.setdefault(len(trial.original["input_ids"]), []).append(trial)
    for alike in by_length.values():
        together = max(1, ROWS // len(alike[0].variants))
        for first in range(0, len(alike), together):
            part = alike[first : first + together]
            before = collate([one.original for one in part for _ in one.variants])
            after = collate([variant for one in part for variant in one.variants])
            if _same_keys(before, after):
                yield before, after, [(one.number, place) for one in part for place in one.places]
            elif len(part) > 1:
                for one in part:
                    yield from _batches(collate, [one])


def _variants(
    original: dict[str, Any], special: SpecialIds, candidates: Tensor, alternatives: int
) -> tuple[list[dict[str, Any]], list[int]]:
    """N copies of an example, each with one token of text changed, and the places of those tokens."""
    tokens = torch.as_tensor(original["input_ids"])
    text = (~special.is_special(tokens)).nonzero()[:, 0]
    if not len(text):
        return [], []
    at, put = replacements(tokens[text], candidates, alternatives)
    variants = []
    for place, token in zip(text[at], put):
        variant = {**original, "input_ids": tokens.index_fill(0, place, int(token))}
        if "labels" in original:  # labels of the caller's own follow the text where they equal it
            labels = torch.as_tensor(original["labels"])
            variant["labels"] = torch.where(labels == tokens, variant["input_ids"], labels)
        variants.append(variant)
    return variants, text[at].tolist()


def _same_keys(before: Batch, after: Batch) -> bool:
    return before.keys() == after.keys() and all(before[key].shape == after[key].shape for key in before)


def _changed_answers(objective: Objective, before: Batch, after: Batch) -> dict[str, Tensor]:
    """(N, T) bool by output: its label changed, the input at its place did not, and the rest of the row stayed."""
    same = torch.ones(len(before["input_ids"]), dtype=torch.bool)
    for key in before.keys() - IDS:
        same &= (before[key] == after[key]).flatten(1).all(1) if before[key].dim() > 1 else before[key] == after[key]
    own = "decoder_input_ids" if "decoder_input_ids" in before else "input_ids"
    kept, targets = before[own] == after[own], objective.targets(after)
    if objective.architecture == "decoder-only" and kept_share(objective) > 0:
        reads_next = objective.reads(before)["logits", "input_ids"].diagonal(1, 1, 2)  # (N, T - 1)
        kept[:, :-1] &= ~reads_next | kept[:, 1:]
    if (copied := objective.copied(before)) is not None:
        kept &= ~copied
    changed = {}
    for name, target in objective.targets(before).items():
        one, other = target.labels, targets[name].labels
        same &= ((one == IGNORED) == (other == IGNORED)).all(1)  # or it hides other tokens
        changed[name] = (one != other) & kept
    return {name: pairs & same[:, None] for name, pairs in changed.items()}


def kept_share(objective: Objective) -> float:
    """The share of the hidden tokens that its options let stay as they are."""
    replaced = getattr(objective, "mask_replace_prob", 1.0) + getattr(objective, "random_replace_prob", 0.0)
    return max(0.0, 1.0 - replaced)


def _states(objective: Objective, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What the model gives for a batch, by output: (N, T, ...)."""
    outputs = predictions(model, call(model, **objective.model_inputs(model, batch)))
    return {name: output.states for name, output in outputs.items()}
