"""Pages that Sphinx makes of the code: objectives, lessons, public names, and what lies in the root of the repository.

They are written beside the pages that somebody wrote, where git ignores them, before Sphinx looks for pages. What is
there already is written again only where it differs, so that a second build is quick.
"""

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

from clozelab.objectives import Objective

from . import api, lessons, objectives
from .docstrings import to_rest
from .links import ROOT, relinked

DOCS = ROOT / "docs"
FROM_THE_ROOT = {
    "project/benchmarks.md": "benchmarks/README.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/conduct.md": "CODE_OF_CONDUCT.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/security.md": "SECURITY.md",
}
"""Pages of the site, and the files that they are."""
MARKERS = {
    "course/index": ("<!-- the lessons: ", lessons.gallery),
    "objectives/index": ("<!-- the pages: ", objectives.contents),
    "api/index": ("<!-- the packages: ", api.contents),
}
"""Pages of which a part is made: the line that the part stands for."""


def write(app: Sphinx) -> None:
    """Write all pages that are made, and remove those of an earlier build."""
    pages = {**objectives.pages(), **lessons.pages(), **api.pages()}
    for name, path in FROM_THE_ROOT.items():
        pages[name] = relinked((ROOT / path).read_text(encoding="utf-8"), ROOT / path, DOCS / name)
    for name, content in pages.items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
    for pattern in ("api/clozelab*.md", "course/[0-9]*", "objectives/*.md", "project/*.md"):
        for path in DOCS.glob(pattern):
            name = str(path.relative_to(DOCS))
            if name not in pages and name not in ("objectives/index.md", "objectives/masking.md"):
                path.unlink()


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Links of the repository become links of the site, and a marker becomes the part that it stands for."""
    path = DOCS / f"{name}.md"
    if name in MARKERS:
        marker, made = MARKERS[name]
        before, found, after = source[0].partition(marker)
        assert found, f"{path} has no {marker}"
        source[0] = before + made() + after.partition("-->")[2]
    if not name.startswith("project/"):
        source[0] = relinked(source[0], path, path)


def outdated(app: Sphinx, *changes: Any) -> list[str]:
    """Pages that are read in each build: what a part is made of may have changed, and the page itself has not."""
    return list(MARKERS)


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are Markdown, and autodoc reads reStructuredText."""
    lines[:] = to_rest(lines)


def signature(app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str, returned: str) -> Any:
    """An objective takes its options, and says so in `__init__`; `__new__` takes whatever they are."""
    if what == "class" and inspect.isclass(obj) and issubclass(obj, Objective):
        own = [one.replace(annotation=one.empty) for one in inspect.signature(obj.__init__).parameters.values()]
        return str(inspect.Signature(own[1:])), returned
    return None


def menu(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """The captions of the menu are headings, and a screen reader needs to know of which level."""
    if "furo_navigation_tree" in context:
        captions = context["furo_navigation_tree"].replace('role="heading"', 'role="heading" aria-level="2"')
        context["furo_navigation_tree"] = captions


def scroll(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Code and tables that are wider than a phone are scrolled, and a keyboard reaches only what has the focus."""
    if "body" in context:
        body = context["body"].replace("<pre>", '<pre tabindex="0">')
        context["body"] = re.sub(r'<div class="(?=table-wrapper)', '<div tabindex="0" class="', body)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", write)
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("html-page-context", menu, priority=900)  # after the theme has made it
    app.connect("html-page-context", scroll, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
