"""What is shown while documents are indexed: a clock that runs, what was read and stored, and how much there is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from drawing import draw_pdf

from visrag_integrations import QdrantPageStore, index_documents, load_embedder
from visrag_integrations.ingestion import IndexProgress
from visrag_integrations.ingestion import progress as room
from visrag_integrations.readers import PageReader
from visrag_integrations.types import Page


def page(doc_id: str, number: int, total: int) -> Page:
    return Page(doc_id, number, source=f"{doc_id}.pdf", metadata={"total_pages": total})


def test_the_total_is_the_sum_of_the_documents_once_all_are_opened() -> None:
    reading = room.Reading(documents=3)
    assert (reading.expected, reading.all_opened) == (0, False)
    reading.page(page("a", 1, 33))
    reading.page(page("a", 2, 33))
    assert (reading.pages, reading.expected, reading.document, reading.all_opened) == (2, 33, "a.pdf", False)
    reading.page(page("b", 1, 5))
    reading.end("", 0)  # the third cannot be opened
    assert (reading.expected, reading.all_opened) == (38, True)
    reading.end("b", 4)  # one of its pages failed
    reading.end("a", 33)
    assert (reading.expected, reading.all_opened) == (37, True)


def test_where_nobody_knows_how_many_documents_come_the_total_is_never_final() -> None:
    reading = room.Reading(documents=None)
    reading.page(page("a", 1, 1))
    reading.end("a", 1)
    assert not reading.all_opened


@pytest.mark.parametrize("total", [None, "12", 0, -1])
def test_a_document_that_does_not_say_how_long_it_is(total: object) -> None:
    reading = room.Reading(documents=1)
    reading.page(Page("a", 1, metadata={"total_pages": total}))
    assert reading.expected <= 0
    reading.end("a", 7)
    assert reading.expected == 7


def test_the_clock_runs_while_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "_TICK", 0.001)
    bar = room.ProgressBar(None, True, documents=2)
    drawn, enough = [], threading.Event()
    refresh = bar._bar.refresh

    def count() -> None:
        refresh()
        drawn.append(bar._bar.desc)
        if len(drawn) >= 5:
            enough.set()

    bar._bar.refresh = count
    assert enough.wait(60)  # nobody calls the bar here
    bar.reading.page(page("a", 1, 33))
    bar.show(0, 0, 0, 0)
    assert bar._bar.desc == "Indexing a.pdf"
    assert (bar._bar.n, bar._bar.total, bar._bar.unit, bar._bar.postfix) == (0, 33, "+ pages", "1 read")
    bar.reading.end("a", 33)
    bar.reading.page(page("b", 1, 5))
    bar.show(1, 33, 33, 0)
    assert (bar._bar.n, bar._bar.total, bar._bar.unit) == (33, 38, " pages")
    bar.close()
    assert "visrag-progress" not in {thread.name for thread in threading.enumerate()}
    assert "33/38 pages" in capsys.readouterr().err


def test_a_name_that_is_long_or_no_text_does_not_break_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    bar = room.ProgressBar(None, True, documents=1)
    bar.reading.page(Page("a", 1, source="x/" * 100 + "a\x1b[2J\nb.pdf"))
    bar.show(0, 0, 0, 0)
    bar.close()
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said
    assert "b.pdf" in said
    assert len(bar._bar.desc) < 60


def test_a_run_says_what_it_reads(tmp_path: Path) -> None:
    draw_pdf(tmp_path / "a.pdf", ["The harbour holds forty boats.", "Anchors are heavy.", "Ropes are long."])
    draw_pdf(tmp_path / "b.pdf", ["Bake the loaf for fifty minutes."])
    (tmp_path / "c.pdf").write_bytes(b"no document")
    heard: list[IndexProgress] = []
    embedder = load_embedder("ocr")
    with QdrantPageStore(":memory:") as store:
        report = index_documents(
            tmp_path, store=store, embedder=embedder, workers=1, batch_size=1, on_progress=heard.append
        )
        assert (report.added, len(report.failed)) == (4, 1)
        last = heard[-1]
        assert (last.read, last.expected, last.all_opened) == (4, 4, True)
        assert {Path(progress.document).name for progress in heard if progress.document} == {"a.pdf", "b.pdf"}
        assert all(progress.read >= progress.added for progress in heard)

        # What is there already is not read, and not counted.
        heard.clear()
        index_documents(tmp_path, store=store, embedder=embedder, workers=1, on_progress=heard.append)
        assert (heard[-1].read, heard[-1].expected, heard[-1].all_opened) == (0, 0, True)


def test_the_first_pages_only(tmp_path: Path) -> None:
    draw_pdf(tmp_path / "a.pdf", ["One.", "Two.", "Three."])
    heard: list[IndexProgress] = []
    embedder = load_embedder("ocr")
    with QdrantPageStore(":memory:") as store:
        reader = PageReader(max_pages=2)
        index_documents(tmp_path, store=store, embedder=embedder, reader=reader, workers=1, on_progress=heard.append)
    assert (heard[-1].read, heard[-1].expected) == (2, 2)
