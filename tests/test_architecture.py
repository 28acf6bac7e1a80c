"""The arrow table of docs/design.md, checked from the imports themselves, and what importing the package loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import visrag_integrations

PACKAGE = Path(visrag_integrations.__file__).parent
ROWS = {
    "errors": 0,
    "images": 1,
    "types": 2,
    "image_urls": 2,
    "interfaces": 3,
    "models": 4,
    "scoring": 4,
    "lexical": 4,
    "ocr": 4,
    "readers": 5,
    "embedders": 5,
    "store": 5,
    "generation": 5,
    "retrieval": 6,
    "similarity": 6,
    "rag": 7,
    "agent": 7,
    "ingestion": 7,
    "evaluation": 7,
    "grounding": 7,
    "report": 8,
    "web": 8,
    "langchain": 9,
    "llamaindex": 9,
    "demo": 9,
    "serve": 9,
    "mcp": 9,
    "cli": 10,
}
LEAVES = {"langchain", "llamaindex", "demo", "serve", "mcp"}
HEAVY = {
    "torch",
    "transformers",
    "vllm",
    "ray",
    "gradio",
    "langchain_core",
    "llama_index",
    "openai",
    "rapidocr",
    "wordllama",
    "fastapi",
    "uvicorn",
    "mcp",
    "datasets",
    "pyarrow",
    "pandas",
}
HEAVY_HOMES = {
    "langchain_core": {"langchain"},
    "llama_index": {"llamaindex"},
    "torch": {"models", "embedders", "generation", "ingestion"},
    "transformers": {"embedders", "generation"},
    "vllm": {"generation"},
    "ray": {"ingestion"},
    "gradio": {"demo"},
    "fastapi": {"serve"},
    "uvicorn": {"web"},
    "mcp": {"mcp"},
    "datasets": {"evaluation"},
    "pyarrow": {"evaluation", "ingestion"},
    "openai": {"generation", "embedders"},
    "rapidocr": {"ocr"},
    "wordllama": {"embedders"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if node.module == "visrag_integrations":
                found |= {f"visrag_integrations.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("visrag_integrations.")}
    return {room for room in ours if room in ROWS}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_upward(path: Path) -> None:
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    assert room in ROWS, f"{room} is no room of docs/design.md"
    for other in rooms_imported(path) - {room}:
        assert ROWS[other] < ROWS[room], f"{path.name} ({room}) must not import {other}"
        assert other not in LEAVES or room == "cli"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_their_rooms(path: Path) -> None:
    for name in {name.split(".")[0] for name in imports_of(path)} & set(HEAVY_HOMES):
        assert room_of(path) in HEAVY_HOMES[name], f"{path.name} must not import {name}"


def test_models_import_torch_and_errors_only() -> None:
    for path in FILES:
        if room_of(path) == "models":
            assert rooms_imported(path) <= {"models", "errors"}, path


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import visrag_integrations; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & (HEAVY | {"numpy", "PIL", "pymupdf", "pypdfium2", "qdrant_client", "qdrant_edge", "tqdm"})


def test_public_names_are_complete() -> None:
    assert sorted(visrag_integrations.__all__) == visrag_integrations.__all__
    assert set(visrag_integrations._HOMES) == set(visrag_integrations.__all__)
    for name in visrag_integrations.__all__:
        assert getattr(visrag_integrations, name).__name__ == name
    assert set(dir(visrag_integrations)) == {*visrag_integrations.__all__, "__version__"}
    with pytest.raises(AttributeError, match="PageReader"):
        _ = visrag_integrations.PageReaders
