"""Which way the words of a page stand: lines of turned pages and of notes in a margin run up, down or to the left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visrag_integrations.ocr.turning import QuarterTurn, turned_box
from visrag_integrations.readers.text_direction import split_by_frame
from visrag_integrations.types import Word

_FAR = 1e6  # widths of a page; boxes of real words lie within one or two
_OF_FRAME: dict[str, QuarterTurn] = {"up": 0, "rise": 90, "head": 180, "down": 270}


def word_turns(words: Sequence[Word], shape: float = 1.0) -> list[QuarterTurn]:
    """For each word, by how many degrees clockwise the page must be turned so that its line runs to the right.

    Args:
        words: In reading order.
        shape: The page's width as a share of its height; without, words of four letters or more are told apart.

    >>> word_turns([Word("paid", (0.4, 0.7, 0.45, 0.8)), Word("late", (0.4, 0.5, 0.45, 0.6))])  # upwards
    [90, 90]
    """
    turns: list[QuarterTurn] = [0] * len(words)
    boxes = np.array([word.box for word in words], dtype=np.float64).reshape(-1, 4) * (shape, 1.0, shape, 1.0)
    # Any program may have made the boxes: what is no place on or near a page becomes one, so that sums stay numbers.
    near = np.clip(np.nan_to_num(boxes), -_FAR, _FAR)
    for frame, part in split_by_frame([word.text for word in words], near):
        places = range(len(words))
        if part is not None:
            places = part.tolist()
        for place in places:
            turns[place] = _OF_FRAME[frame.turn]
    return turns


def upright_words(words: Sequence[Word], turns: Sequence[QuarterTurn]) -> Sequence[Word]:
    """The words with the boxes that they have when the page is turned to read them.

    Words that run another way go below the page, so that none of them stands in a line of the others.
    """
    if not any(turns):
        return words
    ways = sorted(set(turns))
    upright: list[Word] = []
    for word, turn in zip(words, turns, strict=True):
        left, top, right, bottom = turned_box(word.box, turn)
        below = 2.0 * ways.index(turn)
        upright.append(Word(word.text, (left, top + below, right, bottom + below)))
    return upright
