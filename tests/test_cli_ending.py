"""SIGTERM ends every command in order, as Ctrl-C does: a message, an exit code, what was done is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drawing import draw_pdf

from visrag_integrations import QdrantPageStore, load_embedder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

COMMANDS = {
    "index": (["index", "x"], "What was indexed is kept"),
    "reindex": (["reindex", "--embedder", "ocr"], "The index is as it was"),
    "search": (["search", "x"], "Nothing was changed"),
    "ask": (["ask", "x"], "Nothing was changed"),
    "ask paths": (["ask", "x", "a.pdf"], "What was indexed is kept"),
    "eval retrieval": (["eval", "retrieval", "set"], "What --record and the index have is kept"),
    "eval queries": (["eval", "queries", "a", "--out", "b", "--generator", "c"], "What --record and the index have"),
    "train": (["train", "retriever", "base", "pairs", "--output", "run"], "Whole checkpoints are kept"),
    "serve": (["serve"], "Nothing was changed"),
    "mcp": (["mcp"], "Nothing was changed"),
    "demo": (["demo"], "What was indexed is kept"),
}
# The command's own work is replaced by something that waits, and closes what it has open.
PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
from visrag_integrations.cli import main
from visrag_integrations.cli.parser import CommandParser
def wait(arguments):
    try:
        print("working", flush=True)
        while True:  # a signal that comes just before a sleep begins is seen when it ends
            time.sleep(0.1)
    finally:
        time.sleep(0.2)
        print("closed", flush=True)
parsed = CommandParser.parse_args
def parse(self, *given):
    arguments = parsed(self, *given)
    arguments.run = wait
    return arguments
CommandParser.parse_args = parse
sys.exit(main(sys.argv[1:]))
"""


HELLO = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


def started(command: list[str], **settings: object) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_every_command_says_what_became_of_its_work(name: str, number: signal.Signals) -> None:
    arguments, kept = COMMANDS[name]
    process = started([sys.executable, "-c", PROGRAM, *arguments])
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    out, err = process.communicate()
    how, code = ("ended by SIGTERM", 143) if number == signal.SIGTERM else ("interrupted", 130)
    assert err.startswith(f"visrag: {how}. {kept}"), err
    assert (out, process.returncode) == ("closed\n", code)


def test_a_second_sigterm_does_not_cut_off_what_the_first_one_closes() -> None:
    process = started([sys.executable, "-c", PROGRAM.replace("sleep(0.2)", "sleep(1)"), "search", "x"])
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert (out, process.returncode) == ("closed\n", 143)


def test_what_a_program_does_with_sigterm_is_its_own() -> None:
    program = (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: print('mine', flush=True) or exit(7))\n" + PROGRAM
    )
    process = started([sys.executable, "-c", program, "search", "x"])
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("mine\nclosed\n", "", 7)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_mcp_server_on_standard_input_ends_while_it_waits_for_a_line(number: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(load_embedder("ocr"))
    program = "import sys; from visrag_integrations.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["mcp", "--index", str(tmp_path / "index"), "--search-only"]
    process = started([sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    assert "serverInfo" in process.stdout.readline()  # now it waits for the next line
    process.send_signal(number)
    # Its standard input stays open until it has ended.
    code = process.wait(120)
    _, err = process.communicate()
    how, expected = ("ended by SIGTERM", 143) if number == signal.SIGTERM else ("interrupted", 130)
    assert err.endswith(f"visrag: {how}. Nothing was changed.\n")
    assert code == expected


def processes_with(folder: Path) -> list[str]:
    """Command lines of the processes whose temporary folder is in this one."""
    found: list[str] = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended meanwhile
            continue
    return found


def wait_for(what: object, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@pytest.fixture
def indexing(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    """`visrag index` that has begun to read pages by OCR, which takes a second each."""
    documents, temporary = tmp_path / "documents", tmp_path / "tmp"
    documents.mkdir()
    temporary.mkdir()
    for number in range(4):
        draw_pdf(documents / f"{number}.pdf", [f"page {number} {page} of this" for page in range(30)])
    program = "import sys; from visrag_integrations.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["index", str(documents), "--index", str(tmp_path / "index"), "--ocr", "always", "--workers", "1"]
    process = started(
        [sys.executable, "-c", program, *arguments, "--preset", "cpu", "--quiet"],
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    pictures = tmp_path / "index" / "pictures"
    wait_for(lambda: any(pictures.glob("**/*.jpg")) or process.poll() is not None)
    return process, temporary


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc of Linux")
def test_indexing_that_is_ended_leaves_no_process_and_no_folder(
    indexing: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    process, temporary = indexing
    assert processes_with(temporary), "it reads in another process"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143, err
    assert err == "visrag: ended by SIGTERM. What was indexed is kept; run the same command again to go on.\n"
    assert processes_with(temporary) == []
    assert list(temporary.iterdir()) == []
    with QdrantPageStore(tmp_path / "index") as store:
        assert store.count() > 0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc of Linux")
def test_reading_processes_end_with_a_parent_that_is_killed(indexing: tuple[subprocess.Popen[str], Path]) -> None:
    process, temporary = indexing
    process.kill()
    process.communicate()
    wait_for(lambda: not processes_with(temporary))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc of Linux")
def test_a_sigterm_to_reading_processes_fails_no_page(
    indexing: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    """A service manager sends it to all processes of a service; the parent decides when its own end."""
    process, temporary = indexing
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if str(temporary / "visrag-reading").encode() in (place / "environ").read_bytes():
                os.kill(int(place.name), signal.SIGTERM)
        except OSError:
            continue
    with_more = len(list((tmp_path / "index").glob("pictures/**/*.jpg"))) + 1
    wait_for(lambda: len(list((tmp_path / "index").glob("pictures/**/*.jpg"))) > with_more)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143
    assert "failed" not in err
