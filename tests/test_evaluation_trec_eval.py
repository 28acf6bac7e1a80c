"""Retrieval metrics against pytrec_eval, which is trec_eval itself, on random runs with ties."""

from __future__ import annotations

import numpy as np
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from visrag_integrations.evaluation.metrics import RETRIEVAL_METRICS, evaluate_run

DEPTHS = (1, 2, 3, 5, 10)
THEIRS = {"recall": "recall", "ndcg": "ndcg_cut", "hit": "success"}

ids = st.sampled_from([f"{letter}{number}" for letter in "aBé中" for number in range(4)])
scores = st.one_of(
    st.sampled_from([0.0, -1.0, 0.5, 1.0, 1.0 + 1e-9, 1e-50]),  # ties, also those of single precision
    st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-1e30, max_value=1e30),
)
runs = st.dictionaries(st.sampled_from("pqrs"), st.dictionaries(ids, scores, max_size=14), min_size=1)
qrels_ = st.dictionaries(
    st.sampled_from("pqrst"), st.dictionaries(ids, st.integers(-1, 4), min_size=1, max_size=10), min_size=1
)


def first(run: dict[str, dict[str, float]], depth: int) -> dict[str, dict[str, float]]:
    """The run cut at a depth by pytrec_eval's own ranking, for MRR@k, which it has only without k."""
    kept = {}
    for query, found in run.items():
        singles = [(np.float32(score), page.encode(), page) for page, score in found.items()]
        kept[query] = {page: found[page] for _, _, page in sorted(singles, reverse=True)[:depth]}
    return kept


@settings(max_examples=300, deadline=None)
@given(run=runs, qrels=qrels_)
def test_metrics_equal_pytrec_eval_to_the_last_digit(
    run: dict[str, dict[str, float]], qrels: dict[str, dict[str, int]]
) -> None:
    ours = evaluate_run(run, qrels, [f"{name}@{depth}" for name in RETRIEVAL_METRICS for depth in DEPTHS])
    cuts = ",".join(map(str, DEPTHS))
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {f"{name}.{cuts}" for name in THEIRS.values()}).evaluate(run)
    reciprocal = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"})
    for depth in DEPTHS:
        mrr = reciprocal.evaluate(first(run, depth))
        for query in qrels:
            expected = {name: theirs[query][f"{their}_{depth}"] for name, their in THEIRS.items() if query in theirs}
            expected |= {"mrr": mrr[query]["recip_rank"]} if query in mrr else {}
            expected = expected or dict.fromkeys(RETRIEVAL_METRICS, 0.0)  # what trec_eval -c counts
            for name, value in expected.items():
                assert ours[query][f"{name}@{depth}"] == value, (name, depth)
    assert set(ours) == set(qrels)
