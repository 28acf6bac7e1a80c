"""The store follows its files: changed and equal pages, moved, swapped and vanished files; progress and callbacks."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pymupdf
import pytest
from drawing import draw_pdf
from fakes import CountingEmbedder

from visrag_integrations import PageReader, QdrantPageStore, index_documents
from visrag_integrations.cli import main
from visrag_integrations.ingestion import IndexProgress, IndexReport, aindex_documents
from visrag_integrations.types import Failure, Page

READER = PageReader(
    backend="pdfium", ocr="never", max_pixels=200_000
)  # this engine starts faster, small pages are quick
THREE = ["alpha first", "beta second", "gamma third"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QdrantPageStore]:
    with QdrantPageStore(tmp_path / "index") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    draw_pdf(made / "one.pdf", THREE)
    draw_pdf(made / "two.pdf", ["delta alone"])
    return made


def run(store: QdrantPageStore, *sources: Path, **settings: object) -> tuple[IndexReport, list[tuple[str, int]]]:
    """Index, and tell which pages were embedded for it, by file name and number."""
    embedder = CountingEmbedder()
    report = index_documents(list(sources), store=store, embedder=embedder, reader=READER, workers=1, **settings)
    return report, [(Path(source).name, number) for source, number in embedder.embedded]


def counts(report: IndexReport) -> tuple[int, int, int, int]:
    assert report.pages == report.added + report.unchanged
    return report.pages, report.added, report.unchanged, report.removed


def contents(store: QdrantPageStore) -> list[tuple[str, int, str]]:
    return sorted((Path(page.source).name, page.number, page.text.strip()) for page in store.scroll())


def test_of_a_changed_file_only_the_changed_page_is_embedded(store: QdrantPageStore, folder: Path) -> None:
    run(store, folder)
    draw_pdf(folder / "one.pdf", ["alpha first", "delta second", "gamma third"])
    report, embedded = run(store, folder)
    assert embedded == [("one.pdf", 2)]
    assert counts(report) == (4, 1, 3, 1)
    assert (report.embedded, report.failed) == (1, ())
    texts = ["alpha first", "delta second", "gamma third"]
    assert contents(store) == [
        *(("one.pdf", n, text) for n, text in enumerate(texts, 1)),
        ("two.pdf", 1, "delta alone"),
    ]
    vectors = store.get_embeddings([page.id for page in store.scroll({"source": "one.pdf"})])
    assert len(vectors) == 3, "pages that were taken over have their vectors"
    hit = store.search(CountingEmbedder().embed_queries(["gamma"])[0], top_k=1)[0]
    assert (Path(hit.page.source).name, hit.page.number) == ("one.pdf", 3)
    assert hit.page.open_image().size[0] > 300


@pytest.mark.parametrize(
    ("texts", "embedded", "expected"),
    [
        ([*THREE, "delta appended"], [("one.pdf", 4)], (4, 1, 3, 0)),
        (["delta inserted", *THREE], [("one.pdf", 1)], (4, 1, 3, 0)),
        (THREE[:2], [], (2, 0, 2, 1)),
        (THREE[::-1], [], (3, 0, 3, 0)),
        (["delta all", "beta new"], [("one.pdf", 1), ("one.pdf", 2)], (2, 2, 0, 3)),
    ],
    ids=["appended", "inserted", "cut", "reversed", "rewritten"],
)
def test_pages_move_within_their_file(
    store: QdrantPageStore,
    folder: Path,
    texts: list[str],
    embedded: list[tuple[str, int]],
    expected: tuple[int, int, int, int],
) -> None:
    run(store, folder / "one.pdf")
    draw_pdf(folder / "one.pdf", texts)
    report, made = run(store, folder / "one.pdf")
    assert made == embedded
    assert counts(report) == expected
    assert contents(store) == [("one.pdf", number, text) for number, text in enumerate(texts, 1)]


def test_equal_pages_are_embedded_once(store: QdrantPageStore, folder: Path) -> None:
    draw_pdf(folder / "blank.pdf", ["alpha first", *[""] * 7])
    report, embedded = run(store, folder, batch_size=2)
    assert (report.pages, report.added, report.embedded) == (12, 12, 5)
    assert sorted(embedded) == [("blank.pdf", 1), ("blank.pdf", 2), ("one.pdf", 2), ("one.pdf", 3), ("two.pdf", 1)]
    assert len(store.get_embeddings([page.id for page in store.scroll()])) == 12


def test_new_pages_are_there_before_old_ones_go(store: QdrantPageStore, folder: Path) -> None:
    run(store, folder / "one.pdf")
    new = ["delta one", "alpha two"]
    draw_pdf(folder / "one.pdf", new)
    seen: list[set[str]] = []

    def look(_: IndexProgress) -> None:
        seen.append({text for name, _, text in contents(store) if name == "one.pdf"})

    run(store, folder, batch_size=1, on_progress=look)
    assert seen[0] == set(THREE)
    assert seen[-1] == set(new)
    assert all(texts >= set(THREE) or texts >= set(new) for texts in seen)


def test_files_that_swap_their_content_keep_it(store: QdrantPageStore, folder: Path) -> None:
    run(store, folder)
    (folder / "one.pdf").rename(folder / "was one")
    (folder / "two.pdf").rename(folder / "one.pdf")
    (folder / "was one").rename(folder / "two.pdf")
    report, embedded = run(store, folder)
    assert embedded == []
    assert (report.documents, report.pages, report.failed) == (2, 4, ())
    texts = [("one.pdf", 1, "delta alone"), *(("two.pdf", n, text) for n, text in enumerate(THREE, 1))]
    assert contents(store) == texts
    assert all(len(document.sources) == 1 for document in store.documents())


def test_prune_removes_what_is_gone(store: QdrantPageStore, folder: Path) -> None:
    run(store, folder)
    (folder / "two.pdf").rename(folder / "moved.pdf")
    (folder / "one.pdf").unlink()
    report, _ = run(store, folder)
    assert (report.removed, store.count()) == (0, 4), "only when it is asked for"
    report, embedded = run(store, folder, prune=True)
    assert (counts(report), embedded) == ((1, 0, 1, 3), [])
    assert contents(store) == [("moved.pdf", 1, "delta alone")]
    assert [len(document.sources) for document in store.documents()] == [1]


def test_prune_takes_only_what_is_in_reach(store: QdrantPageStore, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    draw_pdf(elsewhere / "far.pdf", ["alpha far"])
    run(store, folder, elsewhere)
    store.add_pages([Page("web", 1, source="https://example.org/gone.pdf")], CountingEmbedder().embed_queries(["web"]))
    shutil.rmtree(elsewhere)  # a disk that is not mounted looks like that
    (folder / "one.pdf").unlink()
    report, _ = run(store, folder / "two.pdf", prune=True)
    assert report.removed == 3, "one.pdf lay beside the given file"
    assert {name for name, _, _ in contents(store)} == {"two.pdf", "far.pdf", "gone.pdf"}


def holding(path: Path, text: str, **inner: bytes) -> Path:
    """A PDF of one page with files inside of it."""
    draw_pdf(path, [text])
    with pymupdf.open(path) as document:
        for name, data in inner.items():
            document.embfile_add(f"{name}.pdf", data, filename=f"{name}.pdf", ufilename=f"{name}.pdf")
        data = document.tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("spelled", ["absolute", "relative", "dotted"])
def test_prune_beside_a_given_file_takes_what_lay_inside_of_a_gone_one(
    store: QdrantPageStore, folder: Path, spelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    start = {"absolute": folder, "relative": Path(), "dotted": Path("../documents")}[spelled]
    inner = draw_pdf(folder / "in.pdf", ["beta inner"]).read_bytes()
    (folder / "in.pdf").unlink()
    holding(folder / "outer.pdf", "alpha outer", inner=inner)
    holding(folder / "kept.pdf", "gamma kept", other=draw_pdf(folder / "x.pdf", ["alpha other"]).read_bytes())
    (folder / "x.pdf").unlink()
    run(store, start / "one.pdf", start / "outer.pdf", start / "kept.pdf")
    before = {text for _, _, text in contents(store)}
    assert {"alpha outer", "beta inner", "gamma kept", "alpha other"} <= before
    (folder / "outer.pdf").unlink()
    report, _ = run(store, start / "one.pdf", prune=True)
    assert report.removed == 2
    assert {text for _, _, text in contents(store)} == before - {"alpha outer", "beta inner"}


def test_what_lay_inside_of_a_gone_file_stays_where_another_holds_it(store: QdrantPageStore, folder: Path) -> None:
    inner = (folder / "two.pdf").read_bytes()
    holding(folder / "a.pdf", "alpha outer", inner=inner)
    holding(folder / "b.pdf", "beta outer", inner=inner)
    (folder / "two.pdf").unlink()
    run(store, folder / "a.pdf", folder / "b.pdf")
    (folder / "a.pdf").unlink()
    report, _ = run(store, folder / "b.pdf", prune=True)
    assert report.removed == 1
    assert "delta alone" in {text for _, _, text in contents(store)}
    (document,) = (document for document in store.documents() if document.pages == 1 and "inner" in document.sources[0])
    assert document.sources == (f"{folder / 'b.pdf'}/inner.pdf",)


def test_an_empty_folder_proves_nothing(store: QdrantPageStore, folder: Path, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    draw_pdf(share / "far.pdf", ["alpha far"])
    run(store, folder, share)
    (share / "far.pdf").unlink()  # a share that is not mounted leaves an empty folder
    (folder / "two.pdf").unlink()
    report, _ = run(store, folder, share, prune=True)
    assert [(failure.source, report.removed) for failure in report.failed] == [(str(share), 1)]
    assert {name for name, _, _ in contents(store)} == {"one.pdf", "far.pdf"}


def test_a_page_that_fails_is_tried_again_alone(store: QdrantPageStore, folder: Path) -> None:
    index_documents([folder], store=store, embedder=CountingEmbedder(refuse="beta"), reader=READER, workers=1)
    report, embedded = run(store, folder)
    assert embedded == [("one.pdf", 2)]
    assert counts(report) == (4, 1, 3, 0)


def test_bytes_are_documents_too(store: QdrantPageStore, folder: Path) -> None:
    data = (folder / "one.pdf").read_bytes()
    report = index_documents([data], store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
    assert (report.pages, report.failed) == (3, ())
    report, _ = run(store, folder, prune=True)
    assert (report.documents, report.removed) == (2, 0)
    (document,) = (document for document in store.documents() if document.pages == 3)
    assert len(document.sources) == 2


def test_callbacks_hear_everything(store: QdrantPageStore, folder: Path) -> None:
    (folder / "zero.pdf").write_bytes(b"")
    heard: list[IndexProgress] = []
    failures: list[Failure] = []
    report, _ = run(store, folder, batch_size=1, on_progress=heard.append, on_failure=failures.append)
    assert tuple(failures) == report.failed
    assert [Path(failure.source).name for failure in failures] == ["zero.pdf"]
    last = heard[-1]
    assert (last.documents, last.pages, last.added, last.failed) == (2, 4, 4, 1)
    assert last.pages_per_second > 0
    assert last.seconds_left == pytest.approx(0.0, abs=0.001)
    assert all(a.added <= b.added and a.seconds <= b.seconds for a, b in itertools.pairwise(heard))


def test_a_callback_can_end_the_run(store: QdrantPageStore, folder: Path) -> None:
    def stop(progress: IndexProgress) -> None:
        if progress.added >= 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(store, folder, batch_size=1, on_progress=stop)
    kept = store.count()
    assert 1 <= kept <= 4
    report, embedded = run(store, folder)
    assert (report.pages, len(embedded)) == (4, 4 - kept)


async def test_the_asynchronous_twin_leaves_the_loop_free(store: QdrantPageStore, folder: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    report = await aindex_documents([folder], store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
    ticking.cancel()
    assert (report.pages, report.added) == (4, 4)
    assert ticks > 3


async def test_cancelling_keeps_what_was_added(store: QdrantPageStore, folder: Path) -> None:
    draw_pdf(folder / "long.pdf", [f"alpha {n}" for n in range(40)])
    first, cancelled = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def heard(progress: IndexProgress) -> None:
        if progress.added and not first.is_set():
            loop.call_soon_threadsafe(first.set)
            cancelled.wait()  # or a slow event loop would let the run end before

    embedder = CountingEmbedder()
    task = asyncio.create_task(
        aindex_documents(
            [folder], store=store, embedder=embedder, reader=READER, workers=1, batch_size=1, on_progress=heard
        )
    )
    await first.wait()
    task.cancel()
    for _ in range(10):  # turns of the loop, in which the task learns of it
        await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = store.count()
    assert kept == len(embedder.embedded) < 44
    report, embedded = run(store, folder)
    assert (report.pages, len(embedded)) == (44, 44 - kept)


def test_prune_from_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    index = ["index", str(folder), "--embedder", "ocr", "--backend", "pdfium", "--workers", "1", "--json", "--quiet"]
    assert main(index) == 0
    (folder / "one.pdf").unlink()
    capsys.readouterr()
    assert main([*index, "--prune"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["documents"], report["pages"], report["removed"], report["failed"]) == (1, 1, 3, [])
    (folder / "two.pdf").unlink()
    assert main([*index, "--prune"]) == 2, "an empty folder is told, and proves nothing"
    report = json.loads(capsys.readouterr().out)
    assert (report["documents"], report["pages"], report["removed"], len(report["failed"])) == (0, 0, 0, 1)
