"""Checks of a collator for masked LM: which tokens it hides, and what stands in their place."""

from __future__ import annotations

import torch

from ...data import IGNORED
from ..report import FAULT, NOT_CHECKED, NOTE, OK, SURE, Finding, percent, table
from .kinds import hidden_labels
from .trial import CollatorTrial, of_kind

BERT = (0.8, 0.1, 0.1)
"""Shares that become the mask token, a random one, or stay."""


@of_kind("masked")
def nothing(trial: CollatorTrial) -> Finding:
    """A text of special ids alone has no target."""
    batch = trial.batch([[trial.special.eos], trial.texts(16)[0]])
    in_loss = int((hidden_labels(batch)[0] != IGNORED).sum())
    if in_loss:
        return Finding(
            FAULT,
            f"{in_loss} positions of a text that is an end of text alone are in the loss",
            why="there is nothing to hide",
        )
    return Finding(OK, "a text of special ids alone is left alone")


@of_kind("masked")
def unselected(trial: CollatorTrial) -> Finding:
    """Nothing changes outside of the loss, and labels are the tokens of the text."""
    padded = trial.texts(6, 24, seed=4)
    pieces = [
        (padded, trial.batch(padded)),
        (trial.sample[0], {"input_ids": trial.sample[1], "labels": trial.sample[2]}),
    ]
    for texts, batch in pieces:
        for text, read, labels, hidden in zip(texts, batch["input_ids"], batch["labels"], hidden_labels(batch)):
            original = torch.as_tensor(text)
            original = torch.nn.functional.pad(original, (0, len(read) - len(original)), value=trial.special.pad)
            if int(read[0]) == trial.special.pad and int(original[0]) != trial.special.pad:
                original = original.roll(int((original == trial.special.pad).sum()))  # padded on the left
            changed = (read != original) & (hidden == IGNORED)
            if bool(changed.any()):
                at = int(changed.nonzero()[0])
                here = slice(max(0, at - 3), at + 4)
                return Finding(
                    FAULT,
                    f"inputs are changed outside of the loss ({percent(float(changed.float().mean()))} of a text)",
                    table(text=original[here], read=read[here], labels=labels[here]),
                    "the text is damaged, and padding becomes text",
                )
            wrong = (labels != IGNORED) & (labels != original)
            if bool(wrong.any()):
                at = int(wrong.nonzero()[0])
                here = slice(max(0, at - 3), at + 4)
                return Finding(
                    FAULT,
                    "labels are not the tokens that stood there",
                    table(text=original[here], read=read[here], labels=labels[here]),
                    "the model is trained on something other than the text",
                )
    return Finding(OK, "inputs are the text outside of the loss, labels are the text inside")


@of_kind("masked")
def loss_positions(trial: CollatorTrial) -> Finding:
    """Not all positions are in the loss."""
    _, read, labels = trial.sample
    share = float((labels != IGNORED).float().mean())
    if share > 0.95:
        return Finding(
            FAULT,
            f"{percent(share)} of the positions are in the loss, also those that the model can read",
            table(read=read[0, :12], labels=labels[0, :12]),
            "most of the loss is then copying, which any residual stream does at once",
        )
    return Finding(OK, f"{percent(share)} of the positions are in the loss")


@of_kind("masked")
def partition(trial: CollatorTrial) -> Finding:
    """80/10/10, or the shares that were asked for; all of them masked is right where nothing is asked for."""
    if trial.special.mask is None:
        return Finding(NOT_CHECKED, "the special ids have no mask")
    text, read, labels = trial.sample
    hidden = labels != IGNORED
    count = int(hidden.sum())
    masked = float((read[hidden] == trial.special.mask).double().mean())
    same = float((read[hidden] == text[hidden]).double().mean())
    other = 1 - masked - same
    found = (
        f"{percent(masked)} become the mask token, {percent(other)} another one, {percent(same)} stay, of {count} "
        "hidden tokens"
    )
    shares = trial.shares or declared_shares(trial)
    if shares is None and masked == 1.0:
        return Finding(OK, found)
    asked, shares = shares is not None, shares or BERT
    coincidence = shares[1] / len(trial.special.replacements)  # a random token may be the one that stood there
    wanted = shares[0], shares[1] - coincidence, shares[2] + coincidence
    for share, want in zip((masked, other, same), wanted):
        if abs(share - want) > SURE * (max(want * (1 - want), 1e-4) / count) ** 0.5:
            return Finding(
                FAULT,
                f"{found}; {'asked for were' if asked else 'those of BERT are'} "
                f"{' / '.join(percent(share) for share in shares)}",
                why="independent draws for each part eat into one another: draw once and cut [0, 1) into three"
                + ("" if asked else "; give shares= where others are meant"),
            )
    return Finding(OK, found)


def declared_shares(trial: CollatorTrial) -> tuple[float, float, float] | None:
    """Those that the objective, or the collator itself, has as attributes, by Hugging Face's names."""
    owner = trial.objective or trial.collator
    masked, other = (getattr(owner, name, None) for name in ("mask_replace_prob", "random_replace_prob"))
    if not isinstance(masked, (int, float)) or not isinstance(other, (int, float)):
        return None
    return float(masked), float(other), 1.0 - masked - other


@of_kind("masked")
def replacements(trial: CollatorTrial) -> Finding:
    """No special id replaces a token."""
    text, read, labels = trial.sample
    special = torch.tensor([one for one in trial.special.all if one != trial.special.mask])
    put = (labels != IGNORED) & (read != text) & torch.isin(read, special)
    if bool(put.any()):
        row, at = put.nonzero()[0].tolist()
        here = slice(max(0, at - 3), at + 4)
        found = read[put].unique().tolist()
        return Finding(
            FAULT,
            f"special ids stand in place of hidden tokens: {found[:8]}, {int(put.sum())} times",
            table(text=text[row, here], read=read[row, here], labels=labels[row, here]),
            "padding, ends of text and sentinels appear in the middle of texts, where they mean nothing",
        )
    put = (labels != IGNORED) & (read != text) & (read != (-1 if trial.special.mask is None else trial.special.mask))
    ids, choice = read[put], len(trial.special.replacements)
    if len(ids) >= 20 and len(ids.unique()) * 10 < min(len(ids), choice):
        return Finding(
            FAULT,
            f"{len(ids)} hidden tokens are replaced by {len(ids.unique())} different ids of {choice}",
            why="the model learns that these ids mean hidden, as it knows of the mask: draw one for each token",
        )
    several = [row[here].unique() for row, here in zip(read, put) if int(here.sum()) >= 3]
    alike = sum(len(one) == 1 for one in several)
    if alike > 4 and alike > len(several) / 2 and choice > 4:
        return Finding(
            FAULT,
            f"in {alike} of {len(several)} texts all replaced tokens become one and the same id",
            why="two equal tokens that fit nowhere give both away: draw one for each token",
        )
    return Finding(OK, f"random replacements are never special ids, and {len(ids.unique())} different ones")


@of_kind("masked")
def protected(trial: CollatorTrial) -> Finding:
    """No special id is hidden."""
    texts = trial.texts(*[6, 12] * 40, seed=5)
    labels = hidden_labels(trial.batch(texts))
    bad = torch.isin(labels, torch.tensor(trial.special.all))
    if bool(bad.any()):
        row = int(bad.nonzero()[0][0])
        return Finding(
            FAULT,
            "special ids are hidden and in the loss",
            table(labels=labels[row]),
            "the end of a text and its padding are known from their places: there is nothing to learn from them",
        )
    return Finding(OK, "special ids and padding are never hidden")


@of_kind("masked", "spans", "prefix", "weighted", "middle", "blanks")
def targets(trial: CollatorTrial) -> Finding:
    """Every text has a target."""
    short: tuple[int, list[int], list[int]] | None = None
    shares = []
    for length in (2, 4, 8, 16, 32):
        texts = trial.texts(*[length] * 200, seed=length)
        labels = hidden_labels(trial.batch(texts))
        without = (labels != IGNORED).sum(1) == 0
        if bool(without.any()):
            row = int(without.nonzero()[0])
            short = short or (length, texts[row], labels[row].tolist())
            shares.append(f"{percent(float(without.float().mean()))} at {length}")
    if short is not None:
        return Finding(
            NOTE if trial.kind == "weighted" else FAULT,  # the papers' form hides each token by itself
            f"texts without any target: {', '.join(shares)} tokens",
            table(text=short[1], labels=short[2]),
            "nothing is learned from such a text, and a batch of them has the mean 0 / 0 = NaN",
        )
    return Finding(OK, "every text has a target, the shortest too")
