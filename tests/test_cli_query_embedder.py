"""`--query-embedder` and `--embedder`, as a user types them: an index that two models make."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drawing import draw_pdf

from visrag_integrations.cli import main

pytest.importorskip("sentence_transformers")
from tiny_adapters import query_model
from tiny_retrievers import tiny

Visrag = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return query_model(tmp_path_factory.mktemp("queries"), 24)


@pytest.fixture
def place(tmp_path: Path, queries: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with documents, `large` (embeds pages) and `small` (embeds queries)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    draw_pdf(tmp_path / "docs" / "boats.pdf", ["The harbour holds forty sailing boats.", "Anchors weigh little."])
    shutil.copytree(tiny("bge-vl-clip"), tmp_path / "large")
    shutil.copytree(queries, tmp_path / "small")
    return tmp_path


@pytest.fixture
def visrag(capsys: pytest.CaptureFixture[str]) -> Visrag:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


def test_search_needs_no_page_model(place: Path, visrag: Visrag) -> None:
    code, _, err = visrag("index", "docs", "--embedder", "large", "--query-embedder", "small")
    assert code == 0, err
    (place / "large").rename(place / "on another machine")
    code, out, err = visrag("search", "boats", "--json")
    assert code == 0, err
    assert len(json.loads(out)["pages"]) == 2
    code, out, err = visrag("ask", "How many boats?", "--generator", "extractive", "--json")
    assert code == 0, err
    assert json.loads(out)["pages"]
    # More documents need it, and the error says which.
    draw_pdf(place / "docs" / "bread.pdf", ["Bake the loaf."])
    code, _, err = visrag("index", "docs")
    assert code == 2
    assert f"'{place / 'large'}'" in err
    # Where it lies now, it is known by its fingerprint.
    code, _, err = visrag("index", "docs", "--embedder", "on another machine")
    assert code == 0, err


def test_indexing_without_the_query_model_says_so_before_a_page_is_read(place: Path, visrag: Visrag) -> None:
    code, _, err = visrag("index", "docs", "--embedder", "large", "--query-embedder", "smal")
    assert code == 2
    assert "There is no embedder 'smal'" in err
    wrong = query_model(place / "wrong", 20)
    code, _, err = visrag("index", "docs", "--embedder", "large", "--query-embedder", str(wrong))
    assert code == 2
    assert "their dimension is 24 and 20" in err


def test_a_query_model_for_an_index_that_has_none(place: Path, visrag: Visrag) -> None:
    assert visrag("index", "docs", "--embedder", "large")[0] == 0
    code, out, err = visrag("search", "boats", "--query-embedder", "small", "--json")
    assert code == 0, err
    by_small = [page["score"] for page in json.loads(out)["pages"]]
    by_large = [page["score"] for page in json.loads(visrag("search", "boats", "--json")[1])["pages"]]
    assert by_small != pytest.approx(by_large)
    _, _, err = visrag("index", "docs", "--query-embedder", "small")
    assert "visrag reindex --query-embedder small" in err
    code, _, err = visrag("reindex", "--query-embedder", "small")
    assert code == 0, err
    (place / "large").rename(place / "gone")
    code, out, err = visrag("search", "boats", "--json")
    assert code == 0, err
    assert [page["score"] for page in json.loads(out)["pages"]] == pytest.approx(by_small)


def test_another_query_model_is_refused_and_a_moved_one_is_found(place: Path, visrag: Visrag) -> None:
    assert visrag("index", "docs", "--embedder", "large", "--query-embedder", "small")[0] == 0
    query_model(place / "other", 24, seed=1)
    code, _, err = visrag("search", "boats", "--query-embedder", "other/whole")
    assert code == 2
    assert "Search it with the embedder that filled it" in err
    (place / "small").rename(place / "moved")
    code, _, err = visrag("search", "boats")
    assert code == 2
    assert f"'{place / 'small'}', is not on this machine" in err
    assert "--query-embedder FOLDER" in err
    code, _, err = visrag("search", "boats", "--query-embedder", "moved")
    assert code == 0, err


def test_an_embedder_that_did_not_fill_the_index_is_refused(place: Path, visrag: Visrag) -> None:
    assert visrag("index", "docs", "--embedder", "large")[0] == 0
    for command in (["search", "boats"], ["ask", "boats?", "--generator", "extractive"]):
        code, _, err = visrag(*command, "--embedder", "ocr")
        assert code == 2
        assert "named 'ocr'" in err
        assert visrag(*command, "--embedder", "large")[0] == 0


def test_eval_fills_and_searches_with_both(place: Path, visrag: Visrag) -> None:
    row = {"query": "boats", "source": "boats.pdf", "page": 1}
    (place / "set.jsonl").write_text(json.dumps(row))
    both = ("--embedder", "large", "--query-embedder", "small")
    code, out, err = visrag("eval", "retrieval", "set.jsonl", "--documents", "docs", *both, "--json", "--quiet")
    assert code == 0, err
    assert "mrr@10" in out


def test_a_server_answers_with_the_query_model_alone(place: Path, visrag: Visrag) -> None:
    """What `visrag serve` and `visrag mcp` search with, without the listening."""
    from visrag_integrations.cli import opening, serve, surroundings

    assert visrag("index", "docs", "--embedder", "large", "--query-embedder", "small")[0] == 0
    (place / "large").rename(place / "gone")
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["serve", "--search-only"])
    surroundings.fill_in(arguments)
    with contextlib.ExitStack() as opened, opening.open_store(arguments, must_exist=True) as store:
        embedder = opening.embedder_that_filled(store, arguments)
        retriever = serve.following_retriever(embedder, store, arguments, opened)
        assert len(retriever.retrieve("boats", 2)) == 2
        retriever.close()


@pytest.mark.parametrize("command", ["index", "search", "ask", "reindex", "serve", "mcp", "demo", "eval retrieval"])
def test_every_command_has_both_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert "--embedder " in out
    assert "--query-embedder " in out
