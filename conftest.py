"""Test files that import a package which is not installed are left out, and said so; not with VISRAG_TEST_ALL=1.

What a file needs is read from its imports at the top, and from those of our own files it imports there.
"""

from __future__ import annotations

import ast
import functools
import gc
import os
import signal
import sys
import tempfile
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
# Where pytest makes the folders of tests (`tmp_path`), in place of the system's temporary folder.
_TEMPROOT = "PYTEST_DEBUG_TEMPROOT"
# Memory that looks like a disk, for tests when VISRAG_TEST_IN_MEMORY is set. To make an index in a folder, the engine
# asks 136 times for a file and 483 times for a part of one to be written through: 0.1 s here and 0.5 to 4 s on a disk
# that others use too.
_MEMORY = Path("/dev/shm")
# Bytes. Three processes with tests of `make test` had 1.6 GB of folders at most at one time; where tests fail their
# folders stay until the next run, and an index is 24 MB.
_ROOM = 4 << 30
_NAME_OF_TEST = "PYTEST_CURRENT_TEST"
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
    folders = f"folders of tests: in {os.environ.get(_TEMPROOT) or tempfile.gettempdir()}"
    return [folders, *(f"left out: tests that need {name}, which is not installed" for name in sorted(MISSING))]


def pytest_configure() -> None:
    """Tests made of many examples hold at any load, and try the same examples each time.

    A change is not refused for an old fault that chance finds that day: `make test-random` looks for those.
    """
    if os.environ.get("VISRAG_TEST_IN_MEMORY") and _has_room(_MEMORY):
        os.environ.setdefault(_TEMPROOT, str(_MEMORY))
    if find_spec("hypothesis") is not None:
        from hypothesis import settings

        same = not os.environ.get("VISRAG_TEST_RANDOM")
        settings.register_profile("any load", deadline=None, derandomize=same)
        settings.load_profile("any load")


def pytest_collection_finish() -> None:
    """What all the imports have made stays to the end, and is looked through no more.

    With it, a single `gc.collect()` of a test takes a second.
    """
    gc.collect()
    gc.freeze()


def _has_room(memory: Path) -> bool:
    """Whether tests may have their folders there: enough for all of them, and programs that they write can be run."""
    try:
        found = os.statvfs(memory)
        available = Path("/proc/meminfo").read_text(encoding="ascii").partition("MemAvailable:")[2].split()[0]
    except (AttributeError, OSError, IndexError):  # not Linux
        return False
    if found.f_flag & os.ST_NOEXEC or not os.access(memory, os.W_OK):
        return False
    return min(found.f_bavail * found.f_frsize, int(available) << 10) >= _ROOM


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder like `tmp_path` that is never in memory: there every part of a file takes room, written or not."""
    with tempfile.TemporaryDirectory(prefix="visrag-test-") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def one_surrounding() -> None:
    """The name of the test is in the environment, and with another environment no reading process is used again."""
    os.environ.pop(_NAME_OF_TEST, None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    os.environ.pop(_NAME_OF_TEST, None)  # pytest sets it anew between the fixtures and the test


@pytest.fixture(scope="module", autouse=True)
def no_kept_process() -> Iterator[None]:
    """No test reads with the process of another file.

    Those of one file share one, as the calls of one program do, where nothing was unusual (see `readers.kept`). A start
    takes 0.4 s of processor time, and some hundred tests of `make test` would wait for one each.
    """
    os.environ.pop(_NAME_OF_TEST, None)
    yield
    kept = sys.modules.get("visrag_integrations.readers.kept")
    if kept is not None:
        kept.KEPT.close()
