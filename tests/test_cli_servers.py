"""A server behind `--generator`: which of its models answers, and what is said while it does not."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drawing import draw_pdf
from scripted_server import TEXT, serving

from visrag_integrations.cli import main
from visrag_integrations.generation import openai as generator

pytest.importorskip("openai")
QUESTION = "How many sailing boats are there?"
MODELS = ("text-embedding-3-small", "gpt-4o")
Visrag = Callable[..., tuple[int, str, str]]


@pytest.fixture
def visrag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Visrag:
    """Types a command in a folder with a document; gives the exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    draw_pdf(tmp_path / "boats.pdf", ["The harbour holds forty sailing boats."])

    def typed(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*arguments, "--preset", "cpu"] if arguments[0] in ("index", "ask") else list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return typed


def test_one_of_several_is_named(visrag: Visrag) -> None:
    with serving(models=MODELS) as (url, seen):
        assert visrag("index", "boats.pdf")[0] == 0
        code, _, err = visrag("ask", QUESTION, "--generator", url)
        assert code == 2
        assert f"{url} has 2 models: text-embedding-3-small, gpt-4o. Name one: --model NAME" in err
        assert not seen

        code, out, _ = visrag("ask", QUESTION, "--generator", url, "--model", "gpt-4o", "--prompt", "plain")
        assert (code, seen[-1]["model"]) == (0, "gpt-4o")
        assert TEXT in out
        assert visrag("ask", QUESTION, "--generator", f"{url}#gpt-4o", "--prompt", "plain")[0] == 0
        assert seen[-1]["model"] == "gpt-4o"
        # --model says it as the command; what follows # is a default that a table or a variable may hold
        visrag("ask", QUESTION, "--generator", f"{url}#gpt-4o", "--model", "other", "--prompt", "plain")
        assert seen[-1]["model"] == "other"


def test_the_only_one_needs_no_name(visrag: Visrag) -> None:
    with serving() as (url, seen):
        assert visrag("ask", QUESTION, "boats.pdf", "--generator", url, "--prompt", "plain")[0] == 0
    assert [request["model"] for request in seen] == ["scripted"]


def test_it_is_said_before_anything_is_indexed(visrag: Visrag, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(
        json.dumps({"query": QUESTION, "source": "boats.pdf", "page": 1, "answer": "forty"}), encoding="utf-8"
    )
    with serving(models=MODELS) as (url, _):
        for typed in (
            ("ask", QUESTION, "boats.pdf", "--generator", url),
            ("eval", "answers", "set.jsonl", "--documents", "boats.pdf", "--preset", "cpu", "--generator", url),
        ):
            code, _, err = visrag(*typed)
            assert code == 2
            assert "has 2 models" in err
            assert "1 page" not in err
    assert not (tmp_path / ".visrag" / "collection").exists()


@pytest.mark.parametrize("task", ["queries", "examples", "runs", "judge"])
def test_everywhere(visrag: Visrag, tmp_path: Path, task: str) -> None:
    """Wherever a generator is named, several models are told; an agent's expert as well as a judge."""
    row = {"query": QUESTION, "source": "boats.pdf", "page": 1, "answer": "forty"}
    (tmp_path / "set.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert visrag("index", "boats.pdf")[0] == 0
    with serving(models=MODELS) as (url, seen):
        typed = {
            "queries": ("eval", "queries", "boats.pdf", "--generator", url, "--out", "made.jsonl"),
            "examples": ("train", "examples", "boats.pdf", "--queries", "set.jsonl", "--generator", url),
            "runs": ("train", "runs", "set.jsonl", "--generator", url),
            "judge": ("eval", "answers", "set.jsonl", "--documents", "boats.pdf", "--judge", url, "--preset", "cpu"),
        }[task]
        more = ("--output", "made") if typed[0] == "train" else ()
        code, _, err = visrag(*typed, *more)
    assert code == 2, err
    assert "text-embedding-3-small, gpt-4o" in err
    assert "URL#NAME" in err
    assert not seen


def test_a_server_that_is_not_there_is_asked_again_and_that_is_said(
    visrag: Visrag, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = generator.make_client
    monkeypatch.setattr(generator, "make_client", lambda source, options: made(source, {**options, "max_retries": 1}))
    with serving() as (url, _):
        pass  # nobody listens there now
    assert visrag("index", "boats.pdf")[0] == 0
    code, _, err = visrag("ask", QUESTION, "--generator", url)
    assert code == 2
    assert "cannot be reached" in err
    assert [record.getMessage() for record in caplog.records] == [
        f"{url}/models does not answer, or is busy; trying again"
    ]
    caplog.clear()
    assert visrag("ask", QUESTION, "--generator", url, "-q")[0] == 2
    assert not caplog.records


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", "<html>a web page</html>"),
        ("application/json", '{"error": "no such route"}'),
        ("application/json", '{"data": null}'),
        ("application/json", "[]"),
        ("application/json", "{cut off"),
    ],
)
def test_what_is_no_such_server_is_named_before_anything_is_indexed(visrag: Visrag, kind: str, body: str) -> None:
    with answering(kind, body.encode()) as url:
        code, _, err = visrag("ask", QUESTION, "boats.pdf", "--generator", url)
    assert code == 2
    assert url in err
    assert "Traceback" not in err
    assert "1 page" not in err


@pytest.mark.parametrize("url", ["http://[::1", "http://[::1]:x/v1", "http://localhost:99999/v1", "http:///v1"])
def test_a_mistyped_address(visrag: Visrag, url: str) -> None:
    code, _, err = visrag("ask", QUESTION, "boats.pdf", "--generator", url)
    assert code == 2
    assert f"{url!r} is no URL of a server" in err


def test_the_password_of_an_address_is_not_shown(visrag: Visrag, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "visrag_integrations")
    with serving(models=MODELS) as (url, seen):
        secret = url.replace("http://", "http://me:hush-hush@")
        code, _, err = visrag("ask", QUESTION, "boats.pdf", "--generator", secret)
        assert code == 2
        assert f"{url} has 2 models" in err
        code, out, more = visrag(
            "ask", QUESTION, "boats.pdf", "--generator", f"{secret}#gpt-4o", "--prompt", "plain", "-v"
        )
        assert (code, seen[-1]["model"]) == (0, "gpt-4o")
    _, _, gone = visrag("ask", QUESTION, "--generator", "http://me:hush-hush@localhost:99999")
    _, _, lost = visrag("ask", QUESTION, "--generator", "http://me:hush-hush@[::1")
    assert "hush-hush" not in err + out + more + gone + lost + caplog.text


@contextlib.contextmanager
def answering(kind: str, body: bytes) -> Iterator[str]:
    """Answers everything with these bytes; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
