"""Checks of a masking scheme that take many rows: how much it hides, where, and whether its masks vary."""

from __future__ import annotations

import torch

from ..data.masking import scheme_keys
from .mask_trial import MaskTrial
from .report import FAULT, NOT_CHECKED, NOTE, OK, SURE, Finding, percent, table


def varies(trial: MaskTrial) -> Finding:
    """The same tokens with many generators: rows of different tokens would look varied anyway."""
    frozen = Finding(FAULT, "")
    for number in range(8 if trial.rows is None else min(len(trial.rows), 64)):
        row = trial.row(trial.length, number)
        free = torch.ones(len(row[0]), dtype=torch.bool)
        masks = torch.stack([trial.ask(row, free, seed) for seed in range(40)])
        different = len(masks.unique(dim=0))
        if different > 1:
            return Finding(OK, f"{different} different masks of one text by 40 generators")
        if bool(masks.all()) and trial.rate in (None, 1.0):
            verdict = NOTE if trial.rate is None else OK
            return Finding(verdict, "all that is maskable is hidden, whatever the generator: nothing can vary")
        frozen = Finding(
            FAULT,
            "the mask of a text is the same whatever the generator",
            table(tokens=row[0][:24], hidden=masks[0, :24]),
            "each epoch repeats the one before, so the model learns the answers by heart; draw from the generator",
        )
    return frozen


def variety(trial: MaskTrial) -> Finding:
    """Long texts have many masks: a scheme that picks one of a few was drawn once and for all."""
    if trial.rows is not None:
        return Finding(NOT_CHECKED, "how many masks rows of your own allow is not known")
    length, draws = 4 * trial.length, 300
    free = torch.ones(length, dtype=torch.bool)
    row = trial.row(length, 0)
    of_one = torch.stack([trial.ask(row, free, seed) for seed in range(draws)]).unique(dim=0)  # (masks, length)
    if len(of_one) > draws / 4:
        return Finding(OK, f"{len(of_one)} different masks of a text of {length} tokens by {draws} generators")
    if len(of_one) == 1:
        return Finding(NOT_CHECKED, "a text has one mask: see 'varies'")
    found = f"{draws} generators give {len(of_one)} different masks of a text of {length} tokens"
    of_many = torch.stack([trial.ask(trial.row(length, seed), free, seed) for seed in range(draws)]).unique(dim=0)
    if len(of_many) > draws / 4:
        return Finding(NOTE, f"{found}, and other masks of other texts: does it look at what the tokens are?")
    often = of_one.sum(0)  # (length,)
    if int(often.min()) > 0 and int(often.max() - often.min()) <= 1:
        return Finding(NOTE, f"{found}, which hide every position equally often")
    never = percent(float((often == 0).double().mean()))
    return Finding(
        FAULT,
        f"{found}, and {never} of the positions are hidden in none of them",
        table(**{f"mask {number}": mask[:32] for number, mask in enumerate(of_one[:4])}),
        "the masks come from a fixed set, so the model can learn by heart what is never shown; draw each one from the "
        "generator",
    )


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
    if trial.rows is not None:
        return Finding(OK, found)
    free = torch.ones(512, dtype=torch.bool)
    longer = torch.stack([trial.ask(trial.row(512, seed), free, seed) for seed in range(60)]).double().mean(1)  # (60,)
    allowed = SURE * max(float(longer.std()) / len(longer) ** 0.5, 1e-9) + 1 / 512
    if abs(float(longer.mean()) - trial.rate) > allowed:
        return Finding(
            FAULT,
            f"{found}; of 512 tokens {percent(float(longer.mean()))}, but {percent(trial.rate)} was asked for",
            why="the rate changes with the length: are tokens drawn twice, or is a count fixed?",
        )
    return Finding(OK, found)


def words(trial: MaskTrial) -> Finding | None:
    """Two words of one id, which begins again for another text, are not one word."""
    if "word_ids" not in scheme_keys(trial.scheme):
        return None
    if trial.rows is not None:
        return Finding(NOT_CHECKED, "whether rows of your own hold two words of one id was not looked at")
    apart = together = 0
    for seed in range(100):
        row = trial.row(trial.length, seed)
        word, half = row[1]["word_ids"], trial.length // 2
        mask = trial.ask(row, torch.ones(trial.length, dtype=torch.bool), seed)
        for one in set(word[:half].tolist()) & set(word[half:].tolist()):
            first, second = mask[:half][word[:half] == one], mask[half:][word[half:] == one]
            apart += bool(first.any()) != bool(second.any())
            together += bool(first.any()) and bool(second.any())
    if not apart and together:
        return Finding(
            FAULT,
            f"words of one id are always hidden together, {together} times, wherever they stand",
            why="word_ids() begins again at 0 for the second text of a pair and for each document of a packed row: a "
            "new word begins where the id changes",
        )
    cut = _cut_words(trial)
    if cut is not None:
        return cut
    return Finding(OK, f"of two words with one id one alone is hidden {apart} times, both {together} times")


def _cut_words(trial: MaskTrial) -> Finding | None:
    """A fault where a word is hidden in part, though it is short and the whole of it may be hidden."""
    for seed in range(40):
        tokens, data = trial.row(trial.length, seed)
        mask = trial.ask((tokens, data), torch.ones(trial.length, dtype=torch.bool), seed)
        word = (data["word_ids"].diff(prepend=data["word_ids"][:1]) != 0).cumsum(0)  # runs
        for one in word.unique().tolist():
            here = word == one
            if 2 * int(here.sum()) <= trial.length and bool(mask[here].any()) and not bool(mask[here].all()):
                at = int(here.nonzero()[0])
                some = slice(max(0, at - 2), at + int(here.sum()) + 2)
                return Finding(
                    FAULT,
                    "a word is hidden in part",
                    table(tokens=tokens[some], word_ids=data["word_ids"][some], hidden=mask[some]),
                    "the visible part of a word gives the rest away",
                )
    return None


def protected_rate(trial: MaskTrial) -> Finding:
    """Where 3/4 is protected, the same share of the rest should be hidden: the count is of maskable tokens."""
    if trial.rows is not None:
        return Finding(NOT_CHECKED, "what is hidden of rows of your own depends on which tokens are left")
    shares, usual = [], []
    for seed, (_, free, mask) in enumerate(trial.long_rows(100, 0.25)):
        n = int(free.sum())
        alone = trial.ask(trial.row(n, seed), torch.ones(n, dtype=torch.bool), trial.count + seed)
        shares.append(int(mask.sum()) / n)
        usual.append(int(alone.sum()) / n)
    apart = torch.tensor(shares).double() - torch.tensor(usual).double()
    found = (
        f"{percent(sum(shares) / len(shares))} of the maskable tokens are hidden where 3/4 is protected, "
        f"{percent(sum(usual) / len(usual))} of a text of as many"
    )
    if float(apart.mean()) > max(0.5 * sum(usual) / len(usual), SURE * float(apart.std()) / len(apart) ** 0.5):
        return Finding(
            FAULT,
            found,
            why="the number of hidden tokens follows from len(tokens); count maskable.sum(), or rows with many special "
            "tokens lose most of their text",
        )
    return Finding(OK, found)


def short_texts(trial: MaskTrial) -> Finding:
    """The share that is hidden of texts of 4 to 12 tokens, where a minimum weighs most."""
    if trial.rows is not None:
        return Finding(NOT_CHECKED, "rows of your own are not cut")
    shares = {}
    for length in (4, 6, 8, 12):
        free = torch.ones(length, dtype=torch.bool)
        masks = torch.stack([trial.ask(trial.row(length, seed), free, seed) for seed in range(40)])
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


def position(trial: MaskTrial) -> Finding:
    """Whether every position is hidden equally often, within accident."""
    if trial.rows is not None:
        return Finding(NOT_CHECKED, "which tokens stand where is the affair of your own rows")
    masks = torch.stack(trial.masks)  # (count, length)
    often = masks.double().mean(0)  # (length,)
    mean = float(often.mean())
    error = max((mean * (1 - mean) / trial.count) ** 0.5, 1e-9)
    worst = float(((often - mean) / error).abs().max())
    if worst <= SURE:
        return Finding(OK, f"every position is hidden about as often ({percent(mean)})")
    never = (often == 0).nonzero()[:, 0].tolist()
    runs = sum(int((torch.nn.functional.pad(mask, (1, 0)).int().diff() == 1).sum()) for mask in trial.masks)
    alone = 1 - mean  # runs per hidden token, if each token is drawn by itself
    by_itself = runs / max(sum(int(mask.sum()) for mask in trial.masks), 1) > 0.9 * alone
    if never and by_itself and mean * trial.count >= 20 and len(masks.unique(dim=0)) > 1:
        return Finding(
            FAULT,
            f"the positions {never[:8]} of 0 to {trial.length - 1} are never hidden in {trial.count} rows, and "
            f"{percent(mean)} of all are",
            why="single tokens are drawn, and not all of them can be: is the end of a range left out?",
        )
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
