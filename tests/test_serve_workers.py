"""`visrag serve --workers N`: real processes at one port, over an index on a server."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import worker_kinds
from fake_qdrant import FakeQdrant, serving
from test_cli_ending import processes_with, wait_for
from web_server import library

from visrag_integrations import QdrantPageStore, load_embedder
from visrag_integrations.cli import main, serve_workers
from visrag_integrations.servers.http.metrics import counted_together
from visrag_integrations.servers.web.running import address_of, listen
from visrag_integrations.servers.web.workers import Workers, WorkersError

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc of Linux")
BEARER = {"Authorization": "Bearer a-token"}
FOLDER = "needs an index on a Qdrant server, such as --index http://localhost:6333; 'index' is a folder"


# --- the team, with workers that do next to nothing -----------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with listen("127.0.0.1", 0) as listening:
        yield listening


def ask_for_ever(listening: socket.socket) -> None:
    """Connect again and again, until nobody listens any more."""
    address = listening.getsockname()

    def ask() -> None:
        with contextlib.suppress(OSError):
            while True:
                with socket.create_connection(address, timeout=60) as connection, contextlib.suppress(OSError):
                    connection.recv(1)  # its worker dies, and it is cut

    threading.Thread(target=ask, daemon=True).start()


def test_workers_that_die_again_and_again_end_the_whole(
    listening: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    dead: list[int] = []
    team = Workers(worker_kinds.dies_when_asked, listening, 2, on_death=dead.append)
    with pytest.raises(WorkersError, match=r"Workers ended 11 times within 60 s; the last: worker [12] .* code 7"):
        team.run(lambda: ask_for_ever(listening))
    assert len(set(dead)) >= 11
    assert len([line for line in caplog.messages if "Another takes its place" in line]) == 10


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (worker_kinds.is_refused, r"^top_k is 0; it must be above 0\.$"),
        (worker_kinds.never_gets_ready, r"^Worker 1 \(process \d+\) ended with code 7 before all workers answered"),
    ],
)
def test_a_worker_that_cannot_start_ends_the_whole(listening: socket.socket, work: object, said: str) -> None:
    started: list[bool] = []
    with pytest.raises(WorkersError, match=said):
        Workers(work, listening, 3).run(lambda: started.append(True))  # type: ignore[arg-type]
    assert started == []
    assert listening.fileno() == -1  # nobody waits for an answer that never comes


def test_when_no_worker_is_left_and_none_can_be_started_the_whole_ends(
    listening: socket.socket, tmp_path: Path
) -> None:
    team = Workers(worker_kinds.cannot_start_again, listening, 1, [str(tmp_path)])
    with pytest.raises(WorkersError, match=r"^No worker is left, and none can be started: what it needs is away\.$"):
        team.run(lambda: ask_for_ever(listening))


def test_connections_wait_for_the_worker_that_takes_the_place_of_a_dead_one(
    listening: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, answers = address_of(listening), []

    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.get(url, timeout=60)  # the worker dies of it
        answers.append(httpx.get(url, timeout=60).text)  # comes while there is none
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    ended = Workers(worker_kinds.answers_once_replaced, listening, 1, [str(tmp_path)]).run(asking.start)
    asking.join()
    assert answers
    assert int(answers[0]) != os.getpid()
    assert (ended.cut_off, ended.died) == (0, 0)
    assert "What it was answering is lost. Another takes its place." in caplog.text


def test_a_worker_that_is_killed_while_it_finishes_is_counted(listening: socket.socket) -> None:
    team = Workers(worker_kinds.is_told, listening, 2)
    processes = []

    def end() -> None:
        processes.extend(worker.process for worker in team._workers)
        os.kill(os.getpid(), signal.SIGTERM)
        for process in processes:
            process.kill()  # type: ignore[union-attr]

    assert team.run(end).died == 2


# --- the command ----------------------------------------------------------------------------------------------------


COUNTS_UNTIL_KILLED = """
import os, signal
from visrag_integrations.servers.http.metrics import counted_together
with counted_together():
    print(os.environ["PROMETHEUS_MULTIPROC_DIR"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@LINUX
def test_the_folder_where_workers_count_does_not_outlive_a_kill_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    program = [sys.executable, "-c", COUNTS_UNTIL_KILLED]
    killed = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
    folder = Path(killed.stdout.strip())
    assert (killed.returncode, folder.parent) == (-signal.SIGKILL, tmp_path)
    assert folder.is_dir()
    with counted_together():  # the next one removes what was left
        assert not folder.exists()


@pytest.mark.parametrize(("quiet", "level"), [(False, logging.WARNING), (True, logging.ERROR)])
def test_a_worker_says_what_the_command_says(monkeypatch: pytest.MonkeyPatch, quiet: bool, level: int) -> None:
    logger = logging.getLogger("visrag_integrations.generation.openai_retries")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    typed: Any = argparse.Namespace(verbose=0, quiet=quiet)
    unused: Any = None
    assert serve_workers.work(unused, unused, lambda *_: 3, typed, unused) == 3
    assert logger.level == level


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--index", "index"], FOLDER),
        (["--index", ":memory:"], "needs an index on a Qdrant server"),
        (["--index", "http://127.0.0.1:9", "--rate", "5"], "--rate 5 is counted in each process"),
        (["--index", "http://127.0.0.1:9", "--workers", "0"], "is not a whole number from 1"),
    ],
)
def test_what_workers_cannot_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VISRAG_TOKEN", raising=False)
    try:
        code = main(["serve", "--port", "0", "--workers", "2", *options])
    except SystemExit as ended:  # of argparse
        code = ended.code
    assert code == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


class Command:
    """`visrag serve --workers 2` in a process group of its own, and what it says."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        command = [sys.executable, "-m", "visrag_integrations.cli", "serve", "--index", url, "--port", "0"]
        environment = {**os.environ, "VISRAG_TOKEN": "a-token", "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            [*command, "--workers", "2", "--pictures", "none", *options],
            cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.said: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            self.said.extend(iter(stderr.readline, ""))

    def serves_at(self) -> str:
        wait_for(lambda: " at http" in "".join(self.said) or self.process.poll() is not None)
        return "".join(self.said).partition(" at ")[2].split()[0]

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = []
        for child in children:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
        return found

    def ended(self) -> str:
        """What it has said, when it is over and has left nothing."""
        assert self.process.wait(120) == 0, self.said
        self._reading.join()
        wait_for(lambda: processes_with(self.temporary) == [])
        assert list(self.temporary.iterdir()) == []
        return "".join(self.said)


@pytest.fixture(scope="module")
def qdrant() -> Iterator[FakeQdrant]:
    with serving() as server:
        with QdrantPageStore(server.url, pictures=False) as store:
            library(store, load_embedder("ocr"), 4)
        yield server


@pytest.fixture
def command(tmp_path: Path, qdrant: FakeQdrant) -> Iterator[Command]:
    command = Command(tmp_path, qdrant.url, "--preset", "cpu")
    yield command
    if command.process.poll() is None:
        os.killpg(command.process.pid, signal.SIGKILL)
    command.process.wait()
    command._reading.join()


def in_flight(url: str) -> float:
    """Requests that all workers together are at."""
    text = httpx.get(f"{url}/metrics", headers=BEARER, timeout=60).text
    return float(text.partition("\nvisrag_requests_in_flight ")[2].split()[0])


def counted(url: str) -> int:
    """Searches that were answered, by all workers."""
    text = httpx.get(f"{url}/metrics", headers=BEARER, timeout=60).text
    lines = [line for line in text.splitlines() if line.startswith('visrag_requests_total{method="POST"')]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


@LINUX
@pytest.mark.slow
def test_workers_answer_and_count_together_and_a_dead_one_is_replaced(command: Command) -> None:
    url = command.serves_at()
    assert httpx.post(f"{url}/search", json={"text": "violin"}, timeout=60).status_code == 401
    for _ in range(10):
        found = httpx.post(f"{url}/search", json={"text": "violin"}, headers=BEARER, timeout=60)
        assert found.json()["pages"][0]["source"] == "harbour-0.pdf"
    answer = httpx.post(f"{url}/ask", json={"question": "violin?"}, headers=BEARER, timeout=60)
    assert answer.json()["pages"]
    asked = counted(url)
    assert asked == 12  # whoever is asked, it knows of all of them
    before = command.workers()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(command.workers()) == 2 and before[0] not in command.workers())
    for _ in range(10):
        assert httpx.post(f"{url}/search", json={"text": "violin"}, headers=BEARER, timeout=60).status_code == 200
    assert counted(url) == asked + 10  # what the dead one counted is not lost
    command.process.send_signal(signal.SIGTERM)
    said = command.ended()
    assert f"(process {before[0]}) was ended by SIGKILL. What it was answering is lost. Another takes its place" in said
    assert said.endswith("visrag: ended; every request was finished.\n")
    assert "Traceback" not in said


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_worker_finishes_its_requests(command: Command, qdrant: FakeQdrant, number: signal.Signals) -> None:
    url = command.serves_at()
    qdrant.go_on.clear()
    qdrant.plan = lambda _, method, path: "hung" if path.endswith(("/points/query", "/points/query/batch")) else None
    statuses: list[int] = []

    def ask() -> None:
        answer = httpx.post(f"{url}/search", json={"text": "violin"}, headers=BEARER, timeout=120)
        statuses.append(answer.status_code)

    def ended() -> bool:
        try:
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5).close()
        except OSError:
            return True
        return False

    asking = [threading.Thread(target=ask) for _ in range(6)]
    try:
        for thread in asking:
            thread.start()
        wait_for(lambda: in_flight(url) == 7)  # all six, and the one that asks for this
        if number == signal.SIGINT:
            os.killpg(command.process.pid, number)  # as a terminal does
        else:
            command.process.send_signal(number)
        wait_for(ended)
    finally:
        qdrant.plan = lambda *_: None
        qdrant.go_on.set()
    for thread in asking:
        thread.join()
    assert statuses == [200] * 6
    assert command.ended().endswith("visrag: ended; every request was finished.\n")


@LINUX
@pytest.mark.slow
def test_workers_end_when_the_process_that_started_them_is_killed(command: Command) -> None:
    command.serves_at()
    workers = command.workers()
    assert len(workers) == 2
    command.process.kill()
    wait_for(lambda: processes_with(command.temporary) == [])


@LINUX
@pytest.mark.slow
def test_an_index_that_is_not_there_is_said_once(tmp_path: Path, qdrant: FakeQdrant) -> None:
    command = Command(tmp_path, qdrant.url, "--preset", "cpu", "--collection", "nothing")
    assert command.process.wait(120) == 2
    command._reading.join()
    (said,) = command.said
    assert said.startswith("visrag: Collection 'nothing' in ")
    assert processes_with(command.temporary) == []
