"""A reader and an agent that were trained here, on the real vLLM: `make test-vllm` trains them first, where TRL is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from test_vllm_server import CONTEXT, Server
from train_for_vllm import ask, ask_agent

from visrag_integrations import load_generator

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default"), pytest.mark.timeout(1800)]
FOLDER = os.environ.get("VISRAG_TRAINED")


TRAINED = pytest.mark.skipif(not FOLDER, reason="VISRAG_TRAINED names no folder; `make test-vllm` trains and names one")


@TRAINED
def test_a_trained_reader_writes_the_same_on_vllm() -> None:
    assert FOLDER is not None
    kept = json.loads((Path(FOLDER) / "answers.json").read_text(encoding="utf-8"))
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    generator = load_generator(Path(FOLDER) / "checkpoint", engine="vllm", dtype="float32")
    try:
        assert ask(generator) == kept["answers"]
    finally:
        generator.close()
    assert all("<answer>" in text for text in kept["answers"].values())


def turns_here() -> tuple[Path, dict[str, list[str]]]:
    """The agent's folder, and the turns it wrote where it was trained."""
    folder = Path(str(FOLDER))
    turns = json.loads((folder / "answers.json").read_text(encoding="utf-8"))["turns"]
    # It learned to search for the letter that is asked for, then to answer. A training this short may miss a letter,
    # and which one differs from machine to machine; one that learned nothing finds one of twenty.
    assert len(turns) == 8
    right = 0
    for question, (first, second) in turns.items():
        assert first.startswith("</think><search>")
        assert second.startswith("</think><answer>")
        right += first.startswith(f"</think><search>{question[0]}")
    assert right >= 6
    return folder / "agent", turns


@TRAINED
def test_a_trained_agent_writes_the_same_on_vllm() -> None:
    """In this process: prompt, turns and picture sizes are those the checkpoint remembers."""
    folder, turns = turns_here()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    generator = load_generator(folder, engine="vllm", dtype="float32", context_length=CONTEXT, enforce_eager=True)
    try:
        assert ask_agent(generator) == turns
    finally:
        generator.close()


@TRAINED
def test_a_trained_agent_writes_the_same_behind_a_server(tmp_path: Path) -> None:
    """The server does not say where its checkpoint lies: `trained=` does."""
    folder, turns = turns_here()
    server = Server(folder, tmp_path / "log.txt")
    try:
        server.wait()
        generator = load_generator(server.url, max_retries=0)
        assert ask_agent(generator, trained=folder) == turns
        generator.close()
    finally:
        server.kill()
