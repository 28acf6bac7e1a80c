"""The command line as a user meets it: output, JSON, exit codes, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from sparse_copies import copy_index

from visrag_integrations import load_embedder
from visrag_integrations.cli import main
from visrag_integrations.interfaces.closing import close


@pytest.fixture(scope="module", autouse=True)
def embedder() -> Iterator[None]:
    """What the commands load stays loaded between tests: they share the models of a process."""
    held = load_embedder("ocr", shared=True)
    yield
    close(held)


def draw_documents(folder: Path) -> None:
    folder.mkdir()
    draw_pdf(folder / "boats.pdf", ["The harbour holds forty sailing boats.", "Anchors weigh two hundred pounds."])
    draw_pdf(folder / "bread.pdf", ["Bake the sourdough loaf for fifty minutes."])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two documents; the index will be .visrag in it."""
    monkeypatch.chdir(tmp_path)
    draw_documents(tmp_path / "docs")
    return tmp_path


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    draw_documents(folder / "docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["index", "docs"]) == 0
    return folder


@pytest.fixture
def filled(filled_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the same documents, and their index."""
    copy_index(filled_once, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def visrag(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def as_json(text: str) -> dict[str, Any]:
    (line,) = text.splitlines()
    return json.loads(line)


def test_index_search_ask(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, "index", "docs", "--json")
    report = as_json(out)
    assert code == 0, err
    assert report | {"seconds": 0} == {
        "documents": 2, "pages": 3, "added": 3, "unchanged": 0, "removed": 0, "failed": [],
        "left_out": [],
        "warnings": [], "seconds": 0,
    }  # fmt: skip

    code, out, _ = visrag(capsys, "search", "how long to bake sourdough", "-k", "2", "--json")
    found = as_json(out)
    assert code == 0
    assert found["query"] == "how long to bake sourdough"
    assert len(found["pages"]) == 2
    assert (found["pages"][0]["source"], found["pages"][0]["page"]) == ("docs/bread.pdf", 1)
    assert set(found["pages"][0]) == {"source", "page", "score", "doc_id", "id", "image", "passage"}
    assert (place / found["pages"][0]["image"]).is_file()

    code, out, _ = visrag(capsys, "ask", "How many sailing boats does the harbour hold?", "--html", "a.html", "--json")
    answer = as_json(out)
    assert code == 0
    assert set(answer) == {
        "question", "answer", "sufficient", "evidence", "thinking", "observation", "pages", "problems",
    }  # fmt: skip
    assert "forty sailing boats" in answer["answer"]
    assert answer["problems"] == []
    entry = {"index", "source", "page", "text", "relevant", "verdict", "support", "boxes", "missing"}
    assert entry == set(answer["evidence"][0])
    relevant = [e for e in answer["evidence"] if e["relevant"]]
    assert (relevant[0]["source"], relevant[0]["page"]) == ("docs/boats.pdf", 1)
    assert (relevant[0]["verdict"], relevant[0]["support"]) == ("supported", 1.0)
    assert all(0 <= edge <= 1 for box in relevant[0]["boxes"] for edge in box)
    assert relevant[0]["boxes"]
    html = (place / "a.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in html
    assert "://" not in html


def test_text_output_is_for_people(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, "index", "docs")
    assert code == 0
    assert out.startswith("3 pages of 2 documents in .visrag (3 added, 0 unchanged, 0 removed, 0 failed;")
    assert "preset cpu (ocr + extractive)" in err
    code, out, _ = visrag(capsys, "search", "anchors")
    assert out.startswith("1. docs/boats.pdf, page 2\n   Anchors weigh two hundred pounds.\n")
    code, out, _ = visrag(capsys, "ask", "How heavy are anchors?")
    assert code == 0
    assert "Evidence\n  [1] docs/boats.pdf, page 2: " in out


def test_ask_with_paths_searches_only_them(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = visrag(capsys, "ask", "sailing boats in the harbour", "docs/bread.pdf", "--json")
    assert code == 0
    assert {page["source"] for page in as_json(out)["pages"]} == {"docs/bread.pdf"}


def test_ask_a_question_nothing_answers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = visrag(capsys, "ask", "What is the capital of Mongolia?", "docs", "--json")
    assert code == 0
    assert as_json(out)["sufficient"] is False
    assert as_json(out)["answer"] == "insufficient to answer"


def test_one_bad_file_among_good_ones(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "docs" / "a\nbad name ü.pdf").write_bytes(b"not a pdf")
    code, out, err = visrag(capsys, "index", "docs", "--json")
    report = as_json(out)
    assert code == 1
    assert (report["documents"], report["pages"]) == (2, 3)
    (failed,) = report["failed"]
    assert failed["source"] == "docs/a\nbad name ü.pdf"
    assert "failed: docs/a\\nbad name ü.pdf: " in err


@pytest.mark.parametrize("arguments", [["index", "missing.pdf"], ["index", "empty folder"], ["index", "zero.pdf"]])
def test_nothing_done_is_exit_code_2(place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    (place / "empty folder").mkdir()
    (place / "zero.pdf").write_bytes(b"")
    code, _, err = visrag(capsys, *arguments)
    assert code == 2
    assert arguments[1] in err


def test_search_without_an_index_says_how_to_make_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, "search", "anything")
    assert (code, out) == (2, "")
    assert "visrag index PATH" in err
    assert not (place / ".visrag").exists()


@pytest.mark.parametrize("question", ["", "   ", "\n"])
def test_an_empty_question_is_refused(filled: Path, capsys: pytest.CaptureFixture[str], question: str) -> None:
    for command in ("search", "ask"):
        code, _, err = visrag(capsys, command, question)
        assert code == 2
        assert "question is empty" in err


def test_a_huge_question_is_answered(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = visrag(capsys, "ask", "sourdough " * 10_000, "--json")
    assert code == 0
    assert as_json(out)["pages"][0]["source"] == "docs/bread.pdf"


def test_wrong_usage_is_exit_code_2(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["index"], ["search", "x", "-k", "0"], ["frobnicate"]):
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        assert exit_info.value.code == 2
    capsys.readouterr()


def test_a_name_with_a_leading_dash(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_pdf(place / "-dash.pdf", ["A page in a file with an odd name."])
    code, out, _ = visrag(capsys, "index", "--json", "--", "-dash.pdf")
    assert (code, as_json(out)["pages"]) == (0, 1)


def test_unknown_names_list_what_there_is(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = visrag(capsys, "index", "docs", "--embedder", "orc")
    assert code == 2
    assert "ocr" in err
    for option in ("--strategy", "--generator"):
        code, _, err = visrag(capsys, "ask", "boats", option, "nonsense")
        assert code == 2
        assert "nonsense" in err


HOLD = """
import sys
from visrag_integrations import QdrantPageStore
store = QdrantPageStore(".visrag")
print("open", flush=True)
sys.stdin.read()
"""


def test_the_index_is_in_use_elsewhere(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        exit_code, _, err = visrag(capsys, "search", "boats")
        other.kill()
    assert exit_code == 2
    assert ".visrag" in err


def test_filters_and_modes(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:

    def found(*arguments: str) -> list[tuple[str, int]]:
        code, out, err = visrag(capsys, "search", "anchors", "--json", *arguments)
        assert code == 0, err
        return [(page["source"], page["page"]) for page in as_json(out)["pages"]]

    assert found("-k", "1") == [("docs/boats.pdf", 2)]
    assert found("--filter", "source=bread.pdf") == [("docs/bread.pdf", 1)]
    assert found("--filter", "source=boats.pdf", "--filter", "number=[1]") == [("docs/boats.pdf", 1)]
    assert found("--mode", "lexical") == [("docs/boats.pdf", 2)]
    code, out, _ = visrag(capsys, "ask", "How long to bake?", "--filter", "source=boats.pdf", "--json")
    assert {page["source"] for page in as_json(out)["pages"]} == {"docs/boats.pdf"}
    code, _, err = visrag(capsys, "search", "x", "--filter", 'number={"over": 3}')
    assert code == 2
    assert "over" in err
    with pytest.raises(SystemExit):
        visrag(capsys, "search", "x", "--filter", "source")
    assert "KEY=VALUE" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_said_before_any_work(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("nowhere/a.html", "docs"):
        code, out, err = visrag(capsys, "ask", "How many boats?", "docs", "--html", path)
        assert (code, out) == (2, "")
        assert path in err
    assert not (place / ".visrag").exists()


def test_json_is_json_whatever_the_encoding_of_standard_output(place: Path) -> None:
    draw_pdf(place / "docs" / "boats.pdf", ["Forty boats"])
    (place / "docs" / "boats.pdf").rename(place / "docs" / "Bäume 😀.pdf")
    visrag = [sys.executable, "-m", "visrag_integrations.cli"]
    subprocess.run([*visrag, "index", "docs", "--quiet"], check=True, capture_output=True, cwd=place)
    for encoding in ("ascii", "cp1252", "utf-8"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        said = subprocess.run(
            [*visrag, "search", "boats", "--json"], check=True, capture_output=True, cwd=place, env=environment
        )
        assert json.loads(said.stdout.decode(encoding))["pages"][0]["source"] == "docs/Bäume 😀.pdf"


def test_a_port_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--port", "70000"])
    assert ended.value.code == 2
    assert "65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("sorce=x.pdf", ["No page was found. No page has the key 'sorce'", "source"]),
        ("source=bread", ["'source' = 'bread'; the nearest is 'bread.pdf'"]),
        ("number=77", ["'number' = 77"]),
    ],
)
def test_a_filter_that_fits_nothing_says_what_is_unknown(
    filled: Path, capsys: pytest.CaptureFixture[str], condition: str, words: list[str]
) -> None:
    assert main(["search", "loaf", "--filter", condition]) == 0
    said = capsys.readouterr()
    for word in words:
        assert word in said.out
    assert said.err == ""
    assert main(["search", "loaf", "--filter", condition, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pages"] == []
    assert words[-1] in found["note"]
    assert main(["ask", "How long is the loaf baked?", "--filter", condition, "--generator", "extractive"]) == 0
    assert words[-1] in capsys.readouterr().out


def test_a_filter_on_page_names_number(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "boats", "--filter", "page=2"]) == 2
    assert "number=2" in capsys.readouterr().err
    assert main(["search", "anchors", "--filter", "number=2", "--json"]) == 0
    assert [page["page"] for page in json.loads(capsys.readouterr().out)["pages"]] == [2]
