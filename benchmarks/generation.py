"""Questions per minute of `ask_many` against one question at a time, on the same engine in the same run.

    python benchmarks/generation.py CHECKPOINT [--questions 16] [--pages 3] [--tokens 64] [--repeats 3]
    python benchmarks/generation.py --agent            # runs of the agent: all under way at once against one by one
    python benchmarks/generation.py --size 7b          # EVisRAG's size on vLLM, weights made up on the GPU, no download

Without a checkpoint it builds a tiny random Qwen2.5-VL, whose numbers say something about batching and nothing about
models. On a machine without GPU: VLLM_CPU_KVCACHE_SPACE=1. `--size 7b` has the layers of Qwen2.5-VL-7B and a vocabulary
of some hundred tokens in place of 152,064, so that a token is some hundredths cheaper than a real one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


class SamePages:
    """A retriever that costs nothing: the same pages for every question."""

    def __init__(self, pages: int) -> None:
        from PIL import Image

        from visrag_integrations import Page
        from visrag_integrations.types import ScoredPage

        self.hits = [
            ScoredPage(Page.from_image(Image.effect_noise((420, 588), 80), doc_id="d", number=number), 1.0)
            for number in range(1, pages + 1)
        ]

    def retrieve(self, query: str, top_k: int = 5, *, filter: Any = None) -> Any:
        return self.hits[:top_k]


TURNS = (
    "<think>I look.</think><search>packages</search>",
    "<think>Small.</think><bbox>[40, 40, 200, 200]</bbox>",
    "<think>More.</think><search>more packages</search>",
    "<think>I see.</think><answer>12</answer>",
)


class Acting:
    """Writes the turns of a whole run: search, look closer, search, answer.

    The engine reads every conversation and writes to it as if the turn were its own; only the text is another one, so
    that a random model's runs are as long as a trained one's, and as full of pictures.
    """

    name = "acting"

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.max_images, self.context_length = engine.max_images, engine.context_length

    def generate(self, conversations: Sequence[Any], settings: Any = None) -> list[Any]:
        acted: list[Any] = []
        for conversation, written in zip(conversations, self.engine.generate(conversations, settings), strict=True):
            acted.append(replace(written, text=TURNS[len(conversation) // 2], finish_reason="stop"))
        return acted

    def stream(self, conversation: Any, settings: Any = None) -> Any:
        yield from self.generate([conversation], settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help="a folder, a name on the hub, or a server's URL")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--pages", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", choices=("tiny", "7b"), default="tiny", help="without a checkpoint")
    parser.add_argument("--agent", action="store_true", help="runs of the agent, four turns each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.checkpoint or _random(Path(folder), arguments.size), arguments)


def measure(checkpoint: str, arguments: argparse.Namespace) -> None:
    from visrag_integrations import VisRAG, load_generator
    from visrag_integrations.agent import VRAGAgent
    from visrag_integrations.types import GenerationSettings

    options: dict[str, Any] = {}
    if not arguments.checkpoint and arguments.size == "7b":
        options = {"load_format": "dummy", "dtype": "bfloat16"}  # vLLM makes the weights up where they are needed
    generator: Any = load_generator(checkpoint, **options)
    settings = GenerationSettings(max_tokens=arguments.tokens, temperature=0.0)
    pages = SamePages(arguments.pages)
    ask_one: Callable[[str], Any]
    ask_all: Callable[[list[str]], Any]
    if arguments.agent:
        agent = VRAGAgent(pages, Acting(generator), settings=settings)
        ask_one, ask_all = agent.run, agent.run_many
    else:
        rag = VisRAG(pages, generator, top_k=arguments.pages, settings=settings)
        ask_one, ask_all = rag.ask, rag.ask_many
    ask_one("A question to warm up?")
    one, many = [], []
    for repeat in range(arguments.repeats):  # every question is new, so that no cache answers it
        asked = _questions(arguments.questions, f"one {repeat}")
        one.append(_timed(lambda asked=asked: [ask_one(question) for question in asked]))
        asked = _questions(arguments.questions, f"many {repeat}")
        many.append(_timed(lambda asked=asked: ask_all(asked)))
    generator.close()
    per_minute = [60 * arguments.questions / statistics.median(times) for times in (one, many)]
    what = f"runs of {len(TURNS)} turns" if arguments.agent else f"{arguments.pages} pages"
    print(f"{type(generator).__name__}, {arguments.questions} questions, {what}, median of {len(one)}")
    print(f"one at a time  {per_minute[0]:8.1f} questions/min")
    print(f"all in flight  {per_minute[1]:8.1f} questions/min")
    table.keep(f"{type(generator).__name__}: {what}", per_minute[1], "questions/min", per_minute[0])
    print(f"ratio          {per_minute[1] / per_minute[0]:8.2f} x")


def _questions(count: int, label: str) -> list[str]:
    return [f"{label}: how many packages of kind {i} are there?" for i in range(count)]


def _timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _random(folder: Path, size: str) -> str:
    """A checkpoint folder: tiny with weights, or EVisRAG's size without, for vLLM to make up."""
    from tiny_models import build_qwen2_5_vl

    made = build_qwen2_5_vl(folder / "model")
    if size == "7b":
        import gpu_models

        for weights in made.glob("*.safetensors"):
            weights.unlink()
        config = json.loads((made / "config.json").read_text())
        text = {**gpu_models.TEXT_7B, "vocab_size": config["text_config"]["vocab_size"]}
        config["text_config"].update(text, rope_parameters=gpu_models.ROPE)
        if "layer_types" in config["text_config"]:
            config["text_config"]["layer_types"] = ["full_attention"] * text["num_hidden_layers"]
        config["vision_config"].update(gpu_models.VISION_2_5, out_hidden_size=text["hidden_size"])
        config["dtype"] = "bfloat16"
        (made / "config.json").write_text(json.dumps(config))
    return str(made)


if __name__ == "__main__":
    main()
