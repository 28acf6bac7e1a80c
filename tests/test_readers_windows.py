"""Reading by the rules of Windows, played here: no socket is handed over, no groups of processes, no SIGKILL."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf

from visrag_integrations import PageReader, QdrantPageStore, index_documents, load_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.readers import child_process
from visrag_integrations.readers.kept import KEPT
from visrag_integrations.readers.pool import PageRead, ReaderPool
from visrag_integrations.readers.process import WorkerProcess

started: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    started.clear()

    class WindowsPopen(real):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, pass_fds: tuple[int, ...] = (), **settings: Any) -> None:
            assert not pass_fds, "pass_fds not supported on Windows."
            super().__init__(*arguments, **settings)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", WindowsPopen)
    monkeypatch.delattr(os, "killpg", raising=False)
    monkeypatch.delattr(os, "getpgrp", raising=False)
    monkeypatch.delattr(signal, "SIGKILL", raising=False)


def test_documents_are_indexed(tmp_path: Path) -> None:
    draw_pdf(tmp_path / "a.pdf", ["The harbour holds forty boats.", "Anchors are heavy."])
    (tmp_path / "b.pdf").write_bytes(b"none")
    with QdrantPageStore(":memory:") as store:
        report = index_documents(tmp_path, store=store, embedder=load_embedder("ocr"), workers=1)
    assert (report.added, len(report.failed)) == (2, 1)
    assert started
    KEPT.close()
    assert all(process.poll() is not None for process in started)  # none is left


def test_a_process_that_is_ended_is_followed_by_another(tmp_path: Path) -> None:
    draw_pdf(tmp_path / "a.pdf", ["One."])
    with ReaderPool(PageReader(ocr="never"), 1, 60.0) as pool:
        for _ in range(2):
            read = [event for event in pool.read_documents([tmp_path / "a.pdf"]) if isinstance(event, PageRead)]
            assert [event.page.text.strip() for event in read] == ["One."]
            newest = started[-1]
            os.kill(newest.pid, 9)
            newest.wait()
    assert len(started) == 2


def test_python_that_cannot_start_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false" if Path("/bin/false").exists() else "/usr/bin/false")
    process = WorkerProcess(PageReader(), 1, 60.0)
    with pytest.raises(SettingError, match="No reading process can be started"):
        process.send("open", None, None)
    process.close()


def test_whoever_does_not_know_the_word_is_turned_away() -> None:
    """Another user of the machine connects first, says something else, or nothing."""
    word = secrets.token_bytes(32)
    program = "import time; time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.DEVNULL)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()

            def connect() -> None:
                for said in (b"x" * 32, b"", word[:31]):
                    with socket.create_connection(address) as stranger:
                        stranger.sendall(said)
                own = socket.create_connection(address)
                own.sendall(word[:7])
                own.sendall(word[7:] + b"hello")
                own.close()

            knocking = threading.Thread(target=connect)
            knocking.start()
            connection = child_process._accepted(server, word, process, 60.0)
            knocking.join()
            with connection:
                assert os.read(connection.fileno(), 5) == b"hello"
    finally:
        os.kill(process.pid, 9)
        process.wait()


def test_a_process_that_never_connects_is_ended() -> None:
    with pytest.raises(child_process.ChildDied):
        child_process.start([sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ), timeout=0.5)
    assert all(process.poll() is not None for process in started)


def test_the_word_stands_in_no_argument(tmp_path: Path) -> None:
    """Every user of a machine can read the arguments of its programs."""
    program = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    with pytest.raises(child_process.ChildDied):
        child_process.start([sys.executable, "-c", program, str(tmp_path / "word")], dict(os.environ), timeout=60.0)
    word = (tmp_path / "word").read_bytes()
    assert len(word) == 32
    (process,) = started
    assert word.hex() not in str(process.args)
    assert str(word) not in str(process.args)
