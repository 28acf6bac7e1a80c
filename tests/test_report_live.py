"""An answer that is shown while it is written: the card piece by piece, and a cell of a notebook's real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from visrag_integrations import Page
from visrag_integrations.generation.events import (
    AnswerReady,
    Event,
    EvidenceFound,
    PagesFound,
    SectionStarted,
    SectionText,
)
from visrag_integrations.report import live_answer, show_live
from visrag_integrations.report.live_answer import LiveCard
from visrag_integrations.types import Answer, Evidence, ScoredPage

PAGE = Page.from_image(Image.new("RGB", (30, 40), "white"), doc_id="a", source="a.pdf", text="It costs 12 euros.")
HIT = ScoredPage(PAGE, 0.5)
ENTRY = Evidence(1, "It costs 12 euros.", page=PAGE)
EVENTS: list[Event] = [
    PagesFound((HIT,)),
    SectionStarted("observe"),
    SectionText("observe", "A <price> list."),
    SectionStarted("evidence"),
    EvidenceFound(ENTRY),
    SectionStarted("think"),
    SectionText("think", "Twelve, "),
    SectionText("think", "then."),
    SectionStarted("answer"),
    SectionText("answer", "12 "),
    SectionText("answer", "euros"),
]
READY = AnswerReady(Answer("12 euros", evidence=(ENTRY,), pages=(HIT,)))


def card_after(count: int) -> str:
    card = LiveCard("How much?")
    for event in EVENTS[:count]:
        card.take(event)
    return card.html().partition("</style>")[2]


def test_the_card_says_what_the_model_is_at_and_fills() -> None:
    assert "Searching …" in card_after(0)
    assert "How much?" in card_after(0)
    assert "Reading 1 page …" in card_after(1)
    assert "Looking at the pages …" in card_after(2)
    assert "A &lt;price&gt; list." in card_after(3)
    assert "It costs 12 euros." not in card_after(4)
    assert "It costs 12 euros." in card_after(5)
    assert "Twelve, then." in card_after(8)
    assert "Answering …" in card_after(9)
    assert ">12</p>" in card_after(10)
    assert ">12 euros</p>" in card_after(11)


def test_a_second_answer_takes_the_place_of_the_first() -> None:
    card = LiveCard()
    for event in [*EVENTS, SectionStarted("answer"), SectionText("answer", "13 euros")]:
        card.take(event)
    html = card.html()
    assert "13 euros</p>" in html
    assert ">12 euros</p>" not in html


def test_outside_of_a_notebook_the_finished_answer_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_live([*EVENTS, READY], "How much?") is READY.answer
    assert capsys.readouterr().out.splitlines()[:2] == ["How much?", "12 euros"]


def test_no_stage_is_left_out_however_fast_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only pieces of text wait for the next drawing."""
    drawn: list[str] = []

    class Handle:
        def update(self, shown: Any) -> None:
            drawn.append(str(getattr(shown, "data", "")))

    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Handle())
    monkeypatch.setattr(live_answer, "in_notebook", lambda: True)
    monkeypatch.setattr(live_answer, "_EVERY", 1e9)
    show_live([*EVENTS, READY], "How much?")
    shown = "".join(drawn)
    for event in EVENTS:
        if isinstance(event, SectionStarted):
            assert f"{live_answer._DOING[event.section]} …" in shown, event
        elif isinstance(event, EvidenceFound) and event.evidence.relevant:
            assert event.evidence.text in shown
    texts = [event for event in EVENTS if isinstance(event, SectionText)]
    assert len(drawn) <= len(EVENTS) - len(texts) + 3  # the pages, and both parts of the finished answer


def test_what_the_generator_raises_is_raised() -> None:
    def broken() -> Iterator[Event]:
        yield from EVENTS[:3]
        raise RuntimeError("the engine is gone")

    with pytest.raises(RuntimeError, match="the engine is gone"):
        show_live(broken())


CELL = """
import sys
sys.path.append({tests!r})
from test_report_live import EVENTS, READY
from visrag_integrations.report import live_answer
live_answer._EVERY = 0.0  # every event is drawn
"""


def outputs_of(code: str) -> list[Any]:
    cell = nbformat.v4.new_code_cell(CELL.format(tests=str(Path(__file__).parent)) + code)
    NotebookClient(nbformat.v4.new_notebook(cells=[cell]), timeout=240, allow_errors=True).execute()
    return list(cell.outputs)


@pytest.mark.slow
def test_in_a_notebook_the_card_ends_as_the_shown_answer() -> None:
    outputs = outputs_of("answer = live_answer.show_live([*EVENTS, READY], 'How much?')")
    shown = [output["data"].get("text/html", "") for output in outputs]
    assert len(shown) == 2  # the card, and where the pages were
    assert "It costs 12 euros." in shown[0]
    assert "Answering" not in shown[0]
    assert "data:image" in shown[0]
    assert shown[1] == ""


@pytest.mark.slow
def test_in_a_notebook_what_was_written_stays_where_the_generator_fails() -> None:
    code = """
def broken():
    yield from EVENTS[:10]
    raise RuntimeError("the engine is gone")
live_answer._EVERY = 1000.0  # nothing but the end is drawn
live_answer.show_live(broken())
"""
    outputs = outputs_of(code)
    assert outputs[-1]["ename"] == "RuntimeError"
    assert ">12</p>" in outputs[0]["data"]["text/html"]
    assert "data:image" in outputs[1]["data"]["text/html"]
