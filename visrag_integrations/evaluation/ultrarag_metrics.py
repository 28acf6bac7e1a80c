"""UltraRAG's answer metrics: the rules of its evaluation server, for numbers that can be compared with its own."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping

from visrag_integrations.evaluation.sets import Question

_ARTICLE = re.compile(r"\b(a|an|the)\b")
# Its rule puts a space where a mark was, so that "U.S." is two words; ours, EVisRAG's, takes the mark out.
_SPACED = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_TRUTH_WORDS = {"True": "yes", "False": "no"}


def ultrarag_normalized(text: str) -> str:
    """How UltraRAG compares: lower case, marks and underscores become spaces, articles go; "True" is "yes".

    >>> ultrarag_normalized("The U.S. -  net_total,"), ultrarag_normalized("True")
    ('u s net total', 'yes')
    """
    text = _TRUTH_WORDS.get(text, text)
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_SPACED)).split())


def ultrarag_acc(answer: str, question: Question) -> float:
    """`acc`: the answer contains one of the right answers, be it inside a word."""
    given = ultrarag_normalized(answer)
    if not given:
        return 0.0
    return float(any(truth in given for truth in _truths(question)))


def ultrarag_em(answer: str, question: Question) -> float:
    """`em`: the answer is one of the right answers."""
    return float(ultrarag_normalized(answer) in _truths(question))


def ultrarag_coverem(answer: str, question: Question) -> float:
    """`coverem`: the answer has every word of one of the right answers."""
    given = set(ultrarag_normalized(answer).split())
    return float(any(set(truth.split()) <= given for truth in _truths(question)))


def ultrarag_stringem(answer: str, question: Question) -> float:
    """`stringem`: the share of the right answers that are the answer."""
    truths = _truths(question)
    if not truths:
        return 0.0
    return truths.count(ultrarag_normalized(answer)) / len(truths)


def ultrarag_f1(answer: str, question: Question) -> float:
    """`f1`: shared words, against the right answer that fits best."""
    given = ultrarag_normalized(answer).split()
    best = 0.0
    for truth in _truths(question):
        wanted = truth.split()
        same = (Counter(given) & Counter(wanted)).total()
        if same:
            best = max(best, 2 * same / (len(given) + len(wanted)))
    return best


def _truths(question: Question) -> list[str]:
    """The right answers as UltraRAG compares them; it knows no unanswerable questions."""
    return [ultrarag_normalized(truth) for truth in question.answers]


ULTRARAG_METRICS: Mapping[str, Callable[[str, Question], float]] = {
    "ultrarag-acc": ultrarag_acc,
    "ultrarag-em": ultrarag_em,
    "ultrarag-coverem": ultrarag_coverem,
    "ultrarag-stringem": ultrarag_stringem,
    "ultrarag-f1": ultrarag_f1,
}
"""Name -> rule; for `ANSWER_METRICS`."""
