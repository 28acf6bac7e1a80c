"""A new collection is made as the store's layout says, and with pooled vectors where its server allows nothing else."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TypeVar

from visrag_integrations.errors import SettingError
from visrag_integrations.store.engine import Engine
from visrag_integrations.store.info import CollectionInfo, EmbedderInfo, Layout

notes = logging.getLogger(__name__)
"""What is said once of a new collection; the command line, where other warnings are silent, shows it too."""

Info = TypeVar("Info", bound=EmbedderInfo)

# What embedders of patches have by themselves: next to no work, and made of neighbours in whatever order there is.
_POOLING = "rows"


class PoolingNeededError(SettingError):
    """The server forbids exact searches, and without pooled vectors a late interaction is nothing else."""


def create_collection(
    engine: Engine, layout: Layout, info: CollectionInfo, *, anew: bool = False
) -> CollectionInfo | None:
    """Make the collection as it is described, or where that cannot be searched and `pooling` is "auto", with pooling.

    Returns:
        What the new collection remembers; None where another process was first.

    Raises:
        PoolingNeededError: Pooling was ruled out, and is needed.
    """
    try:
        made = engine.create(info.schemas, info.as_dict(), anew=anew)
        return info if made else None
    except PoolingNeededError:
        # Whether a server is so strict can be read of a collection only, once it is there.
        if layout.pooling != "auto":
            raise
    pooled = with_pooling(info, layout)
    if not engine.create(pooled.schemas, pooled.as_dict(), anew=anew):
        return None
    notes.warning(
        "%s: the server forbids exact searches, so the collection keeps pooled vectors too (pooling=%r). A search "
        "takes its candidates by these, and scores them exactly.",
        engine.where,
        _POOLING,
    )
    return pooled


def with_pooling(info: CollectionInfo, layout: Layout) -> CollectionInfo:
    """The same with pooled vectors of every embedder that makes many a page."""
    also = tuple(_pooled(embedder, layout) for embedder in info.also)
    return replace(_pooled(info, layout), also=also)


def _pooled(info: Info, layout: Layout) -> Info:
    if info.kind != "multi" or info.pooling:
        return info
    storage = info.storage
    if layout.storage == "auto" and storage == "float32":
        storage = "float16"  # as where an embedder asks for pooling itself
    return replace(info, pooling=_POOLING, pooled=layout.pooled, storage=storage)
