"""The benchmark of searches runs, and prints every layer with its ratio; its numbers are looked at by people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "search.py"


@pytest.mark.slow
def test_every_layer_is_measured() -> None:
    pytest.importorskip("langchain_core")
    pytest.importorskip("llama_index.core")
    run = subprocess.run([sys.executable, str(SCRIPT), "--quick"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for layer in ("engine, dense", "core, dense", "LangChain, hybrid", "LlamaIndex, hybrid", "engine, two searches"):
        assert layer in run.stdout
    assert "core hybrid / the engine's two searches:" in run.stdout
    assert "filter, no index: year:" in run.stdout
