"""Two small documents that come with the package, to try it on."""

from __future__ import annotations

import json
from pathlib import Path

NAMES = ("reportlab-graphics.pdf", "debian-tips-scan.pdf")
"""28 pages of text with charts, drawings and tables; two scanned pages without a text layer."""
LICENCES = "README.md"
"""Beside them: where they are from, and their licences (BSD, MIT)."""
QUESTIONS = "queries.jsonl"
"""Questions with their pages and answers, for `visrag eval`."""


def folder() -> Path:
    """Where they are: in the installed package, or in the repository where that is what is installed."""
    here = Path(__file__).parent
    inside = here / "sample_files"
    if inside.is_dir():
        return inside
    return here.parent / "samples"


def questions() -> str:
    """The lines of the questions about these two documents; the repository has some about others, too.

    >>> len(questions().splitlines())
    10
    """
    kept: list[str] = []
    for line in (folder() / QUESTIONS).read_text(encoding="utf-8").splitlines(keepends=True):
        if line.strip() and json.loads(line)["source"] in NAMES:
            kept.append(line)
    return "".join(kept)


def samples() -> list[Path]:
    """The paths of two small PDF files: one with charts and tables, one scanned.

    >>> [path.name for path in samples()]
    ['reportlab-graphics.pdf', 'debian-tips-scan.pdf']
    """
    return [folder() / name for name in NAMES]
