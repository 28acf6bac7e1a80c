"""Questions per minute of `ask_many` against one question at a time, on the same engine in the same run.

    python benchmarks/generation.py CHECKPOINT [--questions 16] [--pages 3] [--tokens 64] [--repeats 3]

Without a checkpoint it builds a tiny random Qwen2.5-VL, whose numbers say something about batching and nothing about
models. On a machine without GPU: VLLM_CPU_KVCACHE_SPACE=1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help="a folder, a name on the hub, or a server's URL")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--pages", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each answer")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.checkpoint or _tiny(Path(folder)), arguments)


def measure(checkpoint: str, arguments: argparse.Namespace) -> None:
    from visrag_integrations import VisRAG, load_generator
    from visrag_integrations.types import GenerationSettings

    generator: Any = load_generator(checkpoint)
    settings = GenerationSettings(max_tokens=arguments.tokens, temperature=0.0)
    rag = VisRAG(SamePages(arguments.pages), generator, top_k=arguments.pages, settings=settings)
    rag.ask("A question to warm up?")
    one, many = [], []
    for repeat in range(arguments.repeats):  # every question is new, so that no cache answers it
        one.append(_timed(lambda n=repeat: [rag.ask(q) for q in _questions(arguments.questions, f"one {n}")]))
        many.append(_timed(lambda n=repeat: rag.ask_many(_questions(arguments.questions, f"many {n}"))))
    generator.close()
    per_minute = [60 * arguments.questions / statistics.median(times) for times in (one, many)]
    print(f"{type(generator).__name__}, {arguments.questions} questions, {arguments.pages} pages, median of {len(one)}")
    print(f"one at a time  {per_minute[0]:8.1f} questions/min")
    print(f"ask_many       {per_minute[1]:8.1f} questions/min")
    print(f"ratio          {per_minute[1] / per_minute[0]:8.2f} x")


def _questions(count: int, label: str) -> list[str]:
    return [f"{label}: how many packages of kind {i} are there?" for i in range(count)]


def _timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _tiny(folder: Path) -> str:
    from tiny_models import build_qwen2_5_vl

    return str(build_qwen2_5_vl(folder / "tiny"))


if __name__ == "__main__":
    main()
