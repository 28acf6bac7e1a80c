"""MiniCPM-Visual-Embedding: VisRAG-Ret's network with an instruction of its own."""

from __future__ import annotations

from typing import ClassVar

from visrag_integrations.embedders.visrag_ret import VisRAGRetEmbedder

INSTRUCTION = "Represent this query for retrieving relavant document: "  # spelled as it was trained


class MiniCPMVisualEmbedder(VisRAGRetEmbedder):
    """One unit vector a page or query, from `RhapsodyAI/minicpm-visual-embedding-v0`.

    What its config.json calls the architecture is not looked at; its sizes and weights must fit, as always.
    """

    default_instruction: ClassVar[str] = INSTRUCTION
    architectures: ClassVar[frozenset[str]] = frozenset()
