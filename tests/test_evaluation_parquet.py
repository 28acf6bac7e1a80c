"""Sets in parquet files, as the hub has them: pictures are opened when needed, and the hub's own package agrees."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from visrag_integrations.errors import DatasetError, PictureError
from visrag_integrations.evaluation import Question, load_evaluation_set, page_key
from visrag_integrations.evaluation.hub import hub_tables
from visrag_integrations.types import Page

COLOURS = {"37313.jpeg": (255, 0, 0), "36966.jpeg": (0, 255, 0), "a b.jpeg": (0, 0, 255)}


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


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
    tables = hub_tables(str(visrag), "test")
    corpus, queries, qrels = (tables.rows(name) for name in ("corpus", "queries", "qrels"))
    assert [row["corpus-id"] for row in corpus] == list(COLOURS)
    assert Image.open(io.BytesIO(corpus[1]["image"]())).getpixel((0, 0)) == (0, 255, 0)
    assert [row["query"] for row in queries] == ["How many?", "Which?"]
    assert qrels[0]["corpus-id"] == "37313.jpeg"
    with pytest.raises(DatasetError, match="the hub gives no data set of that name"):
        load_evaluation_set("nobody/nothing-at-all")


def test_a_table_of_the_hub_that_cannot_be_read_is_no_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names were listed; it is the rows that the net, the disk or the file does not give."""

    def broken(*names: str, **options: str) -> None:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: ["corpus"])
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: ["test"])
    monkeypatch.setattr(datasets, "load_dataset", broken)
    tables = hub_tables("org/there", "test")
    with pytest.raises(DatasetError, match=r"its table corpus cannot be read \(ConnectionError: the line is dead\)"):
        tables.rows("corpus")


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


@pytest.mark.parametrize("picture", ["../secret.png", "/etc/passwd", "link/../../x.png", "http://127.0.0.1/x.png"])
def test_pictures_outside_the_folder_are_refused(picture: str, tmp_path: Path) -> None:
    for value in (picture, [picture], {"path": picture}):
        write_parquet(tmp_path / "one.parquet", [{"query": "?", "image": value, "image_filename": "x"}])
        with pytest.raises(DatasetError, match=r"It is refused|not fetched"):
            load_evaluation_set(tmp_path / "one.parquet")


def test_a_row_without_bytes_opens_no_file(tmp_path: Path) -> None:
    """Whatever path stands beside them."""
    (tmp_path / "x.png").write_bytes(png((1, 1, 1)))
    rows = [
        {"query": "?", "image": {"bytes": b, "path": str(tmp_path / "x.png")}, "image_filename": "x"}
        for b in (b"", None)
    ]
    for number, row in enumerate(rows):
        schema = pa.schema(
            [
                ("query", pa.string()),
                ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                ("image_filename", pa.string()),
            ]
        )
        pq.write_table(pa.Table.from_pylist([row], schema=schema), tmp_path / f"{number}.parquet")
        with pytest.raises(PictureError):
            load_evaluation_set(tmp_path / f"{number}.parquet").pages[0].open_image()


def test_the_split_that_is_wanted_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("test", "train", "testing"):
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", [{"query": split, "answer": "x"}])
    assert [question.text for question in load_evaluation_set(tmp_path).questions] == ["test"]
    assert [question.text for question in load_evaluation_set(tmp_path, split="train").questions] == ["train"]
    assert "so those of all" not in caplog.text
    assert len(load_evaluation_set(tmp_path, split="dev").questions) == 3
    assert "no file is of split 'dev', so those of all splits are read: test, testing, train" in caplog.text


def test_broken_parquet_is_refused(visrag: Path) -> None:
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
