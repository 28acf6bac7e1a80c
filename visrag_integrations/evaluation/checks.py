"""What must hold of every set: ids that tell things apart, and judgements about its own questions and pages."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation.metrics import relevant_pages
from visrag_integrations.evaluation.sets import EvaluationSet, page_key

logger = logging.getLogger(__name__)


def checked(found: EvaluationSet, source: str) -> EvaluationSet:
    """The set, if questions have ids of their own and judgements are about them and about its pages."""
    if not found.questions and found.qrels:
        raise DatasetError(source, "holds no question that is judged.")
    if not found.questions:
        raise DatasetError(source, "holds no question.")
    # Results are kept by id: of two questions with one id, one would take the other's place.
    ids = Counter(question.id for question in found.questions)
    twice, count = ids.most_common(1)[0]
    if count > 1:
        raise DatasetError(source, f"has {count} questions with the id {twice!r}; ids must differ.")
    qrels = {question: judged for question, judged in found.qrels.items() if question in ids}
    if found.qrels and not qrels:
        one = next(iter(found.qrels))
        other = next(iter(ids))
        raise DatasetError(source, f"its judgements are about other questions: there is {one!r}, and not {other!r}.")
    if found.pages:
        known = {page_key(page) for page in found.pages}
        _check_candidates(found, known, source)
        missing = missing_pages(qrels, known)
        if missing:
            logger.warning("%s: %s", source, told(missing))
    return replace(found, qrels=qrels)


def missing_pages(qrels: Mapping[str, Mapping[str, int]], known: set[str]) -> list[str]:
    """The relevant pages that the corpus lacks, once for each question: they can never be found."""
    missing: list[str] = []
    for judged in qrels.values():
        for page in relevant_pages(judged):
            if page not in known:
                missing.append(page)
    return missing


def told(missing: list[str]) -> str:
    """Missing pages in words: each of them lowers every score."""
    examples = ", ".join(map(repr, missing[:3]))
    return f"{len(missing)} relevant pages are not in the corpus and can never be found: {examples}"


def warn_of_contradictions(source: str, judgements: Sequence[str]) -> None:
    """Log judgements that are there twice with different grades.

    mteb takes the last one too: numbers stay comparable, and somebody should look at the set.
    """
    if judgements:
        logger.warning(
            "%s: %d judgements contradict an earlier one, and the last counts: %s",
            source, len(judgements), ", ".join(judgements[:3]),
        )  # fmt: skip


def _check_candidates(found: EvaluationSet, known: set[str], source: str) -> None:
    """Refuse candidates that are no pages: the search would be over fewer pages than the set says."""
    outside = 0
    # One tuple may stand for thousands of questions.
    seen: set[int] = set()
    for question in found.questions:
        if question.candidates is None:
            continue
        if id(question.candidates) not in seen:
            seen.add(id(question.candidates))
            for page in question.candidates:
                if page not in known:
                    raise DatasetError(
                        source, f"question {question.id!r} has the candidate {page!r}, which is not in the corpus."
                    )
        candidates = set(question.candidates)
        for page in relevant_pages(found.qrels.get(question.id, {})):
            outside += page not in candidates
    if outside:
        logger.warning("%s: %d relevant pages are not among the candidates of their questions", source, outside)
