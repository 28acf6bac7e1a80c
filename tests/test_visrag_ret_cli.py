"""A VisRAG-Ret checkpoint from the command line, with the embedded store."""

from __future__ import annotations

import json
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
    assert found == pytest.approx(expected, abs=5e-3)  # the pictures of an index may be compressed
