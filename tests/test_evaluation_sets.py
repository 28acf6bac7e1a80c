"""Sets in the published layouts, written here as their cards describe them; bad files are refused by name."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from visrag_integrations.errors import DatasetError, PictureError, SettingError
from visrag_integrations.evaluation import EvaluationSet, Question, load_evaluation_set, page_key
from visrag_integrations.evaluation.hub import hub_tables
from visrag_integrations.types import Page

COLOURS = {"37313.jpeg": (255, 0, 0), "36966.jpeg": (0, 255, 0), "a b.jpeg": (0, 0, 255)}


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


def colour_of(page: Page) -> Any:
    return page.open_image().convert("RGB").getpixel((4, 4))


@pytest.fixture
def visrag(tmp_path: Path) -> Path:
    """As VisRAG-Ret-Test sets are: three tables of parquet; the corpus in two files, one of two row groups."""
    folder = tmp_path / "VisRAG-Ret-Test-PlotQA"
    corpus = [{"corpus-id": name, "image": {"bytes": png(colour), "path": None}} for name, colour in COLOURS.items()]
    write_parquet(folder / "corpus" / "train-00000-of-00002.parquet", corpus[:2], row_group_size=1)
    write_parquet(folder / "corpus" / "train-00001-of-00002.parquet", corpus[2:])
    queries = [
        {"query-id": "37313.jpeg-1", "query": "How many?", "answer": "7", "options": [], "is_numerical": 1},
        {"query-id": "36966.jpeg-1", "query": "Which?", "answer": "B", "options": ["A. x", "B. y"], "is_numerical": 0},
    ]
    write_parquet(folder / "queries" / "train-00000-of-00001.parquet", queries)
    qrels = [{"query-id": q["query-id"], "corpus-id": q["query-id"][:-2], "score": 1} for q in queries]
    write_parquet(folder / "qrels" / "train-00000-of-00001.parquet", qrels)
    return folder


def test_visrag_layout(visrag: Path) -> None:
    found = load_evaluation_set(visrag)
    assert found.name == "VisRAG-Ret-Test-PlotQA"
    assert [question.id for question in found.questions] == ["37313.jpeg-1", "36966.jpeg-1"]
    assert found.questions[0] == Question("37313.jpeg-1", "How many?", answers=("7",), numeric=True)
    assert found.questions[1].options == ("A. x", "B. y")
    assert found.questions[1].numeric is False
    assert found.qrels == {"37313.jpeg-1": {"37313.jpeg": 1}, "36966.jpeg-1": {"36966.jpeg": 1}}
    assert [page_key(page) for page in found.pages] == list(COLOURS)
    assert [colour_of(page) for page in reversed(found.pages)] == list(reversed(COLOURS.values()))
    assert len({page.id for page in found.pages}) == 3


def test_visrag_layout_with_qrels_as_tsv(visrag: Path) -> None:
    (visrag / "qrels" / "train-00000-of-00001.parquet").unlink()
    (visrag / "qrels" / "plotqa-eval-qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n37313.jpeg-1\ta b.jpeg\t2\n36966.jpeg-1\t36966.jpeg\t0\n", encoding="utf-8"
    )
    assert load_evaluation_set(visrag).qrels == {"37313.jpeg-1": {"a b.jpeg": 2}, "36966.jpeg-1": {"36966.jpeg": 0}}


def test_pictures_are_opened_when_needed(visrag: Path) -> None:
    found = load_evaluation_set(visrag)
    (visrag / "corpus" / "train-00000-of-00002.parquet").write_bytes(b"gone")
    with pytest.raises(PictureError, match="cannot be read any more"):
        found.pages[0].open_image()
    assert colour_of(found.pages[2]) == (0, 0, 255)


def test_by_the_hubs_own_package(visrag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` finds a folder as it finds a name: the same three tables, pictures decoded by us."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    card = "configs:\n" + "".join(
        f"- config_name: {table}\n  data_files:\n  - split: train\n    path: {table}/train-*\n"
        for table in ("corpus", "qrels", "queries")
    )
    (visrag / "README.md").write_text(f"---\n{card}---\n", encoding="utf-8")
    datasets.disable_progress_bars()
    corpus, queries, qrels = hub_tables(str(visrag), "test")
    assert [row["corpus-id"] for row in corpus] == list(COLOURS)
    assert Image.open(io.BytesIO(corpus[1]["image"]())).getpixel((0, 0)) == (0, 255, 0)
    assert [row["query"] for row in queries] == ["How many?", "Which?"]
    assert qrels[0]["corpus-id"] == "37313.jpeg"
    with pytest.raises(DatasetError, match="the hub gives no data set of that name"):
        load_evaluation_set("nobody/nothing-at-all")


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
        assert [page_key(page) for page in first.pages] == ["3.png", "1.png", "2.png"]
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


def test_one_table_with_pictures(tmp_path: Path) -> None:
    """As ViDoRe's sets are: a row is a page, and a question about it where there is one."""
    rows = [
        {
            "query": q,
            "image": {"bytes": png((n, 0, 0)), "path": None},
            "image_filename": f"{n}.png",
            "page": "3",
            "answer": a,
        }
        for q, n, a in [("One?", 1, "1"), ("Two?", 2, "2"), ("Two again?", 2, "2"), (None, 3, None)]
    ]
    write_parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", rows)
    found = load_evaluation_set(tmp_path / "set")
    assert [question.text for question in found.questions] == ["One?", "Two?", "Two again?"]
    assert [page_key(page) for page in found.pages] == ["1.png", "2.png", "3.png"]
    assert found.qrels == {"q1": {"1.png": 1}, "q2": {"2.png": 1}, "q3": {"2.png": 1}}
    assert colour_of(found.pages[1]) == (2, 0, 0)


def test_saved_sets_come_back(tmp_path: Path) -> None:
    questions = (
        Question("1", "Frage?\u2028Ja", answers=("a", "b"), options=("x", "y"), numeric=False, group="g"),
        Question("2", "二?", answerable=False),
    )
    made = EvaluationSet("made", questions, {"1": {"x.pdf#page=1": 1, "y": 0}})
    made.save(tmp_path / "made.jsonl")
    assert load_evaluation_set(tmp_path / "made.jsonl") == made
    assert made.first(1).qrels == made.qrels
    assert made.first(1).questions == questions[:1]
    with pytest.raises(SettingError, match="cannot be written"):
        made.save(tmp_path)


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
    write_parquet(tmp_path / "set" / "one.parquet", [{"query": "?", "image": picture, "image_filename": "x"}])
    with pytest.raises(DatasetError, match="It is refused"):
        load_evaluation_set(tmp_path / "set" / "one.parquet")


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


def test_bad_folders_are_refused(visrag: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no layout that is known\. A set is a folder with corpus/"):
        load_evaluation_set(tmp_path / "empty")
    with pytest.raises(DatasetError, match="no such file or folder"):
        load_evaluation_set(tmp_path / "nowhere" / "at" / "all")
    (tmp_path / "x.csv").write_text("a", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"of no kind that holds rows: \.jsonl"):
        load_evaluation_set(tmp_path / "x.csv")
    (tmp_path / "latin.jsonl").write_bytes('{"query": "é"}'.encode("latin-1"))
    with pytest.raises(DatasetError, match="no UTF-8 text"):
        load_evaluation_set(tmp_path / "latin.jsonl")
    (visrag / "queries" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DatasetError, match="no parquet file that can be read"):
        load_evaluation_set(visrag)


def test_judgements_must_fit(visrag: Path, caplog: pytest.LogCaptureFixture) -> None:
    qrels = visrag / "qrels" / "train-00000-of-00001.parquet"
    write_parquet(qrels, [{"query-id": "37313.jpeg-1", "corpus-id": "lost.png", "score": 1}])
    assert load_evaluation_set(visrag).qrels == {"37313.jpeg-1": {"lost.png": 1}}
    assert "1 relevant pages are not in the corpus and can never be found: 'lost.png'" in caplog.text
    write_parquet(qrels, [{"query-id": "of another set", "corpus-id": "36966.jpeg", "score": 1}])
    with pytest.raises(DatasetError, match="about other questions"):
        load_evaluation_set(visrag)
    write_parquet(qrels, [{"question": "37313.jpeg-1", "corpus-id": "36966.jpeg", "score": 1}])
    with pytest.raises(DatasetError, match="lacks query-id or corpus-id; it has question, corpus-id, score"):
        load_evaluation_set(visrag)
