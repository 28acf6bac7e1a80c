"""What is built and shipped: a wheel and an sdist without test data, that install and import on their own."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import visrag_integrations

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"visrag_integrations", f"visrag_integrations-{visrag_integrations.__version__}.dist-info"}
    data = (
        "py.typed",
        "report/report.css",
        "agent/trace.css",
        "readers/web_words.js",
        "servers/demo/demo.css",
        "servers/demo/demo.js",
        "servers/demo/login.html",
        "generation/evisrag.txt",
        "evaluation/judge.txt",
        "sample_files/reportlab-graphics.pdf",
        "sample_files/queries.jsonl",
    )
    assert {f"visrag_integrations/{name}" for name in data} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_no_test_data(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert tops <= {
        "visrag_integrations",
        "samples",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    }


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", str(wheel)]
    subprocess.run([python, *quiet], check=True, capture_output=True)
    said = subprocess.run(
        [python, "-m", "visrag_integrations.cli", "--version"], check=True, capture_output=True, text=True
    )
    assert said.stdout.strip() == f"visrag {visrag_integrations.__version__}"
