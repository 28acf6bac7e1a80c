"""Every rule for answers against values computed by hand from the published definitions; the room's names and docs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visrag_integrations import evaluation
from visrag_integrations.errors import UnknownNameError
from visrag_integrations.evaluation.answers import (
    ANSWER_METRICS,
    evaluate_answers_of,
    find_answer_metric,
    normalized,
    vqa_normalized,
)
from visrag_integrations.evaluation.evidence_scores import EVIDENCE_METRICS
from visrag_integrations.evaluation.metrics import RETRIEVAL_METRICS
from visrag_integrations.evaluation.sets import Question


def value(metric: str, answer: str, *truths: str, **fields: object) -> float:
    return ANSWER_METRICS[metric](answer, Question("q", "?", answers=truths, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "truths", "em", "accuracy", "f1"),
    [
        ("Paris", ["paris"], 1, 1, 1),
        ("The  Paris!", ["paris"], 1, 1, 1),  # article, punctuation, spaces, case
        ("in Paris, France", ["Paris"], 0, 1, 2 * (1 / 3) * 1 / (1 / 3 + 1)),
        ("France Paris", ["Paris France"], 0, 1, 1),  # the order does not count for accuracy
        ("Paris", ["Paris France"], 0, 0, 2 * 1 * 0.5 / 1.5),
        ("red red blue", ["red"], 0, 1, 2 * (1 / 3) / (4 / 3)),  # a word counts as often as both have it
        ("Rome", ["Paris", "rome"], 1, 1, 1),  # the best of several
        ("Rome", ["Paris"], 0, 0, 0),
        ("", ["Paris"], 0, 0, 0),
        ("the", ["a"], 0, 0, 0),  # nothing left of either: not an answer
        ("3.5%", ["35"], 1, 1, 1),  # punctuation goes, as published
        ("anything", [], 0, 0, 0),
    ],
)
def test_evisrag(answer: str, truths: list[str], em: float, accuracy: float, f1: float) -> None:
    assert value("em", answer, *truths) == em
    assert value("accuracy", answer, *truths) == accuracy
    assert value("f1", answer, *truths) == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "em", "accuracy"),
    [
        ("insufficient to answer", 1, 1),
        ("Insufficient to answer.", 1, 1),
        ("Insufficient to answer the question", 1, 1),
        ("no relevant information", 1, 1),
        ("It is insufficient to answer", 0, 1),
        ("1997", 0, 0),
        ("I do not know", 0, 0),
    ],
)
def test_unanswerable_questions_want_a_refusal(answer: str, em: float, accuracy: float) -> None:
    assert value("em", answer, "1997", answerable=False) == em
    assert value("accuracy", answer, "1997", answerable=False) == accuracy


def test_a_refusal_is_wrong_where_there_is_an_answer() -> None:
    assert value("em", "insufficient to answer", "1997") == 0
    assert value("accuracy", "insufficient to answer", "1997") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("An  apple\n", "apple"),
        ("two", "2"),
        ("None", "0"),
        ("1,000", "1000"),
        ("red/blue", "red blue"),
        ("red / blue", "red blue"),
        ("well-known", "well known"),
        ("1,000 well-known", "1000 wellknown"),  # beside a thousands separator every mark just goes, as published
        ("U.S.", "us"),
        ("3.5", "3.5"),
        ("5.", "5"),
        ("-5", "5"),
        ("dont", "don't"),
        ("don't", "don't"),
        ("its", "its"),
        ("12%", "12%"),
        ("", ""),
    ],
)
def test_vqa_normalisation(text: str, expected: str) -> None:
    assert vqa_normalized(text) == expected


@pytest.mark.parametrize(
    ("answer", "truth", "exact", "relaxed"),
    [
        ("12", "12", 1, 1),
        ("12%", "12", 1, 1),
        ("12", "12%", 1, 1),
        ("12%", "12%", 1, 1),
        ("105", "100", 0, 1),  # 5 % off is still right
        ("95", "100", 0, 1),
        ("105.1", "100", 0, 0),
        ("94.9", "100", 0, 0),
        ("1,050", "1000", 0, 1),
        ("5.2%", "5", 0, 1),
        ("0", "0", 1, 1),
        ("0.0", "0", 0, 0),  # nothing is near 0
        ("0.0001", "0.0", 0, 0),
        ("three", "3", 1, 1),
        ("about 100", "100", 0, 0),
        ("Yes.", "yes", 1, 1),
        ("nan", "100", 0, 0),
        ("", "", 0, 0),
    ],
)
def test_visrag_gen(answer: str, truth: str, exact: float, relaxed: float) -> None:
    assert value("exact", answer, truth) == exact
    assert value("relaxed", answer, truth) == relaxed


def test_visrag_gen_special_cases() -> None:
    assert value("relaxed", "2004", "2005", numeric=False) == 0  # a year in a set that says it is no number
    assert value("relaxed", "2004", "2005", numeric=True) == 1
    assert value("exact", "b", "a1", "b") == 1
    assert value("exact", "5", "x%", "5%") == 1  # the first right answer decides about percent signs
    assert value("exact", "5", "x", "5%") == 0


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [("B", "B", 1), ("b. the second", "B", 1), (" C", "C", 1), ("A", "B", 0), ("", "B", 0), ("(B)", "B", 0)],
)
def test_option_letters(answer: str, truth: str, expected: float) -> None:
    assert value("choice", answer, truth) == expected


@pytest.mark.parametrize(
    ("answer", "truths", "expected"),
    [
        ("hello", ["hello"], 1),
        ("Hello ", ["hello"], 1),
        ("hallo", ["hello"], 1 - 1 / 5),
        ("kitten", ["sitting"], 1 - 3 / 7),
        ("ab", ["cd"], 0),
        ("ab", ["ac"], 0),  # half of it is wrong: no credit
        ("hel", ["hello"], 1 - 2 / 5),
        ("hello world, and more", ["hello"], 0),
        ("hallo", ["xxxxx", "hello"], 0.8),
        ("", ["hello"], 0),
        ("hello", [], 0),
    ],
)
def test_anls(answer: str, truths: list[str], expected: float) -> None:
    assert value("anls", answer, *truths) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(answer=st.text(max_size=30), truths=st.lists(st.text(max_size=30), max_size=3), answerable=st.booleans())
def test_any_text_gives_a_value_from_0_to_1(answer: str, truths: list[str], answerable: bool) -> None:
    for metric in ANSWER_METRICS:
        assert 0 <= value(metric, answer, *truths, answerable=answerable) <= 1
    if normalized(answer):
        assert value("em", answer, answer) == value("accuracy", answer, answer) == value("f1", answer, answer) == 1


def test_evaluate_answers_of() -> None:
    questions = [Question("a", "?", ("x",)), Question("b", "?", ("y",)), Question("c", "?", ("z",))]
    scores = evaluate_answers_of({"a": "x", "c": "w", "other": "x"}, questions, ["em", "f1"])
    assert scores == {"a": {"em": 1.0, "f1": 1.0}, "c": {"em": 0.0, "f1": 0.0}}
    with pytest.raises(UnknownNameError, match=r"bleu.*em, accuracy, f1, anls, exact, relaxed, choice"):
        find_answer_metric("bleu")


def test_every_metric_is_in_the_docs() -> None:
    docs = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z0-9-]+(?:@0\.5)?)(?:@K)?` \|", docs, re.MULTILINE)
    assert named == [*RETRIEVAL_METRICS, *ANSWER_METRICS, *EVIDENCE_METRICS]


def test_public_names() -> None:
    assert all(hasattr(evaluation, name) for name in evaluation.__all__)
    heavy = "{'torch', 'transformers', 'pyarrow', 'datasets'}"
    code = f"import sys, visrag_integrations.evaluation; print(*{heavy} & {{*sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
