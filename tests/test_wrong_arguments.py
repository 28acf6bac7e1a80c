"""What a newcomer gives by mistake: names in place of things, one text in place of a list, open files, odd types."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from fakes import CountingEmbedder, ScriptedGenerator
from PIL import Image

from visrag_integrations import Page, PageReader, PageRetriever, QdrantPageStore, Query, VisRAG, index_documents
from visrag_integrations.errors import DocumentError, PasswordError, SettingError, UnknownNameError, VisRAGError
from visrag_integrations.generation import load_generator
from visrag_integrations.ingestion import reindex
from visrag_integrations.ingestion.sources import GivenSources
from visrag_integrations.readers.machine_faults import advice_for

READER = PageReader(backend="pdfium", ocr="never", max_pixels=200_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QdrantPageStore]:
    embedder = CountingEmbedder()
    with QdrantPageStore(tmp_path / "index") as opened:
        opened.prepare(embedder)
        pages = [Page("d", number, text, "boats.pdf") for number, text in enumerate(["alpha boats", "beta"], 1)]
        opened.add_pages(pages, embedder.embed_pages(pages))
        yield opened


def index(store: QdrantPageStore, sources: Any, **settings: Any) -> Any:
    settings = {"embedder": CountingEmbedder(), "reader": READER, "workers": 1, **settings}
    return index_documents(sources, store=store, **settings)


NO_QUESTIONS = [42, None, 3.5, ["a"], ("a",), {"text": "a"}, b"x", object()]


@pytest.mark.parametrize("given", NO_QUESTIONS, ids=lambda given: type(given).__name__)
def test_a_question_is_a_text_or_a_query(store: QdrantPageStore, given: Any) -> None:
    retriever = PageRetriever(CountingEmbedder(), store)
    rag = VisRAG(retriever, ScriptedGenerator(["x"]))
    asked: list[Callable[[], object]] = [
        lambda: retriever.retrieve(given),
        lambda: retriever.retrieve_many(["alpha", given]),
        lambda: rag.ask(given),
        lambda: rag.ask_many(["alpha", given]),
        lambda: rag.stream(given),
        lambda: rag.answer_from([given], [[]]),
    ]
    for ask in asked:
        with pytest.raises(SettingError, match="Give a text"):
            ask()


@pytest.mark.parametrize("question", ["How many boats?", "word", "日本", ""])
def test_one_text_is_no_list_of_letters(store: QdrantPageStore, question: str) -> None:
    retriever = PageRetriever(CountingEmbedder(), store)
    with pytest.raises(SettingError, match=r"queries is one text.*Give a list.*or call retrieve"):
        retriever.retrieve_many(question)
    with pytest.raises(SettingError, match=r"questions is one text.*Give a list.*or call ask"):
        VisRAG(retriever, ScriptedGenerator(["x"])).ask_many(question)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "3", True, [3]])
def test_how_many_pages_is_a_whole_number(store: QdrantPageStore, top_k: Any) -> None:
    retriever = PageRetriever(CountingEmbedder(), store)
    rag = VisRAG(retriever, ScriptedGenerator(["x"]))
    for ask in (lambda: retriever.retrieve("alpha", top_k), lambda: rag.ask("alpha", top_k)):
        with pytest.raises(SettingError, match="top_k is"):
            ask()
    with pytest.raises(SettingError, match="top_k is"):
        VisRAG(retriever, ScriptedGenerator(["x"]), top_k=top_k)


def test_a_name_is_not_what_it_names(store: QdrantPageStore, tmp_path: Path) -> None:
    embedder: Any = "ocr"
    retriever = PageRetriever(CountingEmbedder(), store)
    path: Any = tmp_path / "index"
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: index(store, tmp_path, embedder="ocr"), r"embedder=load_embedder\('ocr'\)"),
        (lambda: index(path, tmp_path), "store=QdrantPageStore"),
        (lambda: PageRetriever(embedder, store), r"embedder=load_embedder\('ocr'\)"),
        (lambda: PageRetriever(CountingEmbedder(), path), "store=QdrantPageStore"),
        (lambda: VisRAG(retriever, embedder), r"generator=load_generator\('ocr'\)"),
    ]
    for call, said in cases:
        with pytest.raises(SettingError, match=said):
            call()


@pytest.mark.parametrize("given", [None, 5, [], object()], ids=lambda given: type(given).__name__)
def test_a_generator_has_a_name(given: Any) -> None:
    with pytest.raises(UnknownNameError, match=r'load_generator\("extractive"\)'):
        load_generator(given)


@pytest.mark.parametrize("image", [42, 1.5, ["x"], {"a": 1}], ids=lambda given: type(given).__name__)
def test_a_picture_of_a_query_is_a_picture(image: Any) -> None:
    with pytest.raises(SettingError, match=r'Path\("crop.png"\)'):
        Query(image=image)


def test_a_picture_of_a_query_is_named_by_a_path(store: QdrantPageStore) -> None:
    with pytest.raises(SettingError, match=r"Give Path\('crop.png'\)"):
        PageRetriever(CountingEmbedder(), store).retrieve(Query("alpha", image="crop.png"))  # type: ignore[arg-type]


def test_what_is_a_picture_is_one() -> None:
    picture = Image.new("RGB", (3, 3))
    for image in (picture, b"bytes", Path("crop.png"), lambda: picture):
        assert Query(image=image).image is image


# --- documents -------------------------------------------------------------------------------------------------------


def test_an_open_file_is_no_list_of_lines(store: QdrantPageStore, tmp_path: Path) -> None:
    """It was: each line of the file was taken for a document."""
    path = draw_pdf(tmp_path / "new.pdf", ["gamma"])
    with path.open("rb") as file:
        for given in (file, [file], io.BytesIO(path.read_bytes()), [path, io.BytesIO(b"")]):
            with pytest.raises(SettingError, match=r"is an open file. Give its path, or its bytes: file.read\(\)"):
                index(store, given)
        with pytest.raises(SettingError, match="is an open file"):
            list(READER.read(file))  # type: ignore[arg-type]


class Upload:
    """A file as a web framework gives it: it passes on what it is asked, and is no `io.IOBase` itself."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def __str__(self) -> str:
        return ""


class AwaitedUpload:
    """As servers that wait for the bytes give it: it has no lines to go through."""

    async def read(self) -> bytes:
        return b""


@pytest.mark.parametrize("measured", [True, False])
def test_a_file_of_another_class_is_no_list_of_lines(store: QdrantPageStore, tmp_path: Path, measured: bool) -> None:
    settings: dict[str, Any] = {"on_progress": lambda _: None} if measured else {"progress": False}
    data = draw_pdf(tmp_path / "new.pdf", ["gamma"]).read_bytes()
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        for given in (file, Upload(data), AwaitedUpload()):
            file.seek(0)
            for sources in (given, [given], iter([given]), [iter([given])]):
                with pytest.raises(SettingError, match=r"\S is an open file. Give its path, or its bytes: file.read"):
                    index(store, sources, **settings)
            with pytest.raises(SettingError, match=r"\S is an open file"):
                list(READER.read(given))
    assert store.count() == 2, "what the fixture put in, and nothing else"


@pytest.mark.parametrize("measured", [True, False])
def test_generators_inside_of_lists_are_read_whole(store: QdrantPageStore, tmp_path: Path, measured: bool) -> None:
    """They were gone through to measure them, and empty when they were to be read: nothing was indexed, unsaid."""
    paths = [draw_pdf(tmp_path / f"{name}.pdf", [name]) for name in ("gamma", "delta")]
    settings: dict[str, Any] = {"on_progress": lambda _: None} if measured else {"progress": False}
    assert index(store, [iter(paths[:1]), (path for path in paths[1:])], **settings).added == 2
    assert index(store, iter([iter(paths)]), **settings).unchanged == 2
    assert index(store, map(os.fspath, paths), **settings).unchanged == 2


def test_what_is_not_measured_is_taken_one_at_a_time() -> None:
    """All bytes of a generator inside of a list were held in memory, also where nobody was shown how much is left."""
    made: list[int] = []

    def documents() -> Iterator[bytes]:
        for number in range(3):
            made.append(number)
            yield b"%d" % number

    for place, _ in enumerate(GivenSources([documents()], measure=False), 1):
        assert len(made) == place
    assert len(made) == 3
    assert GivenSources([documents()], measure=True).total_documents == 3


@pytest.mark.parametrize("pages", [3, 0, -1, True])
def test_one_number_of_pages_could_mean_two_things(pages: Any) -> None:
    with pytest.raises(SettingError, match="is one number"):
        PageReader(pages=pages)


@pytest.mark.parametrize("pages", [1, 3])
def test_one_number_of_pages_is_told_what_to_give(pages: int) -> None:
    with pytest.raises(SettingError) as raised:
        PageReader(pages=pages)
    given = [f'"{pages}"', f"[{pages}]", f'"1-{pages}"']
    assert f"Give {given[0]} or {given[1]}; of the first pages, {given[2]}." in str(raised.value)
    assert PageReader(pages=[pages]).pages == PageReader(pages=str(pages)).pages


@pytest.mark.parametrize("pages", [0, -1, True, False])
def test_what_is_no_page_is_not_advised(pages: Any) -> None:
    """What was said to give (`"0" or [0]; of the first pages, "1-0"`) was refused in its turn."""
    with pytest.raises(SettingError) as raised:
        PageReader(pages=pages)
    said = str(raised.value)
    assert f'"{pages}"' not in said
    assert f"[{pages}]" not in said
    assert 'count from 1. Give "1-3,7", "5-", range(1, 4) or [1, 7].' in said


# --- messages of documents that say what to do ------------------------------------------------------------------------

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.pdf": (b"", "Copy or download it again"),
    "empty.png": (b"", "Copy or download it again"),
    "rubbish.pdf": (b"%PDF-1.4\nrubbish", "Copy or download it again, or print it to a new PDF"),
    "named.pdf": (b"hello", "Give it the ending that it should have"),
    "named.png": (b"hello", "Give it the ending that it should have"),
    "zeros.txt": (b"some words\x00 and more of them" * 20, "Give it the ending that it should have"),
    "cells.csv": (b",,\n,,\n", "Delete it, or fill it"),
    "cut.png": (b"\x89PNG\r\n\x1a\n" + b"0" * 40, "save it anew as PNG"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_document_that_cannot_be_read_says_what_to_do(tmp_path: Path, name: str) -> None:
    data, said = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DocumentError) as raised:
        list(PageReader(ocr="never").read(path))
    assert said in str(raised.value)


AT_FAULT = {
    "space": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x"), r"No space left on device\. Free some space"),
    "files": (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/tmp/x"), r"Too many open files\. Close other files"),
    "rights": (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), r"denied\. Check the permissions"),
    "temporary": (
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
        r"No usable temporary directory found in \['/tmp'\]\. Free some space, close other files, or set TMPDIR",
    ),
    "memory": (MemoryError(), r"there is not enough memory\. Raise max_memory"),
}


@pytest.mark.parametrize("kind", ["text", "image", "pdf"])
@pytest.mark.parametrize("fault", AT_FAULT)
def test_what_the_machine_lacks_is_no_fault_of_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fault: str
) -> None:
    """All of it ended with "Copy or download it again, or save it anew as PNG", also of a text."""
    error, said = AT_FAULT[fault]

    def fail(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / {"text": "a.txt", "image": "a.png", "pdf": "a.pdf"}[kind]
    if kind == "text":
        path.write_text("Forty boats.")
        monkeypatch.setattr("visrag_integrations.readers.office.open_office", fail)
    elif kind == "image":
        Image.new("RGB", (20, 20)).save(path)
        monkeypatch.setattr("PIL.Image.open", fail)
    else:
        draw_pdf(path, ["boats"])
        monkeypatch.setattr("visrag_integrations.readers.pdf._open", fail)
    with pytest.raises(DocumentError, match=said) as raised:
        list(PageReader(ocr="never").read(path))
    assert not isinstance(raised.value, PasswordError)
    assert "again" not in str(raised.value)
    assert "PNG" not in str(raised.value)


def test_a_text_is_not_to_be_saved_as_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("what a library says.")

    path = tmp_path / "a.txt"
    path.write_text("Forty boats.")
    monkeypatch.setattr("visrag_integrations.readers.office.open_office", fail)
    with pytest.raises(DocumentError, match=r"what a library says\. Copy or download it again, or print it to a PDF"):
        list(PageReader(ocr="never").read(path))


def test_what_mupdf_says_of_the_machine_is_understood(tmp_path: Path) -> None:
    """It raises an error of its own, whose cause ends with what the system said."""
    error = RuntimeError("Failed to open file 'a.pdf' as type pdf.")
    error.__cause__ = Exception(f"code=2: cannot open a.pdf: {os.strerror(errno.EMFILE)}")
    assert advice_for(error).startswith("Close other files")
    assert advice_for(RuntimeError(f"Failed to open file '{os.strerror(errno.EACCES)}.pdf' as type pdf.")) == ""
    path = tmp_path / f"{os.strerror(errno.EACCES)}.pdf"
    path.write_bytes(b"%PDF-1.4\nrubbish")
    with pytest.raises(DocumentError, match="Copy or download it again"):
        list(PageReader(ocr="never").read(path))


@pytest.mark.parametrize(("texts", "said"), [(["a"], "--pages 1 "), (["a", "b", "c"], "--pages 1-3 ")])
def test_pages_that_are_not_there_say_which_are(tmp_path: Path, texts: list[str], said: str) -> None:
    path = draw_pdf(tmp_path / "a.pdf", texts)
    with pytest.raises(DocumentError, match="none of the pages asked for is among them") as raised:
        list(PageReader(pages="9-", ocr="never").read(path))
    assert said in str(raised.value)


# --- places -----------------------------------------------------------------------------------------------------------


def test_pictures_of_an_index_by_a_relative_path_are_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_pdf(tmp_path / "boats.pdf", ["alpha boats"])
    (tmp_path / "elsewhere").mkdir()
    with QdrantPageStore("index") as store:
        index(store, "boats.pdf")
        monkeypatch.chdir(tmp_path / "elsewhere")
        (hit,) = PageRetriever(CountingEmbedder(), store).retrieve("alpha")
        assert hit.page.open_image().size[0] > 100
        draw_pdf(tmp_path / "more.pdf", ["beta"])
        assert index(store, tmp_path / "more.pdf").added == 1
        assert reindex(store, embedder=CountingEmbedder(), progress=False).added == 2
        (hit,) = PageRetriever(CountingEmbedder(), store).retrieve("alpha", top_k=1)
        assert hit.page.open_image().size[0] > 100
    with QdrantPageStore(tmp_path / "index") as store:
        assert store.count() == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boats.pdf", "elsewhere", "index", "more.pdf"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_search_of_an_empty_index_says_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with QdrantPageStore(tmp_path / "nothing") as store:
        assert PageRetriever(CountingEmbedder(), store).retrieve("alpha") == []
    assert "nothing was indexed yet" in caplog.text
    assert "visrag index PATH" in caplog.text


def test_a_copy_of_an_open_index_is_refused_as_a_copy(store: QdrantPageStore) -> None:
    import copy

    with pytest.raises(VisRAGError, match="cannot be copied or sent to another process"):
        copy.deepcopy(store)
