"""Run the notebooks beside this file from top to bottom; an error in a cell is an error here.

python notebooks/run.py                        # all of them
python notebooks/run.py 01_search_pages        # one
python notebooks/run.py --save                 # and keep what they print and draw
python notebooks/run.py --embedder openbmb/VisRAG-Ret --generator openbmb/EVisRAG-7B       # on a machine with a GPU
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.resolve()
SECONDS = 900
"""A cell that takes longer has failed; a whole notebook takes well under two minutes on an idle machine."""
_LEFT_OUT = {"application/vnd.jupyter.widget-view+json"}  # without the running notebook a widget is an empty line


def run(path: Path, names: dict[str, str] | None = None) -> tuple[Any, float]:
    """The notebook with its new outputs, and the seconds it took.

    Args:
        path: The notebook.
        names: What its first cell says, changed: EMBEDDER, GENERATOR.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    set_names(notebook, names or {})
    started = time.perf_counter()
    client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(HERE)}})
    # The folders a notebook makes for its index are gone afterwards.
    with tempfile.TemporaryDirectory(prefix="visrag-notebook-") as scratch:
        client.execute(env={**os.environ, "TMPDIR": scratch, "TEMP": scratch, "TMP": scratch})
    return notebook, time.perf_counter() - started


def set_names(notebook: Any, names: dict[str, str]) -> None:
    """Change the first cell with code, and nothing else; a name that a notebook does not have is left out."""
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for name, value in names.items():
        line = f"{name} = {value!r}"
        first.source = re.sub(rf"^{name} = .*$", lambda _: line, first.source, flags=re.MULTILINE)  # noqa: B023


def save(notebook: Any, path: Path) -> None:
    """Write it without what differs from run to run or from machine to machine, and pictures as JPEG only."""
    import nbformat

    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [_kept(output) for output in cell.outputs if _is_worth_keeping(output)]
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",) if key in notebook.metadata}
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def _is_worth_keeping(output: Any) -> bool:
    """Not progress bars, nor a display that was emptied at its end."""
    data = output.get("data", {})
    if output.get("name") == "stderr" or _LEFT_OUT & set(data):
        return False
    return not ("text/html" in data and not data["text/html"])


def _kept(output: Any) -> Any:
    data = output.get("data", {})
    if "image/jpeg" in data:
        data.pop("image/png", None)
    if "text/plain" in data:
        data["text/plain"] = data["text/plain"].replace(f"{HERE.parent}{os.sep}", "")
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, without .ipynb; all when left out")
    parser.add_argument("--save", action="store_true", help="keep the outputs in the notebooks")
    parser.add_argument("--embedder", help="what EMBEDDER of the first cell is to be")
    parser.add_argument("--generator", help="what GENERATOR of the first cell is to be")
    arguments = parser.parse_args()
    changed = {"EMBEDDER": arguments.embedder, "GENERATOR": arguments.generator}
    names = {name: value for name, value in changed.items() if value is not None}
    if names and arguments.save:
        parser.error("--save keeps what everybody gets: leave --embedder and --generator out.")
    if not names:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    paths = [HERE / f"{name}.ipynb" for name in arguments.names] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        notebook, seconds = run(path, names)
        print(f"{path.name}: {seconds:.0f} s", flush=True)
        if arguments.save:
            save(notebook, path)


if __name__ == "__main__":
    main()
