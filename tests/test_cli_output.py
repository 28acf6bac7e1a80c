"""Lines of the command line: no name and no error text of a document is a command; small scores can be told apart."""

from __future__ import annotations

import pytest

from visrag_integrations.cli.output import failure_lines, hit_lines, warning_lines
from visrag_integrations.ingestion import IndexReport
from visrag_integrations.readers.events import ReadingWarning
from visrag_integrations.report import show
from visrag_integrations.scores.shown import shown_score
from visrag_integrations.types import Failure, Page, ScoredPage

CLEAR = "\x1b[2J"  # clears a terminal's screen


def test_reasons_hold_no_commands_for_the_terminal() -> None:
    failures = [Failure(f"a{CLEAR}.pdf", f"its title is {CLEAR}\nand more", 2), Failure("b.pdf", "it is empty")]
    assert failure_lines(failures) == [
        "failed: a\\x1b[2J.pdf, page 2: its title is \\x1b[2J\nand more",
        "failed: b.pdf: it is empty",
    ]
    report = IndexReport(warnings=(ReadingWarning(f"c.pdf{CLEAR}", f"left out: {CLEAR}"),))
    assert warning_lines(report) == ["warning: c.pdf\\x1b[2J: left out: \\x1b[2J"]


SMALL = (0.0031, 0.0004, 0.000012345)
SAID = ("score 0.0031", "score 0.0004", "score 0.0000123")


def test_small_scores_are_told_apart_everywhere() -> None:
    """A reranker gives pages that do not fit such scores; two digits after the point made 0.00 of all of them."""
    pytest.importorskip("mcp")
    from visrag_integrations.servers.mcp.tool_results import pages_result

    hits = [ScoredPage(Page("d", n, source="d.pdf"), score, "rerank") for n, score in enumerate(SMALL, 1)]
    told = pages_result(hits, with_pictures=False).content[0].text  # type: ignore[union-attr]
    for lines in (hit_lines(hits), repr(show(hits)).splitlines(), told.splitlines()[::2]):
        for line, score in zip(lines, SAID, strict=True):
            assert score in line
    for said in SAID:
        assert f">{said}<" in show(hits)._repr_html_()


@pytest.mark.parametrize(
    ("score", "said"),
    [(999.4, "999"), (999.6, "1000"), (54321.9, "54322"), (9.999e-5, "0.0001"), (-4e-7, "-0.0000004"), (1.0, "1")],
)
def test_a_score_has_three_digits_that_count(score: float, said: str) -> None:
    assert shown_score(score) == said
