"""Reading in processes: in order, isolated, bounded, gone when they should be."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest
from crashing_reader import CrashingReader
from PIL import Image

from visrag_integrations import images
from visrag_integrations.errors import SettingError
from visrag_integrations.readers import PageReader, ReaderPool
from visrag_integrations.readers.events import DocumentDone, DocumentFailed, PageFailed, PageRead, ReaderEvent
from visrag_integrations.readers.process import WorkerProcess

PIXELS = 40_000


def draw(path: Path, pages: int) -> Path:
    with pymupdf.open() as document:
        for number in range(1, pages + 1):
            document.new_page(width=200, height=200).insert_text((20, 50), f"page {number} of {path.name}")
        document.save(path)
    return path


def summary(events: list[ReaderEvent]) -> list[tuple[str, object]]:
    """Each event as (what, where), to compare with a list written by hand."""
    told: list[tuple[str, object]] = []
    for event in events:
        if isinstance(event, PageRead):
            told.append((Path(event.page.source).name, event.page.number))
        elif isinstance(event, DocumentDone):
            told.append((Path(event.source).name, "done"))
        else:
            told.append((Path(event.failure.source).name, ("failed", event.failure.page)))
    return told


def run(reader: PageReader, paths: list[Path], *, workers: int = 1, timeout: float = 30.0) -> list[ReaderEvent]:
    return list(ReaderPool(reader, workers=workers, page_timeout=timeout).read_documents(paths))


def crashing(**settings: object) -> CrashingReader:
    return CrashingReader(max_pixels=PIXELS, ocr="never", **settings)


@pytest.mark.parametrize("workers", [1, 3])
def test_pages_come_in_order_and_as_the_reader_reads_them(tmp_path: Path, workers: int) -> None:
    paths = [draw(tmp_path / "long.pdf", 30), draw(tmp_path / "short.pdf", 1), draw(tmp_path / "third.pdf", 5)]
    reader = PageReader(max_pixels=PIXELS, ocr="never")
    events = run(reader, paths, workers=workers)
    expected = [
        (path.name, place) for path, n in zip(paths, (30, 1, 5), strict=True) for place in [*range(1, n + 1), "done"]
    ]
    assert summary(events) == expected
    pages = [event.page for event in events if isinstance(event, PageRead)]
    for page, same in zip(pages, reader.read(paths), strict=True):
        assert page == same  # text, words, metadata; pictures are compared next
        assert page.picture == images.encode(same.open_image())
    assert [event.pages for event in events if isinstance(event, DocumentDone)] == [30, 1, 5]


def test_documents_of_this_machine_need_no_folder_for_fetched_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a second run, which finds every document in its store, writes nothing at all."""
    path = draw(tmp_path / "a.pdf", 1)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = folder.stat().st_mtime_ns
    pool = ReaderPool(PageReader(), workers=1)
    assert summary(list(pool.read_documents([path], known=lambda _: None))) == [("a.pdf", "done")]
    assert folder.stat().st_mtime_ns == before


@pytest.mark.parametrize(("how", "why"), [("crash", "SIGABRT"), ("exit", "exit code 3")])
def test_a_page_that_crashes_is_reported_and_the_rest_is_read(tmp_path: Path, how: str, why: str) -> None:
    paths = [draw(tmp_path / f"{how}-2.pdf", 3), draw(tmp_path / "good.pdf", 1)]
    events = run(crashing(), paths)
    bad = f"{how}-2.pdf"
    assert summary(events) == [
        (bad, 1),
        (bad, ("failed", 2)),
        (bad, 3),
        (bad, "done"),
        ("good.pdf", 1),
        ("good.pdf", "done"),
    ]
    (failed,) = [event for event in events if isinstance(event, PageFailed)]
    assert why in failed.failure.error


def test_a_page_that_crashes_one_engine_is_read_by_the_other(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    events = run(crashing(only="pymupdf"), [draw(tmp_path / "crash-2.pdf", 3)])
    assert summary(events) == [("crash-2.pdf", place) for place in (1, 2, 3, "done")]
    events = run(crashing(only="pymupdf"), [draw(tmp_path / "crash-open.pdf", 2)])
    assert summary(events) == [("crash-open.pdf", place) for place in (1, 2, "done")]


def test_a_page_that_hangs_is_given_up_after_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    receive = WorkerProcess.receive

    def after_the_hang_began(process: WorkerProcess, timeout: float) -> object:
        """The limit counts once the page hangs, however long a busy machine takes to get there or to read others."""
        assert process._connection is not None
        while not process._connection.poll(0.05) and not any(hanging.iterdir()):
            pass
        for note in hanging.iterdir():
            note.unlink(missing_ok=True)
        return receive(process, timeout)

    monkeypatch.setattr(WorkerProcess, "receive", after_the_hang_began)
    paths = [draw(tmp_path / "hang-1.pdf", 2), draw(tmp_path / "good.pdf", 1)]
    events = run(crashing(hangs=hanging), paths, timeout=1.0)
    assert summary(events)[:3] == [("hang-1.pdf", ("failed", 1)), ("hang-1.pdf", 2), ("hang-1.pdf", "done")]
    assert summary(events)[3:] == [("good.pdf", 1), ("good.pdf", "done")]
    assert "longer than 1 seconds" in events[0].failure.error


def test_a_document_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.pdf").write_bytes(b"rubbish")
    paths = [
        draw(tmp_path / "crash-open.pdf", 1),
        tmp_path / "bad.pdf",
        tmp_path / "gone.pdf",
        draw(tmp_path / "good.pdf", 1),
    ]
    events = run(crashing(), paths, workers=2)
    failures = [event.failure for event in events if isinstance(event, DocumentFailed)]
    assert [Path(failure.source).name for failure in failures] == ["crash-open.pdf", "bad.pdf", "gone.pdf"]
    assert "SIGABRT" in failures[0].error
    assert summary(events)[3:] == [("good.pdf", 1), ("good.pdf", "done")]


def test_a_document_that_only_crashes_is_given_up(tmp_path: Path) -> None:
    events = run(crashing(), [draw(tmp_path / "crash-all.pdf", 9)])
    failures = [event.failure for event in events if isinstance(event, PageFailed)]
    assert [failure.page for failure in failures] == list(range(1, 10))
    assert sum("SIGABRT" in failure.error for failure in failures) == 3
    assert "3 other pages" in failures[-1].error


def test_what_is_known_is_not_read_again(tmp_path: Path) -> None:
    paths = [draw(tmp_path / "half.pdf", 4), draw(tmp_path / "crash-open.pdf", 2)]  # the second is never opened
    answers: list[object] = [{1, 3}, None]
    asked: list[str] = []

    def known(doc_id: str) -> set[int] | None:
        asked.append(doc_id)
        return answers[len(asked) - 1]

    events = list(ReaderPool(crashing(), workers=2).read_documents(paths, known=known))
    assert summary(events) == [("half.pdf", 2), ("half.pdf", 4), ("half.pdf", "done"), ("crash-open.pdf", "done")]
    assert [(e.doc_id, e.total_pages, e.pages) for e in events if isinstance(e, DocumentDone)] == [
        (asked[0], 4, 2),
        (asked[1], None, 0),
    ]


def test_readers_run_ahead_only_so_far(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    path = draw(tmp_path / "long.pdf", 400)
    events = ReaderPool(crashing(notes=notes), workers=1).read_documents([path])
    next(events)
    until(lambda: len(list(notes.iterdir())) > 16)  # the first chunk has no more room
    still_at_rest(lambda: len(list(notes.iterdir())))
    assert len(list(notes.iterdir())) <= 60
    assert len(list(events)) == 400
    assert len(list(notes.iterdir())) == 400


def test_a_long_document_is_read_by_several_processes(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    events = ReaderPool(crashing(notes=notes), workers=2).read_documents([draw(tmp_path / "long.pdf", 400)])
    processes: set[str] = set()
    for _ in events:
        processes |= {note.name.split("-")[2] for note in notes.iterdir()}
        if len(processes) == 2:
            break
        time.sleep(0.1)  # the readers wait for their caller, so that a process that starts late finds work, too
    events.close()
    assert len(processes) == 2


def test_closing_the_iterator_ends_the_processes(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    events = ReaderPool(crashing(notes=notes), workers=2).read_documents([draw(tmp_path / "long.pdf", 200)])
    next(events)
    events.close()
    assert_gone({int(note.name.split("-")[2]) for note in notes.iterdir()})


SCRIPT = """
import os, sys
from visrag_integrations.readers import PageReader, ReaderPool
from visrag_integrations.readers.events import PageRead
sys.path.insert(0, {tests!r})
from crashing_reader import CrashingReader
from pathlib import Path
reader = CrashingReader(max_pixels=40000, ocr="never", notes=Path({notes!r}))
seen = 0
for event in ReaderPool(reader, workers=2).read_documents([{path!r}]):
    seen += isinstance(event, PageRead)
    if {die} and seen == 3:
        os._exit(0)
print(seen)
"""


@pytest.mark.parametrize("die", [False, True])
def test_a_script_without_a_main_guard(tmp_path: Path, die: bool) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    path = draw(tmp_path / "long.pdf", 200 if die else 12)
    script = SCRIPT.format(tests=str(Path(__file__).parent), notes=str(notes), path=str(path), die=die)
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == ("" if die else "12")
    assert_gone({int(note.name.split("-")[2]) for note in notes.iterdir()})  # also when their parent was killed


def assert_gone(pids: set[int]) -> None:
    assert pids
    until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists() and not is_zombie(pid)])


def is_zombie(pid: int) -> bool:
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def still_at_rest(count: Callable[[], int]) -> None:
    """Wait until a number does not grow any more."""
    before = -1
    while count() != before:
        before = count()
        time.sleep(1.0)


def until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_jpeg_keeps_its_bytes(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "teal").save(tmp_path / "a.jpg", quality=31)
    (read, _) = run(PageReader(ocr="never"), [tmp_path / "a.jpg"])
    assert read.page.picture == (tmp_path / "a.jpg").read_bytes()


def test_settings_of_the_pool() -> None:
    with pytest.raises(SettingError, match="workers=0"):
        ReaderPool(PageReader(), workers=0)
    with pytest.raises(SettingError, match="page_timeout=0"):
        ReaderPool(PageReader(), page_timeout=0)


def test_a_reader_that_cannot_travel_is_an_error_not_a_hang(tmp_path: Path) -> None:
    class Local(PageReader):
        pass

    with pytest.raises(SettingError, match="Define it in a module"):
        run(Local(ocr="never"), [draw(tmp_path / "a.pdf", 1)])


def test_nothing_to_read_starts_nothing() -> None:
    assert run(PageReader(), []) == []
