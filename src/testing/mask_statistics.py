"""Checks of a masking scheme that take many rows: how much it hides, where, and whether its masks vary."""

from __future__ import annotations

import torch

from .mask_trial import MaskTrial
from .report import FAULT, NOT_CHECKED, NOTE, OK, SURE, Finding, percent, table


def varies(trial: MaskTrial) -> Finding:
    """The same tokens with many generators: rows of different tokens would look varied anyway."""
    frozen = Finding(FAULT, "")
    for text in range(8):
        tokens = trial.tokens(trial.length, text)
        free = torch.ones(len(tokens), dtype=torch.bool)
        masks = torch.stack([trial.ask(tokens, free, seed) for seed in range(40)])
        different = len(masks.unique(dim=0))
        if different > 1:
            return Finding(OK, f"{different} different masks of one text by 40 generators")
        frozen = Finding(
            FAULT,
            "the mask of a text is the same whatever the generator",
            table(tokens=tokens[:24], hidden=masks[0, :24]),
            "each epoch repeats the one before, so the model learns the answers by heart; draw from the generator",
        )
    return frozen


def rate(trial: MaskTrial) -> Finding:
    """Whether the share of hidden tokens is the rate that was asked for, within accident and rounding."""
    shares = torch.stack([mask.double().mean() for mask in trial.masks])  # (rows,)
    lengths = torch.tensor([float(len(mask)) for mask in trial.masks])
    mean, spread, length = float(shares.mean()), float(shares.std()), float(lengths.mean())
    found = f"{percent(mean)} of {length:.0f} tokens are hidden, ± {percent(spread)} from row to row"
    if trial.rate is None:
        return Finding(NOT_CHECKED, f"{found}; give rate= to compare it")
    rounding = float((0.5 / lengths).mean())  # a row can hide only whole tokens
    allowed = SURE * spread / len(shares) ** 0.5 + rounding
    if abs(mean - trial.rate) > allowed:
        return Finding(
            FAULT,
            f"{found}, but {percent(trial.rate)} was asked for (accident and rounding explain ± {percent(allowed)})",
            why="the rate decides how much is read and how much is predicted: two rates are two objectives",
        )
    return Finding(OK, found)


def protected_rate(trial: MaskTrial) -> Finding | None:
    """Where 3/4 is protected, the same share of the rest should be hidden: the count is of maskable tokens."""
    if trial.texts is not None:
        return None  # what is hidden depends on which tokens are left
    shares = [(int(mask.sum()), int(free.sum())) for _, free, mask in trial.long_rows(100, 0.25)]
    hidden, free = (torch.tensor(column).double() for column in zip(*shares))
    share, usual = float((hidden / free).mean()), float(torch.stack(trial.masks).double().mean())
    found = f"{percent(share)} of the maskable tokens are hidden where 3/4 is protected, {percent(usual)} where none is"
    rounding = float((1.0 / free).mean())  # at least one token, and whole tokens only
    if share > max(1.5 * usual, usual + rounding + SURE * float((hidden / free).std()) / len(shares) ** 0.5):
        return Finding(
            FAULT,
            found,
            why="the number of hidden tokens follows from len(tokens); count maskable.sum(), or rows with many special "
            "tokens lose most of their text",
        )
    return Finding(OK, found)


def short_texts(trial: MaskTrial) -> Finding | None:
    """The share that is hidden of texts of 4 to 12 tokens, where a minimum weighs most."""
    if trial.texts is not None:
        return None
    shares = {}
    for length in (4, 6, 8, 12):
        free = torch.ones(length, dtype=torch.bool)
        masks = torch.stack([trial.ask(trial.tokens(length, seed), free, seed) for seed in range(40)])
        shares[length] = float(masks.double().mean())
    whole = [length for length, share in shares.items() if share > 0.9]
    found = ", ".join(f"{percent(share)} of {length} tokens" for length, share in shares.items())
    if whole:
        return Finding(
            NOTE, f"short texts are hidden altogether: {found}", why="there is nothing left to predict them from"
        )
    return Finding(OK, f"of short texts are hidden: {found}")


def spans(trial: MaskTrial) -> Finding:
    """How many runs of hidden tokens a row has, and their lengths; for information."""
    runs = hidden = longest = 0
    for mask in trial.masks:
        edges = torch.nn.functional.pad(mask, (1, 1)).int().diff()  # +1 where a run begins, -1 behind its end
        lengths = (edges == -1).nonzero()[:, 0] - (edges == 1).nonzero()[:, 0]
        runs, hidden = runs + len(lengths), hidden + int(mask.sum())
        longest = max(longest, int(lengths.max()) if len(lengths) else 0)
    per_row, mean = runs / len(trial.masks), hidden / max(runs, 1)
    return Finding(NOTE, f"{per_row:.2f} runs in a row, of {mean:.2f} tokens on average, {longest} at most")


def position(trial: MaskTrial) -> Finding | None:
    """Whether every position is hidden equally often, within accident."""
    if trial.texts is not None:
        return None  # which tokens stand where is the texts' own affair
    often = torch.stack(trial.masks).double().mean(0)  # (length,)
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
        "construction, so this is not a fault; take it into account when you compare",
    )
