"""What there is to evaluate with: questions, the pages they are asked of, and which pages hold the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError, UnknownNameError
from visrag_integrations.evaluation.languages import language_code
from visrag_integrations.evaluation.marks import MarkedBox, PageBox, boxes_on
from visrag_integrations.files import write_whole
from visrag_integrations.types import Box, Page

PageKey = Callable[[Page], str]
"""How judgements name a page; see `page_key`."""


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
        language: As the set writes it ("french", "fr"); "" where it does not say.
        subset: The part of the set it comes from, where a set has several (mteb's "english", "academic_paper").
        candidates: Keys of the pages it is asked of; only they are searched. None: all pages of the set.
        marked: Page key -> where on that page people say that the answer stands (ViDoRe V3); see `with_boxes`.
        metadata: What else the set says of it, by the name of the column ("query_types", "content_type").
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
    language: str = ""
    subset: str = ""
    candidates: tuple[str, ...] | None = field(default=None, repr=False)
    marked: Mapping[str, tuple[MarkedBox, ...]] = field(default_factory=dict, repr=False, hash=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def labels(self, name: str) -> tuple[str, ...]:
        """What it is called in one respect: its "language", "subset", "group", or a column of the set.

        A column may be named in the singular, and one that lists several values gives several labels.

        >>> Question("q", "?", metadata={"query_types": ["numerical", "multi-hop"]}).labels("query_type")
        ('numerical', 'multi-hop')
        """
        if name in _OWN_LABELS:
            found = getattr(self, name)
        else:
            found = self.metadata.get(name, self.metadata.get(f"{name}s"))
        if found is None or found == "":
            return ()
        if not isinstance(found, (list, tuple)):
            found = [found]
        return tuple(map(str, found))


_OWN_LABELS = ("group", "language", "subset")


@dataclass(frozen=True)
class EvaluationSet:
    """Questions with their judgements, and the pages to search where the set comes with them.

    Attributes:
        name: What it is called in results.
        questions: In the set's own order.
        qrels: Question id -> page key (see `page_key`) -> grade, 1 and more is relevant.
        pages: The pages to search; their pictures are opened when needed. Empty where the documents are elsewhere.
        group_by: By what results are shown in groups: see `Question.labels`.
        part: Which share of the questions this is: (2, 4) is the second of four. See `shard`.
        whole: How many questions there were before they were shared out.
    """

    name: str
    questions: tuple[Question, ...]
    qrels: Mapping[str, Mapping[str, int]] = field(default_factory=dict, repr=False)
    pages: tuple[Page, ...] = field(default=(), repr=False)
    group_by: str = "group"
    part: tuple[int, int] | None = None
    whole: int = 0

    def shard(self, number: int, count: int) -> EvaluationSet:
        """The questions of one of `count` processes, numbered from 1; the pages stay. `merge_records` joins results.

        >>> questions = tuple(Question(name, "?") for name in "abcde")
        >>> [question.id for question in EvaluationSet("x", questions).shard(2, 3).questions]
        ['b', 'e']

        Raises:
            SettingError: There is no such shard, or it would have no question.
        """
        if not 1 <= number <= count:
            raise SettingError(f"There is no shard {number} of {count}; they are numbered from 1 to {count}.")
        if count > len(self.questions):
            raise SettingError(f"{self.name} has {len(self.questions)} questions, too few for {count} shards.")
        # Every count-th: neighbours are often of one document, and of one difficulty.
        taken = self.only(self.questions[number - 1 :: count])
        return replace(taken, part=(number, count), whole=len(self.questions))

    def first(self, count: int) -> EvaluationSet:
        """The set with its first questions only; the pages stay."""
        return self.only(self.questions[:count])

    def only(self, questions: Sequence[Question]) -> EvaluationSet:
        """The set with these of its questions; the pages stay."""
        qrels = {question.id: self.qrels[question.id] for question in questions if question.id in self.qrels}
        return replace(self, questions=tuple(questions), qrels=qrels)

    def in_language(self, language: str) -> EvaluationSet:
        """The set with its questions of one language only: "fr", "fra", "french" and "French" are the same.

        Raises:
            UnknownNameError: It has none in that language; says in which.
        """
        wanted = language_code(language)
        kept: list[Question] = []
        there: dict[str, None] = {}
        for question in self.questions:
            if question.language:
                there[question.language] = None
            if question.language and language_code(question.language) == wanted:
                kept.append(question)
        if not kept:
            known = "it does not say in which language its questions are"
            if there:
                known = f"there is {', '.join(there)}"
            raise UnknownNameError(f"{self.name} has no question in the language {language!r}; {known}.")
        return self.only(kept)

    def with_boxes(self) -> EvaluationSet:
        """The set with what people marked in pixels (ViDoRe V3) as boxes too; pictures of those pages are opened."""
        marks_by_page: dict[str, set[MarkedBox]] = {}
        for question in self.questions:
            for key, marks in question.marked.items():
                marks_by_page.setdefault(key, set()).update(marks)
        fractions: dict[str, dict[MarkedBox, Box]] = {}
        # Page by page in the set's order: pictures that lie together in a file are read together.
        for page in self.pages:
            key = page_key(page)
            if key in marks_by_page:
                fractions[key] = boxes_on(page, marks_by_page[key])
        questions: list[Question] = []
        for question in self.questions:
            boxes = list(question.boxes)
            for key, marks in question.marked.items():
                if key not in fractions:
                    continue  # a page that the corpus lacks, which was reported: no answer can show it
                for mark in marks:
                    boxes.append(PageBox(key, *fractions[key][mark]))
            questions.append(replace(question, boxes=tuple(boxes), marked={}))
        return replace(self, questions=tuple(questions))

    def grouped_by(self, name: str) -> EvaluationSet:
        """The set with results in groups by "language", "subset", "group", or a column such as "query_type".

        Raises:
            UnknownNameError: No question says anything by that name; says which names there are.
        """
        if not any(question.labels(name) for question in self.questions):
            raise UnknownNameError(
                f"The questions of {self.name} cannot be grouped by {name!r}; there is "
                f"{', '.join(self._labels()) or 'nothing to group them by'}."
            )
        return replace(self, group_by=name)

    def groups(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Group -> ids of its questions. A question may be in several groups, or in none."""
        wanted = set(ids)
        groups: dict[str, list[str]] = {}
        for question in self.questions:
            if question.id in wanted:
                for label in question.labels(self.group_by):
                    groups.setdefault(label, []).append(question.id)
        return groups

    def _labels(self) -> list[str]:
        """By what its questions can be grouped: what at least two of them share."""
        names: dict[str, None] = dict.fromkeys(_OWN_LABELS)
        for question in self.questions:
            names.update(dict.fromkeys(question.metadata))
        useful: list[str] = []
        for name in names:
            labels: list[str] = []
            for question in self.questions:
                labels += question.labels(name)
            if len(set(labels)) < len(labels):
                useful.append(name)
        return useful

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
    if question.boxes:
        values["boxes"] = [list(box) for box in question.boxes]
    if question.language:
        values["language"] = question.language
    if question.subset:
        values["subset"] = question.subset
    if question.candidates is not None:
        values["candidates"] = list(question.candidates)
    if question.marked:
        values["marked"] = {}
        for key, boxes in question.marked.items():
            values["marked"][key] = list(map(_box_as_dict, boxes))
    if question.metadata:
        values["metadata"] = dict(question.metadata)
    return values | {"relevant": dict(relevant)}


def _box_as_dict(box: MarkedBox) -> dict[str, Any]:
    values: dict[str, Any] = {"box": list(box.box)}
    if box.in_pixels:
        values["in_pixels"] = True
    if box.annotator:
        values["annotator"] = box.annotator
    return values
