"""What is read of a collection's pages: found by a search, by their ids, by a filter; counted and listed."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection as Group
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from visrag_integrations.store.collection import Collection
from visrag_integrations.store.conditions import FieldMatch
from visrag_integrations.store.documents import count_documents, documents_of, note_folders, of_document
from visrag_integrations.store.engine import Vector, batches
from visrag_integrations.store.info import EmbedderInfo
from visrag_integrations.store.outdated import warn_once
from visrag_integrations.store.payload import LISTING, payload_to_page
from visrag_integrations.store.reading import content_keys, equal_embeddings, ids_by_content, stored_vectors
from visrag_integrations.store.search import SearchSettings, StoreQuery, exact_scores, search
from visrag_integrations.store.source_folders import FOLDERS, below_keys, beside_keys, inside_key
from visrag_integrations.store.unindexed import note_unindexed
from visrag_integrations.store.vectors import schema_for
from visrag_integrations.types import Mode, Page, ScoredPage, StoredDocument

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter, PageEmbedder

logger = logging.getLogger(__name__)

# Pages of a list that are made at a time; it is what is read together of their pictures (`server_pictures`).
_SCROLLED_TOGETHER = 16
# Servers in strict mode may allow no more than 100 values in a condition.
_KEYS_TOGETHER = 64


class StoredPages(Collection):
    """A collection whose pages can be read; `QdrantPageStore` adds and removes them too."""

    _settings: SearchSettings

    def search(
        self,
        vector: Any,
        *,
        text: str = "",
        top_k: int = 5,
        filter: Filter | None = None,
        mode: Mode = "dense",
    ) -> list[ScoredPage]:
        """The best pages, best first; none while nothing was indexed.

        Args:
            vector: The query's embedding; None for mode "lexical". Where two embedders fill the collection, its shape
                says whose it is: `(dim,)` or `(n, dim)`.
            text: The query's text, for modes "lexical" and "hybrid".
            top_k: At most so many.
            filter: Metadata the pages must have. See `filters.parse_filter`.
            mode: "dense" (cosine or MaxSim), "lexical" (BM25) or "hybrid" (both, fused).
        """
        query = StoreQuery(vector, text, top_k, self._condition(filter), mode)
        info = self._to_read()
        if info is None:
            logger.warning(
                "%s: nothing was indexed yet, so that nothing is found. Index documents first (visrag index PATH, or "
                "index_documents), or check the name of the index.",
                self._engine.where,
            )
            return []
        warn_once(self._engine.where, self.outdated)
        if query.condition is not None:
            note_unindexed(self._engine, query.condition, info.indexed)
        if mode == "lexical" or vector is None:  # words are the same, whoever filled it
            found, score_type = search(self._parts(info), query, self._settings)
        else:
            (found, score_type), info = self._while_it_holds(
                schema_for(vector, info.schemas).kind,
                lambda parts: search(parts, query, self._settings),
                lambda answer: [hit.payload for hit in answer[0]],
            )
            found = self._own(found, info)
        pages = self._pages([hit.payload for hit in found])
        return [ScoredPage(page, hit.score, score_type) for page, hit in zip(pages, found, strict=True)]

    def score(self, vector: Any, ids: Iterable[str]) -> dict[str, float]:
        """The exact dense score (cosine or MaxSim) of these pages, from their stored vectors; others are left out."""
        info = self._to_read()
        wanted = tuple(dict.fromkeys(ids))
        if info is None or not wanted:
            return {}
        hits, info = self._while_it_holds(
            schema_for(vector, info.schemas).kind,
            lambda parts: exact_scores(parts, vector, wanted),
            lambda answer: [hit.payload for hit in answer],
        )
        return {hit.id: hit.score for hit in self._own(hits, info)}

    def get_pages(self, ids: Sequence[str]) -> list[Page]:
        """The pages with these ids, in that order; ids that are not stored are left out."""
        if not self._to_read():
            return []
        payloads: dict[str, Mapping[str, Any]] = {}
        for batch in batches(ids):
            for record in self._shown.retrieve(batch):
                payloads[record.id] = record.payload
        return self._pages([payloads[id_] for id_ in ids if id_ in payloads])

    def get_embeddings(
        self, ids: Sequence[str], embedder: PageEmbedder | None = None, *, as_made: bool = False
    ) -> dict[str, Vector]:
        """The stored vectors of these pages (unit length); pages without one are left out.

        Args:
            ids: The pages.
            embedder: Whose vectors; those of the first that fills the collection when not given.
            as_made: Leave out pages of which a compact collection joined vectors: those left are no single patches'.
        """
        info = self._to_read()
        if info is None:
            return {}
        filled_by: EmbedderInfo | None = info if embedder is None else info.of(embedder)
        if filled_by is None:
            return {}
        schema = filled_by.schema
        vectors: dict[str, Vector] = {}
        for id_, named in stored_vectors(self._parts(info), ids, [schema.vector_name]).items():
            vector = named.get(schema.vector_name)
            if vector is None:
                continue
            # A page of exactly as many vectors as are kept at most was joined to that number, or may have been.
            if as_made and len(vector) == schema.kept:
                continue
            vectors[id_] = vector
        return vectors

    def embeddings_of_equals(self, pages: Sequence[Page]) -> dict[str, Any]:
        """By `content_key`: stored embeddings of pages with the same picture and text as one of these; best effort."""
        info = self._to_read()
        if info is None:
            return {}
        return equal_embeddings(self._parts(info), pages)

    def contents_among(self, keys: Iterable[str]) -> set[str]:
        """Those of these `content_key`s that a stored page has; best effort, as `embeddings_of_equals`."""
        info = self._to_read()
        if info is None:
            return set()
        return set(ids_by_content(self._parts(info), set(keys)))

    def contents(self, doc_id: str | None = None) -> list[str]:
        """The `content_key` of each page of a document, or of all, that has one."""
        if not self._to_read():
            return []
        return content_keys(self._shown, doc_id)

    def scroll(self, filter: Filter | None = None) -> Iterator[Page]:
        """Every page that fits the filter, read in small batches; the order is the store's own."""
        condition = self._condition(filter)
        if self._to_read():
            records = self._shown.scroll(condition)
            # A few at a time: their pictures are read together where they are on a server.
            while some := list(islice(records, _SCROLLED_TOGETHER)):
                yield from self._pages([record.payload for record in some])

    def count(self, filter: Filter | None = None) -> int:
        """How many pages fit the filter."""
        condition = self._condition(filter)
        if not self._to_read():
            return 0
        return self._shown.count(condition)

    def documents(self, filter: Filter | None = None) -> Iterator[StoredDocument]:
        """Every document that is stored, one after the other, in no order; with a filter, as far as its pages fit it.

        The first comes at once, and what was given is not held. Pages may be removed meanwhile.
        """
        condition = self._condition(filter)
        if not self._to_read():
            return iter(())
        return documents_of(self._shown, condition)

    def count_documents(self, filter: Filter | None = None) -> int:
        """How many documents are stored, or have a page that fits the filter."""
        condition = self._condition(filter)
        if not self._to_read():
            return 0
        return count_documents(self._shown, condition)

    def documents_below(self, folders: Iterable[str], *, beside: Iterable[str] = ()) -> Iterator[StoredDocument]:
        """The documents that were found somewhere below these folders, found by an index of their folders.

        Others may be among them whose sources could be read so, and one may come twice; whoever asks looks at the
        sources.

        Args:
            folders: Absolute paths.
            beside: Absolute paths of folders of which only what lies right in them is asked for.
        """
        working = _working_folder()
        keys: dict[str, None] = {}
        for folder in folders:
            keys |= dict.fromkeys(below_keys(folder, working))
        for folder in beside:
            keys |= dict.fromkeys(beside_keys(folder, working))
        yield from self._documents_in(list(keys))

    def documents_inside(self, sources: Iterable[str]) -> Iterator[StoredDocument]:
        """The documents that lie inside of those at these sources, such as the files in an archive."""
        yield from self._documents_in([inside_key(source) for source in sources])

    def _documents_in(self, keys: Sequence[str]) -> Iterator[StoredDocument]:
        if not keys or not self._to_read():
            return
        if self._in_place:  # others filled it, and know no folders
            yield from documents_of(self._shown, None)
            return
        note_folders(self._shown)
        for some in batches(keys, _KEYS_TOGETHER):
            yield from documents_of(self._shown, FieldMatch(FOLDERS, tuple(some)))

    def page_numbers(self, doc_id: str) -> Group[int]:
        """The numbers of a document's stored pages."""
        if not self._to_read():
            return frozenset()
        records = self._shown.scroll(of_document(doc_id), LISTING)
        return frozenset(record.payload["metadata"]["number"] for record in records)

    def _pages(self, payloads: Sequence[Mapping[str, Any]]) -> list[Page]:
        references = [(payload.get("metadata") or {}).get("image") for payload in payloads]
        sources = self._pictures.sources(references)
        return [payload_to_page(payload, source) for payload, source in zip(payloads, sources, strict=True)]


def _working_folder() -> str:
    """The folder that relative sources start from; "" where it was removed meanwhile."""
    try:
        return os.getcwd()
    except OSError:
        return ""
