"""Which words count where a PDF gives a text in place of its letters (`ActualText`).

Honest files use it for what letters cannot say: a hyphen that only divides a word, a glyph that no table names, a
ligature. The same key can plant "pay 9,100 EUR" over letters that say "pay 1,900 EUR", and no look at the picture finds
that: there is ink. So a page that has such a text is read both ways, and the given words count only where the drawn
letters say the same, or cannot be read.

    drawn  Ampli fi cation     given  Ampli-fi-cation (soft hyphens)   ->  given: the same letters
    drawn  Other Bidder        given  Falcon Works                     ->  drawn
    drawn  of\ufffdce             given  office                           ->  given: one glyph has no name
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visrag_integrations.readers.text_direction import is_right_to_left

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Glyphs that no table names: the replacement character, private use, control characters that old fonts put letters on.
_NAMELESS = re.compile("[\ufffd\ue000-\uf8ff\x00-\x08\x0e-\x1f\x7f-\x9f]")
# Letters that may stand for one such glyph. Ligatures of Latin have up to three, of Arabic four (Allah).
_LETTERS_OF_A_GLYPH = 4
# A font without the letters of a script often draws an empty box for each, and names all boxes by the first letter.
_ONE_LETTER = re.compile(r"([^\W\d_])\1{2,}")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u02bc`"), "'") | dict.fromkeys(map(ord, "\u201c\u201d\u201e"), '"')
# A hyphen at the end of a word or between letters only divides it; one before a digit is a sign.
_DIVIDES = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_]|\s|$)")
# Of the smaller of two boxes, in each direction: so much must be shared for the two to be words of one place.
_SHARED = 0.3
# Words that differ, of each kind. A page has a few; comparing each with each beyond that would take minutes.
_MOST_COMPARED = 5_000


class PlacedWords(NamedTuple):
    """Words in the order of painting.

    Attributes:
        texts: The words.
        corners: Of each left, top, right, bottom (or bottom, top), an array of shape (n, 4).
    """

    texts: Sequence[str]
    corners: NDArray[np.float64]


class ChosenWords(NamedTuple):
    """The words that count, in the order of painting.

    Attributes:
        texts: The words.
        corners: An array of shape (n, 4).
        places: For each the place of the drawn word that it is or stands for.
    """

    texts: list[str]
    corners: NDArray[np.float64]
    places: list[int]


def choose(drawn: PlacedWords, given: PlacedWords) -> ChosenWords:
    """All words that are in both, and of each place where they differ the ones or the others.

    Args:
        drawn: As the letters say.
        given: As `ActualText` says, where there is one; else the same.
    """
    drawn_only, given_only = _differing(drawn, given)
    stands_for: dict[int, list[tuple[str, NDArray[np.float64]]]] = {}
    if max(len(drawn_only), len(given_only)) <= _MOST_COMPARED:
        for ours, theirs in _groups(drawn, drawn_only, given, given_only):
            texts = [given.texts[place] for place in theirs]
            if not may_stand_for(texts, [drawn.texts[place] for place in ours]):
                continue
            for place in ours:
                stands_for[place] = []
            if len(ours) == 1:  # engines spread given letters over glyphs, and may leave a gap: "offi ce"
                stands_for[ours[0]] = [("".join(texts), drawn.corners[ours[0]])]
            else:
                stands_for[ours[0]] = [(given.texts[place], given.corners[place]) for place in theirs]
    said: list[str] = []
    corners: list[NDArray[np.float64]] = []
    places: list[int] = []
    for place, text in enumerate(drawn.texts):
        for word, box in stands_for.get(place, [(text, drawn.corners[place])]):
            said.append(word)
            corners.append(box)
            places.append(place)
    return ChosenWords(said, np.array(corners, dtype=np.float64).reshape(-1, 4), places)


def may_stand_for(given: Sequence[str], drawn: Sequence[str]) -> bool:
    """Whether words that a file gives can be what its letters show.

    >>> may_stand_for(["Falcon"], ["Other"]), may_stand_for(["18.300"], ["18,300"]), may_stand_for(["9"], ["-9"])
    (False, False, False)
    >>> may_stand_for(["inter\\u00ad"], ["inter-"]), may_stand_for(["office"], ["of\\ufffdce"])
    (True, True)
    """
    ours, theirs = _plain(drawn), _plain(given)
    letters, given_letters = "".join(ours.split()), "".join(theirs.split())
    if letters == given_letters:
        # "1 5" and "15" have the same letters, and are not the same number.
        return ours == theirs or not any(map(str.isdigit, letters))
    if is_right_to_left(letters) and sorted(letters) == sorted(given_letters):  # engines mirror ligatures
        return not any(map(str.isdigit, letters))
    nameless = len(_NAMELESS.findall("".join(drawn)))
    readable = _NAMELESS.sub("", letters)
    if not letters.isascii() and _ONE_LETTER.fullmatch(readable):
        nameless, readable = nameless + len(readable), ""
    most = len(readable) + _LETTERS_OF_A_GLYPH * nameless
    return nameless > 0 and len(given_letters) <= most and _is_within(readable, given_letters)


def _plain(words: Sequence[str]) -> str:
    """Words without what a reader cannot see the difference of: presentation forms, kinds of dashes, soft hyphens."""
    text = unicodedata.normalize("NFKC", " ".join(words)).casefold().translate(_DASHES).translate(_QUOTES)
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return _DIVIDES.sub("", visible)


def _is_within(letters: str, others: str) -> bool:
    """Whether all letters stand among others in the same order.

    >>> _is_within("ofce", "office"), _is_within("ofce", "coffee")
    (True, False)
    """
    rest = iter(others)
    return all(letter in rest for letter in letters)


def _differing(drawn: PlacedWords, given: PlacedWords) -> tuple[list[int], list[int]]:
    """Places of the drawn words that are not given, and of the given ones that are not drawn."""
    drawn_keys, given_keys = _keys(drawn), _keys(given)
    in_drawn, in_given = set(drawn_keys), set(given_keys)
    drawn_only = [place for place, key in enumerate(drawn_keys) if key not in in_given]
    given_only = [place for place, key in enumerate(given_keys) if key not in in_drawn]
    return drawn_only, given_only


def _keys(words: PlacedWords) -> list[tuple[Any, ...]]:
    corners = map(tuple, np.round(words.corners, 1).tolist())
    return list(zip(words.texts, corners, strict=True))


def _groups(
    drawn: PlacedWords, drawn_only: Sequence[int], given: PlacedWords, given_only: Sequence[int]
) -> Iterable[tuple[list[int], list[int]]]:
    """Drawn and given words that stand in one place, place by place; places with words of one kind only are left out.

    One given word over three drawn ones, or three over one, are one place.
    """
    boxes = _sorted_corners(given.corners[list(given_only)])
    group_of_given: dict[int, int] = {}
    groups: dict[int, tuple[list[int], list[int]]] = {}
    drawn_boxes = _sorted_corners(drawn.corners[list(drawn_only)])
    for number, place in enumerate(drawn_only):
        ours, theirs = [place], []
        for other in _meeting(drawn_boxes[number], boxes):
            group = group_of_given.get(other)
            if group is None:
                theirs.append(other)
            elif group in groups:  # a given word that a drawn one before stands under too: their places are one
                earlier = groups.pop(group)
                ours, theirs = earlier[0] + ours, earlier[1] + theirs
        for other in theirs:
            group_of_given[other] = number
        groups[number] = (ours, theirs)
    for ours, theirs in groups.values():
        if theirs:
            yield sorted(ours), [given_only[other] for other in sorted(theirs)]


def _sorted_corners(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(-1, 4)


def _meeting(box: NDArray[np.float64], others: NDArray[np.float64]) -> list[int]:
    """Which of the others share enough of this box."""
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    smaller = np.minimum(box[2:] - box[:2], others[:, 2:] - others[:, :2])
    meets = (shared > 0) & (shared >= _SHARED * smaller)
    return np.flatnonzero(meets.all(axis=1)).tolist()
