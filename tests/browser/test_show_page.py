"""The page of `show` in a browser: hand, keys, screen reader, phone and paper."""

import pytest

from clozelab.display import show_page, word_tokenizer
from clozelab.objectives import OBJECTIVES, BlockDiffusion, CausalLM, MaskedLM, SpanCorruption

pytestmark = pytest.mark.browser
WIDTHS = {"desktop": 1280, "phone": 390}
TEXT = "Thank you for inviting me to your party last week . It was really good to see you ."
LIT = "return [...document.querySelectorAll('#show-0-{} .lit')].map(one => one.lastChild.textContent)"


def written(path, objectives, text=TEXT, **settings):
    tokenizer = word_tokenizer(text, roles=sorted({role for one in objectives for role in one.roles}))
    path.write_text(show_page(objectives, tokenizer, text, **settings))
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Four objectives: one of each kind of picture."""
    objectives = [CausalLM(), MaskedLM(mask_rate=0.3), SpanCorruption(), BlockDiffusion()]
    return written(tmp_path_factory.mktemp("pages") / "show.html", objectives)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """All objectives, with one batch each."""
    objectives = [kind() for kind in OBJECTIVES.values()]
    return written(tmp_path_factory.mktemp("pages") / "family.html", objectives, seeds=[0], epochs=[0], rates=[])


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_all_objectives_are_drawn_without_an_error_or_sideways_scroll(width, family, browser):
    browser.open(family, width)
    assert browser.js("return document.querySelectorAll('.card').length") == len(OBJECTIVES)
    assert browser.overflow() <= 0
    assert browser.messages() == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop, light", "phone, dark"])
def test_nothing_keeps_people_out(width, dark, page, browser):
    browser.open(page, width, dark=dark)
    assert browser.barriers() == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_pointing_at_a_target_lights_up_what_it_reads(width, page, browser):
    browser.open(page, width)
    targets = browser.js("return [...document.querySelectorAll('#show-0-0 .target')]")
    browser.point_at(targets[3])
    words = TEXT.split()
    assert browser.js(LIT.format(0)) == words[:4]
    said = browser.js("return document.querySelector('#show-0-0 .why').textContent")
    assert said == (
        f"{words[4]}In the loss because it is the next token, which is not read yet. Its output reads the first 4 of "
        "19 inputs, and its weight is 1 in a sum that is divided by 18."
    )
    assert browser.messages() == []


def test_every_target_is_reached_by_tab_and_arrows_move_along_and_between_rows(page, browser):
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    focused = "return document.activeElement.getAttribute('aria-label')"
    assert browser.js("return [...document.querySelectorAll('button.target')].every(one => one.tabIndex === 0)")
    browser.js("document.querySelector('#show-0-0 .target').focus()")
    browser.press(Keys.TAB)
    assert browser.js(focused) == "predicts for, position 1"
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.js(focused) == "predicts me, position 3"
    assert browser.js(LIT.format(0)) == TEXT.split()[:4]
    assert "reads the first 4 of 19 inputs" in browser.js("return document.querySelector('[role=status]').textContent")
    browser.press(Keys.ARROW_LEFT, Keys.HOME)
    assert browser.js(focused) == "predicts you, position 0"
    browser.press(Keys.ARROW_DOWN)
    assert browser.js("return document.activeElement.closest('.card').id") == "show-0-1"
    assert len(browser.js(LIT.format(1))) == 19
    browser.press(Keys.ARROW_UP)
    assert browser.js("return document.activeElement.closest('.card').id") == "show-0-0"


def test_seeds_and_rates_are_stepped_through_by_keys(page, browser):
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    masks = "return [...document.querySelectorAll('#show-0-1 .target')].map(one => one.dataset.at).join()"
    before = browser.js(masks)
    browser.js("document.querySelector('input[name=show-0-seed]').focus()")
    browser.press(Keys.ARROW_RIGHT)
    assert browser.js(masks) != before
    assert browser.js("return document.querySelector('[role=status]').textContent") == "seed 1"
    browser.js("document.querySelector('#show-0-1 .step input:checked').focus()")
    browser.press(Keys.ARROW_RIGHT)  # 0.3 to 0.5
    assert len(browser.js(masks).split(",")) == 10  # of 19
    assert "mask_rate 0.5" in browser.js("return document.querySelector('#show-0-1 .notes').textContent")


def test_targets_have_names_and_pictures_are_described(page, browser):
    browser.open(page)
    assert browser.js(
        "return [...document.querySelectorAll('button.target')].every(one => one.ariaLabel.includes('predicts'))"
    )
    labels = browser.js(
        "return [...document.querySelectorAll('.card svg[role=img]')].map(one => one.getAttribute('aria-label'))"
    )
    assert labels[0] == "causal: who reads whom. 18 of 19 outputs in the loss."
    assert browser.js("return document.querySelectorAll('section[aria-labelledby]').length") == 4


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_hostile_text_is_text(width, tmp_path, browser):
    text = (
        f"a </script><script>document.title = 'broken'</script> <img src=x onerror=alert(1)> {'long' * 60} \x1b \u202e"
    )
    browser.open(written(tmp_path / "hostile.html", [MaskedLM(), CausalLM()], text), width)
    assert browser.js("return document.title") == "masked, causal: hide, read, predict"
    assert browser.js("return document.images.length") == 0
    assert browser.overflow() <= 0
    assert browser.messages() == []


def test_on_paper_the_steps_are_gone_and_the_colours_are_light(page, browser):
    browser.open(page, 800, dark=True, media="print")
    assert browser.js("return getComputedStyle(document.querySelector('.steps')).display") == "none"
    assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 246)"
    assert browser.js("return document.querySelector('.only-print').checkVisibility()")


def test_in_another_page_it_is_as_high_as_it_must_be_and_takes_its_paper(tmp_path, browser):
    tokenizer = word_tokenizer(TEXT, roles=["mask"])
    frame = show_page([MaskedLM()], tokenizer, TEXT, embed=True)
    path = tmp_path / "around.html"
    path.write_text(f"<!doctype html><body style='background:#131416'><p>a site</p>{frame}</body>")
    browser.open(path, 800)
    inside = "const inside = document.querySelector('iframe').contentDocument; return "
    browser.until(inside + "inside.querySelector('.target') !== null")
    browser.until(
        inside + "Math.abs(inside.documentElement.scrollHeight - document.querySelector('iframe').clientHeight) < 4"
    )
    assert browser.js(inside + "getComputedStyle(inside.documentElement).colorScheme") == "dark"
    browser.js("document.body.style.background = '#ffffff'")
    browser.until(inside + "getComputedStyle(inside.documentElement).colorScheme === 'light'")
    assert browser.messages() == []
