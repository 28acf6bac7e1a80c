"""How long EVisRAG's parser takes on a megabyte of hostile text, against one pass of `re` over the same text.

python benchmarks/parser.py [--bytes 1000000] [--repeats 5]
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable

from visrag_integrations.generation.evisrag import EvidenceStream, parse_evidence

UNITS = [
    *("<think>", "<answer><think>", "<observe><evidence><think><answer>", "</answer>", "<think></think>", "<", "</"),
    *("<evidence>[1]:", "<evidence>[", "<evidence></observe>", "<evidence>\n", "[1]: x ", "image 1:", "**", "text "),
]
TAG = re.compile(r"</?(?:observe|evidence|think|answer)>", re.IGNORECASE)


def median(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def stream(text: str, size: int) -> None:
    reader = EvidenceStream()
    for start in range(0, len(text), size):
        reader.feed(text[start : start + size])
    reader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{'unit':40} {'whole s':>8} {'x re':>6} {'16-char pieces s':>17}")
    worst = 0.0
    for unit in UNITS:
        text = "<evidence>" + unit * (arguments.bytes // len(unit))
        whole = median(lambda text=text: parse_evidence(text), arguments.repeats)  # type: ignore[misc]
        scan = median(lambda text=text: TAG.findall(text), arguments.repeats)  # type: ignore[misc]
        pieces = median(lambda text=text: stream(text, 16), 1)  # type: ignore[misc]
        worst = max(worst, whole)
        print(f"{unit!r:40} {whole:8.3f} {whole / scan:6.1f} {pieces:17.3f}")
    print(f"worst: {worst:.3f} s for {arguments.bytes} characters")


if __name__ == "__main__":
    main()
