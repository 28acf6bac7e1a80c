"""Many vectors a page: ColQwen2 and ColModernVBERT (the network of `cpu-visual`) at their published sizes, on a GPU.

    python benchmarks/gpu_late.py [--pages 64] [--queries 256]
    python benchmarks/gpu_late.py --quick

Pages are A4 sheets at 200 dpi. The raw path is the same embedder, asked for one page or query after the other. "Network
alone" is without cutting pages into patches, which threads do on the processor meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import table
from comparing import least_cosine
from gpu_models import embedder, peak, seconds_of
from visrag_ret import draw_page

from visrag_integrations import Page

NAMES = {"colqwen2": "ColQwen2 (Qwen2-VL-2B size)", "colmodernvbert": "ColModernVBERT"}
# Bfloat16 in batches of other sizes: single vectors of VisRAG-Ret's tokens differ by 0.9999, these pass more layers.
LEAST = 0.99


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=64)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="tiny networks")
    parser.add_argument("--only", choices=sorted(NAMES))
    arguments = parser.parse_args()
    wrong: list[str] = []
    for system, name in NAMES.items():
        if arguments.only in (None, system):
            with tempfile.TemporaryDirectory() as scratch, peak(name):
                made = embedder(system, Path(scratch) / "model", arguments.quick)
                cosine = min(time_pages(made, name, arguments.pages), time_queries(made, name, arguments.queries))
                made.close()
            if not cosine >= LEAST:
                wrong.append(f"{name}: batches give other vectors, least cosine {cosine:.4f}")
    if wrong:
        print("; ".join(wrong))
    return 1 if wrong else 0


def time_pages(made: Any, name: str, count: int) -> float:
    """Pages a second; gives the least cosine between batches and one by one."""
    drawn = [Page.from_image(draw_page(number), doc_id="drawn", number=number + 1) for number in range(8)]
    pages = [drawn[number % len(drawn)] for number in range(count)]
    few = pages[: max(2, count // 8)]
    weights = sum(weight.numel() for weight in made.module.parameters())
    print(f"{name}: {weights / 1e6:.0f} M weights, {made.module.dtype}, {made.module.device}", flush=True)
    together = made.embed_pages(few)
    alone: list[Any] = [made.embed_pages([page])[0] for page in few]
    cosine = least_cosine(together, alone)
    table.keep(f"{name}: least cosine of a page's vectors, batches to one by one", cosine)
    print(f"{name}: {together[0].shape[0]} vectors a page, least cosine {cosine:.6f}", flush=True)

    raw = len(few) / seconds_of(lambda: [made.embed_pages([page]) for page in few])
    rate = count / seconds_of(lambda: made.embed_pages(pages))
    table.keep(f"{name}: pages", rate, "pages/s", raw)
    items = [made.page_item(page.open_image()) for page in drawn]
    many = [items[number % len(items)] for number in range(count)]
    network = count / seconds_of(lambda: made._runner.embed(many))
    table.keep(f"{name}: pages, the network alone", network, "pages/s")
    print(f"{name}: {rate:.1f} pages/s, one by one {raw:.1f}, the network alone {network:.1f}", flush=True)
    return cosine


def time_queries(made: Any, name: str, count: int) -> float:
    """The same of queries."""
    queries = [f"what was the margin of region {number}? " + "north " * (number % 12) for number in range(count)]
    few = queries[: max(2, count // 8)]
    alone = [made.embed_queries([query])[0] for query in few]
    cosine = least_cosine(made.embed_queries(queries)[: len(few)], alone)
    table.keep(f"{name}: least cosine of a query's vectors, batches to one by one", cosine)
    raw = len(few) / seconds_of(lambda: [made.embed_queries([query]) for query in few])
    rate = count / seconds_of(lambda: made.embed_queries(queries))
    table.keep(f"{name}: queries", rate, "queries/s", raw)
    print(f"{name}: {rate:.0f} queries/s, one by one {raw:.0f}, least cosine {cosine:.6f}", flush=True)
    return cosine


if __name__ == "__main__":
    raise SystemExit(main())
