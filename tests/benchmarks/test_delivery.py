"""The script that times the making of batches runs; no time is looked at."""

from clozelab.objectives import OBJECTIVES


def test_it_prints_a_speed_for_each_objective(run_script, capsys):
    run_script("delivery", "--quick")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(OBJECTIVES)
    assert all("M tokens/s of one core" in line for line in lines)
