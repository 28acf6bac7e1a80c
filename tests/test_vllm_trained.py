"""A reader that was trained here, on the real vLLM: `make test-vllm` trains it first, in the environment with TRL."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from train_for_vllm import ask

from visrag_integrations import load_generator

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default"), pytest.mark.timeout(1800)]
FOLDER = os.environ.get("VISRAG_TRAINED")


@pytest.mark.skipif(not FOLDER, reason="VISRAG_TRAINED names no folder; `make test-vllm` trains and names one")
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
