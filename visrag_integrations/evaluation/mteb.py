"""This library in mteb's own runs: a whole system as its `SearchProtocol`, an embedder as its `EncoderProtocol`.

mteb then loads its tasks, asks, scores, and writes its result files; nothing here computes a score.

>>> system = MtebSystem("me/ocr-hybrid", build, revision="2026-11-27")  # doctest: +SKIP
>>> mteb.evaluate(system, mteb.get_tasks(tasks=["Vidore3HrRetrieval"]))  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from visrag_integrations.errors import MissingExtraError, SettingError
from visrag_integrations.evaluation.candidates import CandidateSearch
from visrag_integrations.evaluation.corpora import corpus_pages
from visrag_integrations.evaluation.corpus import index_pages, with_text
from visrag_integrations.evaluation.hub import table_rows
from visrag_integrations.evaluation.question_run import keyed
from visrag_integrations.evaluation.sets import EvaluationSet, Question, page_key
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.interfaces.embedders import fingerprint_of, reads_pixels
from visrag_integrations.retrieval import PageReranker, PageRetriever
from visrag_integrations.scores.exact import cosine, maxsims
from visrag_integrations.types import Page, Query

# Questions whose queries are embedded together: as many as `evaluate_retrieval` takes by default.
_BATCH = 32


class MtebSystem:
    """A retriever with its embedder, store, mode and reranker, as mteb's `SearchProtocol`.

    Args:
        name: What its results are published as: "organisation/name".
        build: Called with the name of a corpus ("Vidore3HrRetrieval-english-test"); gives the `PageRetriever` that is
            measured. Its store must be a collection of that corpus alone, and so must that of its reranker; what a
            store has already is not embedded again.
        revision: Of the system. Change it when anything in `build` changes: mteb takes a result that it has, by name
            and revision, from its cache.
        top_k: So many pages are asked for. By default as many as mteb wants, which is 1,000. A reranker then scores
            1,000 pages anew where it usually scores 50: give the depth of the main score (10) for the system as it
            runs; scores at greater depth are then of so many pages.
        progress: A progress bar while pages are embedded; by default where standard error is a terminal, and in a
            notebook.
    """

    def __init__(
        self,
        name: str,
        build: Callable[[str], PageRetriever],
        *,
        revision: str,
        top_k: int | None = None,
        progress: bool | None = None,
    ) -> None:
        if top_k is not None and top_k < 1:
            raise SettingError(f"top_k is {top_k!r}; it is the number of pages wanted, 1 or more.")
        self.name = name
        self.build = build
        self.revision = revision
        self.top_k = top_k
        self.progress = progress
        self._retriever: PageRetriever | None = None
        self._pages: tuple[Page, ...] = ()

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **others: Any) -> None:
        """Fill the retriever's store with a corpus of mteb's; pictures are opened batch by batch."""
        corpus_name = f"{task_metadata.name}-{hf_subset}-{hf_split}"
        self._pages = _of_corpus(corpus_pages(table_rows(corpus), corpus_name, corpus_name), corpus_name)
        self._retriever = self.build(corpus_name)
        self._fill(self._retriever.embedder, self._retriever.store, corpus_name)
        reranker = self._retriever.reranker
        if isinstance(reranker, PageReranker) and reranker.store is not self._retriever.store:
            self._fill(reranker.embedder, reranker.store, corpus_name)

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **others: Any
    ) -> dict[str, dict[str, float]]:
        """Query id -> page id -> score. Scores fall from one page to the next, in the retriever's own order."""
        if self._retriever is None:
            raise SettingError("There is nothing to search: call index(corpus, ...) first, as mteb does.")
        questions = [_question(row, top_ranked) for row in table_rows(queries)]
        dataset = EvaluationSet("mteb", tuple(questions), {}, self._pages)
        search = CandidateSearch(dataset, self._retriever, min(top_k, self.top_k or top_k))
        found: dict[str, dict[str, float]] = {}
        remaining = iter(questions)
        while batch := list(islice(remaining, _BATCH)):
            for question, hits in zip(batch, search.search(batch), strict=True):
                found[question.id] = dict(keyed(hits, page_key))
        return found

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside the results."""
        return _model_meta(self.name, self.revision, kinds=["hybrid"], scoring=None, dimension=None)

    def _fill(self, embedder: PageEmbedder, store: Any, corpus_name: str) -> None:
        report = index_pages(self._pages, embedder, store, progress=self.progress)
        # mteb would score the rest, as if the page had not been found.
        if report.failed:
            first = report.failed[0]
            raise SettingError(
                f"{len(report.failed)} of {len(self._pages)} pages of {corpus_name} could not be embedded; the first: "
                f"{first.source}: {first.error}"
            )
        # The other way round: pages of another corpus in the collection would be found too.
        if hasattr(store, "count") and store.count() != len(self._pages):
            raise SettingError(
                f"The store has {store.count()} pages, and {corpus_name} has {len(self._pages)}. "
                "Let build(name) give each corpus a collection of its own, for example collection=name."
            )


class MtebEmbedder:
    """An embedder as mteb's `EncoderProtocol`; mteb searches by itself, with the exact score of every page.

    Args:
        embedder: Of one vector a page, or of many (MaxSim).
        name: What its results are published as; by default the embedder's own name.
        revision: By default the embedder's fingerprint, where it has one.
    """

    def __init__(self, embedder: PageEmbedder, *, name: str | None = None, revision: str | None = None) -> None:
        self.embedder = embedder
        self.name = name or embedder.name
        self.revision = revision or fingerprint_of(embedder) or "unknown"

    def encode(self, inputs: Iterable[Mapping[str, Any]], *, prompt_type: Any = None, **others: Any) -> Any:
        """The vectors of mteb's batches: `(n, dim)`, or a list of `(m, dim)` for an embedder of many vectors."""
        is_query = getattr(prompt_type, "value", prompt_type) == "query"
        vectors: list[Any] = []
        for batch in inputs:
            rows = _batch_rows(batch)
            if is_query:
                vectors.extend(self.embedder.embed_queries([_query(row) for row in rows]))
            else:
                vectors.extend(self.embedder.embed_pages([self._page(row) for row in rows]))
        if self.embedder.kind == "multi":
            return vectors
        return np.array(vectors, dtype=np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The score of each with each, `(n, m)`: cosine, or MaxSim."""
        pages = _each(embeddings2)
        rows: list[list[float]] = []
        for query in _each(embeddings1):
            rows.append(self._scores(query, pages))
        return np.array(rows, dtype=np.float32)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The score of each pair, `(n,)`."""
        scores: list[float] = []
        for query, page in zip(_each(embeddings1), _each(embeddings2), strict=True):
            scores += self._scores(query, [page])
        return np.array(scores, dtype=np.float32)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside the results."""
        kind, scoring = "dense", "cosine"
        if self.embedder.kind == "multi":
            kind, scoring = "late-interaction", "MaxSim"
        return _model_meta(self.name, self.revision, [kind], scoring, self.embedder.dimension)

    def _scores(self, query: Any, pages: Sequence[Any]) -> list[float]:
        if self.embedder.kind == "multi":
            return maxsims(query, pages)
        return cosine(query, pages)

    def _page(self, row: Mapping[str, Any]) -> Page:
        # Only what is embedded counts: the page is not stored, and needs no id of its own.
        page = Page("mteb", 1, _text(row), picture=row.get("image"))
        if reads_pixels(self.embedder):
            return page
        return with_text(page)


def _of_corpus(pages: Sequence[Page], name: str) -> tuple[Page, ...]:
    """The pages as those of this corpus: others have pages "0", "1", ... too, and a store goes by ids."""
    named: list[Page] = []
    for page in pages:
        named.append(replace(page, doc_id=f"{name}/{page.doc_id}"))
    return tuple(named)


def _question(row: Mapping[str, Any], top_ranked: Mapping[str, Sequence[str]] | None) -> Question:
    id_ = str(row["id"])
    if row.get("image") is not None or not isinstance(row.get("text"), str) or row.get("instruction"):
        raise SettingError(
            f"Query {id_!r} of this task is more than a text (a picture, a conversation, an instruction). A system "
            "answers texts; give mteb the embedder instead: MtebEmbedder(embedder)."
        )
    candidates: tuple[str, ...] | None = None
    if top_ranked is not None:
        candidates = tuple(map(str, top_ranked.get(id_, ())))
    return Question(id_, row["text"], candidates=candidates)


def _batch_rows(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A batch by columns as rows: {"text": ["a", "b"]} -> [{"text": "a"}, {"text": "b"}]."""
    # Not all columns: mteb gives ids and more beside what is embedded.
    columns = [name for name in ("title", "text", "image") if name in batch]
    rows: list[dict[str, Any]] = []
    for values in zip(*(batch[name] for name in columns), strict=True):
        rows.append(dict(zip(columns, values, strict=True)))
    return rows


def _text(row: Mapping[str, Any]) -> str:
    text = row.get("text") or ""
    if not isinstance(text, str):
        raise SettingError(f"A text of this task is {type(text).__name__}; only plain texts can be embedded.")
    return text


def _query(row: Mapping[str, Any]) -> str | Query:
    if row.get("image") is None:
        return _text(row)
    return Query(_text(row), row["image"])


def _each(embeddings: Any) -> list[Any]:
    """Embeddings one by one, as arrays, also where mteb made a tensor of them."""
    each: list[Any] = []
    for embedding in embeddings:
        if hasattr(embedding, "numpy"):
            each.append(embedding.numpy(force=True))  # from a GPU, or with a gradient, too
        else:
            each.append(np.asarray(embedding))
    return each


def _model_meta(name: str, revision: str, kinds: list[str], scoring: str | None, dimension: int | None) -> Any:
    """Mteb's description of a model: what is known of it here; the rest is for the leaderboard's own form."""
    try:
        from mteb.models.model_meta import ModelMeta
    except ImportError as err:
        raise MissingExtraError("mteb, which runs the evaluation,", "mteb") from err
    unknown = (
        "loader release_date languages n_parameters memory_usage_mb max_tokens license open_weights "
        "public_training_code public_training_data use_instructions training_datasets"
    )
    values: dict[str, Any] = dict.fromkeys(unknown.split())
    values["similarity_fn_name"] = scoring
    values.update(name=_with_organisation(name), revision=revision, model_type=kinds, embed_dim=dimension, framework=[])
    return ModelMeta(**values, modalities=["text", "image"])


def _with_organisation(name: str) -> str:
    """Mteb wants "organisation/name".

    >>> _with_organisation("ocr"), _with_organisation("vidore/colqwen2-v1.0-hf")
    ('visrag-integrations/ocr', 'vidore/colqwen2-v1.0-hf')
    """
    if name.count("/") == 1:
        return name
    return f"visrag-integrations/{name.replace('/', '__')}"
