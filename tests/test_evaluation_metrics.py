"""Retrieval metrics, TREC files and statistics against what can be counted by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visrag_integrations.errors import DatasetError, SettingError, UnknownNameError
from visrag_integrations.evaluation.metrics import evaluate_run, mean_metrics, ranked
from visrag_integrations.evaluation.statistics import bootstrap_interval, compare, randomisation_test
from visrag_integrations.evaluation.trec import read_qrels, read_run, write_qrels, write_run


def test_by_hand() -> None:
    run = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "unjudged": {"a": 1.0}}
    qrels = {"q": {"b": 2, "c": 1, "d": 1, "a": 0}, "missing": {"a": 1}, "none": {"a": 0}}
    scores = evaluate_run(run, qrels, ["MRR@10", "recall@2", "nDCG@3", "hit@1"])
    assert list(scores) == ["q", "missing", "none"]
    assert scores["q"]["MRR@10"] == 1 / 2
    assert scores["q"]["recall@2"] == 1 / 3
    gained = 2 / math.log2(3) + 1 / math.log2(4)
    assert scores["q"]["nDCG@3"] == gained / (2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4))
    assert scores["q"]["hit@1"] == 0.0
    assert set(scores["missing"].values()) == {0.0}
    assert set(scores["none"].values()) == {0.0}
    assert mean_metrics(scores)["MRR@10"] == (1 / 2) / 3
    assert mean_metrics({}) == {}


@pytest.mark.parametrize("metric", ["mrr", "mrr@0", "mrr@-1", "map@10", "@", "", "recall@²", "recall@1.5"])
def test_unknown_metrics_are_refused(metric: str) -> None:
    with pytest.raises(UnknownNameError, match="mrr@K, recall@K, ndcg@K, hit@K"):
        evaluate_run({}, {}, [metric])


def test_nan_scores_are_refused() -> None:
    with pytest.raises(SettingError, match="'q7' is not a number"):
        evaluate_run({"q7": {"a": math.nan}}, {"q7": {"a": 1}})
    assert ranked({"a": math.inf, "b": 1e300, "c": -math.inf}) == ["b", "a", "c"]  # 1e300 is inf in single precision


writable = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    run=st.dictionaries(
        writable, st.dictionaries(writable, st.floats(allow_nan=False, allow_infinity=False), min_size=1), max_size=3
    )
)
def test_runs_come_back_as_they_were(
    run: dict[str, dict[str, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run") / "run.trec"
    write_run({f"q{query}": pages for query, pages in run.items()}, path)  # a file may not begin with a byte order mark
    assert read_run(path) == {f"q{query}": pages for query, pages in run.items()}


def test_trec_files_of_others(tmp_path: Path) -> None:
    run = tmp_path / "run.trec"
    run.write_text("q1 Q0 d1 1 0.5 name\nq1  Q0  d2  2 4e-1  name\r\n\nq 2\td 3\t7\n", encoding="utf-8")
    assert read_run(run) == {"q1": {"d1": 0.5, "d2": 0.4}, "q 2": {"d 3": 7.0}}
    qrels = tmp_path / "test.tsv"
    qrels.write_text("\ufeffquery-id\tcorpus-id\tscore\nq 1\tö.jpg\t1\n", encoding="utf-8")
    assert read_qrels(qrels) == {"q 1": {"ö.jpg": 1}}
    qrels.write_text("q1 0 d1 2\nq1 0 d2 0\n", encoding="utf-8")
    assert read_qrels(qrels) == {"q1": {"d1": 2, "d2": 0}}
    write_qrels({"q 1": {"a b": 3}}, qrels)
    assert read_qrels(qrels) == {"q 1": {"a b": 3}}


def test_judgements_of_a_file_that_contradict_each_other_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    qrels = tmp_path / "qrels"
    qrels.write_text("q1 0 d1 2\nq1 0 d1 2\nq2 0 d1 1\n", encoding="utf-8")
    assert read_qrels(qrels) == {"q1": {"d1": 2}, "q2": {"d1": 1}}
    assert caplog.text == ""
    qrels.write_text("q1 0 d1 2\nq1 0 d1 0\n", encoding="utf-8")
    assert read_qrels(qrels) == {"q1": {"d1": 0}}
    assert "1 judgements contradict an earlier one, and the last counts: 'd1' for 'q1'" in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"q1 Q0 d1 1 0.5 name\nq1 Q0 d2 2\n", "line 2 has 4 columns"),
        (b"q1 Q0 d1 1 high name\n", "line 1 the score 'high' is no number"),
        (b"q1 Q0 d1 1 nan name\n", "is no number"),
        (b"q1 Q0 d1 1 1 n\nq1 Q0 d1 2 1 n\n", "line 2 page 'd1' was given for query 'q1' before"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
    ],
)
def test_bad_runs_are_refused_by_line(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.trec"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=says) as caught:
        read_run(path)
    assert str(path) in str(caught.value)


def test_bad_qrels_and_ids_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text("q1 0 d1 very\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="grade 'very' is no whole number"):
        read_qrels(path)
    with pytest.raises(DatasetError, match="No such file"):
        read_qrels(tmp_path / "none")
    for id_ in ("", "a\tb", "a\nb"):
        with pytest.raises(SettingError, match="cannot be written to a TREC file"):
            write_run({"q": {id_: 1.0}}, path)
    with pytest.raises(SettingError, match="Name another file"):
        write_run({}, tmp_path)


def test_bootstrap_interval() -> None:
    values = [0.0] * 50 + [1.0] * 50
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert abs(low - (0.5 - 1.96 * 0.05)) < 0.012  # the normal approximation: the standard error is 0.05
    assert abs(high - (0.5 + 1.96 * 0.05)) < 0.012
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert bootstrap_interval([0.25]) == (0.25, 0.25)
    assert bootstrap_interval([0.5] * 10_001, samples=1000) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, 1.0]])
def test_statistics_need_numbers(values: list[float]) -> None:
    with pytest.raises(SettingError, match="finite numbers"):
        bootstrap_interval(values)
    for bad in (0.0, 1.0, 2.0):
        with pytest.raises(SettingError, match="level"):
            bootstrap_interval([1.0], level=bad)


def test_randomisation_test_counts_every_swap() -> None:
    # Differences 3, 1, 2: of the 8 sums of +-3 +-1 +-2 only +6 and -6 are as large as 6.
    assert randomisation_test([3, 1, 2], [0, 0, 0]) == 2 / 8
    # Differences 1, 1, -1: sums +-3 (2 ways), +-1 (6 ways); all are as large as 1.
    assert randomisation_test([1, 1, 0], [0, 0, 1]) == 1.0
    assert randomisation_test([0.1, 0.2], [0.1, 0.2]) == 1.0
    assert randomisation_test([0.1 + 0.2, 0.3], [0.0, 0.0]) == 2 / 4
    many = randomisation_test([1.0] * 30 + [0.0] * 10, [0.0] * 30 + [1.0] * 10)
    assert many == randomisation_test([1.0] * 30 + [0.0] * 10, [0.0] * 30 + [1.0] * 10)
    assert 0.001 < many < 0.005  # binomial: 2 * P(30 or more of 40) = 0.0022
    with pytest.raises(SettingError, match="2 and 1"):
        randomisation_test([1, 2], [1])


def test_compare_two_runs() -> None:
    one = {
        "a": {"m": 1.0, "x": 0.0},
        "b": {"m": 1.0, "x": 0.0},
        "c": {"m": 0.0, "x": 0.0},
        "only": {"m": 9.0, "x": 9.0},
    }
    two = {"a": {"m": 0.0}, "b": {"m": 1.0}, "c": {"m": 0.5}}
    (found,) = compare(one, two)
    assert (found.metric, found.queries, found.wins, found.losses) == ("m", 3, 1, 1)
    assert (found.first, found.second) == (2 / 3, 0.5)
    assert found.difference == 2 / 3 - 0.5
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.p_value == 1.0  # sums of +-1 +-0.5: all four are as large as 0.5
    assert found.as_dict()["interval"] == list(found.interval)
    with pytest.raises(SettingError, match="share no query"):
        compare(one, {"z": {"m": 1.0}})
