"""Documents on the demo page: removed, opened with a password, taken from folders and addresses, and by whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pymupdf
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator

from visrag_integrations.errors import SettingError
from visrag_integrations.ingestion import IndexProgress
from visrag_integrations.servers.demo import build_demo, fragments
from visrag_integrations.servers.demo.base_files import BaseFiles
from visrag_integrations.servers.demo.base_state import BaseState, DocumentState
from visrag_integrations.servers.demo.documents_panel import DocumentsPanel
from visrag_integrations.servers.demo.indexing import IndexingState
from visrag_integrations.servers.demo.knowledge_base import KnowledgeBase
from visrag_integrations.servers.demo.knowledge_bases import FIRST_BASE, KnowledgeBases
from visrag_integrations.servers.demo.local_sources import add_sources
from visrag_integrations.servers.demo.local_visitors import is_local
from visrag_integrations.servers.demo.passwords import in_words, is_locked


@pytest.fixture
def bases(tmp_path: Path) -> Iterator[KnowledgeBases]:
    with KnowledgeBases(tmp_path / "bases", embedder=PixelEmbedder(), generator=ScriptedGenerator()) as opened:
        yield opened


def read(base: KnowledgeBase) -> BaseState:
    """Its state once everything was read."""
    while base.is_indexing:
        threading.Event().wait(0.02)
    return base.state()


def locked_pdf(path: Path, password: str, text: str = "A secret page.") -> Path:
    with pymupdf.open() as document:
        document.new_page(width=300, height=200).insert_text((20, 40), text)
        document.save(path, encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw=password, owner_pw=password)
    return path


# --- passwords ------------------------------------------------------------------------------------------------------


def test_a_locked_document_waits_for_its_password(bases: KnowledgeBases, tmp_path: Path) -> None:
    base = bases.get(FIRST_BASE)
    base.add(
        [(locked_pdf(tmp_path / "s.pdf", "sesame"), "secret.pdf"), (draw_pdf(tmp_path / "o.pdf", ["Open."]), "o.pdf")]
    )
    state = read(base)
    assert state.locked == ("secret.pdf",)
    (failure,) = state.indexing.failures
    assert failure.error == "needs a password. Type it under “Password” and press Unlock."
    shown = fragments.status(state)
    for words in ("PageReader", "command line", str(tmp_path)):
        assert words not in shown

    base.unlock("wrong")
    state = read(base)
    assert state.locked == ("secret.pdf",)
    assert "that is not its password" in state.indexing.failures[0].error

    base.unlock("sesame")
    state = read(base)
    assert state.locked == ()
    assert state.indexing.failures == ()
    assert {document.name: document.pages for document in state.documents} == {"secret.pdf": 1, "o.pdf": 1}
    assert all(b"sesame" not in path.read_bytes() for path in bases.folder.rglob("*") if path.is_file())
    with pytest.raises(SettingError, match="No document here waits"):
        base.unlock("sesame")


def test_a_locked_document_can_be_removed_and_still_waits_after_a_restart(tmp_path: Path) -> None:
    def opened() -> KnowledgeBases:
        return KnowledgeBases(tmp_path / "bases", embedder=PixelEmbedder(), generator=ScriptedGenerator())

    with opened() as bases:
        bases.get(FIRST_BASE).add([(locked_pdf(tmp_path / "s.pdf", "sesame"), "secret.pdf")])
        assert read(bases.get(FIRST_BASE)).locked == ("secret.pdf",)
    with opened() as bases:
        base = bases.get(FIRST_BASE)
        _ = base.store
        state = read(base)
        assert state.locked == ("secret.pdf",)
        assert [document.name for document in state.listed] == ["secret.pdf"]  # can be ticked, to be removed
        base.remove(["secret.pdf"])
        state = base.state()
        assert (state.documents, state.indexing.failures, state.locked) == ((), (), ())


@pytest.mark.parametrize(
    ("error", "locked"),
    [
        ('is encrypted. Give its password: PageReader(password="..."), or --password on the command line.', True),
        ("is encrypted and the password is wrong. Check it and try again.", True),
        ("is encrypted in the way of LibreOffice 24.8 and newer, which cannot be opened. Save it without.", False),
        ("is not a PDF, whatever its name says.", False),
    ],
)
def test_only_what_a_password_opens_asks_for_one(error: str, locked: bool) -> None:
    assert is_locked(in_words(error)) is locked
    assert "PageReader" not in in_words(error)


def test_messages_can_be_hidden(bases: KnowledgeBases, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"nonsense")
    base = bases.get(FIRST_BASE)
    base.add([(broken, "broken.pdf")])
    assert read(base).indexing.failures
    base.dismiss()
    assert base.state().indexing.failures == ()


# --- removing -------------------------------------------------------------------------------------------------------


def test_a_document_is_removed_with_its_pages_alone(bases: KnowledgeBases, tmp_path: Path) -> None:
    base = bases.get(FIRST_BASE)
    names = ("a.pdf", "b.pdf", "copy of a.pdf")
    texts = ("The harbour holds forty boats.", "Anchors weigh.", "The harbour holds forty boats.")
    first = draw_pdf(tmp_path / "1.pdf", [texts[0]])
    copy = tmp_path / "3.pdf"
    copy.write_bytes(first.read_bytes())  # one content under two names
    base.add([(first, names[0]), (draw_pdf(tmp_path / "2.pdf", [texts[1]]), names[1]), (copy, names[2])])
    assert [document.pages for document in read(base).documents] == [1, 1, 1]
    base.remove(["a.pdf"])
    assert {document.name: document.pages for document in base.state().documents} == {"b.pdf": 1, "copy of a.pdf": 1}
    assert base.store.count() == 2
    base.remove(["copy of a.pdf", "b.pdf"])
    assert (base.files(), base.store.count()) == ([], 0)
    for name in ("a.pdf", "../../visrag-demo.json", "", "/etc/passwd"):
        with pytest.raises(SettingError, match="not in this knowledge base any more"):
            base.remove([name])
    assert (bases.folder / "visrag-demo.json").exists()


def test_what_is_ticked_is_asked_about_first(bases: KnowledgeBases) -> None:
    panel = DocumentsPanel(bases)
    for nothing in (None, [], "x", [7]):
        with pytest.raises(gr.Error, match="Tick the documents"):
            panel.ask_first(nothing)
    _, text = panel.ask_first(["<b>.pdf"])
    assert "Remove “&lt;b&gt;.pdf”?" in text
    assert "these 2 documents" in panel.ask_first(["a", "b"])[1]


# --- folders and addresses --------------------------------------------------------------------------------------------


def test_a_folder_is_copied_once_and_left_as_it_is(bases: KnowledgeBases, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    draw_pdf(folder / "a.pdf", ["One."])
    draw_pdf(folder / "deep" / "a.pdf", ["Another of that name."])
    (folder / "tune.mp3").write_bytes(b"x")
    base = bases.get(FIRST_BASE)
    for _ in range(2):  # the same command again
        taken = add_sources(base, [str(folder)], bases.room())
        assert sorted(taken.names) == ["a (2).pdf", "a.pdf"]
        assert taken.left_out == ("tune.mp3",)
        read(base)
    assert {document.name: document.pages for document in base.state().documents} == {"a (2).pdf": 1, "a.pdf": 1}
    base.remove(["a.pdf", "a (2).pdf"])
    assert (folder / "a.pdf").exists()
    assert (folder / "deep" / "a.pdf").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "Type the path"),
        ("   ", "Type the path"),
        ("/no/such/folder", "There is no file or folder"),
        ("ftp://example.org/a.pdf", "no web address"),
        ("file:///etc/passwd", "no web address"),
        ("s3://bucket/a.pdf", "no web address"),
    ],
)
def test_sources_that_cannot_be_taken_are_said(bases: KnowledgeBases, source: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        add_sources(bases.get(FIRST_BASE), [source], 1 << 30)


def test_sources_must_fit(bases: KnowledgeBases, tmp_path: Path) -> None:
    draw_pdf(tmp_path / "a.pdf", ["One."])
    with pytest.raises(SettingError, match="room for 10 bytes"):
        add_sources(bases.get(FIRST_BASE), [str(tmp_path / "a.pdf")], 10)
    assert bases.get(FIRST_BASE).files() == []


def test_addresses_are_kept_and_removed(tmp_path: Path) -> None:
    files = BaseFiles(tmp_path / "base-1")
    link = "https://example.org/reports/a.pdf"
    files.add_link(link)
    files.add_link(link)
    (files.folder / "a.pdf").write_bytes(b"x")
    assert files.names() == ["a.pdf", link]
    assert files.source(link) == link
    assert files.name_of(link) == link
    for stored in (
        "/srv/base-1/documents/a.pdf",
        "D:\\x\\base-1\\documents\\a.pdf",
        "/y/base-1/documents/a.pdf/in.txt",
    ):
        assert files.name_of(stored) == "a.pdf"
    files.remove(link)
    files.remove(link)
    assert files.names() == ["a.pdf"]


def request(client: str = "127.0.0.1", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(client=SimpleNamespace(host=client), headers={"host": "localhost:7860", **named})


@pytest.mark.parametrize(
    ("visitor", "local"),
    [
        (request(), True),
        (request("::1", host="[::1]:7860"), True),
        (request("192.168.0.7"), False),
        (request(host="demo.example.org"), False),
        (request(host="localhost.evil.example"), False),
        (request(host=""), False),
        (request(x_forwarded_for="8.8.8.8"), False),  # a proxy on this machine
        (request(Forwarded="for=8.8.8.8"), False),
        (request(x_real_ip="8.8.8.8"), False),
        (SimpleNamespace(client=None, headers={"host": "localhost"}), False),
    ],
)
def test_only_the_person_at_the_machine_is_local(
    bases: KnowledgeBases, tmp_path: Path, visitor: Any, local: bool
) -> None:
    assert is_local(visitor) is local
    panel = DocumentsPanel(bases, local=True)
    refused = "only by the person who runs the demo"
    with pytest.raises(gr.Error, match="There is no file" if local else refused):
        panel.take_source(FIRST_BASE, str(tmp_path / "none"), "", visitor)
    with pytest.raises(gr.Error, match=refused):
        DocumentsPanel(bases).take_source(FIRST_BASE, str(tmp_path / "none"), "", visitor)


@pytest.mark.parametrize(
    "opened_to",
    [
        {"hosts": None},
        {"hosts": ["demo.example.org"]},
        {"hosts": ["localhost", "demo.example.org"]},
        {"hosts": ["localhost"], "password": "x"},
    ],
)
def test_a_page_for_others_reads_no_folders(bases: KnowledgeBases, opened_to: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="read this machine's files"):
        build_demo(bases, local=True, **opened_to)


# --- how far it is --------------------------------------------------------------------------------------------------


def status(*documents: DocumentState, progress: IndexProgress | None = None) -> str:
    indexing = IndexingState(running=True, progress=progress or IndexProgress())
    return fragments.status(BaseState(documents, indexing))


def test_progress_has_names_counts_and_the_time_that_is_left() -> None:
    done, reading = DocumentState("a.pdf", 2, 2), DocumentState("b.pdf", 10, 70, "indexing")
    shown = status(done, reading, progress=IndexProgress(added=12, pages=12, seconds=12.0))
    for words in ("1 of 2 documents", "12 of 72 pages", "about 1 minute left", "b.pdf", "10 of 70 pages"):
        assert words in shown
    assert 'value="12" max="72"' in shown
    unknown = status(
        done, reading, DocumentState("c.pdf", state="waiting"), progress=IndexProgress(seconds_left=7200.0)
    )
    for words in ("12 pages so far", "about 2 hours left", "c.pdf", "waiting"):
        assert words in unknown
    assert "value=" not in unknown
    assert "left" not in status(reading)  # not guessed before there is anything to guess from
