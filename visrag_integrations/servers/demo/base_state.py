"""A knowledge base as the page shows it: values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from visrag_integrations.servers.demo.indexing import IndexingState


@dataclass(frozen=True)
class DocumentState:
    """One document of a knowledge base, and how much of it is indexed.

    Attributes:
        name: Of the file, or the web address.
        pages: How many of its pages are indexed.
        total: How many it has; None until it was opened.
        state: "locked" needs a password.
    """

    name: str
    pages: int = 0
    total: int | None = None
    state: Literal["done", "indexing", "waiting", "locked"] = "done"

    @property
    def complete(self) -> bool:
        """Whether every page it has is indexed."""
        return self.total is not None and self.pages >= self.total


@dataclass(frozen=True)
class BaseState:
    """A knowledge base as the page shows it."""

    documents: tuple[DocumentState, ...] = ()
    indexing: IndexingState = field(default_factory=IndexingState)

    @property
    def locked(self) -> tuple[str, ...]:
        """The documents that need a password."""
        return tuple(document.name for document in self.documents if document.state == "locked")

    @property
    def listed(self) -> tuple[DocumentState, ...]:
        """The documents that can be ticked: what can be searched at least in part, and what can only be removed."""
        waiting = ("waiting", "indexing")
        return tuple(one for one in self.documents if one.pages or one.state not in waiting)
