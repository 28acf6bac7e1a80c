"""Programs of users pass the type checkers: those in `tests/typing`, by mypy --strict and by pyright."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
ROOT = Path(__file__).parent.parent
PROGRAMS = sorted((ROOT / "tests" / "typing").glob("*.py"))


@pytest.mark.slow
@pytest.mark.timeout(900)  # mypy reads all of two frameworks; on a busy machine that takes minutes
def test_programs_of_users_type_check() -> None:
    assert PROGRAMS
    # From outside the repository, so that its own settings do not count; errors inside the package are its own affair.
    options = ["--strict", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache' / 'users'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", *options, *map(str, PROGRAMS)],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        cwd=ROOT / "tests" / "typing",
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")
def test_programs_of_users_pass_pyright() -> None:
    done = subprocess.run(
        ["pyright", "--pythonpath", sys.executable, *map(str, PROGRAMS)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
