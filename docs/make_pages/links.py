"""Links of the repository, as GitHub follows them, and the pages of the site that they lead to."""

import os
import re
from pathlib import Path

from clozelab.objectives import OBJECTIVES

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "docs/index.md",
    "CHANGELOG.md": "docs/project/changelog.md",
    "CODE_OF_CONDUCT.md": "docs/project/conduct.md",
    "CONTRIBUTING.md": "docs/project/contributing.md",
    "SECURITY.md": "docs/project/security.md",
    "benchmarks/README.md": "docs/project/benchmarks.md",
}
"""Where the site has a file of the repository."""
for _kind in OBJECTIVES.values():
    PAGES[f"src/objectives/{_kind.__module__.split('.')[-1]}.py"] = f"docs/objectives/{_kind.name}.md"

_CODE_OR_LINK = re.compile(
    r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[`~]*$|`[^`\n]*`|\]\((?P<target>[^)\s]+)\)", re.DOTALL | re.MULTILINE
)


def relinked(text: str, origin: Path, page: Path) -> str:
    """The text of a file `origin` with its relative links as they are from a page of the site; code is left alone."""

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or re.match(r"[a-z]+:|#", target):
            return found[0]
        path, anchor, name = target.partition("#")
        to = Path(os.path.normpath(origin.parent / path))
        inside = str(to.relative_to(ROOT)) if to.is_relative_to(ROOT) else ""
        lesson = re.fullmatch(r"examples/(\d\d_\w+)\.py", inside)
        to = ROOT / (f"docs/course/{lesson[1]}.md" if lesson else PAGES.get(inside, inside or target))
        return f"]({os.path.relpath(to, page.parent)}{anchor}{name})"

    return _CODE_OR_LINK.sub(link, text)
