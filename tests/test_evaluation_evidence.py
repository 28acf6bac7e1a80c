"""Evidence of answers against what is right: values by hand on pages that are drawn here, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedGenerator, ScriptedRetriever
from PIL import Image, ImageDraw

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import (
    EVIDENCE_METRICS,
    EvaluationSet,
    PageBox,
    Question,
    evaluate_answers,
    evaluate_evidence,
)
from visrag_integrations.evaluation.evidence_scores import answers_by_evidence
from visrag_integrations.grounding import ground
from visrag_integrations.rag import VisRAG
from visrag_integrations.types import Answer, Box, Evidence, Grounding, Page, ScoredPage, Word

WIDTH, HEIGHT = 400, 300
LINE: tuple[Box, ...] = ((0.1, 0.1, 0.5, 0.2), (0.1, 0.5, 0.5, 0.6))  # where the two lines of a page stand


def drawn_page(name: str, lines: tuple[str, str]) -> Page:
    """A page with two lines of two words, each word in its half of the line's box."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    words: list[Word] = []
    for text, (left, top, right, bottom) in zip(lines, LINE, strict=True):
        middle = (left + right) / 2
        for word, start, end in zip(text.split(), (left, middle), (middle, right), strict=True):
            pen.text((start * WIDTH, top * HEIGHT), word, fill="black")
            words.append(Word(word, (start, top, end, bottom)))
    return Page(name, 1, "\n".join(lines), words=words, metadata={"corpus_id": name}, picture=picture)


HARBOUR = drawn_page("harbour", ("forty boats", "seven anchors"))
BAKERY = drawn_page("bakery", ("fifty loaves", "nine ovens"))
PAGES = (ScoredPage(HARBOUR, 0.9), ScoredPage(BAKERY, 0.8))


def asked(*questions: Question, **qrels: dict[str, int]) -> EvaluationSet:
    return EvaluationSet("drawn", questions, qrels)


def boxes(page: str, *places: Box) -> tuple[PageBox, ...]:
    return tuple(PageBox(page, *place) for place in places)


def found(*evidence: tuple[int, str], text: str = "forty", **fields: Any) -> Answer:
    """An answer of any generator, its words looked for on the drawn pages."""
    entries = [Evidence(index, said, page=PAGES[index - 1].page) for index, said in evidence]
    return ground(Answer(text, evidence=tuple(entries), pages=PAGES, **fields))


def test_evidence_on_a_drawn_page() -> None:
    dataset = asked(Question("q", "How many boats?", ("forty",), boxes=boxes("harbour", LINE[0])), q={"harbour": 1})
    scores = evaluate_evidence({"q": found((1, "forty boats"))}, dataset)
    assert scores.metrics == pytest.approx(dict.fromkeys(EVIDENCE_METRICS, 1.0))


def test_half_of_the_line_and_another_page() -> None:
    """Right: both lines, 2 x 0.04 of the page. Predicted: the first half of one (0.02), and a line of another page."""
    dataset = asked(Question("q", "?", ("forty",), boxes=boxes("harbour", *LINE)), q={"harbour": 1, "other": 1})
    scores = evaluate_evidence({"q": found((1, "forty"), (2, "nine ovens"))}, dataset)
    assert scores.metrics == pytest.approx(
        {
            "box-precision": 0.02 / 0.06,
            "box-recall": 0.02 / 0.08,
            "box-f1": 2 * 0.02 / 0.14,
            "box-precision@0.5": 1 / 2,  # half of the line is just the same box (IoU 0.5)
            "box-recall@0.5": 1 / 2,
            "box-f1@0.5": 1 / 2,
            "page-f1": 2 * 1 / (2 + 2),
            "supported": 1.0,
            "refusal": 1.0,
        },
        abs=1e-6,
    )


def test_words_that_are_not_there_have_no_boxes_and_no_support() -> None:
    dataset = asked(Question("q", "?", ("forty",), boxes=boxes("harbour", LINE[0])), q={"harbour": 1})
    scores = evaluate_evidence({"q": found((1, "twenty zebras"), (1, "forty boats"))}, dataset)
    assert scores.metrics["supported"] == 0.5
    assert scores.metrics["box-f1"] == pytest.approx(1.0)


def test_each_metric_has_its_own_questions() -> None:
    questions = (
        Question("boxed", "?", ("a",), boxes=boxes("harbour", LINE[0])),
        Question("plain", "?", ("a",)),
        Question("flat", "?", ("a",), boxes=boxes("harbour", (0.2, 0.2, 0.2, 0.9))),
        Question("none", "?", answerable=False),
        Question("not asked", "?", ("a",)),
    )
    dataset = asked(*questions, boxed={"harbour": 1}, plain={"bakery": 1, "harbour": 0})
    unread = Evidence(1, "forty boats", page=Page("scan", 1))
    answers = {
        "boxed": found((1, "forty boats")),
        "plain": ground(Answer("a", evidence=(unread,))),
        "flat": Answer("a"),
        "none": Answer("Insufficient to answer."),
    }
    scores = evaluate_evidence(answers, dataset)
    assert {metric: sorted(values) for metric, values in scores.values.items()} == {
        **{name: ["boxed"] for name in EVIDENCE_METRICS if name.startswith("box-")},
        "page-f1": ["boxed", "plain"],
        "supported": ["boxed"],
        "refusal": ["boxed", "flat", "none", "plain"],
    }
    assert scores.metrics["refusal"] == 1.0
    assert scores.metrics["page-f1"] == 0.5
    assert scores.notes == (
        "1 questions with answers have no right boxes: not in the box rows.",
        "1 questions have right boxes without area: not in the box rows.",
        "1 pieces of evidence could not be checked: not in the row supported.",
    )


@pytest.mark.parametrize(
    ("answer", "answerable", "right"),
    [
        (Answer("forty"), True, 1),
        (Answer("forty"), False, 0),
        (Answer("insufficient to answer", sufficient=False), True, 0),
        (Answer("insufficient to answer", sufficient=False), False, 1),
        (Answer("No relevant information"), False, 1),  # a generator without tags
        (Answer("", sufficient=False), False, 1),
    ],
)
def test_refusals(answer: Answer, answerable: bool, right: int) -> None:
    dataset = asked(Question("q", "?", ("forty",) if answerable else (), answerable=answerable))
    assert evaluate_evidence({"q": answer}, dataset).metrics["refusal"] == right


def test_no_evidence_and_pages_that_were_not_shown() -> None:
    dataset = asked(Question("q", "?", ("a",), boxes=boxes("harbour", LINE[0])), q={"harbour": 1})
    nothing = evaluate_evidence({"q": Answer("a", evidence=(Evidence(1, "no", relevant=False),))}, dataset)
    assert nothing.metrics["box-f1"] == nothing.metrics["page-f1"] == 0.0
    assert "supported" not in nothing.metrics
    unknown = evaluate_evidence({"q": Answer("a", evidence=(Evidence(7, "forty boats"),))}, dataset)
    assert unknown.metrics["page-f1"] == 0.0


def test_hundreds_of_boxes_off_the_page_and_of_a_users_own() -> None:
    """A generator that names boxes itself needs no words: here the right one, and 500 beside the page."""
    given = (LINE[0], *[(1.0 + i, 0.0, 2.0 + i, 1.0) for i in range(500)])
    entry = Evidence(1, "forty boats", page=HARBOUR, grounding=Grounding("supported", 1.0, given))
    dataset = asked(Question("q", "?", ("a",), boxes=boxes("harbour", LINE[0])))
    assert evaluate_evidence({"q": Answer("a", evidence=(entry,))}, dataset).metrics["box-f1@0.5"] == 1.0


def rag(*texts: str) -> VisRAG:
    return VisRAG(ScriptedRetriever(*PAGES), ScriptedGenerator(*texts))


def written(answer: str, first: str, second: str = "No relevant words") -> str:
    return (
        f"<observe>o</observe><evidence>\n[1]: {first}\n[2]: {second}\n</evidence><think>t</think>"
        f"<answer>{answer}</answer>"
    )


TWO = asked(
    Question("right", "How many boats?", ("forty",), boxes=boxes("harbour", LINE[0])),
    Question("elsewhere", "How many anchors?", ("seven",), boxes=boxes("harbour", LINE[1])),
    right={"harbour": 1},
    elsewhere={"harbour": 1},
)
ANSWERS = (written("forty", "forty boats"), written("seven", "forty boats"))


def test_a_whole_run_prints_and_keeps_its_evidence(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    result = evaluate_answers(TWO, rag(*ANSWERS), ["em"], ground=ground, record=record, top_k=2)
    assert result.evidence is not None
    assert result.evidence.values["box-f1"] == pytest.approx({"right": 1.0, "elsewhere": 0.0})
    table = result.answers_by_evidence
    assert table is not None
    assert (table.both, table.answer_only, table.evidence_only, table.neither) == (1, 1, 0, 0)
    assert "box-f1                     2  0.500 [0.000, 1.000]" in str(result)
    assert "questions (em; box-f1 from 0.5)  evidence right  evidence wrong\n" in str(result)
    assert "<td" in result._repr_html_()
    assert result.as_dict()["evidence"]["metrics"]["box-f1"] == {"questions": 2, "mean": 0.5, "interval": [0.0, 1.0]}

    again = evaluate_answers(TWO, rag(), ["f1"], ground=ground, record=record, top_k=2)
    assert again.evidence == result.evidence
    with pytest.raises(SettingError, match="evidence was True"):
        evaluate_answers(TWO, rag(), ["f1"], record=record, top_k=2)


def test_evidence_alone_needs_no_metric_of_the_answers() -> None:
    result = evaluate_answers(TWO, rag(*ANSWERS), [], ground=ground, top_k=2)
    assert result.answers_by_evidence is None
    assert "box-f1                     2  0.500" in str(result)
    assert "answers_by_evidence" not in result.as_dict()


def test_without_grounding_everything_is_as_before() -> None:
    result = evaluate_answers(TWO, rag(*ANSWERS), ["em"], top_k=2)
    assert result.evidence is None
    assert "evidence" not in result.as_dict()
    assert "evidence" not in str(result)


def test_runs_are_compared_in_pairs() -> None:
    both = found((1, "forty boats"))
    dataset = asked(*(Question(f"q{i}", "?", ("a",), boxes=boxes("harbour", LINE[0])) for i in range(4)))
    good = evaluate_evidence({f"q{i}": both for i in range(4)}, dataset)
    bad = evaluate_evidence({f"q{i}": Answer("a") for i in range(3)}, dataset)
    compared = {found.metric: found for found in good.compare(bad)}
    assert (compared["box-f1"].queries, compared["box-f1"].wins) == (3, 3)
    assert compared["box-f1"].difference == pytest.approx(1.0)
    assert "supported" not in compared  # the second has none
    assert compared["refusal"].difference == 0


def test_right_answers_against_right_evidence() -> None:
    dataset = asked(Question("q", "?", ("a",)), q={"harbour": 1})
    pages_only = evaluate_evidence({"q": found((1, "forty boats"), (2, "nine ovens"))}, dataset)
    table = answers_by_evidence({"q": 0.4, "unknown": 1.0}, "f1", pages_only)
    assert table is not None
    assert table.rows()[0][0] == "questions (f1 from 0.5; page-f1 from 0.5)"
    assert (table.both, table.answer_only, table.evidence_only, table.neither) == (0, 0, 1, 0)
    assert answers_by_evidence({}, "f1", pages_only) is None
    assert answers_by_evidence({"q": 1.0}, "f1", evaluate_evidence({}, dataset)) is None


def test_pages_that_go_by_other_names_are_told() -> None:
    dataset = asked(Question("q", "?", ("a",), boxes=boxes("harbour.pdf", LINE[0])), q={"harbour": 1})
    scores = evaluate_evidence({"q": found((1, "forty boats"))}, dataset)
    assert scores.metrics["box-f1"] == 0.0
    assert scores.notes == (
        "1 questions have right boxes on pages that the set does not call relevant.",
        "No evidence is on a page that has right boxes: the set names pages like 'harbour.pdf', "
        "and the evidence is on pages like 'harbour'.",
    )
