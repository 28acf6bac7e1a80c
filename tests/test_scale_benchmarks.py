"""The benchmarks of many pages run, on few."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def _run(name: str, folder: Path) -> str:
    command = [sys.executable, str(BENCHMARKS / name), "--quick", "--folder", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not list(folder.iterdir()), "what it made is removed"
    return ended.stdout


@pytest.mark.slow
def test_a_second_run_and_the_list_of_documents(tmp_path: Path) -> None:
    said = _run("store_rerun.py", tmp_path)
    assert "500 pages;" in said
    for case in ("run, prune", "run, prune 5 gone", "first document", "all documents"):
        assert re.search(rf"^ +{case} +ours +\d+ ms, processor +\d+ ms", said, re.MULTILINE), said


@pytest.mark.slow
def test_late_interaction_finds_what_it_should(tmp_path: Path) -> None:
    said = _run("store_multi_scale.py", tmp_path)
    found = re.search(r"recall@10 (\d\.\d+) against the exact search in float32, the asked page first (\d\.\d+)", said)
    assert found, said
    assert min(map(float, found.groups())) > 0.8
