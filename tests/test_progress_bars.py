"""Progress bars in a notebook's real kernel, with ipywidgets and without; and in a terminal, which has neither."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import ipywidgets  # noqa: F401  # the widget's own package: a test below is about it
import nbformat
import pytest
from drawing import draw_pdf
from nbclient import NotebookClient

from visrag_integrations.progress_bars import in_notebook, progress_bar, set_total

WITHOUT = "import sys; sys.modules['ipywidgets'] = None\n"  # as if it were not installed
INDEX = """
import warnings
warnings.simplefilter("error")
from visrag_integrations import QdrantPageStore, index_documents, load_embedder
with QdrantPageStore(":memory:") as store:
    print(index_documents([{path!r}], store=store, embedder=load_embedder("ocr"), **{settings!r}).pages)
warnings.resetwarnings()
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return draw_pdf(tmp_path / "drawn.pdf", ["first page", "second page", "third page"])


def outputs_of(code: str) -> tuple[list[Any], NotebookClient]:
    """What a cell with this code leaves below itself."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client = NotebookClient(notebook, timeout=240, kernel_name="python3", coalesce_streams=True)
    client.execute()
    return notebook.cells[0].outputs, client


def written(outputs: list[Any], name: str) -> str:
    return "".join(output["text"] for output in outputs if output.get("name") == name)


@pytest.mark.slow
def test_a_notebook_without_ipywidgets_shows_a_bar_of_text_and_no_warning(document: Path) -> None:
    outputs, client = outputs_of(WITHOUT + INDEX.format(path=str(document), settings={}))
    assert written(outputs, "stdout") == "3\n"
    assert "drawn.pdf: 100%" in written(outputs, "stderr")
    assert "3/3 pages" in written(outputs, "stderr")
    assert "Warning" not in written(outputs, "stderr")
    assert not client.widget_state


@pytest.mark.slow
def test_a_notebook_with_ipywidgets_shows_a_widget_and_no_warning(document: Path) -> None:
    outputs, client = outputs_of(INDEX.format(path=str(document), settings={}))
    assert written(outputs, "stderr") == ""
    views = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(views) == 1
    bars = [state for state in client.widget_state.values() if state.get("_model_name") == "FloatProgressModel"]
    assert [(bar["value"], bar["max"], bar["bar_style"]) for bar in bars] == [(3, 3, "success")]
    words = [state["value"] for state in client.widget_state.values() if state.get("_model_name") == "HTMLModel"]
    assert any("drawn.pdf" in value for value in words)
    assert any("3/3" in value for value in words)


@pytest.mark.slow
def test_who_wants_no_bar_gets_none_in_a_notebook(document: Path) -> None:
    for before in ("", WITHOUT):
        outputs, client = outputs_of(before + INDEX.format(path=str(document), settings={"progress": False}))
        assert written(outputs, "stdout") == "3\n"
        assert written(outputs, "stderr") == ""
        assert not client.widget_state


@pytest.mark.slow
def test_an_evaluation_in_a_notebook_has_a_bar_too() -> None:
    code = """
from visrag_integrations import Page, PageRetriever, QdrantPageStore, load_embedder
from visrag_integrations.evaluation import EvaluationSet, Question, evaluate_retrieval, index_pages
page = Page("d", 1, text="words of a page")
asked = EvaluationSet("one", (Question("q", "words"),), {"q": {page.id: 1}})
with QdrantPageStore(":memory:") as store:
    embedder = load_embedder("ocr")
    index_pages([page], embedder, store)
    evaluate_retrieval(asked, PageRetriever(embedder, store), ["mrr@10"])
"""
    shown = written(outputs_of(WITHOUT + code)[0], "stderr")
    assert "Indexing: 100%" in shown
    assert "1/1" in shown


def test_outside_a_notebook_a_bar_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert not in_notebook()
    with progress_bar(None, total=2, desc="Working") as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""
    with progress_bar(True, total=2, desc="Working") as bar:
        bar.update(2)
    assert "Working: 100%" in capsys.readouterr().err
    with progress_bar(False, total=2, desc="Working") as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""


def test_a_total_that_comes_late_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(True, desc="Working", file=(stream := io.StringIO())) as bar:
        set_total(bar, 4)
        bar.update(1)
        bar.refresh()
    assert "1/4" in stream.getvalue()


def test_ipython_in_a_terminal_is_no_notebook() -> None:
    code = (
        "from IPython.core.interactiveshell import InteractiveShell; InteractiveShell.instance()\n"
        "from visrag_integrations.progress_bars import in_notebook; print(in_notebook())"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.stdout == "False\n", finished.stderr
