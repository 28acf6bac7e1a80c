"""Which collections a folder holds."""

from __future__ import annotations

from pathlib import Path

from visrag_integrations.store.folder import MARKER

# What `reindex` fills beside a collection, in turns, and then shows under the collection's own name.
_STAGED = (".next", ".other")


def collections_in(folder: Path | None) -> list[str]:
    """The names of the collections in an index folder, sorted; none for a store that is in no folder.

    A server's are not listed: whose they are can be seen only by asking each of them.
    """
    if folder is None or not folder.is_dir():
        return []
    found = {path.parent.name for path in folder.glob(f"*/{MARKER}")}
    return sorted(name for name in found if not _is_staged(name, found))


def _is_staged(name: str, found: set[str]) -> bool:
    return any(name.endswith(ending) and name.removesuffix(ending) in found for ending in _STAGED)
