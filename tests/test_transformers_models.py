"""Qwen3-VL and MiniCPM-V 4.6, 4.7 as generators: what transformers writes when it is called by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image, ImageDraw
from tiny_models import shared_qwen2_5_vl

pytest.importorskip("torchvision")
from tiny_generators import CONTEXT, build_minicpm_v, build_qwen3_vl

from visrag_integrations import Page, load_generator
from visrag_integrations.errors import CheckpointError
from visrag_integrations.generation.chat import PromptWriter
from visrag_integrations.generation.evisrag import plain_messages
from visrag_integrations.generation.own_code import OWN_CODE
from visrag_integrations.generation.strategies import image_and_text
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.types import GenerationSettings, ScoredPage

GREEDY = GenerationSettings(max_tokens=12, temperature=0.0, repetition_penalty=1.0)
QUESTION = "How many packages are there?"
BUILD: dict[str, Callable[[Path], Path]] = {
    "qwen3_vl": build_qwen3_vl,
    "minicpmv4_6": lambda folder: build_minicpm_v(folder, "4_6"),
    "minicpmv4_7": lambda folder: build_minicpm_v(folder, "4_7"),
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of kernels that are not installed


def drawn(number: int, size: tuple[int, int]) -> Page:
    picture = Image.new("RGB", size, (250, 250, 40 * number))
    ImageDraw.Draw(picture).text((10, 10), f"page {number}", "black", font_size=40)
    return Page.from_image(picture, doc_id="drawn", number=number, text=f"Text of page {number}: twelve.")


# One small page, one that MiniCPM-V cuts into slices, one far longer than wide.
PAGES = [drawn(1, (96, 80)), drawn(2, (300, 220)), drawn(3, (80, 320))]


class Tiny:
    """One tiny checkpoint, read by this library and by transformers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generator = TransformersGenerator(str(folder), device="cpu")
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = transformers.AutoProcessor.from_pretrained(folder)

    def inputs_by_hand(self, content: list[dict[str, Any]]) -> Any:
        chat = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )

    def text_by_hand(self, content: list[dict[str, Any]]) -> str:
        inputs = self.inputs_by_hand(content)
        with torch.inference_mode():
            ids = self.model.generate(**inputs, max_new_tokens=12, do_sample=False)
        written = ids[0, inputs["input_ids"].shape[1] :]
        return str(self.processor.decode(written, skip_special_tokens=True))


@pytest.fixture(scope="module", params=BUILD)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(BUILD[request.param](tmp_path_factory.mktemp(request.param)))


def shown(*pages: Page) -> list[dict[str, Any]]:
    return [{"type": "image", "image": page.open_image()} for page in pages]


@pytest.mark.parametrize("pages", [[], PAGES[:1], PAGES[1:2], PAGES], ids=["none", "one", "sliced", "three"])
def test_greedy_texts_are_those_of_transformers(tiny: Tiny, pages: list[Page]) -> None:
    """The question first, then the pages in rank order."""
    content = [{"type": "text", "text": QUESTION}, *shown(*pages)]
    (written,) = tiny.generator.generate([plain_messages(QUESTION, pages)], GREEDY)
    assert written.text == tiny.text_by_hand(content)
    assert written.usage is not None
    assert written.usage.input_tokens == tiny.inputs_by_hand(content)["input_ids"].shape[1]


def test_the_network_is_given_the_same_and_says_the_same(tiny: Tiny) -> None:
    checkpoint = tiny.generator._loaded()
    prompt = PromptWriter(checkpoint.processor, CONTEXT).write(plain_messages(QUESTION, PAGES), GREEDY)
    ours = checkpoint.inputs(prompt.text, prompt.pictures)
    theirs = tiny.inputs_by_hand([{"type": "text", "text": QUESTION}, *shown(*PAGES)])
    assert ours["input_ids"].tolist() == theirs["input_ids"].tolist()
    with torch.inference_mode():
        found, expected = checkpoint.model(**ours).logits, tiny.model(**theirs).logits
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_every_page_is_seen(tiny: Tiny) -> None:
    """Another picture in any of the places gives other logits."""
    checkpoint = tiny.generator._loaded()
    writer = PromptWriter(checkpoint.processor, CONTEXT)

    def logits(pages: list[Page]) -> torch.Tensor:
        prompt = writer.write(plain_messages(QUESTION, pages), GREEDY)
        with torch.inference_mode():
            found: torch.Tensor = checkpoint.model(**checkpoint.inputs(prompt.text, prompt.pictures)).logits[0, -1]
        return found

    whole = logits(PAGES)
    for place, page in enumerate(PAGES):
        changed = list(PAGES)
        changed[place] = drawn(6, page.open_image().size)
        assert (logits(changed) - whole).abs().max() > 1e-3


def test_pages_with_their_texts(tiny: Tiny) -> None:
    hits = [ScoredPage(page, 1.0) for page in PAGES[:2]]
    plan = image_and_text(QUESTION, hits, "plain")
    content: list[dict[str, Any]] = [{"type": "text", "text": f"{QUESTION}\n\nPage 1:\nText of page 1: twelve."}]
    content += [*shown(PAGES[0]), {"type": "text", "text": "Page 2:\nText of page 2: twelve."}, *shown(PAGES[1])]
    (written,) = tiny.generator.generate(plan.conversations, GREEDY)
    assert written.text == tiny.text_by_hand(content)


@pytest.mark.parametrize("name", OWN_CODE)
@pytest.mark.parametrize("engine", [None, "transformers", "vllm"])
def test_what_needs_its_own_code_is_refused_by_name(name: str, engine: str | None) -> None:
    with pytest.raises(CheckpointError, match=f"vllm serve {name} --trust-remote-code") as raised:
        load_generator(name, engine=engine)
    assert "--generator http://localhost:8000/v1 --prompt plain" in str(raised.value)


def test_a_folder_that_needs_its_own_code_is_refused_by_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "minicpmv", "auto_map": {"AutoModel": "modeling_minicpmv.MiniCPMV"}})
    )
    (tmp_path / "modeling_minicpmv.py").write_text("raise AssertionError('run')\n")
    generator = load_generator(tmp_path, engine="transformers")
    with pytest.raises(CheckpointError, match=r"brings code of its own.*vllm serve"):
        generator.generate([plain_messages("How many?", [])])


def test_code_beside_a_network_that_transformers_has_is_left_alone(tmp_path: Path) -> None:
    """Some checkpoints still carry the code of before transformers took it in."""
    source = shared_qwen2_5_vl()
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageTextToText": "modeling_mine.Mine"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling_mine.py").write_text("raise AssertionError('run')\n")
    question = plain_messages(QUESTION, PAGES[:1])
    (written,) = TransformersGenerator(str(tmp_path), device="cpu").generate([question], GREEDY)
    assert written == TransformersGenerator(str(source), device="cpu").generate([question], GREEDY)[0]
