"""One self-contained HTML file: its template, its data and its frame."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .chart import ticks
from .colours import DARK_PAPER, LIGHT_PAPER, css_variables

if TYPE_CHECKING:
    from jinja2 import Environment

LIMIT = 4_000_000
"""Bytes of a page, at most."""
TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, cure: str, **values: Any) -> str:
    """A page from a template. All values are escaped, and `data` is put into a script element as JSON.

    Raises `InputError` for a page of more than `LIMIT` bytes; `cure` says what makes it smaller.
    """
    papers = {"light_paper": LIGHT_PAPER, "dark_paper": DARK_PAPER}
    page = _environment().get_template(template).render(**papers, **values)
    if (size := len(page.encode())) > LIMIT:
        raise InputError(f"the page would have {size:,} bytes, and {LIMIT:,} are its limit: {cure}")
    return page


def framed(page: str, title: str) -> str:
    """A page as one element of another: an `iframe` that holds all of it, as high as what it shows.

    Neither style nor names of the one can reach the other.
    """
    return (
        f'<iframe class="clozelab-page" title="{escape(title)}" srcdoc="{escape(page)}" loading="lazy" '
        'style="width:100%;height:40rem;border:0"></iframe>'
    )


def write_page(page: str, path: str | Path) -> Path:
    """Write a page whole or not at all; an older file is replaced. Raises `InputError` for the path of a folder."""
    from ...data.corpora.cache import written_whole

    path = Path(path)
    if path.is_dir():
        raise InputError(f"expected the path of a file for the page, but {path} is a folder")
    with written_whole(path) as file:
        file.write(page.encode())
    return path


def script_json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in.

    >>> from clozelab.display.pages.page import script_json
    >>> script_json({"text": "</script>"})
    '{"text":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # other characters than ASCII are escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["script_json"] = lambda value: Markup(script_json(value))
    made.globals |= {"ticks": ticks, "colour": css_variables}
    return made
