"""Tests of an extra that is not installed are left out, and said so; with VISRAG_TEST_ALL=1 none may be."""

from __future__ import annotations

import os
from importlib.util import find_spec

PARTS = {
    "torch": [
        "tests/test_models_*.py",
        "tests/test_visrag_ret*.py",
        "tests/visrag_ret_golden.py",
        "visrag_integrations/models/*.py",
        "visrag_integrations/embedders/device_batches.py",
        "visrag_integrations/embedders/minicpm_*.py",
        "visrag_integrations/embedders/visrag_ret.py",
    ],
    "transformers": ["tests/test_transformers_*.py"],
    "openai": ["tests/test_openai_*.py"],
    "langchain_tests": ["tests/test_langchain_*.py", "visrag_integrations/langchain/*.py"],
    "llama_index.core": ["tests/test_llamaindex_*.py", "visrag_integrations/llamaindex/*.py"],
}
"""What each package is needed for."""


def _is_missing(package: str) -> bool:
    return find_spec(package.split(".")[0]) is None


MISSING = [package for package in PARTS if _is_missing(package)]
collect_ignore_glob = [pattern for package in MISSING for pattern in PARTS[package]]


def pytest_report_header() -> list[str]:
    if MISSING and os.environ.get("VISRAG_TEST_ALL"):
        raise RuntimeError(f"VISRAG_TEST_ALL is set, and {', '.join(MISSING)} is not installed.")
    return [f"left out, because {package} is not installed: {' '.join(PARTS[package])}" for package in MISSING]
