"""Every code block of the README and the docs runs, in order, in a folder that holds the samples."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_qdrant import serving

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNNABLE = [page for page in PAGES if page.name != "design.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WARNINGS = ["-W", "error", "-W", "ignore:builtin type:DeprecationWarning"]  # the second: PyMuPDF before 2.0, at import
NEEDS = {
    "langchain": "langchain_core",
    "llama": "llama_index",
    "torch": "torch",
    "transformers": "transformers",
    "integrations.serve": "fastapi",
    "integrations.mcp": "mcp",
    "build_demo": "gradio",
}
"""A word in a block, and the package the block then needs."""
EXTRAS = re.compile(r"^\w+(?= = \[)", re.MULTILINE)


def blocks_of(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda p: p.name)
def test_blocks_run(page: Path, workplace: Path) -> None:
    with serving() as server:  # of the page about servers: it stands for the one of these blocks
        run_blocks(page, workplace, server.url if page.name == "server.md" else "")


def run_blocks(page: Path, workplace: Path, server: str) -> None:
    for language, text in blocks_of(page):
        code = text.replace("http://localhost:6333", server) if server else text
        if language == "python" and not needs_a_missing_package(code):
            finished = run([sys.executable, *WARNINGS, "-c", code], workplace)
            assert finished.stdout.strip(), f"{page.name}: this block prints nothing\n{code}"
        elif language == "bash":
            for line in code.strip().splitlines():
                run_shell_line(line, workplace)
        else:
            assert language in {"python", "text", "toml", ""}, f"{page.name}: nothing runs {language!r} blocks"


def needs_a_missing_package(code: str) -> bool:
    """Never in `make test`, which has them all."""
    return any(word in code and find_spec(package) is None for word, package in NEEDS.items())


def run_shell_line(line: str, workplace: Path) -> None:
    words = shlex.split(line, comments=True)
    if words[:2] == ["pip", "install"]:
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        extras = set(EXTRAS.findall(project.split("[project.optional-dependencies]")[1].split("\n\n")[0]))
        assert set(re.findall(r"\[(\w+)\]", line)) <= extras
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    else:
        assert words[0] == "visrag", f"nothing runs {line!r}"
        assert run([sys.executable, "-m", "visrag_integrations.cli", *words[1:]], workplace).stdout.strip()
        if "--html" in words:
            assert (workplace / words[words.index("--html") + 1]).stat().st_size > 10_000


def run(command: list[str], workplace: Path) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        command, cwd=workplace, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished


def test_readme_shows_working_code_before_line_35() -> None:
    head = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:35]
    assert "```python" in head
    assert "answer = rag.ask" in "\n".join(head)


def test_readme_names_the_licences() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "AGPL" in text
    assert 'backend="pdfium"' in text


def test_every_promise_of_security_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/test_\w+\.py)`", text))
    assert len(named) > 10
    assert {name for name in named if not (ROOT / name).is_file()} == set()
