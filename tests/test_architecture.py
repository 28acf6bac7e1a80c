"""The arrow table of docs/design.md, checked from the imports themselves, and what importing the package loads."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import visrag_integrations

PACKAGE = Path(visrag_integrations.__file__).parent
ROWS = {
    # words
    "errors": 0,
    "telemetry": 0,
    "lazy": 0,  # names of a package that are imported when they are asked for
    "sample_documents": 0,
    "progress_bars": 0,
    "page_ids": 0,  # UUIDs made of a document and a number
    "known_models": 0,  # data: which models there are
    "files": 1,
    "fetching": 1,  # pictures that come as URLs are fetched through it
    "images": 2,  # a Page opens its picture through it
    "types": 3,
    "interfaces": 4,
    # matter
    "ocr": 5,
    "scores": 5,
    "models": 5,
    # plugs
    "readers": 6,
    "embedders": 6,
    "store": 6,
    "generation": 6,
    # work
    "retrieval": 7,
    "rerankers": 7,
    "remote": 7,  # a retriever behind a URL
    "indexing": 7,
    "rag": 8,
    "agent": 8,
    "ingestion": 8,
    "evaluation": 8,
    "grounding": 8,
    "report": 9,
    "training": 10,
    # faces
    "langchain": 11,
    "llamaindex": 11,
    "servers": 11,
    "cli": 12,
}
FACES = {"langchain", "llamaindex", "servers"}  # only the command line may import them
SERVERS = {"web": 0, "http": 1, "mcp": 1, "ultrarag": 1, "demo": 1}  # the same rule, inside servers/
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
    "accelerate",
    "peft",
    "trl",
}
HEAVY_HOMES = {
    "langchain_core": {"langchain"},
    "llama_index": {"llamaindex"},
    "torch": {"models", "embedders", "generation", "rerankers", "training"},
    "transformers": {"embedders", "generation", "training"},
    "vllm": {"embedders", "generation"},
    "ray": {"ingestion"},
    "gradio": {"servers/demo"},
    "fastapi": {"servers/http"},
    "uvicorn": {"servers/web"},
    "mcp": {"servers/mcp", "servers/ultrarag"},
    "yaml": {"servers/ultrarag"},
    "datasets": {"evaluation", "training"},
    "pyarrow": {"evaluation", "ingestion", "training"},
    "accelerate": {"training"},
    "peft": {"embedders", "training"},
    "trl": {"training"},
    "openai": {"generation", "embedders"},
    "rapidocr": {"ocr"},
    "wordllama": {"embedders"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room a file belongs to; a server's is "servers/NAME"."""
    parts = path.relative_to(PACKAGE).parts
    if parts[0] == "servers" and len(parts) > 2:
        return f"servers/{parts[1]}"
    return parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache  # three tests ask for each file
def imports_of(path: Path) -> frozenset[str]:
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if (node.module or "").split(".")[0] == "visrag_integrations":
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def rooms_imported(path: Path) -> set[str]:
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("visrag_integrations.")}
    return {room for room in ours if room in ROWS}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_upward(path: Path) -> None:
    room = room_of(path).split("/")[0]
    if room in {"__init__", "__main__"}:
        return
    assert room in ROWS, f"{room} is no room of docs/design.md"
    for other in rooms_imported(path) - {room}:
        assert ROWS[other] < ROWS[room], f"{path.name} ({room}) must not import {other}"
        assert other not in FACES or room == "cli"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("servers/*/*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_servers_share_only_web(path: Path) -> None:
    room = path.parent.name
    for name in imports_of(path):
        if name.startswith("visrag_integrations.servers."):
            other = name.split(".")[2]
            assert other == room or SERVERS[other] < SERVERS[room], f"{path.name} ({room}) must not import {other}"


def test_no_circles_between_files() -> None:
    """Not inside a room either: a file can be read before those that use it."""
    files = {module_of(path): path for path in FILES}
    uses = {
        module: {name for name in imports_of(path) if name in files and name != module}
        for module, path in files.items()
        if path.name != "__init__.py"  # a package's front door names what is behind it
    }
    settled: set[str] = set()
    while ready := {m for m, used in uses.items() if m not in settled and not (used & set(uses)) - settled}:
        settled |= ready
    circles = {module: sorted((uses[module] & set(uses)) - settled) for module in set(uses) - settled}
    assert not circles


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


# What these write lies in a folder for one reading or one checkpoint, which gets its name only when all of it is there;
# or it grows at its end, and a last line that was cut off is known for that.
WRITE_IN_PLACE = {
    "agent/remembered.py",
    "evaluation/run_record.py",
    "files/scratch.py",
    "files/whole.py",
    "readers/chromium.py",
    "readers/office_open_document.py",
    "readers/plain_tables.py",
    "readers/plain_text.py",
    "readers/office_input.py",
    "readers/office_package.py",
    "readers/office_password.py",
    "readers/office_profile.py",
    "readers/office_program.py",
    "readers/pool.py",
    "store/due_pictures.py",
    "store/folder.py",  # its lock
    "training/adapters.py",
    "training/run_trainer.py",  # the lines of a log
    "training/retriever.py",
    "training/saving.py",
    "training/stage_run.py",  # the card of a checkpoint
}


def writes_files(path: Path) -> bool:
    """Whether a file of the package opens files for writing by itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in {"write_text", "write_bytes", "to_parquet", "to_csv", "savefig"}:
            return True
        modes = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if name == "open" and any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes):
            return True
    return False


def test_files_that_are_kept_are_written_whole() -> None:
    """By `files.write_whole` or `files.whole_file`: a full disk or a kill leaves the one that was there before."""
    found = {str(path.relative_to(PACKAGE)).replace("\\", "/") for path in FILES if writes_files(path)}
    assert found == WRITE_IN_PLACE
