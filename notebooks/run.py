"""Run the notebooks beside this file from top to bottom; an error in a cell is an error here.

python notebooks/run.py                        # all of them
python notebooks/run.py 01_search_pages        # one
python notebooks/run.py --save                 # and keep what they print and draw
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SECONDS = 600
"""A cell that takes longer has failed; a whole notebook takes well under two minutes on an idle machine."""


def run(path: Path) -> tuple[Any, float]:
    """The notebook with its new outputs, and the seconds it took."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    started = time.perf_counter()
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(HERE)}}).execute()
    return notebook, time.perf_counter() - started


def save(notebook: Any, path: Path) -> None:
    """Write it without what differs from run to run, and pictures as JPEG only."""
    import nbformat

    for cell in notebook.cells:
        cell.metadata = {}
        cell.outputs = [_kept(output) for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        if cell.cell_type != "code":
            del cell["outputs"]
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",) if key in notebook.metadata}
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def _kept(output: Any) -> Any:
    if "image/jpeg" in output.get("data", {}):
        output["data"].pop("image/png", None)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, without .ipynb; all when left out")
    parser.add_argument("--save", action="store_true", help="keep the outputs in the notebooks")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    paths = [HERE / f"{name}.ipynb" for name in arguments.names] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        notebook, seconds = run(path)
        print(f"{path.name}: {seconds:.0f} s", flush=True)
        if arguments.save:
            save(notebook, path)


if __name__ == "__main__":
    main()
