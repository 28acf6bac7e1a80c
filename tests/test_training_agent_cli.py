"""`visrag train runs` and `visrag train agent`, typed as docs/training.md says: from a set of questions to an agent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: F401  (these tests are left out where it is not installed)
from drawing import draw_pdf
from scripted_server import serving
from tiny_models import shared_qwen2_5_vl

from visrag_integrations.agent.remembered import FILE
from visrag_integrations.cli import main

pytest.importorskip("trl", reason="TRL needs Python 3.11")
pytest.importorskip("openai")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FACTS = (
    ("How many sailing boats does the harbour hold?", "forty", "The harbour holds forty sailing boats."),
    ("How much do the anchors weigh?", "two hundred pounds", "Anchors weigh two hundred pounds each."),
)
# The expert searches, and then says the answer to the first question, whatever was asked.
EXPERT = ("<think>first look</think><search>sailing boats</search>", "<think>it is there</think><answer>forty</answer>")
# Two turns over small pages, and answers of a few letters: a step takes a second on a processor.
SMALL = [
    f"--recipe={name}={value}"
    for name, value in {"template": "{question}", "max_turns": 1, "min_pixels": 3136, "max_pixels": 12544}.items()
]
Visrag = Callable[..., tuple[int, str, str]]


@pytest.fixture
def visrag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Visrag:
    """Types a command in a folder with two pages, their index, and questions about them."""
    monkeypatch.chdir(tmp_path)
    draw_pdf(tmp_path / "harbour.pdf", [fact for _, _, fact in FACTS])
    rows: list[dict[str, Any]] = []
    for number, (question, answer, _) in enumerate(FACTS, 1):
        row = {"id": f"q{number}", "query": question, "source": "harbour.pdf", "page": number, "answer": answer}
        rows.append(row)
    (tmp_path / "made.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def typed(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    assert typed("index", "harbour.pdf", "--preset", "cpu")[0] == 0
    return typed


def test_from_questions_to_an_agent(visrag: Visrag, tmp_path: Path) -> None:
    with serving(EXPERT) as (url, asked):
        typed = ("train", "runs", "made.jsonl", "--generator", url, "--output", "runs")
        code, out, err = visrag(*typed)
        assert code == 0, err
        assert out == "1 runs in runs; 1 questions left out\n"
        assert "visrag: left out: q2: its answer 'forty' is not approved" in err
        assert len(asked) == 4
        (row,) = [json.loads(line) for line in (tmp_path / "runs" / "train.jsonl").read_text("utf-8").splitlines()]
        assert [message["content"] for message in row["messages"]][1::2] == list(EXPERT)
        # Typed again it goes on from what is there: nobody is asked a second time.
        code, out, _ = visrag(*typed, "--json")
        assert (code, len(asked)) == (0, 4)
        assert json.loads(out)["runs"] == 1

    steps = ("--max-steps", "2", "--batch-size", "1", "--micro-batch", "1", "--seed", "3", *SMALL)
    code, out, err = visrag(
        "train", "agent", str(shared_qwen2_5_vl()), "runs/train.jsonl", "--output", "run-sft", *steps
    )
    assert code == 0, err
    checkpoint = Path("run-sft", "checkpoint-2")
    assert out.startswith(f"{checkpoint}  (2 steps, ")
    assert json.loads((checkpoint / FILE).read_text("utf-8"))
    assert (tmp_path / "run-sft" / "report.json").is_file()

    # The second stage judges by a server's model, and keeps what it said.
    with serving(("yes",)) as (url, judged):
        code, out, err = visrag(
            *("train", "agent", str(checkpoint), "made.jsonl", "--stage", "rl", "--output", "run-rl", "--json"),
            *("--judge", url, "--verdicts", "verdicts.jsonl", "--evaluate", "made.jsonl", "--max-steps", "1"),
            *("--batch-size", "2", "--micro-batch", "4", "--recipe=samples=2", "--recipe=max_response=8", *SMALL),
        )
    assert code == 0, err
    report = json.loads(out.splitlines()[-1])
    assert report["steps"] == 1
    assert Path(report["checkpoint"]) == Path("run-rl", "checkpoint-1")
    assert set(report["scores"][-1][1]) >= {"em", "f1", "ndcg", "turns"}
    assert list((tmp_path / "run-rl" / "traces").glob("*.html"))
    assert all(request["model"] == "scripted" for request in judged)

    code, out, err = visrag(
        *("ask", FACTS[0][0], "--agent", "--generator", report["checkpoint"], "--device", "cpu", "--max-tokens", "8"),
        "--json",
    )
    assert code == 0, err
    assert json.loads(out)["steps"]


def test_the_index_of_a_server_is_searched(visrag: Visrag, tmp_path: Path) -> None:
    uvicorn, _ = pytest.importorskip("uvicorn"), pytest.importorskip("fastapi")
    from demo_visitor import free_port

    from visrag_integrations import PageRetriever, QdrantPageStore, load_embedder
    from visrag_integrations.servers.http import create_app

    port = free_port()
    with QdrantPageStore(tmp_path / ".visrag") as store:
        app = create_app(PageRetriever(load_embedder("ocr"), store))
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
        try:
            with serving(EXPERT) as (url, _):
                code, out, err = visrag(
                    *("train", "runs", "made.jsonl", "--search", f"http://127.0.0.1:{port}"),
                    *("--generator", url, "--cropper", f"{url}#scripted", "--output", "runs"),
                )
        finally:
            server.should_exit = True
            thread.join()
    assert code == 0, err
    assert "questions left out" in out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("runs", "no.jsonl", "--generator", "extractive", "--output", "runs"), "no.jsonl: there is no such file"),
        (("runs", "made.jsonl", "--generator", "no-such", "--output", "runs"), "no-such"),
        (("runs", "made.jsonl", "--generator", "extractive", "--output", "o", "--index", "no"), "visrag index PATH"),
        (("agent", "no-folder", "made.jsonl", "--stage", "rl", "--output", "run"), "no-folder"),
        (("agent", "BASE", "no.jsonl", "--output", "run"), "no.jsonl"),
    ],
)
def test_mistakes(visrag: Visrag, tmp_path: Path, typed: tuple[str, ...], said: str) -> None:
    base = str(shared_qwen2_5_vl())
    code, _, err = visrag("train", *(base if word == "BASE" else word for word in typed))
    assert code == 2
    assert said in err
    assert not (tmp_path / "runs" / "train.jsonl").exists()


def test_an_expert_of_gigabytes_is_not_fetched_for_a_processor(visrag: Visrag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visrag_integrations.cli.loading._why_no_gpu", lambda: " (no NVIDIA driver is here)")
    for task in (("runs", "made.jsonl"), ("examples", "harbour.pdf", "--queries", "made.jsonl")):
        code, _, err = visrag("train", *task, "--generator", "Qwen/Qwen3-VL-8B-Instruct", "--output", "made")
        assert code == 2
        assert "No GPU was found" in err
        assert "--device cpu" in err
