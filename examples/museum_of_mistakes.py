"""Fourteen mistakes, each beside its correct counterpart: the curve, the check that finds it, the cost.

    python examples/museum_of_mistakes.py             some minutes on one core; writes runs/museum.png and museum.json
    python examples/museum_of_mistakes.py --quick     one seed, 2 steps: enough for the checks

The language is known exactly (a Markov source, 0.7 nats a token), the models have two layers of width 32, 400 steps
each. What came out, over three seeds (weights, text, masks), mean and standard deviation:

    mistake                    found by         in the end                        correct         mistaken
    labels shifted twice       InputError       nats per held-out token           0.700 ± 0.003   1.738 ± 0.019
    no causal mask             reads            the same, given the past alone    0.706 ± 0.000   5.244 ± 0.033
    prefix in the loss         reads            nats after the prefix             0.700 ± 0.005   0.704 ± 0.005
    mean of means              accumulation     nats per hidden token             0.604 ± 0.048   0.662 ± 0.032
    81/9/10 for 80/10/10       partition        nats per hidden token             0.533 ± 0.047   0.511 ± 0.019
    random tokens anywhere     unselected       nats per hidden token             0.533 ± 0.047   0.540 ± 0.037
    frozen masks               epochs           nats per hidden token             0.519 ± 0.021   1.223 ± 0.131
    pad = end of text          end of text      % of texts that end               100.0 ± 0.0     0.0 ± 0.0
    sentinels out of step      round trip       nats per target                   0.498 ± 0.065   4.230 ± 1.400
    weights dropped            uniform          nats per token, at most           0.934 ± 0.162   0.886 ± 0.102
    sign of a weight           returns          nats per token after the next     0.701 ± 0.003   172.091 ± 2.326
    end of the middle cut      text             % of middles that end             100.0 ± 0.0     0.0 ± 0.0
    means of two kinds         accumulation     nats per token of masked rows     0.494 ± 0.016   0.511 ± 0.026
    gradient into the generator  separate parts nats per hidden token             0.469 ± 0.014   2.117 ± 0.143

Five of them have no cost that three seeds can show: the prefix in the loss (+0.004 ± 0.002 nats), the shares of
80/10/10 by independent draws (-0.022 ± 0.028), dropped weights (-0.048 ± 0.060, but the loss that they leave, 0.522 of
the first seed, is below what the language has), the means of two kinds (+0.017 ± 0.018, and causal rows, which count
too much, are better by 0.041 ± 0.015), and random tokens outside the loss (+0.007 ± 0.010), although the
training loss of the last is visibly higher. Of the first nine, four training losses end well below the correct one
(no causal mask, prefix in the loss, frozen masks, pad = end of text), the first two below what is possible; the others
look wrong only beside it, and sentinels out of step not even there. The correct model fills 60.6% of the spans as they
were, the one out of step 44.4%; the most frequent token everywhere would fill 56.7%.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import museum_family
import museum_first_objectives
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from museum_shared import Exhibit

from clozelab.errors import InputError
from clozelab.testing import CheckFailed

STEPS, SEEDS = 400, 3
LINES = (("correct", "#0072B2", "-"), ("mistaken", "#D55E00", "--"))  # of Okabe and Ito's palette
LEGEND = """Line: mean over the seeds. Shade: their range.

In the end: measured on both models after training,
correct -> mistaken, mean ± standard deviation."""
EXHIBITS = museum_first_objectives.EXHIBITS | museum_family.EXHIBITS


def verdict(check: Callable[[], object]) -> str:
    """What the check found, or "passed"."""
    try:
        check()
    except InputError as error:
        return f"InputError: {error}"
    except CheckFailed as failed:
        return "; ".join(f"FAULT {name}: {failed.report.findings[name].found}" for name in failed.report.faults)
    return "passed"


def in_words(what: str, pairs: Sequence[tuple[float, float]]) -> str:
    """Mean ± standard deviation over the seeds, and whether the difference is significant (paired t-test, p < 0.05)."""
    wrong_less_right, seeds = [b - a for a, b in pairs], len(pairs)
    digits = 1 if what.startswith("%") else 3

    def spread(values: Sequence[float]) -> str:
        return f"{fmean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if seeds > 1 else "")

    text = f"{' -> '.join(map(spread, zip(*pairs)))}\ndifference {spread(wrong_less_right)}"
    student_t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(seeds, 2.57)
    not_significant = seeds > 1 and abs(fmean(wrong_less_right)) <= student_t * stdev(wrong_less_right) / seeds**0.5
    return text + (f" (not significant over {seeds} seeds)" if not_significant else "")


def visit(make: Callable[[int, int], Exhibit], steps: int, seeds: int) -> dict[str, Any]:
    """What the checks found in an exhibit, what was measured on both models, and their training losses."""
    exhibits = [make(seed, steps) for seed in range(seeds)]
    right, wrong = (verdict(check) for check in exhibits[0].checks)
    return {
        "numbers": exhibits[0].numbers,
        "check": wrong,
        "check_if_correct": right,
        "costs": {
            what: [tuple(exhibit.costs[what](model) for model, _ in exhibit.students) for exhibit in exhibits]
            for what in exhibits[0].costs
        },
        "curves": [[curve for _, curve in exhibit.students] for exhibit in exhibits],
        "floor": exhibits[0].floor,
    }


def draw(axes: Axes, name: str, result: dict[str, Any]) -> None:
    """Training losses in 20 bins: the line is their mean over the seeds, the shade their range."""
    curves = torch.tensor(result["curves"])  # (seeds, 2, steps)
    width = max(1, curves.shape[2] // 20)
    bins = curves[..., : curves.shape[2] // width * width].unflatten(2, (-1, width)).mean(3)
    steps, ends = (torch.arange(bins.shape[2]) + 0.5) * width, bins[:, :, -1].mean(0).tolist()
    for which, (word, colour, style) in enumerate(LINES):
        lines = bins[:, which]
        axes.fill_between(steps, lines.amin(0), lines.amax(0), color=colour, alpha=0.2, linewidth=0)
        axes.plot(steps, lines.mean(0), color=colour, linewidth=2, linestyle=style)
        above = ends[which] > ends[1 - which]
        last = bins[..., -len(steps) // 3 :]  # the words stand over, or under, both lines there
        place = {"xytext": (0, 6 if above else -6), "ha": "right", "va": "bottom" if above else "top", "color": colour}
        where = steps[-1], float(last.amax() if above else last.amin())
        axes.annotate(f"{word} {ends[which]:.2f}", where, textcoords="offset points", **place)
    low, high = float(bins.amin()), float(bins.amax())
    room = (high - min(low, 0)) / 8
    axes.set_ylim(0 if low > room else low - room, high + room)
    if result["floor"] is not None:
        axes.axhline(result["floor"], color="#555555", linestyle=":", linewidth=1)
        place = {"xytext": (0, -3), "textcoords": "offset points", "va": "top", "color": "#555555"}
        axes.annotate(f"least possible {result['floor']:.2f}", (steps[len(steps) // 4], result["floor"]), **place)
    what, pairs = next(iter(result["costs"].items()))
    axes.set_title(f"{name}\nfound: {result['check'].split(':')[0]}", fontsize=11, loc="left")
    axes.set_xlabel(f"step\nin the end: {what}\n{in_words(what, pairs)}", fontsize=9)


def save_picture(results: dict[str, dict], path: Path) -> None:
    """All exhibits, three in a row."""
    rows = math.ceil(len(results) / 3)
    figure = Figure(figsize=(13, 4.3 * rows), layout="constrained")
    places = figure.subplots(rows, 3).flat
    for axes, (name, result) in zip(places, results.items()):
        draw(axes, name, result)
    for axes in places[len(results) :]:
        axes.set_axis_off()
        axes.text(0, 1, LEGEND, va="top", fontsize=11, linespacing=1.5)
    figure.supylabel("training loss (nats per loss position)", fontsize=11)
    figure.savefig(path, dpi=110)


def main(steps: int = STEPS, seeds: int = SEEDS, out: Path = Path("runs/museum.png")) -> dict[str, dict]:
    """Run all exhibits; returns for each what the checks found and what was measured."""
    results = {}
    for name, make in EXHIBITS.items():
        results[name] = result = visit(make, steps, seeds)
        print(f"\n{name}: {make.__doc__}\n  the numbers    {result['numbers']}")
        print(f"  the check      {result['check']}\n  if correct     {result['check_if_correct']}")
        for what, pairs in result["costs"].items():
            print(f"  the cost       {what}: {in_words(what, pairs)}".replace("\n", ", "), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_picture(results, out)
    record = {"steps": steps, "seeds": seeds, "pairs": [word for word, _, _ in LINES], "exhibits": results}
    out.with_suffix(".json").write_text(json.dumps(record))
    print(f"\nthe curves: {out}, all numbers: {out.with_suffix('.json')}")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/museum.png"), help="the picture; the numbers are written beside it"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, 2 steps: enough for the checks alone")
    arguments = parser.parse_args()
    main(*((2, 1) if arguments.quick else (STEPS, SEEDS)), out=arguments.out)
