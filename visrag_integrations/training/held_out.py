"""Evaluation while training: held-out questions over their pages, in a store in memory."""

from __future__ import annotations

import logging
from typing import Any

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation import EvaluationResult, EvaluationSet, evaluate_retrieval, index_pages

logger = logging.getLogger(__name__)

METRICS = ("recall@1", "recall@10", "mrr@10")
BEST_BY = "mrr@10"  # one number for both: whether the page is found, and how far up


def check_held_out(evaluate: Any) -> EvaluationSet:
    """The set, if it can be searched.

    Raises:
        SettingError: It is no evaluation set, or comes without pages.
    """
    if not isinstance(evaluate, EvaluationSet):
        raise SettingError(f"evaluate is {type(evaluate).__name__}; give an EvaluationSet, such as build_pairs makes.")
    if not evaluate.pages or not evaluate.qrels:
        raise SettingError(
            f"The evaluation set {evaluate.name!r} comes without pages or judgements. Give one with both: "
            "train, held_out = build_pairs(documents, queries=set)."
        )
    return evaluate


def search_held_out(evaluate: EvaluationSet, embedder: Any) -> dict[str, float]:
    """Recall@1, recall@10 and MRR@10 of the embedder as it is now."""
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.store import QdrantPageStore

    with QdrantPageStore(":memory:", collection="held_out", pictures=False) as store:
        report = index_pages(evaluate.pages, embedder, store, progress=False)
        for failure in report.failed:
            logger.warning("%s cannot be embedded: %s", failure.source, failure.error)
        if not report.pages:
            raise DatasetError(evaluate.name, "has no page that can be embedded.")
        retriever = PageRetriever(embedder, store, mode="dense")
        result = evaluate_retrieval(evaluate, retriever, METRICS, progress=False)
    warn_of_failures(evaluate.name, result)
    return dict(result.metrics)


def warn_of_failures(name: str, result: EvaluationResult) -> None:
    """Log held-out questions that could not be asked: the scores of this step are those of the others alone."""
    if result.failed:
        first = result.failed[0]
        logger.warning(
            "%s: %d held-out questions failed and are not in the scores; the first: %s: %s",
            name, len(result.failed), first.id, first.error,
        )  # fmt: skip
