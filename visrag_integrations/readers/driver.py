"""The thread of one reading process: what it asks for, and what is done when the process crashes or hangs."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from visrag_integrations.readers.events import DocumentFailed, PageFailed, PageRead
from visrag_integrations.readers.pdf import other_backend
from visrag_integrations.readers.process import WorkerDied, WorkerProcess
from visrag_integrations.readers.reader import PageReader
from visrag_integrations.readers.schedule import Chunk, Job, Schedule
from visrag_integrations.types import Failure

# A document that ends three workers is broken throughout: each page more would cost another start of a process.
_MAX_CRASHES = 3
# Seconds of a processor that it takes to start a process. One more is started when work has waited so long for those
# that run: for a short document it would be ready when the last page is read, and slow down all others meanwhile.
_START_SECONDS = 0.5
# Of documents or pages that wait: with so many the others are started at once, for each takes 10 ms at the very least.
_MANY = 64


@dataclass(frozen=True)
class Driving:
    """How a pool reads.

    Attributes:
        reader: The settings.
        workers: How many processes share the work.
        page_timeout: Seconds a page may take.
        chunk: Pages read at a time, at most.
    """

    reader: PageReader
    workers: int
    page_timeout: float
    chunk: int


class Driver:
    """The thread of one worker process: takes tasks, sends requests, hands over what comes back."""

    def __init__(self, schedule: Schedule, process: WorkerProcess, how: Driving) -> None:
        self._schedule = schedule
        self._process = process
        self._reader = how.reader
        self._workers = how.workers
        self._timeout = how.page_timeout
        self._chunk = how.chunk

    def run_when_needed(self) -> None:
        """The same, where those that read already cannot do it in the time that one more takes to start."""
        if self._schedule.needs_another(_START_SECONDS, _MANY):
            self.run()

    def run(self) -> None:
        try:
            while (task := self._schedule.take()) is not None:
                job, chunk = task
                if chunk is None:
                    self._open(job)
                else:
                    self._read(job, chunk)
                    self._schedule.finish(chunk)
        except BaseException as err:  # noqa: BLE001  raised in the caller's thread
            self._schedule.close(err)

    def _open(self, job: Job) -> None:
        assert job.source is not None
        reply = self._try_to_open(job)
        if reply[0] != "opened":
            self._schedule.failed(job, DocumentFailed(Failure(job.source.name, reply[1])))
            return
        _, total, numbers, job.warnings, job.embedded = reply
        todo = [number for number in numbers if number not in job.known]
        # A short document is shared by all workers; four pieces each, because some pages take longer than others.
        size = max(1, min(self._chunk, math.ceil(len(todo) / (4 * self._workers))))
        # To make its PDF, or to load it in a browser, takes long: only one worker does it.
        if job.source.kind in {"office", "text", "web"}:
            size = max(1, len(todo))
        chunks = [Chunk(todo[start : start + size]) for start in range(0, len(todo), size)]
        self._schedule.opened(job, total, chunks)

    def _try_to_open(self, job: Job) -> tuple[Any, ...]:
        try:
            return self._ask_to_open(job, None)
        except WorkerDied as err:
            reason = f"could not be opened: it {err}."
        spare = self._spare_engine(job)
        if spare is not None:
            with contextlib.suppress(WorkerDied):
                return self._ask_to_open(job, spare)
        return "unreadable", reason

    def _ask_to_open(self, job: Job, backend: Any) -> tuple[Any, ...]:
        self._process.send("open", job.source, backend)
        self._schedule.begin()
        reply = self._process.receive(self._timeout_of(job))
        job.backend = backend
        return reply

    def _read(self, job: Job, chunk: Chunk) -> None:
        """The chunk's pages, one event each; a page that kills its worker is read around."""
        left = deque(chunk.numbers)
        wanted = True
        while left and wanted:
            if job.crashes >= _MAX_CRASHES:
                reason = f"not read, because {job.crashes} other pages of this document ended the reading process."
                wanted = self._hand_over(job, chunk, left.popleft(), ("bad", reason))
                continue
            try:
                for reply in self._ask_pages(job, job.backend, list(left)):
                    wanted = self._hand_over(job, chunk, left.popleft(), reply)
                    if not wanted:
                        break
            except WorkerDied as err:
                job.crashes += 1
                reply = self._second_chance(job, left[0], f"cannot be read: it {err}.")
                wanted = self._hand_over(job, chunk, left.popleft(), reply)

    def _ask_pages(self, job: Job, backend: Any, numbers: list[int]) -> Iterator[tuple[Any, ...]]:
        self._process.send("pages", job.source, backend, numbers)
        timeout = self._timeout_of(job)  # for the first page the document may have to be opened again
        for _ in numbers:
            yield self._process.receive(timeout)
            timeout = self._timeout

    def _second_chance(self, job: Job, number: int, reason: str) -> tuple[Any, ...]:
        backend = self._spare_engine(job)
        if backend is not None:
            with contextlib.suppress(WorkerDied):
                for reply in self._ask_pages(job, backend, [number]):
                    if reply[0] == "page":
                        return reply
        return "bad", reason

    def _hand_over(self, job: Job, chunk: Chunk, number: int, reply: tuple[Any, ...]) -> bool:
        assert job.source is not None
        if reply[0] == "bad":
            return self._schedule.put(chunk, PageFailed(Failure(job.source.name, reply[1], number)))
        _, page, picture = reply
        stored = page
        if picture is not None:
            stored = replace(page, picture=picture)
        return self._schedule.put(chunk, PageRead(page, stored))

    def _timeout_of(self, job: Job) -> float:
        kind = job.source.kind if job.source is not None else ""
        if kind in {"office", "text"}:
            return self._timeout + self._reader.office_timeout
        if kind == "web":
            return self._timeout + self._reader.web_timeout
        return self._timeout

    def _spare_engine(self, job: Job) -> Any:
        """The other PDF engine, where there is one that was not asked yet."""
        if job.source is not None and job.source.kind == "pdf" and job.backend is None:
            return other_backend(self._reader.backend)
        return None
