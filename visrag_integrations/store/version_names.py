"""Which collections there are behind one name on a server, and what they say of themselves. Nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
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
        self._passed_over = 0

    def current(self) -> str | None:
        """The collection that the name means; None while there is none."""
        aliased = self._aliases().get(self.name)
        if aliased is not None:
            return aliased
        if self._ask().collection_exists(self.name):
            return self.name  # from before there were versions, or somebody else's
        return None

    def nameless(self, collections: Sequence[str] | None = None, aliased: Collection[str] = ()) -> list[str]:
        """Collections of ours that were this one, or were to be, and that no alias means.

        Args:
            collections: All there are, and
            aliased: those of them that an alias means; asked for where nothing is given.
        """
        found: list[str] = []
        if collections is None:
            collections, aliased = self._collections(), self._aliased()
        for collection in collections:
            if collection in aliased or not self._belongs(collection):
                continue
            if 0 < self._number(collection) <= self._passed_over:
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
        return self._new_name([*collections, current or "", *self._aliases()])

    def _new_name(self, taken: Sequence[str]) -> str:
        """The name after these, of collections and of aliases."""
        highest = max(self._number(name) for name in [*taken, ""])
        return f"{self.name}.v{max(highest, self._passed_over) + 1}"

    def pass_over(self, collection: str) -> None:
        """Take this version, and those before it, for none of ours from now on: it cannot be used, and is removed.

        Its number is not used again, for another process may be about to remove it too.
        """
        self._passed_over = max(self._passed_over, self._number(collection))

    def description_of(self, collection: str) -> str | None:
        """What a collection says of who filled it; None where it is not there, or says nothing."""
        try:
            return read_description(self._ask(), collection)
        except Exception as err:
            if is_missing(err):
                return None
            raise

    def _holds_pages(self, collection: str) -> bool:
        """Whether there is more in it than the reserved point; asked by a list, for strict mode may forbid to count."""
        try:
            records, _ = self._ask().scroll(collection, limit=2, with_payload=False)
        except Exception as err:
            if is_missing(err):
                return False
            raise
        return len(records) > 1

    def _collections(self) -> list[str]:
        return [str(collection.name) for collection in self._ask().get_collections().collections]

    def _aliases(self) -> dict[str, str]:
        """Every alias, and the collection that it means."""
        return {str(each.alias_name): str(each.collection_name) for each in self._ask().get_aliases().aliases}

    def _aliased(self) -> set[str]:
        """Every collection that some alias means."""
        return set(self._aliases().values())

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
    return described_in(client.get_collection(collection))


def described_in(there: Any) -> str | None:
    """The same of what `get_collection` gave."""
    text = (getattr(there.config, "metadata", None) or {}).get(DESCRIBED)
    return text if isinstance(text, str) else None
