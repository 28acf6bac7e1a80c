"""Somebody who uses the demo's server without a browser, and the server itself, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
PATIENCE = 120.0  # seconds; machines may be loaded


class Visitor:
    """One session on the page: uploads, and presses what calls the handler of a name."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)
        self.session = secrets.token_hex(8)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def config(self) -> dict[str, Any]:
        return self.http.get("/config").raise_for_status().json()

    def upload(self, *files: tuple[str, bytes]) -> list[dict[str, Any]]:
        sent = self.http.post("/gradio_api/upload", files=[("files", file) for file in files])
        paths = sent.raise_for_status().json()
        return [self.file(path, name) for path, (name, _) in zip(paths, files, strict=True)]

    @staticmethod
    def file(path: str, name: str = "") -> dict[str, Any]:
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def join(self, handler: str, *data: Any) -> httpx.Response:
        """Ask for the first handler of that name."""
        numbers = [d["id"] for d in self.config()["dependencies"] if d["api_name"] == handler]
        body = {"data": list(data), "fn_index": numbers[0], "session_hash": self.session, "event_data": None}
        return self.http.post("/gradio_api/queue/join", json=body)

    def call(self, handler: str, *data: Any) -> list[dict[str, Any]]:
        """Everything the server says until the handler ends; the last message has its output."""
        self.join(handler, *data).raise_for_status()
        said = []
        with self.listen() as lines:
            for line in lines:
                if line.startswith("data:"):
                    said.append(json.loads(line.removeprefix("data:")))
                    if said[-1]["msg"] == "process_completed":
                        break
        return said

    @contextlib.contextmanager
    def listen(self) -> Iterator[Iterator[str]]:
        """The lines of what the server says; ending it is leaving."""
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as said:
            yield said.iter_lines()

    def add(self, base: str, *files: tuple[str, bytes]) -> str:
        """Upload to a knowledge base and watch; the status at the end."""
        self.call("take", base, self.upload(*files), "")
        return self.status(base)

    def status(self, base: str) -> str:
        """What is shown of a knowledge base's documents, from the first look to the last."""
        return str([message["output"]["data"] for message in self.call("watch", base) if "output" in message])

    def ask(
        self,
        base: str,
        question: str,
        kept: object = None,
        *,
        documents: object = (),
        pages: object = 3,
        mode: object = "",
        model: object = "",
        steps: object = False,
    ) -> list[dict[str, Any]]:
        return self.call("ask", *self.asked(base, question, kept, documents, pages, mode, model, steps))

    @staticmethod
    def asked(
        base: str,
        question: object,
        kept: object = None,
        documents: object = (),
        pages: object = 3,
        mode: object = "",
        model: object = "",
        steps: object = False,
    ) -> list[Any]:
        """What the page sends with a question."""
        chosen = list(documents) if isinstance(documents, tuple) else documents
        return [base, question, kept, chosen, pages, mode, model, steps]


@contextlib.contextmanager
def running_demo(folder: Path, *options: str, password: str | None = None) -> Iterator[str]:
    """`visrag demo` on this folder; the URL. It has to end cleanly."""
    command = [sys.executable, "-m", "visrag_integrations.cli", "demo", "--folder", str(folder), "--preset", "cpu"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    env |= {"VISRAG_DEMO_PASSWORD": password} if password else {}
    command += ["--port", str(free_port()), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=env, start_new_session=True, **pipes) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        if "http" not in line:
            server.kill()
            raise AssertionError(f"the demo did not start: {server.communicate()[1]}")
        try:
            yield line.split()[4]
        finally:
            os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
            try:
                _, said = server.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
        assert server.returncode == 0, said
        assert "visrag: stopping" in said


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
