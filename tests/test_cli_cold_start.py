"""What a command loads before it does its work: a search from a shell waits for every import. Counted, never timed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.embedders.ocr import OCREmbedder

# Packages that cost a tenth of a second and more each, and have nothing to do with a search of a folder.
NEVER = {
    "torch",
    "transformers",
    "openai",
    "httpx",
    "grpc",
    "pydantic",
    "qdrant_client",
    "requests",
    "urllib3",
    "wordllama",
    "toml",
    "asyncio",
    "rapidocr",
    "onnxruntime",
    "pymupdf",
    "pypdfium2",
    "PIL",
    "tqdm",
    "huggingface_hub",
    "langchain_core",
    "llama_index",
}
# Rooms of this library that a search needs nothing of.
ROOMS = {"evaluation", "grounding", "indexing", "ingestion", "readers", "report", "training", "servers", "agent"}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cold") / "index"
    pages = [
        Page("d1", 1, text="The rent is paid by Ann every month.", source="lease.pdf"),
        Page("d1", 2, text="The torque of the M8 bolts is 25 Nm.", source="lease.pdf"),
    ]
    embedder = OCREmbedder()
    with QdrantPageStore(folder) as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
    return folder


def loaded_by(*arguments: str) -> tuple[set[str], str]:
    """The modules in memory when the command has ended, and what it printed."""
    code = (
        "import sys; from visrag_integrations.cli import main; code = main(sys.argv[1:])\n"
        "print('loaded', *sys.modules, file=sys.stderr); sys.exit(code)"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("loaded ")
    return set(last.split()[1:]), run.stdout


def packages(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def rooms(modules: set[str]) -> set[str]:
    own = [module.split(".") for module in modules if module.startswith("visrag_integrations.")]
    return {parts[1] for parts in own}


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_search_of_a_folder_loads_what_it_uses(index: Path, mode: str) -> None:
    modules, printed = loaded_by("search", "torque of bolts", "--index", str(index), "--mode", mode)
    assert "page 2" in printed.splitlines()[0]
    assert "25 Nm" in printed
    assert not packages(modules) & NEVER
    assert not rooms(modules) & ROOMS
    assert {"qdrant_edge", "numpy"} <= packages(modules)


def test_a_filter_and_json_load_no_more(index: Path) -> None:
    modules, printed = loaded_by("search", "rent", "--index", str(index), "--filter", "number=1", "--json")
    assert '"passage": "The rent is paid by Ann every month."' in printed
    assert not packages(modules) & NEVER
    assert not rooms(modules) & ROOMS


def test_an_answer_from_a_folder_loads_no_model_and_no_client(index: Path) -> None:
    modules, printed = loaded_by("ask", "what is the torque of the bolts?", "--index", str(index), "--preset", "cpu")
    assert "25 Nm" in printed
    assert not packages(modules) & (NEVER - {"asyncio", "PIL", "tqdm"})  # streams; pictures; progress
    assert not rooms(modules) & (ROOMS - {"grounding", "readers", "report", "agent"})


@pytest.mark.parametrize("arguments", [("--help",), ("search", "--help"), ("info", "--help")])
def test_help_loads_next_to_nothing(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print('loaded', *sys.modules, file=sys.stderr))\n"
        "from visrag_integrations.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    modules = set(run.stderr.split())
    assert not packages(modules) & (NEVER | {"numpy", "qdrant_edge", "tokenizers"})
    assert not rooms(modules) & (ROOMS | {"store", "retrieval"})


def test_info_loads_no_embedder(index: Path) -> None:
    modules, printed = loaded_by("info", "--index", str(index))
    assert "2 pages" in printed
    assert not packages(modules) & (NEVER | {"tokenizers", "safetensors"})
    assert not rooms(modules) & ROOMS
