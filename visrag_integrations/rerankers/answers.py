"""A server's answer to a list of pages: a score for each, in the order of what was asked."""

from __future__ import annotations

import math
from typing import Any

from visrag_integrations.errors import RerankerError, printable


def read_scores(answer: Any, count: int, where: str) -> list[float]:
    """The scores, in the order of what was asked, whatever their order in the answer.

    >>> read_scores({"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]}, 2, "it")
    [0.2, 0.9]

    Jina, Cohere and vLLM have `results` with `relevance_score`; vLLM's `/score` has `data` with `score`; SGLang and
    text-embeddings-inference a bare list with `score`.

    Raises:
        RerankerError: Some page has no score, two, or one that is no finite number.
    """
    # {"results": [...]}, {"data": [...]}, or the list itself.
    entries = answer
    if isinstance(answer, dict):
        entries = answer.get("results", answer.get("data"))
    if not isinstance(entries, list):
        raise RerankerError(
            f"{where} answered without scores: {_shown(answer)}. Is it the address of a reranker, such as "
            "http://localhost:8000/rerank?"
        )
    scores: dict[int, float] = {}
    for entry in entries:
        index, score = _entry(entry, where)
        if not 0 <= index < count:
            raise RerankerError(f"{where} gave a score for page {index}; {count} were sent, counted from 0.")
        if index in scores:
            raise RerankerError(f"{where} gave two scores for page {index}.")
        scores[index] = score
    # Some servers leave out what they could not read, or give the best few only. The rest has no place then.
    missing = [index for index in range(count) if index not in scores]
    if missing:
        raise RerankerError(
            f"{where} gave {len(scores)} scores for {count} pages; without one, counted from 0: "
            f"{', '.join(map(str, missing[:10]))}. A server that drops pages cannot rerank them."
        )
    return [scores[index] for index in range(count)]


def _entry(entry: Any, where: str) -> tuple[int, float]:
    """One entry's index and score."""
    if not isinstance(entry, dict):
        raise RerankerError(f"{where} gave something else than scores: {_shown(entry)}.")
    # In Python True is a number, and JSON as Python reads it may hold NaN; neither is a score.
    index, score = entry.get("index"), entry.get("relevance_score", entry.get("score"))
    if isinstance(index, bool) or not isinstance(index, int):
        raise RerankerError(f"{where} gave a score without the number of its page: {_shown(entry)}.")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not _is_finite(score):
        raise RerankerError(f"{where} gave page {index} the score {_shown(score)}, which is no finite number.")
    return index, float(score)


def _shown(value: Any) -> str:
    return printable(repr(value)[:200])


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number of hundreds of digits
        return False
