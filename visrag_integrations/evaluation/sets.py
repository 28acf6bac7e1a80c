"""What there is to evaluate with: questions, the pages they are asked of, and which pages hold the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.files import write_whole
from visrag_integrations.types import Box, Page

PageKey = Callable[[Page], str]
"""How judgements name a page; see `page_key`."""

# Edges of right boxes, as fractions of the page. Wider, and pixels of small pictures would be taken for fractions.
_FARTHEST_OUT = (-1.0, 2.0)


class PageBox(NamedTuple):
    """A box and the page it is on: left, top, right, bottom as fractions of the page, as the boxes of evidence are.

    >>> PageBox("a.pdf#page=3", 0.1, 0.2, 0.5, 0.25).box
    (0.1, 0.2, 0.5, 0.25)
    """

    page: str  # its key, as in the judgements; see `page_key`
    left: float
    top: float
    right: float
    bottom: float

    @property
    def box(self) -> Box:
        """The box without its page."""
        return self[1:]


@dataclass(frozen=True)
class Question:
    """One question, and what is known about its answer.

    Attributes:
        id: Its name within the set.
        text: The question.
        answers: Every answer that counts as right; empty when none is known.
        options: Of a multiple-choice question.
        answerable: False where the pages do not hold the answer and the right answer is to say so.
        numeric: Whether the answer is a number, for "relaxed"; None when the set does not say.
        group: Which part of the set it belongs to ("answerable", "title", ...); results are shown by group too.
        pages: The pages to answer from, best first, where the set comes with them.
        boxes: Where on its pages the answer stands; empty where the set does not say.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    answerable: bool = True
    numeric: bool | None = None
    group: str = ""
    pages: tuple[Page, ...] = field(default=(), repr=False)
    boxes: tuple[PageBox, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class EvaluationSet:
    """Questions with their judgements, and the pages to search where the set comes with them.

    Attributes:
        name: What it is called in results.
        questions: In the set's own order.
        qrels: Question id -> page key (see `page_key`) -> grade, 1 and more is relevant.
        pages: The pages to search; their pictures are opened when needed. Empty where the documents are elsewhere.
    """

    name: str
    questions: tuple[Question, ...]
    qrels: Mapping[str, Mapping[str, int]] = field(default_factory=dict, repr=False)
    pages: tuple[Page, ...] = field(default=(), repr=False)

    def first(self, count: int) -> EvaluationSet:
        """The set with its first questions only; the pages stay."""
        kept = self.questions[:count]
        qrels = {question.id: self.qrels[question.id] for question in kept if question.id in self.qrels}
        return replace(self, questions=kept, qrels=qrels)

    def save(self, path: str | Path) -> None:
        """Write questions, answers and judgements, one JSON object a line; `load_evaluation_set` reads it back.

        Pages are not written: they stay in the documents they are of.
        """
        lines: list[str] = []
        for question in self.questions:
            values = _as_dict(question, self.qrels.get(question.id, {}))
            lines.append(json.dumps(values, ensure_ascii=False))
        try:
            write_whole(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
        except OSError as err:
            raise SettingError(f"{str(path)!r} cannot be written: {err.strerror or err}. Name another file.") from err


def page_key(page: Page) -> str:
    """How judgements and run files name a page: the set's own id, or its file's name and number.

    >>> page_key(Page("doc", 3, source="folder/report.pdf"))
    'report.pdf#page=3'
    >>> page_key(Page("doc", 1, metadata={"corpus_id": "37313.jpeg"}))
    '37313.jpeg'
    """
    # Not the page's own id: it holds a hash of the file, which nobody writes into a set by hand.
    given = page.metadata.get("corpus_id")
    if given is not None:
        return str(given)
    return key_of(page.source or page.doc_id, page.number)


def key_of(source: str, number: int) -> str:
    """The key of a page of a document; of a path, the file's name counts."""
    # The file's name without its folder, so that a set is still right when the documents are moved.
    name = source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return f"{name or source}#page={number}"


def page_boxes(value: Any, where: str) -> tuple[PageBox, ...]:
    """Boxes as a file has them: [page key, left, top, right, bottom] each, in fractions of the page.

    >>> page_boxes([["a.pdf#page=3", 0.1, 0.2, 0.5, 0.25]], "row 1")
    (PageBox(page='a.pdf#page=3', left=0.1, top=0.2, right=0.5, bottom=0.25),)

    Raises:
        DatasetError: They are no such list, or a box is not on its page.
    """
    form = "[page key, left, top, right, bottom]"
    if not isinstance(value, (list, tuple, type(None))):
        raise DatasetError(where, f"its boxes are {value!r:.80}; they are a list of {form}.")
    boxes: list[PageBox] = []
    for one in value or ():
        try:
            key, *edges = one
            left, top, right, bottom = map(float, edges)
        except (TypeError, ValueError):
            raise DatasetError(where, f"a box is {one!r:.80}; it is {form}.") from None
        boxes.append(PageBox(str(key), left, top, right, bottom))
        if not _is_on_its_page(boxes[-1].box):
            raise DatasetError(
                where, f"the box {one!r:.80} is not on its page. Boxes are fractions of it, from 0 to 1, not pixels."
            )
    return tuple(boxes)


def _is_on_its_page(box: Box) -> bool:
    """Whether a part of it is; it may stand out over the edges, but not as far as pixels would."""
    left, top, right, bottom = box
    near = all(_FARTHEST_OUT[0] <= edge <= _FARTHEST_OUT[1] for edge in box)  # not a number is not near either
    across = min(left, right) < 1 and max(left, right) > 0
    return near and across and min(top, bottom) < 1 and max(top, bottom) > 0


def _as_dict(question: Question, relevant: Mapping[str, int]) -> dict[str, Any]:
    """Only what says something."""
    values: dict[str, Any] = {"id": question.id, "query": question.text, "answers": list(question.answers)}
    if question.options:
        values["options"] = list(question.options)
    if question.group:
        values["group"] = question.group
    if question.numeric is not None:
        values["numeric"] = question.numeric
    if not question.answerable:
        values["answerable"] = False
    if question.boxes:
        values["boxes"] = [list(box) for box in question.boxes]
    return values | {"relevant": dict(relevant)}
