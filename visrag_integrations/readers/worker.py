"""The other side of a `WorkerProcess`: opens documents and reads pages, one request at a time.

Request `("open", source, backend)`: reply `("opened", total, numbers, warnings, files inside)` or
`("unreadable", reason)`.
Request `("pages", source, backend, numbers)`: for each number a reply `("page", page, picture to store)` or
`("bad", reason)`.
Request `("rest", None, None)`: reply `("resting", whether this process may read for another call)`; then it waits for
the settings of that call, or ends.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from visrag_integrations import images, ocr
from visrag_integrations.errors import DocumentError, PageError, VisRAGError
from visrag_integrations.readers import child_process, messages
from visrag_integrations.readers.memory import limit_memory, peak_memory
from visrag_integrations.readers.reader import OpenDocument, PageReader
from visrag_integrations.readers.sources import Source

# Seconds beyond the pool's own limit. The pool ends a worker that hangs; the alarm is for one whose pool is gone.
_ALARM_GRACE = 10.0
_LEFT_OUT = ("pymupdf.layout", "pymupdf4llm")
# A process is kept for another call only within these: engines lose a little memory with each page, and a gigabyte (as
# much as Python with an OCR engine takes) is more than should lie idle.
_MOST_PAGES = 10_000
_MOST_MEMORY = 1 << 30
# Kinds of documents that no other program is started for.
_WITHOUT_PROGRAMS = frozenset(("pdf", "image"))


def main(address: str) -> None:
    """Serve requests on a socket until it is closed, which is how a worker learns that its parent is gone."""
    connection = child_process.connect_to_parent(address)
    _silence()
    # A service manager sends it to all processes of a service. This one ends with its parent, which decides when. A
    # function, not SIG_IGN: programs that are started from here would inherit that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=_end_with_parent, args=(connection.fileno(),), name="visrag-parent", daemon=True).start()
    _import_engines()
    try:
        # More than once only where the process is kept for another call (see `kept`).
        while _serve_call(connection):
            pass
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return


def _serve_call(connection: Connection) -> bool:
    """Read what one call wants; whether another may follow."""
    try:
        reader, threads, timeout, keep = pickle.loads(connection.recv_bytes())
    except (AttributeError, ImportError, pickle.UnpicklingError) as err:
        messages.send(connection, ("fatal", f"the reader cannot be loaded in another process: {err}"))
        return False
    ocr.limit_threads(threads)
    limit_memory(reader.max_memory)
    messages.send(connection, ("ready",))
    worker = _Worker(connection, reader, timeout, keep)
    worker.serve()
    may_go_on = worker.rest()
    messages.send(connection, ("resting", may_go_on))
    return may_go_on


def _import_engines() -> None:
    """Import PyMuPDF without what it brings along to find the layout of pages, which nobody asks for here.

    Version 2 does so by itself: ONNX Runtime with a model, and a package to write Markdown. They take three quarters of
    a second of processor time in each process, where PyMuPDF alone takes a fifth of one.
    """
    modules: dict[str, Any] = sys.modules
    left_out = [name for name in _LEFT_OUT if name not in modules]
    modules.update(dict.fromkeys(left_out))  # None: an import of it fails, and PyMuPDF does without
    try:
        import pymupdf  # noqa: F401
    except Exception:  # noqa: BLE001  told when a PDF is to be read by it; other documents need it not
        pass
    finally:
        for name in left_out:  # a reader of the user's own may import them
            del modules[name]


class _Worker:
    """Keeps the last document open, so that the next pages of it cost no opening.

    Attributes:
        pages_read: By this process, in all its calls.
    """

    pages_read = 0

    def __init__(
        self, connection: Connection, reader: PageReader, timeout: float, keep: tuple[str, int] | None
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._timeout = timeout
        self._keep = keep
        self._key: tuple[str, str, str | None] | None = None
        self._document: OpenDocument | None = None
        self._harmless = True

    def serve(self) -> None:
        """Answer requests until it is to rest."""
        while True:
            kind, source, backend, *numbers = self._connection.recv()
            if kind == "rest":
                return
            if kind == "open":
                messages.send(self._connection, self._guarded(self._open_reply, source, backend))
            else:
                for number in numbers[0]:
                    messages.send(self._connection, self._guarded(self._page_reply, source, backend, number))

    def rest(self) -> bool:
        """Forget what was read; whether nothing of it can reach the documents of another call."""
        self._close()
        pymupdf = sys.modules.get("pymupdf")
        if pymupdf is not None:
            pymupdf.TOOLS.store_shrink(100)  # all of the fonts and pictures that MuPDF remembers
        return self._harmless and self.pages_read <= _MOST_PAGES and peak_memory() <= _MOST_MEMORY

    def _guarded(self, reply: Any, *arguments: Any) -> tuple[Any, ...]:
        """The reply, under an alarm that ends this process even when its parent is gone and the engine hangs."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, self._timeout + _ALARM_GRACE)
        try:
            answer: tuple[Any, ...] = reply(*arguments)
        finally:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
        if answer[0] not in ("opened", "page"):
            self._harmless = False
        return answer

    def _open_reply(self, source: Source, backend: Any) -> tuple[Any, ...]:
        try:
            self._harmless = self._harmless and source.kind in _WITHOUT_PROGRAMS and backend is None
            document = self._open(source, backend)
        except DocumentError as err:
            return "unreadable", err.reason
        except (VisRAGError, MemoryError) as err:
            return "unreadable", str(err) or type(err).__name__
        return "opened", document.total_pages, document.numbers, document.warnings, document.embedded

    def _page_reply(self, source: Source, backend: Any, number: int) -> tuple[Any, ...]:
        try:
            _Worker.pages_read += 1
            page = self._open(source, backend).page(number)
            return "page", page, self._stored(page.picture)
        except (PageError, DocumentError) as err:
            return "bad", err.reason
        except (VisRAGError, MemoryError) as err:
            return "bad", str(err) or type(err).__name__

    def _stored(self, picture: images.PictureSource | None) -> images.EncodedPixels | None:
        """What is stored in place of drawn pixels; None where that is the picture itself."""
        if self._keep is None or not isinstance(picture, images.Pixels):
            return None
        return images.EncodedPixels.of(picture, *self._keep)

    def _open(self, source: Source, backend: Any) -> OpenDocument:
        key = (source.doc_id, source.name, backend)
        if self._document is None or self._key != key:
            self._close()
            reader = self._reader
            if backend is not None:  # the spare engine
                reader = replace(reader, backend=backend)
            self._document, self._key = reader.open(source), key
        return self._document

    def _close(self) -> None:
        document = self._document
        self._document = None  # also when closing fails
        if document is not None:
            document.close()


def _end_with_parent(descriptor: int) -> None:
    """Wait until the parent is gone, and end this process and all that it started, whatever they are doing.

    Without it a parent that is killed leaves a LibreOffice that converts for minutes. What they wrote is in the scratch
    folder of the parent, which the next one to make such a folder removes.
    """
    if not hasattr(select, "poll"):
        return
    ended = select.poll()
    # No data is waited for: that is for the thread that serves. The other end is closed when this returns.
    ended.register(descriptor, getattr(select, "POLLRDHUP", 0))
    ended.poll()
    if child_process.leads_group():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _silence() -> None:
    """Discard what engines write to standard output and error."""
    # By file descriptor: C libraries do not know of sys.stdout.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
