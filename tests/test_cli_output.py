"""Lines about documents that failed: what a document made of its name, or of an error's text, is no command."""

from __future__ import annotations

from visrag_integrations.cli.output import failure_lines, warning_lines
from visrag_integrations.ingestion import IndexReport
from visrag_integrations.readers.events import ReadingWarning
from visrag_integrations.types import Failure

CLEAR = "\x1b[2J"  # clears a terminal's screen


def test_reasons_hold_no_commands_for_the_terminal() -> None:
    failures = [Failure(f"a{CLEAR}.pdf", f"its title is {CLEAR}\nand more", 2), Failure("b.pdf", "it is empty")]
    assert failure_lines(failures) == [
        "failed: a\\x1b[2J.pdf, page 2: its title is \\x1b[2J\nand more",
        "failed: b.pdf: it is empty",
    ]
    report = IndexReport(warnings=(ReadingWarning(f"c.pdf{CLEAR}", f"left out: {CLEAR}"),))
    assert warning_lines(report) == ["warning: c.pdf\\x1b[2J: left out: \\x1b[2J"]
