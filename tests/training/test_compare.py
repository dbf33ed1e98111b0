"""Every objective side by side: the same tokens of text, each with its own baselines."""

import math
from dataclasses import replace

import pytest

from clozelab.errors import InputError
from clozelab.models import PRESETS
from clozelab.objectives import OBJECTIVES, CausalLM, FillInTheMiddle, MaskedLM, options
from clozelab.training import TrainConfig, compare, load_run, prepare
from clozelab.training.compare import blanked
from clozelab.training.evaluations import evaluations_of

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(200)]
CONFIG = TrainConfig(length=24, batch_size=8, eval_rows=8, learning_rate=1e-2, precision="float32")
TOKENS = 4_000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOZELAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield prepare(DOCUMENTS, vocab_size=400, roles=[role for cls in OBJECTIVES.values() for role in cls.roles])


@options
class Mute(MaskedLM):
    """Completes nothing, and its uniform loss is twice the usual one."""

    name, completes = "mute", ()

    def targets(self, batch):
        return {name: type(target)(target.labels, weight=2.0) for name, target in super().targets(batch).items()}


def test_any_objectives_are_compared_on_the_same_tokens(prepared, tmp_path, monkeypatch):
    for sizes in PRESETS.values():
        monkeypatch.setitem(sizes, "tiny", {"d_model": 32, "n_layers": 1, "n_heads": 2})
    objectives = [*(cls() for cls in OBJECTIVES.values()), Mute()]
    rows = compare(objectives, prepared, tokens=TOKENS, size="tiny", config=CONFIG, run=tmp_path)
    vocab_size = prepared.tokenizer.vocab_size
    for objective, row in zip(objectives, rows, strict=True):
        weight = 2.0 if objective.name == "mute" else 1.0
        assert row.objective is objective
        assert row.result.tokens == pytest.approx(TOKENS, rel=0.05)
        if len(row.result.heldout.parts) == 1:
            assert row.uniform == pytest.approx(weight * math.log(vocab_size))
        assert row.unigram < row.uniform
        assert row.heldout < row.uniform
        assert row.completions.keys() == {*objective.completes}
        assert row.cannot.keys() == {"continue", "fill"} - {*objective.completes}
        assert row.curve[-1] == (row.result.tokens, row.heldout)
        steps = row.result.step
        assert len(row.curve) == evaluations_of(replace(CONFIG, steps=steps)).left(0, steps)
        assert (tmp_path / objective.name / "run.json").exists()
    assert load_run(tmp_path / "diffusion").objective.name == "diffusion"


def test_equal_compute_gives_each_the_operations_of_the_first(prepared, monkeypatch):
    for sizes in PRESETS.values():
        monkeypatch.setitem(sizes, "tiny", {"d_model": 16, "n_layers": 1, "n_heads": 2})
    costs = {"masked": 600, "causal": 1000, "fim": 300}
    objectives = [OBJECTIVES[name]() for name in costs]
    settings = {"flops_of_step": lambda objective: costs[objective.name], "prompt": "Document ___ says ___ ."}
    rows = compare(objectives, prepared, tokens=TOKENS, equal="compute", config=CONFIG, **settings)
    steps = [row.result.tokens / (CONFIG.batch_size * row.source_length) for row in rows]
    assert steps == [21, 13, 42]  # 21 steps of 192 tokens are nearest to the 4,000
    assert [row.flops for row in rows] == [21 * 600, 13 * 1000, 42 * 300]
    assert "reads what comes before it" in rows[1].cannot["fill"]
    assert "expected one blank" in rows[2].cannot["fill"]
    assert rows[2].completions["continue"].startswith("Document")


def test_equal_compute_needs_the_cost_of_a_step(prepared):
    with pytest.raises(InputError, match=r"equal compute needs flops_of_step"):
        compare([CausalLM()], prepared, tokens=TOKENS, equal="compute")
    with pytest.raises(InputError, match=r"equal must be one of tokens, compute, got 'flops'"):
        compare([CausalLM()], prepared, tokens=TOKENS, equal="flops")


def test_the_blank_stands_in_the_middle_of_the_prompt():
    assert blanked("a b c") == "a ___ c"
    assert blanked("a ___ c d") == "a ___ c d"
    assert blanked("a b") == ""


def test_what_one_of_them_refuses_is_found_before_any_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
    prepared = prepare(DOCUMENTS, vocab_size=400)  # without roles
    with pytest.raises(InputError, match="no id for the role 'fim_prefix'"):
        compare([CausalLM(), FillInTheMiddle()], prepared, tokens=TOKENS, config=CONFIG, run=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_nothing_to_compare_is_refused(prepared):
    with pytest.raises(InputError, match="at least one objective"):
        compare([], prepared, tokens=TOKENS)


@pytest.mark.parametrize("tokenizer", ["bpe", "characters"])
def test_prepare_reserves_the_ids_of_roles(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path))
    special = prepare(DOCUMENTS, vocab_size=400, tokenizer=tokenizer, roles=FillInTheMiddle.roles).tokenizer.special
    assert set(special.roles) == set(FillInTheMiddle.roles)
