"""The tables of a set: which belong together, and one `EvaluationSet` made of them.

corpus queries qrels                                   one part: VisRAG-Ret-Test, ViDoRe V1 (BEIR), V2, V3
corpus queries default                                 one part: mteb names its judgements so
english-corpus english-queries english-qrels ...       a part for each language, or each domain: mteb
academic_paper-top_ranked                              beside them: the pages that each question is asked of (MMDocIR)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from visrag_integrations.errors import DatasetError, UnknownNameError
from visrag_integrations.evaluation.checks import warn_of_contradictions
from visrag_integrations.evaluation.corpora import corpus_pages, is_same_corpus
from visrag_integrations.evaluation.languages import is_language, language_code
from visrag_integrations.evaluation.marks import MarkedBox, PageBox
from visrag_integrations.evaluation.rows import QUESTION_ID, first, judgement_of, question_of, ranked_of
from visrag_integrations.evaluation.sets import EvaluationSet, Question, page_key
from visrag_integrations.evaluation.tables import Row
from visrag_integrations.types import Page

Value = TypeVar("Value")


@dataclass(frozen=True)
class Tables:
    """The tables of a set by name, wherever they are.

    Attributes:
        source: The set, as the caller named it.
        names: Of the tables.
        rows: Reads the rows of one.
    """

    source: str
    names: tuple[str, ...]
    rows: Callable[[str], list[Row]]


@dataclass(frozen=True)
class Part:
    """The names of the tables that belong together; `name` is "" where the set is not divided."""

    name: str
    corpus: str
    queries: str
    qrels: str
    ranked: str = ""


# (question, page) -> grade, and the boxes that were marked.
Judged = tuple[dict[str, dict[str, int]], dict[str, dict[str, tuple[MarkedBox, ...]]]]


def find_parts(names: Iterable[str], source: str = "") -> list[Part]:
    """Which tables belong together; empty where they are no set of three tables.

    >>> find_parts(["default", "corpus", "queries"])
    [Part(name='', corpus='corpus', queries='queries', qrels='default', ranked='')]
    >>> find_parts(["fr-corpus", "fr-queries", "fr-qrels"])[0].name
    'fr'

    Raises:
        DatasetError: A part lacks one of its tables.
    """
    there = list(names)
    # "query": some of mteb's sets have it, and mteb prefers it too. "data" is where a hub keeps a config "default".
    queries = _present(there, "query", "queries")
    qrels = _present(there, "qrels", "default", "data")
    if "corpus" in there and queries and qrels:
        return [Part("", "corpus", queries, qrels, _present(there, "top_ranked"))]
    parts: list[Part] = []
    for corpus in there:
        name, dash, rest = corpus.rpartition("-")
        if not (dash and name and rest == "corpus"):
            continue
        for table in ("queries", "qrels"):
            if f"{name}-{table}" not in there:
                raise DatasetError(source, f"has {corpus}, and no {name}-{table}.")
        parts.append(Part(name, corpus, f"{name}-queries", f"{name}-qrels", _present(there, f"{name}-top_ranked")))
    return parts


def set_of_parts(name: str, tables: Tables, *, language: str | None, subset: str | None) -> EvaluationSet:
    """One set of all its parts, or of those that are wanted.

    Parts whose corpora are the same pages (the languages of ViDoRe V2 and V3) are questions about one corpus. Parts of
    different pages (the domains of MMDocIR) are searched each in its own, as mteb does; ids are then "PART/id".

    Raises:
        DatasetError: A table is not what it should be.
        UnknownNameError: No part of that language or name; says which there are.
    """
    parts = find_parts(tables.names, tables.source)
    wanted = _wanted(parts, tables.source, language, subset)
    loaded: list[EvaluationSet] = []
    for part in wanted:
        loaded.append(_load(name, part, tables))
    if len(loaded) == 1:
        if len(parts) == 1:
            return loaded[0]
        # Another corpus than that of the whole set, perhaps: it must not be indexed in the same collection.
        return replace(loaded[0], name=f"{name}-{wanted[0].name}")
    return _joined(name, wanted, loaded)


def _present(names: Sequence[str], *wanted: str) -> str:
    """The first of the wanted names that is there, or ""."""
    for name in wanted:
        if name in names:
            return name
    return ""


def _wanted(parts: Sequence[Part], source: str, language: str | None, subset: str | None) -> list[Part]:
    """The parts of this name, or in this language; all, where neither is said or the parts are no languages."""
    names = [part.name for part in parts]
    if subset is not None:
        if subset not in names:
            known = "it is not divided into parts"
            if any(names):
                known = f"there is {', '.join(names)}"
            raise UnknownNameError(f"{source} has no part {subset!r}; {known}.")
        return [parts[names.index(subset)]]
    if language is None or not all(map(is_language, names)):
        return list(parts)
    found: list[Part] = []
    for part in parts:
        if language_code(part.name) == language_code(language):
            found.append(part)
    if not found:
        raise UnknownNameError(f"{source} has no part in the language {language!r}; there is {', '.join(names)}.")
    return found


def _load(name: str, part: Part, tables: Tables) -> EvaluationSet:
    """One part, with the ids of the set itself."""
    source, corpus_name = tables.source, name
    if part.name:
        source = f"{tables.source}, {part.name}"
        corpus_name = f"{name}/{part.name}"
    pages = corpus_pages(tables.rows(part.corpus), corpus_name, source)
    qrels, boxes = _judged(tables.rows(part.qrels), source)
    ranked: dict[str, tuple[str, ...]] = {}
    if part.ranked:
        for number, row in enumerate(tables.rows(part.ranked), 1):
            question_id, candidates = ranked_of(row, source, number)
            ranked[question_id] = candidates
    questions: list[Question] = []
    for number, row in enumerate(tables.rows(part.queries), 1):
        # mteb leaves out questions that are not judged: some files hold those of every split.
        if part.name and str(first(row, QUESTION_ID)) not in qrels:
            continue
        question = question_of(row, f"{source}, queries row {number}", number)
        changes: dict[str, Any] = {"marked": {**question.marked, **boxes.get(question.id, {})}}
        if question.id in ranked:
            changes["candidates"] = ranked[question.id]
        if part.name:
            changes["subset"] = part.name
        if not question.language and is_language(part.name):
            changes["language"] = part.name
        questions.append(replace(question, **changes))
    return EvaluationSet(name, tuple(questions), qrels, pages)


def _judged(rows: Iterable[Row], source: str) -> Judged:
    qrels: dict[str, dict[str, int]] = {}
    boxes: dict[str, dict[str, tuple[MarkedBox, ...]]] = {}
    contradictions: list[str] = []
    for number, row in enumerate(rows, 1):
        question, page, grade, marked = judgement_of(row, source, number)
        before = qrels.setdefault(question, {}).get(page, grade)
        if before != grade:
            contradictions.append(f"{page!r} for {question!r}")
        qrels[question][page] = grade
        if marked:
            of_question = boxes.setdefault(question, {})
            of_question[page] = of_question.get(page, ()) + marked
    warn_of_contradictions(source, contradictions)
    return qrels, boxes


def _joined(name: str, parts: Sequence[Part], loaded: Sequence[EvaluationSet]) -> EvaluationSet:
    """One set of several parts."""
    one_corpus = True
    for other in loaded[1:]:
        one_corpus = one_corpus and is_same_corpus(loaded[0].pages, other.pages)
    ids: list[str] = []
    for each in loaded:
        ids += [question.id for question in each.questions]
    # Languages of one corpus have ids of their own, as a rule; without doubles they stay what the set calls them.
    named = list(loaded)
    # Otherwise each gets its part before it: "3" of fr and of de become "fr/3" and "de/3".
    if not one_corpus or len(set(ids)) < len(ids):
        named = []
        for part, each in zip(parts, loaded, strict=True):
            named.append(_prefixed(part.name, each, own_pages=not one_corpus))
    questions: list[Question] = []
    qrels: dict[str, Mapping[str, int]] = {}
    pages: list[Page] = []
    for each in named:
        questions += each.questions
        qrels.update(each.qrels)
        if each is named[0] or not one_corpus:
            pages += each.pages
    return EvaluationSet(name, tuple(questions), qrels, tuple(pages))


def _prefixed(prefix: str, dataset: EvaluationSet, *, own_pages: bool) -> EvaluationSet:
    """The part with "PREFIX/" before the ids of its questions and, where the pages are its own, of its pages."""

    def key(page: str) -> str:
        if own_pages:
            return f"{prefix}/{page}"
        return page

    pages: list[Page] = []
    everything: list[str] = []
    for page in dataset.pages:
        everything.append(key(page_key(page)))
        kept = {**page.metadata, "corpus_id": everything[-1]}
        pages.append(replace(page, doc_id=key(page.doc_id), metadata=kept))
    all_pages = tuple(everything)  # one tuple for all questions: a part may have thousands of pages
    questions: list[Question] = []
    qrels: dict[str, dict[str, int]] = {}
    for question in dataset.questions:
        candidates = question.candidates
        if candidates is not None:
            candidates = tuple(map(key, candidates))
        elif own_pages:
            candidates = all_pages
        new_id = f"{prefix}/{question.id}"
        boxes: list[PageBox] = []
        for box in question.boxes:
            boxes.append(box._replace(page=key(box.page)))
        marked = _with_keys(question.marked, key)
        questions.append(replace(question, id=new_id, candidates=candidates, marked=marked, boxes=tuple(boxes)))
        if question.id in dataset.qrels:
            qrels[new_id] = _with_keys(dataset.qrels[question.id], key)
    return EvaluationSet(dataset.name, tuple(questions), qrels, tuple(pages))


def _with_keys(by_page: Mapping[str, Value], key: Callable[[str], str]) -> dict[str, Value]:
    """What is known of each page, under the page's new key."""
    found: dict[str, Value] = {}
    for page, value in by_page.items():
        found[key(page)] = value
    return found
