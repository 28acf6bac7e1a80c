"""What there is to evaluate with: questions, the pages they are asked of, and which pages hold the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.files import write_whole
from visrag_integrations.types import Page


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
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    answerable: bool = True
    numeric: bool | None = None
    group: str = ""
    pages: tuple[Page, ...] = field(default=(), repr=False)


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
    return values | {"relevant": dict(relevant)}
