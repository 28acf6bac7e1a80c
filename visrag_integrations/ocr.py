"""Pixels in, words and text out, by RapidOCR.

The models that come with RapidOCR read Latin scripts, Chinese and Japanese well. They do not read Korean (a fifth of
the words come out right) and read Russian poorly: give such scans a text layer with another tool, or search them by
their pictures.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import statistics
import threading
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from visrag_integrations import images
from visrag_integrations.errors import MissingExtraError, UnknownNameError
from visrag_integrations.types import Word

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

TextAssembly = Literal["adjacent_merging", "layout_preserving"]
"""How the words of a page become one text: see `assemble`."""

MIN_SCORE = 0.6
"""Lines that OCR is less sure of are left out, as in the VisRAG paper's baselines."""

PIXELS = 960 * 720
"""A page is read at so many pixels (an A4 page at 980 x 700): larger is slower and reads no better."""

_lock = threading.Lock()
_threads: int | None = None


def is_installed() -> bool:
    """Whether RapidOCR and what it runs on are installed."""
    found = (importlib.util.find_spec(name) is not None for name in ("rapidocr", "onnxruntime"))
    return all(found)


@functools.lru_cache(maxsize=1)
def warn_missing() -> None:
    """Say once in the log that pages without text stay without, and what to install."""
    logger.warning('Pages without a text layer get no text. For OCR: pip install "visrag-integrations[cpu]"')


def count_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads(threads: int) -> None:
    """Let the OCR of this process use so many threads; call it before the first page is read."""
    global _threads
    _threads = threads


def read_words(image: Image) -> tuple[Word, ...]:
    """The lines of text on a picture, top to bottom and left to right, each as one `Word` with its box.

    Raises:
        MissingExtraError: RapidOCR is not installed.
    """
    import numpy as np

    small = images.fit(images.to_rgb(image), PIXELS)
    pixels = np.ascontiguousarray(np.asarray(small)[:, :, ::-1])  # OCR wants BGR
    with _lock:
        found = _engine()(pixels)
    if found.boxes is None or found.txts is None:
        return ()
    words = []
    for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        if score >= MIN_SCORE and text.strip():
            words.append(Word(text.strip(), _fractions(corners, small.width, small.height)))
    return tuple(word for line in _lines(words) for word in line)


def assemble(words: Sequence[Word], how: str = "adjacent_merging") -> str:
    """The words as one text: "adjacent_merging" joins boxes that touch, "layout_preserving" sets each where it stood.

    >>> page = [Word("Year", (0.1, 0.1, 0.2, 0.12)), Word("Total", (0.6, 0.1, 0.7, 0.12))]
    >>> assemble(page), assemble(page, "layout_preserving")
    ('Year\\nTotal', 'Year                  Total')
    """
    if how not in ASSEMBLIES:
        raise UnknownNameError(f"There is no text assembly {how!r}; use one of {', '.join(ASSEMBLIES)}.")
    return ASSEMBLIES[how](words) if words else ""


def _merge_adjacent(words: Sequence[Word]) -> str:
    """Blocks of boxes that touch, from the top left to the bottom right, each read line by line."""
    height, width = _line_height(words), _column_width(words)
    blocks: list[list[Word]] = []
    for word in words:
        touching = [block for block in blocks if any(_touch(word, other, height, width) for other in block)]
        blocks = [block for block in blocks if block not in touching]
        blocks.append([*(other for block in touching for other in block), word])
    corners = [Word(str(index), _hull(block)) for index, block in enumerate(blocks)]
    ordered = [blocks[int(corner.text)] for line in _lines(corners) for corner in line]
    return "\n".join(" ".join(word.text for word in line) for block in ordered for line in _lines(block))


def _preserve_layout(words: Sequence[Word]) -> str:
    """One line of text a line on the page: gaps become spaces, skipped lines become empty ones."""
    height, width = _line_height(words), _column_width(words)
    first = min(word.box[0] for word in words)
    text, bottom = [], None
    for line in _lines(words):
        top = min(word.box[1] for word in line)
        if bottom is not None:
            text += [""] * min(3, max(0, round((top - bottom) / height - 0.5)))
        bottom = max(word.box[3] for word in line)
        written, cells = "", 0
        for word in line:
            gap = max(1 if written else 0, round((word.box[0] - first) / width) - cells)
            written += " " * gap + word.text
            cells += gap + _cells(word.text)
        text.append(written)
    return "\n".join(text)


ASSEMBLIES: dict[str, Callable[[Sequence[Word]], str]] = {
    "adjacent_merging": _merge_adjacent,
    "layout_preserving": _preserve_layout,
}


def _touch(one: Word, other: Word, height: float, width: float) -> bool:
    """Side by side within two characters, or one above the other within most of a line."""
    across = max(one.box[0], other.box[0]) - min(one.box[2], other.box[2])
    down = max(one.box[1], other.box[1]) - min(one.box[3], other.box[3])
    return (across < 2 * width and down < -0.3 * height) or (across < 0 and down < 0.8 * height)


def _lines(words: Sequence[Word]) -> list[list[Word]]:
    """Words whose middles are level, left to right; the lines top to bottom.

    >>> [[w.text for w in line] for line in _lines([Word("b", (.5, .11, .6, .2)), Word("a", (.1, .1, .2, .2))])]
    [['a', 'b']]
    """
    lines: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.box[1] + word.box[3]):
        middle = (word.box[1] + word.box[3]) / 2
        if lines and lines[-1][0].box[1] <= middle <= lines[-1][0].box[3]:
            lines[-1].append(word)
        else:
            lines.append([word])
    return [sorted(line, key=lambda word: word.box[0]) for line in lines]


def _line_height(words: Sequence[Word]) -> float:
    return max(1e-4, statistics.median(word.box[3] - word.box[1] for word in words))


def _column_width(words: Sequence[Word]) -> float:
    return max(1e-4, statistics.median((word.box[2] - word.box[0]) / max(1, _cells(word.text)) for word in words))


def _cells(text: str) -> int:
    """Columns the text takes in a typewriter's grid: two for a wide character."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _hull(words: Sequence[Word]) -> tuple[float, float, float, float]:
    left, top, right, bottom = zip(*(word.box for word in words), strict=True)
    return min(left), min(top), max(right), max(bottom)


def _fractions(corners: Any, width: int, height: int) -> tuple[float, float, float, float]:
    across, down = corners[:, 0] / width, corners[:, 1] / height
    edges = (across.min(), down.min(), across.max(), down.max())
    left, top, right, bottom = (round(min(1.0, max(0.0, float(edge))), 5) for edge in edges)
    return left, top, right, bottom


@functools.lru_cache(maxsize=1)
def _engine() -> Any:
    """RapidOCR with the models of its own wheel, on OpenVINO when that is installed."""
    try:
        from rapidocr import EngineType, RapidOCR
    except ImportError as err:
        raise MissingExtraError("RapidOCR", "cpu") from err
    params: dict[str, Any] = {
        "Global.log_level": "critical",
        "Global.text_score": MIN_SCORE,
        "Global.use_cls": False,  # lines that stand on their heads: a tenth of the time, almost never met
        "Global.max_side_len": 4000,
        "Rec.rec_batch_num": 1,  # batches are padded to their longest line, which costs more than it saves
    }
    if importlib.util.find_spec("openvino") is not None:
        params |= {"Det.engine_type": EngineType.OPENVINO, "Rec.engine_type": EngineType.OPENVINO}
    threads = _threads or count_cores()
    params["EngineConfig.onnxruntime.intra_op_num_threads"] = threads
    params["EngineConfig.openvino.inference_num_threads"] = threads
    return RapidOCR(params=params)
