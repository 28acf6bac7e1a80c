"""`checkpoint_types`: what of this library may stand in an agent's state."""

from __future__ import annotations

from visrag_integrations.langchain.image_references import PictureReference
from visrag_integrations.types import Answer, Evidence, Grounding, Page, ScoredPage, Word


def checkpoint_types() -> list[type]:
    """The values that chains and agents of this package give, for a checkpointer's list of what it may load.

    Their pictures are references, so that a checkpoint of an answer takes kilobytes.

    >>> JsonPlusSerializer(allowed_msgpack_modules=checkpoint_types())  # doctest: +SKIP
    """
    return [Answer, Evidence, Grounding, Page, PictureReference, ScoredPage, Word]
