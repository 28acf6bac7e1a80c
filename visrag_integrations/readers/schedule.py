"""Who reads what next: documents in order, their pages in chunks, little held at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from visrag_integrations.readers.events import DocumentDone, PageRead, ReaderEvent, ReadingWarning
from visrag_integrations.readers.pdf import Backend
from visrag_integrations.readers.sources import Source

_BUFFER = 16  # events a chunk may be ahead of the caller: two chunks' worth, so that a worker seldom waits


@dataclass(eq=False)
class Chunk:
    """Some pages of a document, read by one worker, and what has been read of them."""

    numbers: list[int]
    events: deque[ReaderEvent] = field(default_factory=deque)
    finished: bool = False


@dataclass(eq=False)
class Job:
    """One document on its way. `last` is set when it is known how the document ends without further pages.

    `fetched`: the source is a copy that is not needed once it is read.
    """

    source: Source | None
    known: frozenset[int] = frozenset()
    last: ReaderEvent | None = None
    total_pages: int | None = None
    backend: Backend | None = None
    crashes: int = 0
    fetched: bool = False
    warnings: tuple[str, ...] = ()
    embedded: tuple[Source, ...] = ()
    taken: bool = False
    opened: bool = False
    waiting: deque[Chunk] = field(default_factory=deque)
    chunks: deque[Chunk] = field(default_factory=deque)


ReadingTask = tuple[Job, Chunk | None]
"""A document to open, or one that is open and the chunk of it to read."""


class Schedule:
    """Jobs between the caller's thread and those of the workers; everything under one lock.

    A worker always takes the first job that has something to do. The job whose events the caller waits for may
    always have one chunk on its way; beyond that, `limit` chunks are on their way or unread. So memory is bounded, and
    caller and workers never wait for each other.
    """

    def __init__(self, limit: int) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._limit, self._under_way = limit, 0
        self._closed = False
        self._error: BaseException | None = None
        self._begun: float | None = None  # when the first worker could read

    def add(self, job: Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def put_in_front(self, jobs: list[Job]) -> None:
        """Jobs that come before all others: what lies inside of the first document."""
        with self._changed:
            self._jobs.extendleft(reversed(jobs))
            self._changed.notify_all()

    def embedded_in(self, job: Job) -> tuple[Source, ...]:
        """What lies inside of a document, once it was opened; waits for that."""
        with self._changed:
            while not (job.opened or job.last is not None):
                if self._error is not None:
                    raise self._error
                self._changed.wait()
            return job.embedded

    def read_after_all(self, job: Job) -> None:
        """A job that was taken for a copy of one that then failed is read like any other."""
        with self._changed:
            job.last = None
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """End all waiting; the caller gets the error, if there is one."""
        with self._changed:
            self._closed, self._error = True, self._error or error
            self._changed.notify_all()

    def begin(self) -> None:
        """A worker can read now: what waits from here on waits because those that run are busy."""
        with self._changed:
            if self._begun is None:
                self._begun = time.monotonic()
                self._changed.notify_all()

    def needs_another(self, patience: float, many: int) -> bool:
        """Wait until one more worker is worth its start: work waits after so many seconds, or that much waits at once.

        False: there is nothing more to come.
        """
        with self._changed:
            while not self._closed:
                waited = 0.0 if self._begun is None else time.monotonic() - self._begun
                waiting = self._waiting()
                if waiting >= many or (waiting and waited >= patience):
                    return True
                wait: float | None = None
                if self._begun is not None and waited < patience:
                    wait = patience - waited
                self._changed.wait(wait)
            return False

    def _waiting(self) -> int:
        """Pages that no worker has taken; a document that is not open yet counts as one."""
        count = 0
        for job in self._jobs:
            if job.last is None and not job.taken:
                count += 1
            for chunk in job.waiting:
                count += len(chunk.numbers)
        return count

    def take(self) -> ReadingTask | None:
        """What a worker does next; waits for it. None: there is nothing more to come."""
        with self._changed:
            while not self._closed:
                for job in self._jobs:
                    task = self._task_of(job)
                    if task is not None:
                        return task
                self._changed.wait()
            return None

    def opened(self, job: Job, total_pages: int, chunks: list[Chunk]) -> None:
        with self._changed:
            job.total_pages = total_pages
            job.opened = True
            job.waiting = deque(chunks)  # a chunk leaves this one when a worker takes it,
            job.chunks = deque(chunks)  # and this one when the caller has all of it
            self._changed.notify_all()

    def failed(self, job: Job, event: ReaderEvent) -> None:
        """The document ends here; chunks that no worker took are dropped."""
        with self._changed:
            job.last = event
            job.opened = True
            for chunk in job.waiting:
                job.chunks.remove(chunk)
            job.waiting.clear()
            self._changed.notify_all()

    def put(self, chunk: Chunk, event: ReaderEvent) -> bool:
        """Hand over one event, when there is room for it; False when no more are wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(chunk.events) < _BUFFER)
            chunk.events.append(event)
            self._changed.notify_all()
            return not self._closed

    def finish(self, chunk: Chunk) -> None:
        with self._changed:
            chunk.finished = True
            self._changed.notify_all()

    def events(self, job: Job) -> Iterator[ReaderEvent]:
        """Everything about the first job, as it comes; then the job is done with."""
        pages = 0
        warnings: list[ReadingWarning] = []
        while (event := self._next_event(job)) is not None:
            if isinstance(event, PageRead):
                pages += 1
                for text in event.page.metadata.get("warnings", ()):
                    warnings.append(ReadingWarning(event.page.source, text, event.page.number))
            yield event
        assert self._jobs[0] is job
        with self._changed:
            self._jobs.popleft()
            self._changed.notify_all()
        assert job.source is not None or job.last is not None
        if job.last is not None:
            yield job.last
        elif job.source is not None:
            about = [ReadingWarning(job.source.name, text) for text in job.warnings]
            yield DocumentDone(
                job.source.name,
                job.source.doc_id,
                job.total_pages,
                pages,
                (*about, *warnings),
                embedded=job.source.embedded,
            )

    def _next_event(self, job: Job) -> ReaderEvent | None:
        """The next page or failure, waited for; None: all pages have been handed over."""
        with self._changed:
            while True:
                if self._error is not None:
                    raise self._error
                if job.chunks and job.chunks[0].events:
                    self._changed.notify_all()
                    return job.chunks[0].events.popleft()
                if job.chunks and job.chunks[0].finished:
                    job.chunks.popleft()
                    self._under_way -= 1
                    self._changed.notify_all()
                elif (job.opened or job.last is not None) and not job.chunks:
                    return None
                else:
                    self._changed.wait()

    def _task_of(self, job: Job) -> ReadingTask | None:
        """What there is to do for a job now: to open it, or to read a chunk of it where there is room."""
        if job.last is None and not job.taken:
            job.taken = True
            return job, None
        if not job.waiting:
            return None
        # Without this exception the chunks of later documents could fill all the room, and the caller wait in vain.
        none_under_way = len(job.waiting) == len(job.chunks)
        if self._under_way < self._limit or (job is self._jobs[0] and none_under_way):
            self._under_way += 1
            return job, job.waiting.popleft()
        return None
