"""Training: the published recipes of the retriever, the reader and the agent."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visrag_integrations.training.adapters import merge_adapter
    from visrag_integrations.training.agent_experts import build_runs
    from visrag_integrations.training.agent_recipe import AgentRlRecipe, AgentSftRecipe
    from visrag_integrations.training.agent_training import train_agent
    from visrag_integrations.training.building import build_pairs
    from visrag_integrations.training.evidence import train_evidence
    from visrag_integrations.training.judges import Judged
    from visrag_integrations.training.losses import contrastive
    from visrag_integrations.training.reader_building import build_examples
    from visrag_integrations.training.reader_export import export_examples
    from visrag_integrations.training.reader_recipe import RlRecipe, SftRecipe
    from visrag_integrations.training.recipe import RetrieverRecipe
    from visrag_integrations.training.report import TrainingReport
    from visrag_integrations.training.retriever import train_retriever
    from visrag_integrations.training.rewards import EVISRAG_REWARDS, SUPPORT_REWARD, RewardSpec

_HOMES = {
    "EVISRAG_REWARDS": "rewards",
    "RewardSpec": "rewards",
    "RlRecipe": "reader_recipe",
    "SUPPORT_REWARD": "rewards",
    "SftRecipe": "reader_recipe",
    "build_examples": "reader_building",
    "export_examples": "reader_export",
    "RetrieverRecipe": "recipe",
    "TrainingReport": "report",
    "build_pairs": "building",
    "contrastive": "losses",
    "train_evidence": "evidence",
    "AgentRlRecipe": "agent_recipe",
    "AgentSftRecipe": "agent_recipe",
    "Judged": "judges",
    "build_runs": "agent_experts",
    "train_agent": "agent_training",
    "merge_adapter": "adapters",
    "train_retriever": "retriever",
}
"""Public name -> file; torch and transformers load only when a name that needs them is asked for."""

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "safetensors", "datasets")
"""What the extra installs."""

__all__ = [
    "EVISRAG_REWARDS",
    "SUPPORT_REWARD",
    "AgentRlRecipe",
    "AgentSftRecipe",
    "Judged",
    "RetrieverRecipe",
    "RewardSpec",
    "RlRecipe",
    "SftRecipe",
    "TrainingReport",
    "build_examples",
    "build_pairs",
    "build_runs",
    "contrastive",
    "export_examples",
    "merge_adapter",
    "train_agent",
    "train_evidence",
    "train_retriever",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It has: {', '.join(__all__)}.")
    from visrag_integrations.errors import MissingExtraError

    try:
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as err:
        if (err.name or "").partition(".")[0] in _PACKAGES:
            raise MissingExtraError(f"{err.name}, which training needs,", "training") from err
        raise
    return getattr(home, name)


def __dir__() -> list[str]:
    return __all__
