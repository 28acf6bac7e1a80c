"""axe-core on everything that people look at: reports, and the demo's page in the states that it has.

In Chromium, in light and dark, as wide as a desk's screen and as a phone's. Nothing serious or critical may be found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio  # noqa: F401  (these tests are left out where it is not installed)
import pytest
from axe_selenium_python import Axe
from demo_visitor import running_demo
from drawing import draw_pdf
from selenium.webdriver.common.keys import Keys
from test_demo_browser import HERE, Browser, ask_about_packages, started

from visrag_integrations.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not HERE and not os.environ.get("VISRAG_TEST_BROWSER"), reason="no chromium with chromedriver is installed"
    ),
]
SCREENS = {"desk": (1280, 900, False), "phone": (390, 844, True)}
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    driver = started(tmp_path_factory.mktemp("browser") / "profile")
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page that each command writes: of a question with an answer, of one without, of a search, of scores."""
    folder = tmp_path_factory.mktemp("reports")
    facts = ("The harbour of Leith holds forty sailing boats.", "Anchors weigh two hundred pounds each.")
    draw_pdf(folder / "harbour.pdf", list(facts))
    rows = []
    for number, answer in enumerate(("forty", "nobody can know"), 1):
        rows.append({"query": facts[number - 1], "source": "harbour.pdf", "page": number, "answer": answer})
    (folder / "set.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    typed = {
        "ask": ("ask", "How many sailing boats does the harbour of Leith hold?"),
        "ask-nothing": ("ask", "zebra xylophone quixotic"),
        "search": ("search", "sailing boats"),
        "eval": ("eval", "answers", "set.jsonl", "--documents", "harbour.pdf"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["index", "harbour.pdf", "--preset", "cpu"]) == 0
        for name, words in typed.items():
            assert main([*words, "--preset", "cpu", "--html", f"{name}.html"]) in (0, 1)
    return {name: folder / f"{name}.html" for name in typed}


# Whether the page has its new colours: Gradio's script sets a class when the system's colours change, and what that
# class changes moves for a while. Two frames are drawn first, so that what is to move has begun to.
_STILL = """
const done = arguments[0];
requestAnimationFrame(() => requestAnimationFrame(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const gradio = document.querySelector(".gradio-container");
  const chosen = !gradio || Boolean(gradio.closest(".dark") || gradio.querySelector(":scope > .dark")) === dark;
  done(chosen && document.getAnimations().every((one) => one.playState !== "running"));
}));
"""


def look(browser: Browser, screen: str, scheme: str) -> None:
    width, height, mobile = SCREENS[screen]
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    browser.colours(scheme)
    # Colours change slowly: on their way they are fainter than before and after.
    browser.see(lambda: browser.driver.execute_async_script(_STILL))


def grave(browser: Browser) -> list[str]:
    """What axe finds: the rule, and where on the page."""
    axe = Axe(browser.driver)
    axe.inject()
    found: list[str] = []
    results: dict[str, Any] = axe.run()
    assert results["passes"], "axe looked at nothing"
    for violation in results["violations"]:
        if violation["impact"] in GRAVE:
            for node in violation["nodes"]:
                found.append(f"{violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')}")
    return found


def check(browser: Browser, state: str, schemes: tuple[str, ...] = ("light", "dark")) -> None:
    """Nothing grave on any screen, in any colours; `VISRAG_SCREENSHOTS` keeps what was looked at."""
    found: dict[str, list[str]] = {}
    for screen in SCREENS:
        for scheme in schemes:
            look(browser, screen, scheme)
            wide = browser.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{state} on a {screen}: {wide} pixels wider than the screen"
            found[f"{state}, {screen}, {scheme}"] = grave(browser)
            browser.keep(f"axe-{state}-{screen}-{scheme}")
    assert {where: what for where, what in found.items() if what} == {}


@pytest.mark.parametrize("name", ["ask", "ask-nothing", "search", "eval"])
def test_reports(browser: Browser, reports: dict[str, Path], name: str) -> None:
    browser.driver.get(reports[name].as_uri())
    # Folded parts count too.
    browser.driver.execute_script("for (const folded of document.querySelectorAll('details')) folded.open = true")
    check(browser, name)


def test_axe_sees_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    """The check itself: a page with grey on grey, and a picture and a field without a name."""
    page = tmp_path / "wrong.html"
    page.write_text(
        '<!doctype html><html lang="en"><title>x</title><main><p style="color:#aaa;background:#bbb">grey</p>'
        '<img src="x.png"><input></main></html>',
        encoding="utf-8",
    )
    browser.driver.get(page.as_uri())
    assert {line.partition(":")[0] for line in grave(browser)} == {"color-contrast", "image-alt", "label"}


def test_the_demo(browser: Browser, tmp_path: Path) -> None:
    with running_demo(tmp_path / "bases") as url:
        browser.driver.get(url)
        browser.see(lambda: "Start with a document" in browser.text("#answer"))
        check(browser, "empty")
        look(browser, "desk", "light")
        ask_about_packages(browser, url)
        check(browser, "answered")
        look(browser, "desk", "light")
        opened: dict[str, Callable[[], object]] = {
            "settings": lambda: browser.click("#settings button"),
            "viewer": lambda: (browser.click(".vr-jump"), browser.see(lambda: browser.all(".vr-viewer[open] img"))),
        }
        for state, does in opened.items():
            does()
            check(browser, state)
            look(browser, "desk", "light")
        browser.click(".vr-viewer-button[aria-label='Close this page']")
        browser.click("#tabs [role=tab]:nth-child(2)")
        browser.fill("#compare-question", "build the source package")
        browser.type("#compare-question", Keys.ENTER)
        browser.see(lambda: len(browser.all(".vr-compared section")) == 2)
        check(browser, "compared")


def test_the_demo_behind_a_password(browser: Browser, tmp_path: Path) -> None:
    look(browser, "desk", "light")
    with running_demo(tmp_path / "bases", password="open sesame") as url:
        browser.driver.get(url)
        browser.see(lambda: browser.all("#password"))
        check(browser, "password")
