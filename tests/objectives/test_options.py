"""Options of a class: annotated fields, and a line of help below each."""

import dataclasses

import pytest

from clozelab import MaskedLM
from clozelab.cli import main
from clozelab.objectives import OBJECTIVES, options
from clozelab.training import TrainResult

RESULT = TrainResult(step=0, finished=False, heldout=None)


@pytest.mark.parametrize("module", ["typed", __name__])
def test_a_parent_without_source_takes_no_help_from_its_children(module):
    """A class that was typed into an interpreter, or made in a module whose file does not hold it."""
    typed = {"MaskedLM": MaskedLM, "options": options, "__name__": module}
    exec("@options\nclass Typed(MaskedLM):\n    name = 'typed'\n    depth: int = 1\n", typed)

    @options
    class Child(typed["Typed"]):
        name = "child"

        width: int = 2
        """How wide."""

    helps = {name: option.help for name, option in Child.declared_options().items()}
    assert helps["depth"] == ""
    assert helps["width"] == "How wide."
    assert helps["mask_rate"] == "Share of the tokens that is hidden,"
    assert [field.name for field in dataclasses.fields(Child)][-2:] == ["depth", "width"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_recipe_is_made_of_options_of_its_class_and_no_child_inherits_it(name):
    kind = OBJECTIVES[name]
    assert {name: kind.with_recipe().options()[name] for name in kind.recipe} == kind.recipe
    assert "recipe" in vars(kind)


def test_a_recipe_goes_as_a_whole():
    """A rate that was asked for does not begin to fall."""
    assert MaskedLM.with_recipe(scheme="n-grams").schedule
    assert MaskedLM.with_recipe(mask_rate=0.3).options() == MaskedLM(mask_rate=0.3).options()


def test_training_begins_with_the_recipe_unless_it_goes_by_the_clock(monkeypatch):
    """Which does not know how far it has come, so that nothing could fall."""
    trained = []
    monkeypatch.setattr("clozelab.cli.train._train", lambda objective, *_: trained.append(objective) or RESULT)
    for flags in ([], ["--minutes", "1"], ["--mask-rate", "0.3"]):
        main(["train", "--objective", "masked", "--run", "runs/of-no-use", *flags])
    assert [objective.schedule != "" for objective in trained] == [True, False, False]
    assert [objective.mask_rate for objective in trained] == [0.4, 0.15, 0.3]
