"""VRAG's own layouts of questions, read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation import EvaluationSet, Question, load_evaluation_set
from visrag_integrations.evaluation.vrag_sets import load_rag_dataset, write_vrag_parquet

EXAMPLE = {
    "uid": "04d8bb0db929110f204723c56e5386c1d8d21587_2",
    "query": "What is the temperature of Steam explosion of Pretreatment for Switchgrass?",
    "reference_answer": "195-205 Centigrade",
    "meta_info": {"file_name": "Pretreatment.pdf", "reference_page": [10, 11], "query_type": "Single-Hop"},
}


def written(folder: Path, *examples: Any) -> Path:
    path = folder / "rag_dataset.json"
    path.write_text(json.dumps({"examples": list(examples)}), encoding="utf-8")
    return path


def changed(**values: Any) -> dict[str, Any]:
    return {**EXAMPLE, "uid": "other", **values}


def test_rag_dataset_json_is_a_set(tmp_path: Path) -> None:
    second = changed(reference_answer=["a", 7], meta_info={"file_name": "x/B.pdf", "reference_page": 3})
    found = load_evaluation_set(written(tmp_path, EXAMPLE, second))
    first, other = found.questions
    assert (first.id, first.text, first.answers) == (EXAMPLE["uid"], EXAMPLE["query"], ("195-205 Centigrade",))
    assert first.group == "Single-Hop"
    assert other.answers == ("a", "7")
    assert found.qrels == {
        first.id: {"Pretreatment.pdf#page=10": 1, "Pretreatment.pdf#page=11": 1},
        "other": {"B.pdf#page=3": 1},
    }


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ([changed(query=7)], "its question is 7"),
        ([changed(query="  ")], "its question is"),
        ([EXAMPLE, EXAMPLE], "was there before"),
        ([changed(meta_info={"file_name": None, "reference_page": [1]})], "its file_name is None"),
        ([changed(meta_info={"file_name": "a.pdf", "reference_page": ["one"]})], "reference_page holds 'one'"),
        ([changed(reference_answer={"a": 1})], "an answer of it is"),
        ([7], "it is no JSON object"),
        ([], "holds no"),
    ],
)
def test_a_broken_example_is_named(tmp_path: Path, examples: list[Any], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        load_rag_dataset(written(tmp_path, *examples))


def test_a_question_without_pages_is_not_judged(tmp_path: Path) -> None:
    """An empty judgement would count 0 in every retrieval metric, whatever was found."""
    unjudged = changed(meta_info={"file_name": "a.pdf", "reference_page": []}, query=" How many? ")
    found = load_evaluation_set(written(tmp_path, EXAMPLE, unjudged))
    assert list(found.qrels) == [EXAMPLE["uid"]]
    assert found.questions[1].text == "How many?"  # as in every other layout: without the blanks around it
    with pytest.raises(DatasetError, match="was there before"):
        load_evaluation_set(written(tmp_path, unjudged, unjudged))


@pytest.mark.parametrize("text", ["", "[1]", '{"examples": 3}', "{" * 5])
def test_a_file_of_another_kind_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rag_dataset.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"rag_dataset\.json"):
        load_evaluation_set(path)


def test_the_parquet_is_read_as_it_was_written(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    questions = (Question("q1", "How many?", answers=("40", "forty")), Question("q2", "Who?", answers=("Ada",)))
    made = EvaluationSet("train", questions, {"q1": {"a.pdf#page=3": 1, "a.pdf#page=1": 1}, "q2": {"b.pdf#page=2": 1}})
    write_vrag_parquet(made, tmp_path / "train.parquet")
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    # The published columns, by their names.
    columns = "data_source prompt ability reward_model extra_info id file_name reference_page"
    assert list(rows[0]) == columns.split()
    assert rows[0]["reward_model"] == {"style": "rule", "ground_truth": "40"}
    assert (rows[0]["file_name"], rows[0]["reference_page"]) == ("a.pdf", [1, 3])
    assert rows[0]["prompt"][0]["content"].endswith("Question: How many?")
    found = load_evaluation_set(tmp_path / "train.parquet")
    assert found.questions == questions
    assert found.qrels == made.qrels


def test_the_parquet_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train.parquet"
    made = EvaluationSet("train", (Question("q", "Who?", answers=("Ada",)),), {"q": {"b.pdf#page=2": 1}})
    write_vrag_parquet(made, path)
    before = path.read_bytes()

    def full_disk(table: Any, where: Path) -> None:
        Path(where).write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(SettingError, match="No space left"):
        write_vrag_parquet(made, path)
    assert path.read_bytes() == before


def test_what_the_parquet_has_no_place_for_is_refused(tmp_path: Path) -> None:
    question = (Question("q", "How many?", answers=("40",)),)
    for qrels in ({}, {"q": {"a.pdf#page=1": 1, "b.pdf#page=1": 1}}, {"q": {"37313.jpeg": 1}}):
        with pytest.raises(DatasetError, match="question 'q'"):
            write_vrag_parquet(EvaluationSet("s", question, qrels), tmp_path / "t.parquet")
    silent = EvaluationSet("s", (Question("q", "How many?"),), {"q": {"a.pdf#page=1": 1}})
    with pytest.raises(DatasetError, match="no answer"):
        write_vrag_parquet(silent, tmp_path / "t.parquet")
