"""`visrag ask` with a model: a tiny random one through transformers, and behind a name that picks the engine."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from tiny_models import shared_qwen2_5_vl

from visrag_integrations import generation
from visrag_integrations.cli import main
from visrag_integrations.errors import UnknownNameError
from visrag_integrations.generation import load_generator
from visrag_integrations.generation.strategies import STRATEGIES
from visrag_integrations.generation.transformers import TransformersGenerator

QUESTION = "How many sailing boats does the harbour hold?"


@pytest.fixture(scope="module")
def folder() -> Path:
    return shared_qwen2_5_vl()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    draw_pdf(place / "boats.pdf", ["The harbour holds forty sailing boats.", "Anchors weigh two hundred pounds."])
    assert main(["index", str(place / "boats.pdf"), "--index", str(place / "index"), "--preset", "cpu"]) == 0
    return place / "index"


@pytest.fixture
def transformers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM were not installed."""
    monkeypatch.setattr(generation, "ENGINES", {"transformers": generation.ENGINES["transformers"]})


def ask(capsys: pytest.CaptureFixture[str], index: Path, *options: str) -> dict[str, Any]:
    capsys.readouterr()
    code = main(["ask", QUESTION, "--index", str(index), "--json", *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    (line,) = said.out.splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


@pytest.mark.usefixtures("transformers_alone")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ask_through_transformers(capsys: pytest.CaptureFixture[str], index: Path, folder: Path, strategy: str) -> None:
    answer = ask(capsys, index, "--generator", str(folder), "--strategy", strategy, "--max-tokens", "8", "-k", "2")
    assert {page["page"] for page in answer["pages"]} == {1, 2}
    assert not answer["sufficient"]  # eight random letters are no answer, and that is said
    assert "<answer> is missing" in answer["problems"]
    assert not [problem for problem in answer["problems"] if "log-prob" in problem]


@pytest.mark.usefixtures("transformers_alone")
def test_a_plain_prompt_takes_what_is_written(capsys: pytest.CaptureFixture[str], index: Path, folder: Path) -> None:
    answer = ask(capsys, index, "--generator", str(folder), "--prompt", "plain", "--max-tokens", "8")
    assert len(answer["answer"]) > 3
    assert answer["problems"] == []


@pytest.mark.usefixtures("transformers_alone")
def test_what_the_engine_cannot_do_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], index: Path, folder: Path
) -> None:
    assert main(["ask", QUESTION, "--index", str(index), "--generator", str(folder), "--guided"]) == 2
    assert "guided=True is refused. Use vLLM" in capsys.readouterr().err


def test_the_log_says_which_engine_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engines = {"not_installed": "vllm:VLLMGenerator", "transformers": generation.ENGINES["transformers"]}
    monkeypatch.setattr(generation, "ENGINES", engines)
    with caplog.at_level(logging.WARNING):
        assert isinstance(load_generator(folder), TransformersGenerator)
    assert f"{folder} runs on transformers" in caplog.text


def test_an_engine_can_be_named(folder: Path) -> None:
    assert isinstance(load_generator(folder, engine="transformers"), TransformersGenerator)
    with pytest.raises(UnknownNameError, match=r"'vlm'; choose one of vllm, transformers"):
        load_generator(folder, engine="vlm")
