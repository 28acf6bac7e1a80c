"""Test files that import a package which is not installed are left out, and said so; not with VISRAG_TEST_ALL=1.

What a file needs is read from its imports at the top, and from those of our own files it imports there.
"""

from __future__ import annotations

import ast
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
# A shell lets what it runs in the background ignore Ctrl-C, and all that is started from there: tests that send it to
# a program would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
OPTIONAL = {
    "torch",
    "transformers",
    "sentence_transformers",
    "openai",
    "langchain_core",
    "langchain_tests",
    "langchain_classic",
    "langchain_qdrant",
    "llama_index",
    "langgraph",
    "ray",
    "gradio",
    "starlette",
    "datasets",
    "pyarrow",
    "fastapi",
    "uvicorn",
    "prometheus_client",
    "mcp",
    "nbclient",
    "ipywidgets",
    "pytrec_eval",
    "mteb",
    "schemathesis",
    "selenium",
    "axe_selenium_python",
    "accelerate",
    "peft",
    "trl",
}
# Their `__init__` loads a name when it is asked for: what that needs does not stand among its imports.
LAZY = {"visrag_integrations.training": "torch"}
MISSING = {package for package in OPTIONAL if find_spec(package) is None}


@functools.cache
def missing_for(path: Path) -> frozenset[str]:
    """The packages that are not installed and without which this file cannot be imported."""
    found: set[str] = set()
    for name in _top_imports(path):
        if name.split(".")[0] in MISSING:
            found.add(name.split(".")[0])
        if LAZY.get(name) in MISSING:
            found.add(LAZY[name])
        for ours in (ROOT / f"{name.replace('.', '/')}.py", ROOT / "tests" / f"{name}.py"):
            if ours.is_file() and ours != path:
                found |= missing_for(ours)
    return frozenset(found)


def _top_imports(path: Path) -> Iterator[str]:
    top = ast.parse(path.read_text(encoding="utf-8")).body
    for node in [*top, *(inner for outer in top if isinstance(outer, ast.Try) for inner in outer.body)]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if MISSING and collection_path.suffix == ".py" and missing_for(collection_path) else None


def pytest_report_header() -> list[str]:
    if MISSING and os.environ.get("VISRAG_TEST_ALL"):
        raise pytest.UsageError(f"VISRAG_TEST_ALL is set, and {', '.join(sorted(MISSING))} is not installed.")
    return [f"left out: tests that need {package}, which is not installed" for package in sorted(MISSING)]


def pytest_configure() -> None:
    """Tests made of many examples hold at any load, and try the same examples each time.

    A change is not refused for an old fault that chance finds that day: `make test-random` looks for those.
    """
    if find_spec("hypothesis") is not None:
        from hypothesis import settings

        same = not os.environ.get("VISRAG_TEST_RANDOM")
        settings.register_profile("any load", deadline=None, derandomize=same)
        settings.load_profile("any load")


@pytest.fixture(autouse=True)
def no_kept_process() -> Iterator[None]:
    """No test reads with the process of another one."""
    yield
    kept = sys.modules.get("visrag_integrations.readers.kept")
    if kept is not None:
        kept.KEPT.close()
