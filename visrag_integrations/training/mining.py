"""Hard negatives: pages that a retriever takes for the right one, and that are not."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import index_pages
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.progress_bars import progress_bar
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page, ScoredPage

logger = logging.getLogger(__name__)

# A page that scores nearly as high as the right one is likely to hold the answer too, and must not be pushed away.
# NV-Retriever (https://arxiv.org/abs/2407.15831) tried 0.7 to 0.99 of the right page's score and found 0.95 best.
TOO_GOOD = 0.95
_EXTRA = 16  # pages asked for beyond those wanted: some of the best are dropped
_QUERIES_AT_ONCE = 32  # embedded as one batch, as many as `evaluate_retrieval` takes by default


@dataclass(frozen=True)
class Ask:
    """A query whose hard negatives are wanted.

    Attributes:
        query: Its text.
        page: Its right page.
        right: Ids (`Page.id`) of all its right pages; none of them is a negative.
    """

    query: str
    page: Page
    right: frozenset[str]


def mine_negatives(
    asks: Sequence[Ask],
    pages: Mapping[str, Page],
    embedder: PageEmbedder,
    count: int,
    *,
    seed: int = 0,
    progress: bool | None = None,
) -> list[tuple[Page, ...]]:
    """For every query the best pages that are not right, best first.

    Pages that score at least 0.95 of the right page are left out. Where too few are left, random pages fill up.

    Args:
        asks: The queries.
        pages: What is searched, by `Page.id`.
        embedder: What searches: as a rule the checkpoint that is to be trained.
        count: Negatives a query.
        seed: Of the random pages.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.

    Raises:
        SettingError: There are too few pages.
    """
    most_right = max((len(ask.right) for ask in asks), default=0)
    if len(pages) < count + most_right:
        raise SettingError(f"negatives is {count}, and there are {len(pages)} pages to train on. Ask for fewer.")
    mined: list[tuple[Page, ...]] = []
    with QdrantPageStore(":memory:", collection="negatives", pictures=False) as store:
        report = index_pages(pages.values(), embedder, store, progress=progress)
        for failure in report.failed:
            logger.warning("%s cannot be embedded, and is no hard negative: %s", failure.source, failure.error)
        retriever = PageRetriever(embedder, store, mode="dense")
        with progress_bar(progress, total=len(asks), unit="query", desc="Mining") as bar:
            for batch in _batches(asks):
                found = retriever.retrieve_many([ask.query for ask in batch], count + most_right + _EXTRA)
                for ask, hits in zip(batch, found, strict=True):
                    wrong = _below(ask, hits, _score_of(retriever, ask, hits))
                    mined.append(_filled(ask, wrong, hits, pages, count, [seed, len(mined)]))
                bar.update(len(batch))
    return mined


def _score_of(retriever: PageRetriever, ask: Ask, hits: Sequence[ScoredPage]) -> float:
    """Of the right page, which need not be among the best."""
    for hit in hits:
        if hit.page.id == ask.page.id:
            return hit.score
    own = retriever.retrieve(ask.query, 1, filter={"$ids": [ask.page.id]})
    if own:
        return own[0].score
    return float("inf")  # the right page could not be embedded: then no page is too good


def _below(ask: Ask, hits: Sequence[ScoredPage], right: float) -> list[str]:
    """Ids of the pages that are wrong, and not so good that they may be right."""
    # The right page at 0.8: what scores 0.76 or more is left out. At -0.2, where 0.95 of it would lie above it, what
    # scores -0.21 or more.
    limit = right
    if right != float("inf"):
        limit -= (1 - TOO_GOOD) * abs(right)
    wrong: list[str] = []
    for hit in hits:
        if hit.page.id not in ask.right and hit.score < limit:
            wrong.append(hit.page.id)
    return wrong


def _filled(
    ask: Ask,
    wrong: Sequence[str],
    hits: Sequence[ScoredPage],
    pages: Mapping[str, Page],
    count: int,
    seed: Sequence[int],
) -> tuple[Page, ...]:
    """The first `count` of the wrong pages; where there are fewer, others at random."""
    chosen = list(wrong[:count])
    if len(chosen) < count:
        seen = {hit.page.id for hit in hits}
        others = sorted(pages.keys() - ask.right - seen)
        if len(others) < count - len(chosen):  # a small set: then even pages that look right
            others = sorted(pages.keys() - ask.right - set(chosen))
        drawn = np.random.default_rng(list(seed)).permutation(len(others))[: count - len(chosen)]
        chosen += [others[number] for number in drawn]
    return tuple(pages[id_] for id_ in chosen)


def _batches(asks: Sequence[Ask]) -> Iterator[list[Ask]]:
    remaining = iter(asks)
    while batch := list(itertools.islice(remaining, _QUERIES_AT_ONCE)):
        yield batch
