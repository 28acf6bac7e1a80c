"""Rerankers: models that score a page for a question."""

from __future__ import annotations

from visrag_integrations.known_models.rows import KnownModel, Way


def _sees_pages(name: str, parameters: float, *, here: bool, note: str = "") -> KnownModel:
    """One that looks at a page's picture."""
    served = Way(
        "vLLM", "", f'vllm serve {name} --runner pooling\nCrossEncoderReranker("{name}", url="http://gpu:8000")'
    )
    ways: tuple[Way, ...] = (served,)
    if here:
        ways = (Way("sentence-transformers", "sentence-transformers", f'CrossEncoderReranker("{name}")'), served)
    return KnownModel(name, "reranker", ways, parameters=parameters, note=note)


RERANKERS: tuple[KnownModel, ...] = (
    _sees_pages("Qwen/Qwen3-VL-Reranker-2B", 2000, here=True, note="served with a chat template"),
    _sees_pages("Qwen/Qwen3-VL-Reranker-8B", 8000, here=True, note="served with a chat template"),
    _sees_pages("jinaai/jina-reranker-m0", 0, here=False, note="runs code of its own, on a server only"),
    _sees_pages(
        "nvidia/llama-nemotron-rerank-vl-1b-v2",
        1000,
        here=False,
        note="runs code of its own: --trust-remote-code and a chat template on the server",
    ),
)
"""Those that see pages. Any text cross-encoder of sentence-transformers reads their words: see docs/reranking.md."""
