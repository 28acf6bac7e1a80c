"""Where training starts: a checkpoint, loaded so that its weights can change."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from visrag_integrations.embedders import SYSTEMS, recognised_system
from visrag_integrations.embedders.checkpoint_embedder import CheckpointEmbedder
from visrag_integrations.embedders.checkpoints import fingerprint_of, resolve_checkpoint
from visrag_integrations.embedders.visrag_ret import VisRAGRetEmbedder
from visrag_integrations.errors import SettingError
from visrag_integrations.models.weights import find_weight_files, read_json

TRAINABLE = ("visrag-ret", "minicpm-visual-embedding", "bge-vl-clip", "colqwen2", "colpali", "colmodernvbert")
"""Systems that `train_retriever` trains."""
MINICPM_V = "MiniCPMV"
"""What config.json of MiniCPM-V 2.0, the start of VisRAG-Ret, calls its architecture."""
START = "minicpm-v"
"""What stands for it where systems are named; it only reads pages once it is trained."""
VISRAG_RET: Mapping[str, Any] = {
    "architectures": ["VisRAG_Ret"],
    "auto_map": {
        "AutoConfig": "configuration_minicpm.MiniCPMVConfig",
        "AutoModel": "modeling_visrag_ret.VisRAG_Ret",
        "AutoModelForCausalLM": "modeling_visrag_ret.VisRAG_Ret",
    },
}
"""What config.json of VisRAG-Ret says in place of MiniCPM-V's own."""


class MiniCPMVStart(VisRAGRetEmbedder):
    """MiniCPM-V 2.0 read as the retriever that it is about to become."""

    architectures: ClassVar[frozenset[str]] = frozenset({MINICPM_V})


@dataclass(frozen=True)
class Base:
    """A checkpoint to start from.

    Attributes:
        name: As it was given.
        folder: Where it lies.
        system: One of `TRAINABLE`, or `START`.
        config_changes: What config.json of trained checkpoints says otherwise.
    """

    name: str
    folder: Path
    system: str
    config_changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Tells checkpoints apart."""
        return fingerprint_of(self.folder, find_weight_files(self.folder))

    def load(self, folder: Path | None = None, **settings: Any) -> CheckpointEmbedder:
        """The base, or another folder with weights of the same system, as an embedder.

        Raises:
            CheckpointError: The folder is no checkpoint of that system.
        """
        if folder is None and self.system == START:
            return MiniCPMVStart(self.folder, **settings)
        system = "visrag-ret" if self.system == START else self.system
        module, _, name = SYSTEMS[system].partition(":")
        embedder: CheckpointEmbedder = getattr(importlib.import_module(module), name)(folder or self.folder, **settings)
        return embedder


def find_base(base: str | Path) -> Base:
    """The checkpoint of that name or folder.

    Raises:
        CheckpointError: There is none.
        SettingError: It is one that cannot be trained here.
    """
    name = str(base)
    # "minicpm-visual-embedding:/models/mine", as load_embedder takes it.
    before, _, after = name.partition(":")
    if before in SYSTEMS and after:
        return _checked(name, resolve_checkpoint(after), before)
    folder = resolve_checkpoint(name)
    if MINICPM_V in (read_json(folder / "config.json").get("architectures") or []):
        return Base(name, folder, START, VISRAG_RET)
    return _checked(name, folder, recognised_system(name, folder))


def _checked(name: str, folder: Path, system: str) -> Base:
    if system not in TRAINABLE:
        raise SettingError(
            f"{name!r} is a checkpoint of {system}, which cannot be trained here. These can: {', '.join(TRAINABLE)}; "
            "sentence-transformers trains its own."
        )
    # MiniCPM-Visual-Embedding has VisRAG-Ret's network and another instruction, which no architecture tells.
    changes: dict[str, Any] = {}
    if recognised_system(name, folder, default="") != system:
        changes["visrag_system"] = system  # so that load_embedder knows the trained folder without being told
    return Base(name, folder, system, changes)
