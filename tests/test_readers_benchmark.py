"""The benchmark of reading runs, and says what it says of both engines."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from drawing import draw_pdf

pytest.importorskip("pypdfium2")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "reading.py"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    monkeypatch.syspath_prepend(SCRIPT.parent)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return capsys.readouterr().out


def test_engines_and_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_pdf(tmp_path / "a.pdf", ["The harbour holds forty boats."])
    told = run(monkeypatch, capsys, str(tmp_path), "--quick")
    rows = re.findall(r"\| (\w+) \| (\w+) \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", told)
    assert rows == [("pymupdf", "JPEG"), ("pymupdf", "pixels"), ("pdfium", "JPEG"), ("pdfium", "pixels")]
    told = run(monkeypatch, capsys, str(tmp_path), "--encoders", "--quick")
    assert re.search(r"\| Pillow, from a buffer \| [\d.]+ \| \d+ \| 1 of 1 \|", told), (
        "the reader writes Pillow's bytes"
    )


def test_pages_from_a_reading_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_pdf(tmp_path / "a.pdf", ["The harbour holds forty boats.", "Fees are due in May."])
    told = run(monkeypatch, capsys, str(tmp_path), "--process", "--quick")
    rows = re.findall(r"\| (\w+) \| (\w+) \| -?[\d.]+ \| -?[\d.]+ \|", told)
    assert rows == [("pymupdf", "JPEG"), ("pymupdf", "pixels"), ("pdfium", "JPEG"), ("pdfium", "pixels")]
