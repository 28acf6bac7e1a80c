"""The transformers generator on a tiny random Qwen2.5-VL: real network, real processor, real pictures."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from tiny_models import build_idefics3, shared_qwen2_5_vl

from visrag_integrations.errors import CheckpointError, GenerationError, PictureError, SettingError
from visrag_integrations.generation import load_generator
from visrag_integrations.generation.chat import PromptWriter
from visrag_integrations.generation.checkpoint import Checkpoint
from visrag_integrations.generation.evisrag import evisrag_messages, plain_messages
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Message, Page

CONTEXT = 8192  # of the tiny checkpoint
GREEDY = GenerationSettings(max_tokens=12, temperature=0.0, repetition_penalty=1.0)


@pytest.fixture(scope="module")
def folder() -> Path:
    return shared_qwen2_5_vl()


@pytest.fixture(scope="module")
def generator(folder: Path) -> TransformersGenerator:
    return TransformersGenerator(str(folder))


def drawn(number: int, size: tuple[int, int] = (280, 140)) -> Page:
    picture = Image.new("RGB", size, (250, 250, 40 * number))
    ImageDraw.Draw(picture).text((10, 10), f"page {number}", "black", font_size=40)
    return Page.from_image(picture, doc_id="drawn", number=number)


def question(*pages: Page) -> Conversation:
    return evisrag_messages("How many packages?", pages)


def wait_for_no_thread() -> None:
    for _ in range(500):
        if not [thread for thread in threading.enumerate() if thread.name == "visrag-transformers"]:
            return
        time.sleep(0.01)
    raise AssertionError("the network still writes")


def read_by(checkpoint: Checkpoint, conversation: Conversation) -> tuple[str, tuple[Image.Image, ...]]:
    prompt = PromptWriter(checkpoint.processor, CONTEXT).write(conversation, GREEDY)
    return prompt.text, prompt.pictures


def test_greedy_text_and_logprob_are_the_networks_own(generator: TransformersGenerator, folder: Path) -> None:
    """The reference: the argmax of one plain forward pass after another, without a cache and without `generate`."""
    written = generator.generate([question(drawn(1), drawn(2))], GREEDY)[0]
    checkpoint = generator._loaded()
    inputs = checkpoint.inputs(*read_by(checkpoint, question(drawn(1), drawn(2))))
    expected, logprobs = [], []
    with torch.inference_mode():
        for _ in range(12):
            logits = checkpoint.model(**inputs, use_cache=False).logits[0, -1]
            token = int(logits.argmax())
            expected.append(token)
            logprobs.append(float(logits.log_softmax(-1)[token]))
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[token]])], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            types = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.cat([types, torch.zeros_like(types[:, :1])], dim=1)
    assert written.text == checkpoint.decode(expected)
    assert written.logprob == pytest.approx(sum(logprobs) / 12, abs=1e-4)
    assert written.usage is not None
    assert written.usage.output_tokens == 12
    assert written.finish_reason == "length"


def test_the_prompt_is_text_first_then_pictures_in_rank_order(generator: TransformersGenerator) -> None:
    checkpoint = generator._loaded()
    prompt, pictures = read_by(checkpoint, question(drawn(1), drawn(2, (140, 140))))
    assert prompt.index("Question: How many packages?") < prompt.index("<|image_pad|>")
    inputs = checkpoint.inputs(prompt, pictures)
    assert inputs["image_grid_thw"].tolist() == [[1, 10, 20], [1, 10, 10]]  # 140/14 x 280/14 patches, then 10 x 10
    pads = (inputs["input_ids"] == checkpoint.model.config.image_token_id).sum()
    assert int(pads) == (10 * 20 + 10 * 10) // 4


def test_pictures_are_seen(generator: TransformersGenerator) -> None:
    texts = {generator.generate([question(drawn(n))], GREEDY)[0].text for n in (1, 3, 6)}
    assert len(texts) > 1


def test_alone_is_in_a_batch(generator: TransformersGenerator) -> None:
    asked = [question(drawn(1)), question(drawn(2, (500, 300)), drawn(3)), plain_messages("Why?", [])]
    together = generator.generate(asked, GREEDY)
    assert together == [generator.generate([one], GREEDY)[0] for one in asked]
    sampled = GenerationSettings(max_tokens=12, temperature=1.0, seed=7)
    assert generator.generate(asked, sampled)[2] == generator.generate(asked[2:], sampled)[0]


def test_a_seed_repeats_and_leaves_the_callers_generator_alone(generator: TransformersGenerator) -> None:
    state = torch.random.get_rng_state()
    first = generator.generate([question()], GenerationSettings(max_tokens=8, temperature=1.5, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == generator.generate([question()], GenerationSettings(max_tokens=8, temperature=1.5, seed=1))
    assert first != generator.generate([question()], GenerationSettings(max_tokens=8, temperature=1.5, seed=2))


def test_a_seed_is_set_on_the_networks_device_alone(
    generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with GPUs the caller's draws there go on, too."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    settings = GenerationSettings(max_tokens=2, temperature=1.5, seed=1)
    assert generator.generate([question()], settings) == generator.generate([question()], settings)
    assert seeded == []


def test_pieces_make_the_whole(generator: TransformersGenerator) -> None:
    whole = generator.generate([question(drawn(1))], GREEDY)[0]
    pieces = list(generator.stream(question(drawn(1)), GREEDY))
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces) == whole.text
    assert all(piece == Generation(piece.text) for piece in pieces[:-1])
    assert (pieces[-1].logprob, pieces[-1].usage, pieces[-1].finish_reason) == (whole.logprob, whole.usage, "length")


def test_a_stop_string_ends_the_text(generator: TransformersGenerator) -> None:
    whole = generator.generate([question()], GREEDY)[0].text
    stop = whole[5:9]  # may span tokens
    stopped = generator.generate([question()], GenerationSettings(12, 0.0, None, 1.0, stop=(stop,)))[0]
    assert stopped.text == whole[: whole.index(stop)]
    assert stopped.finish_reason == "stop"


def test_closing_a_stream_stops_the_network(generator: TransformersGenerator) -> None:
    writing = generator.stream(question(drawn(1)), GenerationSettings(max_tokens=3000, temperature=0.0))
    next(writing)
    started = time.perf_counter()
    writing.close()
    assert time.perf_counter() - started < 5  # 3000 tokens take minutes
    wait_for_no_thread()
    assert generator.generate([question()], GREEDY)[0].text


def test_two_streams_in_one_thread_do_not_wait_for_each_other(generator: TransformersGenerator) -> None:
    first, second = generator.stream(question(drawn(1)), GREEDY), generator.stream(question(), GREEDY)
    head = [next(first).text, next(second).text]
    rest = ["".join(piece.text for piece in writing) for writing in (first, second)]
    alone = generator.generate([question(drawn(1)), question()], GREEDY)
    assert [begun + end for begun, end in zip(head, rest, strict=True)] == [one.text for one in alone]


async def test_the_loop_goes_on_and_cancelling_stops(generator: TransformersGenerator) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    written = await generator.agenerate([question(drawn(1))], GREEDY)
    assert written == generator.generate([question(drawn(1))], GREEDY)
    assert ticks > 3
    endless = GenerationSettings(max_tokens=3000, temperature=0.0)
    task = asyncio.create_task(generator.agenerate([question()], endless))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    ticking.cancel()
    wait_for_no_thread()


def test_a_page_without_a_picture_is_read_as_text(generator: TransformersGenerator) -> None:
    page = Page(doc_id="d", number=1, text="Twelve packages.")
    assert generator.generate([question(page)], GREEDY)[0].usage != generator.generate([question()], GREEDY)[0].usage


def testcontrol_tokens_in_a_question_are_text(generator: TransformersGenerator) -> None:
    checkpoint = generator._loaded()
    asked = plain_messages("<|im_end|><|image_pad|>", [])
    ids = checkpoint.inputs(*read_by(checkpoint, asked))["input_ids"][0].tolist()
    end, pad = (checkpoint.tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|image_pad|>"))
    assert (ids.count(end), ids.count(pad)) == (1, 0)


def test_pictures_are_fitted_to_the_context(generator: TransformersGenerator) -> None:
    large = [drawn(n, (2000, 1900)) for n in range(1, 6)]  # 1280 visual tokens each, as many as the model takes
    usage = generator.generate([question(*large)], GREEDY)[0].usage
    assert usage is not None
    assert CONTEXT - 250 < usage.input_tokens + 12 <= CONTEXT


def test_what_does_not_fit_says_what_does(generator: TransformersGenerator) -> None:
    with pytest.raises(GenerationError, match=r"6 pictures .* at most 5"):
        generator.generate([question(*[drawn(n + 1) for n in range(6)])], GREEDY)
    with pytest.raises(PictureError, match="1400 x 4 pixels"):
        generator.generate([question(drawn(1, (1400, 4)))], GREEDY)
    with pytest.raises(GenerationError, match=r"The text alone takes \d+ of 8192 tokens"):
        generator.generate([plain_messages("word " * 2000, [])], GREEDY)


def test_settings_it_cannot_hold_are_refused(generator: TransformersGenerator) -> None:
    with pytest.raises(SettingError, match=r"guided=True is refused. Use vLLM"):
        generator.generate([question()], GenerationSettings(guided=True))
    with pytest.raises(SettingError, match="json_schema"):
        next(generator.stream(question(), GenerationSettings(json_schema={"type": "object"})))
    with pytest.raises(SettingError, match="temperature is -1"):
        generator.generate([question()], GenerationSettings(temperature=-1))


def test_a_failing_network_is_a_generation_error(folder: Path) -> None:
    generator = TransformersGenerator(str(folder))
    generator._loaded().model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(GenerationError, match="ZeroDivisionError"):
        generator.generate([question()], GREEDY)


def test_weights_must_be_exactly_the_networks(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["num_hidden_layers"] = 3
    config["text_config"]["layer_types"] = ["full_attention"] * 3
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"missing keys model.language_model.layers.2"):
        TransformersGenerator(str(copy)).generate([question()], GREEDY)
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        TransformersGenerator(str(copy)).generate([question()], GREEDY)


def test_it_is_found_by_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "visrag_integrations.generation.ENGINES", {"transformers": "transformers:TransformersGenerator"}
    )
    generator = load_generator(folder, context_length=500)
    assert isinstance(generator, TransformersGenerator)
    assert generator.name == str(folder)
    with pytest.raises(GenerationError, match="of 500 tokens"):
        generator.generate([(Message(("word " * 600,)),)], GREEDY)


def test_a_model_that_cuts_pictures_its_own_way(tmp_path: Path) -> None:
    generator = TransformersGenerator(str(build_idefics3(tmp_path)))
    usages = [generator.generate([question(*map(drawn, range(1, n + 1)))], GREEDY)[0].usage for n in (0, 1, 3)]
    taken = [usage.input_tokens for usage in usages if usage is not None]
    assert taken[1] - taken[0] > 3 * 16  # 280 x 140 becomes 224 x 112: two tiles and the whole, 16 tokens each
    assert taken[2] - taken[0] == 3 * (taken[1] - taken[0])
    small = TransformersGenerator(str(tmp_path), context_length=taken[2])
    with pytest.raises(GenerationError, match=rf"The prompt is {taken[2]} tokens long"):
        small.generate([question(drawn(1), drawn(2), drawn(3))], GREEDY)
