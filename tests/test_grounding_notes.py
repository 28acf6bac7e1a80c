"""Quotations from speaker notes: told as such, without boxes, and never as something a slide shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from visrag_integrations import Answer, Evidence, Page, PageReader, QdrantPageStore, index_documents, load_embedder
from visrag_integrations.cli import main
from visrag_integrations.grounding import ground, ground_text, grounding_dict
from visrag_integrations.interfaces.speaker_notes import with_notes
from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.langchain.convert import page_to_document as to_langchain
from visrag_integrations.llamaindex.convert import node_to_page, page_to_node
from visrag_integrations.report import answer_to_html, show
from visrag_integrations.types import Word

HARBOUR = Path(__file__).parent / "data" / "cases" / "slide-notes" / "harbour.pptx"
needs_office = pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")

NOTES = "The permit costs 4,500 EUR.\nIt expires on 3 March. Ask Ms Okafor."
SLIDE = "Dredging permit 1,200 m of quay"


def slide(text: str = SLIDE, notes: str = NOTES, *, boxes: bool = True) -> Page:
    words: list[Word] = []
    for place, word in enumerate(text.split()):
        words.append(Word(word, (0.1 * place, 0.1, 0.1 * place + 0.09, 0.13)))
    if not boxes:
        words = []
    return Page("deck", 2, with_notes(text, notes), "deck.pptx", {"speaker_notes": notes}, tuple(words))


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("1,200 m of quay", "supported"),
        ("Dredging permit", "supported"),
        ("It expires on 3 March.", "in the speaker notes"),
        ("The permit costs 4,500 EUR.", "in the speaker notes"),
        ("the permit costs 4500 EUR. It expires on 3 March", "in the speaker notes"),
        ("Speaker notes: The permit costs 4,500 EUR.", "in the speaker notes"),
        ("It expires on 3 May.", "partly"),
        ("The permit costs 5,400 EUR.", "partly"),
        ("The permit costs 1,200 EUR.", "partly"),
        ("Ask Ms Okoro.", "partly"),
        ("bananas are yellow", "not found on the page"),
    ],
)
def test_what_stands_in_the_notes_is_told_as_such(said: str, verdict: str, boxes: bool) -> None:
    found = ground_text(slide(boxes=boxes), said)
    assert found.verdict == verdict
    if verdict == "in the speaker notes":
        assert found.boxes == ()
        assert found.missing == ()
        assert "notes" in found.note
    if verdict == "supported":
        assert bool(found.boxes) is boxes


def test_what_stands_on_the_slide_too_is_outlined_there() -> None:
    found = ground_text(slide(notes="Say it again: 1,200 m of quay."), "1,200 m of quay")
    assert found.verdict == "supported"
    assert found.boxes


def test_part_of_the_slide_and_part_of_the_notes_are_no_quotation() -> None:
    assert ground_text(slide(), "Dredging permit expires on 3 March").verdict == "partly"


@pytest.mark.parametrize(("text", "elsewhere"), [("", "unchecked"), ("Plan", "not found on the page")])
def test_a_slide_with_little_or_nothing_on_it(text: str, elsewhere: str) -> None:
    for boxes in (True, False):
        page = slide(text, boxes=boxes)
        assert ground_text(page, "It expires on 3 March.").verdict == "in the speaker notes"
        assert ground_text(page, "unheard of elsewhere").verdict == elsewhere


def test_a_slide_that_speaks_of_speaker_notes_itself() -> None:
    page = slide("Speaker notes: how to print them", "Press 7.", boxes=False)
    assert ground_text(page, "how to print them").verdict == "supported"
    assert ground_text(page, "Press 7.").verdict == "in the speaker notes"


def test_a_host_that_cuts_texts_into_pieces() -> None:
    whole = slide(boxes=False)
    piece = Page("deck", 2, "It expires on 3 March. Ask Ms", "deck.pptx", dict(whole.metadata))
    assert ground_text(piece, "It expires on 3 March.").verdict == "in the speaker notes"
    cut = Page("deck", 2, whole.text[:-20], "deck.pptx", dict(whole.metadata))
    assert ground_text(cut, "The permit costs 4,500 EUR.").verdict == "in the speaker notes"
    assert ground_text(cut, "Dredging permit").verdict == "supported"


@pytest.mark.parametrize("strange", [None, 5, ["It expires on 3 March."], ""])
def test_metadata_of_others_under_that_name(strange: object) -> None:
    page = Page("d", 1, "It expires on 3 March.", metadata={"speaker_notes": strange})
    assert ground_text(page, "It expires on 3 March.").verdict == "supported"


def test_both_hosts_give_the_same() -> None:
    page = slide(boxes=False)
    for there_and_back in (document_to_page(to_langchain(page)), node_to_page(page_to_node(page))):
        entry = Evidence(1, "It expires on 3 March.", page=there_and_back)
        (grounded,) = ground(Answer("3 March", evidence=(entry,))).evidence
        assert grounding_dict(grounded) == {
            "verdict": "in the speaker notes",
            "support": 1.0,
            "boxes": [],
            "missing": [],
        }


def test_reports_say_it() -> None:
    page = slide()
    evidence = (Evidence(1, "It expires on 3 March.", page=page), Evidence(1, "It expires on 4 March.", page=page))
    answer = ground(Answer("3 March", evidence=evidence))
    html = answer_to_html("When?", answer)
    assert "In the speaker notes, not on the slide" in html
    assert "1 in the speaker notes" in html, "the tally"
    assert "not outlined" not in html, "there is nothing that could be outlined"
    assert "in the speaker notes" in str(show(answer, "When?"))


@pytest.fixture(scope="module")
def deck() -> list[Page]:
    return list(PageReader(ocr="never").read(HARBOUR))


@needs_office
def test_a_real_deck(deck: list[Page]) -> None:
    assert [page.number for page in deck] == [1, 2, 3], "of the slides, the hidden one too"
    permit = deck[1]
    notes = permit.metadata["speaker_notes"]
    assert ground_text(permit, notes).verdict == "in the speaker notes"
    assert ground_text(permit, notes.replace("3 March", "4 March")).verdict == "partly"
    shown = " ".join(word.text for word in permit.words)
    assert ground_text(permit, shown).verdict == "supported"
    assert ground_text(deck[2], "Norvik").verdict == "supported"
    assert ground_text(deck[2], notes).verdict == "not found on the page"


@needs_office
def test_the_command_line(deck: list[Page], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        store_settings = {"embedder": load_embedder("ocr"), "workers": 1, "progress": False}
        index_documents(HARBOUR, store=store, reader=PageReader(ocr="never"), **store_settings)
    arguments = ["ask", "When does the dredging permit expire?", "--index", str(tmp_path / "index"), "--preset", "cpu"]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (entry,) = [entry for entry in said["evidence"] if "3 March" in entry["text"]]
    assert (entry["verdict"], entry["page"], entry["boxes"]) == ("in the speaker notes", 2, [])
    assert main(arguments) == 0
    assert "in the speaker notes" in capsys.readouterr().out
