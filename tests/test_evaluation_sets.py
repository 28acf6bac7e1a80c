"""Sets in the published layouts, written here as their cards describe them; bad files are refused by name."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation import EvaluationSet, PageBox, Question, load_evaluation_set, page_key
from visrag_integrations.evaluation.rows import question_of
from visrag_integrations.evaluation.tables import read_rows
from visrag_integrations.types import Page


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def colour_of(page: Page) -> Any:
    return page.open_image().convert("RGB").getpixel((4, 4))


def test_evisrag_layout(tmp_path: Path) -> None:
    folder = tmp_path / "EVisRAG-Test-ChartQA"
    (folder / "images").mkdir(parents=True)
    for number in (1, 2, 3):
        (folder / "images" / f"{number}.png").write_bytes(png((number, 0, 0)))
    images = [f"images/{number}.png" for number in (3, 1, 2)]
    write_jsonl(
        folder / "top3_test.jsonl",
        [
            {"qid": 7, "query": "How many?", "image": images, "answer": ["7", "seven"], "is_sufficient": True},
            {"qid": "x", "query": "Who?", "image": images, "answer": ["Ada"], "is_sufficient": False},
        ],
    )
    for source in (folder, folder / "top3_test.jsonl"):
        found = load_evaluation_set(source)
        assert found.name == "EVisRAG-Test-ChartQA"
        first, second = found.questions
        assert (first.id, first.answers, first.answerable, first.group) == ("7", ("7", "seven"), True, "answerable")
        assert (second.answerable, second.group) == (False, "unanswerable")
        assert [page_key(page) for page in first.pages] == ["images/3.png", "images/1.png", "images/2.png"]
        assert [colour_of(page)[0] for page in first.pages] == [3, 1, 2]
        assert not found.pages


def test_beir_layout_with_texts_and_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    (folder / "p1.png").write_bytes(png((9, 9, 9)))
    url = f"data:image/png;base64,{base64.b64encode(png((1, 2, 3))).decode()}"
    corpus = [
        {"_id": "p1", "title": "Boats", "text": "Forty.", "image": "p1.png"},
        {"_id": "p2", "text": "Bread", "metadata": {}},
        {"_id": "p3", "image": url},
    ]
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "queries.jsonl", [{"_id": "q1", "text": "boats?"}, {"_id": "q2", "text": "of the training"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tp1\t2\nq1\tp2\t0\n", encoding="utf-8")
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq2\tp2\t1\n", encoding="utf-8")
    found = load_evaluation_set(folder)
    assert [question.id for question in found.questions] == ["q1"]
    assert found.qrels == {"q1": {"p1": 2, "p2": 0}}
    assert [page.text for page in found.pages] == ["Boats\nForty.", "Bread", ""]
    assert colour_of(found.pages[0]) == (9, 9, 9)
    assert colour_of(found.pages[2]) == (1, 2, 3)
    assert [question.id for question in load_evaluation_set(folder, split="train").questions] == ["q2"]
    with pytest.raises(DatasetError, match="no judgements of split 'dev'; there are: test, train"):
        load_evaluation_set(folder, split="dev")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq9\tp2\t1\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="holds no question that is judged"):
        load_evaluation_set(folder, split="dev")


def test_questions_about_documents_elsewhere(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "mine.jsonl",
        [
            {"query": "Wie viele?", "source": "docs/Bericht 1.pdf", "page": 3, "kind": "words"},
            {"id": "b", "question": "Who?", "source": "x.pdf", "page": [1, 2], "answer": "Ada"},
            {"id": "c", "query": "And?", "relevant": {"x.pdf#page=4": 2}, "answers": ["y", "z"]},
        ],
    )
    found = load_evaluation_set(path)
    assert found.name == "mine"
    assert [question.id for question in found.questions] == ["q1", "b", "c"]
    assert found.questions[0].group == "words"
    assert found.questions[1].answers == ("Ada",)
    assert found.qrels == {
        "q1": {"Bericht 1.pdf#page=3": 1}, "b": {"x.pdf#page=1": 1, "x.pdf#page=2": 1}, "c": {"x.pdf#page=4": 2},
    }  # fmt: skip
    assert page_key(Page("sha", 3, source="C:\\else\\Bericht 1.pdf")) == "Bericht 1.pdf#page=3"
    assert page_key(Page("sha", 3)) == "sha#page=3"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("False", False),
        ("no", False),
        ("0", False),
        (0.0, False),
        ("TRUE", True),
        (" yes ", True),
        (1, True),
        (True, True),
    ],
)
def test_truth_values_are_read_as_they_are_meant(written: object, read: bool, tmp_path: Path) -> None:
    """In tables of text "False" is no empty text, and so would be true."""
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"query": "?", "answerable": written, "numeric": written}), encoding="utf-8")
    (question,) = load_evaluation_set(path).questions
    assert (question.answerable, question.numeric) == (read, read)


def test_an_empty_cell_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_text("query\tanswerable\tnumeric\nWho?\t\t\nWhy?\tFalse\t1\n", encoding="utf-8")
    questions = [question_of(row, "queries", number) for number, row in enumerate(read_rows(path, tmp_path), 1)]
    assert [(question.answerable, question.numeric) for question in questions] == [(True, None), (False, True)]


def test_nan_says_nothing(tmp_path: Path) -> None:
    """As pandas writes a cell without a value, into parquet and into JSON."""
    rows = [
        {"query": "Who?", "answerable": math.nan, "numeric": math.nan},
        {"query": "Why?", "answerable": 0.0, "numeric": 1.0},
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    expected = [(True, None), (False, True)]
    assert [(question.answerable, question.numeric) for question in load_evaluation_set(path).questions] == expected
    read = [question_of(row, "a table", number) for number, row in enumerate(rows, 1)]
    assert [(question.answerable, question.numeric) for question in read] == expected


@pytest.mark.parametrize("written", ["maybe", 2, [], {"a": 1}])
def test_what_is_no_truth_value_is_refused(written: object, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"query": "?", "answerable": written}), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"row 1.*answerable is .*; it must be true or false"):
        load_evaluation_set(path)


def test_saved_sets_come_back(tmp_path: Path) -> None:
    questions = (
        Question("1", "Frage?\u2028Ja", answers=("a", "b"), options=("x", "y"), numeric=False, group="g"),
        Question("2", "二?", answerable=False),
        Question("3", "Where?", boxes=(PageBox("x.pdf#page=1", 0.1, 0.2, 0.5, 0.25), PageBox("y", -0.01, 0, 1.01, 1))),
    )
    made = EvaluationSet("made", questions, {"1": {"x.pdf#page=1": 1, "y": 0}})
    made.save(tmp_path / "made.jsonl")
    assert load_evaluation_set(tmp_path / "made.jsonl") == made
    assert made.first(1).qrels == made.qrels
    assert made.first(1).questions == questions[:1]
    with pytest.raises(SettingError, match="cannot be written"):
        made.save(tmp_path)


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ("[0, 0, 1, 1]", "they are a list of"),
        ([[0.1, 0.1, 0.2, 0.2]], "it is [page key, left, top, right, bottom]"),
        ([["p", 0.1, 0.1, 0.2, "wide"]], "it is [page key"),
        ([7], "it is [page key"),
        ([["p", 0, 0, 300, 200]], "fractions of it, from 0 to 1, not pixels"),
        ([["p", 0.1, 0.1, float("nan"), 0.2]], "is not on its page"),
        ([["p", 1.2, 0.1, 1.4, 0.2]], "is not on its page"),
        ([["p", -0.4, 0.1, 0.0, 0.2]], "is not on its page"),
    ],
)
def test_boxes_that_are_none(boxes: object, said: str, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(json.dumps({"query": "Where?", "boxes": boxes}) + "\n")
    with pytest.raises(DatasetError, match=re.escape(said)):
        load_evaluation_set(tmp_path / "set.jsonl")


@pytest.mark.parametrize(
    "picture",
    ["../secret.png", "/etc/passwd", "a/../../secret.png", "..\\secret.png", "C:\\x.png", "link.png", "x\0.png", ""],
)
def test_pictures_outside_the_folder_are_refused(picture: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png((1, 1, 1)))
    (tmp_path / "set").mkdir()
    os.symlink(tmp_path / "secret.png", tmp_path / "set" / "link.png")
    row = {"qid": "1", "query": "?", "image": [picture], "answer": ["x"], "is_sufficient": True}
    path = write_jsonl(tmp_path / "set" / "top3_test.jsonl", [row])
    with pytest.raises(DatasetError, match="It is refused"):
        load_evaluation_set(path)


def test_pictures_of_the_net_are_not_fetched(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"query": "?", "image": ["http://127.0.0.1/x.png"]}])
    with pytest.raises(DatasetError, match="not fetched"):
        load_evaluation_set(path)


def test_a_hub_cache_may_link_to_its_own_files(tmp_path: Path) -> None:
    """There a snapshot holds links to ../../blobs."""
    snapshot = tmp_path / "datasets--x--y" / "snapshots" / "abc"
    (snapshot / "images").mkdir(parents=True)
    blobs = tmp_path / "datasets--x--y" / "blobs"
    blobs.mkdir()
    (blobs / "123").write_bytes(png((5, 5, 5)))
    os.symlink("../../../blobs/123", snapshot / "images" / "1.png")
    row = {"qid": "1", "query": "?", "image": ["images/1.png"], "answer": ["x"], "is_sufficient": True}
    write_jsonl(snapshot / "top3_test.jsonl", [row])
    assert colour_of(load_evaluation_set(snapshot).questions[0].pages[0]) == (5, 5, 5)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no question"),
        ("\n\n", "holds no question"),
        ('{"query": "a", "source": "x", "page": 1}\n{"query": ', "line 2 is no JSON"),
        ("[1]\n", "line 1 is list, not a JSON object"),
        ('{"text_of_it": "a"}\n', "row 1: has no question"),
        ('{"query": " "}\n', "has no question"),
        ('{"query": "a", "source": "x"}\n', "page is None; it must be a whole number"),
        ('{"query": "a", "source": "x", "page": "three"}\n', "page is 'three'"),
        ('{"query": "a", "source": "x", "page": 1.5}\n', "page is 1.5"),
        ('{"query": "a", "relevant": {"k": true}}\n', "the grade is True"),
        ('{"id": "1", "query": "a"}\n{"id": "1", "query": "b"}\n', "2 questions with the id '1'"),
        ('{"query": "a", "answer": {"text": ["b"]}}\n', "is dict; answers, options and page keys are texts"),
        ("[" * 100_000 + "\n", "line 1 is no JSON"),
    ],
)
def test_bad_files_are_refused_by_name(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        load_evaluation_set(path)
    assert says in str(caught.value)
    assert "bad" in str(caught.value)


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no layout that is known\. A set is a folder with corpus/"):
        load_evaluation_set(tmp_path / "empty")
    with pytest.raises(DatasetError, match="no such file or folder"):
        load_evaluation_set(tmp_path / "nowhere" / "at" / "all")
    (tmp_path / "x.csv").write_text("a", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"this type of file holds no rows. Supported: \.jsonl"):
        load_evaluation_set(tmp_path / "x.csv")
    (tmp_path / "latin.jsonl").write_bytes('{"query": "é"}'.encode("latin-1"))
    with pytest.raises(DatasetError, match="no UTF-8 text"):
        load_evaluation_set(tmp_path / "latin.jsonl")
