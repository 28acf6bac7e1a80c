"""Rerankers: models that score a page for a question."""

from __future__ import annotations

from visrag_integrations.known_models.rows import KnownModel

RERANKERS: tuple[KnownModel, ...] = ()
