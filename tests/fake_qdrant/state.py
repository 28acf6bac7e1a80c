"""What the server knows of its collections beside their points, its keys and its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CLOUD = {
    "enabled": True,
    "unindexed_filtering_retrieve": False,
    "unindexed_filtering_update": False,
    "max_payload_index_count": 100,
}
"""Strict mode as Qdrant Cloud sets it for new collections."""


@dataclass(frozen=True)
class Key:
    """What an API key may do.

    Attributes:
        access: Everywhere: "manage", "write", "read", or "" for nothing.
        collections: What besides, by the name that a request gives: "r" or "rw".
    """

    access: str = "manage"
    collections: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FakeCollection:
    """A collection, without its points.

    Attributes:
        name: Its own, never an alias's.
        created: The body it was created with.
        metadata: What users keep with it.
        strict: Its strict mode.
        indexes: Payload key -> how it is indexed.
    """

    name: str
    created: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    strict: dict[str, Any] = field(default_factory=dict)
    indexes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def vectors(self) -> dict[str, dict[str, Any]]:
        """Name -> settings of its dense vectors; the unnamed one is ""."""
        said = self.created.get("vectors") or {}
        return {"": said} if isinstance(said.get("size"), int) else said

    @property
    def vector_names(self) -> set[str]:
        """Of its dense and its sparse vectors."""
        return {*self.vectors, *(self.created.get("sparse_vectors") or {})}

    @property
    def shards(self) -> int:
        """How many it has."""
        return int(self.created.get("shard_number") or 1)

    @property
    def copies(self) -> int:
        """Of each shard."""
        return int(self.created.get("replication_factor") or 1)

    def limit(self, name: str) -> Any:
        """What strict mode says of something; None where it is off or says nothing."""
        return self.strict.get(name) if self.strict.get("enabled") else None


@dataclass
class Cluster:
    """The nodes behind the addresses.

    Attributes:
        nodes: How many there are.
        dead: How many of them are away.
        consensus_stopped: Nothing can be created any more.
        creation_takes: Seconds that a new collection, an alias or an index takes.
        disk_full: Nothing can be written.
        disk_full_after: Points of a batch that are stored before the disk is full.
    """

    nodes: int = 1
    dead: int = 0
    consensus_stopped: bool = False
    creation_takes: float = 0.0
    disk_full: bool = False
    disk_full_after: int = 0
