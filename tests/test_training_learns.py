"""That training teaches something, in a shorter form than `benchmarks/training.py proof`; and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from drawing import draw_pdf
from quads import all_quads, draw, make_base, quads_set, query_of

from visrag_integrations import PageRetriever, QdrantPageStore, load_embedder
from visrag_integrations.cli import main
from visrag_integrations.evaluation import evaluate_retrieval, index_pages
from visrag_integrations.training import train_retriever

torch.set_num_threads(1)
QUADS = all_quads()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("learns") / "base")


def scores(folder: str | Path) -> dict[str, float]:
    """How well 100 pages are found that were never trained on; by chance 0.01 and 0.05."""
    held_out = quads_set(QUADS[-100:], "held")
    with load_embedder(folder, device="cpu") as embedder, QdrantPageStore(":memory:", collection="p") as store:
        index_pages(held_out.pages, embedder, store, progress=False)
        found = evaluate_retrieval(held_out, PageRetriever(embedder, store), ["recall@1", "recall@5"], progress=False)
    return dict(found.metrics)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_held_out_pages_are_found(base: Path, tmp_path: Path) -> None:
    assert scores(base)["recall@5"] < 0.15
    settings: dict[str, Any] = {"max_steps": 50, "lr": 5e-4, "batch_size": 64, "micro_batch": 16}
    report = train_retriever(base, quads_set(QUADS[:2000], "quads"), tmp_path / "run", **settings)
    learned = scores(report.checkpoint)
    assert learned["recall@5"] >= 0.8
    assert learned["recall@1"] >= 0.3


def write_pairs(folder: Path, count: int) -> Path:
    folder.mkdir()
    lines = []
    for number, quad in enumerate(QUADS[:count]):
        draw(quad).save(folder / f"{number}.png")
        lines.append(json.dumps({"query": query_of(quad), "image": f"{number}.png"}))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return folder


RECIPE = ["--max-steps", "2", "--batch-size", "8", "--micro-batch", "4", "--lr", "1e-3"]


def test_command_line(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "data", 16)
    command = ["train", "retriever", str(base), str(data), "--output", str(tmp_path / "run"), *RECIPE]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["steps"] == 2
    assert Path(printed["checkpoint"]) == tmp_path / "run" / "checkpoint-2"
    assert main(command) == 0  # finished: told again
    assert "2 steps, 16 pages" in capsys.readouterr().out
    assert main([*command, "--lora"]) == 2
    assert "holds another run" in capsys.readouterr().err


def test_command_line_names_broken_rows(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "data", 16)
    (data / "3.png").write_bytes(b"broken")
    assert main(["train", "retriever", str(base), str(data), "--output", str(tmp_path / "run"), *RECIPE]) == 1
    assert "pairs.jsonl, row 4" in capsys.readouterr().err


def test_command_line_with_adapters(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "data", 16)
    run = tmp_path / "run"
    assert main(["train", "retriever", str(base), str(data), "--output", str(run), "--lora", *RECIPE]) == 0
    assert main(["train", "merge", str(run / "checkpoint-2"), str(tmp_path / "merged")]) == 0
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    capsys.readouterr()


def test_command_line_with_documents(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for number in range(12):
        draw_pdf(tmp_path / f"{number}.pdf", [f"Report {number}"])
        lines.append(json.dumps({"query": f"report {number}", "relevant": [f"{number}.pdf#page=1"]}))
    (tmp_path / "queries.jsonl").write_text("\n".join(lines))
    own = ["--documents", str(tmp_path), "--queries", str(tmp_path / "queries.jsonl"), "--held-out", "0.25"]
    arguments = ["--max-steps", "1", "--batch-size", "4", "--negatives", "1", "--output", str(tmp_path / "run")]
    assert main(["train", "retriever", str(base), *own, *arguments]) == 0
    assert "recall@10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Give either PAIRS"),
        (["--documents", "."], "belong together"),
        (["nowhere"], "no such file"),
        (["data", "--argument", "no_such=1"], "no_such"),
    ],
)
def test_command_line_says_what_is_wrong(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["train", "retriever", str(base), *arguments, "--output", str(tmp_path / "run")]) == 2
    assert says in capsys.readouterr().err


def test_what_was_indexed_is_indexed_again(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From an index of the base to one of the trained checkpoint, and a search in it."""
    pdf = draw_pdf(tmp_path / "report.pdf", ["one", "two", "three"])
    where = ["--index", str(tmp_path / "index"), "--quiet"]
    assert main(["index", str(pdf), "--embedder", str(base), *where]) == 0
    data = write_pairs(tmp_path / "data", 16)
    assert main(["train", "retriever", str(base), str(data), "--output", str(tmp_path / "run"), *RECIPE]) == 0
    checkpoint = str(tmp_path / "run" / "checkpoint-2")
    capsys.readouterr()
    assert main(["reindex", "--embedder", checkpoint, "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["pages"] == 3
    with QdrantPageStore(str(tmp_path / "index")) as store:
        assert store.info is not None
        assert store.info.embedder == checkpoint
    assert main(["search", "two", "--index", str(tmp_path / "index"), "-k", "3"]) == 0
    assert "report.pdf, page 2" in capsys.readouterr().out
    assert main(["reindex", "--embedder", checkpoint, "--index", str(tmp_path / "nowhere")]) == 2
