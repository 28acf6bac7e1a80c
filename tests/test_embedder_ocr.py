"""The embedder `ocr`: chunks that cover the page, words that mean the same, OCR where there is no text."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from visrag_integrations import Page, Query, ocr
from visrag_integrations.embedders.ocr import MAX_QUERY_CHARACTERS, OCREmbedder, embed_texts, split
from visrag_integrations.errors import SettingError

needs_ocr = pytest.mark.skipif(not ocr.is_installed(), reason="RapidOCR is not installed")


def page(text: str, **fields: object) -> Page:
    return Page(doc_id="d", number=1, text=text, **fields)  # type: ignore[arg-type]


def drawn(text: str) -> Image.Image:
    image = Image.new("RGB", (700, 400), "white")
    ImageDraw.Draw(image).text((20, 30), text, "black", font=ImageFont.load_default(48))
    return image


def similarity(query: str, text: str) -> float:
    embedder = OCREmbedder()
    return float((embedder.embed_queries([query])[0] @ embedder.embed_pages([page(text)])[0].T).max())


def test_every_part_of_a_text_is_in_a_piece() -> None:
    random_ = random.Random(1)
    for _ in range(300):
        letters = map(chr, range(0x4E00, 0x9FFF))  # each once, so that a piece has one place
        words = ["".join(next(letters) for _ in range(random_.randint(1, 40))) for _ in range(random_.randint(0, 60))]
        size = random_.randint(20, 90)
        pieces = split(" \n".join(words), size, random_.randint(0, size // 2))
        text, covered = " ".join(words), 0
        for piece in pieces:
            assert 0 < len(piece) <= size
            start = text.index(piece)
            assert start <= covered + 1, "at most the white space between two pieces is left out"
            covered = start + len(piece)
        assert covered == len(text)
        assert len(pieces) <= 1 + 4 * len(text) / size


def test_words_are_cut_only_where_there_is_no_white_space() -> None:
    pieces = split("chunk " * 100, 50, 20)
    assert {word for piece in pieces for word in piece.split()} == {"chunk"}
    assert split("字" * 45, 20, 5) == ["字" * 20, "字" * 20, "字" * 15]
    assert split(" \n\t", 50, 10) == []


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_end_of_a_long_page_is_found_as_well_as_its_beginning(place: int) -> None:
    filler = "The committee met again on a rainy day to speak of the budget and of taxes. " * 60
    parts = [filler, filler]
    parts.insert(place, " A violin has four strings and is played with a bow. ")
    assert (
        similarity("instrument played with a bow", "".join(parts))
        > similarity("instrument played with a bow", filler) + 0.2
    )


def test_what_means_the_same_is_nearer_than_what_does_not() -> None:
    assert similarity("car", "The automobile drove down the road.") > similarity("car", "The soup needs more salt.")


def test_a_page_without_anything_to_read_has_no_vectors() -> None:
    empty = OCREmbedder().embed_pages([page(""), page(" \n"), page("text")])
    assert [vectors.shape for vectors in empty[:2]] == [(0, 256), (0, 256)]
    assert len(empty[2]) == 1
    assert empty[0].dtype == np.float32


def test_texts_without_tokens_are_zeros() -> None:
    assert embed_texts([]).shape == (0, 256)
    assert not embed_texts([""]).any()
    assert embed_texts(["half a pair \ud800", "\x00\ufffd"]).any(axis=1).all(), "damaged text is still text"


@pytest.mark.parametrize("source", ["ocr", "none"])
def test_ocr_that_was_tried_is_not_tried_again(source: str) -> None:
    def opened() -> Image.Image:
        raise AssertionError("the picture must not be opened")

    (vectors,) = OCREmbedder().embed_pages([page("", picture=opened, metadata={"text_source": source})])
    assert vectors.shape == (0, 256)


@needs_ocr
def test_a_picture_without_text_is_read() -> None:
    embedder = OCREmbedder()
    (read,) = embedder.embed_pages([page("", picture=drawn("violin concert"))])
    assert float((read @ embedder.embed_queries(["violin concert"])[0].T).max()) > 0.9


@needs_ocr
def test_a_query_with_a_picture_is_read() -> None:
    embedder = OCREmbedder()
    assert "violin" in embedder.read_query(Query(image=drawn("violin"))).casefold()
    both = embedder.read_query(Query("old", image=drawn("violin"))).casefold()
    assert both.startswith("old")
    assert "violin" in both


@pytest.mark.parametrize(
    "settings",
    [{"chunk_size": 0}, {"chunk_overlap": -1}, {"chunk_size": 100, "chunk_overlap": 51}, {"text_assembly": "rows"}],
)
def test_settings_outside_what_is_allowed(settings: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=r"allowed|or more"):
        OCREmbedder(**settings)  # type: ignore[arg-type]


def test_the_host_program_keeps_its_logging_and_nothing_warns(tmp_path: Path) -> None:
    code = (
        "import logging, sys\n"
        "from visrag_integrations import load_embedder\n"
        "embedder = load_embedder('ocr')\n"
        "assert 'wordllama' not in sys.modules, 'loaded before it is needed'\n"
        "embedder.embed_queries(['x'])\n"
        "assert logging.getLogger().handlers == [], logging.getLogger().handlers\n"
        "assert logging.getLogger().level == logging.WARNING\n"
        "assert 'torch' not in sys.modules\n"
    )
    # No home folder and no network settings: the weights come from the installed package.
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env={"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_of_a_long_query_only_the_beginning_is_embedded() -> None:
    beginning = ("violin " * MAX_QUERY_CHARACTERS)[:MAX_QUERY_CHARACTERS]
    long = beginning + " taxes are due in April" * 1000
    whole, cut = OCREmbedder().embed_queries([long, beginning])
    assert np.array_equal(whole, cut)
    assert float(cut[0] @ embed_texts([long])[0]) < 0.99, "the rest would have changed the vector"
