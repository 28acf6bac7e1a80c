"""Which value belongs to which label: by their places on the page, whatever order the file has them in.

A value belongs to the label to its left on one line, or right above it. Two things follow:

- Evidence that goes from a label to a value of another place says what the page does not: `is_crossed`.
- A label and its value may be far apart in the order of the file, so the page is also read in two other orders:
  line by line, and each cell with the one below it: `other_orders`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from visrag_integrations.grounding.alignment import Alignment
from visrag_integrations.grounding.cells import PageCells
from visrag_integrations.grounding.claim import ClaimToken
from visrag_integrations.grounding.fragments import tokens_in_place
from visrag_integrations.grounding.page_letters import PageLetters
from visrag_integrations.grounding.thresholds import THRESHOLDS

# Where evidence may go on at another place of the page: after a sentence, or in a list.
_ENDS = re.compile(r"[.;!?…|\n。；！？•]")


@dataclass
class _LetterRun:
    """Cells that the evidence went through one after another, and how many of its letters that were."""

    cells: list[int]
    letters: int
    wrapped: bool = False  # its last step went to the line below

    def is_label(self) -> bool:
        """Whether it may be just a label: a few words of one cell."""
        return len(self.cells) <= 1 and self.letters <= THRESHOLDS.label_letters


def other_orders(page: PageLetters) -> Iterator[PageLetters]:
    """The page as a reader sees it: line by line, and each cell with the one below it.

    A page whose file has the columns "Name Port" and "Heron Quay" is read as "Name Heron Port Quay", and where the
    second column stands below the first, as "Name Heron" and "Port Quay" too.
    """
    cells = page.layout.cells
    by_line: list[int] = []
    for cell in cells.cells:
        by_line += cell.words
    yield page.reordered(by_line)
    by_pair: list[int] = []
    for upper, lower in enumerate(cells.below):
        if lower is not None:
            by_pair += cells.cells[upper].words
            by_pair += cells.cells[lower].words
    yield page.reordered(by_pair)


def is_crossed(alignment: Alignment) -> bool:
    """Whether the evidence goes from a label to a value that, by its place, is another's."""
    page = alignment.page
    tokens = alignment.claim.tokens
    in_place = tokens_in_place(alignment)
    # A plain word that was found somewhere else ("it says that ...") is no part of what is said.
    placed = [token for token in alignment.placed() if token in in_place or tokens[token].kind != "word"]
    cells = page.layout.cells
    read = _cells_read(alignment, placed)
    if _reads_line_by_line(cells, read):
        return False
    run = _LetterRun([], 0)
    for one, other in pairwise(placed):
        here = cells.of_word[page.page_word(alignment.at(one).end - 1)]
        there = cells.of_word[page.page_word(alignment.at(other).start)]
        if here is None or there is None:  # a page without places
            return False
        if not run.cells:
            run.cells.append(here[0])
        run.letters += tokens[one].length
        if here[0] == there[0]:
            if _is_crossed_inside(page, here, there[1], (tokens[one], tokens[other])):
                return True
            continue
        if other > one + 1 and run.is_label():
            return True  # "Shape: by ship" on "Shape", and "Ship to" below it: what lacks a word is no value
        if _goes_on(cells, here[0], there[0]):
            run.cells.append(there[0])
            run.wrapped = cells.cells[here[0]].row != cells.cells[there[0]].row
            continue
        written = alignment.claim.text[tokens[one].span[1] : tokens[other].span[0]]
        may_jump = _may_jump(cells, run, (here[0], there[0]), (tokens[one], tokens[other]), written)
        if not may_jump and not _is_title_above(cells, here[0], there[0], read):
            return True
        run = _LetterRun([there[0]], 0)
    return _lacks_value(alignment, placed, run)


def _cells_read(alignment: Alignment, placed: list[int]) -> list[int]:
    """The cells that the evidence goes through, in its order; one that it comes back to is there again."""
    page = alignment.page
    read: list[int] = []
    for token in placed:
        here = page.layout.cells.of_word[page.page_word(alignment.at(token).start)]
        if here is not None and here[0] not in read[-1:]:
            read.append(here[0])
    return read


def _reads_line_by_line(cells: PageCells, read: list[int]) -> bool:
    """Whether the evidence is a stretch of the page as one reads it, and no label with a value.

    Cells of successive lines without one left out, and all of the last line. Of "Order date | Invoice date" above
    "15-10-2031 | 20-10-2031" the evidence "Order date, Invoice date: 15-10-2031" is none.
    """
    if len(read) < THRESHOLDS.cells_of_a_stretch or read != list(range(read[0], read[-1] + 1)):
        return False
    return cells.rows[cells.cells[read[-1]].row][-1] == read[-1]


def _is_title_above(cells: PageCells, here: int, there: int, read: list[int]) -> bool:
    """Whether the evidence goes from a line of one cell to the next line, and reads all of that: a title and the heads.

    "Control codes", and below it "Control | Example | Result". Only without a number in either: else a label that has
    no value would get one from the next line.
    """
    row = cells.rows[cells.cells[there].row]
    is_next = cells.cells[there].row == cells.cells[here].row + 1 and cells.cells[there].place == 0
    if not is_next or len(cells.rows[cells.cells[here].row]) > 1:
        return False
    if not 1 < len(row) <= THRESHOLDS.max_row_cells or not set(read).issuperset(row):
        return False
    texts = [cells.cells[each].text for each in (here, *row)]
    return not any(character.isdigit() for text in texts for character in text) and not cells.cells[here].is_label


def _lacks_value(alignment: Alignment, placed: list[int], run: _LetterRun) -> bool:
    """Whether the evidence is a label of the page, all of its cell, and then a word that is not there: its value."""
    tokens = alignment.claim.tokens
    after = tokens[placed[-1] + 1 :] if placed else ()
    if not any(token.length > THRESHOLDS.short_word for token in after):
        return False
    run.letters += tokens[placed[-1]].length
    page = alignment.page
    cells = page.layout.cells
    first = cells.of_word[page.page_word(alignment.at(placed[0]).start)]
    last = cells.of_word[page.page_word(alignment.at(placed[-1]).end - 1)]
    if first is None or last is None or first[0] != last[0]:
        return False
    is_whole_cell = first[1] == 0 and last[1] == len(cells.cells[last[0]].words) - 1
    return is_whole_cell and run.is_label()


def _goes_on(cells: PageCells, here: int, there: int) -> bool:
    """Whether the second cell is read after the first: beside it on its line, or under it."""
    beside = cells.right(here)
    if there == beside:
        return True
    if there != cells.below[here]:
        return False
    # "Order date:" has its value beside it; what stands below is the next label.
    cell = cells.cells[here]
    is_short = len(cell.text) <= THRESHOLDS.label_letters
    has_value = beside is not None and not cells.cells[beside].is_label
    return not (cell.is_label and is_short and has_value)


def _is_crossed_inside(
    page: PageLetters, here: tuple[int, int], there: int, tokens: tuple[ClaimToken, ClaimToken]
) -> bool:
    """The same inside one cell: a number that follows another label than the evidence has before it."""
    cell, place = here
    if tokens[1].kind != "number" or tokens[0].kind == "number":
        return False
    members = page.layout.cells.cells[cell].words
    for word in members[place + 1 : there]:
        text = page.layout.words[word].text
        if text.endswith((":", "：")) and text[:1].isalnum():
            return True
    return False


def _may_jump(
    cells: PageCells, run: _LetterRun, step: tuple[int, int], tokens: tuple[ClaimToken, ClaimToken], written: str
) -> bool:
    """Whether the evidence may go on in a cell that is not beside or under the last one.

    Args:
        cells: Of the page.
        run: What it went through before.
        step: From which cell to which.
        tokens: The last token before the step, and the first after it.
        written: What the evidence has between them.
    """
    here, there = step
    cell = cells.cells[here]
    if not _has_other_neighbours(cells, here, there):
        return True
    most = THRESHOLDS.label_letters
    if len(run.cells) == 1:
        most = 2 * most
    if run.letters > most:
        return True  # so much text before is no label
    if run.wrapped and len(cell.text) >= THRESHOLDS.text_line_letters and not cell.is_label:
        return True  # the last line of a column, then the first of the next
    ends = _ENDS.search(written) is not None
    if ends and (not run.is_label() or _is_sentence(cell.text)):
        return True
    if all(_is_number(cells.cells[each].text) for each in run.cells) and tokens[1].kind == "number":
        return True  # numbers along the axes of a chart
    # A value has been said; what follows is the next label.
    after_value = tokens[0].kind == "number" and tokens[1].kind != "number"
    if after_value and (not run.is_label() or cell.text[:1].isdigit()):
        return True
    return _row_is_done(cells, run, there)


def _has_other_neighbours(cells: PageCells, here: int, there: int) -> bool:
    """Whether the first cell has another value, or the second another label; also one farther away than lines are.

    Of "Order date | Ship date" far above "15-10-2031 | 25-10-2031", the value of "Ship date" is not "15-10-2031".
    """
    values = {cells.right(here), cells.below[here]}
    labels = {cells.left(there), cells.above[there]}
    if (values | labels) - {None}:
        return True
    row, row_below = cells.rows[cells.cells[here].row], cells.rows[cells.cells[there].row]
    if min(len(row), len(row_below)) < 2 or _share_width(cells, here, there):
        return False
    has_value = any(_share_width(cells, here, other) for other in row_below)
    has_label = any(_share_width(cells, other, there) for other in row)
    return has_value and has_label


def _share_width(cells: PageCells, one: int, other: int) -> bool:
    """Whether one of two cells stands somewhere below the other."""
    left, _, right, _ = cells.cells[one].box
    other_left, _, other_right, _ = cells.cells[other].box
    return min(right, other_right) > max(left, other_left)


def _is_sentence(text: str) -> bool:
    """Whether a cell ends as sentences do, and is longer than an abbreviated label ("Customer no.")."""
    return text.endswith((".", "!", "?", "。")) and len(text) >= THRESHOLDS.text_line_letters


def _is_number(text: str) -> bool:
    return not any(character.isalpha() for character in text)


def _row_is_done(cells: PageCells, run: _LetterRun, there: int) -> bool:
    """Whether the evidence has read all of a line and goes on with the next: two rows of a table."""
    row = cells.rows[cells.cells[run.cells[-1]].row]
    first = cells.cells[there]
    is_whole = 1 < len(row) <= THRESHOLDS.max_row_cells and tuple(run.cells[-len(row) :]) == row
    return is_whole and first.place == 0 and first.row == cells.cells[run.cells[-1]].row + 1
