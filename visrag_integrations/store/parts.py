"""What a collection holds, as one value: the functions that read and write it take this."""

from __future__ import annotations

from dataclasses import dataclass

from visrag_integrations.store.engine import Engine, Schema
from visrag_integrations.store.picture_files import PagePictures


@dataclass(frozen=True)
class CollectionParts:
    """The parts of a collection.

    Attributes:
        engine: Holds the points: vectors and payload.
        pictures: The files of the pages' pictures.
        schemas: How the vectors of each embedder are kept, in the order of the embedders.
        everyones: The engine with the pages of all tenants, where `engine` shows those of one.
        mark: What pages say of who made their vectors (`CollectionInfo.mark`); "" where nobody else can change that.
        integers: Metadata keys whose whole numbers are kept as integers.
    """

    engine: Engine
    pictures: PagePictures
    schemas: tuple[Schema, ...]
    everyones: Engine | None = None
    integers: frozenset[str] = frozenset()
    mark: str = ""

    @property
    def vector_names(self) -> list[str]:
        """The names of the dense vectors, in the order of the embedders."""
        return [schema.vector_name for schema in self.schemas]
