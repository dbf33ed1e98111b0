"""Checks of losses of several parts: weights that only one part may move, and ids that a model draws for the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import IGNORED, Batch
from ...models import eval_mode
from ...objectives import Prediction
from ...objectives.cross_entropy import loss_terms
from ..report import FAULT, NOT_CHECKED, OK, SURE, Finding, table
from .trial import Trial

Outputs = Mapping[str, Prediction]

TEXTS = 1024
"""In which enough ids are drawn to know their distribution."""


def separate(trial: Trial) -> Finding | None:
    """A part moves no weight of another that the class sets apart, but for tables over the vocabulary."""
    pairs = sorted(trial.objective.separate_parts())
    if not pairs:
        return None
    moved = {}
    for name in {name for pair in pairs for name in pair}:
        trial.gradient(trial.objective(trial.model, trial.batch)[name].mean)
        moved[name] = {
            weight for weight, p in trial.model.named_parameters() if p.grad is not None and bool(p.grad.any())
        }
    for one, other in pairs:
        if common := sorted((moved[one] & moved[other]) - _tables(trial)):
            return Finding(
                FAULT,
                f"{one} has a gradient at {len(common)} weights of {other}, such as {common[0]}",
                why=f"the class says that {one} teaches {other} nothing but the tables that both read: does a "
                "gradient pass through what is drawn?",
            )
    return Finding(OK, "; ".join(f"{one} moves no weight of {other} but tables" for one, other in pairs))


def _tables(trial: Trial) -> set[str]:
    """Names of the weights that have a row for each id, or for each position."""
    tables = {id(module.weight) for module in trial.model.modules() if isinstance(module, nn.Embedding)}
    size = trial.special.vocab_size
    return {name for name, p in trial.model.named_parameters() if id(p) in tables or (p.dim() == 2 and len(p) == size)}


def replaced(trial: Trial) -> Finding | None:
    """Ids are drawn in the place of text alone, from what the first output predicts, and every token is asked about."""
    names = [name for name, target in trial.objective.targets(trial.batch).items() if target.detects_replaced]
    if not names:
        return None
    texts = [trial.example(12 + n % 5, 5000 + n) for n in range(TEXTS)]
    for example in texts[::2]:  # ends of text, in the middle too
        example["input_ids"] = [*example["input_ids"], trial.special.eos, *example["input_ids"][:3], trial.special.eos]
    batch = trial.collate(texts)
    outputs = _outputs(trial, batch)
    for name in names:
        if outputs[name].sampled is None:
            return Finding(FAULT, f"{name} does not say which ids it reads: Prediction(..., sampled=ids)")
        for check in (_places, _draws, _classes):
            if (finding := check(trial, batch, outputs, name)) is not None:
                return finding
        if fault := _alone(trial, texts, outputs, name):
            return fault
    return Finding(OK, "ids are drawn from what the first output predicts, and every token is asked about")


def _places(trial: Trial, batch: Batch, outputs: Outputs, name: str) -> Finding | None:
    """A fault where a special id is replaced, or a token of the text is not asked about."""
    labels, is_token = trial.objective.targets(batch)[name].labels, batch["attention_mask"] != 0
    if bool(((labels != IGNORED) != is_token).any()):
        row = int(((labels != IGNORED) != is_token).any(1).nonzero()[0])
        return Finding(
            FAULT,
            f"{name} is asked about {int((labels != IGNORED).sum())} positions, and {int(is_token.sum())} are tokens",
            table(input_ids=batch["input_ids"][row], asked=labels[row] != IGNORED),
            "an answer about hidden tokens alone is 'replaced' nearly always, and about padding never",
        )
    sampled = _sampled(outputs, name)
    fixed = trial.special.is_special(labels.clamp(min=0)) | ~is_token
    off = fixed & (sampled != torch.where(is_token, labels, batch["input_ids"]))
    if bool(off.any()):
        row = int(off.any(1).nonzero()[0])
        return Finding(
            FAULT,
            f"{int(off.sum())} special ids or pads are replaced by drawn ones",
            table(labels=labels[row], sampled=sampled[row]),
            "where a text ends is no guess, and a replaced end is found at once: hide text alone (text_maskable)",
        )
    return None


def _draws(trial: Trial, batch: Batch, outputs: Outputs, name: str) -> Finding | None:
    """A fault where the drawn ids are not distributed as the first output predicts, by four statistics."""
    first, *_ = trial.objective.targets(batch)
    labels = trial.objective.targets(batch)[name].labels
    drawn = (labels != IGNORED) & (labels != batch["input_ids"])  # (B, T): the text is hidden
    if int(drawn.sum()) < 100:
        return Finding(NOT_CHECKED, f"only {int(drawn.sum())} tokens of {TEXTS} texts are hidden")
    p = _logits(outputs[first], drawn).double().softmax(-1)  # (N, V)
    sampled, text = _sampled(outputs, name)[drawn], labels[drawn]  # (N,)
    if not bool(((sampled >= 0) & (sampled < p.shape[1])).all()):
        return Finding(FAULT, f"{name} reads ids outside of the vocabulary, such as {int(sampled.min())}")
    for what, scores in _statistics(p, text):
        found, expected = scores.gather(1, sampled[:, None])[:, 0], (p * scores).sum(1)
        spread = ((p * scores**2).sum(1) - expected**2).clamp(min=0).sum().sqrt()
        if not abs(float((found - expected).sum())) <= SURE * float(spread) + 1e-9 * len(found):
            return Finding(
                FAULT,
                f"{len(found)} ids are not drawn from what {first} predicts: in the mean {what} is "
                f"{float(found.mean()):.4f}, expected {float(expected.mean()):.4f} ± {float(spread) / len(found):.4f}",
                table(text=text[:12], sampled=sampled[:12]),
                "ids that are no fair draw give themselves away; one may equal the text's, and is real then",
            )
    return None


def _classes(trial: Trial, batch: Batch, outputs: Outputs, name: str) -> Finding | None:
    """A fault where the loss takes another id for replaced than one that is not the text's; among many ids some are."""
    objective, target = trial.objective, trial.objective.targets(batch)[name]
    sampled, here = _sampled(outputs, name), target.loss_mask
    with torch.no_grad():
        found = objective.loss(outputs, batch)[name].sum
    wanted, weights = (sampled != target.labels)[here].long(), None if target.weights is None else target.weights[here]
    settings = objective.label_smoothing, objective.z_loss
    expected, _, _ = loss_terms(_logits(outputs[name], here), wanted, weights, *settings)
    if abs(float(found - expected)) <= trial.tolerance * max(1.0, abs(float(expected))):
        return None
    hits = (sampled == target.labels) & (batch["input_ids"] != target.labels)
    return Finding(
        FAULT,
        f"the sum of {name} is {float(found):.4f} nats over {TEXTS} texts, by hand {float(expected):.4f}, where "
        f"{int(hits.sum())} drawn ids are the text's own",
        why="a drawn id that equals the text's is real: nothing in the text says otherwise",
    )


def _statistics(p: Tensor, text: Tensor) -> Iterator[tuple[str, Tensor]]:
    """(name, (N, V) what each id would count) of probabilities p (N, V): fair draws have their expectation."""
    middle = p.cumsum(1) - p / 2 - 0.5
    yield "the probability of the id", p
    yield "its place in the cumulative distribution", middle
    yield "the square of that place", middle**2
    yield "the share of ids that are the text's own", F.one_hot(text.clamp(min=0), p.shape[1]).double()


def _alone(trial: Trial, texts: list[dict], outputs: Outputs, name: str) -> Finding | None:
    """A fault where another id is drawn for an example alone, or a second time."""
    together = _sampled(outputs, name)
    for b in (0, 1, len(texts) - 1):
        alone = _sampled(_outputs(trial, trial.collate([texts[b]])), name)[0]
        if not torch.equal(alone, together[b, : len(alone)]):
            return Finding(
                FAULT,
                "other ids are drawn for an example alone than among others",
                table(among_others=together[b, : len(alone)], alone=alone),
                "micro-batches and processes would change what is trained: draw by noise that comes with the batch",
            )
    return None


def _outputs(trial: Trial, batch: Batch) -> Outputs:
    with torch.no_grad(), eval_mode(trial.model):
        return trial.outputs(batch)


def _sampled(outputs: Outputs, name: str) -> Tensor:
    sampled = outputs[name].sampled
    assert sampled is not None
    return sampled


def _logits(prediction: Prediction, here: Tensor) -> Tensor:
    """(N, V) at the places here (B, T) bool, without a gradient."""
    states = prediction.states[here].detach()
    return states if prediction.table is None else F.linear(states, prediction.table.detach())
