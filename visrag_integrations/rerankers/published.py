"""Published rerankers: what each reads, whether it loads here, and how vLLM serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reads = Literal["text", "image", "both"]


@dataclass(frozen=True)
class PublishedReranker:
    """One reranker, as it was published.

    Attributes:
        reads: What it is shown of a page, unless the caller says otherwise.
        serve: The command that serves it.
        here: Whether sentence-transformers loads it; False where it needs code from the checkpoint, which is not run.
        page_text: Sent after a page's picture, where the model was trained with such a text.
    """

    reads: Reads
    serve: str
    here: bool = True
    page_text: str = ""


# What vLLM's own examples say: the checkpoint is a language model, and its answers "yes" and "no" are made one score.
_QWEN3_VL = (
    "vllm serve {name} --runner pooling --chat-template qwen3_vl_reranker.jinja --hf-overrides "
    '\'{{"architectures": ["Qwen3VLForSequenceClassification"], "classifier_from_token": ["no", "yes"], '
    '"is_original_qwen3_reranker": true}}\''
)

PUBLISHED = {
    "Qwen/Qwen3-VL-Reranker-2B": PublishedReranker("image", _QWEN3_VL.format(name="Qwen/Qwen3-VL-Reranker-2B")),
    "Qwen/Qwen3-VL-Reranker-8B": PublishedReranker("image", _QWEN3_VL.format(name="Qwen/Qwen3-VL-Reranker-8B")),
    "jinaai/jina-reranker-m0": PublishedReranker(
        "image", "vllm serve jinaai/jina-reranker-m0 --runner pooling --trust-remote-code", here=False
    ),
    "nvidia/llama-nemotron-rerank-vl-1b-v2": PublishedReranker(
        "image",
        "vllm serve nvidia/llama-nemotron-rerank-vl-1b-v2 --runner pooling --trust-remote-code "
        "--chat-template nemotron-vl-rerank.jinja",
        here=False,
    ),
}
"""Those that see pages, by their names on the hub. Text rerankers need no row: any sequence classifier is read."""
