"""`ReaderPool`: documents read in processes of their own, so that a broken one takes nothing else down."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visrag_integrations import ocr
from visrag_integrations.errors import DocumentError, SettingError
from visrag_integrations.files import ScratchFolder
from visrag_integrations.readers import remote
from visrag_integrations.readers.driver import Driver, Driving
from visrag_integrations.readers.events import (
    DocumentDone,
    DocumentFailed,
    PageFailed,
    PageRead,
    ReaderEvent,
    ReadingWarning,
)
from visrag_integrations.readers.finding import find_documents
from visrag_integrations.readers.kept import KeptProcess
from visrag_integrations.readers.memory import default_limit
from visrag_integrations.readers.process import PictureFormat, WorkerProcess
from visrag_integrations.readers.reader import PageReader
from visrag_integrations.readers.schedule import Job, Schedule
from visrag_integrations.readers.sources import Source, identify
from visrag_integrations.types import Failure

__all__ = ["DocumentDone", "DocumentFailed", "PageFailed", "PageRead", "ReaderEvent", "ReaderPool", "ReadingWarning"]

Known = Callable[[str], "Collection[int] | None"]
"""doc_id -> numbers of the pages that need no reading; None for all of them."""

# On a machine of a hundred cores each process would cost its memory, and pages are seldom embedded that fast.
_MAX_WORKERS = 16
# Pages a worker reads at a time. More: the caller waits longer for a document's first pages, and more lie in memory;
# fewer: more messages between processes.
_MAX_CHUNK = 8
_MAX_CHUNK_OF_PIXELS = 2  # a page's pixels are thirty times its JPEG


class ReaderPool:
    """Reads documents with a `PageReader` in worker processes, in order, long documents by several at once.

    A page that crashes or hangs its worker is tried once more with the other PDF engine, then reported; a new
    worker goes on behind it. Pages come with JPEG pictures, or, when `exact_pixels`, with the pixels that were drawn.

    Args:
        reader: How documents are read.
        workers: Processes; one per core when not given.
        page_timeout: Seconds a page may take.
        exact_pixels: Whether pages come with drawn pixels.
        keep: Format and quality of the picture file that comes beside drawn pixels; None: none comes.
        ahead: Pages that should be ready before the caller wants them: as many as it takes at once.
        kept: Where a process comes from and goes back to, for calls that follow one another; None: all are its own.
    """

    def __init__(
        self,
        reader: PageReader,
        workers: int | None = None,
        page_timeout: float = 60.0,
        *,
        exact_pixels: bool = False,
        keep: PictureFormat | None = None,
        ahead: int = 0,
        kept: KeptProcess | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise SettingError(f"workers={workers}; it must be 1 or more, or None for one a core.")
        if not 0 < page_timeout < math.inf:
            raise SettingError(f"page_timeout={page_timeout}; give a number of seconds, for example 60.")
        if reader.picture_format is None and not exact_pixels:
            reader = replace(reader, picture_format="JPEG")  # a tenth of the bytes go between processes
        self.reader = reader
        self.workers = workers or min(_MAX_WORKERS, ocr.count_cores())
        self.page_timeout = page_timeout
        self._keep, self._ahead, self._kept_between_calls = keep, ahead, kept
        self._processes: list[WorkerProcess] = []
        self._in_block = False

    def __enter__(self) -> ReaderPool:
        """Until the end of the block the processes go on from one `read_documents` to the next."""
        self._in_block = True
        return self

    def __exit__(self, *_: object) -> None:
        self._in_block = False
        self._close()

    def read_documents(self, sources: Any, known: Known | None = None) -> Iterator[ReaderEvent]:
        """Every document's pages and its end, in the order of the sources; closing the iterator stops the workers.

        Args:
            sources: Paths, URLs, bytes or folders; read lazily.
            known: Asked once for every document (in the caller's thread) what of it need not be read.
        """
        # Three chunks a worker keep it busy; a caller that takes many pages at once needs as many ready.
        schedule = Schedule(limit=max(3 * self.workers, self.workers + math.ceil(self._ahead / self._chunk)))
        processes = self._processes or self._make_processes()
        self._processes = []  # taken: another iterator started meanwhile makes its own
        threads = self._threads(schedule, processes)
        finished = False
        try:
            for thread in threads:
                thread.start()
            with contextlib.closing(_FetchedFolder()) as fetched:
                yield from self._in_order(schedule, self._jobs(sources, known, fetched), known)
            finished = True
        finally:
            schedule.close()
            # Those that are not needed any more, which may just be starting: nobody waits for that.
            unneeded = processes
            if finished:
                unneeded = [] if self._in_block else processes[1:]
            for process in unneeded:
                process.kill()
            for thread in threads:
                thread.join(10.0)  # its process is gone or idle, so it ends at once; never wait for ever
            self._processes = processes
            if not (finished and self._in_block):
                self._close(finished)

    def _threads(self, schedule: Schedule, processes: list[WorkerProcess]) -> list[threading.Thread]:
        """One for each process; only the first asks for work at once."""
        how = Driving(self.reader, self.workers, self.page_timeout, self._chunk)
        first, *others = [Driver(schedule, process, how) for process in processes]
        threads = [threading.Thread(target=first.run, name="visrag-reader", daemon=True)]
        for driver in others:
            threads.append(threading.Thread(target=driver.run_when_needed, name="visrag-reader", daemon=True))
        return threads

    @property
    def _chunk(self) -> int:
        """Pages read at a time, at most."""
        if self.reader.picture_format:
            return _MAX_CHUNK
        return _MAX_CHUNK_OF_PIXELS

    def _make_processes(self) -> list[WorkerProcess]:
        timeout = self.page_timeout + max(self.reader.office_timeout, self.reader.web_timeout)
        threads_each = max(1, ocr.count_cores() // self.workers)  # of OCR, so that all together use each core once
        reader = self.reader
        if reader.max_memory is None:
            reader = replace(reader, max_memory=default_limit(self.workers))
        first = WorkerProcess(reader, threads_each, timeout, self._keep, self._kept_between_calls)
        return [first, *(WorkerProcess(reader, threads_each, timeout, self._keep) for _ in range(self.workers - 1))]

    def _in_order(self, schedule: Schedule, jobs: Iterator[Job], known: Known | None) -> Iterator[ReaderEvent]:
        ahead: deque[Job] = deque()
        failed: set[str] = set()
        while True:
            # So many documents are known ahead that short ones, of a page or two, keep every worker busy.
            while len(ahead) < 4 * self.workers and (job := next(jobs, None)) is not None:
                ahead.append(job)
                schedule.add(job)
            if not ahead:
                return
            job = ahead[0]
            if job.source is not None and job.last is not None and job.source.doc_id in failed:
                schedule.read_after_all(job)  # equal bytes under another name, which may be read another way
            inner = self._inner_jobs(schedule.embedded_in(job), known)
            if inner:
                # Before the pages around them: a run that ends in between must not take the outer document for done.
                job.embedded = ()
                ahead.extendleft(reversed(inner))
                schedule.put_in_front(inner)
                continue
            ahead.popleft()
            for event in schedule.events(job):
                if isinstance(event, DocumentFailed) and job.source is not None:
                    failed.add(job.source.doc_id)
                yield event
            if job.fetched and job.source is not None and job.source.path is not None:
                job.source.path.unlink(missing_ok=True)

    def _jobs(self, sources: Any, known: Known | None, folder: _FetchedFolder) -> Iterator[Job]:
        if isinstance(sources, (str, bytes, os.PathLike)):
            sources = [sources]
        for given in sources:
            try:
                for source in find_documents(given):
                    yield self._job(source, known, folder)
            except DocumentError as err:
                yield Job(None, last=DocumentFailed(Failure(err.source, err.reason)))

    def _job(self, source: Any, known: Known | None, folder: _FetchedFolder) -> Job:
        fetched = remote.is_url(source)
        try:
            if fetched:
                found = self._fetch(source, folder)
            else:
                found = identify(source, max_bytes=self.reader.max_bytes)
        except DocumentError as err:
            return Job(None, last=DocumentFailed(Failure(err.source, err.reason)))
        return _job_of(found, known, fetched)

    def _inner_jobs(self, inner: Sequence[Source], known: Known | None) -> list[Job]:
        return [_job_of(source, known, fetched=False) for source in inner]

    def _fetch(self, url: str, folder: _FetchedFolder) -> Source:
        """The document behind a URL, in a file of its own: its readers open it several times."""
        handle, name = tempfile.mkstemp(dir=folder.path(), suffix=remote.suffix_of(url))
        try:
            with open(handle, "wb") as file:
                origin = remote.fetch(url, file, self.reader.max_bytes, self.reader.fetch_timeout)
            return identify(name, max_bytes=self.reader.max_bytes, name=remote.named(url), origin=origin)
        except BaseException:
            os.unlink(name)
            raise

    def _close(self, finished: bool = False) -> None:
        processes, self._processes = self._processes, []
        for process in processes:
            if finished:
                process.give_back()
            else:
                process.close()


class _FetchedFolder:
    """Where documents behind URLs lie; made with the first of them, because most runs have none."""

    def __init__(self) -> None:
        self._made: ScratchFolder | None = None

    def path(self) -> Path:
        if self._made is None:
            self._made = ScratchFolder("fetched")
        return self._made.path

    def close(self) -> None:
        if self._made is not None:
            self._made.close()


def _job_of(found: Source, known: Known | None, fetched: bool) -> Job:
    """What there is to read of a document."""
    if known is None:
        return Job(found, fetched=fetched)
    numbers = known(found.doc_id)
    if numbers is None:  # all of it
        return Job(found, last=DocumentDone(found.name, found.doc_id, embedded=found.embedded), fetched=fetched)
    return Job(found, known=frozenset(numbers), fetched=fetched)
