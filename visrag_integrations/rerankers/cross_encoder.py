"""`CrossEncoderReranker`: pages scored anew by a model that reads the question and the page together."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from visrag_integrations.embedders.prefetch import prefetch
from visrag_integrations.errors import RerankerError, SettingError, printable
from visrag_integrations.rerankers.page_inputs import PageInput, page_input, query_input, readable
from visrag_integrations.rerankers.published import Reads
from visrag_integrations.types import Query, ScoredPage

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from visrag_integrations.rerankers.page_inputs import PairScorer

logger = logging.getLogger(__name__)


class CrossEncoderReranker:
    """Scores the pages that were found anew: the model reads the question and the page's text, picture, or both.

    The scores of one model can be compared with each other, across questions too, so `min_score` has a meaning. They
    are the model's own: from 0 to 1 for most of sentence-transformers, raw numbers for some, and whatever a server
    gives. Equal scores keep the order in which the pages were found.

    >>> reranker = CrossEncoderReranker("BAAI/bge-reranker-v2-m3")  # doctest: +SKIP
    >>> PageRetriever(embedder, store, reranker=reranker).retrieve("how many?")  # doctest: +SKIP

    Attributes:
        name: The model.
        reads: What it is shown of a page.
        min_score: Pages below are left out.
    """

    def __init__(
        self,
        model: Any,
        *,
        url: str | None = None,
        reads: Literal["auto", "text", "image", "both"] = "auto",
        min_score: float | None = None,
        batch_size: int | None = None,
        max_chars: int | None = None,
        on_note: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> None:
        """Load a model, take one that is loaded, or say which server has it; a server is not asked yet.

        Args:
            model: A name on the hub, a folder, a `sentence_transformers.CrossEncoder`, or a server's URL.
            url: The server that has the model: `/rerank` as Jina, Cohere and vLLM have it, or vLLM's `/score`.
                Without a path, `/rerank` is meant.
            reads: What the model is shown of a page. "auto": text, or the picture where the model is known to see.
            min_score: Pages with a lower score are left out.
            batch_size: At most so many pages in one step or request; by default as many as `LocalScorer` or
                `ServerScorer` thinks right. A model that compares pages with each other needs all in one.
            max_chars: Longer page texts are cut there. A model here is given what it can read in any case; a server
                at most 8,000 characters by default.
            on_note: Told, once each, of texts that were cut and pages that could not be read; by default the log is.
            **settings: For a model here: `LocalSettings`, for example `device="cuda"`. For a server: `ServerSettings`,
                for example `api_key=`.

        Raises:
            SettingError: A setting is not allowed, or the model cannot read what `reads` says.
            CheckpointError: The checkpoint is no reranker, or needs code of its own, which is not run.
            MissingExtraError: sentence-transformers is not installed.
        """
        if reads not in ("auto", *get_args(Reads)):
            raise SettingError(f'reads is {reads!r}; allowed: "auto", "text", "image", "both".')
        if min_score is not None and not math.isfinite(min_score):
            raise SettingError(f"min_score is {min_score}; give a number, or None to keep every page.")
        for name, number in (("batch_size", batch_size), ("max_chars", max_chars)):
            if number is not None and number < 1:
                raise SettingError(f"{name} is {number}; it must be at least 1.")
        self._scorer = _scorer(model, url, max_chars, settings)
        self.name, self.min_score = self._scorer.name, min_score
        # In errors, which a stranger on the web may read: a folder by its own name, not by where it lies.
        self._called = Path(self.name).name if Path(self.name).is_absolute() else self.name
        self.reads: Reads = self._scorer.reads if reads == "auto" else reads
        if self.reads != "text" and not self._scorer.sees:
            self._scorer.close()
            raise SettingError(
                f'{self.name} reads text, and reads is {self.reads!r}. Say reads="text", or take a reranker that sees.'
            )
        self.batch_size = batch_size or self._scorer.batch_size(self.reads)
        # Once each: the same collection is searched many times, and its long pages stay long.
        self._on_note = on_note or logger.warning
        self._noted: set[str] = set()

    def rerank(self, query: str | Query, hits: Sequence[ScoredPage], top_k: int | None = None) -> list[ScoredPage]:
        """The same pages by the model's scores, best first; all of them when `top_k` is None.

        Pages that have nothing this model reads are left out, and that is noted.

        Raises:
            SettingError: The query has not what the model reads.
            RerankerEndpointError: The server cannot be reached, refuses, or fails; the old order is never given.
            RerankerError: None of the pages has what the model reads, or what came back are no scores, one a page.
        """
        if top_k is not None and (isinstance(top_k, bool) or top_k < 1):
            raise SettingError(f"top_k is {top_k!r}; it is the number of pages wanted, 1 or more.")
        self._scorer.check_open()
        if not hits:
            return []
        asked = query_input(query, self.reads, self._called)
        # Only what the model can read is scored: an empty text would get a number too, and one that means nothing.
        known = self._readable(hits)
        text, texts = self._fit(asked.text, known)
        scores = self._score(replace(asked, text=text), known, texts)
        reranked: list[ScoredPage] = []
        for hit, score in zip(known, scores, strict=True):
            if self.min_score is None or score >= self.min_score:
                reranked.append(replace(hit, score=score, score_type="rerank"))
        if not reranked:
            self._on_note(
                f"the reranker {self._called} scored none of the {len(known)} pages {self.min_score} or higher; the "
                f"highest is {max(scores):.3g}"
            )
        return sorted(reranked, key=lambda hit: -hit.score)[:top_k]  # stable: ties stay in the order they were found

    async def arerank(
        self, query: str | Query, hits: Sequence[ScoredPage], top_k: int | None = None
    ) -> list[ScoredPage]:
        """`rerank` in a thread of its own, so that the event loop goes on."""
        return await asyncio.to_thread(self.rerank, query, hits, top_k)

    def close(self) -> None:
        """Let go of the model, or of the connections; it cannot be used after."""
        self._scorer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _readable(self, hits: Sequence[ScoredPage]) -> list[ScoredPage]:
        """The pages that have what the model reads."""
        known = [hit for hit in hits if readable(hit.page, self.reads)]
        lacks = {"text": "text", "image": "picture", "both": "text and no picture"}[self.reads]
        if not known:
            advice = "index the documents again with --ocr auto" if self.reads == "text" else "store the pictures"
            raise RerankerError(  # of these pages: other questions find others
                f"None of the {len(hits)} pages that were found has a {lacks}, which is what the reranker "
                f"{self._called} reads (reads={self.reads!r}): {advice}, or give it something else to read."
            )
        if len(known) < len(hits):
            self._note(
                "unreadable",
                f"{len(hits) - len(known)} of {len(hits)} pages have no {lacks} for the reranker {self._called}, and "
                "are left out",
            )
        return known

    def _fit(self, query: str, hits: Sequence[ScoredPage]) -> tuple[str, list[str]]:
        """The query and the pages' texts as far as the model reads; says where something was cut."""
        if self.reads == "image":
            return query, [""] * len(hits)
        cut_query, texts = self._scorer.fit(query, [hit.page.text for hit in hits])
        if cut_query != query:
            self._note("query", f"the query is longer than the reranker {self._called} reads; its end was not read")
        cut = 0
        for hit, text in zip(hits, texts, strict=True):
            cut += len(text) < len(hit.page.text)
        if cut:
            self._note(
                "cut",
                f"{cut} of {len(hits)} page texts are longer than the reranker {self._called} is given "
                f"({max(map(len, texts))} characters); their ends were not read",
            )
        return cut_query, texts

    def _score(self, query: PageInput, hits: Sequence[ScoredPage], texts: Sequence[str]) -> list[float]:
        """A score for each page, in their order; pictures are opened a batch at a time."""

        # Opened inside, when their batch comes: 50 pages of 200 dpi are half a gigabyte of pixels.
        def score(start: int) -> list[float]:
            inputs: list[PageInput] = []
            for hit, text in zip(hits[start : start + self.batch_size], texts[start:], strict=False):
                inputs.append(page_input(hit.page, text, self.reads))
            return self._scorer.score(query, inputs)

        starts = range(0, len(hits), self.batch_size)
        scores: list[float] = []
        if self._scorer.at_once == 1 or len(starts) == 1:
            for start in starts:
                scores += score(start)
        else:
            with ThreadPoolExecutor(min(self._scorer.at_once, len(starts)), "visrag-rerank") as pool:
                for part in prefetch(starts, score, pool, self._scorer.at_once):
                    scores += part
        # Sorted, a NaN would put the pages into any order.
        for hit, value in zip(hits, scores, strict=True):
            if not math.isfinite(value):
                page = printable(f"{hit.page.source or hit.page.doc_id}, page {hit.page.number}")
                raise RerankerError(
                    f'The reranker {self._called} gave the score {value} for {page}. Try dtype="float32".'
                )
        return scores

    def _note(self, kind: str, text: str) -> None:
        """Say it once, however many searches meet it."""
        if kind not in self._noted:
            self._noted.add(kind)
            self._on_note(text)


def _scorer(model: Any, url: str | None, max_chars: int | None, settings: dict[str, Any]) -> PairScorer:
    """What scores: a server where there is a URL, else a model in this process."""
    from visrag_integrations.rerankers.local import LocalScorer
    from visrag_integrations.rerankers.server import ServerScorer, is_url

    if is_url(model):
        if url is not None:
            raise SettingError("Both model and url are URLs; give the model's name beside url=, or the URL alone.")
        return ServerScorer("", model, max_chars, settings)
    if url is not None:
        if not isinstance(model, (str, Path)):
            raise SettingError(f"url= is the server of a model that is named; model is a {type(model).__name__}.")
        return ServerScorer(str(model), url, max_chars, settings)
    return LocalScorer(model, max_chars, settings)
