"""The demo as people meet it: headless Chromium uploads a PDF, asks, and sees the outlined page.

VISRAG_SCREENSHOTS=FOLDER keeps pictures of what was seen, to be looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import gradio  # noqa: F401  (these tests are left out where it is not installed)
import pytest
from demo_visitor import PATIENCE, ROOT, running_demo
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
HERE = CHROMIUM and CHROMEDRIVER
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not HERE and not os.environ.get("VISRAG_TEST_BROWSER"), reason="no chromium with chromedriver is installed"
    ),
]
OPTIONS = """--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync --window-size=1400,1000"""
PDF = ROOT / "samples" / "debian-packaging-basics.pdf"
QUESTION = "Which command builds the Debian source package?"

T = TypeVar("T")


class Browser:
    """What a person does and sees."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def see(self, what: Callable[[], T]) -> T:
        """What it gives, once that is something."""
        waiting = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
        found: T = waiting.until(lambda _: what())
        return found

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def text(self, selector: str) -> str:
        return "\n".join(element.text for element in self.all(selector))

    def click(self, selector: str) -> None:
        def clicked() -> bool:
            try:
                self.driver.find_element(By.CSS_SELECTOR, selector).click()
            except StaleElementReferenceException:
                raise
            except WebDriverException:  # not there yet, or something is in front of it
                return False
            return True

        self.see(clicked)

    def colours(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def keep(self, name: str) -> None:
        folder = os.environ.get("VISRAG_SCREENSHOTS")
        if folder:
            time.sleep(1)  # colours and sizes change slowly
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder, f"{name}.png")))

    def requested(self) -> set[str]:
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    tmp_path = tmp_path_factory.mktemp("browser")
    assert CHROMIUM, "VISRAG_TEST_BROWSER is set, and there is no chromium"
    assert CHROMEDRIVER, "VISRAG_TEST_BROWSER is set, and there is no chromedriver"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    try:
        driver.set_page_load_timeout(PATIENCE)
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture
def browser(one_browser: Browser) -> Browser:
    """The browser, as wide and as bright as it was at first."""
    one_browser.colours("light")
    one_browser.driver.set_window_size(1400, 1000)
    one_browser.requested()  # takes out what the test before has asked for
    return one_browser


def test_upload_ask_and_see_the_outlined_page(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "<img src=x onerror=alert(1)>${1+1}{{x}}.pdf"
    bad.write_bytes(b"nonsense")
    with running_demo(tmp_path / "bases") as url:
        browser.driver.get(url)
        browser.see(lambda: "Start with a document" in browser.text("#answer"))
        browser.keep("1-empty")

        browser.driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]").send_keys(f"{PDF}\n{bad}")
        browser.see(lambda: "Indexing" in browser.text("#status") or "Ready" in browser.text("#status"))
        browser.keep("2-indexing")
        browser.see(lambda: "Ready" in browser.text("#status"))
        assert "1 document · 33 pages" in browser.text("#status")
        assert "${1+1}{{x}}" in browser.text("#status .vr-failures")
        assert browser.all("#status img") == []

        browser.see(lambda: browser.all("button.vr-example"))
        browser.driver.find_element(By.CSS_SELECTOR, "#question textarea").send_keys(QUESTION, Keys.ENTER)
        outlined = browser.see(lambda: browser.all(".vr-outlined img"))
        assert QUESTION in browser.text("#answer")
        assert "Evidence" in browser.text("#answer")
        assert "debian-packaging-basics.pdf, page" in browser.text(".vr-place")
        assert browser.driver.execute_script("return arguments[0].naturalWidth", outlined[0]) > 500
        browser.keep("3-answer")

        browser.click(".vr-outlined img")
        browser.see(lambda: browser.all(".vr-outlined input:checked"))
        browser.keep("4-enlarged")
        browser.click(".vr-outlined img")
        browser.colours("dark")
        browser.keep("5-dark")
        browser.driver.set_window_size(500, 1400)
        assert browser.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        browser.keep("6-narrow")
        foreign = [u for u in browser.requested() if not u.startswith((url, "data:", "blob:", "chrome:"))]
        assert foreign == []


def test_knowledge_bases_behind_a_password(browser: Browser, tmp_path: Path) -> None:
    with running_demo(tmp_path / "bases", password="open sesame") as url:
        browser.driver.get(url)
        browser.see(lambda: browser.all("#password"))
        browser.keep("7-password")
        browser.driver.find_element(By.ID, "password").send_keys("open sesame", Keys.ENTER)
        browser.see(lambda: "Start with a document" in browser.text("#answer"))

        browser.click("#new")
        browser.see(lambda: browser.all("#name input, #name textarea"))
        browser.driver.find_element(By.CSS_SELECTOR, "#name input, #name textarea").send_keys("Häfen & <b>", Keys.ENTER)
        browser.see(lambda: chosen(browser) == "Häfen & <b>")
        browser.click("#delete")
        browser.see(lambda: "Delete “Häfen & <b>” with its 0 documents?" in browser.text(".vr-ask-first"))
        browser.keep("8-delete")
        browser.click("#confirm")
        browser.see(lambda: chosen(browser) == "My documents")


def chosen(browser: Browser) -> str:
    (field,) = browser.all("#base input")
    return str(field.get_property("value"))
