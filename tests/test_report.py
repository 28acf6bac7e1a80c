"""The HTML report: complete, self-contained, and safe whatever the model and the documents say."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import string
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from PIL import Image

from visrag_integrations.grounding import ground
from visrag_integrations.ocr import read_page
from visrag_integrations.readers import PageReader
from visrag_integrations.report import PICTURE_PIXELS, answer_to_html, report, show
from visrag_integrations.report.citations import cited
from visrag_integrations.report.page_places import place_of
from visrag_integrations.types import Answer, Evidence, Grounding, Page, ScoredPage, Word

EVIL = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;{style}\ud800"
ALLOWED = """html head meta title style body svg defs image use g polygon main section header article blockquote footer
nav ol ul li a h1 h2 h3 p b div span input label details summary"""


def page(number: int = 1, **fields: object) -> Page:
    words = (Word("Taxes", (0.1, 0.2, 0.3, 0.25)), Word("due", (0.35, 0.2, 0.5, 0.25)))
    known: dict[str, object] = {"picture": Image.new("RGB", (40, 60), "white"), "source": "dir/tax.pdf", "words": words}
    return Page(doc_id="d", number=number, **{**known, **fields})  # type: ignore[arg-type]


def answer(*pages: Page, text: str = "Taxes due", **fields: object) -> Answer:
    hits = tuple(ScoredPage(one, 0.5) for one in pages)
    evidence = tuple(Evidence(index, text, page=one) for index, one in enumerate(pages, start=1))
    return Answer(text, evidence=evidence, pages=hits, **fields)  # type: ignore[arg-type]


class Elements(HTMLParser):
    """Every element with its attributes, and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input"} and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not (self.get_starttag_text() or "").endswith("/>") or self.open[-1:] == [tag]:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_sentence_that_was_quoted_rests_on_its_source_alone() -> None:
    found = Grounding("supported", 1.0)
    whole, other = "In Debian there is a script. It is called strace-graph.", "All of Debian is large."
    useful = [Evidence(1, other, grounding=found), Evidence(2, whole, grounding=found)]
    assert [piece.entries for piece in cited("In Debian there is a  script. It helps.", useful)] == [(2,), (1,)]
    # Said in other words, both are named: either may be what it rests on.
    assert cited("There Debian knows one.", useful)[0].entries == (1, 2)


def test_report_shows_question_answer_place_and_evidence() -> None:
    found = Elements(answer_to_html("When are taxes due?", answer(page(7))))
    for words in ("When are taxes due?", "Taxes due", "tax.pdf, page 7", "Evidence 1"):
        assert words in found.text
    assert found.open == []


def test_the_passage_is_outlined_where_its_words_are() -> None:
    found = Elements(answer_to_html("q", answer(page())))
    mark, again = found.all("polygon")  # on the page, and in the close-up beside it
    assert mark == again
    corners = [tuple(map(float, corner.split(","))) for corner in (mark["points"] or "").split()]
    # the words reach from 0.1 to 0.5 of 40 pixels and from 0.2 to 0.25 of 60, with a margin of under a pixel
    for corner, expected in zip(corners, [(4, 12), (20, 12), (20, 15), (4, 15)], strict=True):
        assert corner == pytest.approx(expected, abs=1)


def test_pictures_are_in_the_file_and_nothing_is_loaded() -> None:
    html = answer_to_html("q", answer(page()))
    found = Elements(html)
    (image,) = found.all("image")
    data = base64.b64decode((image["href"] or "").removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (40, 60))
    for _, attributes in found.tags:
        for name in ("href", "src"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "default-src 'none'" in (found.all("meta")[-1]["content"] or "")
    assert not re.search(r"url\(|@import", html)


def test_large_pictures_are_scaled_down() -> None:
    found = Elements(answer_to_html("q", answer(page(picture=Image.new("L", (3000, 2000))))))
    (image,) = found.all("image")
    assert int(image["width"] or 0) * int(image["height"] or 0) <= PICTURE_PIXELS


def test_everything_foreign_is_escaped() -> None:
    evil = page(source=f"a/{EVIL}", metadata={"page_label": EVIL}, words=(Word(EVIL, (-3, 0, 7, 1)),))
    shown = answer(evil, text=EVIL, thinking=EVIL, observation=EVIL, problems=(EVIL,))
    found = Elements(report([(EVIL, shown), (EVIL, Answer(EVIL, sufficient=False))]))
    assert {tag for tag, _ in found.tags} <= set(ALLOWED.split())
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert "<script>alert(1)</script>" in found.text
    report([("q", shown)]).encode("utf-8")


def test_a_page_shown_for_two_questions_is_in_the_file_once() -> None:
    html = report([("one?", answer(page())), ("two?", answer(page()))])
    found = Elements(html)
    assert len(found.all("image")) == 1
    assert "one?" in found.text
    assert "two?" in found.text
    assert [link["href"] for link in found.all("a")] == ["#q1", "#q2", "#q1e1a", "#q2e1a"]
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


RENT = ("The", "rent", "of", "Miller", "is", "900", "EUR", "a", "month")


def test_numbers_in_the_answer_lead_to_the_evidence_that_holds_its_figures() -> None:
    words = tuple(
        Word(word, (0.1, 0.2, 0.3, 0.25)) for word in ["The", "rent", "of", "Miller", "is", "900", "EUR", "a", "month"]
    )
    shown = page(1, words=words)
    entries = (
        Evidence(1, "The rent of Miller is 900 EUR", page=shown),
        Evidence(1, "is 900 EUR a month", page=shown),
        Evidence(1, "The rent is 901 EUR", page=shown),  # not on the page: beside no sentence
    )
    text = "Miller pays 900 EUR. It is 901 EUR elsewhere. So they say."
    html = answer_to_html("q", Answer(text, evidence=entries, pages=(ScoredPage(shown, 0.5),)))
    said = Elements(html).text
    assert "Miller pays 900 EUR.[1]" in " ".join(said.split()).replace(" [", "[")
    found = Elements(html)
    leads = [link["href"] for link in found.all("a")]
    assert leads == ["#q1e1a", "#q1e2a", "#q1e3a"]  # the last two fit no sentence, and stand at the end
    ids = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    assert {lead.removeprefix("#") for lead in leads if lead} <= ids


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "No full stop", "日本語。二つ目。", "a.b.c", "1.5 kg. 2.", "..."])
def test_no_letter_of_an_answer_is_lost_by_its_numbers(text: str) -> None:
    entries = (Evidence(1, "x"), Evidence(2, "y"))
    pieces = cited(text, entries)
    assert "".join(piece.text for piece in pieces) == text
    assert [place for piece in pieces for place in piece.entries] == [1, 2]


def test_from_the_fourth_piece_on_evidence_is_one_line_each() -> None:
    shown = page()
    many = tuple(Evidence(1, "Taxes due", page=shown) for _ in range(5))
    html = answer_to_html("q", Answer("Taxes due", evidence=many, pages=(ScoredPage(shown, 0.5),)))
    assert html.count('<details class="more"><summary>Evidence') == 2


def test_pages_without_evidence_are_shown_too() -> None:
    first, second, third = page(1), page(2), page(3)
    entries = (
        Evidence(1, "Taxes due", page=first),
        Evidence(2, "no relevant information", relevant=False, page=second),
    )
    shown = Answer("x", evidence=entries, pages=tuple(ScoredPage(one, 0.1) for one in (first, second, third)))
    found = Elements(answer_to_html("q", shown))
    assert "no relevant information" in found.text
    assert found.text.index("page 1") < found.text.index("page 2") < found.text.index("page 3")
    assert len(found.all("image")) == 3


def test_a_missing_picture_and_missing_words_are_said() -> None:
    found = Elements(answer_to_html("q", answer(page(picture=None, words=()))))
    assert "has no picture" in found.text
    assert "no words to check against" in found.text
    assert found.all("polygon") == []


def test_evidence_for_a_page_that_was_not_shown() -> None:
    found = Elements(answer_to_html("q", Answer("x", evidence=(Evidence(7, "somewhere"),))))
    assert "image 7" in found.text
    assert "somewhere" in found.text


def test_an_insufficient_answer_looks_like_none() -> None:
    found = Elements(answer_to_html("q", Answer("", sufficient=False, problems=("<answer> is missing",))))
    assert "No answer" in found.text
    assert "The model gave no answer." in found.text
    assert "<answer> is missing" in found.text


def test_empty_report_is_a_page() -> None:
    assert "0 questions" in report([])


# --- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("Taxes due", "supported", "Quoted from this page100%"),
        ("Taxes due 12", "partly", "Partly on this page"),
        ("Violins", "unfound", "Not on this page0%"),
    ],
)
def test_a_verdict_is_told_in_words_and_by_the_outline(text: str, kind: str, words: str) -> None:
    wide = page(words=(Word("Taxes due and owed", (0.1, 0.2, 0.5, 0.25)),))
    said = f"{text} and owed" if kind == "partly" else text
    found = Elements(answer_to_html("q", answer(wide, text=said)))
    assert words in found.text
    assert any(kind in (attributes.get("class") or "").split() for attributes in found.all("p"))
    assert any(attributes.get("class") == kind for attributes in found.all("g"))
    assert bool(found.all("polygon")) == (kind != "unfound")


def test_what_is_not_on_the_page_is_marked_in_the_quotation() -> None:
    wide = page(words=(Word("Taxes due and owed in May", (0.1, 0.2, 0.5, 0.25)),))
    html = answer_to_html("q", answer(wide, text="Taxes due <and> owed in 2019 May"))
    assert 'Taxes due &lt;and&gt; owed in <span class="absent" title="not there on the page">2019</span> May' in html


def test_an_answer_that_is_its_own_quotation_gets_no_tally() -> None:
    quoted = answer(page(), text="Taxes due")
    assert 'class="tally"' not in answer_to_html("q", dataclasses.replace(quoted, text="Taxes\n due"))
    assert 'class="tally"' not in answer_to_html("q", dataclasses.replace(quoted, sufficient=False))
    assert 'class="tally"' in answer_to_html("q", dataclasses.replace(quoted, text="They are due."))


@pytest.mark.parametrize("source", ["c:\\x\\b.pdf", "\\\\server\\share\\b.pdf", "x/b.pdf", "c:\\x/b.pdf", "b.pdf"])
def test_a_document_is_shown_by_its_file_name(source: str) -> None:
    assert place_of(Page("d", 1, source=source), 1) == "b.pdf, page 1"


def test_a_report_uses_the_grounding_that_is_there() -> None:
    grounded = ground(answer(page()))
    assert answer_to_html("q", grounded) == answer_to_html("q", answer(page()))


# --- notebooks ----------------------------------------------------------------------------------------------------


def test_show_displays_pages_evidence_and_verdict() -> None:
    shown = show(answer(page(7)), "When are taxes due?")
    found = Elements(shown._repr_html_())
    assert found.open == []
    for words in ("When are taxes due?", "Taxes due", "tax.pdf, page 7", "Quoted from this page"):
        assert words in found.text
    assert len(found.all("image")) == 1
    assert not {tag for tag, _ in found.tags} & {"html", "head", "body", "script", "link", "iframe", "meta"}


def test_show_is_safe_whatever_the_model_wrote() -> None:
    evil = page(source=f"a/{EVIL}", metadata={"page_label": EVIL}, words=(Word(EVIL, (-3, 0, 7, 1)),))
    html = show(answer(evil, text=EVIL, thinking=EVIL, observation=EVIL, problems=(EVIL,)), EVIL)._repr_html_()
    found = Elements(html)
    assert {tag for tag, _ in found.tags} <= set(ALLOWED.split())
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    html.encode("utf-8")


def test_the_style_of_a_display_stays_inside_it() -> None:
    html = show(answer(page()))._repr_html_()
    style = re.sub(r"/\*.*?\*/", "", html.split("<style>")[1].split("</style>")[0], flags=re.DOTALL)
    rules = re.findall(r"([^{}]+)\{", re.sub(r"@media[^{]+\{", "", style))
    assert len(rules) > 50
    for rule in rules:
        for selector in re.split(r",(?![^()]*\))", rule):
            assert ".visrag" in selector, selector


def test_two_displays_on_one_page_share_no_id() -> None:
    shown = show(answer(page()), "q")
    ids = [
        {attributes["id"] for _, attributes in Elements(html).tags if "id" in attributes}
        for html in (shown._repr_html_(), shown._repr_html_())
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert set("".join(i or "" for i in ids[0])) <= set(string.ascii_letters + string.digits + "-")


def test_show_in_plain_python_is_a_text_and_a_file(tmp_path: Path) -> None:
    shown = show(answer(page(7), text="Taxes due 12"), "When?")
    assert repr(shown).splitlines() == [
        "When?",
        "Taxes due 12",
        "[1] dir/tax.pdf, page 7: Taxes due 12  (not found on the page)",
    ]
    saved = shown.save(tmp_path / "x.html")
    assert saved.read_text(encoding="utf-8") == answer_to_html("When?", shown.answer)
    assert repr(show(Answer("", sufficient=False))) == "(no answer)"
    assert "no answer" in show(Answer("", sufficient=False))._repr_html_()


def test_pages_are_shown_side_by_side() -> None:
    pages = [page(1), ScoredPage(page(2), 0.5)]
    shown = show(iter(pages))
    html = shown._repr_html_()
    assert html.count("<image ") == html.count('<svg class="page"') == 2
    assert ">score 0.5<" in html
    assert "(cosine)" in html
    assert repr(show([])) == "(no pages)"
    assert show(pages[0]).pages == (pages[0],)
    ids = re.findall(r'id="([^"]+)"', html + shown._repr_html_())
    assert len(ids) == len(set(ids))  # two displays in one notebook never share a picture


def test_shown_pages_are_safe_whatever_the_document_is_called() -> None:
    html = show(page(source=EVIL, metadata={"page_label": EVIL}, picture=None))._repr_html_()
    assert {tag for tag, _ in Elements(html).tags} <= set(ALLOWED.split())
    assert "<script" not in html
    assert "No picture" in html


FEE = "The inspection fee is 1,845.50 EUR per visit."
CASES = Path(__file__).parent / "data" / "cases"


def turned_page(rotate: int) -> bytes:
    """A page of which the text stands on its side or on its head."""
    with pymupdf.open() as document:
        drawn = document.new_page(width=595, height=842)
        lines = ["Maintenance contract 2031", "Alder Creek is inspected every week.", FEE, "Noise above 85 dB is rare."]
        for place, line in enumerate(lines):
            step = 30 * place
            corner = {90: (100 + step, 700), 180: (500, 700 - step), 270: (500 - step, 100)}[rotate]
            drawn.insert_text(corner, line, fontsize=14, rotate=rotate)
        return bytes(document.tobytes())


@pytest.mark.parametrize("backend", ["pymupdf", "pdfium"])
@pytest.mark.parametrize("rotate", [90, 180, 270, 0])
def test_evidence_on_a_turned_page_is_outlined_along_its_line_and_shown_upright(backend: Any, rotate: int) -> None:
    source: bytes | Path = CASES / "turned-page-outline" / "turned.pdf"
    if rotate:
        source = turned_page(rotate)
    (read,) = PageReader(backend=backend, ocr="never").read(source)
    html = answer_to_html("fee?", answer(read, text=FEE))
    found = Elements(html)
    assert len(found.all("polygon")) == 2  # one on the page, one in the close-up
    shown = drawn_close_up(html)
    assert shown.width > 3 * shown.height  # a line lies along it
    pytest.importorskip("rapidocr")
    sheet = on_a_sheet(shown.resize((shown.width * 2, shown.height * 2)))
    text = " ".join(word.text for word in read_page(sheet).words)
    assert text.replace(" ", "") == FEE.replace(" ", "")


def on_a_sheet(line: Image.Image) -> Image.Image:
    """OCR makes a picture 736 pixels high, or higher: a line alone gets very long, and takes it five times as long."""
    sheet = Image.new("RGB", (line.width, max(line.height, line.width // 2)), "white")
    sheet.paste(line)
    return sheet


def drawn_close_up(html: str) -> Image.Image:
    """The close-up as a browser draws it: the page's picture, turned, and the part that its view box names."""
    closeup = html[html.index('class="page closeup"') :]
    view = [float(edge) for edge in re.search(r'viewBox="([^"]*)"', closeup).group(1).split()]  # type: ignore[union-attr]
    turning = re.search(r'<g transform="translate\((\S+) (\S+)\) rotate\((\d+)\)">', closeup)
    (image,) = Elements(html).all("image")
    data = base64.b64decode((image["href"] or "").removeprefix("data:image/jpeg;base64,"))
    picture = Image.open(io.BytesIO(data))
    if turning is not None:
        angle = int(turning.group(3))
        moved = {90: (picture.height, 0), 180: picture.size, 270: (0, picture.width)}[angle]
        assert (int(turning.group(1)), int(turning.group(2))) == moved
        picture = picture.rotate(-angle, expand=True)
    left, top, width, height = view
    return picture.crop((round(left), round(top), round(left + width), round(top + height)))


@pytest.mark.parametrize("name", ["turned-180", "turned-90-left", "turned-90-right"])
def test_the_close_up_of_a_turned_scan_is_upright(name: str) -> None:
    pytest.importorskip("rapidocr")
    (read,) = PageReader().read(CASES / "upside-down-scan" / f"{name}.pdf")
    shown = drawn_close_up(answer_to_html("fee?", answer(read, text=FEE)))
    assert FEE.replace(" ", "") in "".join(word.text for word in read_page(on_a_sheet(shown)).words).replace(" ", "")


def test_the_close_up_of_a_note_in_the_margin_is_upright() -> None:
    with pymupdf.open() as document:
        drawn = document.new_page(width=595, height=842)
        drawn.insert_text((60, 100), "An upright page with a note in its margin", fontsize=14)
        drawn.insert_text((570, 600), "Approved by the harbour office", fontsize=12, rotate=90)
        data = document.tobytes()
    (read,) = PageReader(ocr="never").read(data)
    html = answer_to_html("?", answer(read, text="Approved by the harbour office"))
    assert len(Elements(html).all("polygon")) == 2
    assert 'rotate(90)"' in html
    assert "rotate(" not in answer_to_html("?", answer(read, text="An upright page with a note in its margin"))
