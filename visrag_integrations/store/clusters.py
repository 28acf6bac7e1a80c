"""What a cluster of servers asks for: how many copies must agree, and what a dead node will mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visrag_integrations.errors import SettingError

_CONSISTENCIES = ("majority", "quorum", "all")
_ORDERINGS = ("weak", "medium", "strong")


@dataclass(frozen=True)
class ClusterSettings:
    """How copies on several nodes are read and written.

    Attributes:
        read_consistency: How many copies a read asks: a number, "majority", "quorum" or "all". None: one.
        write_ordering: "weak", "medium" or "strong"; None: as the server does, but for what two writers may change.
    """

    read_consistency: int | str | None = None
    write_ordering: str | None = None

    def __post_init__(self) -> None:
        asked = self.read_consistency
        is_number = isinstance(asked, int) and not isinstance(asked, bool) and asked >= 1
        if asked is not None and not is_number and asked not in _CONSISTENCIES:
            raise SettingError(
                f"read_consistency is {asked!r}; allowed: a number of copies from 1, {', '.join(_CONSISTENCIES)}."
            )
        if self.write_ordering is not None and self.write_ordering not in _ORDERINGS:
            raise SettingError(f"write_ordering is {self.write_ordering!r}; allowed: {', '.join(_ORDERINGS)}.")

    @property
    def reads(self) -> dict[str, Any]:
        """What a request that reads says of it."""
        if self.read_consistency is None:
            return {}
        if isinstance(self.read_consistency, int):
            return {"consistency": self.read_consistency}
        from qdrant_client import models

        return {"consistency": models.ReadConsistencyType(self.read_consistency)}

    @property
    def writes(self) -> dict[str, Any]:
        """What a request that writes says of it."""
        if self.write_ordering is None:
            return {}
        from qdrant_client import models

        return {"ordering": models.WriteOrdering(self.write_ordering)}


def check_sharding(options: Mapping[str, Any], where: str) -> None:
    """Nothing, unless a new collection would be one that nothing can be written to.

    Raises:
        SettingError: Custom sharding, where every request must name its shard.
    """
    method = options.get("sharding_method")
    if str(getattr(method, "value", method)).lower() != "custom":
        return
    raise SettingError(
        f"{where}: sharding_method='custom' is not supported: every request would have to name its shard. Leave it "
        'out; pages are spread by their ids, and tenants are kept apart with tenant="...".'
    )


def note_on_copies(peers: int, replicas: int) -> str:
    """What a dead node will mean for a new collection, in words; "" where nothing is to be said.

    >>> note_on_copies(1, 1), note_on_copies(3, 2)
    ('', '')
    """
    if peers < 2 or replicas > 1:
        return ""
    return (
        f"the cluster has {peers} nodes, and each shard of this new collection has one copy: while a node is away, "
        'searches and writes fail. To have two copies: server_options={"replication_factor": 2} (--replicas 2), when '
        "the collection is made."
    )
