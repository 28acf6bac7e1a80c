"""`visrag eval answers` with right boxes, a judge and a report: tables, JSON, exit codes, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from scripted_server import serving

from visrag_integrations.cli import main

BOATS = "The harbour holds forty sailing boats."
# The line begins at (20, 20) of a page of 300 x 200 points, in letters 12 points high.
LINE = [20 / 300, 20 / 200, 230 / 300, 36 / 200]
QUESTIONS = [
    {
        "id": "boats",
        "query": "how many sailing boats",
        "source": "boats.pdf",
        "page": 1,
        "answer": "forty",
        "boxes": [["boats.pdf#page=1", *LINE]],
    },
    {
        "id": "anchors",
        "query": "weight of anchors",
        "source": "boats.pdf",
        "page": 2,
        "answer": "nine pounds",
        "boxes": [["boats.pdf#page=2", 0.5, 0.8, 0.9, 0.9]],
    },
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a drawn document and questions that say where their answers stand."""
    monkeypatch.chdir(tmp_path)
    draw_pdf(tmp_path / "boats.pdf", [BOATS, "Anchors have a weight of two hundred pounds."])
    lines = "".join(f"{json.dumps(question)}\n" for question in QUESTIONS)
    (tmp_path / "questions.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


def visrag(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["eval", "answers", "questions.jsonl", "--documents", "boats.pdf", "--preset", "cpu", *arguments])
    found = capsys.readouterr()
    return code, found.out, found.err


def values_of(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    return found


def test_boxes_of_the_set_are_scored(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, "--workers", "1", "--metrics", "accuracy", "-k", "1", "--record", "run.jsonl")
    assert code == 0, err
    assert "\nbox-f1                     2  0." in out
    assert "questions (accuracy; box-f1 from 0.5)  evidence right  evidence wrong\n" in out
    assert "answer right                                        1               0\n" in out
    assert "answer wrong                                        0               1" in out
    again = ("--metrics", "accuracy", "-k", "1", "--record", "run.jsonl", "--json", "--html", "report.html")
    code, out, err = visrag(capsys, *again, "--compare", "run.jsonl")
    assert code == 0, err
    report = (place / "report.html").read_text(encoding="utf-8")
    assert report.count("<image") == 1  # of the question whose evidence is elsewhere
    assert "this run against run.jsonl, question by question" in report
    assert "Found by this run" in report
    values = values_of(out)["evidence"]["metrics"]
    assert values["page-f1"] == {"questions": 2, "mean": 1.0, "interval": [1.0, 1.0]}
    # The letters are lower and the line is shorter than the box that was drawn around it: some of it is right, not all.
    assert 0.4 < values["box-recall"]["mean"] <= 0.5
    assert values["box-precision"]["mean"] == pytest.approx(0.5, abs=0.05)


def test_a_model_judges(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    with serving(["<judge>True</judge>"]) as (url, seen):
        judged = ("--judge", url, "--judge-record", "verdicts.jsonl", "--metrics", "accuracy")
        code, out, err = visrag(capsys, *judged, "--workers", "1")
        assert code == 0, err
        assert ": 1.000 [1.000, 1.000] of 2 answers are right." in out
        assert "and accuracy          2  0.500  0.000                  1                 0" in out
        assert len(seen) == 2
        code, out, err = visrag(capsys, *judged, "--json")
        assert len(seen) == 2  # both verdicts were kept
        assert values_of(out)["judged"]["agreement"][0]["judge_only"] == 1


def test_garbage_of_a_judge_changes_the_exit_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    with serving(["I am only a model."]) as (url, _):
        code, out, err = visrag(capsys, "--judge", url, "--workers", "1")
    assert code == 1, err
    assert "no answer was judged" in out
    assert "2 of 2 answers have no verdict" in out


def test_a_judge_that_is_away(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, "--workers", "1")
    assert code == 0, err
    assert "judge" not in out
    for arguments, says in (
        (("--judge", "extractive"), "it cannot judge"),
        (("--judge-record", "x.jsonl"), "Say who judges: --judge"),
        (("--html", "no/x"), "--html 'no/x': the folder"),
        (("--judge", "http://localhost:1/v1", "--judge-record", "no/x"), "--judge-record 'no/x': the folder"),
    ):
        code, out, err = visrag(capsys, *arguments)
        assert (code, out) == (2, "")
        assert says in err
