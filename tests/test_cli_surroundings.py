"""What is said outside the command line: environment variables and [tool.visrag]; and what is mistyped on it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from drawing import draw_pdf

from visrag_integrations.cli import main
from visrag_integrations.cli import surroundings as rules


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in rules.SETTINGS:
        monkeypatch.delenv(f"VISRAG_{name.upper()}", raising=False)
    return tmp_path


def visrag(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def index_asked_for(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Which index `visrag info` looks for, and does not find."""
    _, _, err = visrag(capsys, "info", *arguments)
    return err.partition("There is no index at ")[2].partition(". Make one")[0].strip("'")


def test_the_command_line_then_the_environment_then_the_table_then_the_default(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert index_asked_for(capsys) == ".visrag"
    (place / "pyproject.toml").write_text('[tool.visrag]\nindex = "of_table"\n', encoding="utf-8")
    assert index_asked_for(capsys) == "of_table"
    monkeypatch.setenv("VISRAG_INDEX", "of_environment")
    assert index_asked_for(capsys) == "of_environment"
    assert index_asked_for(capsys, "--index", "of_line") == "of_line"
    monkeypatch.setenv("VISRAG_INDEX", "  ")  # set and empty is not said
    assert index_asked_for(capsys) == "of_table"


def test_the_table_of_a_folder_above_counts_and_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "pyproject.toml").write_text('[tool.visrag]\nindex = "shared"\n', encoding="utf-8")
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "pyproject.toml").write_text("[project]\nname = 'visrag-user'\n", encoding="utf-8")
    monkeypatch.chdir(place / "deep" / "er")
    _, _, err = visrag(capsys, "info")
    assert f"index shared, from [tool.visrag] in {place / 'pyproject.toml'}" in err


def model_of(generator: str | None, model: str | None = None) -> str | None:
    """The model that answers, of what was typed and what is said elsewhere."""
    arguments = argparse.Namespace(takes_surroundings=True, generator=generator, model=model)
    rules.fill_in(arguments)
    named: str | None = arguments.model or arguments.generator.partition("#")[2] or None
    return named


def test_a_model_in_the_typed_address_counts_before_one_that_is_said_elsewhere(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://localhost:9/v1"
    (place / "pyproject.toml").write_text('[tool.visrag]\nmodel = "of_table"\n', encoding="utf-8")
    assert model_of(url) == "of_table"
    assert model_of(f"{url}#") == "of_table"
    assert model_of(f"{url}#typed") == "typed"
    assert model_of(f"{url}#typed", "option") == "option"
    monkeypatch.setenv("VISRAG_MODEL", "of_environment")
    assert model_of(url) == "of_environment"
    assert model_of(f"{url}#typed") == "typed"
    monkeypatch.setenv("VISRAG_GENERATOR", f"{url}#address")
    assert model_of(None) == "of_environment"
    monkeypatch.delenv("VISRAG_MODEL")
    assert model_of(None) == "address"
    assert model_of(url) == "of_table"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[tool.visrag]\nindx = "a"', "'indx' is no setting. Did you mean 'index'?"),
        ("[tool.visrag]\nindex = 5", "index is 5; it is a text in quotes"),
        ('[tool.visrag]\nindex = ""', "it is a text in quotes"),
        ('[tool]\nvisrag = "x"', "is no table"),
        ("[tool.visrag\nindex", "cannot be read"),
        ("tool = 3\n# visrag", "cannot be read"),
        ("x = " + "[" * 5000 + "# visrag", "cannot be read"),
    ],
)
def test_a_table_that_is_wrong_is_told(place: Path, capsys: pytest.CaptureFixture[str], table: str, said: str) -> None:
    (place / "pyproject.toml").write_text(table, encoding="utf-8")
    code, out, err = visrag(capsys, "info")
    assert (code, out) == (2, "")
    assert said in err
    # What is said on the command line needs no table.
    assert index_asked_for(capsys, "--index", "x", "--collection", "c") == "x"


@pytest.mark.parametrize("content", [b"\xff\xfe visrag", b"", b"visrag" * 300_000])
def test_files_that_are_no_table(place: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (place / "pyproject.toml").write_bytes(content)
    code, _, err = visrag(capsys, "info")
    assert code == 2
    assert "cannot be read" in err or "There is no index at '.visrag'" in err


def test_a_url_in_a_table_is_not_used_unless_somebody_says_yes(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "pyproject.toml").write_text('[tool.visrag]\ngenerator = "http://evil.example/v1"\n', encoding="utf-8")
    draw_pdf(place / "a.pdf", ["The harbour holds forty boats."])
    code, out, err = visrag(capsys, "ask", "How many boats?", "a.pdf")
    assert (code, out) == (2, "")
    assert "names generator = http://evil.example/v1: pages would be sent there" in err
    assert "--generator http://evil.example/v1" in err
    assert "VISRAG_GENERATOR=" in err
    assert not (place / ".visrag").exists()  # refused before any work

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return "n\n"

    monkeypatch.setattr("sys.stdin", Terminal())
    code, _, err = visrag(capsys, "ask", "How many boats?", "a.pdf")
    assert code == 2
    assert "Use it? [y/N]" in err
    assert "was not used" in err
    # Another one said on the command line needs no question.
    code, out, err = visrag(
        capsys, "ask", "How many boats does the harbour hold?", "a.pdf", "--generator", "extractive"
    )
    assert code == 0
    assert "evil" not in err


def test_a_generator_of_the_environment_is_used(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_pdf(place / "a.pdf", ["The harbour holds forty boats."])
    monkeypatch.setenv("VISRAG_GENERATOR", "no-such-generator")
    code, _, err = visrag(capsys, "ask", "How many boats?", "a.pdf", "--preset", "cpu")
    assert code == 2
    assert "no-such-generator" in err


def test_training_does_not_take_them(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "pyproject.toml").write_text("[tool.visrag]\nwrong = 1\n", encoding="utf-8")
    code, _, err = visrag(capsys, "train", "pairs", "nothing-here.jsonl", "--out", "x.jsonl")
    assert code == 2
    assert "tool.visrag" not in err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["indx", "a.pdf"], "Did you mean 'index'?"),
        (["serach", "x"], "Did you mean 'search'?"),
        (["search", "x", "--mode", "lexicl"], "Did you mean 'lexical'?"),
        (["search", "x", "--colection", "y"], "Did you mean '--collection'?"),
        (["search", "x", "--filtre=a=b"], "Did you mean '--filter'?"),
        (["search", "native", "package"], "in quotes"),
        (["ask", "What", "is", "a", "native", "package?"], 'visrag ask "What is a native package?"'),
        (["eval", "retreival", "x"], "Did you mean 'retrieval'?"),
        (["frobnicate"], "All of it: visrag --help"),
    ],
)
def test_what_was_probably_meant(place: Path, capsys: pytest.CaptureFixture[str], typed: list[str], said: str) -> None:
    code, _, err = visrag(capsys, *typed)
    assert code == 2
    assert said in err


def test_search_shows_passages_and_writes_a_page(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_pdf(place / "a.pdf", ["The harbour holds forty boats.", "Anchors weigh two hundred pounds."])
    assert visrag(capsys, "index", "a.pdf", "--preset", "cpu", "-q")[0] == 0
    code, out, err = visrag(capsys, "search", "How heavy are the anchors?", "-k", "1", "--html", "found.html")
    assert code == 0
    assert out.splitlines() == ["1. a.pdf, page 2", "   Anchors weigh two hundred pounds."]
    assert "wrote found.html" in err
    html = (place / "found.html").read_text(encoding="utf-8")
    assert "Anchors weigh two hundred pounds." in html
    assert "data:image/jpeg;base64," in html
    assert '<g class="supported"><polygon' in html  # outlined where it stands
    assert "://" not in html  # nothing is loaded from elsewhere

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or False)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    code, _, err = visrag(capsys, "search", "boats", "-k", "1", "--open")
    assert code == 0
    assert len(opened) == 1
    assert opened[0].startswith("file:///")
    assert opened[0].endswith("/found.html")
    assert "no browser was found here" in err
    (folder,) = place.glob("visrag-*")
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0  # pages may be confidential


def test_no_words_of_the_query_on_the_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_pdf(place / "a.pdf", ["The harbour holds forty boats."])
    assert visrag(capsys, "index", "a.pdf", "--preset", "cpu", "-q")[0] == 0
    code, out, _ = visrag(capsys, "search", "ships", "--html", "found.html")
    assert (code, out.splitlines()) == (0, ["1. a.pdf, page 1"])
    assert "No words of the query" in (place / "found.html").read_text(encoding="utf-8")


def test_quiet_says_nothing_of_models_and_verbose_more(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_pdf(place / "a.pdf", ["The harbour holds forty boats."])
    assert visrag(capsys, "index", "a.pdf", "-q")[2] == ""
    _, _, err = visrag(capsys, "ask", "How many boats are in the harbour?")
    assert "preset" in err


@pytest.mark.parametrize("module", ["visrag_integrations", "visrag_integrations.cli"])
def test_python_m(place: Path, module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("visrag 0.")


def test_the_terminal_is_not_told_what_to_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from visrag_integrations.cli import output
    from visrag_integrations.types import Answer, Evidence, Page, ScoredPage

    page = Page("d", 1, source="a\x1b[2J.pdf", text="b")
    entry = Evidence(1, "two\x1b]0;owned\x07 words", page=page)
    answer = Answer("one\nline \x1b[31mred\x9b", evidence=(entry,), pages=(ScoredPage(page, 0.5),))
    said = output.answer_text(answer)
    assert not set("\x1b\x07\x9b") & set(said)
    assert said.startswith("one\nline \\x1b[31mred")
