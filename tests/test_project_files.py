"""What PyPI shows: links that lead somewhere; documents to try it on; workflows, container and compose file."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from scripts_by_path import load_script

import visrag_integrations
from visrag_integrations import sample_documents, samples
from visrag_integrations.cli import main
from visrag_integrations.readers.finding import find_documents

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return load_script(ROOT / "hatch_build.py")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("see [docs](docs/demo.md).", "see [docs](https://e.org/x/blob/main/docs/demo.md)."),
        ("![A page](docs/a.png)", "![A page](https://e.org/x/raw/main/docs/a.png)"),
        ("[part](docs/a.md#one)", "[part](https://e.org/x/blob/main/docs/a.md#one)"),
        ("[paper](https://arxiv.org/abs/1)", "[paper](https://arxiv.org/abs/1)"),
        ("[below](#licence)", "[below](#licence)"),
        ("a[0](b c)", "a[0](b c)"),
    ],
)
def test_links_lead_to_the_project(hook: ModuleType, written: str, shown: str) -> None:
    assert hook.with_absolute_links(written, "https://e.org/x") == shown


def test_every_link_of_the_readme_is_a_file_here(hook: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    paths = [link["path"] for link in hook._LINK.finditer(text)]
    assert len(paths) > 15
    for path in paths:
        assert (ROOT / path.partition("#")[0]).exists(), path


def test_the_readme_says_what_each_extra_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## What to install")[1].split("\n## ")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = set(re.findall(r"`([\w-]+)`", " ".join(first)))
    for_the_project_itself = {"dev", "dev-full", "docs"}
    assert named == set(project["optional-dependencies"]) - for_the_project_itself


def test_the_address_stands_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project["urls"]["Source"]
    assert all(url.startswith(source) for url in project["urls"].values())
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "visrag_integrations").rglob("*.py")]:
        assert source not in path.read_text(encoding="utf-8"), path


def test_samples_are_there_and_small() -> None:
    assert [path.name for path in samples()] == list(sample_documents.NAMES)
    assert all(path.read_bytes().startswith(b"%PDF") for path in samples())
    assert sum(path.stat().st_size for path in samples()) < 500_000


def test_samples_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the wheel is told to hold are those that are looked for in it."""
    included = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for inside, there in included["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items():
        (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / inside, tmp_path / there)
    monkeypatch.setattr(sample_documents, "__file__", str(tmp_path / "visrag_integrations" / "sample_documents.py"))
    assert all(path.is_relative_to(tmp_path) and path.is_file() for path in samples())
    assert (sample_documents.folder() / sample_documents.LICENCES).is_file()


def test_visrag_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "samples" / sample_documents.NAMES[0]
    own.parent.mkdir()
    own.write_bytes(b"somebody's own")
    assert main(["samples"]) == 0
    assert "Next: visrag index samples" in capsys.readouterr().out
    assert own.read_bytes() == b"somebody's own"
    assert (own.parent / sample_documents.NAMES[1]).read_bytes() == samples()[1].read_bytes()
    asked = [json.loads(line) for line in (own.parent / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["source"] for row in asked} == set(sample_documents.NAMES)
    assert [path.name for path in find_documents(own.parent)] == sorted(sample_documents.NAMES)
    assert "MIT" in (own.parent / "LICENCES").read_text(encoding="utf-8")
    assert main(["samples", str(own / "x")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    from hatchling.build import build_wheel

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        names = wheel.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        text = wheel.read(metadata).decode("utf-8")
    assert all(f"visrag_integrations/sample_files/{name}" in names for name in sample_documents.NAMES)
    assert "](docs/" not in text
    assert "Project-URL: Source" in text


def test_the_container_is_not_root_and_says_how_it_is() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    words = [line.split()[0] for line in lines if line and not line[0].isspace() and not line.startswith("#")]
    assert words[0] == "FROM"
    assert "HEALTHCHECK" in words
    assert "USER" in words
    assert words.index("USER") < words.index("ENTRYPOINT")
    text = "\n".join(lines)
    assert "AGPL" in text
    # What is copied is there, and is let through to the build.
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [path for line in lines if line.startswith("COPY") for path in line.split()[1:-1]]
    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in ignored


def test_compose_starts_nothing_without_keys() -> None:
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"qdrant", "visrag", "vllm"}
    assert all("healthcheck" in service for name, service in services.items() if name != "visrag")  # its image has one
    environment = services["visrag"]["environment"]
    assert environment["VISRAG_TOKEN"].startswith("${VISRAG_TOKEN:?")
    assert services["qdrant"]["environment"]["QDRANT__SERVICE__API_KEY"].startswith("${QDRANT_API_KEY:?")
    assert "ports" not in services["qdrant"]  # nobody outside asks it
    assert services["vllm"]["profiles"] == ["gpu"]
    named = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert named == set(compose["volumes"])


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflows_are_read(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}  # a job that needs more says so itself
    for job in workflow["jobs"].values():
        assert job["steps"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_jobs_of_workflows_fit_together(path: Path) -> None:
    """What a job waits for and reads of another is there; what an action may do stands at the job that needs it."""
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    for name, job in jobs.items():
        needed = job.get("needs", [])
        for other in [needed] if isinstance(needed, str) else needed:
            assert other in jobs, f"{name} needs {other}"
        for other, output in re.findall(r"needs\.([\w-]+)\.outputs\.([\w-]+)", str(job)):
            assert output in jobs[other]["outputs"], f"{name} reads {output} of {other}"
        steps = {step["id"]: step for step in job["steps"] if "id" in step}
        for step, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", str(job)):
            written = steps[step].get("run")
            assert written is None or f"{output}=" in written, f"{step} writes no {output}"
        for step in job["steps"]:
            assert len({"run", "uses"} & set(step)) == 1, step
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w./-]+@[\w./-]+", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/deploy-pages"):
                assert job["permissions"] == {"pages": "write", "id-token": "write"}
                assert job["environment"]["name"] == "github-pages"


@pytest.mark.skipif(sys.platform == "win32", reason="workflows run in bash")
def test_the_site_is_published_once_there_is_an_address(tmp_path: Path) -> None:
    """The very command of the workflow, on the project as it is and with an address."""
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "docs.yml").read_text(encoding="utf-8"))
    (command,) = [step["run"] for step in workflow["jobs"]["build"]["steps"] if step.get("id") == "address"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for text, publish in ((project.replace("example.org", "github.com/o"), "yes"), (project, "no")):
        if publish == "no" and "example.org" not in project:
            continue
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
        output = tmp_path / publish
        environment = {**os.environ, "GITHUB_OUTPUT": str(output)}
        subprocess.run(["bash", "-e", "-c", command], cwd=tmp_path, env=environment, check=True)
        assert output.read_text(encoding="utf-8") == f"publish={publish}\n"
    assert workflow["jobs"]["publish"]["needs"] == "build"
    assert "outputs.publish == 'yes'" in workflow["jobs"]["publish"]["if"]


def test_a_release_is_refused_while_there_is_no_address() -> None:
    """The very command of the workflow, on the project as it is."""
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["build"]["steps"]
    (command,) = [step["run"] for step in steps if step.get("name") == "Refuse the placeholder address"]
    placeholder = "example.org" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    refused = subprocess.run(["bash", "-e", "-c", command], cwd=ROOT, capture_output=True, check=False).returncode != 0
    assert refused == placeholder


def test_the_version_is_one() -> None:
    """What is imported, cited and told as the last change are one version, and its date is one too."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", changes, re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    version, date = headings[1]
    assert version == visrag_integrations.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {version}" in citation
    assert f"date-released: {date}" in citation
    assert datetime.date.fromisoformat(date)
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dynamic"]
