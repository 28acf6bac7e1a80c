"""The table of known models: what it says is what the code does, and docs/models.md is made of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visrag_integrations import load_embedder
from visrag_integrations.cli import machine, main
from visrag_integrations.cli.machine import EXTRAS, Machine
from visrag_integrations.cli.models import machine_text, markdown_tables, runs_here
from visrag_integrations.embedders import CHECKPOINTS, QUERY_MODELS, SYSTEMS, embedder_names
from visrag_integrations.errors import UnknownNameError
from visrag_integrations.generation import CHECKPOINTS as GENERATOR_CHECKPOINTS
from visrag_integrations.generation import GENERATORS
from visrag_integrations.known_models import MODELS, KnownModel, Way, find_model, nearest_names

ROOT = Path(__file__).parent.parent
BY_NAME = {model.name: model for model in MODELS}


def test_names_are_there_once() -> None:
    assert len(BY_NAME) == len(MODELS)
    assert len({model.name.lower() for model in MODELS}) == len(MODELS)


def test_every_name_that_loads_has_a_row_that_says_so() -> None:
    for name in ("ocr", *CHECKPOINTS):
        ways = [way for way in BY_NAME[name].ways if way.name != "vLLM"]
        assert ways, f"{name} loads in process, and its row does not say so"
        assert BY_NAME[name].role == "embedder"
        through = "sentence-transformers" if CHECKPOINTS.get(name) == "sentence-transformers" else "in process"
        assert ways[0].name == through
    for name in (*GENERATORS, *GENERATOR_CHECKPOINTS):
        assert BY_NAME[name].role == "generator"


def test_a_row_promises_nothing_that_does_not_load() -> None:
    for model in MODELS:
        assert model.ways, model.name
        for way in model.ways:
            assert model.name in way.code
            if way.name != "vLLM" and model.role == "embedder":
                assert model.name in {*embedder_names(), *QUERY_MODELS}, (
                    f"{model.name} has a way in process, and load_embedder no such name"
                )
            if way.name == "vLLM":
                assert way.code.startswith("vllm serve ")


def test_vectors_are_those_of_the_class() -> None:
    for name, system in CHECKPOINTS.items():
        module, _, attribute = SYSTEMS[system].partition(":")
        pytest.importorskip("torch")
        kind = getattr(getattr(__import__(module, fromlist=[attribute]), attribute), "kind", None)
        if kind is not None:
            assert BY_NAME[name].vectors == kind


def test_the_docs_have_the_tables() -> None:
    """Print them with `visrag models --markdown` and put them at the end of docs/models.md."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert text.endswith(f"{markdown_tables(MODELS)}\n")


def test_extras_are_those_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        wanted = " ".join(extras[extra]).replace("visrag-integrations[torch]", " ".join(extras["torch"]))
        for package in packages:
            assert package.replace("_", "-") in wanted
    for model in MODELS:
        for way in model.ways:
            assert way.extra in ("", *EXTRAS), f"{model.name}: nothing looks whether [{way.extra}] is installed"


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("openbmb/VisRAG-Rett", "openbmb/VisRAG-Ret"),
        ("VisRAG-Ret", "openbmb/VisRAG-Ret"),
        ("visrag-ret", "openbmb/VisRAG-Ret"),
        ("qwen/qwen3-vl-embedding-2b", "Qwen/Qwen3-VL-Embedding-2B"),
        ("someone/colSmol-256M", "vidore/colSmol-256M"),
        ("bge-vl-large", "BAAI/BGE-VL-large"),
        ("orc", "ocr"),
        ("vidore/colqwen2.5-v0.1", "vidore/colqwen2.5-v0.2"),
        ("colnomic-embed-multimodal", "nomic-ai/colnomic-embed-multimodal-3b"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(asked: str, first: str) -> None:
    assert nearest_names(asked, embedder_names())[0] == first
    with pytest.raises(UnknownNameError, match="Did you mean") as raised:
        load_embedder(asked)
    assert f"Did you mean {first!r}" in str(raised.value)
    assert "There are: " in str(raised.value)


@pytest.mark.parametrize("asked", ["x", "bert-base-uncased", "日本語", "a" * 500, "openai/clip", "~nobody", "a\0b"])
def test_a_name_that_is_near_none_is_told_none(asked: str) -> None:
    with pytest.raises(UnknownNameError) as raised:
        load_embedder(asked)
    assert "Did you mean" not in str(raised.value)


def test_a_folder_that_is_not_here_is_told_so() -> None:
    with pytest.raises(UnknownNameError, match=r"'/nowhere/model': no such folder is here.*--embedder") as raised:
        load_embedder("/nowhere/model")
    assert "There are:" not in str(raised.value)


@pytest.mark.parametrize("asked", ["Alibaba-NLP/gme-Qwen2-VL-2B-Instruct", "gme-qwen2-vl-7b-instruct"])
def test_what_only_a_server_runs_says_how(asked: str) -> None:
    with pytest.raises(UnknownNameError, match=r"through vLLM: vllm serve .*gme.*system=\"endpoint\""):
        load_embedder(asked)


def test_a_model_is_found_by_its_name_alone_and_not_by_another_owners() -> None:
    found = find_model("visrag-RET", MODELS)
    assert found is not None
    assert found.name == "openbmb/VisRAG-Ret"
    assert find_model("someone/VisRAG-Ret", MODELS) is None


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["models", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    for model in MODELS:
        assert f"  {model.name} " in out
    assert "This machine: " in out
    assert max(map(len, out.splitlines())) <= 140


def test_one_model_with_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "visrag-ret")
    assert code == 0
    assert 'load_embedder("openbmb/VisRAG-Ret")' in out
    assert "MiniCPM Model License" in out
    assert 'pip install "visrag-integrations[torch]"' in out
    code, _, err = run(capsys, "openbmb/VisRAG-Rat")
    assert code == 2
    assert "Nearest: openbmb/VisRAG-Ret" in err


def test_the_command_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--json", "--role", "embedder")
    assert code == 0
    found = json.loads(out)
    assert {row["name"] for row in found["models"]} == {model.name for model in MODELS if model.role == "embedder"}
    row = next(row for row in found["models"] if row["name"] == "openbmb/VisRAG-Ret")
    assert row["parameters"] == 3_400_000_000
    assert row["memory_bytes"] == 6_800_000_000
    assert row["dimension"] == 2304
    assert set(found["machine"]) == {"gpus", "torch", "has_gpu", "missing"}


SMALL = KnownModel("small", "embedder", (Way("in process", "torch", "small"),), needs_gpu=False)
LARGE = KnownModel("large", "embedder", (Way("in process", "torch", "large"),))
SERVED = KnownModel("served", "embedder", (Way("vLLM", "", "served"),))
EITHER = KnownModel("either", "generator", (Way("in process", "vllm", "a"), Way("in process", "torch", "b")))


@pytest.mark.parametrize(
    ("model", "here", "expected"),
    [
        (SMALL, Machine(), "yes"),
        (LARGE, Machine(), "slow: there is no GPU"),
        (LARGE, Machine(gpus=("A GPU, 80 GB",), torch="2.13.0"), "yes"),
        (LARGE, Machine(gpus=("A GPU, 80 GB",), torch="2.13.0+cpu"), "slow: there is no GPU"),
        (SMALL, Machine(missing={"torch": ("torch",)}), "needs the extra torch"),
        (SERVED, Machine(missing={"torch": ("torch",)}), "on a vLLM server"),
        (EITHER, Machine(gpus=("A GPU",), missing={"vllm": ("vllm",)}), "yes"),
        (EITHER, Machine(missing={"vllm": ("vllm",), "torch": ("torch",)}), "needs the extra vllm"),
    ],
)
def test_what_runs_here(model: KnownModel, here: Machine, expected: str) -> None:
    assert runs_here(model, here) == expected


def test_a_torch_without_gpus_beside_a_gpu_is_said() -> None:
    said = machine_text(Machine(gpus=("A GPU, 80 GB",), torch="2.13.0+cpu", missing={"vllm": ("vllm",)}))
    assert "A GPU, 80 GB; torch 2.13.0+cpu" in said
    assert "built without GPUs" in said
    assert 'Not installed: vllm. pip install "visrag-integrations[vllm]"' in said


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program where NVIDIA's would be."""

    def install(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(machine.shutil, "which", lambda name: str(program))

    return install


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ('printf "NVIDIA H100, 81559 MiB\\nNVIDIA H100, 81559 MiB\\n"', ("NVIDIA H100, 81559 MiB",) * 2),
        ("echo failed >&2; exit 9", ()),
        ("true", ()),
    ],
)
def test_gpus_are_those_of_the_driver(driver: Callable[[str], None], script: str, gpus: tuple[str, ...]) -> None:
    driver(script)
    assert machine.look_at_machine().gpus == gpus


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\n"
        "from visrag_integrations.cli import main\n"
        "main(['models', '--json'])\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'sentence_transformers') if name in sys.modules])\n"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
