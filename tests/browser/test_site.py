"""The site in a browser, as `python -m sphinx -W docs build/docs` built it, on a desktop and on a phone."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
SITE = Path(__file__).parents[2] / "build" / "docs"
PAGES = (
    "index",
    "start",
    "training",
    "glossary",
    "proved",
    "objectives/index",
    "objectives/masked",
    "your_own/collator",
    "course/index",
    "course/03_the_causal_mask",
    "api/clozelab.data",
    "project/benchmarks",
)


@pytest.fixture(scope="module")
def site():
    assert (SITE / "index.html").is_file(), "build the site first: python -m sphinx -W docs build/docs"
    return SITE


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop, light", "phone, dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_an_error_or_a_barrier(name, width, dark, site, browser):
    browser.open(site / f"{name}.html", width, dark=dark)
    assert browser.messages() == []
    assert browser.overflow() <= 0  # it is not scrolled sideways
    assert browser.barriers() == []


def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(site):
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    broken = []
    for path, text in pages.items():
        for link in re.findall(r'href="([^"]*)"', text):
            if re.match(r"[a-z]+:|//", link):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            if not target.exists() or (anchor and target in pages and f'id="{anchor}"' not in pages[target]):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken
