"""Which collections there are behind one name on a server, and what they say of themselves. Nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from visrag_integrations.store.client_models import INFO_ID
from visrag_integrations.store.json_limits import read_limited_json
from visrag_integrations.store.refusals import is_missing

DESCRIBED = "visrag"
"""The key of a collection's metadata, and of the reserved point's payload, that says who filled it."""
MAX_DESCRIPTION = 1 << 20
"""Characters of a description, at most; it takes a kilobyte or two."""
_NUMBERED = re.compile(r"(?P<name>.+)\.v(?P<number>[1-9]\d{0,8})")
# What versions were called before they had numbers.
_FORMER_ENDINGS = (".next", ".other")


def is_version(name: str) -> bool:
    """Whether a collection of this name is a version of another one.

    >>> is_version("pages.v2"), is_version("pages.v0"), is_version("pages")
    (True, False, False)
    """
    return _NUMBERED.fullmatch(name) is not None


class VersionNames:
    """The versions of one collection, looked at. Its methods raise the client's own errors.

    Args:
        name: Of the collection, as users know it; an alias.
        ask: Gives the client that requests go through.
        where: The collection in messages.
    """

    def __init__(self, name: str, ask: Callable[[], Any], where: str) -> None:
        self.name, self._ask, self._where = name, ask, where

    def current(self) -> str | None:
        """The collection that the name means; None while there is none."""
        for alias in self._ask().get_aliases().aliases:
            if alias.alias_name == self.name:
                return str(alias.collection_name)
        if self._ask().collection_exists(self.name):
            return self.name  # from before there were versions, or somebody else's
        return None

    def nameless(self, collections: Sequence[str] | None = None) -> list[str]:
        """Collections of ours that were this one, or were to be, and that no alias means."""
        found: list[str] = []
        there = self._collections() if collections is None else collections
        aliased = self._aliased()
        for collection in there:
            if collection in aliased or not self._belongs(collection):
                continue
            description = self.description_of(collection)
            if description is not None and not is_staged(description):
                found.append(collection)
        return sorted(found)

    def next_name(self, fits: Callable[[str], bool] = lambda description: False) -> str:
        """The name of a version to be filled: of one that was begun and whose description fits, or a new one."""
        current = self.current()
        highest = 0 if current is None else self._number(current)
        collections, aliased = self._collections(), self._aliased()
        begun: dict[int, str] = {}
        for collection in collections:
            if self._number(collection) > highest and collection not in aliased:
                begun[self._number(collection)] = collection
        for number in sorted(begun, reverse=True):
            description = self.description_of(begun[number])
            if description is not None and fits(description):
                return begun[number]
        return self._new_name([*collections, current or ""])

    def _new_name(self, collections: Sequence[str]) -> str:
        """The name after those of these collections, and after those that are aliases."""
        taken = [*collections, *self._alias_names()]
        return f"{self.name}.v{max(self._number(collection) for collection in [*taken, '']) + 1}"

    def description_of(self, collection: str) -> str | None:
        """What a collection says of who filled it; None where it is not there, or says nothing."""
        try:
            return read_description(self._ask(), collection)
        except Exception as err:
            if is_missing(err):
                return None
            raise

    def _collections(self) -> list[str]:
        return [str(collection.name) for collection in self._ask().get_collections().collections]

    def _alias_names(self) -> list[str]:
        return [str(alias.alias_name) for alias in self._ask().get_aliases().aliases]

    def _aliased(self) -> set[str]:
        """Every collection that some alias means."""
        return {str(alias.collection_name) for alias in self._ask().get_aliases().aliases}

    def is_aliased(self, collection: str) -> bool:
        """Whether some alias means this collection."""
        return collection in self._aliased()

    def _belongs(self, collection: str) -> bool:
        former = collection in {self.name + ending for ending in _FORMER_ENDINGS}
        return former or self._number(collection) > 0

    def _number(self, collection: str) -> int:
        """The number of a version; 0 of what is none."""
        found = _NUMBERED.fullmatch(collection)
        if found is None or found["name"] != self.name:
            return 0
        return int(found["number"])

    def without_name(self, nameless: list[str]) -> str:
        """What to say where the alias is missing and these collections are there, as after a restored snapshot."""
        if len(nameless) == 1:
            return (
                f"{self._where} has lost its alias: {nameless[0]!r} is there, and no alias means it, as after a "
                f"restored snapshot. Set it: {self._command(nameless[0])} A program that adds pages, or visrag index, "
                "does so by itself."
            )
        return (
            f"{self._where} has lost its alias, and {len(nameless)} collections may be meant: {', '.join(nameless)}. "
            f"Say which: {self._command(nameless[-1])}"
        )

    def _command(self, collection: str) -> str:
        return (
            'POST /collections/aliases {"actions": [{"create_alias": '
            f'{{"collection_name": "{collection}", "alias_name": "{self.name}"}}}}]}}.'
        )


def read_description(client: Any, collection: str) -> str | None:
    """What a collection says of who filled it: its reserved point, which holds later changes, or its metadata."""
    found = client.retrieve(collection, [INFO_ID], with_payload=True)
    if found:
        own = (found[0].payload or {}).get(DESCRIBED) or {}
        return str(own.get("info") or "{}")
    return described_in_metadata(client, collection)


def is_staged(text: str) -> bool:
    """Whether a description is that of a version which is not whole yet."""
    try:
        description = read_limited_json(text, MAX_DESCRIPTION)
    except (ValueError, TypeError):
        return False
    return isinstance(description, dict) and "staged" in description


def described_in_metadata(client: Any, collection: str) -> str | None:
    """What was written into a collection when it was made; None where that was nothing of ours."""
    config = client.get_collection(collection).config
    text = (getattr(config, "metadata", None) or {}).get(DESCRIBED)
    return text if isinstance(text, str) else None
