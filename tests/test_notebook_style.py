"""An evaluation's report among the style that Jupyter gives tables and terms, in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_demo_browser import HERE, started
from test_report_evaluation import DATASET, FOUND, OTHER, PAGES

from visrag_integrations.report import EvaluationReport

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not HERE, reason="no chromium with chromedriver is installed"),
]
# What JupyterLab, and the HTML that nbconvert writes, say of every output; shortened to what moves things.
JUPYTER = """
.jp-RenderedHTMLCommon table { border-collapse: collapse; table-layout: fixed; margin-left: auto; margin-bottom: 1em; }
.jp-RenderedHTMLCommon td, .jp-RenderedHTMLCommon th, .jp-RenderedHTMLCommon tr {
  vertical-align: middle; padding: 0.5em; line-height: normal; white-space: normal; max-width: none; border: none;
}
.jp-RenderedHTMLCommon tbody tr:nth-child(odd) { background: rgb(255, 0, 0); }
.jp-OutputArea-output dl, .jp-OutputArea-output dt, .jp-OutputArea-output dd { display: block; }
.jp-OutputArea-output dl { width: 100%; overflow: hidden; padding: 0; margin: 0; }
.jp-OutputArea-output dt { font-weight: bold; float: left; width: 20%; padding: 0; margin: 0; }
.jp-OutputArea-output dd { float: left; width: 80%; padding: 0; margin: 0; }
"""
WIDE_CELLS = """
return [...document.querySelectorAll(".visrag table.scores td, .visrag table.scores th")]
  .filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.textContent);
"""
TERMS = """
return [...document.querySelectorAll(".visrag .said dt")].map(
  term => [term.textContent, term.getBoundingClientRect().height / parseFloat(getComputedStyle(term).lineHeight)]);
"""
STRIPES = """
return [...document.querySelectorAll(".visrag tbody tr")]
  .filter(row => getComputedStyle(row).backgroundColor == "rgb(255, 0, 0)").length;
"""


@pytest.mark.parametrize("width", [1000, 760])
def test_nothing_runs_into_its_neighbour_in_a_notebook(tmp_path: Path, width: int) -> None:
    shown: Any = EvaluationReport(FOUND, DATASET, lambda: PAGES, OTHER, ("this one here", "another one"))
    page = tmp_path / "notebook.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><style>{JUPYTER}</style><div style="width: {width}px">'
        f'<div class="jp-OutputArea-output jp-RenderedHTMLCommon">{shown._repr_html_()}</div></div>',
        encoding="utf-8",
    )
    driver = started(tmp_path / "profile")
    try:
        driver.get(page.as_uri())
        assert driver.execute_script(WIDE_CELLS) == []
        assert driver.execute_script(STRIPES) == 0
        terms = driver.execute_script(TERMS)
        assert terms
        assert all(lines < 3.5 for _, lines in terms), terms  # words under each other, not letters
    finally:
        driver.quit()
