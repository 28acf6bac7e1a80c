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
        parameters=8200,
        note="records the evidence of each page before it answers",
    ),
    KnownModel(
        "openbmb/EVisRAG-3B",
        "generator",
        _engines("openbmb/EVisRAG-3B"),
        parameters=3800,
        note="records the evidence of each page before it answers",
    ),
    KnownModel(
        "autumncc/Qwen2.5-VL-7B-VRAG",
        "generator",
        _engines("autumncc/Qwen2.5-VL-7B-VRAG"),
        parameters=8200,
        note="for the agent: searches several times and looks closer",
    ),
    KnownModel(
        "Qwen/Qwen2.5-VL-3B-Instruct",
        "generator",
        _engines("Qwen/Qwen2.5-VL-3B-Instruct"),
        parameters=3800,
        note="a general model: prompt plain; answers for --preset cpu-visual, slowly without a GPU",
    ),
    KnownModel(
        "Qwen/Qwen3-VL-4B-Instruct",
        "generator",
        _engines("Qwen/Qwen3-VL-4B-Instruct"),
        parameters=4000,
        note="a general model: prompt plain; its other sizes too",
    ),
    KnownModel(
        "openbmb/MiniCPM-V-4_5",
        "generator",
        (
            Way(
                "vLLM",
                "openai",
                "vllm serve openbmb/MiniCPM-V-4_5 --trust-remote-code\n"
                'load_generator("http://gpu:8000/v1", model="openbmb/MiniCPM-V-4_5")',
            ),
        ),
        note="runs code of its own, as 2.0, 2.6 and 4 do; 4.6 and 4.7 run in process from their folders",
    ),
)
