"""Checks of a collator for prefix LM, masked diffusion, fill-in-the-middle and CM3: what is read, hidden and moved."""

from __future__ import annotations

from collections import Counter

import torch

from ...data import IGNORED
from ...errors import InputError
from ...objectives.cm3 import restore_moved_spans
from ..levels import weighted_sets
from ..report import FAULT, NOTE, OK, SURE, Finding, percent, table
from .kinds import MIDDLE_ROLES
from .own import class_levels
from .trial import CollatorTrial, of_kind


@of_kind("prefix")
def prefix(trial: CollatorTrial) -> Finding:
    """The prefix has no labels and is read on both sides; what follows is read from the left and in the loss."""
    texts = trial.texts(*[12, 7, 9] * 40, seed=11)
    batch, lengths = trial.batch(texts), Counter[int]()
    for b, text in enumerate(texts):
        n = len(text)
        read, labels, rank = (batch[key][b, :n] for key in ("input_ids", "labels", "reading_rank"))
        shown = table(text=text, read=read, rank=rank, labels=labels)
        if read.tolist() != text:
            return Finding(FAULT, "the inputs are not the text", shown)
        here = labels != IGNORED
        first = int(here.long().argmax()) if bool(here.any()) else n
        if not bool(here[first:].all()) or first == 0 or first == n:
            return Finding(
                FAULT, "the labels are not those of all tokens behind a prefix", shown, "the rest is not predicted"
            )
        if labels[first:].tolist() != text[first:]:
            return Finding(FAULT, "labels are not the tokens of the text at their place", shown)
        wanted = (torch.arange(n) - first + 1).clamp(min=0)
        if not torch.equal(rank[None] <= rank[:, None], wanted[None] <= wanted[:, None]):
            return Finding(
                FAULT,
                "the reading rank does not let the prefix be read on both sides and the rest from the left",
                shown,
                "token t reads s where rank[s] <= rank[t]: 0 in the prefix, and one more for each token behind it",
            )
        lengths[first] += n == 12
    if len(lengths - Counter([0])) < 3:
        return Finding(NOTE, f"prefixes of 12 tokens have the lengths {sorted(lengths)} alone")
    return Finding(OK, f"prefixes of {min(lengths)} to {max(lengths)} of 12 tokens, without labels, read on both sides")


@of_kind("weighted")
def hidden(trial: CollatorTrial) -> Finding:
    """Hidden tokens become the mask and are the labels; weights are those of the row, and count is its tokens."""
    texts = trial.texts(*[12, 7, 9, 20] * 40, seed=12)
    batch, mask = trial.batch(texts), trial.special.mask
    for b, text in enumerate(texts):
        n, original = len(text), torch.tensor(text)
        read, labels, weights = (batch[key][b, :n] for key in ("input_ids", "labels", "weights"))
        changed = read != original
        shown = table(text=text, read=read, labels=labels)
        problem = ""
        if bool((read[changed] != mask).any()):
            problem = f"something other than the mask {mask} stands in place of hidden tokens"
        elif bool((labels != torch.where(changed, original, IGNORED)).any()):
            problem = "labels are not the hidden tokens, and -100 elsewhere"
        elif bool((batch["weights"][b, n:] != 0).any()):
            problem = "padding has a weight"
        elif len(weights[weights != 0].unique()) > 1:
            problem = "the tokens of one text have different weights"
        elif int(batch["count"][b]) != int((weights != 0).sum()):
            problem = f"the count is {int(batch['count'][b])}, and {int((weights != 0).sum())} tokens may be hidden"
        if problem:
            return Finding(FAULT, problem, shown, "the weighted sum of a row bounds -ln p of all tokens that it counts")
    return Finding(OK, "hidden tokens become the mask, are the labels, and are weighted alike in each text")


@of_kind("weighted")
def levels(trial: CollatorTrial) -> Finding:
    """Every number of hidden tokens counts as much, and every choice of them is as probable."""
    if trial.objective is not None and (found := class_levels(trial)) is not None:
        return found
    texts = trial.texts(*[4] * 4000, seed=13, closed=False)
    batch = trial.batch(texts)
    in_loss = batch["labels"][:, :4] != IGNORED
    mass = (batch["weights"][:, :4].double() * in_loss).sum(1) / batch["count"].double().clamp(min=1)
    return weighted_sets(in_loss, mass)


@of_kind("middle")
def middle(trial: CollatorTrial) -> Finding:
    """Each moved text can be put together again, and its end is in the loss; cuts lie everywhere, in both forms."""
    n, forms, cuts = 6, Counter[str](), Counter[int]()
    texts = trial.texts(*[n + 1] * 600, seed=14)
    batch = trial.batch(texts)
    for text, (read, labels) in zip(texts, trial.rows(batch)):
        form, restored, places = _undone(trial, read)
        shown = table(text=text) + "\n" + table(read=list(read), labels=list(labels))
        if list(restored) != text:
            return Finding(
                FAULT,
                "prefix, middle and suffix put together are not the text",
                shown,
                "tokens are lost or in another order, or a role stands in the wrong place",
            )
        if any(label not in (token, IGNORED) for token, label in zip(read, labels)):
            return Finding(FAULT, "labels are not the tokens at their place", shown, "the loss shifts them")
        ends = [label for token, label in zip(read, labels) if token == trial.special[MIDDLE_ROLES[3]]]
        if any(label == IGNORED for label in ends):
            return Finding(
                FAULT, "the end of a middle is not in the loss", shown, "the model never learns where to stop filling"
            )
        forms[form] += 1
        cuts.update(places)
    if set(forms) == {"unmoved"}:
        return Finding(FAULT, "no text is moved, although role ids were seen", why="nothing is learned of a middle")
    return _spread(trial, forms, cuts, n)


def _undone(trial: CollatorTrial, read: tuple[int, ...]) -> tuple[str, tuple[int, ...], list[int]]:
    """(form, text, cuts as far as they are known) of a row; what cannot be undone comes back as it is."""
    begin, suffix, mid, end = (trial.special[role] for role in MIDDLE_ROLES)
    if not {begin, suffix, mid, end} & set(read):
        return "unmoved", read, []
    if any(read.count(one) != 1 for one in (begin, suffix, mid, end)) or read[0] != begin:
        return "broken", read, []
    s, m, e = read.index(suffix), read.index(mid), read.index(end)
    if not s < m < e:
        return "broken", read, []
    before, after, moved, rest = read[1:s], read[s + 1 : m], read[m + 1 : e], read[e + 1 :]
    text = (*before, *moved, *after, *rest)
    if s == 1:  # PRE SUF: the suffix comes first, and the first cut is not shown
        return "suffix first", text, [len(moved)]
    return "prefix first", text, [len(before), len(before) + len(moved)]


def _spread(trial: CollatorTrial, forms: Counter[str], cuts: Counter[int], n: int) -> Finding:
    """Of an objective whose class fixes the cuts, a fault where they are elsewhere; of any other collator a note."""
    never = [place for place in range(n + 1) if not cuts[place]]
    found = ", ".join(f"{count} {form}" for form, count in forms.items())
    rate, form = (getattr(trial.objective, name, None) for name in ("fim_rate", "form"))
    total, moved = forms.total(), forms.total() - forms["unmoved"]
    problem = f"no cut lies at {never} of 0 .. {n}" if never else ""
    if isinstance(rate, float) and abs(moved / total - rate) > SURE * (max(rate * (1 - rate), 1e-4) / total) ** 0.5:
        problem = f"{percent(moved / total)} of the texts are moved, and fim_rate is {percent(rate)}"
    elif form == "joint" and moved > 20 and not (forms["prefix first"] and forms["suffix first"]):
        problem = "the form is joint, and one of the two never occurs"
    if not problem:
        return Finding(OK, f"moved texts are whole, and cuts lie at all of 0 .. {n}: {found}")
    verdict = FAULT if trial.objective is not None else NOTE
    return Finding(verdict, f"{problem} ({found})", why="what is never moved is never asked for")


@of_kind("blanks")
def blanks(trial: CollatorTrial) -> Finding:
    """Each text can be put together again, the ends of spans are in the loss, and sentinels all are or none is."""
    n, special, spans, cuts, sentinels_in_loss = 6, trial.special, Counter[int](), Counter[int](), set[bool]()
    texts = trial.texts(*[n + 1] * 600, seed=15)
    for text, (read, labels) in zip(texts, trial.rows(trial.batch(texts))):
        shown = table(text=text) + "\n" + table(read=list(read), labels=list(labels))
        closed = read[-1] == special.eos  # behind the last span; it may stand at the end of the text as well
        try:
            restored, places = restore_moved_spans(read[: len(read) - closed], special.sentinels, special["span_end"])
        except InputError as error:
            return Finding(FAULT, f"the spans of a row cannot be put back: {error}", shown)
        if [*restored, *text[len(text) - closed :]] != text:
            return Finding(
                FAULT, "text and spans put together are not the text", shown, "tokens are lost, or twice there"
            )
        if any(label not in (token, IGNORED) for token, label in zip(read, labels)):
            return Finding(FAULT, "labels are not the tokens at their place", shown, "the loss shifts them")
        if any(label == IGNORED for token, label in zip(read, labels) if token == special["span_end"]):
            return Finding(FAULT, "the end of a span is not in the loss", shown, "the model never learns where to stop")
        sentinels_in_loss |= {label != IGNORED for token, label in zip(read, labels) if token in special.sentinels}
        spans[len(places) // 2] += 1
        cuts.update(places)
    asked = getattr(trial.objective, "predict_sentinels", None)
    if len(sentinels_in_loss) > 1 or asked not in (None, *sentinels_in_loss):
        which = "some sentinels are" if len(sentinels_in_loss) > 1 else f"predict_sentinels is {asked}, and they are"
        return Finding(FAULT, f"{which} {'' if True in sentinels_in_loss else 'not '}in the loss")
    found = ", ".join(f"{spans[k]} with {k}" for k in sorted(spans))
    if never := [place for place in range(n + 1) if not cuts[place]]:
        return Finding(FAULT if trial.objective is not None else NOTE, f"no span ends at {never} of 0 .. {n} ({found})")
    return Finding(OK, f"moved spans are whole, and end at all of 0 .. {n}: {found}")
