"""The table of a comparison can be read at any width, however many objectives there are."""

from types import SimpleNamespace

import pytest

from clozelab.display import print_comparison
from clozelab.objectives import OBJECTIVES


def compared(name):
    heldout = SimpleNamespace(loss_share=0.15, bits_per_byte=1.7, by_kind="")
    return SimpleNamespace(
        objective=OBJECTIVES[name](),
        parameters=1.3e6,
        result=SimpleNamespace(tokens=160_000, heldout=heldout, tokens_per_second=6629.0),
        heldout=4.2,
        unigram=6.5,
        uniform=8.3,
        sample=f"a sample of [{name}] \x1b[31m",
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
    assert f"{len(OBJECTIVES)} objectives on corpus [bold] ␛, 0.16 M tokens of text each" in " ".join(lines)
    for name, kind in OBJECTIVES.items():
        assert name in printed
        assert f"a sample of [{name}] ␛[31m" in printed
        assert all(word in printed for word in kind.hides.split())  # no word is broken
    tables = printed.count("held-out loss")
    assert tables == -(-len(OBJECTIVES) // ((width - 18) // 20))
