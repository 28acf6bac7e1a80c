"""Systems of retrieval, published checkpoints, and how a checkpoint says which system it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

from visrag_integrations.embedders.checkpoints import ADAPTER
from visrag_integrations.embedders.served import ARCHITECTURES as SERVED_ARCHITECTURES
from visrag_integrations.embedders.served import how_to_serve
from visrag_integrations.errors import CheckpointError, UnknownNameError

SYSTEMS = {
    "visrag-ret": "visrag_integrations.embedders.visrag_ret:VisRAGRetEmbedder",
    "minicpm-visual-embedding": "visrag_integrations.embedders.minicpm_visual:MiniCPMVisualEmbedder",
    "bge-vl-clip": "visrag_integrations.embedders.bge_vl_clip:BGEVLCLIPEmbedder",
    "bge-vl-mllm": "visrag_integrations.embedders.bge_vl_mllm:BGEVLMLLMEmbedder",
    "colqwen2": "visrag_integrations.embedders.colqwen2:ColQwen2Embedder",
    "colpali": "visrag_integrations.embedders.colpali:ColPaliEmbedder",
    "colmodernvbert": "visrag_integrations.embedders.colmodernvbert:ColModernVBertEmbedder",
    "dse-qwen2": "visrag_integrations.embedders.dse_qwen2:DSEQwen2Embedder",
    "vdr": "visrag_integrations.embedders.dse_qwen2:VDREmbedder",
    "mcdse": "visrag_integrations.embedders.dse_qwen2:MCDSEEmbedder",
    "sentence-transformers": "visrag_integrations.embedders.sentence_transformers:SentenceTransformersEmbedder",
    "endpoint": "visrag_integrations.embedders.endpoint:EndpointEmbedder",
    "vllm": "visrag_integrations.embedders.vllm:VLLMEmbedder",
}
"""Systems that read a checkpoint: their class is called with its name or folder, then the settings."""
CHECKPOINTS = {
    "openbmb/VisRAG-Ret": "visrag-ret",
    "RhapsodyAI/minicpm-visual-embedding-v0": "minicpm-visual-embedding",
    "BAAI/BGE-VL-base": "bge-vl-clip",
    "BAAI/BGE-VL-large": "bge-vl-clip",
    "BAAI/BGE-VL-MLLM-S1": "bge-vl-mllm",
    "BAAI/BGE-VL-MLLM-S2": "bge-vl-mllm",
    "vidore/colqwen2-v1.0-hf": "colqwen2",
    "vidore/colpali-v1.3-hf": "colpali",
    "ModernVBERT/colmodernvbert-merged": "colmodernvbert",
    "MrLight/dse-qwen2-2b-mrl-v1": "dse-qwen2",
    "llamaindex/vdr-2b-multi-v1": "vdr",
    "llamaindex/vdr-2b-v1": "vdr",
    "marco/mcdse-2b-v1": "mcdse",
    "Qwen/Qwen3-VL-Embedding-2B": "sentence-transformers",
    "Qwen/Qwen3-VL-Embedding-8B": "sentence-transformers",
    # Adapters: small files of changes to a base, which is fetched with them.
    "vidore/colpali-v1.2": "sentence-transformers",
    "vidore/colpali-v1.3": "sentence-transformers",
    "vidore/colqwen2-v1.0": "sentence-transformers",
    "vidore/colqwen2.5-v0.2": "sentence-transformers",
    "vidore/colSmol-256M": "sentence-transformers",
    "vidore/colSmol-500M": "sentence-transformers",
    "nomic-ai/colnomic-embed-multimodal-3b": "sentence-transformers",
    "nomic-ai/colnomic-embed-multimodal-7b": "sentence-transformers",
    "tencent/EVIE-Preview-4.5B": "sentence-transformers",
}
"""Published checkpoints and the system each belongs to."""
QUERY_MODELS = {"nanovdr/NanoVDR-S-Multi": ("sentence-transformers", "Qwen/Qwen3-VL-Embedding-2B")}
"""Published models that embed queries only: their system, and what embeds the pages they were trained for."""
ARCHITECTURES = {
    "VisRAG_Ret": "visrag-ret",
    "CLIPModel": "bge-vl-clip",
    "LlavaNextForConditionalGeneration": "bge-vl-mllm",
    "LLaVANextForEmbedding": "bge-vl-mllm",
    "ColQwen2ForRetrieval": "colqwen2",
    "ColPaliForRetrieval": "colpali",
    "ColModernVBertForRetrieval": "colmodernvbert",
}
"""What `architectures` in a folder's config.json says, and the system it means."""
MODULES = "modules.json"
"""A folder that has this file is one of sentence-transformers, whatever its architecture."""
SYSTEM_KEY = "visrag_system"
"""In the config.json of a checkpoint that was trained here: its system, where the architecture does not tell it."""


def recognised_system(name: str, folder: Path, *, default: str | None = None) -> str:
    """The system of a checkpoint: by its published name, else by the folder's config.json.

    Args:
        name: As it was given.
        folder: Where it lies.
        default: Given back where neither says it.

    Raises:
        UnknownNameError: Neither says it, and there is no default.
    """
    if name in CHECKPOINTS:
        return CHECKPOINTS[name]
    try:
        return recognise(folder)
    except UnknownNameError:
        if default is None:
            raise
        return default


def is_recognised(name: str, system: str) -> bool:
    """Whether the name alone, without `system`, leads to that system."""
    if name in CHECKPOINTS:
        return CHECKPOINTS[name] == system
    try:
        return recognise(Path(name).expanduser()) == system
    except (CheckpointError, UnknownNameError):
        return False


def system_target(system: str) -> str:
    if system not in SYSTEMS:
        raise UnknownNameError(f"There is no system {system!r}. There are: {', '.join(sorted(SYSTEMS))}.")
    return SYSTEMS[system]


def recognise(folder: Path) -> str:
    """The system of a checkpoint folder, by what its config.json says, never by its name."""
    if not folder.is_dir():
        raise CheckpointError(f"{str(folder)!r} is a file; give the folder that holds config.json and the weights.")
    if (folder / MODULES).is_file():  # before config.json, which an adapter does not have
        return "sentence-transformers"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        if (folder / ADAPTER).is_file():
            raise CheckpointError(
                f"{str(folder)!r} holds an adapter, no whole model. Say no system=, so that its base is loaded too, or "
                'give the merged checkpoint: published ones have "-hf" or "-merged" in their names.'
            ) from err
        raise CheckpointError(f"{str(folder)!r} holds no config.json, so it is no checkpoint folder.") from err
    except (OSError, ValueError) as err:
        raise CheckpointError(f"config.json in {str(folder)!r} cannot be read: {err}.") from err
    if isinstance(config, dict) and config.get(SYSTEM_KEY) in SYSTEMS:
        return str(config[SYSTEM_KEY])
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list):
        names = []
    for name in names:
        if isinstance(name, str) and name in ARCHITECTURES:
            return ARCHITECTURES[name]
        if isinstance(name, str) and name in SERVED_ARCHITECTURES:
            raise UnknownNameError(
                f"{str(folder)!r} is a {name}, which vLLM alone reads. {how_to_serve(str(folder))} Where it is, say "
                'backend="vllm".'
            )
    raise UnknownNameError(
        f"config.json in {str(folder)!r} says architectures={names!r}; recognised: {', '.join(sorted(ARCHITECTURES))}. "
        f"Say which system it is with system=, one of: {', '.join(sorted(SYSTEMS))}."
    )
