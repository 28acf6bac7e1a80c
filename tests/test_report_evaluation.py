"""The report of an evaluation: its numbers, the pages of failed questions, and that it is safe and self-contained."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import (
    EvaluationResult,
    EvaluationSet,
    JudgedAnswers,
    MarkedBox,
    PageBox,
    QueryFailure,
    Question,
    evaluate_evidence,
)
from visrag_integrations.report import EvaluationReport
from visrag_integrations.report.bars import difference_bar, share_bar
from visrag_integrations.report.failed_questions import MOST_RIGHT
from visrag_integrations.report.score_tables import first_places
from visrag_integrations.types import Answer, Evidence, Grounding, Page

EVIL = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;{style}\ud800"
ALLOWED = """html head meta title style body svg defs image use g rect path polygon main section header article footer
ul li h1 h2 h3 p div span input label table thead tbody tr th td dl dt dd"""
NAMES = ("a", "b", "c", "d")
PAGES = tuple(
    Page(name, 1, metadata={"corpus_id": name}, picture=Image.new("RGB", (40, 60), "white")) for name in NAMES
)


class Elements(HTMLParser):
    """Every element with its attributes, the visible text, and the rows of every table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input"}:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


DATASET = EvaluationSet(
    "harbours",
    (
        Question("q1", "How many boats?", ("forty",), group="numbers"),
        Question("q2", "Which harbour?", ("Kiel",), group="names"),
        Question("q3", "Who paid?", ("Ada",), group="names"),
        Question("q4", "Who was not asked?", ("Bob",), group="names"),
    ),
    {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"d": 2, "c": 1}, "q4": {"a": 1}},
    PAGES,
)
FOUND = EvaluationResult(
    "harbours",
    {"q1": {"mrr@10": 1.0}, "q2": {"mrr@10": 0.5}, "q3": {"mrr@10": 0.0}},
    {"embedder": "ocr", "mode": "hybrid"},
    {"numbers": ["q1"], "names": ["q2", "q3", "q4"]},
    (QueryFailure("q4", "ConnectionError: no route"),),
    {"q1": {"a": 0.9}, "q2": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}, "q3": {"a": 0.3}},
    notes=("A note for readers.",),
)
OTHER = EvaluationResult(
    "harbours", {"q1": {"mrr@10": 0.0}, "q2": {"mrr@10": 1.0}, "q3": {"mrr@10": 1.0}}, run={"q2": {"b": 1.0}, "q3": {}}
)


def test_scores_groups_and_ranks_stand_in_tables() -> None:
    found = Elements(EvaluationReport(FOUND, DATASET).html())
    assert found.open == []
    assert ["mrr@10", "3", "0.500", "0.000 to 1.000", ""] in found.rows
    assert ["numbers", "1", "1.000", "1.000 to 1.000", ""] in found.rows
    assert ["names", "2", "0.250", "0.000 to 0.500", ""] in found.rows
    places = found.rows[found.rows.index(["Place of the first right page", "Questions", "Share", ""]) + 1 :][:3]
    assert [row[:3] for row in places] == [["1", "1", "33%"], ["2 to 3", "1", "33%"], ["not found", "1", "33%"]]
    assert ["q4", "ConnectionError: no route"] in found.rows
    assert "A note for readers." in found.text
    assert first_places(FOUND, DATASET) == {"q1": 1, "q2": 2, "q3": 0}
    some = EvaluationSet("some", DATASET.questions, {"q1": {"a": 1}, "q2": {"b": 0}})
    assert first_places(FOUND, some) == {"q1": 1}  # nothing to be found for the others


def test_failed_questions_worst_first_with_both_kinds_of_pages() -> None:
    found = Elements(EvaluationReport(FOUND, DATASET).html())
    assert "2 of 3 questions failed (mrr@10 below 1)." in found.text
    assert found.text.index("Who paid?") < found.text.index("Which harbour?")
    assert "How many boats?" not in found.text  # nothing was wrong
    shown = [attributes["aria-label"] for attributes in found.all("svg") if attributes.get("class") == "page"]
    # q3: the better right page first, then what was found; q2: only three of the four that were found.
    assert shown == ["d", "c", "a", "b", "a", "b", "c"]
    assert len(found.all("image")) == 4  # each picture once
    assert found.text.count("✓ right page, place 2, score 0.8") == 1


def test_only_so_many_are_shown_and_that_is_said() -> None:
    html = EvaluationReport(FOUND, DATASET, most_questions=1).html()
    assert "The worst 1 are shown." in html
    assert "Which harbour?" not in html
    many = EvaluationSet("m", (Question("q2", "Many?"),), {"q2": {f"p{i}": 1 for i in range(9)}})
    assert f"({9 - MOST_RIGHT} more are not shown)" in EvaluationReport(FOUND, many).html()


def test_two_runs_side_by_side() -> None:
    report = EvaluationReport(FOUND, DATASET, other=OTHER, names=("ocr", "pixels"))
    found = Elements(report.html())
    assert ["mrr@10", "ocr", "3", "0.500", "0.000 to 1.000", ""] in found.rows
    assert ["mrr@10", "pixels", "3", "0.667", "0.000 to 1.000", ""] in found.rows
    assert ["mrr@10", "3", "0.500", "0.667", "-0.167"] in [row[:5] for row in found.rows]
    assert "Found by ocr" in found.text
    assert "2 of 3 questions failed in ocr" in found.text
    assert "ocr  pixels  difference" in str(report)
    with pytest.raises(SettingError, match="share no query"):
        EvaluationReport(FOUND, DATASET, other=EvaluationResult("x", {"q9": {"mrr@10": 1.0}})).html()


BOX = (0.25, 0.5, 0.75, 1.0)
ANSWERED = (
    Question("q1", "How many boats?", ("forty",), boxes=(PageBox("a", *BOX),)),
    Question("q2", "Which harbour?", answerable=False),
)


MARKED_IN_PIXELS = {"a": (MarkedBox((10, 30, 30, 60), in_pixels=True),)}  # the same box, on a page of 40 x 60 pixels


def answered(questions: tuple[Question, ...] = ANSWERED) -> tuple[EvaluationResult, EvaluationSet]:
    dataset = EvaluationSet("harbours", questions, {"q1": {"a": 1}}, PAGES)
    entry = Evidence(1, "x", page=PAGES[0], grounding=Grounding("partly", 0.5, ((0.0, 0.0, 0.25, 0.5),)))
    evidence = evaluate_evidence({"q1": Answer("41", evidence=(entry,)), "q2": Answer("Kiel")}, dataset)
    result = EvaluationResult(
        "harbours",
        {"q1": {"em": 0.0}, "q2": {"em": 0.0}},
        run={"q1": {"a": 1.0}, "q2": {}},
        answers={"q1": "41", "q2": "Kiel"},
        evidence=evidence,
        judged=JudgedAnswers("big", {"q1": 1.0}, {"q2": "it wrote 'maybe'"}),
    )
    return result, dataset


def test_answers_evidence_and_boxes() -> None:
    found = Elements(EvaluationReport(*answered()).html())
    assert "How well are questions answered?" in found.text
    assert ["box-f1", "1", "0.000", "0.000 to 0.000", ""] in found.rows
    assert ["answer right", "0", "1"] in found.rows  # by the judge
    assert "1 of 2 answers have no verdict" in found.text
    assert "wrong by the judge big, or box-f1 below 0.5" in found.text
    for said in ("forty", "41", "em 0.00, judge 1.00, box-f1 0.00"):
        assert said in found.text
    # Of 40 x 60 pixels: the right box on both cards of page a, the predicted one on the card of what was found.
    first_corners = [(polygon["points"] or "").split()[0] for polygon in found.all("polygon")]
    places = [tuple(map(float, corner.split(","))) for corner in first_corners]
    assert places == [
        pytest.approx((10, 30), abs=0.3),
        pytest.approx((10, 30), abs=0.3),
        pytest.approx((0, 0), abs=0.3),
    ]


def test_boxes_that_people_marked_in_pixels_are_drawn_too() -> None:
    result, _ = answered()
    _, dataset = answered((replace(ANSWERED[0], boxes=(), marked=MARKED_IN_PIXELS), ANSWERED[1]))
    assert EvaluationReport(result, dataset).html() == EvaluationReport(*answered()).html()


def test_no_question_and_no_page() -> None:
    nothing = EvaluationResult("n", {}, failed=(QueryFailure("q1", "x"),))
    assert "No question could be asked." in EvaluationReport(nothing, DATASET).html()
    without = EvaluationReport(FOUND, EvaluationSet("harbours", DATASET.questions, DATASET.qrels)).html()
    assert "the page is not among those that were given" in without
    assert "<image" not in without


def test_pages_are_looked_up_once_and_let_go() -> None:
    asked: list[str] = []

    def pages() -> Iterator[Page]:
        for page in (*PAGES, *(Page(f"more {i}", 1) for i in range(1000))):
            asked.append(page.doc_id)
            yield page

    html = EvaluationReport(FOUND, DATASET, pages).html()
    assert html.count("<image") == 4
    assert asked == list(NAMES)  # not one more than are shown


def test_pages_that_come_with_the_question_are_shown() -> None:
    question = Question("q1", "How many boats?", ("forty",), pages=(PAGES[2],))
    result = EvaluationResult("g", {"q1": {"em": 0.0}}, run={"q1": {"c": 1.0}}, answers={"q1": "x"})
    assert EvaluationReport(result, EvaluationSet("g", (question,))).html().count("<image") == 1


def test_pages_by_names_of_ones_own() -> None:
    pages = tuple(Page(name.upper(), 1, picture=page.picture) for name, page in zip(NAMES, PAGES, strict=True))
    report = EvaluationReport(FOUND, DATASET, lambda: pages, key=lambda page: page.doc_id.lower())
    assert report.html().count("<image") == 4


def test_a_picture_that_cannot_be_opened_does_not_stop_it() -> None:
    broken = Page("a", 1, metadata={"corpus_id": "a"}, picture=b"no picture")
    html = EvaluationReport(FOUND, EvaluationSet("h", DATASET.questions, DATASET.qrels, (broken, *PAGES[1:]))).html()
    assert "No picture:" in html
    assert html.count("<image") == 3


def test_everything_foreign_is_escaped() -> None:
    question = Question(EVIL, EVIL, (EVIL,), group=EVIL, boxes=(PageBox(EVIL, 0, 0, 1, 1),))
    twin = Question("twin", EVIL, group="g")
    page = Page("x", 1, metadata={"corpus_id": EVIL}, picture=PAGES[0].picture)
    dataset = EvaluationSet(EVIL, (question, twin), {EVIL: {EVIL: 1}}, (page,))
    result = EvaluationResult(
        EVIL,
        {EVIL: {EVIL: 0.0}, "twin": {EVIL: 0.0}},
        {"generator": EVIL},
        {EVIL: [EVIL], "g": ["twin"]},
        (QueryFailure(EVIL, EVIL),),
        {EVIL: {EVIL: 1.0}},
        {EVIL: EVIL, "twin": EVIL},
        notes=(EVIL,),
        judged=JudgedAnswers(EVIL, {EVIL: 0.0}, {"twin": EVIL}),
    )
    html = EvaluationReport(result, dataset, other=result, names=(EVIL, EVIL)).html()
    html.encode("utf-8")
    found = Elements(html)
    assert {tag for tag, _ in found.tags} <= set(ALLOWED.split())
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    for _, attributes in found.tags:
        for name in ("href", "src"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "default-src 'none'" in (found.all("meta")[-1]["content"] or "")
    assert not re.search(r"url\(|@import", html)


def test_ids_differ_and_headings_go_down_step_by_step() -> None:
    report = EvaluationReport(FOUND, DATASET, other=OTHER, names=("ocr", "pixels"))
    found = Elements(report.html() + report._repr_html_() + report._repr_html_())
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert all(attributes.get("scope") for attributes in found.all("th"))
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in found.all("svg"))


def test_it_is_saved_whole_and_small_in_a_notebook(tmp_path: Path) -> None:
    report = EvaluationReport(FOUND, DATASET)
    path = report.save(tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert "<html" not in report._repr_html_()
    assert report._repr_html_().startswith('<div class="visrag visrag-inline">')


def widths(svg: str) -> list[str]:
    return re.findall(r'width="([\d.]+)"', svg)


def test_bars_by_hand() -> None:
    assert widths(share_bar(0.5)) == ["100", "50.0"]
    assert widths(share_bar(1.5)) == ["100", "100.0"]
    assert "M25.0 5H75.0" in share_bar(0.5, (0.25, 0.75))
    assert 'x="50.0" width="25.0"' in difference_bar(0.5, (0.0, 1.0))
    assert 'x="25.0" width="25.0"' in difference_bar(-0.5, (-1.0, 0.0))
    assert "M0.0 5H50.0" in difference_bar(-0.5, (-1.0, 0.0))
