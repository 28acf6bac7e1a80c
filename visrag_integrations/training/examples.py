"""What is trained on: a query with its page and pages that are wrong, and what a source of such examples can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visrag_integrations.images import PictureSource

Order = NDArray[np.int64]


@dataclass(frozen=True)
class TextOfPage:
    """A text in the place of a page's picture: the text retriever that VisRAG is compared with."""

    text: str


PageSource = PictureSource | TextOfPage


@dataclass(frozen=True)
class Example:
    """A query, its page, and pages that look right and are not.

    Attributes:
        query: The query's text.
        pages: The right page first, then the hard negatives.
        where: Where the example stands, in words: for messages.
    """

    query: str
    pages: tuple[PageSource, ...] = field(repr=False)
    where: str


class Pairs(Protocol):
    """Examples by number."""

    @property
    def name(self) -> str:
        """What the data is called in the report and on the model card."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells other data apart, so that a run is not continued with them."""
        ...

    @property
    def negatives(self) -> int:
        """Hard negatives of every example."""
        ...

    def __len__(self) -> int: ...

    def example(self, index: int) -> Example:
        """One example; safe to call from many threads.

        Raises:
            DatasetError: This row is broken; the others may be good.
        """
        ...

    def order(self, seed: int, epoch: int) -> Order:
        """Every number once, shuffled; the same for the same seed and epoch."""
        ...
