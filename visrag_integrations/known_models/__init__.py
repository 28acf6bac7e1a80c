"""The models that are known by name: what each is, and how to get it. `visrag models` and docs/models.md print these.

A row says only what the model's authors published or what was measured here; what is not known is left empty.
"""

from __future__ import annotations

from visrag_integrations.known_models.embedders import EMBEDDERS
from visrag_integrations.known_models.generators import GENERATORS
from visrag_integrations.known_models.rerankers import RERANKERS
from visrag_integrations.known_models.rows import KnownModel, Way
from visrag_integrations.known_models.tables import TITLES, find_model, markdown_table, nearest_names

MODELS: tuple[KnownModel, ...] = (*EMBEDDERS, *RERANKERS, *GENERATORS)
"""All of them, in the order in which they are printed."""

__all__ = ["MODELS", "TITLES", "KnownModel", "Way", "find_model", "markdown_table", "nearest_names"]
