"""The notebooks as they are stored; `make notebooks` also runs them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
NAMES = [
    "01_search_pages",
    "02_ask_with_evidence",
    "03_langchain",
    "04_llamaindex",
    "05_evaluate",
    "06_train_your_retriever",
]
each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def cells_of(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def test_all_notebooks_are_there() -> None:
    assert [path.stem for path in PATHS] == NAMES


@each_notebook
def test_every_cell_is_short_and_has_a_sentence_above(path: Path) -> None:
    cells = cells_of(path)
    assert cells[0]["cell_type"] == "markdown"
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown"
            assert len("".join(cell["source"]).splitlines()) <= 15
            assert "".join(before["source"]).rstrip().endswith((".", "`."))


@each_notebook
def test_one_cell_shows_what_to_change_for_a_gpu(path: Path) -> None:
    said = [i for i, cell in enumerate(cells_of(path)) if "**With a GPU**" in "".join(cell["source"])]
    assert len(said) == 1
    assert '("openbmb/' in "".join(cells_of(path)[said[0] + 1]["source"])


@each_notebook
def test_outputs_are_stored_and_small(path: Path) -> None:
    assert path.stat().st_size < 1_000_000
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert all(cell["execution_count"] for cell in code)
    assert any({"image/jpeg", "text/html"} & set(output.get("data", {})) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)


@each_notebook
def test_nothing_of_the_machine_is_stored(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert "/home/" not in text


@pytest.mark.notebooks
@pytest.mark.timeout(900)
@each_notebook
def test_it_runs(path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(NOTEBOOKS / "run.py"), path.stem]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    print(finished.stdout)
