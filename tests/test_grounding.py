"""Where evidence stands on its page: words drawn by PyMuPDF, lines as OCR gives them, Chinese, and hostile text."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visrag_integrations.grounding import find_passage
from visrag_integrations.types import Box, Page, Word

LINE = 0.05


def page_of(*lines: str) -> Page:
    """Every word 0.01 of the width a letter, a line every 0.05 of the height."""
    words = []
    for row, line in enumerate(lines):
        left = 0.1
        for word in line.split(" "):
            words.append(Word(word, (left, row * LINE, left + 0.01 * len(word), row * LINE + 0.03)))
            left += 0.01 * (len(word) + 1)
    return Page(doc_id="d", number=1, words=tuple(words))


def box(row: int, start: int, end: int) -> Box:
    return (0.1 + 0.01 * start, row * LINE, 0.1 + 0.01 * end, row * LINE + 0.03)


def close(found: list[Box], *expected: Box) -> bool:
    return len(found) == len(expected) and all(a == pytest.approx(b) for a, b in zip(found, expected, strict=True))


def test_words_on_one_line_are_one_box() -> None:
    page = page_of("Taxes are due in April.", "Late payers owe interest.")
    assert close(find_passage(page, "are due in"), box(0, 6, 16))


def test_a_passage_over_two_lines_gives_a_box_each() -> None:
    page = page_of("Taxes are due in April.", "Late payers owe interest.")
    assert close(find_passage(page, "in April. Late payers"), box(0, 14, 23), box(1, 0, 11))


@pytest.mark.parametrize(
    "text", ["TAXES ARE DUE", "taxes-are due", "Taxes\n  are\tdue", "“Taxes are due”", "Taxesaredue"]
)
def test_case_space_and_punctuation_may_differ(text: str) -> None:
    assert close(find_passage(page_of("Late. Taxes are due in April."), text), box(0, 6, 19))


def test_hyphenation_at_a_line_break() -> None:
    page = page_of("a file made by the deb-", "helper commands here")
    assert close(find_passage(page, "the debhelper commands"), box(0, 15, 23), box(1, 0, 15))


def test_ligatures_and_accents() -> None:
    assert close(find_passage(page_of("the ﬁnal résumé is"), "final resume"), box(0, 4, 15))


def test_a_whole_word_is_preferred_to_part_of_one() -> None:
    assert close(find_passage(page_of("starting the art of it"), "art"), box(0, 13, 16))
    assert find_passage(page_of("starting it"), "art") == []


def test_chinese_lines_as_one_word_are_cut_to_what_is_quoted() -> None:
    page = page_of("小提琴有四根弦", "税款在四月到期")
    assert close(find_passage(page, "四根弦。税款"), box(0, 4, 7), box(1, 0, 2))


def test_an_ocr_line_is_cut_to_what_is_quoted() -> None:
    line = Word("Taxes are due in April", (0.1, 0.1, 0.32, 0.13))
    page = Page(doc_id="d", number=1, words=(line,))
    (found,) = find_passage(page, "due in")
    assert found == pytest.approx((0.1 + 0.22 * 10 / 22, 0.1, 0.1 + 0.22 * 16 / 22, 0.13))


def test_a_paraphrase_is_boxed_where_it_quotes() -> None:
    page = page_of("Nothing of note on this line", "Late payers owe five percent interest every month", "Other things")
    found = find_passage(page, "The page says that late payers owe five percent, and so on.")
    assert close(found, box(1, 0, 28))


def test_a_distant_short_likeness_is_left_out() -> None:
    filler = [f"line {row} holds quite other words than those" for row in range(12)]
    page = page_of("payers owe", *filler, "late payers owe five percent interest")
    found = find_passage(page, "late payers owe five percent, as payers owe")
    assert close(found, box(13, 0, 28))


def test_words_of_two_columns_are_not_one_box() -> None:
    words = (Word("left", (0.1, 0.1, 0.2, 0.12)), Word("right", (0.6, 0.1, 0.7, 0.12)))
    assert len(find_passage(Page(doc_id="d", number=1, words=words), "left right")) == 2


@pytest.mark.parametrize("text", ["", "  ", "...", "quite something else entirely", "x" * 5000])
def test_nothing_to_find_gives_nothing(text: str) -> None:
    assert find_passage(page_of("Taxes are due in April."), text) == []
    assert find_passage(Page(doc_id="d", number=1), text) == []


def test_words_drawn_on_a_real_page() -> None:
    pymupdf = pytest.importorskip("pymupdf")
    with pymupdf.open() as document:
        drawn = document.new_page(width=200, height=100)
        drawn.insert_text((20, 30), "Taxes are due in April.")
        drawn.insert_text((20, 60), "Late payers owe interest.")
        words = tuple(Word(w[4], (w[0] / 200, w[1] / 100, w[2] / 200, w[3] / 100)) for w in drawn.get_text("words"))
        (expected,) = drawn.search_for("payers owe")
    (found,) = find_passage(Page(doc_id="d", number=1, words=words), "Payers owe")
    assert found == pytest.approx(
        (expected.x0 / 200, expected.y0 / 100, expected.x1 / 200, expected.y1 / 100), abs=0.01
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=9), max_size=12), st.text(max_size=40))
def test_any_words_and_any_text_give_boxes_inside_the_page(words: list[str], text: str) -> None:
    page = page_of(*words)
    for left, top, right, bottom in find_passage(page, text + " ".join(words)):
        assert 0 <= left <= right
        assert 0 <= top <= bottom <= 1


@pytest.mark.parametrize("text", ["a" * 100_000, "ab " * 50_000, "税" * 50_000])
def test_hostile_repetition_is_quick(text: str) -> None:
    page = Page(doc_id="d", number=1, words=tuple(Word("a" * 20, (0, 0, 1, 1)) for _ in range(3000)))
    start = time.process_time()
    find_passage(page, text)
    assert time.process_time() - start < 5


def test_the_walk_through_in_the_docs_prints_what_the_docs_say() -> None:
    page = (Path(__file__).parent.parent / "docs" / "grounding.md").read_text(encoding="utf-8")
    section = page.split("## How a verdict comes about")[1]
    blocks = re.search(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", section, re.DOTALL)
    assert blocks is not None
    finished = subprocess.run([sys.executable, "-c", blocks[1]], capture_output=True, text=True, check=True)
    assert finished.stdout == blocks[2]
