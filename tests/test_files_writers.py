"""Every file that is kept: a write that stops half-way leaves the one that was there before, whole, and says why."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import PixelEmbedder, ScriptedGenerator, ScriptedRetriever
from PIL import Image

from visrag_integrations import Answer, Page, QdrantPageStore, ScoredPage
from visrag_integrations.agent import Trace, VRAGAgent
from visrag_integrations.cli import evaluate_report, html_files
from visrag_integrations.errors import VisRAGError
from visrag_integrations.evaluation.questions import Question
from visrag_integrations.evaluation.results import EvaluationResult
from visrag_integrations.evaluation.sets import EvaluationSet
from visrag_integrations.evaluation.trec import write_qrels, write_run
from visrag_integrations.files import write_whole
from visrag_integrations.report import answer_to_html, show
from visrag_integrations.store.folder import write_json
from visrag_integrations.store.picture_files import PictureFolder

resource: Any = pytest.importorskip("resource", reason="a limit on the size of files stands for a full disk")

TEXT = "the bridge was opened in 1932 " * 2000
ANSWER = Answer(TEXT)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
PAGE = Page("d", 1, TEXT, "d.pdf", picture=NOISE)
SET = EvaluationSet("set", (Question("1", TEXT, answers=("1932",)),), {"1": {"d.pdf#page=1": 1}})
RUN = {"1": {f"page {number}".replace(" ", "-"): 1.0 / number for number in range(1, 2000)}}


def asked(path: Path) -> argparse.Namespace:
    return argparse.Namespace(html=str(path), open=False)


def trace() -> Trace:
    texts = ("<think>I look.</think><search>bridge</search>", "<think>I see.</think><answer>1932</answer>")
    return VRAGAgent(ScriptedRetriever(ScoredPage(PAGE, 0.5, "maxsim")), ScriptedGenerator(*texts)).run("When?")


def export(path: Path) -> None:
    with QdrantPageStore(":memory:") as store:
        store.prepare(PixelEmbedder())
        store.add_pages([PAGE], PixelEmbedder().embed_pages([PAGE]))
        with limited():
            store.export(path)


def per_query(path: Path) -> None:
    result = EvaluationResult("set", {"1": {"mrr@10": 1.0}}, run=RUN)
    evaluate_report._write_per_query(str(path), SET, result)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Meanwhile no file may have more than 20 kB: a write stops half-way there with an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS: dict[str, Callable[[Path], object]] = {
    "any file": lambda path: write_whole(path, TEXT.encode()),
    "report": lambda path: show(ANSWER, "When?").save(path),
    "ask --html": lambda path: html_files.write(asked(path), answer_to_html("When?", ANSWER)),
    "evaluation set": SET.save,
    "eval --per-query": per_query,
    "run file": lambda path: write_run(RUN, path),
    "judgements": lambda path: write_qrels({"1": dict.fromkeys(RUN["1"], 1)}, path),
    "export": export,
    "description of an index": lambda path: write_json(path, {"text": TEXT}),
    "run of the agent": lambda path: trace().save(path.parent),
    "page picture": lambda path: PictureFolder(path.parent).save(TEXT.encode(), path.name),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_stops_half_way_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / ("trace.json" if name == "run of the agent" else "kept")
    path.write_bytes(b"what was there before")
    with pytest.raises((OSError, VisRAGError)) as raised, limited():
        WRITERS[name](path)
    said = str(raised.value)
    assert "too large" in said, said  # of the system; on a full disk it says "No space left on device"
    assert str(tmp_path) in said
    assert path.read_bytes() == b"what was there before"
    left = [found.name for found in tmp_path.rglob("*") if found.is_file()]
    assert left == [path.name]
    # With room again the same is whole.
    if name != "export":  # which limits itself
        WRITERS[name](path)
        assert path.read_bytes() != b"what was there before"


def test_a_full_disk_leaves_a_training_run_as_it_was(tmp_path: Path) -> None:
    runs = pytest.importorskip("visrag_integrations.training.runs")
    run = runs.RunFolder(tmp_path / "run")
    run.prepare({"base": "x"}, None)
    before = (run.path / "run.json").read_bytes()
    folder = run.unfinished / "checkpoint-5"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 1000)
    with pytest.raises(VisRAGError, match="could not be written"), limited():
        runs.saving("The checkpoint", lambda: run.finish_checkpoint(5, {"skipped": [TEXT]}))
    assert (run.path / "run.json").read_bytes() == before
    assert run.steps() == []
    run.prepare({"base": "x"}, "auto")
    assert sorted(os.listdir(run.path)) == ["run.json"]


def test_the_error_of_a_report_names_its_file(tmp_path: Path) -> None:
    """The system does not say which file had no room."""
    with pytest.raises(OSError) as raised, limited():
        show(replace(ANSWER), "When?").save(tmp_path / "a.html")
    assert raised.value.filename == str(tmp_path / "a.html")
