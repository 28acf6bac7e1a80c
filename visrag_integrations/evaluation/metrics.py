"""Retrieval metrics from runs and judgements, equal to trec_eval's: what is relevant, and how ties are ranked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from visrag_integrations.errors import SettingError, UnknownNameError

Run = Mapping[str, Mapping[str, float]]
"""Query id -> page id -> score; higher is better."""
Qrels = Mapping[str, Mapping[str, int]]
"""Query id -> page id -> grade: 1 and more is relevant, 0 and less is not."""
PerQuery = dict[str, dict[str, float]]
"""Query id -> metric -> value."""


def evaluate_run(run: Run, qrels: Qrels, metrics: Iterable[str] = ("mrr@10", "recall@10")) -> PerQuery:
    """Each metric for each query that was judged; one that the run lacks found nothing, and counts 0.

    >>> evaluate_run({"q1": {"a": 0.9, "b": 0.8}}, {"q1": {"b": 1}, "q2": {"a": 1}}, ["mrr@10", "hit@1"])
    {'q1': {'mrr@10': 0.5, 'hit@1': 0.0}, 'q2': {'mrr@10': 0.0, 'hit@1': 0.0}}

    Args:
        run: What was found. Queries without judgements are left out.
        qrels: What should be found.
        metrics: Names such as "ndcg@5"; see `RETRIEVAL_METRICS`.

    Raises:
        UnknownNameError: A metric that there is not.
        SettingError: A score that is not a number.
    """
    # All names first: a wrong one is refused before hours of work, not after.
    wanted = {metric: parse_metric(metric) for metric in metrics}
    found: PerQuery = {}
    for query, judged in qrels.items():
        grades = [judged.get(page, 0) for page in ranked(run.get(query, {}), query)]
        # The best order there could be: what nDCG and recall are shares of.
        ideal = sorted(map(judged.__getitem__, relevant_pages(judged)), reverse=True)
        values: dict[str, float] = {}
        for metric, (name, depth) in wanted.items():
            values[metric] = RETRIEVAL_METRICS[name](grades, ideal, depth)
        found[query] = values
    return found


def ranked(scores: Mapping[str, float], query: str = "") -> list[str]:
    """Page ids, best first, as trec_eval ranks: scores in single precision, of equal ones the last id first.

    >>> ranked({"a": 1.0, "b": 1.0 + 1e-9, "c": 2.0})
    ['c', 'b', 'a']
    """
    # Equal in single precision is equal: trec_eval reads scores into C floats. One that is too large becomes infinite.
    with np.errstate(over="ignore"):
        singles = np.asarray(list(scores.values()), dtype=np.float64).astype(np.float32).tolist()
    if any(map(math.isnan, singles)):
        raise SettingError(f"A score of query {query!r} is not a number (nan), so its pages cannot be ranked.")
    # Pairs are compared by score, then by page id; from the end, because of equal scores the last id comes first.
    best_first = sorted(zip(singles, scores, strict=True), reverse=True)
    return [page for _, page in best_first]


def relevant_pages(judged: Mapping[str, int]) -> list[str]:
    """The pages of a question that are judged relevant.

    >>> relevant_pages({"a": 2, "b": 0, "c": 1})
    ['a', 'c']
    """
    return [page for page, grade in judged.items() if grade > 0]


def mean_metrics(per_query: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean over the queries, by metric; nothing for no queries.

    >>> mean_metrics({"q1": {"hit@1": 1.0}, "q2": {"hit@1": 0.0}})
    {'hit@1': 0.5}
    """
    rows = list(per_query.values())
    if not rows:
        return {}
    # `fsum`, so that the mean does not depend on the order of the queries.
    means: dict[str, float] = {}
    for metric in rows[0]:
        means[metric] = math.fsum(row[metric] for row in rows) / len(rows)
    return means


def parse_metric(metric: str) -> tuple[str, int]:
    """The name and the depth.

    >>> parse_metric("nDCG@10")
    ('ndcg', 10)
    """
    name, _, depth = metric.strip().lower().partition("@")
    # `isdecimal` alone is true of other scripts' digits too.
    is_number = depth.isascii() and depth.isdecimal()
    if name not in RETRIEVAL_METRICS or not is_number or int(depth) < 1:
        allowed = "@K, ".join(RETRIEVAL_METRICS) + "@K"
        raise UnknownNameError(f"There is no retrieval metric {metric!r}; there is {allowed}, for example mrr@10.")
    return name, int(depth)


def _mrr(grades: Sequence[int], ideal: Sequence[int], k: int) -> float:
    for rank, grade in enumerate(grades[:k], 1):
        if grade > 0:
            return 1 / rank
    return 0.0


def _recall(grades: Sequence[int], ideal: Sequence[int], k: int) -> float:
    if not ideal:
        return 0.0
    return _count_relevant(grades[:k]) / len(ideal)


def _hit(grades: Sequence[int], ideal: Sequence[int], k: int) -> float:
    return float(_count_relevant(grades[:k]) > 0)


def _ndcg(grades: Sequence[int], ideal: Sequence[int], k: int) -> float:
    if not ideal:
        return 0.0
    return _gain(grades[:k]) / _gain(ideal[:k])


def _count_relevant(grades: Sequence[int]) -> int:
    count = 0
    for grade in grades:
        if grade > 0:
            count += 1
    return count


def _gain(grades: Sequence[int]) -> float:
    """Discounted: a page at rank r counts its grade / log2(r + 1)."""
    total = 0.0
    for place, grade in enumerate(grades):
        if grade > 0:  # trec_eval counts negative grades as none
            total += grade / math.log2(place + 2)
    return total


RETRIEVAL_METRICS: dict[str, Callable[[Sequence[int], Sequence[int], int], float]] = {
    "mrr": _mrr,
    "recall": _recall,
    "ndcg": _ndcg,
    "hit": _hit,
}
"""Name -> function of the grades in ranked order, the relevant grades best first, and the depth."""
