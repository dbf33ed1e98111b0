"""Options of a class: annotated fields, and a line of help below each."""

import dataclasses

import pytest

from clozelab import MaskedLM
from clozelab.objectives import options


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
