"""Rerankers at published sizes on a GPU: pairs of a question and a page's text or picture a second.

    python benchmarks/gpu_rerankers.py [--pairs 64]
    python benchmarks/gpu_rerankers.py --quick

BAAI/bge-reranker-v2-m3's size (XLM-R large) on texts that fill its 512 tokens, and Qwen/Qwen3-VL-Reranker-2B's on A4
sheets at 200 dpi of at most 1,280 tokens. The raw path is one pair after the other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import table
from gpu_models import make, peak, seconds_of, where
from visrag_ret import draw_page

from visrag_integrations import Page
from visrag_integrations.rerankers import CrossEncoderReranker
from visrag_integrations.types import ScoredPage

TEXTS, PICTURES = "text reranker (XLM-R large size)", "page reranker (Qwen3-VL-2B size)"
QUESTION = "What was the margin of the northern region in the second quarter?"
# Scores of random networks are about 1; bfloat16 in batches of other sizes changes the third digit of a logit.
MOST = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="tiny networks")
    arguments = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, build, pairs in ((TEXTS, texts, arguments.pairs), (PICTURES, pictures, max(2, arguments.pairs // 4))):
            with peak(name):
                folder = Path(scratch) / build.__name__
                folder.mkdir()
                off = measure(name, build(folder, arguments.quick), pairs)
            if not off <= MOST:
                wrong.append(f"{name}: batches give other scores, by {off:.3g}")
    if wrong:
        print("; ".join(wrong))
    return 1 if wrong else 0


def measure(name: str, model: Any, pairs: int) -> float:
    """Pairs a second; gives how far the scores of batches are from those of one pair at a time."""
    reads: Any = "image" if name == PICTURES else "text"
    hits: list[ScoredPage] = []
    for number in range(pairs):
        text = f"{number} " + "revenue cost margin region quarter " * 40
        hits.append(ScoredPage(Page.from_image(draw_page(number % 8), doc_id=str(number), text=text), 1.0))
    many = CrossEncoderReranker(model, name="random", reads=reads, scores="raw")
    one = CrossEncoderReranker(model, name="random", reads=reads, scores="raw", batch_size=1)
    few = hits[: max(2, pairs // 8)]
    weights = sum(weight.numel() for weight in model.parameters())
    print(f"{name}: {weights / 1e6:.0f} M weights, {model.device}", flush=True)
    together, alone = scores_of(many, few), scores_of(one, few)
    off = max(abs(together[doc_id] - alone[doc_id]) for doc_id in alone)
    table.keep(f"{name}: largest difference of a score, batches to one by one", off)
    spread = max(alone.values()) - min(alone.values())
    print(f"{name}: scores over {spread:.3g}, batches differ by {off:.3g}", flush=True)
    raw = len(few) / seconds_of(lambda: one.rerank(QUESTION, few))
    rate = pairs / seconds_of(lambda: many.rerank(QUESTION, hits))
    table.keep(f"{name}: pairs", rate, "pairs/s", raw)
    print(f"{name}: {rate:.1f} pairs/s, one by one {raw:.1f}", flush=True)
    return off


def scores_of(reranker: CrossEncoderReranker, hits: list[ScoredPage]) -> dict[str, float]:
    return {hit.page.doc_id: hit.score for hit in reranker.rerank(QUESTION, hits)}


def texts(folder: Path, quick: bool) -> Any:
    """A `CrossEncoder` around a random network of that size."""
    import transformers
    from sentence_transformers import CrossEncoder
    from tiny_rerankers import text_reranker

    device, dtype = where()
    length = 64 if quick else 512
    model = CrossEncoder(str(text_reranker(folder, length=length)), device=str(device))
    if not quick:
        sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        config = transformers.BertConfig(
            vocab_size=250002, max_position_embeddings=length, num_labels=1, **sizes
        )  # as XLM-R, but for the two places that its positions begin at
        put(model, make(transformers.BertForSequenceClassification, config, device, dtype))
    return model.to(device)


def pictures(folder: Path, quick: bool) -> Any:
    import transformers
    from sentence_transformers import CrossEncoder
    from tiny_rerankers import picture_reranker, qwen3_vl_config

    device, dtype = where()
    whole = picture_reranker(folder)
    if not quick:
        for path in whole.rglob("*processor_config.json"):
            content = json.loads(path.read_text())
            own = content.get("image_processor", content)
            if "size" in own:
                own["size"] = {"shortest_edge": 4 * 32 * 32, "longest_edge": 1280 * 32 * 32}
                path.write_text(json.dumps(content))
    model = CrossEncoder(str(whole), device=str(device))
    if not quick:
        rope = {
            "rope_type": "default", "rope_theta": 5000000.0, "mrope_section": [24, 20, 20], "mrope_interleaved": True,
        }  # fmt: skip
        config = qwen3_vl_config(
            hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
            num_key_value_heads=8, head_dim=128, vocab_size=151936, rope_parameters=rope,
        )  # fmt: skip
        vision = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}
        for name, value in {**vision, "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17]}.items():
            setattr(config.vision_config, name, value)
        put(model, make(transformers.Qwen3VLForConditionalGeneration, config, device, dtype))
    return model.to(device)


def put(model: Any, network: Any) -> None:
    """Another network into a `CrossEncoder`."""
    model[0].model = network
    assert sum(weight.numel() for weight in model.parameters()) == sum(each.numel() for each in network.parameters())


if __name__ == "__main__":
    raise SystemExit(main())
