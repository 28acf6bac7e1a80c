"""`visrag ask` with a tiny random model on the real vLLM, in a process of its own as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from drawing import draw_pdf
from tiny_models import build_qwen2_5_vl

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


def test_ask_prints_one_json_object_and_leaves_nothing_running(tmp_path: Path) -> None:
    draw_pdf(tmp_path / "boats.pdf", ["The harbour holds forty sailing boats.", "Anchors weigh two hundred pounds."])
    folder = build_qwen2_5_vl(tmp_path / "tiny-qwen")
    command = ["ask", "How many boats?", str(tmp_path / "boats.pdf"), "--index", str(tmp_path / "index"), "--json"]
    options = ["--generator", str(folder), "--preset", "cpu", "--guided", "--max-tokens", "300", "-k", "2"]
    finished = subprocess.run(
        [sys.executable, "-m", "visrag_integrations.cli", *command, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    answer = json.loads(finished.stdout)
    assert answer["problems"] == []
    assert sorted(entry["page"] for entry in answer["evidence"]) == [1, 2]
    assert "Traceback" not in finished.stderr
