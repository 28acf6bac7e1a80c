"""The notebooks: as they are stored, run as they are, and run with models of one's own; `make notebooks` runs them."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import nbclient
import pytest
import tiny_models
from IPython.core.interactiveshell import InteractiveShell
from quads import make_base
from scripts_by_path import load_script
from tiny_retrievers import tiny

from visrag_integrations.embedders import embedder_names
from visrag_integrations.known_models import GENERATORS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
NAMES = [
    "01_search_pages",
    "02_ask_with_evidence",
    "03_langchain",
    "04_llamaindex",
    "05_evaluate",
    "06_see_what_the_model_saw",
    "07_train_your_retriever",
]
ONLY_SEARCH = {"01_search_pages", "07_train_your_retriever"}
"""Nothing is generated in these."""
NEEDS_THE_CLONE = {"07_train_your_retriever"}
each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def cells_of(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code_of(path: Path) -> list[str]:
    return [source(cell) for cell in cells_of(path) if cell["cell_type"] == "code"]


def words_of(path: Path) -> list[str]:
    return [source(cell) for cell in cells_of(path) if cell["cell_type"] == "markdown"]


# --- as they are stored -----------------------------------------------------------------------------------------------


def test_all_notebooks_are_there() -> None:
    assert [path.stem for path in PATHS] == NAMES


def test_the_page_about_them_names_each() -> None:
    said = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"[{name}](../notebooks/{name}.ipynb)" in said


@each_notebook
def test_every_link_to_another_notebook_leads_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+\.ipynb)\)", "\n".join(words_of(path))):
        assert (NOTEBOOKS / target).is_file(), target


@each_notebook
def test_every_cell_is_short_and_has_a_sentence_above(path: Path) -> None:
    cells = cells_of(path)
    assert cells[0]["cell_type"] == "markdown"
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown"
            lines = source(cell).splitlines()
            assert len(lines) <= 15
            assert max(map(len, lines)) <= 95  # wider ones are cut where the page is narrow
            assert source(before).rstrip().endswith((".", "`."))


@each_notebook
def test_the_first_cell_holds_the_names_to_change_and_nothing_else(path: Path) -> None:
    names = ["EMBEDDER"] if path.stem in ONLY_SEARCH else ["EMBEDDER", "GENERATOR"]
    found = []
    for statement in ast.parse(code_of(path)[0]).body:
        assert isinstance(statement, ast.Assign)
        assert isinstance(statement.value, ast.Constant)
        assert isinstance(statement.value.value, str)
        found.append(ast.unparse(statement.targets[0]))
    assert found == names
    used = "\n".join(code_of(path)[2:])  # after the cell that installs
    for name in names:
        assert re.search(rf"\b{name}\b", used), f"{name} can be changed, and nothing reads it"


@each_notebook
def test_what_to_write_for_a_gpu_stands_above_that_cell_and_is_known(path: Path) -> None:
    cells = cells_of(path)
    first = next(place for place, cell in enumerate(cells) if cell["cell_type"] == "code")
    above = source(cells[first - 1])
    assert "**With a GPU**" in above
    assert sum("**With a GPU**" in words for words in words_of(path)) == 1
    for name in re.findall(r'`EMBEDDER = "([^"]+)"`', above):
        assert name in embedder_names()
    for name in re.findall(r'`GENERATOR = "([^"]+)"`', above):
        assert name in {model.name for model in GENERATORS}
    assert re.search(r'`EMBEDDER = "[^"]+/[^"]+"`', above)


@each_notebook
def test_no_line_waits_to_be_uncommented(path: Path) -> None:
    for cell in code_of(path):
        assert not re.search(r"^\s*#\s*[\w.]+(\(| =)", cell, re.MULTILINE), cell


@each_notebook
def test_models_are_loaded_by_the_names_of_the_first_cell(path: Path) -> None:
    code = "\n".join(code_of(path)[1:])
    spelled = re.findall(r"""(?:load_embedder|load_generator|ChatEVisRAG|EVisRAGLLM)\(\s*["']([^"']+)""", code)
    # What another embedder is compared with is a second one.
    assert spelled == (["ocr"] if path.stem == "05_evaluate" else [])


@each_notebook
def test_only_one_needs_the_clone_and_says_so(path: Path) -> None:
    needs = "../" in "\n".join(code_of(path))
    assert needs == (path.stem in NEEDS_THE_CLONE)
    assert ("needs a clone of the repository" in words_of(path)[0]) == needs


@each_notebook
def test_outputs_are_stored_and_small(path: Path) -> None:
    assert path.stat().st_size < 1_000_000
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert all(cell["execution_count"] for cell in code)
    assert any({"image/jpeg", "text/html"} & set(output.get("data", {})) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert not any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)


@each_notebook
def test_nothing_of_the_machine_is_stored(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for folder in ("/tmp/", "/home/", "/root/", "/Users/", f"{ROOT}{os.sep}"):
        assert folder not in text


# --- the cell that installs -------------------------------------------------------------------------------------------


def installed(path: Path, monkeypatch: pytest.MonkeyPatch, missing: set[str], **names: str) -> list[str]:
    """What `%pip` is called with by the second cell, where these packages are missing."""
    shell = InteractiveShell()
    called: list[str] = []
    shell.register_magic_function(called.append, "line", "pip")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name))
    for cell in code_of(path)[:2]:
        shell.run_cell(cell).raise_error()
        shell.user_ns.update(names)
    return called


@each_notebook
def test_nothing_is_installed_where_everything_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed(path, monkeypatch, set()) == []


@each_notebook
def test_extras_that_exist_are_installed_where_the_package_is_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = installed(path, monkeypatch, {"visrag_integrations"})
    extras = re.fullmatch(r'install --quiet "visrag-integrations\[([\w,-]+)\]"', line)
    assert extras is not None, line
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) <= set(known)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("01_search_pages", "rapidocr", "cpu"),
        ("03_langchain", "langchain_core", "langchain"),
        ("04_llamaindex", "llama_index", "llamaindex"),
        ("07_train_your_retriever", "accelerate", "training"),
    ],
)
def test_an_extra_that_is_missing_is_installed(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = installed(NOTEBOOKS / f"{name}.ipynb", monkeypatch, {module})
    assert extra in re.findall(r"[\w-]+", line)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ONLY_SEARCH])
def test_what_other_models_need_is_installed_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, missing = NOTEBOOKS / f"{name}.ipynb", {"transformers", "openai"}
    assert installed(path, monkeypatch, missing) == []
    (line,) = installed(path, monkeypatch, missing, EMBEDDER="openbmb/VisRAG-Ret")
    assert "torch" in line
    assert "openai" not in line
    (line,) = installed(path, monkeypatch, missing, GENERATOR="http://localhost:8000/v1")
    assert "openai" in line
    assert "torch" not in line


# --- run --------------------------------------------------------------------------------------------------------------


def written(notebook: Any) -> str:
    """All that its cells printed or drew, as text."""
    parts: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            parts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
            parts.append(output.get("data", {}).get("text/html", ""))
    return "\n".join(parts)


def ran(name: str, monkeypatch: pytest.MonkeyPatch, **names: Path | str) -> str:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Threads of one small operation wait for each other, which on a busy machine takes ten times as long.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client that talks to the kernel; the kernel has filters of its own
        notebook, seconds = load_script(NOTEBOOKS / "run.py").run(
            NOTEBOOKS / f"{name}.ipynb", {key: str(names[key]) for key in names}
        )
    print(f"{name}: {seconds:.0f} s")
    return written(notebook)


@pytest.mark.notebooks
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(name, monkeypatch)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL that reads the pages, and ends its text at the first of many letters: random texts are long."""
    folder = tiny_models.build_qwen2_5_vl(tmp_path_factory.mktemp("generator"))
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    settings["eos_token_id"] = [settings["eos_token_id"], *(vocabulary[letter] for letter in "aeinorstKLMN0123")]
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.mark.notebooks
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_with_models_of_ones_own(
    name: str, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real networks, tiny and random, in the first cell: what somebody with a GPU does with large ones."""
    embedder = make_base(tmp_path / "visrag-ret")  # one vector a page
    if name == "06_see_what_the_model_saw":
        embedder = tiny("colmodernvbert")  # which has patches
    shown = ran(name, monkeypatch, EMBEDDER=embedder, GENERATOR=generator)
    assert str(embedder) in shown
    assert (str(generator) in shown) == (name not in ONLY_SEARCH)


@pytest.mark.notebooks
@pytest.mark.timeout(600)
def test_a_map_of_an_embedder_without_patches_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="has no patches to show"):
        ran("06_see_what_the_model_saw", monkeypatch, EMBEDDER="ocr")
