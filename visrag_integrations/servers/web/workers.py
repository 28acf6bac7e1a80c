"""Several processes that answer at one address: started, watched, replaced when one dies, and ended together."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from visrag_integrations.errors import VisRAGError
from visrag_integrations.servers.web.worker_process import END, ENDED, NOW, READY, REFUSED, worker_process

logger = logging.getLogger(__name__)

# A worker that is ended by what it is asked, or by too little memory, is ended again as soon as it is replaced. That
# must not go on where nobody looks; a few deaths a minute are borne, as each costs the requests of one worker only.
_DEATHS, _WITHIN_S = 10, 60.0
# Before the first, second, ... try to start a replacement that could not start; the last one is for all that follow.
# What it needs (a Qdrant server that starts again) is away for seconds, and each try loads a model.
_PAUSES_S = (0.0, 2.0, 5.0, 15.0, 30.0)


class WorkersError(VisRAGError):
    """Workers could not be started, or died faster than they can be replaced."""


@dataclass(frozen=True)
class Ended:
    """How workers ended.

    Attributes:
        cut_off: Requests that were cut off, of those workers that could say so.
        died: Workers that died while they were to finish their requests.
    """

    cut_off: int = 0
    died: int = 0


@dataclass
class _Worker:
    """One place of the team and the process that holds it; `due` is when one that died is started again."""

    number: int
    process: BaseProcess | None = None
    line: Connection | None = None
    ready: bool = False
    failed: int = 0  # times in a row that it could not start
    due: float = float("inf")
    told: list[tuple[str, Any]] = field(default_factory=list)


class Workers:
    """A team of processes that accept from one listening socket.

    Args:
        work: What each does: called with the socket, its `WorkerLine` and the arguments, in a process of its own; gives
            the number of requests it cut off when it ended. It and its arguments must be picklable.
        listening: Where clients connect. A connection that nobody has accepted yet outlives the death of a worker.
        count: How many processes.
        arguments: Further arguments of the work.
        on_death: Called with the id of each process that is over.
    """

    def __init__(
        self,
        work: Callable[..., int],
        listening: socket.socket,
        count: int,
        arguments: Sequence[Any] = (),
        on_death: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._work, self._listening, self._arguments, self._on_death = work, listening, tuple(arguments), on_death
        # Not forked: models and their libraries have threads, which a fork leaves behind.
        self._context = multiprocessing.get_context("spawn")
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._deaths: deque[float] = deque()
        self._cut_off = self._died = 0
        self._ending = False
        self._woken, self._wake = self._context.Pipe(duplex=False)

    def run(self, started: Callable[[], object]) -> Ended:
        """Serve until SIGINT or SIGTERM; a second SIGINT cuts off what is still under way.

        Args:
            started: Called once, when every worker answers.

        Raises:
            WorkersError: A worker cannot start, or they die faster than they can be replaced. The others were ended.
        """
        with self._signals_wake():
            try:
                # One first: what does not fit is said once, and what must be fetched is fetched once.
                for some in (self._workers[:1], self._workers[1:]):
                    self._start_first(some)
                if not self._ending:
                    started()
                while not self._ending:
                    self._step(self._replace)
            finally:
                self._end_all()
        return Ended(self._cut_off, self._died)

    def _start_first(self, some: Sequence[_Worker]) -> None:
        for worker in some:
            self._start(worker)
        while not self._ending and not all(worker.ready for worker in some):
            self._step(self._refuse)

    def _start(self, worker: _Worker) -> None:
        line, far_end = self._context.Pipe()
        arguments = (far_end, self._work, self._listening, self._arguments)
        process = self._context.Process(target=worker_process, args=arguments, name=f"visrag-worker-{worker.number}")
        process.start()
        far_end.close()
        worker.process, worker.line, worker.ready, worker.told = process, line, False, []
        worker.due = float("inf")

    def _step(self, gone: Callable[[_Worker], object] = lambda _: None) -> None:
        """Wait for the next that happens, and act on it; until all are to end, `gone` is told which worker is over."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.due <= now and not self._ending:
                self._start(worker)
        running = [worker for worker in self._workers if worker.process is not None]
        heard: list[Any] = [self._woken]
        for worker in running:
            heard += [worker.line, worker.process.sentinel]  # type: ignore[union-attr]
        due = min(worker.due for worker in self._workers)
        happened = wait(heard, None if self._ending or due == float("inf") else max(0.0, due - now))
        if self._woken in happened:
            self._signalled(self._woken.recv())
        for worker in running:
            self._listen(worker)
            if worker.process is not None and worker.process.sentinel in happened:
                self._listen(worker)  # what it said last
                if self._ending:
                    self._leave(worker)
                else:
                    gone(worker)

    def _listen(self, worker: _Worker) -> None:
        """Everything a worker has said."""
        assert worker.line is not None
        with contextlib.suppress(EOFError, OSError):
            while worker.line.poll():
                said = worker.line.recv()
                worker.told.append(said)
                if said[0] == READY:
                    worker.ready, worker.failed = True, 0

    def _over(self, worker: _Worker) -> str:
        """A worker's process is over: how it ended, in words."""
        process, line = worker.process, worker.line
        assert process is not None
        assert line is not None
        process.join()
        line.close()
        assert process.pid is not None
        self._on_death(process.pid)
        words = f"worker {worker.number} (process {process.pid}) {_how(process.exitcode)}"
        for kind, value in worker.told:
            if kind == ENDED:
                self._cut_off += value
            elif kind == REFUSED:
                words = str(value)
        worker.process = worker.line = None
        return words

    def _refuse(self, worker: _Worker) -> None:
        """Before all workers answer, one that is over ends the whole."""
        said_why = any(kind == REFUSED for kind, _ in worker.told)
        words = self._over(worker)
        if said_why:
            raise WorkersError(words)
        raise WorkersError(f"{words[0].upper()}{words[1:]} before all workers answered. Try fewer --workers.")

    def _replace(self, worker: _Worker) -> None:
        """Start another one in its place, soon."""
        was_ready = worker.ready
        finished = any(kind == ENDED for kind, _ in worker.told)
        words = self._over(worker)
        worker.ready = False
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths and self._deaths[0] < now - _WITHIN_S:
            self._deaths.popleft()
        if len(self._deaths) > _DEATHS:
            raise WorkersError(f"Workers ended {len(self._deaths)} times within {_WITHIN_S:.0f} s; the last: {words}.")
        if not was_ready:
            worker.failed += 1
        others = [other for other in self._workers if other.ready or other.process is not None]
        if worker.failed and not others:
            raise WorkersError(f"No worker is left, and none can be started: {words}")
        pause = _PAUSES_S[min(worker.failed, len(_PAUSES_S) - 1)]
        worker.due = now + pause
        lost = ""
        if was_ready and not finished:
            lost = "What it was answering is lost. "
        when = ""
        if pause:
            when = f" in {pause:g} s"
        # An error, so that it is seen: the command line shows no less.
        logger.error("visrag: %s. %sAnother takes its place%s.", words.rstrip("."), lost, when)

    def _signalled(self, number: int) -> None:
        if self._ending and number == signal.SIGINT:
            self._tell(NOW)
        self._ending = True

    def _tell(self, what: str) -> None:
        for worker in self._workers:
            if worker.line is not None:
                with contextlib.suppress(OSError):  # it is over already
                    worker.line.send(what)

    def _end_all(self) -> None:
        """Every worker finishes its requests; one that is still being loaded has none."""
        self._ending = True
        self._listening.close()
        self._tell(END)
        for worker in self._workers:
            if worker.process is not None and not worker.ready:
                worker.process.terminate()
        while any(worker.process is not None for worker in self._workers):
            self._step()

    def _leave(self, worker: _Worker) -> None:
        said = [kind for kind, _ in worker.told]
        words = self._over(worker)
        if worker.ready and ENDED not in said:
            self._died += 1
            logger.error("visrag: %s while it was to finish its requests.", words.rstrip("."))

    @contextlib.contextmanager
    def _signals_wake(self) -> Iterator[None]:
        """SIGINT and SIGTERM are looked at between two steps, never in the middle of one."""

        def wake(number: int, _: FrameType | None) -> None:
            self._wake.send(number)

        before = {number: signal.signal(number, wake) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _how(code: int | None) -> str:
    """How a process ended.

    >>> _how(-9), _how(1)
    ('was ended by SIGKILL', 'ended with code 1')
    >>> _how(-1000)  # not every signal has a name, and what watches the workers must not end for that
    'was ended by signal 1000'
    """
    if code is None or code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
