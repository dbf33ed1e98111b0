"""Headless Chromium, and axe-core, which looks for what keeps people out.

They need Debian's packages `chromium` and `chromium-driver`, the extra `browser` (Selenium), and the npm package
`axe-core`, whose `axe.min.js` the environment variable AXE_CORE names. Where one is missing the tests fail: a check
that did not run is not a pass.
"""

import os
import shutil
import time
from pathlib import Path

import pytest


class Browser:
    """A page at a time, at a width, on light or dark paper."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, page, width=1280, *, dark=False, height=900, media="screen"):
        """Open the path of a page, or an address."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": scheme})
        self.messages()  # those of the page before
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def js(self, script, *arguments):
        """What a script of the page returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script, *arguments, seconds=10.0):
        """Wait until a script returns something true, and return it."""
        end = time.monotonic() + seconds
        while not (found := self.js(script, *arguments)):
            assert time.monotonic() < end, f"not within {seconds} s: {script}"
            time.sleep(0.05)
        return found

    def messages(self):
        """What the console was told since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def press(self, *keys):
        """Press keys where the focus is."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def point_at(self, element):
        """Move the pointer to an element, which is scrolled to the middle of the window."""
        from selenium.webdriver import ActionChains

        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.driver).move_to_element(element).perform()

    def overflow(self):
        """How many pixels the page is wider than the window."""
        return self.js("return document.documentElement.scrollWidth - innerWidth")

    def barriers(self):
        """What axe-core finds that is serious or critical: a line each."""
        self.js(Path(os.environ["AXE_CORE"]).read_text())
        run = "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(done)"
        found = self.driver.execute_async_script(run)["violations"]
        return [
            f"{one['id']}: {node['html']} {node['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


@pytest.fixture(scope="session")
def browser():
    """A `Browser`, which is closed at the end."""
    from selenium import webdriver

    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    assert all(programs.values()), f"expected Debian's packages chromium and chromium-driver, found {programs}"
    axe = Path(os.environ.get("AXE_CORE", ""))
    assert axe.is_file(), "expected AXE_CORE to name axe.min.js of the npm package axe-core"
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    driver.set_script_timeout(250)
    driver.command_executor.client_config.timeout = 280
    yield Browser(driver)
    driver.quit()
