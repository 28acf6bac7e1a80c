"""A reading process that goes from one call to the next: when it does, when it must not, and how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crashing_reader import CrashingReader
from drawing import draw_pdf

from visrag_integrations.readers import PageReader, ReaderPool, messages, worker
from visrag_integrations.readers.events import DocumentDone, PageRead
from visrag_integrations.readers.kept import KEPT, KeptProcess
from visrag_integrations.readers.schedule import Chunk, Job, Schedule
from visrag_integrations.readers.sources import identify
from visrag_integrations.readers.started import StartedProcess

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes as on Linux and macOS")
READER = PageReader(ocr="never", max_pixels=40_000)


@pytest.fixture
def kept() -> KeptProcess:
    made = KeptProcess()
    yield made
    made.close()


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    draw_pdf(tmp_path / "a.pdf", ["The harbour holds forty boats.", "Anchors are heavy."])
    return tmp_path / "a.pdf"


def read(kept: KeptProcess, *paths: Path, reader: PageReader = READER) -> list[str]:
    """Read with one process; the texts of the pages."""
    events = list(ReaderPool(reader, 1, 60.0, kept=kept).read_documents(paths))
    return [event.page.text.strip() for event in events if isinstance(event, PageRead)]


def idle(kept: KeptProcess) -> int | None:
    """The id of the process that waits."""
    return None if kept._idle is None else kept._idle.process.pid


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_calls_that_follow_one_another_read_in_one_process(kept: KeptProcess, pdf: Path, tmp_path: Path) -> None:
    texts = ["The harbour holds forty boats.", "Anchors are heavy."]
    assert read(kept, pdf) == texts
    first = idle(kept)
    assert first is not None
    draw_pdf(tmp_path / "b.pdf", ["Ropes are wet."])
    assert read(kept, tmp_path / "b.pdf", pdf) == ["Ropes are wet.", *texts]
    assert idle(kept) == first


def test_one_that_was_started_early_is_taken(kept: KeptProcess, pdf: Path) -> None:
    kept.start_early()
    early = idle(kept)
    kept.start_early()  # one is enough
    assert idle(kept) == early
    assert len(read(kept, pdf)) == 2
    assert idle(kept) == early


@pytest.mark.parametrize("change", ["password", "pixels", "variable", "folder"])
def test_it_reads_for_nobody_with_other_settings(
    kept: KeptProcess, pdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    read(kept, pdf)
    first = idle(kept)
    reader = {"password": PageReader(ocr="never", max_pixels=40_000, password="x"), "pixels": PageReader(ocr="never")}
    if change == "variable":
        monkeypatch.setenv("VISRAG_TEST_VARIABLE", "other")
    if change == "folder":
        monkeypatch.chdir(tmp_path)
    assert len(read(kept, pdf, reader=reader.get(change, READER))) == 2
    assert idle(kept) not in (None, first)
    assert is_gone(first or 0)


@pytest.mark.parametrize("what", ["unreadable", "office", "own class", "closed early"])
def test_it_is_not_kept_after(kept: KeptProcess, pdf: Path, tmp_path: Path, what: str) -> None:
    reader = READER
    other = tmp_path / "other.pdf"
    other.write_bytes(pdf.read_bytes()[:300])  # begins as a PDF, so that the engine is asked
    if what == "office":
        other = tmp_path / "other.txt"
        other.write_text("Sails are white.")
    if what == "own class":
        other, reader = pdf, CrashingReader(ocr="never")
    events = ReaderPool(reader, 1, 60.0, kept=kept).read_documents([pdf, other])
    if what == "closed early":
        next(events)
        events.close()
    else:
        assert sum(isinstance(event, DocumentDone) for event in events) == (1 if what == "unreadable" else 2)
    assert idle(kept) is None


def test_what_a_document_leaves_in_its_folder_ends_it(kept: KeptProcess, pdf: Path) -> None:
    read(kept, pdf)
    started = kept._take()
    assert started is not None
    (started.folder.path / "left").write_text("of a document")
    started.connection.send_bytes(started.setup)
    assert messages.receive(started.connection) == ("ready",)
    assert not started.rests()
    started.end()


def test_one_whose_folder_was_removed_is_not_kept_and_no_error(kept: KeptProcess, pdf: Path) -> None:
    """As by a system that removes temporary files by their age."""
    read(kept, pdf)
    assert kept._idle is not None
    folder = kept._idle.folder.path
    for event in ReaderPool(READER, 1, 60.0, kept=kept).read_documents([pdf]):
        if isinstance(event, DocumentDone):
            shutil.rmtree(folder)
    assert idle(kept) is None


def test_pages_of_all_calls_count(monkeypatch: pytest.MonkeyPatch, pdf: Path) -> None:
    monkeypatch.setattr(worker, "_MOST_PAGES", 3)
    monkeypatch.setattr(worker, "peak_memory", lambda: 0)
    monkeypatch.setattr(worker._Worker, "pages_read", 0)
    said = []
    for _ in range(2):
        reading = worker._Worker(None, READER, 60.0, None)  # type: ignore[arg-type]
        for number in (1, 2):
            assert reading._page_reply(identify(pdf, max_bytes=1 << 20), None, number)[0] == "page"
        said.append(reading.rest())
    assert said == [True, False]


def test_an_engine_that_cannot_be_imported_keeps_no_process_from_starting(tmp_path: Path) -> None:
    (tmp_path / "pymupdf.py").write_text("raise OSError('its library is not of this system')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); " + (
        "from visrag_integrations.readers.worker import _import_engines; _import_engines(); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "goes on"


def test_one_that_died_while_it_waited_costs_no_page(kept: KeptProcess, pdf: Path) -> None:
    read(kept, pdf)
    first = idle(kept)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert len(read(kept, pdf)) == 2  # whether its death is seen already or only when it is asked
    assert idle(kept) not in (None, first)


def test_two_calls_at_once_have_a_process_each(kept: KeptProcess, pdf: Path) -> None:
    read(kept, pdf)
    one = ReaderPool(READER, 1, 60.0, kept=kept).read_documents([pdf])
    next(one)
    assert len(read(kept, pdf)) == 2
    assert sum(isinstance(event, PageRead) for event in one) == 1
    assert idle(kept) is not None  # of two that come back one is kept


def test_it_ends_when_nobody_comes() -> None:
    kept = KeptProcess(idle_seconds=0.01)
    started = StartedProcess.start()
    kept.put(started)
    until(lambda: started.process.poll() is not None and not started.folder.path.exists())
    assert idle(kept) is None


def test_a_fork_leaves_it_to_its_parent(pdf: Path) -> None:
    """Also: it ends with its parent while a fork of that lives on."""
    script = """
import os, sys, time
from visrag_integrations.readers.kept import KEPT
KEPT.start_early()
pid = KEPT._idle.process.pid
child = os.fork()
if not child:
    assert KEPT._idle is None
    KEPT.close()
    os.close(1)
    time.sleep(600)
print(pid, child, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], stdout=subprocess.PIPE, text=True)
    reading, child = map(int, done.stdout.split())
    try:
        assert not is_gone(child)
        until(lambda: is_gone(reading))
    finally:
        os.kill(child, signal.SIGKILL)


SCRIPT = """
import os, sys
from visrag_integrations import QdrantPageStore, index_documents, load_embedder
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.kept import KEPT
with QdrantPageStore(":memory:") as store:
    report = index_documents(
        sys.argv[1], store=store, embedder=load_embedder("ocr"), reader=PageReader(ocr="never"), workers=1
    )
print(report.added, KEPT._idle.process.pid, KEPT._idle.folder.path, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_it_ends_with_the_program(pdf: Path, how: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(pdf), how], stdout=subprocess.PIPE, text=True)
    added, pid, folder = done.stdout.split()
    assert added == "2"
    until(lambda: is_gone(int(pid)))
    if how == "ended":
        assert not Path(folder).exists()


def test_index_documents_keeps_one(pdf: Path) -> None:
    from visrag_integrations import QdrantPageStore, index_documents, load_embedder

    pids: set[int | None] = set()
    for _ in range(2):
        with QdrantPageStore(":memory:") as store:
            index_documents(pdf, store=store, embedder=load_embedder("ocr"), reader=READER, workers=1)
        pids.add(idle(KEPT))
    assert len(pids) == 1
    assert None not in pids


def test_reading_needs_no_model_of_layouts() -> None:
    script = """
import sys
from visrag_integrations.readers.worker import _import_engines
_import_engines()
assert "pymupdf" in sys.modules
print(sorted({"onnxruntime", "pymupdf.layout", "pymupdf4llm"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_more_process_is_started_where_it_pays() -> None:
    job = Job(None)
    schedule = Schedule(limit=9)
    schedule.add(job)
    assert schedule.take() == (job, None)
    schedule.opened(job, 20, [Chunk(list(range(1, 21)))])
    assert schedule.needs_another(patience=600.0, many=20), "as much as that waits"
    schedule.begin()
    assert schedule.needs_another(patience=0.01, many=1000), "it has waited so long"
    assert schedule.take() is not None
    schedule.close()
    assert not schedule.needs_another(patience=0.0, many=1), "there is nothing to do"
