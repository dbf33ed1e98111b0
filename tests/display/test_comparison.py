"""The table of a comparison can be read at any width, however many objectives there are."""

import re
from types import SimpleNamespace

import pytest

from clozelab.display import objectives_table, print_comparison
from clozelab.objectives import OBJECTIVES, CausalLM


def compared(name):
    heldout = SimpleNamespace(loss_share=0.15, bits_per_byte=1.7, by_kind="", weighted_parts="")
    return SimpleNamespace(
        objective=OBJECTIVES[name](),
        parameters=1.3e6,
        length=32,
        result=SimpleNamespace(tokens=160_000, heldout=heldout, tokens_per_second=6629.0),
        heldout=4.2,
        unigram=6.5,
        uniform=8.3,
        flops=3 * 10**12,
        completions={"continue": f"a sample of [{name}] \x1b[31m"},
        cannot={"fill": "reads what comes before it; predicts every next token"},
    )


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_objective_is_shown_whole(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    print_comparison([compared(name) for name in OBJECTIVES], "corpus [bold] \x1b")
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    printed = "\n".join(lines)
    assert "…" not in printed
    assert "\x1b" not in printed
    assert f"{len(OBJECTIVES)} objectives on corpus [bold] ␛, 160 k tokens of text each" in " ".join(lines)
    for name, kind in OBJECTIVES.items():
        assert name in printed
        assert f"a sample of [{name}] ␛[31m" in printed
        assert re.search(rf"^{name} +cannot: reads what", printed, re.MULTILINE)
        assert all(word in printed for word in kind.hides.split())  # no word is broken
    tables = printed.count("held-out loss")
    assert tables == -(-len(OBJECTIVES) // ((width - 18) // 20))


def test_equal_compute_is_said_with_the_tokens_and_the_operations_of_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    one, other = compared("causal"), compared("masked")
    other.result.tokens, other.flops = 320_000, 3_020_000_000_000
    print_comparison([one, other], "corpus", "compute")
    printed = capsys.readouterr().out
    first = " ".join(printed.split())
    assert "3 TFLOP of training each, the cost of 160 k tokens of text for causal; to the nearest step" in first
    [seen] = [line for line in printed.splitlines() if "text seen" in line]
    assert seen.split()[2:] == ["160", "k", "tokens", "320", "k", "tokens"]
    [spent] = [line for line in printed.splitlines() if "training  " in line]
    assert spent.split()[1:] == ["3", "TFLOP", "3.02", "TFLOP"]
    assert "Losses of two objectives are not comparable" in first


def test_small_budgets_parts_and_the_share_in_the_loss_are_said_as_elsewhere(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    one, other = compared("causal"), compared("electra")
    one.length = other.length = 128
    one.result.tokens = 448
    other.result.heldout.weighted_parts = "generator 5.375 + 50 x discriminator 0.449"
    print_comparison([one, other], "corpus")
    printed = capsys.readouterr().out
    assert "on corpus, 448 tokens of text each" in printed
    [share] = [line for line in printed.splitlines() if line.strip().startswith("in the loss ")]
    told = [float(row["in the loss"].rstrip("%")) for row in objectives_table([CausalLM, OBJECTIVES["electra"]])]
    assert [round(float(cell.rstrip("%"))) for cell in share.split()[3:]] == told, share
    assert "generator 5.375" in printed
    assert "their weighted sum, each divided by its own count" in " ".join(printed.split())
