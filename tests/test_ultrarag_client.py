"""The same pipelines through fastmcp (MCP 1.x), UltraRAG's SDK; with ULTRARAG_HOME, through UltraRAG itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ultrarag_set import QUESTIONS, PlayedSet, check_agreement, evaluated, make_set

pytestmark = [pytest.mark.ultrarag, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent
FASTMCP = ROOT / ".venv-ultrarag" / "bin" / "python"
HOME = os.environ.get("ULTRARAG_HOME", "")


@pytest.fixture
def made(tmp_path: Path) -> PlayedSet:
    return make_set(tmp_path)


def test_through_the_sdk_that_ultrarag_has(
    made: PlayedSet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FASTMCP.is_file(), "make .venv-ultrarag/ready first"
    job, result = made.place / "job.json", made.place / "result.json"
    job.write_text(json.dumps(made.job), encoding="utf-8")
    script = Path(__file__).with_name("ultrarag_pipeline.py")
    finished = subprocess.run([FASTMCP, script, job, result], capture_output=True, text=True, cwd=made.place)
    assert finished.returncode == 0, finished.stderr
    results = json.loads(result.read_text("utf-8"))
    check_agreement(results, evaluated(made.place, capsys, monkeypatch), made.place)


@pytest.mark.skipif(not HOME, reason="ULTRARAG_HOME names no clone of OpenBMB/UltraRAG")
def test_through_ultrarag_itself(
    made: PlayedSet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client, benchmark, prompt and evaluation servers; its pipelines with other paths under `servers:`."""
    home = Path(HOME).resolve()
    rows = [{"id": id_, "question": text, "golden_answers": [answer]} for id_, text, answer, _ in QUESTIONS]
    (made.place / "set.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    for name in ("build_image_corpus", "corpus_index", "visrag", "evisrag"):
        run_pipeline(home, made, name)
    results = {name: memory_of(made.place, name) for name in ("visrag", "evisrag")}
    found = evaluated(made.place, capsys, monkeypatch)
    ids = [id_ for id_, *_ in QUESTIONS]
    for name in ("visrag", "evisrag"):
        pages = [
            [Path(path).relative_to(made.place / "image").as_posix() for path in one]
            for one in results[name]["ret_psg"]
        ]
        assert pages == [list(found["run"][id_]) for id_ in ids]
    assert dict(zip(ids, results["visrag"]["ans_ls"], strict=True)) == found["plain"]
    assert dict(zip(ids, results["evisrag"]["pred_ls"], strict=True)) == found["evisrag"]


def run_pipeline(home: Path, made: PlayedSet, name: str) -> None:
    """`ultrarag build` and `ultrarag run` of a pipeline of its examples."""
    pipeline = yaml.safe_load((home / "examples" / "experiments" / f"{name}.yaml").read_text("utf-8"))
    for server, path in pipeline["servers"].items():
        ours = made.folder / server
        pipeline["servers"][server] = str(ours if ours.is_dir() else theirs(home, made, path))
    file = made.place / f"{name}.yaml"
    file.write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    python = Path(os.environ.get("ULTRARAG_PYTHON", home / ".venv" / "bin" / "python"))
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join([str(home / "src"), str(ROOT)])
    for command in ("build", "run"):
        arguments = [python, "-c", "from ultrarag.client import main; main()", command, str(file)]
        finished = subprocess.run(arguments, capture_output=True, text=True, cwd=made.place, env=environment)
        assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"


def theirs(home: Path, made: PlayedSet, path: str) -> Path:
    """A copy of one of its servers' parameters, which starts its own code: the clone is not written to."""
    folder = made.place / path
    if not folder.is_dir():
        folder.mkdir(parents=True)
        parameters: dict[str, Any] = yaml.safe_load((home / path / "parameter.yaml").read_text("utf-8")) or {}
        parameters["path"] = str(home / path / "src" / f"{folder.name}.py")
        if folder.name == "benchmark":
            parameters["benchmark"] |= {"name": "set", "path": str(made.place / "set.jsonl")}
        if folder.name == "prompt":
            parameters["template"] = str(home / "prompt" / "qa_boxed.jinja")
            parameters["evisrag_template"] = str(home / "prompt" / "evisrag.jinja")  # which it ships without
        (folder / "parameter.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
    return folder


def memory_of(place: Path, name: str) -> dict[str, Any]:
    """The variables at the end of a run, from the file that it leaves."""
    (file,) = (place / "output").glob(f"memory_*_{name}_*.json")
    variables: dict[str, Any] = {}
    for step in json.loads(file.read_text("utf-8")):
        for key, value in step["memory"].items():
            variables[key.removeprefix("memory_")] = value
    return variables
