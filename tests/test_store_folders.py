"""What is below a folder is found by an index: odd names, spellings, old collections; what `prune` removes by it."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fake_qdrant import serving
from fakes import CountingEmbedder
from PIL import Image
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from visrag_integrations import Page, QdrantPageStore, index_documents
from visrag_integrations.ingestion.documents import Documents
from visrag_integrations.ingestion.sources import GivenSources
from visrag_integrations.readers import PageReader
from visrag_integrations.store import documents as store_documents
from visrag_integrations.store.source_folders import below_keys, beside_keys, folder_keys, inside_key

SOURCES = [
    "a.pdf",
    "docs/a.pdf",
    "./docs/a.pdf",
    "docs//sub/../a.pdf",
    "docs/sub/deep/er/a.pdf",
    "docs2/a.pdf",
    "doc/a.pdf",
    "../ada/docs/a.pdf",
    "../bob/docs/a.pdf",
    "../../home/ada/docs/sub/a.pdf",
    "/home/ada/docs/a.pdf",
    "/home/ada/docs/outer.pdf/inner.pdf",
    "/home/ada/docs-old/a.pdf",
    "/home/a.pdf",
    "/a.pdf",
    "/Ünïcode 文書/ø/a.pdf",
    "docs/%20 *?[x]/a.pdf",
    "docs/ leading and trailing /a.pdf",
    "docs/back\\slash/a.pdf",
    "C:\\docs\\a.pdf",
    "C:/docs/a.pdf",
    "caf\udce9/a.pdf",
    "https://host/docs/a.zip/inner.pdf",
    "s3://bucket/docs/a.pdf",
    "bytes:0123456789ab",
    "",
]
FOLDERS = [
    "/",
    "/home",
    "/home/ada",
    "/home/ada/docs",
    "/home/ada/docs/sub",
    "/home/ada/docs/sub/deep",
    "/home/ada/docs2",
    "/home/ada/docs/back\\slash",
    "/home/ada/docs/%20 *?[x]",
    "/home/ada/docs/ leading and trailing ",
    "/home/ada/caf\udce9",
    "/home/bob",
    "/Ünïcode 文書",
    "/somewhere/else",
]
WORKING = [
    "/home/ada",
    "/home/ada/docs",
    "/",
    "/home",
    "/home/ada/docs/sub/deep/er",
    "/home/back\\slash",
    "/home/caf\udce9/x\\y",
]


def _path(source: str, working: str) -> str | None:
    """Where a run looks for a source; None where it never does."""
    if "://" in source or source.startswith("bytes:") or not source:
        return None
    return os.path.normpath(os.path.join(working, source))


@pytest.mark.parametrize(("working", "folder"), list(itertools.product(WORKING, FOLDERS)))
def test_what_is_below_a_folder_has_one_of_its_keys(working: str, folder: str) -> None:
    keys, beside = set(below_keys(folder, working)), set(beside_keys(folder, working))
    for source in SOURCES:
        path = _path(source, working)
        if path is None:
            continue
        own = set(folder_keys([source]))
        if path.startswith(os.path.join(folder, "")):
            assert own & keys, source
        if os.path.dirname(path) == folder:
            assert own & beside, source


@pytest.mark.parametrize(
    "source", ["/home/ada/docs2/a.pdf", "docs2/a.pdf", "../ada/docs-old/b.pdf", "/docs/a.pdf", "a.pdf"]
)
def test_a_folder_whose_name_begins_alike_is_another_one(source: str) -> None:
    assert not set(folder_keys([source])) & set(below_keys("/home/ada/docs", "/home/ada"))


@pytest.mark.parametrize(
    "source", ["a.pdf", "docs/a.pdf", "/data/x.zip", "https://h/x.zip?v=1", "bytes:01", "C:\\x\\y.zip"]
)
def test_what_lies_inside_of_a_document_has_its_key(source: str) -> None:
    assert inside_key(source) in folder_keys([f"{source}/inner.pdf"])
    assert inside_key(source) not in folder_keys([source, f"{source}2/inner.pdf"])


Open = Callable[[], AbstractContextManager[QdrantPageStore]]


@pytest.fixture(params=["folder", "memory", "server"])
def open_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    if request.param == "server":
        with serving() as server:
            yield lambda: QdrantPageStore(server.url)
    elif request.param == "memory":
        yield lambda: QdrantPageStore(":memory:")
    else:
        index = tmp_path_factory.mktemp("place") / "index"
        yield lambda: QdrantPageStore(index)


def _index(store: QdrantPageStore, *sources: Any) -> int:
    """Store every file as a document of one page; gives how many there are."""
    store.prepare(CountingEmbedder())
    count = 0
    for file in GivenSources(sources, measure=False):
        assert isinstance(file, Path)
        text = file.read_text()
        page = Page(sha256(text.encode()).hexdigest(), 1, text=text, source=str(file), metadata={"total_pages": 1})
        store.add_pages([page], np.ones((1, 4)))
        count += 1
    return count


def _prune(store: QdrantPageStore, *sources: Any) -> int:
    """What a run does at its end; gives how many pages went."""
    given = GivenSources(sources, measure=False)
    list(given)
    documents = Documents(store, lambda failure: None)
    documents.finish(given)
    return documents.removed


def _stored(store: QdrantPageStore) -> list[str]:
    return sorted(source for document in store.documents() for source in document.sources)


ODD = [
    "plain",
    "wïth ünïcode 文書",
    "spaces and %20",
    "quote'\"s",
    "wild*?[x]",
    "dots..",
    ".hidden-not",
    "back\\slash",
    "a.pdf",
]


@pytest.mark.skipif(os.name == "nt", reason="these names are not allowed there")
def test_prune_in_folders_of_odd_names(open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(ODD):
        folder = Path("docs", name.lstrip("."), "below")
        folder.mkdir(parents=True)
        (folder / "gone.txt").write_text(f"gone {number}")
        (folder.parent / "stays.txt").write_text(f"stays {number}")
    Path("docs-old").mkdir()
    Path("docs-old", "gone.txt").write_text("of another folder")
    with open_store() as store:
        assert _index(store, "docs", tmp_path / "docs-old") == 2 * len(ODD) + 1
        for gone in Path().glob("docs*/**/gone.txt"):
            gone.unlink()
        assert _prune(store, tmp_path / "docs") == len(ODD)
        left = _stored(store)
        assert [name for name in left if name.endswith("gone.txt")] == [str(tmp_path / "docs-old" / "gone.txt")]
        assert len(left) == len(ODD) + 1


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode there")
def test_a_file_whose_name_is_no_unicode_is_not_taken_for_gone(open_store: Open, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / os.fsdecode(b"n\xe9.txt")).write_text("here")
    (folder / os.fsdecode(b"g\xe9.txt")).write_text("gone soon")
    with open_store() as store:
        assert _index(store, folder) == 2
        assert _prune(store, folder) == 0
        (folder / os.fsdecode(b"g\xe9.txt")).unlink()
        assert _prune(store, folder) == 1
        assert store.count() == 1


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode there")
def test_a_file_whose_name_is_no_unicode_is_replaced_by_its_new_content(tmp_path: Path) -> None:
    file = tmp_path / "docs" / os.fsdecode(b"n\xe9.png")
    file.parent.mkdir()
    with QdrantPageStore(":memory:", pictures=False) as store:
        added = []
        for colour in ("red", "blue", "blue"):
            Image.new("RGB", (60, 60), colour).save(file, format="PNG")
            report = index_documents(
                file.parent, store=store, embedder=CountingEmbedder(), reader=PageReader(ocr="never"), workers=1
            )
            added.append((report.added, report.removed, report.unchanged))
        assert added == [(1, 0, 0), (1, 1, 0), (0, 0, 1)]
        assert store.count() == 1


def test_prune_takes_a_source_and_leaves_the_others(open_store: Open, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.txt").write_text("the same")
    (tmp_path / "one" / "stays.txt").write_text("stays")
    with open_store() as store:
        _index(store, tmp_path / "one", tmp_path / "two")
        (tmp_path / "one" / "same.txt").unlink()
        assert _prune(store, tmp_path / "one") == 0, "it is still found in the other folder"
        assert _stored(store) == [str(tmp_path / "one" / "stays.txt"), str(tmp_path / "two" / "same.txt")]
        (tmp_path / "two" / "same.txt").unlink()
        assert _prune(store, tmp_path / "one") == 0, "the other folder was not given"
        (tmp_path / "two" / "stays.txt").write_text("too")
        assert _prune(store, tmp_path / "two") == 1


def test_pages_of_an_older_version_are_pruned_too(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(store_documents, "_NOTED_TOGETHER", 2)
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    with open_store() as store:
        _index(store, tmp_path)
        store.add_pages([Page("nowhere", 1, text="of no file")], np.ones((1, 4)))
        ids = [page.id for page in store.scroll() if page.source]
        store._engine.set_payload(ids, {"folders": []}, "visrag")
        (tmp_path / "a.txt").unlink()
        caplog.clear()
        assert _prune(store, tmp_path) == 1
        assert "an older version stored 3 of its pages without their folders" in caplog.text
        caplog.clear()
        (tmp_path / "b.txt").unlink()
        assert _prune(store, tmp_path) == 1
        assert not caplog.text, "they are noted once"
        assert store.count() == 2


def _pages(doc_id: str, count: int, source: str) -> list[Page]:
    return [Page(doc_id, n, text="x", source=source, metadata={"total_pages": count}) for n in range(1, count + 1)]


def test_documents_are_those_of_all_pages(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first page is missing, or does not lie where others do: some of them are read whole then."""
    monkeypatch.setattr(store_documents, "_READ_WHOLE", 3)
    monkeypatch.setattr(store_documents, "_LISTED_TOGETHER", 4)
    with open_store() as store:
        store.prepare(CountingEmbedder())
        expected = set()
        for number in range(12):
            pages = _pages(f"d{number}", 5, f"in/{number}.pdf")
            sources: tuple[str, ...] = (f"in/{number}.pdf",)
            if number == 3:
                pages = pages[2:]  # a run was killed, or the first two failed
            store.add_pages(pages, np.ones((len(pages), 4)))
            if number == 5:
                store.add_pages([_pages("d5", 5, "elsewhere/5.pdf")[4]], np.ones((1, 4)))
                sources = ("in/5.pdf", "elsewhere/5.pdf")
            if number == 6:
                store.add_source("d6", "copy/6.pdf")
                sources = ("in/6.pdf", "copy/6.pdf")
            expected.add((f"d{number}", sources, len(pages), 5))
        found = [(d.doc_id, d.sources, d.pages, d.total_pages) for d in store.documents()]
        assert len(found) == 12
        assert set(found) == expected
        assert store.count_documents() == 12
        some = {(d.doc_id, d.pages) for d in store.documents({"number": {"lte": 3}})}
        assert some == {(f"d{n}", 1 if n == 3 else 3) for n in range(12)}
        assert store.count_documents({"number": {"lte": 2}}) == 11


def test_removed_documents_are_counted_no_more(open_store: Open) -> None:
    with open_store() as store:
        store.prepare(CountingEmbedder())
        for name in ("a", "b"):
            store.add_pages(_pages(name, 3, f"{name}.pdf"), np.ones((3, 4)))
        store.delete(doc_id="a")
        assert store.count_documents() == 1
        assert [document.doc_id for document in store.documents()] == ["b"]


@pytest.mark.parametrize("trouble", ["late", "busy"])
def test_documents_are_listed_where_they_are_too_many_to_be_counted_in_time(
    monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    errors = {
        "late": ResponseHandlingException(httpx.ReadTimeout("timed out")),
        "busy": UnexpectedResponse(500, "", b'{"status": {"error": "Timeout error: too slow"}}', httpx.Headers()),
    }
    asked = []

    def facet(*_: object, **__: object) -> None:
        asked.append(trouble)
        raise errors[trouble]

    monkeypatch.setattr(QdrantClient, "facet", facet)
    monkeypatch.setattr(
        QdrantClient, "count", facet
    )  # what cannot be counted by a key in time is often not counted at all
    monkeypatch.setattr(store_documents, "_READ_WHOLE", 2)  # so few pages are not counted by their documents
    with serving() as server, QdrantPageStore(server.url) as store:
        store.prepare(CountingEmbedder())
        store.add_pages(_pages("a", 3, "a.pdf"), np.ones((3, 4)))
        assert [(document.doc_id, document.pages) for document in store.documents()] == [("a", 3)]
        assert asked == [trouble], "a count that takes too long is not begun again"


def test_documents_may_be_removed_while_they_are_listed(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_documents, "_LISTED_TOGETHER", 2)
    monkeypatch.setattr(store_documents, "_READ_WHOLE", 2)  # else all seven would be read together
    with open_store() as store:
        store.prepare(CountingEmbedder())
        for number in range(7):
            store.add_pages(_pages(f"d{number}", 2, f"{number}.pdf"), np.ones((2, 4)))
        found = []
        for document in store.documents():
            assert store.delete(doc_id=document.doc_id) == 2
            found.append(document.doc_id)
        assert sorted(found) == [f"d{number}" for number in range(7)]
        assert store.count() == 0


def test_few_pages_are_read_together_and_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_documents, "_READ_WHOLE", 5)
    with serving() as server, QdrantPageStore(server.url) as store:
        store.prepare(CountingEmbedder())
        for number in range(3):
            store.add_pages(_pages(f"d{number}", 2, f"{number}.pdf"), np.ones((2, 4)))
        before = len(server.requests)
        assert len(list(store.documents({"number": 1}))) == 3
        assert [request.rpartition("/")[2] for request in server.requests[before:]] == ["scroll"]
        before = len(server.requests)
        assert sorted((each.doc_id, each.pages) for each in store.documents()) == [("d0", 2), ("d1", 2), ("d2", 2)]
        assert [request.rpartition("/")[2] for request in server.requests[before:]][:2] == ["scroll", "facet"]


def test_only_the_given_folders_are_looked_at(tmp_path: Path) -> None:
    """What is stored elsewhere is not read: neither by a run, nor by one that prunes."""
    given = tmp_path / "given"
    given.mkdir()
    for number in range(5):
        (given / f"{number}.txt").write_text(f"note {number}")
    with QdrantPageStore(tmp_path / "index") as store:
        index_documents([given], store=store, embedder=CountingEmbedder(), workers=1, progress=False)
        for number in range(200):
            store.add_pages(_pages(f"other{number}", 3, f"/elsewhere/{number}.pdf"), np.ones((3, 4)))
        read: list[str] = []
        engine: Any = store._engine
        scroll = engine.scroll

        def noting(*asked: Any, **settings: Any) -> Any:
            for record in scroll(*asked, **settings):
                read.append(record.id)
                yield record

        engine.scroll = noting
        (given / "0.txt").unlink()
        try:
            report = index_documents(
                [given], store=store, embedder=CountingEmbedder(), workers=1, progress=False, prune=True
            )
        finally:
            del engine.scroll
        assert (report.unchanged, report.removed) == (4, 1)
        assert len(read) < 50, "the given documents have 5 pages"


def test_a_given_folder_without_documents_proves_nothing(tmp_path: Path) -> None:
    given = GivenSources([tmp_path], measure=False)
    list(given)
    assert not given.folders
    assert not given.gone(str(tmp_path / "a.pdf"))
