"""The collections behind one name on a server: `NAME.v1`, `NAME.v2`, ..., one of which the alias `NAME` means.

Everything is read and written by the alias, so that a new version takes the place of the old one from one moment to the
next. Several processes may do here the same at the same time; what holds for all of them:

    making      the server lets one of them make `NAME.v1`; the others get a 409, and finish what the first has begun
    numbers     only grow, so that nobody takes another collection for the one that they began
    switching   the alias is looked at right before, and again after: who was slower says so
    deleting    never what an alias means, never what another process makes

A collection from before this (`NAME` itself, or `NAME.next` behind the alias) is used as it is; the next re-index makes
a version of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.errors import StoreError
from visrag_integrations.store.client_models import INFO_ID, no_points
from visrag_integrations.store.engine import POOLED_VECTOR
from visrag_integrations.store.new_collections import PoolingNeededError
from visrag_integrations.store.refusals import is_conflict, is_missing, may_pass
from visrag_integrations.store.version_names import (
    DESCRIBED,
    VersionNames,
    described_in,
    is_staged,
    read_description,
)

logger = logging.getLogger(__name__)

# Each time round another process was faster with something; more than a few times is no coincidence.
_TRIES = 5
# A cluster tells of a new collection some moments later on the node that is asked than on the one that made it.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0


@dataclass(frozen=True)
class NewCollection:
    """What a new collection is made with.

    Attributes:
        vectors: Its dense vectors, by name.
        sparse: Its sparse ones.
        description: What it remembers, as JSON text.
        options: What the user wants besides, as `create_collection` takes it.
        make_ready: Makes its payload indexes, given its name and what the server says of it; a `PoolingNeededError`
            refuses it.
    """

    vectors: Mapping[str, Any]
    sparse: Mapping[str, Any]
    description: str
    options: Mapping[str, Any] = field(default_factory=dict)
    make_ready: Callable[[str, Any], None] = lambda collection, there: None


class Versions(VersionNames):
    """The versions of one collection. Its methods raise the client's own errors.

    Args:
        name: Of the collection, as users know it; an alias.
        ask: Gives the client that requests go through.
        where: The collection in messages.
        wait_s: Seconds a server may take to make a collection, or to switch an alias.
    """

    def __init__(self, name: str, ask: Callable[[], Any], where: str, wait_s: int) -> None:
        super().__init__(name, ask, where)
        self._wait_s = wait_s

    # --- making -----------------------------------------------------------------------------------------------------

    def make(self, new: NewCollection) -> bool:
        """Let the name mean a collection, made now if there is none; False where another process has made it."""
        for _ in range(_TRIES):
            # One list for all questions: what is made between two would be passed over, and get a twin. Aliases are
            # read after it, so that a collection which got its name between the two is not taken for nameless.
            collections = self._collections()
            aliases = self._aliases()
            if self.name in collections or self.name in aliases:
                return False
            nameless = self.nameless(collections, set(aliases.values()))
            if len(nameless) > 1:
                raise StoreError(self.without_name(nameless))
            made = None
            if nameless:
                collection = nameless[0]
            else:
                collection = self._new_name([*collections, *aliases])
                made = self.make_version(collection, new)
            if not self.finish(collection, new, made):
                continue  # somebody else's, or gone again
            if self.give_name(collection):
                return made is not None
            if made is not None:
                self.remove_unused(collection)  # it was made in vain: another one has the name
        raise StoreError(
            f"{self._where}: other processes make and remove it all the time; it was tried {_TRIES} times. End them, "
            "then try again."
        )

    def restore(self) -> bool:
        """Let the name mean the one collection that was it before the alias was lost; False where there is none."""
        if self.current() is not None:
            return False
        nameless = self.nameless()
        if len(nameless) > 1:
            raise StoreError(self.without_name(nameless))
        return bool(nameless) and self.give_name(nameless[0])

    def make_anew(self, new: NewCollection) -> None:
        """Let the name mean a new, empty collection; what it meant before is gone."""
        for _ in range(_TRIES):
            collection = self.next_name()
            made = self.make_version(collection, new)
            if made is not None and self.finish(collection, new, made):
                before = self.current()
                self._switch(collection, before)
                self.remove(before)
                return
        raise StoreError(f"{self._where}: other processes begin new versions of it all the time. Try again later.")

    def make_version(self, collection: str, new: NewCollection) -> Any:
        """Make a collection with its description, in one step.

        Returns:
            What the server says of it; None where another process was first.
        """
        options = dict(new.options)
        metadata = {**options.pop("metadata", {}), DESCRIBED: new.description}
        try:
            self._ask().create_collection(
                collection,
                vectors_config=dict(new.vectors),
                sparse_vectors_config=dict(new.sparse),
                metadata=metadata,
                timeout=self._wait_s,
                **options,
            )
        except Exception as err:
            if not is_conflict(err):
                raise
        there = self._wait_for(collection)
        # Whose request it was that made it: an answer that got lost says nothing, nor does a 409 after it.
        if there is None or described_in(there) != new.description:
            return None
        return there

    def finish(self, collection: str, new: NewCollection, made: Any = None) -> bool:
        """Give a collection what its maker may not have come to; False where this library did not make it.

        Args:
            collection: Its name.
            new: What it is made with.
            made: What `make_version` gave, where this process has made it.

        Raises:
            PoolingNeededError: It cannot be searched; unless it holds pages already, it is removed.
        """
        text: str | None = new.description
        try:
            if made is None:
                text = read_description(self._ask(), collection)
            if text is None:
                return False
            new.make_ready(collection, made or self._ask().get_collection(collection))
            self.describe(collection, text)
        except PoolingNeededError:
            if made is None and self._holds_pages(collection):
                raise
            # Nobody can search it, so that others will not miss it either.
            self.pass_over(collection)
            if self.description_of(collection) == text:  # else another process has made another one of that name
                self.remove_unused(collection)
            if made is not None or POOLED_VECTOR not in new.vectors:
                raise
            return False
        except Exception as err:
            if is_missing(err):
                return False
            raise
        return True

    def describe(self, collection: str, text: str) -> None:
        """Write the description into the reserved point, unless it is there: later changes of it are not undone."""
        from qdrant_client import models

        point = models.PointStruct(id=INFO_ID, vector={}, payload={DESCRIBED: {"info": text}})
        # Of points that are there already, those that fit the filter are overwritten: none.
        self._ask().upsert(collection, [point], wait=True, update_filter=no_points())

    def _wait_for(self, collection: str) -> Any:
        """What the server says of a collection that was made, once it can be seen; None where a later one is in use."""
        end, wait = time.monotonic() + self._wait_s, _FIRST_WAIT_S
        while True:
            try:
                return self._ask().get_collection(collection)
            except Exception as err:
                if not is_missing(err):
                    raise
            current = self.current()
            if current is not None and self._number(current) > self._number(collection):
                return None
            if time.monotonic() > end:
                raise StoreError(
                    f"{self._where}: the server says that {collection!r} was made, and for {self._wait_s} seconds that "
                    "it is not there. Look at the nodes of the cluster."
                )
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)

    # --- names ------------------------------------------------------------------------------------------------------

    def give_name(self, collection: str) -> bool:
        """Let the name mean this collection, if it means none; False where it means another one, or cannot be given."""
        now = self._aliases().get(self.name)
        if now is not None:
            return now == collection
        try:
            self._switch(collection, None)  # refused where a collection has the name itself
        except Exception as err:
            if is_conflict(err) or is_missing(err):
                return False
            raise
        return True

    def take_over(self, collection: str, before: str, save: Callable[[], None], same: Callable[[str], bool]) -> bool:
        """Let the name mean this whole version; False where another run of the same re-index has done so.

        Args:
            collection: The version.
            before: What the name meant when the re-index began; it goes.
            save: Writes into the version that it is whole.
            same: Whether what a version says of itself is what this one says.

        Raises:
            StoreError: The name means another one by now.
        """
        now = self.current()
        if now == collection:
            if is_staged(self.description_of(collection) or ""):
                save()  # it was begun again at the moment when it came into use
            return False
        if now is not None and now != before:
            # What has a lower number is not gone on with. What has a higher one is, when this is run again.
            if self._number(collection) < self._number(now):
                self.remove(collection)
            if same(self.description_of(now) or ""):
                self.remove(collection)
                return False
            raise self._came_between(now)
        save()
        self._switch(collection, now)
        after = self.current()
        self.remove(now)
        if after in (collection, None):
            return True
        if same(self.description_of(str(after)) or ""):
            return False
        raise self._came_between(str(after))

    def _came_between(self, other: str) -> StoreError:
        return StoreError(
            f"{self._where}: while this re-index ran, another one with another embedder ended, and {other!r} is in use "
            "now. Run this one again if its embedder is to fill the collection."
        )

    def _switch(self, collection: str, before: str | None) -> None:
        """Let the name mean this collection; at once, where it is an alias already."""
        from qdrant_client import models

        change: list[Any] = []
        if before == self.name:
            self._delete(before)  # an alias cannot have the name of a collection
        elif before is not None:
            change.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.name)))
        alias = models.CreateAlias(collection_name=collection, alias_name=self.name)
        change.append(models.CreateAliasOperation(create_alias=alias))
        for left in reversed(range(_TRIES)):
            try:
                self._ask().update_collection_aliases(change, timeout=self._wait_s)
                return
            except Exception as err:
                if not may_pass(err):
                    raise
                logger.warning("%s: switching the alias failed: %s; looking what it means", self._where, err)
                now = self.current()
                if now == collection:
                    return  # the answer alone was lost
                if now not in (None, before) or not left:
                    raise

    def remove(self, collection: str | None) -> None:
        """Delete a version that nothing means any more; what fails there is only told, for the switch is done."""
        if collection is None or collection == self.name:
            return
        try:
            if self.is_aliased(collection):
                logger.info("%s: %r stays, for an alias means it", self._where, collection)
                return
            self._ask().delete_collection(collection)
        except Exception as err:  # noqa: BLE001  clients raise anything
            if is_missing(err):
                return
            logger.warning(
                "%s: the version before, %r, could not be removed (%s). It takes room only: remove it on the server.",
                self._where,
                collection,
                err,
            )

    def drop(self) -> None:
        """Remove what the name means, alias and all; a version that comes between goes too."""
        for _ in range(_TRIES):
            collection = self.current()
            if collection is None:
                return
            self._delete(collection)

    def remove_unused(self, collection: str) -> None:
        """Delete a version that was begun, unless an alias means it by now."""
        if not self.is_aliased(collection):
            self._delete(collection)

    def _delete(self, collection: str) -> None:
        """Delete a collection; an answer that got lost is no reason to give up half-way."""
        for left in reversed(range(_TRIES)):
            try:
                self._ask().delete_collection(collection)
                return
            except Exception as err:
                if is_missing(err):
                    return
                if not may_pass(err) or not left:
                    raise
                logger.warning("%s: deleting %r failed: %s; looking whether it is there", self._where, collection, err)
                if not self._ask().collection_exists(collection):
                    return
