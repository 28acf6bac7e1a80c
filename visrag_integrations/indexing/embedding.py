"""The first half of filling a store: batches of pages become vectors, and a page that fails takes no others with it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.errors import EmbedderError, VisRAGError
from visrag_integrations.indexing.joint_embedder import EmbedsPages
from visrag_integrations.interfaces.stores import embeddings_of_equals
from visrag_integrations.store import content_key
from visrag_integrations.types import Page

logger = logging.getLogger(__name__)

OnFailure = Callable[[Page, Exception], None]

# A document may have a few bad pages in a row; five on which the embedder itself broke mean a lost device or server.
# With a smaller number one odd document would end a run of thousands; a larger one costs a try for each page.
_MAX_FAILURES_IN_A_ROW = 5

_UNKNOWN = object()


@dataclass(frozen=True)
class FailureRule:
    """Which errors of an embedder belong to one page, and which end the whole run.

    Every other error is counted: the fifth page in a row that fails alone ends the run, because it is the embedder
    that is broken then and not the pages.

    Attributes:
        end_the_run: Errors that the next page would meet too; raised at once.
        belong_to_the_page: Errors that say something about the page only; never counted.
    """

    end_the_run: tuple[type[Exception], ...] = ()
    belong_to_the_page: tuple[type[Exception], ...] = (VisRAGError,)


PAGES_FAIL_ALONE = FailureRule()


@dataclass(frozen=True)
class EmbeddedBatch:
    """The pages of a batch that have a vector; the three lists are equally long.

    Attributes:
        pages: In the order in which they were given.
        vectors: What the embedder made of each, or of a page that is equal to it.
        keys: The content key of each: equal pages have the same one.
    """

    pages: list[Page] = field(default_factory=list)
    vectors: list[Any] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


class BatchEmbedder:
    """Embeds batches. The vector of a page that is equal to another one (same picture and text) is taken from there.

    Args:
        embedder: What makes the vectors.
        store: Where the pages will go. One that can tell which stored pages are equal is asked first.
        on_failure: Called with each page that has no vector, and why.
        rule: Which errors end the run.

    Attributes:
        in_flight: content key -> vector of pages that are embedded and not stored yet. Whoever stores them takes the
            keys out.
        embedded: How many pages the embedder made vectors for.
    """

    def __init__(
        self, embedder: EmbedsPages, store: object, on_failure: OnFailure, rule: FailureRule = PAGES_FAIL_ALONE
    ) -> None:
        self._embedder, self._store, self._on_failure, self._rule = embedder, store, on_failure, rule
        self._largest_batch = sys.maxsize
        self._failures_in_a_row = 0
        self.in_flight: dict[str, Any] = {}
        self.embedded = 0

    def embed(self, pages: Sequence[Page]) -> EmbeddedBatch:
        """Those of the pages that have a vector now; `on_failure` hears of the others.

        Raises:
            Exception: What the embedder raised, where that ends the run (`FailureRule`).
        """
        # A page without a key (its picture is only opened on demand) is equal to nothing but itself.
        keys = [content_key(page) or page.id for page in pages]
        vectors = self._vectors_of_equals(pages, keys)

        # Of pages that are equal to each other, the first stands for all.
        new: dict[str, Page] = {}
        for key, page in zip(keys, pages, strict=True):
            if key not in vectors:
                new.setdefault(key, page)
        made, refused = self._embed_new(list(new.values()))
        for key, page in new.items():
            if page.id in made:
                vectors[key] = made[page.id]

        batch = EmbeddedBatch()
        for key, page in zip(keys, pages, strict=True):
            if key not in vectors:
                self._on_failure(page, refused[new[key].id])
                continue
            batch.pages.append(page)
            batch.vectors.append(vectors[key])
            batch.keys.append(key)
            self.in_flight[key] = vectors[key]
        return batch

    def _vectors_of_equals(self, pages: Sequence[Page], keys: Sequence[str]) -> dict[str, Any]:
        """Content key -> vector, where an equal page is on its way into the store or in it."""
        vectors: dict[str, Any] = {}
        unknown: list[Page] = []
        for key, page in zip(keys, pages, strict=True):
            # Asked once: a writing thread may take the key out meanwhile, and then the store has the vector.
            vector = self.in_flight.get(key, _UNKNOWN)
            if vector is _UNKNOWN:
                unknown.append(page)
            else:
                vectors[key] = vector
        if unknown:
            vectors |= embeddings_of_equals(self._store, unknown)
        return vectors

    def _embed_new(self, pages: list[Page]) -> tuple[dict[str, Any], dict[str, Exception]]:
        """By page id: the vectors, and of pages that could not be embedded why.

        A batch that fails is cut in halves until the page at fault is alone. Of [a b c d] with a bad c these are tried:
        [a b c d], [a b], [c d], [c], [d].
        """
        made: dict[str, Any] = {}
        refused: dict[str, Exception] = {}
        waiting = [pages] if pages else []  # the next one is the last, so that pages stay in order
        while waiting:
            batch = waiting.pop()
            if len(batch) > self._largest_batch:
                waiting.append(batch[self._largest_batch :])
                batch = batch[: self._largest_batch]
            error = self._try(batch, made)
            if error is None:
                continue
            if len(batch) > 1:
                half = (len(batch) + 1) // 2
                waiting += [batch[half:], batch[:half]]
            else:
                self._count_failure(error)
                refused[batch[0].id] = error
        return made, refused

    def _try(self, batch: list[Page], made: dict[str, Any]) -> Exception | None:
        """Embed a batch as one, into `made`; gives what went wrong."""
        try:
            vectors = list(self._embedder.embed_pages(batch))
            if len(vectors) != len(batch):
                raise EmbedderError(
                    f"The embedder {self._embedder.name!r} gave {len(vectors)} vectors for {len(batch)} pages."
                )
        except Exception as err:
            if isinstance(err, self._rule.end_the_run):
                raise
            if not _is_out_of_memory(err):
                return err
            self._largest_batch = max(1, len(batch) // 2)
            logger.warning("out of memory with %d pages; going on with at most %d", len(batch), self._largest_batch)
            # The frames of the traceback hold the tensors that filled the memory.
            error = err.with_traceback(None)
        else:
            for page, vector in zip(batch, vectors, strict=True):
                made[page.id] = vector
            self.embedded += len(batch)
            self._failures_in_a_row = 0
            return None
        # Outside of the handler, where the interpreter itself no longer holds those frames.
        _free_memory()
        return error

    def _count_failure(self, error: Exception) -> None:
        """A page failed alone: end the run where it is not the page that is at fault."""
        if isinstance(error, self._rule.belong_to_the_page) or _is_out_of_memory(error):
            return
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
            raise error


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether less at once may help.

    >>> _is_out_of_memory(RuntimeError("CUDA out of memory. Tried to ...")), _is_out_of_memory(ValueError("no"))
    (True, False)
    """
    # By name and text, because this room does not import torch, and other engines have words of their own.
    named = type(error).__name__ == "OutOfMemoryError"
    return named or isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def _free_memory() -> None:
    """Give memory that PyTorch keeps for later back to the device, where PyTorch is in use."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
