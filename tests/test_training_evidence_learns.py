"""RS-GRPO learns on a processor what each reward asks for, and much less when the scopes are swapped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import build_qwen2_5_vl

pytest.importorskip("trl", reason="TRL needs Python 3.11")
pytestmark = pytest.mark.slow

STEPS = 60
AFTER = 20  # the last steps, which the control is compared over: single steps swing


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_qwen2_5_vl(tmp_path_factory.mktemp("base"))


def curve(base: Path, output: Path, *, swapped: bool) -> list[tuple[float, float]]:
    """In a process of its own, with one thread: the numbers are the same whatever else runs."""
    code = (
        "import json, sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from scoped_proof import prove\n"
        f"print(json.dumps(prove(Path({str(base)!r}), Path({str(output)!r}), swapped={swapped}, steps={STEPS})))\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    found: list[tuple[float, float]] = json.loads(made.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(900)
def test_both_rewards_rise_and_the_control_does_worse(base: Path, tmp_path: Path) -> None:
    scoped = curve(base, tmp_path / "scoped", swapped=False)
    assert len(scoped) == STEPS
    assert scoped[0][0] < 0.3
    assert scoped[0][1] < 0.3
    assert any(digits >= 0.8 and capitals >= 0.8 for digits, capitals in scoped)
    control = curve(base, tmp_path / "control", swapped=True)
    assert control[0] == scoped[0]  # the same seed: the first step differs in nothing but what it teaches
    ours = sum(digits + capitals for digits, capitals in scoped[-AFTER:]) / AFTER
    theirs = sum(digits + capitals for digits, capitals in control[-AFTER:]) / AFTER
    assert theirs < ours - 0.5
    assert not any(digits >= 0.8 and capitals >= 0.8 for digits, capitals in control)
