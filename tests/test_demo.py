"""The demo without a server: names, limits, knowledge bases, what is shown, and what the gate refuses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import embedding_server
import httpx
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visrag_integrations import load_embedder
from visrag_integrations.cli import _parser
from visrag_integrations.cli import demo as cli_demo
from visrag_integrations.errors import SettingError, StoreFormatError, StoreLockedError, UnknownNameError
from visrag_integrations.generation.events import AnswerReady, PagesFound, SectionStarted, SectionText
from visrag_integrations.ingestion import IndexReport
from visrag_integrations.servers.demo import answer_fragments, fragments
from visrag_integrations.servers.demo.answer_state import AnswerState
from visrag_integrations.servers.demo.base_state import BaseState, DocumentState
from visrag_integrations.servers.demo.examples import example_questions, question_about
from visrag_integrations.servers.demo.gate import COOKIE, Gate, GateSettings
from visrag_integrations.servers.demo.indexing import Indexer, IndexingState
from visrag_integrations.servers.demo.knowledge_base import KnowledgeBase
from visrag_integrations.servers.demo.knowledge_bases import FIRST_BASE, KnowledgeBases
from visrag_integrations.servers.demo.names import base_folder, base_name, safe_file_name, unused_name
from visrag_integrations.servers.demo.visitor_choices import Choices
from visrag_integrations.servers.demo.visitor_limits import Limits
from visrag_integrations.types import Answer, Evidence, Failure, Page, ScoredPage, Word

EVIL = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;${1+1}{{x}}\ud800"


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..", "document"),
        ("", "document"),
        ("a/", "document"),
        ("C:\\Users\\me\\研究 2024.pdf", "研究 2024.pdf"),
        ("re\u0301sume\u0301.pdf", "résumé.pdf"),
        ("हिन्दी.pdf", "हिन्दी.pdf"),
        ("a\0b\nc.pdf", "abc.pdf"),
        ("gpj.\u202efdp", "gpj.fdp"),  # would be read backwards
        ("CON", "_CON"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("lpt².pdf", "_lpt².pdf"),
        (".bashrc", "bashrc"),
        ("~$draft.docx", "draft.docx"),
        ("a:b|c?.pdf", "a_b_c_.pdf"),
        ("trailing. ", "trailing"),
    ],
)
def test_file_names(given: str, expected: str) -> None:
    assert safe_file_name(given) == expected


@given(st.text(st.characters(exclude_categories=()), max_size=400))
def test_no_name_leaves_its_folder(given: str) -> None:
    name = safe_file_name(given)
    assert os.path.dirname(os.path.normpath(f"/base/{name}")) == "/base"
    assert not set(name) & set('\0/\\<>:"|?*')
    assert len(os.fsencode(unused_name(name, [name]))) <= 255
    assert safe_file_name(name) == name


def test_long_names_keep_their_ending() -> None:
    name = safe_file_name("é" * 300 + ".pdf")
    assert name.endswith("é.pdf")
    assert len(name.encode()) <= 180


def test_names_of_knowledge_bases() -> None:
    assert base_name("  Steuern\n 2024 ") == "Steuern 2024"
    for wrong in ("", " \u200d ", "x" * 61):
        with pytest.raises(SettingError):
            base_name(wrong)
    folders = {base_folder(name) for name in ("a/b", "a\\b", "a b", "../a", "研究", "研究2")}
    assert len(folders) == 6
    assert all(set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for folder in folders)


def test_limits_are_checked() -> None:
    with pytest.raises(SettingError, match="files=0"):
        Limits(files=0)


# --- knowledge bases ------------------------------------------------------------------------------------------------


@pytest.fixture
def bases(tmp_path: Path) -> Iterator[KnowledgeBases]:
    with open_bases(tmp_path / "bases") as opened:
        yield opened


def open_bases(folder: Path, *answers: str, **settings: Any) -> KnowledgeBases:
    return KnowledgeBases(folder, embedder=PixelEmbedder(), generator=ScriptedGenerator(*answers), **settings)


def arrive(bases: KnowledgeBases, name: str, content: bytes | None = None) -> dict[str, Any]:
    """What Gradio leaves after an upload."""
    folder = bases.incoming / os.urandom(8).hex()
    folder.mkdir()
    path = folder / "file"
    if content is None:
        draw_pdf(path, [f"The harbour of {name} holds forty boats.", "Anchors weigh two hundred pounds."])
    else:
        path.write_bytes(content)
    return {"path": str(path), "orig_name": name}


def indexed(base: KnowledgeBase) -> BaseState:
    deadline = time.monotonic() + 120
    while base.state().indexing.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return base.state()


def pages_of(base: KnowledgeBase) -> dict[str, int]:
    return {document.name: document.pages for document in indexed(base).documents}


def test_uploaded_documents_are_indexed_and_failures_named(bases: KnowledgeBases) -> None:
    uploads = [arrive(bases, "a.pdf"), arrive(bases, "broken.pdf", b"nonsense"), arrive(bases, "../é.pdf")]
    assert bases.upload(FIRST_BASE, uploads) == ["a.pdf", "broken.pdf", "é.pdf"]
    base = bases.get(FIRST_BASE)
    state = indexed(base)
    assert pages_of(base) == {"a.pdf": 2, "é.pdf": 2}
    (failure,) = state.indexing.failures
    assert failure.source == "broken.pdf"
    assert "not a PDF" in failure.error
    assert str(bases.folder) not in failure.error
    assert [path for path in bases.incoming.rglob("*") if path.is_file()] == []


def test_bases_stay_between_restarts(tmp_path: Path) -> None:
    with open_bases(tmp_path / "bases") as bases:
        bases.create("研究 A")
        bases.upload("研究 A", [arrive(bases, "a.pdf")])
        indexed(bases.get("研究 A"))
    (tmp_path / "bases").rename(tmp_path / "moved")
    with open_bases(tmp_path / "moved") as bases:
        assert bases.names() == [FIRST_BASE, "研究 A"]
        base = bases.get("研究 A")
        assert pages_of(base) == {"a.pdf": 2}
        assert base.store.count() == 2
        assert bases.models.embedder.embedded == 0  # type: ignore[attr-defined]


def test_a_base_keeps_the_embedder_that_filled_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(PixelEmbedder):
        name, closed = "other", 0

        def close(self) -> None:
            self.closed += 1

    with KnowledgeBases(tmp_path / "bases", embedder=Other(), generator=ScriptedGenerator()) as bases:
        bases.upload(FIRST_BASE, [arrive(bases, "a.pdf")])
        indexed(bases.get(FIRST_BASE))
        bases.create("empty")
    loaded: list[Other] = []

    def load(name: str, *, shared: bool) -> Other:
        assert (name, shared) == ("other", True)
        loaded.append(Other())
        return loaded[-1]

    monkeypatch.setattr("visrag_integrations.servers.demo.demo_models.load_embedder", load)
    with open_bases(tmp_path / "bases") as bases:
        for _ in range(2):
            store = bases.get(FIRST_BASE).store
            assert bases.models.embedder_for(store) is loaded[0]
        assert bases.models.embedder_for(bases.get("empty").store) is bases.models.embedder
        assert loaded[0].closed == 0
    assert [embedder.closed for embedder in loaded] == [1]


def test_a_base_of_a_servers_many_vectors_is_searched_so_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a server's model does not say how many vectors a page it gives; what the base remembers does."""
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    with embedding_server.serving() as server:
        server.answer = lambda things: {"data": [{"index": 0, "data": [[3.0, 4.0], [0.0, 2.0]]}]}
        url = f"http://127.0.0.1:{server.server_address[1]}"
        many = load_embedder("many", system="endpoint", base_url=url, path="/pooling", kind="multi")
        with KnowledgeBases(tmp_path / "bases", embedder=many, generator=ScriptedGenerator()) as bases:
            bases.upload(FIRST_BASE, [arrive(bases, "a.pdf")])
            indexed(bases.get(FIRST_BASE))
            info = bases.get(FIRST_BASE).store.info
            assert info is not None
            assert (info.embedder, info.kind) == ("endpoint:many", "multi")
        monkeypatch.setenv("VISRAG_EMBEDDER_URL", url)
        arguments = _parser().parse_args(["demo", "--folder", "bases", "--preset", "cpu"])
        with contextlib.ExitStack() as opened:
            bases = opened.enter_context(cli_demo._open(arguments, opened))
            found = bases.get(FIRST_BASE).find("boats", Choices())
            assert sorted(hit.page.number for hit in found) == [1, 2]
        assert server.paths[-1] == "/pooling"


def test_what_was_left_behind_is_indexed_when_the_base_is_opened(tmp_path: Path) -> None:
    with open_bases(tmp_path / "bases") as bases:
        draw_pdf(bases.get(FIRST_BASE).folder / "documents" / "late.pdf", ["One page."])
    with open_bases(tmp_path / "bases") as bases:
        assert pages_of(bases.get(FIRST_BASE)) == {"late.pdf": 1}


def test_documents_with_one_name(bases: KnowledgeBases) -> None:
    first = bases.upload(FIRST_BASE, [arrive(bases, "a.txt", b"one")])
    same = bases.upload(FIRST_BASE, [arrive(bases, "a.txt", b"one")])
    other = bases.upload(FIRST_BASE, [arrive(bases, "A.txt", b"two")])
    assert (first, same, other) == (["a.txt"], ["a.txt"], ["A (2).txt"])


def test_create_and_delete(bases: KnowledgeBases) -> None:
    base = bases.create("Tax 2024")
    for again in ("tax 2024", "ＴＡＸ 2024"):
        with pytest.raises(SettingError, match="already"):
            bases.create(again)
    bases.upload("Tax 2024", [arrive(bases, "a.pdf")])
    bases.delete("Tax 2024")  # while it is being indexed
    assert not base.folder.exists()
    with pytest.raises(UnknownNameError, match="Tax 2024"):
        bases.get("Tax 2024")
    with pytest.raises(UnknownNameError, match="not there any more"):
        base.ask("boats?")
    bases.create("Tax 2024")
    assert bases.get("Tax 2024").files() == []


def test_there_is_an_end_to_bases(tmp_path: Path) -> None:
    with open_bases(tmp_path / "bases", limits=Limits(bases=1)) as bases, pytest.raises(SettingError, match="Delete"):
        bases.create("another")


def test_only_what_was_uploaded_is_taken(bases: KnowledgeBases, tmp_path: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    bases.upload(FIRST_BASE, [arrive(bases, "mine.txt", b"mine")])
    link = bases.incoming / "link.txt"
    link.symlink_to(outside)
    games = [
        str(outside),
        str(bases.incoming / ".." / "visrag-demo.json"),
        str(bases.get(FIRST_BASE).folder / "documents" / "mine.txt"),
        str(link),
        str(bases.incoming),
        str(bases.incoming / "missing.txt"),
        "a\0b",
        "",
        None,
        {"path": "nested"},
    ]
    assert bases.upload(FIRST_BASE, [{"path": path, "orig_name": "x.txt"} for path in games]) == []
    failures = indexed(bases.get(FIRST_BASE)).indexing.failures
    assert [failure.error for failure in failures] == ["it did not arrive; upload it again."] * len(games)
    assert outside.read_text() == "secret"


def test_upload_limits(tmp_path: Path) -> None:
    with open_bases(tmp_path / "bases", limits=Limits(file_bytes=100, files=2, total_bytes=10_000)) as bases:
        given = [arrive(bases, name, content) for name, content in (("a.txt", b"a"), ("b.txt", b"b" * 101))]
        given.append(arrive(bases, "c.txt", b"c"))
        assert bases.upload(FIRST_BASE, given) == ["a.txt"]
        errors = {failure.source: failure.error for failure in indexed(bases.get(FIRST_BASE)).indexing.failures}
        assert "larger than 100 bytes" in errors["b.txt"]
        assert "at most 2 files" in errors["c.txt"]
        room = bases.room()
        arrive(bases, "d.txt", b"d" * 100)
        assert bases.room() == room - 100


def test_forgotten_uploads_are_deleted(bases: KnowledgeBases) -> None:
    old, new = (Path(arrive(bases, name, b"x")["path"]) for name in ("old", "new"))
    os.utime(old, (0, 0))
    bases.room()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_belongs_to_one_demo(bases: KnowledgeBases) -> None:
    with pytest.raises(StoreLockedError, match=r"Another demo \(process \d+\).*--folder"):
        open_bases(bases.folder)


@pytest.mark.parametrize("marker", [None, {"format_version": 99}])
def test_other_folders_are_refused(tmp_path: Path, marker: dict[str, int] | None) -> None:
    (tmp_path / "precious.txt").write_text("x")
    if marker:
        (tmp_path / "visrag-demo.json").write_text(json.dumps(marker))
    with pytest.raises(StoreFormatError, match="newer version" if marker else "Nothing was changed"):
        open_bases(tmp_path)
    assert (tmp_path / "precious.txt").exists()


def test_without_gradio_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['gradio'] = None; from visrag_integrations.cli import main; sys.exit(main(['demo']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ
    )
    assert ended.returncode == 2
    assert 'pip install "visrag-integrations[demo]"' in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_knowledge_base_is_indexed_at_a_time() -> None:
    turn, begun, go_on = threading.Lock(), threading.Event(), threading.Event()
    order: list[str] = []

    def slow(*_: Any) -> IndexReport:
        begun.set()
        assert go_on.wait(60)
        order.append("slow")
        return IndexReport()

    def fast(*_: Any) -> IndexReport:
        order.append("fast")
        return IndexReport()

    one, other, third = (Indexer(index, lambda _: None, turn) for index in (slow, fast, fast))
    one.put([Path("a")])
    assert begun.wait(60)
    other.put([Path("b")])
    third.put([Path("c")])
    assert third.stop(60)  # while it waits
    time.sleep(0.3)
    assert order == []
    assert other.state.running
    go_on.set()
    while other.state.running:
        time.sleep(0.01)
    assert order == ["slow", "fast"]


# --- what is shown --------------------------------------------------------------------------------------------------


def page(number: int = 1, **fields: Any) -> Page:
    words = (Word("Taxes", (0.25, 0.5, 0.45, 0.6)), Word("due", (0.5, 0.5, 0.75, 0.6)))
    known = {"picture": Image.new("RGB", (400, 600), "white"), "source": "/srv/dir/tax.pdf", "words": words}
    return Page(doc_id="d", number=number, **{**known, **fields})


def test_an_answer_comes_in_pieces_and_ends_outlined() -> None:
    hits = (ScoredPage(page(7), 0.5), ScoredPage(page(8, words=()), 0.4))
    asked = AnswerState("When?")
    assert asked.take(PagesFound(hits))
    assert "Reading 2 pages" in answer_fragments.answer(asked)
    assert not asked.take(SectionStarted("answer"))
    asked.take(SectionText("answer", "In "))
    asked.take(SectionText("answer", "May"))
    assert "In May" in answer_fragments.answer(asked)
    found = (Evidence(1, "Taxes due", page=hits[0].page), Evidence(2, "nothing", relevant=False, page=hits[1].page))
    assert asked.take(AnswerReady(Answer("In May.", evidence=found, pages=hits)))
    text = visible(answer_fragments.answer(asked) + answer_fragments.pages(asked.pages))
    for words in (
        "When?",
        "In May.",
        "Evidence",
        "tax.pdf, page 7",
        "Taxes due",
        "Quoted from this page",
        "tax.pdf, page 8",
    ):
        assert words in text
    assert "/srv/dir" not in answer_fragments.pages(asked.pages)
    assert [shown.outlined for shown in asked.pages] == [1, 0]
    with picture(asked.pages[0].uri) as outlined, picture(asked.pages[1].uri) as plain:
        assert outlined.size == (400, 600)
        # the words reach from 0.25 to 0.75 of the width and from 0.5 to 0.6 of the height
        assert outlined.getpixel((200, 330)) != pytest.approx((255, 255, 255), abs=8)
        for outside in ((200, 270), (200, 390), (70, 330), (330, 330)):
            assert outlined.getpixel(outside) == pytest.approx((255, 255, 255), abs=8)
        assert plain.getpixel((200, 330)) == pytest.approx((255, 255, 255), abs=8)


def test_numbers_in_the_answer_lead_to_their_evidence() -> None:
    """After a sentence the evidence that holds its figures; what fits no sentence after the last; the same on pages."""
    tax, rent = page(7, words=words_of("Taxes are due on 31 May.")), page(8, words=words_of("Rent is 900 EUR."))
    found = (
        Evidence(1, "nothing here", relevant=False, page=tax),
        Evidence(2, "Rent is 900 EUR.", page=rent),
        Evidence(1, "due on 31 May", page=tax),
        Evidence(1, "Taxes", page=tax),
    )
    hits = (ScoredPage(tax, 0.5), ScoredPage(rent, 0.4))
    asked = AnswerState("When, and how much?")
    asked.take(PagesFound(hits))
    asked.take(SectionText("answer", "By 31 May. It is 900 EUR."))
    assert "vr-cite" not in answer_fragments.answer(asked)  # while it is written, nothing is checked
    asked.take(AnswerReady(Answer("By 31 May. It is 900 EUR.", evidence=found, pages=hits)))
    html = answer_fragments.answer(asked)
    assert visible(html).count("By 31 May.[2] It is 900 EUR.[1][3]") == 1
    leads = [a["data-vr-evidence"] for tag, a in Elements(html).tags if tag == "button" and "data-vr-evidence" in a]
    places = [a["id"] for tag, a in Elements(html).tags if tag == "li" and "id" in a]
    assert leads == ["2", "1", "3"]
    assert places == ["vr-e1", "vr-e2", "vr-e3"]
    assert [shown.entries for shown in asked.pages] == [(2, 3), (1,)]
    again = AnswerState.again(asked.kept(), {tax.id: tax, rent.id: rent}, quotes=False)
    assert visible(answer_fragments.answer(again)).count("By 31 May.[2] It is 900 EUR.[1][3]") == 1


def words_of(text: str) -> tuple[Word, ...]:
    """The words beside each other on one line."""
    words: list[Word] = []
    for place, word in enumerate(text.split()):
        words.append(Word(word, (0.1 + 0.1 * place, 0.2, 0.19 + 0.1 * place, 0.25)))
    return tuple(words)


def test_everything_foreign_is_escaped() -> None:
    evil = page(source=f"dir/{EVIL}", words=())
    found = (Evidence(1, EVIL, page=evil), Evidence(9, EVIL))
    asked = AnswerState(EVIL)
    asked.take(PagesFound((ScoredPage(evil, 1.0),)))
    asked.take(AnswerReady(Answer(EVIL, evidence=found, thinking=EVIL, observation=EVIL, problems=(EVIL,))))
    state = BaseState((DocumentState(EVIL, 1, 2),), IndexingState(failures=(Failure(EVIL, EVIL, 3),), error=EVIL))
    shown = [
        answer_fragments.answer(asked),
        answer_fragments.pages(asked.pages),
        fragments.status(state),
        fragments.problem(EVIL),
    ]
    html = "".join([*shown, fragments.header(EVIL, EVIL)])
    elements = Elements(html)
    assert not {"script", "a", "iframe"} & {tag for tag, _ in elements.tags}
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert all(a.get("src", "data:image/jpeg").startswith("data:image/jpeg") for _, a in elements.tags)
    assert "<script>alert(1)</script>" in elements.text
    html.encode("utf-8")


def test_status_says_how_far_it_is() -> None:
    documents = (DocumentState("a.pdf", 4, 8, "indexing"), DocumentState("b.pdf", 2, 2))
    text = visible(fragments.status(BaseState(documents, IndexingState(running=True))))
    assert "6 of 10 pages" in text
    assert "4 of 8 pages" in text
    assert "No documents yet" in visible(fragments.status(BaseState()))
    many = tuple(DocumentState(f"{i}.pdf", state="waiting") for i in range(150))
    assert "and 50 more" in visible(fragments.status(BaseState(many, IndexingState(running=True))))
    endless = tuple(DocumentState(f"{i}.pdf", 1, 1) for i in range(1200))
    assert "200 more documents, which are searched too" in visible(fragments.status(BaseState(endless)))


def of(doc_id: str, *lines: tuple[str, float]) -> Page:
    """A page with these lines, each with the height of its words."""
    words, top = [], 0.1
    for text, height in lines:
        words += [Word(word, (0.1, top, 0.2, top + height)) for word in text.split()]
        top += height + 0.02
    return Page(doc_id=doc_id, number=1, words=tuple(words))


BODY = ("The hull is made of oak, and the sails are kept in a dry room with the ropes of the boat. " * 2, 0.01)
GERMAN = ("Der Rumpf besteht aus Eiche, und die Segel liegen trocken bei den Tauen in der Kammer. " * 2, 0.01)


@pytest.mark.parametrize(
    ("heading", "body", "question"),
    [
        ("Axes", BODY, "What does the chapter ‘Axes’ say?"),
        ("2.1 Packing boats", BODY, "What does the chapter ‘Packing boats’ say?"),
        ("Chapter 11 Graphics", BODY, "What does the chapter ‘Graphics’ say?"),
        ("How are boats packed?", BODY, "How are boats packed?"),
        ("Wie packt man Boote?", GERMAN, "Wie packt man Boote?"),  # a question is one in any language
        ("Boote packen", GERMAN, ""),  # a question in two languages would puzzle people
        ("Axes Axes", BODY, ""),
        ("Figure 11-4: An axis with non-equidistant tick marks", BODY, ""),
        ("Table 3 Prices", BODY, ""),
        ("Contents", BODY, ""),
        ("TABLE OF CONTENTS", BODY, ""),
        ("CHAPTER SEVEN", BODY, ""),
        ("系统要求说明", ("安装之前请检查", 0.01), ""),
        ("42", BODY, ""),
        ("of the boats", BODY, ""),  # the rest of a sentence
        ("Packing boats:", BODY, ""),
        ("Hello World", ("one line", 0.01), ""),  # nothing below it
    ],
)
def test_an_example_is_asked_only_where_a_heading_makes_a_question(
    heading: str, body: tuple[str, float], question: str
) -> None:
    assert question_about(of("a", (heading, 0.03), body)) == question


def test_examples_come_from_different_documents_first() -> None:
    pages = [of("a", ("Packing boats", 0.03), BODY), of("a", ("Sailing home", 0.03), BODY)]
    pages += [of("b", BODY, BODY), of("c", ("Harbour dues", 0.03), BODY)]
    assert example_questions(pages) == [
        "What does the chapter ‘Packing boats’ say?",
        "What does the chapter ‘Harbour dues’ say?",
        "What does the chapter ‘Sailing home’ say?",
    ]
    assert example_questions([]) == []


class Elements(HTMLParser):
    """Every element with its attributes, and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data


def visible(html: str) -> str:
    return Elements(html).text


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


# --- the gate -------------------------------------------------------------------------------------------------------


INCOMING = Path("/srv/demo/incoming")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Gradio's place: says how many bytes came."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    answer = f"gradio got {size}"
    if scope["path"] == "/gradio_api/upload":
        answer = json.dumps([str(INCOMING / "5f" / f"{size}.pdf")])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer.encode()})


Request = Callable[..., Awaitable[httpx.Response]]


def behind_gate(room: int = 1 << 40, **settings: Any) -> Request:
    gate = Gate(echo, GateSettings(lambda: room, **{"upload_bytes": 1000, "incoming": INCOMING, **settings}))

    async def request(method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=gate)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:7860") as client:
            return await client.request(method, path, **more)

    return request


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://localhost",
        "/gradio_api/info",
        "/gradio_api/vibe-edit",
        "/monitoring/x",
        "//gradio_api/file=/etc/passwd",
        "/gradio_api/queue/join/",
        "/login",
    ],
)
async def test_routes_nobody_needs_do_not_exist(path: str) -> None:
    refused = await behind_gate()("GET", path)
    assert refused.status_code == 404
    assert "gradio got" not in refused.text


async def test_what_is_let_in_loads_nothing_from_elsewhere() -> None:
    shown = await behind_gate()("GET", "/")
    assert shown.text == "gradio got 0"
    policy = shown.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert shown.headers["x-content-type-options"] == "nosniff"


async def test_a_password_stands_before_everything() -> None:
    request = behind_gate(password="päss word")
    page_ = await request("GET", "/")
    assert page_.status_code == 401
    assert 'type="password"' in page_.text
    for path in ("/config", "/assets/x.js", "/gradio_api/queue/data", "/gradio_api/upload"):
        assert (await request("GET", path)).status_code == 401
        assert (await request("GET", path, headers={"cookie": f"{COOKIE}=guess"})).status_code == 401
    wrong = await request("POST", "/login", data={"password": "pass word"})
    assert wrong.status_code == 401
    assert "not the password" in wrong.text
    assert "set-cookie" not in wrong.headers
    assert (await request("POST", "/login", content=b"x" * 5000)).status_code == 413
    right = await request("POST", "/login", data={"password": "päss word"})
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    inside = await request("GET", "/config", headers={"cookie": cookie.partition(";")[0]})
    assert inside.text == "gradio got 0"


async def test_guessing_passwords_takes_time() -> None:
    request = behind_gate(password="secret")
    started = time.monotonic()
    tries = [request("POST", "/login", data={"password": str(guess)}) for guess in range(9)]
    assert {answer.status_code for answer in await asyncio.gather(*tries)} == {401}
    assert time.monotonic() - started >= 3  # four at a time, a second each


async def test_bodies_have_an_end() -> None:
    request = behind_gate()

    async def chunks(size: int) -> Any:
        for _ in range(size >> 16):
            yield b"x" * (1 << 16)

    assert (await request("POST", "/gradio_api/upload", content=b"x" * 1000)).json() == ["uploaded/5f/1000.pdf"]
    for path in ("/gradio_api/upload", "/gradio_api/cancel", "/gradio_api/queue/join"):
        assert (await request("POST", path, content=b"x" * (3 << 20))).status_code == 413
        assert (await request("POST", path, content=chunks(3 << 20))).status_code == 413
    full = await behind_gate(room=0)("POST", "/gradio_api/upload", content=b"x" * (2 << 20))
    assert (full.status_code, full.text) == (413, "The demo's folder is full.")


async def test_no_request_makes_the_server_fetch_something() -> None:
    request = behind_gate()
    for value in ({"path": "http://10.0.0.1/x"}, [{"a": [{"path": "HTTPS://x"}]}], {"path": ["ftp://x"]}):
        body = json.dumps({"data": ["base", value]}).replace("/", "\\/")
        refused = await request("POST", "/gradio_api/queue/join", content=body)
        assert (refused.status_code, refused.text) == (403, "Only files that were uploaded here are taken.")
    assert (await request("POST", "/gradio_api/queue/join", content=b"not json")).status_code == 403
    body = json.dumps({"data": ["What is at http://example.com?", {"path": "uploaded/5f/x.pdf"}]})
    sent = json.dumps({"data": ["What is at http://example.com?", {"path": f"{INCOMING}/5f/x.pdf"}]})
    assert (await request("POST", "/gradio_api/queue/join", content=body)).text == f"gradio got {len(sent)}"


async def test_other_web_sites_stay_outside() -> None:
    request = behind_gate(hosts={"localhost", "[::1]"})
    for site in ("cross-site", "same-site"):
        assert (await request("POST", "/gradio_api/cancel", headers={"sec-fetch-site": site})).status_code == 403
    assert (await request("POST", "/gradio_api/cancel", headers={"sec-fetch-site": "same-origin"})).status_code == 200
    for origin in ("http://evil.example", "null", "http://localhost:9999", "http://localhost.evil.example"):
        headers = {"origin": origin, "host": "localhost:7860"}
        assert (await request("POST", "/gradio_api/cancel", headers=headers)).status_code == 403
    headers = {"origin": "http://LOCALHOST:7860", "host": "localhost:7860"}
    assert (await request("POST", "/gradio_api/cancel", headers=headers)).status_code == 200
    for host, status in (("evil.example:7860", 421), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:7860", 200)):
        assert (await request("GET", "/", headers={"host": host})).status_code == status
    assert (await request("DELETE", "/")).status_code == 405
