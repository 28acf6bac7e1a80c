"""An embedder of a user's own, as the documentation describes it: it must type-check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query


class Mine:
    name = "mine"
    kind: Literal["single"] = "single"
    dimension = 3

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray[Any, Any]]:
        return [np.ones(3, np.float32) for _ in pages]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[np.ndarray[Any, Any]]:
        return [np.ones(3, np.float32) for _ in queries]


PageRetriever(Mine(), QdrantPageStore(":memory:"))
