"""The playground in a browser: what is clicked is hidden, what is chosen is answered."""

import urllib.parse

import pytest

from clozelab.playground import launch

pytestmark = pytest.mark.browser
CARD = "document.querySelector('iframe')?.contentDocument?.querySelector('.card')?.textContent ?? ''"


@pytest.fixture(scope="module")
def address():
    """Where the playground is served."""
    app = launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield app.local_url
    app.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_it_answers_without_errors_and_loads_nothing_from_elsewhere(width, address, browser):
    browser.open(address, width)
    browser.until(f"return ({CARD}).includes('masked')", seconds=60)
    names = "return performance.getEntriesByType('resource').map(one => one.name)"
    assert {urllib.parse.urlparse(name).hostname for name in browser.js(names)} == {"127.0.0.1"}
    assert browser.overflow() <= 0
    assert browser.messages() == []


def test_a_token_that_is_clicked_is_hidden(address, browser):
    browser.open(address)
    browser.until(f"return ({CARD}).includes('masked')", seconds=60)
    browser.js("document.querySelectorAll('fieldset input[type=checkbox]')[3].click()")
    browser.until(f"return ({CARD}).includes('1 of 11 outputs in the loss')", seconds=60)


def test_nothing_keeps_people_out(address, browser):
    browser.open(address)
    browser.until(f"return ({CARD}).includes('masked')", seconds=60)
    assert browser.barriers() == []
