"""The vllm generator on the real engine (its CPU build) with a tiny random Qwen2.5-VL: `make test-vllm`."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import ScriptedRetriever
from PIL import Image, ImageDraw
from tiny_models import build_qwen2_5_vl

from visrag_integrations import VisRAG, load_generator
from visrag_integrations.errors import CheckpointError, GenerationError, SettingError
from visrag_integrations.generation.evisrag import evisrag_messages, parse_evidence, plain_messages
from visrag_integrations.generation.strategies import STRATEGIES
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.generation.vllm import VLLMGenerator
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page, ScoredPage

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]  # vLLM's own warnings

GREEDY = GenerationSettings(max_tokens=24, temperature=0.0)
ENDLESS = GenerationSettings(max_tokens=5000, temperature=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_qwen2_5_vl(tmp_path_factory.mktemp("tiny-qwen"))


@pytest.fixture(scope="module")
def generator(folder: Path) -> Iterator[VLLMGenerator]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    generator = load_generator(folder, dtype="float32")
    assert isinstance(generator, VLLMGenerator)  # first of the engines, as it is installed
    yield generator
    generator.close()


def drawn(number: int, size: tuple[int, int] = (280, 140)) -> Page:
    picture = Image.new("RGB", size, (250, 250, 40 * number))
    ImageDraw.Draw(picture).text((10, 10), f"page {number}", "black", font_size=40)
    return Page.from_image(picture, doc_id="drawn", number=number, text=f"page {number}")


PAGES = [drawn(1), drawn(2, (400, 300)), drawn(3)]


def question(*pages: Page, text: str = "How many packages?") -> Conversation:
    return evisrag_messages(text, pages)


def in_flight(generator: VLLMGenerator) -> int:
    assert generator._engine is not None
    return int(generator._engine._llm.output_processor.get_num_unfinished_requests())


def wait_until_idle(generator: VLLMGenerator) -> None:
    for _ in range(200):
        if not in_flight(generator):
            return
        time.sleep(0.02)
    raise AssertionError("the engine still writes")


def test_three_pictures_greedy_are_what_transformers_writes(generator: VLLMGenerator, folder: Path) -> None:
    reference = TransformersGenerator(str(folder))
    for settings in (GREEDY, GenerationSettings(max_tokens=24, temperature=0.0, repetition_penalty=1.0)):
        (written,) = generator.generate([question(*PAGES)], settings)
        (expected,) = reference.generate([question(*PAGES)], settings)
        assert written.text == expected.text
        assert written.usage == expected.usage
        assert written.finish_reason == expected.finish_reason == "length"
        assert written.logprob == pytest.approx(expected.logprob, abs=1e-3)


def test_alone_is_in_a_batch(generator: VLLMGenerator) -> None:
    asked = [question(*PAGES[:n], text=f"Question {n}?") for n in (3, 1, 2)] + [plain_messages("Why?", [])]
    together = generator.generate(asked, GREEDY)
    assert [one.text for one in together] == [generator.generate([one], GREEDY)[0].text for one in asked]
    assert len({one.text for one in together}) == 4


def test_pieces_make_the_whole(generator: VLLMGenerator) -> None:
    (whole,) = generator.generate([question(*PAGES)], GREEDY)
    pieces = list(generator.stream(question(*PAGES), GREEDY))
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces) == whole.text
    assert all(piece == Generation(piece.text) for piece in pieces[:-1])
    assert (pieces[-1].usage, pieces[-1].finish_reason) == (whole.usage, whole.finish_reason)
    assert pieces[-1].logprob == pytest.approx(whole.logprob, abs=1e-4)


def test_settings_reach_the_engine(generator: VLLMGenerator) -> None:
    warm = GenerationSettings(max_tokens=24, temperature=1.5, seed=5)
    assert generator.generate([question()], warm)[0].text == generator.generate([question()], warm)[0].text
    assert generator.generate([question()], warm)[0].text != generator.generate([question()], GREEDY)[0].text
    whole = generator.generate([question()], GREEDY)[0].text
    stop = whole[6:8]
    (stopped,) = generator.generate([question()], GenerationSettings(max_tokens=24, temperature=0.0, stop=(stop,)))
    assert (stopped.text, stopped.finish_reason) == (whole[: whole.index(stop)], "stop")


@pytest.mark.parametrize("max_tokens", [300, 900])
def test_guided_output_is_evidence_without_problems(generator: VLLMGenerator, max_tokens: int) -> None:
    settings = GenerationSettings(guided=True, max_tokens=max_tokens, temperature=0.7, seed=3)
    asked = [question(*PAGES[:n]) for n in (1, 2, 3)]
    for conversation, written in zip(asked, generator.generate(asked, settings), strict=True):
        answer = parse_evidence(written.text, list(conversation[0].pages))
        assert answer.problems == ()
        assert [entry.page for entry in answer.evidence] == list(conversation[0].pages)
        assert answer.text
        assert answer.thinking
        assert answer.observation
        assert written.usage is not None
        assert written.usage.output_tokens <= max_tokens
        assert written.finish_reason == "stop"


def test_guided_output_streams(generator: VLLMGenerator) -> None:
    settings = GenerationSettings(guided=True, max_tokens=250, temperature=0.0)
    text = "".join(piece.text for piece in generator.stream(question(*PAGES), settings))
    assert parse_evidence(text, PAGES).problems == ()
    assert text == generator.generate([question(*PAGES)], settings)[0].text


def test_guided_output_needs_room(generator: VLLMGenerator) -> None:
    with pytest.raises(SettingError, match="max_tokens is 20; guided=True with 3 pages needs more than"):
        generator.generate([question(*PAGES)], GenerationSettings(guided=True, max_tokens=20))


def test_text_is_held_to_a_json_schema(generator: VLLMGenerator) -> None:
    pages = {"type": "array", "maxItems": 2, "items": {"enum": [1, 2]}}
    schema = {
        "type": "object",
        "properties": {"found": {"enum": ["yes", "no"]}, "pages": pages},
        "required": ["found", "pages"],
        "additionalProperties": False,
    }
    assert "json_schema" in generator.supports
    (written,) = generator.generate(
        [plain_messages("Found?", PAGES)], GenerationSettings(max_tokens=200, temperature=0.0, json_schema=schema)
    )
    read = json.loads(written.text)
    assert read["found"] in ("yes", "no")
    assert set(read["pages"]) <= {1, 2}


def test_what_does_not_fit_says_what_does(generator: VLLMGenerator) -> None:
    with pytest.raises(GenerationError, match=r"6 pictures .* at most 5"):
        generator.generate([question(*PAGES, *PAGES)], GREEDY)
    with pytest.raises(GenerationError, match=r"The text alone takes \d+ of 8192 tokens"):
        generator.generate([plain_messages("word " * 2000, [])], GREEDY)
    large = [drawn(n, (2000, 1900)) for n in range(1, 6)]
    (written,) = generator.generate([question(*large)], GREEDY)
    assert written.usage is not None
    assert 8192 - 300 < written.usage.input_tokens + 24 <= 8192


def test_closing_a_stream_aborts_the_request(generator: VLLMGenerator) -> None:
    writing = generator.stream(question(*PAGES), ENDLESS)
    assert next(writing).text
    assert in_flight(generator) == 1
    writing.close()
    wait_until_idle(generator)


async def test_async_writes_many_at_once_and_cancels(generator: VLLMGenerator) -> None:
    written = await asyncio.gather(*(generator.agenerate([question(page)], GREEDY) for page in PAGES))
    assert [one.text for (one,) in written] == [
        one.text for one in await generator.agenerate([question(page) for page in PAGES], GREEDY)
    ]
    pieces = [piece.text async for piece in generator.astream(question(PAGES[0]), GREEDY)]
    assert "".join(pieces) == written[0][0].text
    task = asyncio.create_task(generator.agenerate([question(*PAGES)] * 3, ENDLESS))
    for _ in range(500):
        await asyncio.sleep(0.02)
        if in_flight(generator) == 3:
            break
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_until_idle, generator)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers_many_questions(generator: VLLMGenerator, strategy: str) -> None:
    hits = [ScoredPage(page, 0.9 - 0.1 * page.number) for page in PAGES]
    rag = VisRAG(
        ScriptedRetriever(*hits),
        generator,
        strategy,
        settings=GenerationSettings(guided=True, max_tokens=300, temperature=0.0),
    )
    answers = rag.ask_many(["How many?", "Which?"])
    assert len(answers) == 2
    for answer in answers:
        assert answer.text
        assert [problem for problem in answer.problems if "log-prob" in problem] == []
        assert [hit.page for hit in answer.pages] == PAGES


def test_a_folder_that_is_no_checkpoint_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    generator = load_generator(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        generator.generate([question()], GREEDY)


def test_an_engine_that_dies_is_a_clear_error(generator: VLLMGenerator) -> None:
    """Last in this file: afterwards there is no engine."""
    import psutil

    writing = generator.stream(question(*PAGES), ENDLESS)
    assert next(writing).text
    for child in psutil.Process().children(recursive=True):
        if "EngineCore" in child.name() or "EngineCore" in " ".join(child.cmdline()):
            child.kill()
    with pytest.raises(GenerationError, match=r"engine of .* died.*The next call starts a new engine"):
        list(writing)
