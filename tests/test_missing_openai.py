"""A model behind a URL, where the package that asks it is not installed: the message names what installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from drawing import draw_pdf

PROGRAM = """
import sys
sys.modules["openai"] = None  # what an import finds that has nothing to find
{code}
"""
CODES = {
    "Python": "from visrag_integrations import load_generator; load_generator('http://localhost:9/v1')",
    "command line": "from visrag_integrations.cli import main; "
    "sys.exit(main(['ask', 'boats?', 'a.pdf', '--preset', 'cpu', '--generator', 'http://localhost:9/v1']))",
    "its errors": "import visrag_integrations.generation.openai_errors",
}


@pytest.mark.parametrize("where", CODES)
def test_the_extra_is_named(where: str, tmp_path: Path) -> None:
    draw_pdf(tmp_path / "a.pdf", ["The harbour holds forty boats."])
    program = [sys.executable, "-c", PROGRAM.format(code=CODES[where])]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert 'pip install "visrag-integrations[openai]"' in done.stderr
    if where == "command line":
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
