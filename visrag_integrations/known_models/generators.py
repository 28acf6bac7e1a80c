"""Generators: models that answer from pages."""

from __future__ import annotations

from visrag_integrations.known_models.rows import KnownModel, Way


def _engines(name: str) -> tuple[Way, ...]:
    """On vLLM or transformers, whichever is installed, vLLM first."""
    return (
        Way("in process", "vllm", f'load_generator("{name}")'),
        Way("in process", "torch", f'load_generator("{name}", engine="transformers")'),
        Way("vLLM", "openai", f'vllm serve {name}\nload_generator("http://gpu:8000/v1", model="{name}")'),
    )


GENERATORS: tuple[KnownModel, ...] = (
    KnownModel(
        "extractive",
        "generator",
        (Way("in process", "cpu", 'load_generator("extractive")'),),
        needs_gpu=False,
        note="quotes the passage that fits best; does not reason",
    ),
    KnownModel(
        "openbmb/EVisRAG-7B",
        "generator",
        _engines("openbmb/EVisRAG-7B"),
        parameters=7000,
        note="records the evidence of each page before it answers",
    ),
    KnownModel(
        "openbmb/EVisRAG-3B",
        "generator",
        _engines("openbmb/EVisRAG-3B"),
        parameters=3000,
        note="records the evidence of each page before it answers",
    ),
    KnownModel(
        "autumncc/Qwen2.5-VL-7B-VRAG",
        "generator",
        _engines("autumncc/Qwen2.5-VL-7B-VRAG"),
        parameters=7000,
        note="for the agent: searches several times and looks closer",
    ),
)
