"""Everything that can break while documents are indexed, and that a second run makes it good."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crashing_reader import CrashingReader
from drawing import draw_pdf
from fake_qdrant import serving
from fakes import CountingEmbedder

from visrag_integrations import Page, PageReader, QdrantPageStore, index_documents
from visrag_integrations.errors import SettingError, StoreError, StoreLockedError
from visrag_integrations.ingestion import Retry
from visrag_integrations.readers.process import WorkerProcess

TESTS = Path(__file__).parent
READER = PageReader(backend="pdfium", ocr="never", max_pixels=100_000)  # small pages are quick
QUICK = Retry(limit=5, first_wait=0.01)


def draw_documents(folder: Path, count: int) -> Path:
    """So many documents of eight pages."""
    for n in range(count):
        draw_pdf(folder / f"{n}.pdf", [f"alpha beta {n} {page}" for page in range(8)])
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two documents, 16 pages."""
    return draw_documents(tmp_path_factory.mktemp("drawn"), 2)


@pytest.fixture(scope="module")
def whole(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed run makes of them."""
    return undisturbed(drawn, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "documents")


def index(folder: Path, store: QdrantPageStore, embedder: Any = None, **settings: Any) -> Any:
    embedder = embedder or CountingEmbedder()
    settings = {"reader": READER, "workers": 1, "batch_size": 4, "retry": QUICK} | settings
    return index_documents([folder], store=store, embedder=embedder, **settings)


def contents(store: QdrantPageStore) -> dict[str, Any]:
    """Everything that a collection holds of its pages."""
    pages = {page.id: page for page in store.scroll()}
    vectors = store.get_embeddings(list(pages))
    return {
        id_: (Path(page.source).name, page.number, page.text, dict(page.metadata), vectors[id_].round(5).tolist())
        for id_, page in pages.items()
    }


def undisturbed(folder: Path, tmp_path: Path) -> dict[str, Any]:
    with QdrantPageStore(tmp_path / "undisturbed") as store:
        assert index(folder, store).failed == ()
        return contents(store)


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from fakes import CountingEmbedder
from visrag_integrations import PageReader, QdrantPageStore, index_documents
import visrag_integrations.store.edge, qdrant_edge, visrag_integrations.ingestion.pipeline

notes = Path({notes!r})

class Noting(CountingEmbedder):
    def embed_pages(self, pages):
        pages = list(pages)
        with open(notes / "embedded", "a") as embedded:
            embedded.writelines(page.id + "\\n" for page in pages)
        while (notes / "hold").exists():
            time.sleep(0.005)
        time.sleep(0.01 * len(pages))
        return super().embed_pages(pages)

def on_progress(progress):
    (notes / f"added {{progress.added}}").touch()

print("ready", flush=True)
with QdrantPageStore({index!r}) as store:
    reader = PageReader(backend="pdfium", ocr="never", max_pixels=100_000)
    settings = dict(reader=reader, workers=1, batch_size=4, on_progress=on_progress)
    index_documents({folder!r}, store=store, embedder=Noting(), **settings)
"""


def start_child(index: Path, folder: Path, notes: Path) -> subprocess.Popen[str]:
    """A run in a process of its own; in `notes` it says what it embeds and how much it added."""
    notes.mkdir(exist_ok=True)
    (notes / "embedded").touch()
    code = CHILD.format(tests=str(TESTS), index=str(index), folder=str(folder), notes=str(notes))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def embedded_by(notes: Path) -> list[str]:
    return (notes / "embedded").read_text().split()


def added_by(notes: Path) -> int:
    return max((int(note.name.split()[1]) for note in notes.glob("added *")), default=0)


def stored_in(where: Path) -> set[str]:
    if not where.exists():
        return set()
    with QdrantPageStore(where) as store:
        return {page.id for page in store.scroll()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_twenty_moments(tmp_path: Path) -> None:
    """Half of the kills wait for pages that are embedded, half for pages that are durable: so there is always progress,
    however slow the machine is, and whole runs end between the kills."""
    (tmp_path / "documents").mkdir()
    folder = draw_documents(tmp_path / "documents", 8)
    whole = undisturbed(folder, tmp_path)
    moments = random.Random(0)
    where, finished, stored_when_killed = tmp_path / "index", 0, []
    for kill in range(20):
        durable = stored_in(where)
        notes = tmp_path / f"notes {kill}"
        with start_child(where, folder, notes) as child:
            wanted = moments.randrange(15) if kill % 2 else moments.randrange(8, 20)
            while child.poll() is None:
                if (len(embedded_by(notes)) if kill % 2 else added_by(notes)) >= wanted:
                    break
                time.sleep(0.005)
            time.sleep(moments.uniform(0.0, 0.04))
            child.kill()
        assert not durable & set(embedded_by(notes)), "what was durable is not embedded again"
        stored_when_killed.append(len(durable))
        if child.returncode == 0 or (len(durable) == len(whole) and kill < 19):
            finished += 1
            shutil.rmtree(where)
    durable = stored_in(where)
    with QdrantPageStore(where) as store:
        embedder = CountingEmbedder()
        report = index(folder, store, embedder)
        assert (report.pages, report.failed) == (64, ())
        assert len(embedder.embedded) == 64 - len(durable)
        assert contents(store) == whole
    assert finished > 0, "the kills were spread over whole runs"
    assert any(0 < stored < 64 for stored in stored_when_killed)


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where hanging readers leave their ids: the time of a page is over when its reader hangs, and never before."""
    made = tmp_path / "hangs"
    made.mkdir()
    receive = WorkerProcess.receive

    def patient(self: WorkerProcess, timeout: float) -> tuple[Any, ...]:
        with contextlib.suppress(OSError, AttributeError):  # it ended meanwhile, which `receive` says
            while not self._connection.poll(0.02):  # type: ignore[union-attr]
                if (made / str(self._process.pid)).exists():  # type: ignore[union-attr]
                    return receive(self, 0.0)
        return receive(self, timeout)

    monkeypatch.setattr(WorkerProcess, "receive", patient)
    return made


def test_a_worker_that_crashes_or_hangs_costs_its_page(tmp_path: Path, folder: Path, hangs: Path) -> None:
    draw_pdf(folder / "crash-2.pdf", ["alpha", "beta", "gamma"])
    draw_pdf(folder / "hang-1.pdf", ["delta"])
    reader = CrashingReader(backend="pdfium", ocr="never", max_pixels=100_000, hangs=hangs)
    with QdrantPageStore(tmp_path / "index") as store:
        report = index(folder, store, reader=reader)
        assert (report.documents, report.pages) == (3, 18)
        assert sorted((Path(f.source).name, f.page) for f in report.failed) == [("crash-2.pdf", 2), ("hang-1.pdf", 1)]
        assert any("took longer than" in failure.error for failure in report.failed)
        assert list(hangs.iterdir()), "it did hang"
        embedder = CountingEmbedder()
        assert index(folder, store, embedder).added == 2
        assert sorted((Path(source).name, n) for source, n in embedder.embedded) == [
            ("crash-2.pdf", 2),
            ("hang-1.pdf", 1),
        ]


class Small(CountingEmbedder):
    """Has memory for two pages at a time, and for none that says "huge"."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.sizes = error, []

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        pages = list(pages)
        self.sizes.append(len(pages))
        if len(pages) > 2 or any("huge" in page.text for page in pages):
            raise self.error
        return super().embed_pages(pages)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_an_embedder_out_of_memory_gets_less(tmp_path: Path, folder: Path, error: Exception) -> None:
    draw_pdf(folder / "huge.pdf", ["alpha", "huge"])
    embedder = Small(error)
    with QdrantPageStore(tmp_path / "index") as store:
        report = index(folder, store, embedder, batch_size=8)
        assert report.pages == 17
        (failure,) = report.failed
        assert (Path(failure.source).name, failure.page) == ("huge.pdf", 2)
        assert embedder.sizes.count(8) == 1, "after the first time it gets no more than it can take"


class Breaking(CountingEmbedder):
    """Breaks from the nth page on, or makes nonsense of it."""

    def __init__(self, after: int, nonsense: Any = None) -> None:
        super().__init__()
        self.after, self.nonsense = after, nonsense

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        pages = list(pages)
        broken = len(self.embedded) + len(pages) > self.after
        if broken and self.nonsense is None:
            raise ConnectionResetError("the device is gone")
        vectors: list[Any] = super().embed_pages(pages)
        if self.nonsense is not None:
            vectors = [self.nonsense if p.number == 3 else v for p, v in zip(pages, vectors, strict=True)]
        return vectors


def test_a_dead_embedder_ends_the_run_and_nothing_is_lost(tmp_path: Path, folder: Path, whole: dict[str, Any]) -> None:
    broken = Breaking(after=8)
    with QdrantPageStore(tmp_path / "index") as store:
        with pytest.raises(ConnectionResetError, match="the device is gone"):
            index(folder, store, broken)
        kept = store.count()
        assert kept == len(broken.embedded) == 8
        embedder = CountingEmbedder()
        index(folder, store, embedder)
        assert len(embedder.embedded) == 16 - kept
        assert contents(store) == whole


@pytest.mark.parametrize("nonsense", [np.full(4, np.nan), np.zeros(7)], ids=["not a number", "another dimension"])
def test_a_nonsense_vector_is_reported_by_page(tmp_path: Path, folder: Path, nonsense: np.ndarray) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        report = index(folder, store, Breaking(after=0, nonsense=nonsense))
        assert report.pages == store.count() == 14
        assert {failure.page for failure in report.failed} == {3}
        assert len(report.failed) == 2
        assert index(folder, store).added == 2


FAULTS = ("refused", "429", "503", "slow", "cut", "twice", "lost")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_every_third_time(folder: Path, whole: dict[str, Any], fault: str) -> None:
    slow_ones = itertools.count()

    def plan(number: int, method: str, path: str) -> str | None:
        writes = method == "PUT" and path.endswith("/points")
        if fault == "slow":
            return "slow" if writes and next(slow_ones) == 1 else None
        return fault if number % 3 == 0 else None

    # Only the slow answer must time out. On a busy machine others may too: they are tried as often as it takes.
    timeout, retry = (1, Retry(limit=100, first_wait=0.01, longest_wait=0.1)) if fault == "slow" else (60, QUICK)
    with serving(plan) as server, QdrantPageStore(server.url, timeout=timeout) as store:
        server.slow = 1.5
        embedder = CountingEmbedder()
        report = index(folder, store, embedder, retry=retry)
        assert (report.pages, report.failed, len(embedder.embedded)) == (16, (), 16)
        assert server.faults[fault] >= 1
        server.plan = lambda *_: None
        assert contents(store) == whole


def test_a_server_that_stays_away_is_an_error_and_the_run_goes_on_later(folder: Path, whole: dict[str, Any]) -> None:
    with serving() as server, QdrantPageStore(server.url, timeout=60) as store:
        server.plan = lambda _, method, path: (
            "503" if sum("PUT /collections/pages/points" in r for r in server.requests) > 3 else None
        )
        with pytest.raises(StoreError, match=r"failed 5 times.*run the same again") as raised:
            index(folder, store)
        assert server.url in str(raised.value)
        server.plan = lambda *_: None
        kept = store.count()
        assert 0 < kept < 16
        embedder = CountingEmbedder()
        index(folder, store, embedder)
        assert len(embedder.embedded) == 16 - kept
        assert contents(store) == whole


def test_what_does_not_pass_is_not_tried_again(folder: Path) -> None:
    with serving() as server, QdrantPageStore(server.url, timeout=60) as store:
        index(folder, store)
        before = len(server.requests)
        server.plan = lambda *_: "400"
        with pytest.raises(StoreError, match="400"):
            index(folder, store)
        assert len(server.requests) == before + 1
    with pytest.raises(SettingError, match="limit must be 1 or more"):
        Retry(limit=0)


class FullDisk:
    """Keeps pictures until there is no more room."""

    def __init__(self, files: Any, room: int) -> None:
        self.files, self.room = files, room

    def save(self, data: bytes, reference: str) -> None:
        if self.room == 0:
            raise StoreError("The picture cannot be written: [Errno 28] No space left on device.")
        self.room -= 1
        self.files.save(data, reference)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.files, name)


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(tmp_path: Path, folder: Path, whole: dict[str, Any]) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        files = store._pictures.files
        store._pictures.files = FullDisk(files, 10)
        with pytest.raises(StoreError, match="No space left"):
            index(folder, store)
        kept = store.count()
        assert kept == 8, "two batches of four"
        store._pictures.files = files
        embedder = CountingEmbedder()
        index(folder, store, embedder)
        assert len(embedder.embedded) == 16 - kept
        assert contents(store) == whole


def test_two_indexers_on_one_folder(tmp_path: Path, folder: Path, whole: dict[str, Any]) -> None:
    where, notes = tmp_path / "index", tmp_path / "notes"
    notes.mkdir()
    (notes / "hold").touch()  # the first one waits with its first batch until the second was refused
    with start_child(where, folder, notes) as child:
        while not embedded_by(notes) and child.poll() is None:
            time.sleep(0.01)
        with pytest.raises(StoreLockedError, match=f"process {child.pid}"):
            QdrantPageStore(where)
        (notes / "hold").unlink()
        assert child.wait() == 0, "the first one is not disturbed"
    with QdrantPageStore(where) as store:
        assert contents(store) == whole


def test_two_indexers_in_one_process(tmp_path: Path, folder: Path, whole: dict[str, Any]) -> None:
    reports = []

    def work() -> None:
        with QdrantPageStore(tmp_path / "index") as store:
            reports.append(index(folder, store))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(report.pages, report.failed) for report in reports] == [(16, ())] * 2
    with QdrantPageStore(tmp_path / "index") as store:
        assert contents(store) == whole


class Meddling(CountingEmbedder):
    """Does something to the files when it embeds for the first time."""

    def __init__(self, meddle: Any) -> None:
        super().__init__()
        self.meddle = meddle

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        if not self.embedded:
            self.meddle()
        return super().embed_pages(pages)


@pytest.mark.parametrize("vanishes", [False, True], ids=["rewritten", "removed"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, folder: Path, vanishes: bool) -> None:
    path = draw_pdf(folder / "0.pdf", [f"gamma {n}" for n in range(30)])

    def meddle() -> None:
        if vanishes:
            path.unlink()
        else:
            draw_pdf(tmp_path / "new.pdf", ["delta"]).replace(path)

    with QdrantPageStore(tmp_path / "index") as store:
        report = index(folder, store, Meddling(meddle))
        assert {failure.source for failure in report.failed} == {str(path)}, "pages may have failed too"
        assert any("changed while it was read" in failure.error for failure in report.failed)
        assert report.pages == store.count() == 8
        assert index(folder, store, prune=True).added == (0 if vanishes else 1)
        assert contents(store) == undisturbed(folder, tmp_path)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())  # other tests' embedders

    def left() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("visrag-") and t not in before]

    yield
    deadline = time.monotonic() + 60
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left()
