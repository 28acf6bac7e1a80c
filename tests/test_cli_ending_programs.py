"""SIGTERM and Ctrl-C end the real commands in the middle of their work: nothing is left, and it is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from drawing import draw_pdf
from test_cli_ending import processes_with, started, wait_for

from visrag_integrations import PageReader, QdrantPageStore, index_documents, load_embedder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc of Linux"),
]
ENDS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
VISRAG = "import sys; from visrag_integrations.cli import main; sys.exit(main(sys.argv[1:]))"
MODELS = b'{"object": "list", "data": [{"id": "slow", "object": "model"}]}'


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    draw_pdf(tmp_path / "a.pdf", [f"page {page} counts {page} boats" for page in range(40)])
    with QdrantPageStore(tmp_path / "index") as store:
        index_documents(
            [tmp_path / "a.pdf"],
            store=store,
            embedder=load_embedder("ocr"),
            reader=PageReader(ocr="never", max_pages=6),
            progress=False,
        )
    return tmp_path / "index"


def visrag(temporary: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """The command, whose temporary folder is its own; so is that of every process that it starts."""
    command = [sys.executable, "-c", VISRAG, *map(str, arguments)]
    return started(command, env={**os.environ, "TMPDIR": str(temporary)}, cwd=temporary.parent)


def ended(process: subprocess.Popen[str], number: signal.Signals, temporary: Path) -> tuple[str, int]:
    """What it says and its exit code, when it has left nothing."""
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, err = process.communicate()
    assert processes_with(temporary) == []
    assert list(temporary.iterdir()) == []
    return err, process.returncode


def expected(number: signal.Signals, kept: str) -> tuple[str, int]:
    if number == signal.SIGTERM:
        return f"visrag: ended by SIGTERM. {kept}\n", 143
    return f"visrag: interrupted. {kept}\n", 130


@contextmanager
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """A server that says which model it has, and answers nothing else; and whether it was asked something else."""
    asked, over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if not self.path.endswith("/models"):
                self.do_POST()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(MODELS)))
            self.end_headers()
            self.wfile.write(MODELS)

        def do_POST(self) -> None:
            asked.set()
            over.wait()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            over.set()
            server.shutdown()
            thread.join()


@ENDS
def test_ask_while_the_generator_thinks(index: Path, temporary: Path, number: signal.Signals) -> None:
    pytest.importorskip("openai")
    with silent_server() as (url, asked):
        process = visrag(temporary, "ask", "how many boats?", "--index", index, "--generator", f"{url}/v1")
        wait_for(lambda: asked.is_set() or process.poll() is not None)
        assert ended(process, number, temporary) == expected(number, "Nothing was changed.")


def test_search_while_the_server_is_silent(temporary: Path) -> None:
    with silent_server() as (url, asked):
        process = visrag(temporary, "search", "boats", "--index", url)
        wait_for(lambda: asked.is_set() or process.poll() is not None)
        assert ended(process, signal.SIGTERM, temporary) == expected(signal.SIGTERM, "Nothing was changed.")


def test_eval_while_the_generator_thinks(index: Path, temporary: Path, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    (tmp_path / "questions.jsonl").write_text('{"query": "boats", "answer": "3", "source": "a.pdf", "page": 3}\n')
    record = tmp_path / "record.jsonl"
    with silent_server() as (url, asked):
        arguments = ["answers", tmp_path / "questions.jsonl", "--record", record, "--quiet", "--index", index]
        process = visrag(temporary, "eval", *arguments, "--generator", f"{url}/v1")
        wait_for(lambda: asked.is_set() or process.poll() is not None)
        kept = "What --record and the index have is kept; run the same command again to go on."
        assert ended(process, signal.SIGTERM, temporary) == expected(signal.SIGTERM, kept)


@ENDS
def test_reindex_while_it_reads(index: Path, temporary: Path, number: signal.Signals) -> None:
    arguments = ["--read-again", "--ocr", "always", "--workers", "1", "--max-pages", "40", "--quiet"]
    process = visrag(temporary, "reindex", *arguments, "--index", index)
    reading = str(temporary / "visrag-reading").encode()
    wait_for(lambda: _is_running_with(reading) or process.poll() is not None)
    kept = "The index is as it was. What was embedded is kept: the same command goes on from there."
    assert ended(process, number, temporary) == expected(number, kept)
    with QdrantPageStore(index) as store:
        assert store.count() == 6


def _is_running_with(folder: bytes) -> bool:
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if folder in (place / "environ").read_bytes():
                return True
        except OSError:  # it ended meanwhile
            continue
    return False


def test_the_demo_that_is_up(temporary: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    process = visrag(temporary, "demo", "--folder", tmp_path / "bases", "--preset", "cpu")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("The demo is at http"), process.communicate()
    with urllib.request.urlopen(line.split()[4], timeout=60) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert err.endswith("stopping; what was indexed is kept.\n"), err
    assert process.returncode == 0
    assert processes_with(temporary) == []
    assert [path for path in temporary.rglob("*") if path.is_file()] == []  # Gradio makes an empty folder


@ENDS
def test_training_between_two_checkpoints(temporary: Path, tmp_path: Path, number: signal.Signals) -> None:
    pytest.importorskip("accelerate")
    from quads import make_base
    from test_training_learns import write_pairs

    base, pairs, run = make_base(tmp_path / "base"), write_pairs(tmp_path / "pairs", 16), tmp_path / "run"
    steps = ["--max-steps", "100000", "--save-steps", "2", "--batch-size", "4", "--micro-batch", "4"]
    process = visrag(temporary, "train", "retriever", base, pairs, "--output", run, *steps)
    wait_for(lambda: any(run.glob("checkpoint-*")) or process.poll() is not None)
    said, code = ended(process, number, temporary)
    message, right = expected(number, "Whole checkpoints are kept; the same command goes on from the last one.")
    assert said.endswith(message)
    assert code == right
    for checkpoint in run.glob("checkpoint-*"):
        assert (checkpoint / "model.safetensors").exists()
