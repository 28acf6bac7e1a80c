"""`visrag eval` as a user meets it: tables, JSON, files, exit codes."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from PIL import Image
from sparse_copies import copy_index

from visrag_integrations.cli import main
from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation import read_answers, read_run

QUESTIONS = [
    {"id": "boats", "query": "how many sailing boats", "source": "boats.pdf", "page": 1, "answer": "forty"},
    {"id": "anchors", "query": "weight of anchors", "source": "boats.pdf", "page": 2, "answer": "two hundred pounds"},
    {
        "id": "bread",
        "query": "how long does the loaf bake",
        "source": "bread.pdf",
        "page": 1,
        "answer": "fifty minutes",
    },
]


def fill(folder: Path) -> Path:
    """Two documents and questions about them."""
    (folder / "docs").mkdir()
    boats = ["The harbour holds forty sailing boats.", "Anchors have a weight of two hundred pounds."]
    draw_pdf(folder / "docs" / "boats.pdf", boats)
    draw_pdf(folder / "docs" / "bread.pdf", ["Bake the sourdough loaf for fifty minutes."])
    write(folder / "questions.jsonl", QUESTIONS)
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the documents, not indexed."""
    monkeypatch.chdir(tmp_path)
    return fill(tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the documents were indexed by the first evaluation."""
    folder = fill(tmp_path_factory.mktemp("filled"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        filling = ("--documents", "docs", "--workers", "1", "--quiet", "--preset", "cpu")
        assert main(["eval", "retrieval", "questions.jsonl", *filling, "--run-out", "run.trec"]) == 0
    return folder


@pytest.fixture
def indexed(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of one's own, with the index of `filled` and the questions."""
    copy_index(filled / ".visrag", tmp_path / ".visrag")
    shutil.copy(filled / "questions.jsonl", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


INDEX = ("--index", ".visrag", "--collection", "eval-questions")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def visrag(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["eval", *arguments])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def test_a_run_that_cannot_be_written_takes_no_numbers_along(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (indexed / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    rows[0]["id"] = "with\ta tab"  # a column more in a TREC file
    lines = [json.dumps(row) + "\n" for row in rows]
    (indexed / "odd.jsonl").write_text("".join(lines), encoding="utf-8")
    code, out, err = visrag(capsys, "retrieval", "odd.jsonl", *INDEX, "--run-out", "run.trec", "--metrics", "mrr@10")
    assert code == 2
    assert "cannot be written to a TREC file" in err
    assert "all        3  1.000" in out


def test_retrieval(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(
        capsys, "retrieval", "questions.jsonl", *INDEX, "--run-out", "run.trec",
        "--per-query", "each.jsonl", "--record", "record.jsonl", "--metrics", "mrr@10, hit@1",
    )  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "questions: embedder ocr, mode hybrid, top_k 10"
    assert lines[1].split() == ["queries", "mrr@10", "hit@1"]
    assert lines[2].startswith("all        3  1.000 [1.000, 1.000]")
    assert set(read_run("run.trec")) == {"boats", "anchors", "bread"}
    each = [json.loads(line) for line in (indexed / "each.jsonl").read_text(encoding="utf-8").splitlines()]
    assert each[1]["metrics"] == {"mrr@10": 1.0, "hit@1": 1.0}
    assert next(iter(each[1]["pages"])) == "boats.pdf#page=2"
    assert each[1]["relevant"] == {"boats.pdf#page=2": 1}

    code, _, err = visrag(capsys, "retrieval", "questions.jsonl", *INDEX, "--record", "record.jsonl", "--mode", "dense")
    assert code == 2
    assert "mode was 'hybrid', is 'dense'" in err


def test_two_runs_are_compared(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shifted = "boats\tQ0\tboats.pdf#page=2\t1\t2.0\tx\nboats\tQ0\tboats.pdf#page=1\t2\t1.0\tx\n"
    (indexed / "other.trec").write_text(shifted, encoding="utf-8")
    compare = ("retrieval", "questions.jsonl", *INDEX, "--compare", "other.trec", "--quiet")
    code, out, err = visrag(capsys, *compare)
    assert code == 0, err
    row = next(line.split() for line in out.splitlines() if line.startswith("mrr@10"))
    assert row[:4] == ["mrr@10", "1.000", "0.167", "+0.833"]  # the other run: 1/2, 0 and 0
    code, out, err = visrag(capsys, *compare, "--json", "--limit", "1", "--html", "report.html")
    values = json.loads(out)
    assert "this run against other.trec" in (indexed / "report.html").read_text(encoding="utf-8")
    assert (values["queries"], values["metrics"]) == (1, {"mrr@10": 1.0, "recall@5": 1.0})
    assert values["comparison"][0]["second"] == 0.5
    assert values["failed"] == []


def test_the_first_run_filled_an_index_of_the_sets_own(filled: Path) -> None:
    assert set(read_run(filled / "run.trec")) == {"boats", "anchors", "bread"}
    assert (filled / ".visrag" / "eval-questions").is_dir()


def test_answers(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("answers", "questions.jsonl", *INDEX, "--generator", "extractive")
    code, out, err = visrag(capsys, *arguments, "--record", "one.jsonl", "--metrics", "accuracy,anls")
    assert code == 0, err
    assert "generator extractive" in out
    assert out.splitlines()[2].startswith("all        3  1.000 [1.000, 1.000]")
    searching = ("-k", "1", "--mode", "lexical", "--filter", "source=boats.pdf")
    code, out, err = visrag(
        capsys, *arguments, *searching, "--compare", "one.jsonl", "--per-query", "each.jsonl", "--json"
    )
    assert code == 0, err
    values = json.loads(out)
    assert values["settings"]["top_k"] == 1
    assert values["settings"]["mode"] == "lexical"
    assert values["settings"]["filter"] == {"source": "boats.pdf"}
    assert [one["metric"] for one in values["comparison"]] == ["em", "accuracy", "f1"]
    each = [json.loads(line) for line in (indexed / "each.jsonl").read_text(encoding="utf-8").splitlines()]
    assert "forty" in each[0]["answer"]
    assert {key.partition("#")[0] for one in each for key in one["pages"]} == {"boats.pdf"}


def test_answers_from_the_relevant_pages(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(
        capsys, "answers", "questions.jsonl", *INDEX, "--pages", "relevant", "--per-query", "each.jsonl", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["settings"]["pages"] == "relevant"
    each = [json.loads(line) for line in (indexed / "each.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [list(one["pages"]) for one in each] == [list(one["relevant"]) for one in each]


def test_answers_from_the_sets_own_pages_need_no_index(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    (place / "p.png").write_bytes(file.getvalue())
    row = {"qid": "1", "query": "Who?", "image": ["p.png"], "answer": ["Ada"]}
    write(place / "top3_test.jsonl", [row | {"is_sufficient": True}, row | {"qid": "2", "is_sufficient": False}])
    code, out, err = visrag(capsys, "answers", "top3_test.jsonl", "--preset", "cpu")
    assert code == 0, err
    lines = {line.split()[0]: line.split()[1:3] for line in out.splitlines()[2:]}
    assert lines == {"all": ["2", "0.500"], "answerable": ["1", "0.000"], "unanswerable": ["1", "1.000"]}
    assert not list(place.glob(".visrag*"))


def test_sets_with_pages_are_indexed_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place / "My set!"
    (folder / "qrels").mkdir(parents=True)
    write(folder / "corpus.jsonl", [{"_id": "p1", "text": "Forty sailing boats."}, {"_id": "p2", "text": "A loaf."}])
    write(folder / "queries.jsonl", [{"_id": "q1", "text": "boats"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tp1\t1\n", encoding="utf-8")
    for _ in range(2):
        code, out, err = visrag(capsys, "retrieval", "My set!", "--embedder", "ocr", "--mode", "lexical", "--json")
        assert code == 0, err
        values = json.loads(out)
        assert values["metrics"]["mrr@10"] == 1.0
        assert values["settings"]["indexed"] == 2


def test_a_language_and_groups(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {**QUESTIONS[0], "language": "english", "query_types": ["number", "short"]},
        {**QUESTIONS[1], "language": "english", "query_types": ["number"]},
        {**QUESTIONS[2], "language": "french", "query_types": ["short"]},
    ]
    write(place / "questions.jsonl", rows)
    asked = ("retrieval", "questions.jsonl", "--documents", "docs", "--workers", "1", "--preset", "cpu", "--quiet")
    code, out, err = visrag(capsys, *asked, "--group-by", "query_type")
    assert code == 0, err
    lines = {line.split()[0]: line.split()[1] for line in out.splitlines()[2:]}
    assert lines == {"all": "3", "number": "2", "short": "2"}
    code, out, err = visrag(capsys, *asked, "--language", "fr", "--json")
    assert code == 0, err
    assert json.loads(out)["queries"] == 1


def test_a_wrong_index_is_told(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(indexed / "questions.jsonl", [{"query": "how many sailing boats", "source": "other.pdf", "page": 1}])
    code, out, _ = visrag(capsys, "retrieval", "questions.jsonl", *INDEX, "--quiet")
    assert code == 0
    assert "No relevant page was found at all: the set names pages like 'other.pdf#page=1'" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("retrieval", "none.jsonl"), "none.jsonl: there is no such file."),
        (("retrieval", "docs/none"), "docs/none: there is no such file or folder, and 'docs' is a folder here."),
        (("retrieval", "questions.jsonl", "--language", "fr"), "does not say in which language its questions are"),
        (("retrieval", "questions.jsonl", "--subset", "laws"), "it is not divided into parts"),
        (("retrieval", "questions.jsonl", "--group-by", "language"), "cannot be grouped by 'language'"),
        (("retrieval", "questions.jsonl"), "comes without pages, and there is no index at .visrag"),
        (("retrieval", "questions.jsonl", "--index", "gone"), "there is no index at gone"),
        (("retrieval", "questions.jsonl", "--documents", "docs", "--metrics", "map@3"), "no retrieval metric 'map@3'"),
        (("retrieval", "questions.jsonl", "--documents", "docs", "-k", "3"), "look at 10 pages, and top_k is 3"),
        (("retrieval", "questions.jsonl", "--compare", "none.trec"), "none.trec"),
        (
            ("retrieval", "questions.jsonl", "--documents", "docs", "--run-out", "no/run"),
            "--run-out 'no/run': the folder",
        ),
        (
            ("answers", "questions.jsonl", "--documents", "docs", "--per-query", "docs"),
            "is a folder",
        ),
        (("answers", "questions.jsonl", "--pages", "given"), "gives no pages"),
        (("answers", "questions.jsonl", "--documents", "docs", "--metrics", "bleu"), "no answer metric 'bleu'"),
        (("answers", "questions.jsonl", "--compare", "docs"), "this type of file holds no rows"),
        (("queries", "docs", "--out", "x.jsonl", "--generator", "extractive"), "cannot write questions"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_failed_documents_change_the_exit_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "docs" / "broken.pdf").write_bytes(b"no pdf")
    code, out, err = visrag(capsys, "retrieval", "questions.jsonl", "--documents", "docs", "--workers", "1")
    assert code == 1
    assert "1.000" in out
    assert "broken.pdf" in err


def test_predictions_of_others_are_read(tmp_path: Path) -> None:
    rows = [
        {"qid": 7, "pred": "<think>x</think><answer>42</answer>"},
        {"qid": "b", "pred": "plain"},
        {"id": "c", "answer": "y"},
    ]
    write(tmp_path / "preds.jsonl", rows)
    assert read_answers(tmp_path / "preds.jsonl") == {"7": "42", "b": "plain", "c": "y"}
    write(tmp_path / "preds.jsonl", [{"qid": 7, "pred": "x"}, {"qid": 8}])
    with pytest.raises(DatasetError, match="line 2 is no answer"):
        read_answers(tmp_path / "preds.jsonl")
