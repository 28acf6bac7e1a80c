"""A VisRAG-Ret checkpoint from the command line, with the embedded store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from drawing import draw_pdf
from PIL import Image
from visrag_ret_golden import CHECKPOINT, FOLDER, ITEMS

from visrag_integrations import PageReader
from visrag_integrations.cli import main
from visrag_integrations.embedders.visrag_ret import VisRAGRetEmbedder


def test_index_and_search_with_a_local_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    draw_pdf(tmp_path / "docs" / "boats.pdf", ["Forty sailing boats.", "Two hundred pounds."])
    with Image.open(FOLDER / ITEMS["icon_small"]["file"]) as image:
        image.save(tmp_path / "docs" / "icon.png")

    assert main(["index", "docs", "--embedder", str(CHECKPOINT), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["documents"], report["pages"], report["failed"]) == (2, 3, [])

    assert main(["search", "how many boats?", "-k", "3", "--json"]) == 0
    found = {
        (Path(page["source"]).name, page["page"]): page["score"]
        for page in json.loads(capsys.readouterr().out)["pages"]
    }
    with VisRAGRetEmbedder(CHECKPOINT) as embedder:
        (query,) = embedder.embed_queries(["how many boats?"])
        pages = list(PageReader().read("docs"))
        scores = np.stack(embedder.embed_pages(pages)) @ query
    expected = {(Path(page.source).name, page.number): score for page, score in zip(pages, scores, strict=True)}
    assert found == pytest.approx(expected, abs=1e-5)  # the pixels that were drawn, not a JPEG of them


def test_a_checkpoint_folder_may_move(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved, pdf, index = tmp_path / "moved", draw_pdf(tmp_path / "one.pdf", ["Boats."]), str(tmp_path / "index")
    assert main(["index", str(pdf), "--embedder", str(CHECKPOINT), "--index", index]) == 0
    shutil.copytree(CHECKPOINT, moved)
    assert main(["index", str(pdf), "--embedder", str(moved), "--index", index]) == 0
    assert "0 added, 1 unchanged" in capsys.readouterr().out


def test_the_collection_remembers_the_system_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pdf, index = draw_pdf(tmp_path / "one.pdf", ["Boats."]), str(tmp_path / "index")
    name = f"minicpm-visual-embedding:{CHECKPOINT}"
    assert main(["index", str(pdf), "--embedder", name, "--index", index]) == 0
    assert main(["search", "boats", "--index", index, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["pages"]) == 1
    assert main(["index", str(pdf), "--embedder", str(CHECKPOINT), "--index", index]) == 2
    assert "minicpm-visual-embedding" in capsys.readouterr().err
