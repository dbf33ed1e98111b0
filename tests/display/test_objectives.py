"""The table of all objectives is what the classes declare, and the page has it as the command prints it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from clozelab.display import objectives_markdown, objectives_table, print_objectives
from clozelab.display.objectives import source_of
from clozelab.models import rank_mask
from clozelab.objectives import OBJECTIVES, CausalLM

PAGE = Path(__file__).parents[2] / "docs" / "objectives" / "index.md"


@pytest.fixture(scope="module")
def rows():
    return objectives_table(OBJECTIVES.values())


def test_the_page_has_the_tables_that_the_command_prints(rows):
    assert objectives_markdown(rows) in PAGE.read_text(encoding="utf-8")


def test_the_page_is_right_about_what_is_left_out():
    """XLNet's two streams by the ranks of its order; a contrastive loss of a batch and of its halves."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    rank = torch.tensor([[0, 2, 0, 1]])  # 3 is predicted first, then 1; the others are read by all
    content, queries = (rank_mask(one, rank)[0, 0].int().tolist() for one in (rank, rank - 1))
    streams = [["".join(map(str, row)) for row in stream] for stream in (content, queries)]
    assert f"{', '.join(streams[0])} in the content stream" in page
    assert f"{streams[1][1]} and {streams[1][3]} for the queries of 1 and 3" in page

    def contrastive(similarities):
        return F.cross_entropy(similarities, torch.arange(len(similarities))).item()

    whole, half = contrastive(torch.zeros(8, 8)), contrastive(torch.zeros(4, 4))
    assert f"{whole:.2f} nats for a batch of 8, and {half:.2f} for each of two micro-batches of 4" in page


def test_every_cell_says_something(rows):
    assert [row["name"] for row in rows] == list(OBJECTIVES)
    assert all(all(row.values()) for row in rows)


def test_shares_and_costs_are_those_of_the_definitions(rows):
    by_name = {row["name"]: row for row in rows}
    assert by_name["causal"]["in the loss"] == "99%"  # 127 of 128
    assert by_name["masked"]["in the loss"] == "15%"
    assert by_name["span"]["in the loss"] == "21%"  # 29 of 141: 15% of the text, and a sentinel for each span
    cost = {name: float(row["operations"].removesuffix(" M")) for name, row in by_name.items()}
    assert 4 < cost["masked"] / cost["causal"] < 127 / 19  # the blocks read all, the table is asked less often


def test_what_can_be_exported_is_what_the_export_does_not_refuse(rows):
    assert {row["name"] for row in rows if row["export"] == "no"} == {
        name for name, objective in OBJECTIVES.items() if objective.export_refusal is not None
    }
    assert {row["export"] for row in rows} == {"yes", "no"}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_source_is_a_paper_with_a_year_and_a_section(name):
    source = source_of(OBJECTIVES[name])
    assert any(year in source for year in map(str, range(2017, 2027)))
    assert "section" in source
    assert not source.endswith(".")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_is_no_wider_than_the_terminal(width, capsys):
    print_objectives(objectives_table([CausalLM], 64), Console(width=width, force_terminal=False))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert " ".join(out.split()).startswith("causal: CausalLM, as in GPT, decoder-only hides the next token")
