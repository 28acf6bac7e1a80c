"""Rows of data sets as questions, pages and judgements, by the names that the published sets give their columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation.marks import MarkedBox, page_boxes
from visrag_integrations.evaluation.sets import Question, key_of
from visrag_integrations.evaluation.tables import IMAGE, Row
from visrag_integrations.types import Page

# The first of them that has a value counts.
QUESTION_ID = ("query-id", "query_id", "qid", "_id", "id")
PAGE_ID = ("corpus-id", "corpus_id", "_id", "id")
PAGE_ID_BESIDE_QUESTION = ("image_filename", "corpus-id", "corpus_id")
# "markdown" is what ViDoRe V3 calls the text of a page.
_PAGE_TEXT = ("title", "text", "markdown")
_DOCUMENT = ("doc_id", "doc-id")
_PAGE_NUMBER = ("page_number_in_doc", "page_number")
_TEXT = ("query", "question", "text")
_ANSWERS = ("answers", "answer", "golden_answers")
_ANSWERABLE = ("answerable", "is_sufficient")
_NUMERIC = ("numeric", "is_numerical")
_GROUP = ("group", "kind")
# What a truth value is written as: JSON's and Python's words, numbers (of parquet files 1.0 too), and plain ones.
_YES_OR_NO = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}
_GRADE = ("score", "grade", "relevance")
# "corpus_range": ViDoSeek as VLM2Vec has it.
_CANDIDATES = ("candidates", "corpus_range")
# What a question is made of; every other column is kept in its metadata.
_READ = {
    *QUESTION_ID, *_TEXT, *_ANSWERS, *_ANSWERABLE, *_NUMERIC, *_GROUP, *_CANDIDATES, *PAGE_ID_BESIDE_QUESTION,
    IMAGE, "options", "language", "subset", "boxes", "marked", "metadata", "relevant", "modality",
}  # fmt: skip


def page_of(row: Row, where: str, name: str, columns: Sequence[str] = PAGE_ID) -> Page:
    """A row of a corpus as a page: its own id is the document, and the page is the only one of it.

    What the set says of the real document is kept in the metadata, for `by_document`.
    """
    given = first(row, columns)
    if given is None or str(given) == "":
        raise DatasetError(where, f"a page needs an id, in one of the columns {', '.join(columns)}.")
    texts_of_page: list[str] = []
    for column in _PAGE_TEXT:
        if row.get(column):
            texts_of_page.append(str(row[column]))
    text = "\n".join(texts_of_page)
    if row.get(IMAGE) is None and not text:
        raise DatasetError(where, f"page {given!r} has neither a picture (column image) nor a text (column text).")
    metadata: dict[str, Any] = {"corpus_id": str(given)}
    document = first(row, _DOCUMENT)
    number = first(row, _PAGE_NUMBER)
    if document is not None:
        metadata["document_id"] = str(document)
    if number is not None:
        metadata["page_number"] = number
    return Page(str(given), 1, text, source=f"{name}/{given}", metadata=metadata, picture=row.get(IMAGE))


def question_of(row: Row, where: str, number: int) -> Question:
    """A row as a question; `number` is its place, for one without an id."""
    text = first(row, _TEXT)
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(where, f"has no question: column query is {text!r}.")
    given = first(row, QUESTION_ID)
    if given is None:
        given = f"q{number}"
    answerable = _yes_or_no(row, _ANSWERABLE, where) is not False
    group = first(row, _GROUP)
    if not group and "is_sufficient" in row:
        group = "answerable" if answerable else "unanswerable"
    answers = first(row, _ANSWERS)
    numeric = _yes_or_no(row, _NUMERIC, where)
    # A set that says nothing, but writes the answer as a number, means a number.
    if numeric is None and isinstance(answers, (int, float)):
        numeric = True
    return Question(
        id=str(given),
        text=text.strip(),
        answers=texts(answers, where),
        options=texts(row.get("options"), where),
        answerable=answerable,
        numeric=numeric,
        group=str(group or ""),
        language=str(row.get("language") or ""),
        subset=str(row.get("subset") or ""),
        candidates=_candidates(row, where),
        boxes=page_boxes(row.get("boxes"), where),
        marked=_boxes_by_page(row.get("marked"), where),
        metadata=_metadata(row),
    )


def relevant_of(row: Row, where: str) -> dict[str, int]:
    """The pages that hold the answer: `relevant` (keys, or key -> grade), or `source` and `page`."""
    relevant = row.get("relevant")
    if isinstance(relevant, Mapping):
        grades: dict[str, int] = {}
        for key, grade in relevant.items():
            grades[str(key)] = whole(grade, where, "the grade")
        return grades
    if relevant is not None:
        return dict.fromkeys(texts(relevant, where), 1)
    source, pages = row.get("source"), row.get("page")
    if source is None:
        return {}
    if not isinstance(pages, list):
        pages = [pages]
    keys: list[str] = []
    for number in pages:
        keys.append(key_of(str(source), whole(number, where, "page")))
    return dict.fromkeys(keys, 1)


def judgement_of(row: Row, where: str, number: int) -> tuple[str, str, int, tuple[MarkedBox, ...]]:
    """A row of qrels: question, page, grade, and the boxes that were marked on that page (ViDoRe V3)."""
    question = first(row, ("query-id", "query_id", "qid"))
    page = first(row, ("corpus-id", "corpus_id"))
    if question is None or page is None:
        raise DatasetError(where, f"row {number} of qrels lacks query-id or corpus-id; it has {', '.join(row)}.")
    where = f"{where}, qrels row {number}"
    grade = whole(first(row, _GRADE, 1), where, "the grade")
    return str(question), str(page), grade, marked_boxes(row.get("bounding_boxes"), where)


def ranked_of(row: Row, where: str, number: int) -> tuple[str, tuple[str, ...]]:
    """A row of mteb's `top_ranked`: a question, and the pages it is asked of."""
    question, pages = first(row, ("query-id", "query_id")), first(row, ("corpus-ids", "corpus_ids"))
    if question is None or not isinstance(pages, (list, tuple)) or not pages:
        raise DatasetError(where, f"row {number} of top_ranked needs query-id and corpus-ids, a list of page ids.")
    return str(question), texts(pages, where)


def marked_boxes(value: Any, where: str) -> tuple[MarkedBox, ...]:
    """Boxes as sets write them: our own, [left, top, right, bottom] as fractions, or those of ViDoRe V3, in pixels.

    >>> marked_boxes([[0.1, 0.2, 0.5, 0.4]], "x")
    (MarkedBox(box=(0.1, 0.2, 0.5, 0.4), in_pixels=False, annotator=''),)
    >>> marked_boxes([{"annotator": 0, "x1": 10, "x2": 90, "y1": 20, "y2": 40}], "x")
    (MarkedBox(box=(10.0, 20.0, 90.0, 40.0), in_pixels=True, annotator='0'),)
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise DatasetError(where, f"its boxes are {value!r:.80}; they must be a list.")
    boxes: list[MarkedBox] = []
    for each in value:
        if not isinstance(each, Mapping):
            each = {"box": each}
        if "x1" in each:
            # The columns stand in the order x1, x2, y1, y2 in the files, and are named here.
            sides: Any = [each.get(side) for side in ("x1", "y1", "x2", "y2")]
            in_pixels = True
        else:
            sides = each.get("box")
            in_pixels = bool(each.get("in_pixels"))
        boxes.append(MarkedBox(_sides(sides, in_pixels, where), in_pixels, str(each.get("annotator", ""))))
    return tuple(boxes)


def first(row: Row, columns: Iterable[str], default: Any = None) -> Any:
    """The value of the first of these columns that has one."""
    for column in columns:
        if row.get(column) is not None:
            return row[column]
    return default


def texts(value: Any, where: str) -> tuple[str, ...]:
    """One text or several; numbers as they are written."""
    if not isinstance(value, (list, tuple)):
        value = [value]
    found: list[str] = []
    for one in value:
        if one is None:
            continue
        if not isinstance(one, (str, int, float)):
            raise DatasetError(where, f"{one!r} is {type(one).__name__}; answers, options and page keys are texts.")
        found.append(str(one))
    return tuple(found)


def whole(value: Any, where: str, what: str) -> int:
    """A whole number: 2.0 and "2" are some in a JSON or parquet file, True and 2.5 are not."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or number != float(value):
        raise DatasetError(where, f"{what} is {value!r}; it must be a whole number.")
    return number


def _yes_or_no(row: Row, columns: Sequence[str], where: str) -> bool | None:
    """A truth value, also where it is written, as in a .tsv file; None where the row does not say."""
    value = first(row, columns)
    # NaN is what pandas puts where a row of a table has no value.
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    written = str(value).strip().lower()
    if written not in _YES_OR_NO:
        raise DatasetError(where, f"{columns[0]} is {value!r:.80}; it must be true or false.")
    return _YES_OR_NO[written]


def _sides(sides: Any, in_pixels: bool, where: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = map(float, sides)
    except (TypeError, ValueError):
        left = top = right = bottom = -1.0
    farthest = float("inf") if in_pixels else 1.0
    if not (0 <= left <= right <= farthest and 0 <= top <= bottom <= farthest):
        raise DatasetError(
            where, f"{sides!r:.80} is no box; it must be left, top, right, bottom, as fractions (0 to 1) of the page."
        )
    return left, top, right, bottom


def _boxes_by_page(value: Any, where: str) -> dict[str, tuple[MarkedBox, ...]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DatasetError(where, f"its boxes are {value!r:.80}; they must be page -> list of boxes.")
    marked: dict[str, tuple[MarkedBox, ...]] = {}
    for key, boxes in value.items():
        marked[str(key)] = marked_boxes(boxes, where)
    return marked


def _candidates(row: Row, where: str) -> tuple[str, ...] | None:
    given = first(row, _CANDIDATES)
    if given is None:
        return None
    pages = texts(given, where)
    # An empty list may mean "all" or "none": no published set has one, and neither is guessed.
    if not pages:
        raise DatasetError(where, "its list of candidates is empty. Leave it out where all pages are meant.")
    return pages


def _metadata(row: Row) -> dict[str, Any]:
    """The columns that nothing else is made of, and that say something."""
    kept: dict[str, Any] = {}
    if isinstance(row.get("metadata"), Mapping):
        kept.update(row["metadata"])
    # "source" and "page" are where the answer stands, in sets of one's own: see `relevant_of`.
    read = _READ
    if row.get("relevant") is None and row.get(IMAGE) is None:
        read = _READ | {"source", "page"}
    for name, value in row.items():
        if name in read or value is None or value == [] or isinstance(value, bytes):
            continue
        kept[name] = value
    return kept
