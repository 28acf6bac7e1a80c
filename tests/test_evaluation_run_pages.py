"""Answers from the pages of an existing run: which pages are shown, and run files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from fakes import ScriptedGenerator

from visrag_integrations.cli import main
from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation import EvaluationSet, Question, evaluate_answers, read_run
from visrag_integrations.rag import VisRAG
from visrag_integrations.types import Page, ScoredPage

PAGES = tuple(Page(f"p{n}", 1, f"text {n}", metadata={"corpus_id": f"p{n}"}) for n in range(5))
QUESTIONS = (Question("a", "first?", answers=("x",)), Question("b", "second?", answers=("y",)))
SET = EvaluationSet("drawn", QUESTIONS, {"a": {"p1": 1}}, PAGES)
KEYS = {f"p{n}" for n in range(5)}


class Unasked:
    """A run says what is shown: nothing is searched."""

    def retrieve(self, query: str, top_k: int = 5, *, filter: Any = None) -> list[ScoredPage]:
        pytest.fail("it was searched")


def rag(*texts: str) -> VisRAG:
    return VisRAG(Unasked(), ScriptedGenerator(*texts), strategy="text", top_k=2)


def test_the_best_pages_of_the_run_are_shown(tmp_path: Path) -> None:
    (tmp_path / "run").write_text(
        "a Q0 p3 1 0.5 x\na Q0 p1 2 0.9 x\na Q0 p0 3 0.5 x\nb Q0 p4 1 1 x\n", encoding="utf-8"
    )
    run = read_run(tmp_path / "run", SET, pages=KEYS)
    result = evaluate_answers(SET, rag("x", "x"), ["em"], run=run, top_k=2, progress=False)
    # The score counts, not the rank that is written; of equal scores the first in the file.
    assert list(result.run["a"]) == ["p1", "p3"]
    assert list(result.run["b"]) == ["p4"]
    assert result.per_query == {"a": {"em": 1}, "b": {"em": 0}}
    assert result.settings["pages"] == "run"
    # Without a number: as many as the RAG shows.
    assert list(evaluate_answers(SET, rag("x", "x"), ["em"], run=run, progress=False).run["a"]) == ["p1", "p3"]
    assert list(evaluate_answers(SET, rag("x", "x"), run=run, top_k=1, progress=False).run["a"]) == ["p1"]


def test_a_question_that_the_run_lacks_is_told(tmp_path: Path) -> None:
    result = evaluate_answers(SET, rag("x"), ["em"], run={"a": {"p1": 1.0}}, progress=False)
    assert result.run["b"] == {}
    assert "1 questions are not in the run, and were answered from no page; the first: b." in str(result)


def test_answers_from_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    record = tmp_path / "answers.jsonl"
    evaluate_answers(SET, rag("x", "y"), run={"a": {"p1": 1.0}, "b": {"p2": 1.0}}, record=record, progress=False)
    again = evaluate_answers(SET, rag(), run={"a": {"p1": 1.0}, "b": {"p2": 1.0}}, record=record, progress=False)
    assert again.metrics["em"] == 1
    with pytest.raises(SettingError, match="run was"):
        evaluate_answers(SET, rag(), run={"a": {"p1": 1.0}, "b": {"p3": 1.0}}, record=record, progress=False)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({"a": {"p9": 1.0}}, "1 pages of the run are neither in drawn nor in the index, such as 'p9'"),
        ({"z": {"p1": 1.0}}, "no page for any question of drawn: it asks 'z', and the set 'a'"),
        ({}, "no page for any question of drawn: it asks 'nothing'"),
    ],
)
def test_a_run_of_something_else_is_refused(run: dict[str, dict[str, float]], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        evaluate_answers(SET, rag(), run=run, progress=False)


def test_a_run_and_pages_contradict_each_other() -> None:
    with pytest.raises(SettingError, match="both say what is shown"):
        evaluate_answers(SET, rag(), run={"a": {"p1": 1.0}}, pages="relevant", progress=False)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a Q0 p9 1 0.5 x", "line 2 names the page 'p9', which is neither in the set nor in the index"),
        ("z Q0 p1 1 0.5 x", "line 2 is of the question 'z', which drawn does not ask"),
        ("a Q0 p1 1", "line 2 has 4 columns"),
        ("a Q0 p1 1 high x", "line 2 the score 'high' is no number"),
        ("a Q0 p1 1 nan x", "line 2 the score 'nan' is no number"),
        ("a Q0 p0 1 0.5 x", "line 2 page 'p0' was given for query 'a' before"),
        ("a\tQ0\tp1 x\t1\t0.5\tx", "line 2 names the page 'p1 x'"),
    ],
)
def test_bad_lines_are_told_by_number(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text(f"a Q0 p0 1 0.9 x\n{line}\n", encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        read_run(tmp_path / "run", SET, pages=KEYS)
    assert says in str(caught.value)
    assert "run" in str(caught.value)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A document that is indexed, questions about it, and a run that found its second page for both."""
    monkeypatch.chdir(tmp_path)
    anchors = "Anchors have a weight of two hundred pounds."
    draw_pdf(tmp_path / "boats.pdf", ["The harbour holds forty sailing boats.", anchors])
    rows = [
        {"id": "boats", "query": "how many sailing boats", "source": "boats.pdf", "page": 1, "answer": "forty"},
        {
            "id": "anchors",
            "query": "weight of anchors",
            "source": "boats.pdf",
            "page": 2,
            "answer": "two hundred",
        },
    ]
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    lines = "".join(f"{row['id']}\tQ0\tboats.pdf#page=2\t1\t1.0\tx\n" for row in rows)
    (tmp_path / "run.trec").write_text(lines, encoding="utf-8")
    assert main(["index", "boats.pdf", "--preset", "cpu", "--workers", "1", "--quiet"]) == 0
    return tmp_path


def test_a_run_on_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = ["eval", "answers", "q.jsonl", "--preset", "cpu", "--quiet", "--metrics", "accuracy", "--json"]
    capsys.readouterr()
    assert main([*answers, "--run", "run.trec", "-k", "1", "--limit", "1"]) == 0
    # The page with the boats was not in the run.
    assert json.loads(capsys.readouterr().out)["metrics"] == {"accuracy": 0}
    assert main([*answers, "--run", "run.trec", "-k", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == {"accuracy": 0.5}
    (place / "run.trec").write_text("boats Q0 boats.pdf#page=3 1 1.0 x\n", encoding="utf-8")
    assert main([*answers, "--run", "run.trec"]) == 2
    assert "run.trec: line 1 names the page 'boats.pdf#page=3'" in capsys.readouterr().err
    assert main([*answers, "--run", "none.trec"]) == 2
    assert "none.trec" in capsys.readouterr().err
