"""EVisRAG's size on transformers, where vLLM is not at hand: questions a minute, ours against transformers' own.

    python benchmarks/gpu_answers.py [--size 7b] [--questions 3] [--tokens 128]
    python benchmarks/gpu_answers.py --size tiny --questions 2 --tokens 4

The transformers generator writes one text after another, so that none changes another: all at once is as fast as one by
one, and this shows by how much it is not. What a batch would give is shown beside it, by transformers' own `generate`
on prompts that are equally long; for that use vLLM (`generation.py --size 7b`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import table
import torch
from gpu_models import peak, qwen2_5_vl, seconds_of, where
from visrag_ret import draw_page

from visrag_integrations import Page, VisRAG
from visrag_integrations.generation.chat import PromptWriter
from visrag_integrations.generation.evisrag import evisrag_messages
from visrag_integrations.generation.processors import load_processor
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.types import GenerationSettings, ScoredPage

SHORT = 4  # tokens of an answer where only the pages are timed
TOGETHER = 8  # conversations of the batch that transformers writes by itself
NAMES = {"7b": "Qwen2.5-VL-7B size", "3b": "Qwen2.5-VL-3B size", "tiny": "tiny Qwen2.5-VL"}


class DrawnPages:
    """The same A4 sheets at 200 dpi for every question."""

    def __init__(self, pages: int) -> None:
        self.hits: list[ScoredPage] = []
        for number in range(1, pages + 1):
            self.hits.append(ScoredPage(Page.from_image(draw_page(number), doc_id="drawn", number=number), 1.0))

    def retrieve(self, query: str, top_k: int = 5, *, filter: Any = None) -> list[ScoredPage]:
        return self.hits[:top_k]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "3b", "7b"), default="7b")
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument("--pages", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each answer")
    arguments = parser.parse_args()
    device, dtype = where()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        network = qwen2_5_vl(folder, arguments.size, device, dtype)
        processor = load_processor(str(folder))
    count = sum(weight.numel() for weight in network.parameters())
    print(f"{NAMES[arguments.size]}: {count / 1e9:.2f} B weights, {dtype}, {device}", flush=True)
    name = f"{NAMES[arguments.size]}, transformers"
    with peak(name):
        measure(name, network, processor, arguments)


def measure(name: str, network: Any, processor: Any, arguments: argparse.Namespace) -> None:
    generator = TransformersGenerator.around(network, processor, name="random")
    # A penalty would look at every token of the prompt anew; it is not what is compared here.
    settings = GenerationSettings(max_tokens=arguments.tokens, temperature=0.0, repetition_penalty=1.0)
    short = GenerationSettings(max_tokens=SHORT, temperature=0.0, repetition_penalty=1.0)
    drawn = DrawnPages(arguments.pages)
    rag = VisRAG(drawn, generator, top_k=arguments.pages, settings=settings)
    conversation = evisrag_messages("How many packages are there?", [hit.page for hit in drawn.hits])

    def warm_up() -> None:
        (written,) = generator.generate([conversation], short)
        assert written.usage is not None
        # Where an answer could end early, figures of so many tokens would be none.
        assert written.usage.output_tokens == SHORT, written

    first, warmed = seconds_of(warm_up), seconds_of(warm_up)
    table.keep(f"{name}: {arguments.pages} A4 pages read and {SHORT} tokens written", warmed, "s")
    print(
        f"{arguments.pages} A4 pages and {SHORT} tokens: {warmed:.2f} s; the very first time {first:.2f} s", flush=True
    )

    inputs = plain_inputs(generator, conversation, settings)
    raw = seconds_of(lambda: plain(network, inputs, arguments.tokens))
    asked = [f"How many packages of kind {number} are there?" for number in range(arguments.questions)]
    alone = seconds_of(lambda: [rag.ask(question) for question in asked[:2]]) / len(asked[:2])
    what = f"{arguments.pages} A4 pages, {arguments.tokens} tokens"
    table.keep(f"{name}: {what}; raw: transformers' generate", 60 / alone, "questions/min", 60 / raw)
    table.keep(f"{name}: tokens written after the pages", (arguments.tokens - SHORT) / max(alone - warmed, 1e-9), "/s")
    print(f"one by one {60 / alone:.1f} questions/min, generate alone {60 / raw:.1f}", flush=True)

    together = seconds_of(lambda: rag.ask_many(asked)) / len(asked)
    table.keep(f"{name}: ask_many; raw: one by one", 60 / together, "questions/min", 60 / alone)
    print(f"ask_many   {60 / together:.1f} questions/min", flush=True)
    batch = repeat(inputs, TOGETHER)
    raw_together = seconds_of(lambda: plain(network, batch, arguments.tokens)) / TOGETHER
    table.keep(
        f"{name}: what transformers' generate gives {TOGETHER} at once; raw: one", 60 / raw_together, "questions/min",
        60 / raw,
    )  # fmt: skip
    print(f"{TOGETHER} at once by transformers' own generate: {60 / raw_together:.1f} questions/min", flush=True)


def plain_inputs(generator: TransformersGenerator, conversation: Any, settings: GenerationSettings) -> dict[str, Any]:
    """The tensors of one question, as the generator makes them."""
    checkpoint = generator._loaded()
    writer = PromptWriter(checkpoint.processor, generator.context_length)
    prompt = writer.write(conversation, settings)
    inputs = dict(checkpoint.inputs(prompt.text, prompt.pictures))
    print(f"a prompt has {inputs['input_ids'].shape[1]} tokens", flush=True)
    return inputs


def repeat(inputs: dict[str, torch.Tensor], times: int) -> dict[str, torch.Tensor]:
    """The same question many times: equally long, so that nothing is padded."""
    return {name: torch.cat([tensor] * times) for name, tensor in inputs.items()}


def plain(network: Any, inputs: dict[str, torch.Tensor], tokens: int) -> None:
    with torch.inference_mode():
        network.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)


if __name__ == "__main__":
    main()
