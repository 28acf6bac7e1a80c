"""The demo as people meet it: headless Chromium uploads a PDF, asks, and sees the outlined page.

VISRAG_SCREENSHOTS=FOLDER keeps pictures of what was seen, to be looked at.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import gradio  # noqa: F401  (these tests are left out where it is not installed)
import pymupdf
import pytest
from demo_visitor import PATIENCE, ROOT, free_port, running_demo
from drawing import draw_pdf
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

    def type(self, selector: str, *keys: str) -> None:
        self.see(lambda: self.all(f"{selector} textarea, {selector} input"))[0].send_keys(*keys)

    def fill(self, selector: str, text: str) -> None:
        """Type until it stays: a field that has just appeared may be drawn once more, empty."""

        def stays() -> bool:
            (field, *_) = self.see(lambda: self.all(f"{selector} textarea, {selector} input"))
            if field.get_attribute("value") == text:
                return True
            field.clear()
            field.send_keys(text)
            return False

        self.see(stays)

    def top(self, selector: str) -> float:
        """How far down the page something stands."""
        return float(self.see(lambda: self.all(selector))[0].rect["y"])

    def name_of(self, element: Any) -> str:
        """What a screen reader says."""
        return str(element.accessible_name)

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


def started(profile: Path) -> Any:
    """A Chromium of its own."""
    assert CHROMIUM, "VISRAG_TEST_BROWSER is set, and there is no chromium"
    assert CHROMEDRIVER, "VISRAG_TEST_BROWSER is set, and there is no chromedriver"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS.split(), f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    driver.set_page_load_timeout(PATIENCE)
    return driver


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    tmp_path = tmp_path_factory.mktemp("browser")
    driver = started(tmp_path / "profile")
    try:
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
        browser.see(lambda: browser.all(".vr-viewer[open] img"))
        browser.keep("4-enlarged")
        browser.click(".vr-viewer-button[aria-label^=Close]")
        browser.see(lambda: not browser.all(".vr-viewer[open]"))
        browser.colours("dark")
        browser.keep("5-dark")
        browser.driver.set_window_size(500, 1400)
        assert browser.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        browser.keep("6-narrow")
        foreign = [u for u in browser.requested() if not u.startswith((url, "data:", "blob:", "chrome:"))]
        assert foreign == []


def test_words_are_true_of_the_models_at_work(browser: Browser, tmp_path: Path) -> None:
    """`ocr` finds pages by their text, and `extractive` quotes: nothing may say otherwise."""
    with running_demo(tmp_path / "bases") as url:
        browser.driver.get(url)
        browser.see(lambda: "Start with a document" in browser.text("#answer"))
        assert "pages are found by their text" in browser.text("#answer")
        assert "Pages are found by their text, and the best passage is quoted." in browser.text(".vr-header")
        browser.type("#question", QUESTION, Keys.ENTER)
        browser.see(lambda: "There is nothing to search yet: add a document." in browser.text("#answer"))
        browser.driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]").send_keys(str(PDF))
        browser.see(lambda: "Ready when you are" in browser.text("#answer"))  # the hint does not stay
        browser.see(lambda: "Ready" in browser.text("#status"))
        browser.type("#question", QUESTION, Keys.ENTER)
        browser.see(lambda: "Best passage" in browser.text("#answer"))
        page = browser.text("body")
        for wrong in ("as pictures", "nothing is cut up", "looked at no picture", "What was off", "insufficient"):
            assert wrong not in page
        for example in browser.all("button.vr-example"):
            assert not example.text or example.text.endswith("?")


def test_everything_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    with running_demo(tmp_path / "bases") as url:
        ask_about_packages(browser, url)
        (box,) = browser.all("#question textarea")
        assert browser.name_of(box) == "Your question"
        assert [heading.text for heading in browser.all("#answer h2")] == [QUESTION]
        assert browser.text("#answer h3").splitlines()[0] == "Best passage"
        assert "Evidence" in browser.text("#answer h3")
        assert "Pages that were read" in browser.text("#pages h3")

        jump = browser.all(".vr-jump")[0]
        assert browser.name_of(jump).startswith("Open debian-packaging-basics.pdf, page")
        browser.driver.execute_script("arguments[0].focus()", jump)
        for key in (Keys.ENTER, Keys.SPACE):
            webdriver.ActionChains(browser.driver).send_keys(key).perform()
            browser.see(lambda: browser.all(".vr-viewer[open] img"))
            assert browser.driver.switch_to.active_element.text == "Close"
            webdriver.ActionChains(browser.driver).send_keys("+", Keys.ESCAPE).perform()
            browser.see(lambda: not browser.all(".vr-viewer[open]"))
            assert browser.driver.switch_to.active_element == jump  # where one was
        # The same opens the pages themselves, in the order of the tab key.
        look = browser.all(".vr-look")[0]
        assert look.tag_name == "button"
        browser.driver.execute_script("arguments[0].focus()", look)
        webdriver.ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
        browser.see(lambda: browser.all(".vr-viewer[open] img"))
        webdriver.ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()


def test_a_page_on_a_phone_keeps_its_shape_and_is_opened_at_its_outline(browser: Browser, tmp_path: Path) -> None:
    with running_demo(tmp_path / "bases") as url:
        sizes = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
        try:
            browser.driver.get(url)
            browser.see(lambda: "Start with a document" in browser.text("#answer"))
            assert browser.top("#upload") < browser.top("#question")  # first a document has to be added
            ask_about_packages(browser, url)
            assert browser.top("#question") < browser.top("#upload")
            assert browser.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
            for opener in (".vr-outlined .vr-look", ".vr-jump"):
                browser.click(opener)
                seen = browser.see(lambda: browser.driver.execute_script(HOW_IT_LIES))
                shape = seen["width"] / seen["height"]
                assert shape == pytest.approx(seen["naturalWidth"] / seen["naturalHeight"], rel=0.01)
                assert seen["width"] > 1.5 * 390
                assert 0 <= seen["x"] < 390 / 2  # the outline can be read from its beginning without dragging
                assert 0 < seen["y"] < 844
                browser.keep(f"9-phone{opener}")
                webdriver.ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()
                browser.see(lambda: not browser.all(".vr-viewer[open]"))
        finally:
            browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# Of the opened picture: its sizes, and where on the screen the first outline of its page is.
HOW_IT_LIES = """
const image = document.querySelector(".vr-viewer[open] img");
const opener = document.querySelector(".vr-outlined .vr-look[data-vr-left]");
if (!image || !image.style.width || !opener) return null;
const box = image.getBoundingClientRect();
return {width: box.width, height: box.height, naturalWidth: image.naturalWidth, naturalHeight: image.naturalHeight,
  x: box.left + opener.dataset.vrLeft * box.width, y: box.top + opener.dataset.vrMiddle * box.height};
"""


def ask_about_packages(browser: Browser, url: str) -> None:
    """An answer with an outlined page."""
    browser.driver.get(url)
    browser.see(lambda: "Start with a document" in browser.text("#answer"))
    browser.driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]").send_keys(str(PDF))
    browser.see(lambda: "Ready" in browser.text("#status") and "33 pages" in browser.text("#status"))
    browser.type("#question", QUESTION, Keys.ENTER)
    browser.see(lambda: browser.all(".vr-outlined img") and browser.all(".vr-done"))


def printed(browser: Browser) -> pymupdf.Document:
    """What comes out of a printer: sheets of A4, without backgrounds, as browsers print."""
    paper = {"printBackground": False, "paperWidth": 8.27, "paperHeight": 11.69}
    made = browser.driver.execute_cdp_cmd("Page.printToPDF", paper)
    return pymupdf.open(stream=base64.b64decode(made["data"]), filetype="pdf")


def test_on_paper_stands_the_answer_with_all_its_pages_and_no_button(browser: Browser, tmp_path: Path) -> None:
    with running_demo(tmp_path / "bases") as url:
        ask_about_packages(browser, url)
        browser.see(lambda: all(image.get_property("complete") for image in browser.all(".vr-look img")))
        count = len(browser.all(".vr-look img"))
        with printed(browser) as sheets:
            text = " ".join("".join(sheet.get_text() for sheet in sheets).split())
            pictures = [image for sheet in sheets for image in sheet.get_image_info() if image["height"] > 100]
            cut = [image for sheet in sheets for image in sheet.get_image_info() if image["bbox"][3] > sheet.rect.y1]
    assert QUESTION in text
    for words in ("Evidence", "Pages that were read", "debian-packaging-basics.pdf, page"):
        assert words in text
    for pressed in (
        "Click to Upload",
        "Knowledge base",
        "Settings",
        "Download report",
        "Compare searches",
        "Open page",
    ):
        assert pressed not in text
    assert len(pictures) >= count > 0
    assert cut == []


def test_numbers_lead_to_evidence_and_two_bases_are_compared(browser: Browser, tmp_path: Path) -> None:
    other = draw_pdf(tmp_path / "other.pdf", ["The command debuild builds the source package."])
    with running_demo(tmp_path / "bases") as url:
        ask_about_packages(browser, url)
        places = browser.all(".vr-evidence li")
        assert [element.text for element in browser.all(".vr-evidence .vr-number")] == [
            str(place) for place in range(1, len(places) + 1)
        ]
        cites = browser.all(".vr-text .vr-cite")
        assert {element.text for element in cites} == {f"[{place}]" for place in range(1, len(places) + 1)}
        for cite in cites:  # by keyboard: Enter leads to the evidence, Tab from there to its page
            number = cite.text.strip("[]")
            browser.driver.execute_script("arguments[0].focus()", cite)
            webdriver.ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
            browser.see(lambda number=number: focused(browser).get_attribute("id") == f"vr-e{number}")
            webdriver.ActionChains(browser.driver).send_keys(Keys.TAB).perform()
            assert "vr-jump" in (focused(browser).get_attribute("class") or "")
        browser.keep("12-numbers")

        browser.click("#new")
        browser.see(lambda: browser.all("#name input, #name textarea"))
        browser.driver.find_element(By.CSS_SELECTOR, "#name input, #name textarea").send_keys("Other", Keys.ENTER)
        browser.see(lambda: chosen(browser) == "Other")
        browser.driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]").send_keys(str(other))
        browser.see(lambda: "Ready" in browser.text("#status") and "1 page" in browser.text("#status"))
        browser.click("#tabs [role=tab]:nth-child(2)")
        browser.see(lambda: browser.all("#compare-left-base input")[0].get_property("value") == "Other")
        browser.click("#compare-left-base input")
        browser.see(lambda: "My documents" in [one.text for one in browser.all("[role=option]")])
        (option,) = [one for one in browser.all("[role=option]") if one.text == "My documents"]
        option.click()
        browser.fill("#compare-question", "build the source package")
        browser.type("#compare-question", Keys.ENTER)
        browser.see(lambda: len(browser.all(".vr-compared section")) == 2)
        left, right = (section.text for section in browser.all(".vr-compared section"))
        assert left.startswith("My documents, filled by ocr")
        assert "debian-packaging-basics.pdf" in left
        assert right.startswith("Other, filled by ocr")
        assert "other.pdf, page 1" in right
        browser.keep("13-compared")


def focused(browser: Browser) -> Any:
    return browser.driver.switch_to.active_element


def test_steps_live_stop_reload_and_nobody_elses_conversation(browser: Browser, tmp_path: Path) -> None:
    document = draw_pdf(tmp_path / "boats.pdf", ["The harbour of Leith holds forty boats.", "Anchors weigh a lot."])
    with writing_demo(tmp_path) as url:
        browser.driver.get(url)
        browser.see(lambda: "Start with a document" in browser.text("#answer"))
        browser.driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]").send_keys(str(document))
        browser.see(lambda: "2 pages" in browser.text("#status") and "Ready" in browser.text("#status"))
        browser.click("#settings button")
        browser.click("#in-steps input")

        hold = tmp_path / "hold"
        hold.touch()
        browser.type("#question", "How many boats are there?", Keys.ENTER)
        browser.see(lambda: "boats in the harbour" in browser.text("#steps"))  # while the model waits
        assert "Forty boats" not in browser.text("#answer")
        assert "Step 2 of at most 10" in browser.text("#answer")
        browser.keep("10-steps-live")
        hold.unlink()
        browser.see(lambda: "Forty boats." in browser.text("#answer"))
        assert len(browser.all("#steps img")) == 3  # two pages, and a close-up
        browser.keep("11-steps")

        hold.touch()
        browser.type("#question", "And anchors?", Keys.ENTER)
        browser.see(lambda: "Understood as: And anchors? (of the boats)" in browser.text("#answer"))
        browser.see(lambda: "boats in the harbour" in browser.text("#steps"))
        browser.click("#stop")
        browser.see(lambda: "Stopped" in browser.text("#answer"))
        assert browser.all("#ask")[0].is_displayed()
        hold.unlink()

        browser.driver.refresh()
        browser.see(lambda: "And anchors?" in browser.text("#answer"))
        assert "Stopped" in browser.text("#answer")
        assert "boats in the harbour" in browser.text("#steps")
        assert "How many boats are there?" in browser.text("#earlier")

        with another_browser(tmp_path) as other:
            other.driver.get(url)
            other.see(lambda: "Ready when you are" in other.text("#answer"))
            assert "boats" not in other.text("#answer") + other.text("#earlier")


def test_the_conversation_is_downloaded(tmp_path: Path) -> None:
    document = draw_pdf(tmp_path / "boats.pdf", ["The harbour of Leith holds forty boats."])
    with writing_demo(tmp_path) as url, another_browser(tmp_path) as browser:
        browser.driver.get(url)
        browser.see(lambda: "Start with a document" in browser.text("#answer"))
        browser.driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]").send_keys(str(document))
        browser.see(lambda: "1 page" in browser.text("#status") and "Ready" in browser.text("#status"))
        browser.type("#question", "How many boats are in the harbour?", Keys.ENTER)
        browser.see(lambda: browser.all(".vr-done"))
        folder = tmp_path / "downloads"
        folder.mkdir()
        browser.driver.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
        )
        browser.click("#download")
        report = browser.see(lambda: next(folder.glob("visrag-report*.html"), None))
        html = report.read_text(encoding="utf-8")
        assert "How many boats are in the harbour?" in html
        assert "forty boats" in html

        browser.click("#tabs [role=tab]:nth-child(2)")
        browser.fill("#compare-question", "forty boats")
        browser.type("#compare-question", Keys.ENTER)
        browser.see(lambda: len(browser.all(".vr-compared section")) == 2)
        assert "boats.pdf, page 1" in browser.text(".vr-compared")


@contextlib.contextmanager
def writing_demo(folder: Path) -> Iterator[str]:
    """A demo whose generator writes, as a process of its own; the URL."""
    command = [sys.executable, str(ROOT / "tests" / "writing_demo.py"), str(folder), str(free_port())]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
            server.communicate("", timeout=PATIENCE)
        finally:
            server.kill()
    assert server.returncode == 0


@contextlib.contextmanager
def another_browser(folder: Path) -> Iterator[Browser]:
    """One that has kept nothing."""
    driver = started(folder / "other-profile")
    try:
        yield Browser(driver)
    finally:
        driver.quit()


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
