"""A search over pages that an older version read says so, once in a process for each collection."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

_told: set[str] = set()


def warn_once(where: str, note: str) -> None:
    """Log what there is to know of this collection, unless it was said before or there is nothing to say.

    Args:
        where: The collection, as errors name it.
        note: What to know (`Collection.outdated`).
    """
    if not note or where in _told:
        return
    _told.add(where)
    logger.warning("%s: %s", where, note)
