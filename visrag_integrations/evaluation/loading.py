"""`load_evaluation_set`: the published layouts, told by their files, as one `EvaluationSet`."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation.hub import hub_tables
from visrag_integrations.evaluation.metrics import relevant_pages
from visrag_integrations.evaluation.sets import EvaluationSet, Question, key_of, page_boxes
from visrag_integrations.evaluation.tables import Row, read_json, read_rows
from visrag_integrations.evaluation.trec import read_qrels
from visrag_integrations.evaluation.ultrarag import is_memory, memory_questions, read_memory
from visrag_integrations.evaluation.vrag_sets import (
    is_rag_dataset,
    is_vrag_parquet,
    load_rag_dataset,
    load_vrag_parquet,
)
from visrag_integrations.types import Page

logger = logging.getLogger(__name__)

EVISRAG_FILE = "top3_test.jsonl"
LAYOUTS = (
    "a folder with corpus/, queries/ and qrels/ (parquet), as VisRAG-Ret-Test sets have; "
    f"one with {EVISRAG_FILE}, as EVisRAG-Test sets have; "
    "one with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv, as BEIR sets have; "
    "a .jsonl, .json or .parquet file of questions; or a rag_dataset.json or parquet file of VRAG's"
)

# Columns by the names that the published sets give them; the first that has a value counts.
_QUESTION_ID = ("query-id", "query_id", "qid", "_id", "id")
_PAGE_ID = ("corpus-id", "corpus_id", "_id", "id")
_PAGE_ID_BESIDE_QUESTION = ("image_filename", "corpus-id", "corpus_id")
_GRADE = ("score", "grade", "relevance")
_TABLES = ("corpus", "queries", "qrels")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def load_evaluation_set(source: str | Path, *, split: str = "test") -> EvaluationSet:
    """Questions, judgements and pages from a file, a folder or the Hugging Face hub; pictures are opened when needed.

    Args:
        source: A path in one of the layouts of docs/evaluation.md, or, where there is no such path, the name of a set
            on the hub ("openbmb/VisRAG-Ret-Test-InfoVQA"), which needs the `eval` extra and the net.
        split: Which part of the set, where it has several.

    Raises:
        DatasetError: No such set, or its files are not what they should be.
    """
    path = Path(source)
    if path.is_dir():
        return _checked(_from_folder(path, split), str(source))
    if path.is_file():
        return _checked(_from_file(path), str(source))
    if not _HUB_NAME.fullmatch(str(source)):
        raise DatasetError(str(source), f"there is no such file or folder. A set is {LAYOUTS}; or a name on the hub.")
    corpus, queries, qrels = hub_tables(str(source), split)
    name = str(source).rpartition("/")[2]
    if not corpus:
        return _checked(_from_rows(name, queries), str(source))
    return _checked(_from_tables(name, corpus, queries, _grades(qrels, str(source))), str(source))


def _from_folder(folder: Path, split: str) -> EvaluationSet:
    name = folder.resolve().name
    if (folder / EVISRAG_FILE).is_file():
        return _from_rows(name, read_rows(folder / EVISRAG_FILE, folder), folder)
    if (folder / "corpus.jsonl").is_file() and (folder / "queries.jsonl").is_file():
        return _from_beir(folder, split)
    if all((folder / table).is_dir() for table in _TABLES):
        return _from_parquet_tables(folder, split)
    files = _parquet_files(folder, split)
    if files:
        return _from_rows(name, _rows_of(files, folder))
    raise DatasetError(str(folder), f"is in no layout that is known. A set is {LAYOUTS}.")


def _from_beir(folder: Path, split: str) -> EvaluationSet:
    """Two .jsonl files and judgements; the questions of all splits are in one file."""
    qrels = read_qrels(_qrels_file(folder / "qrels", split))
    corpus = read_rows(folder / "corpus.jsonl", folder)
    queries: list[Row] = []
    for row in read_rows(folder / "queries.jsonl", folder):
        if str(_first(row, _QUESTION_ID)) in qrels:
            queries.append(row)
    return _from_tables(folder.resolve().name, corpus, queries, qrels)


def _from_parquet_tables(folder: Path, split: str) -> EvaluationSet:
    """Three folders of parquet files; the judgements may be a text file too."""
    corpus, queries, judgements = (list(_rows_of(_parquet_files(folder / table, split), folder)) for table in _TABLES)
    if judgements:
        qrels = _grades(judgements, str(folder))
    else:
        qrels = read_qrels(_qrels_file(folder / "qrels", split))
    return _from_tables(folder.resolve().name, corpus, queries, qrels)


def _rows_of(files: Iterable[Path], folder: Path) -> Iterator[Row]:
    for file in files:
        yield from read_rows(file, folder)


def _from_file(path: Path) -> EvaluationSet:
    name = path.stem
    if path.suffix == ".json":
        read = read_json(path)
        if is_memory(read):
            return EvaluationSet(name, memory_questions(read_memory(path)))
        if is_rag_dataset(read):
            return load_rag_dataset(path)
    if path.suffix == ".parquet" and is_vrag_parquet(path):
        return load_vrag_parquet(path)
    if path.name == EVISRAG_FILE:  # every set's file has this name: the folder tells them apart
        name = path.resolve().parent.name
    return _from_rows(name, read_rows(path, path.parent), path.parent)


def _parquet_files(folder: Path, split: str) -> list[Path]:
    """Those of the split; all there are, where none has its name."""
    # "test-00000-of-00001.parquet" is of split test, "testing.parquet" is not.
    files = sorted(folder.rglob("*.parquet"))
    return [file for file in files if re.match(rf"{re.escape(split)}\b", file.name)] or files


def _qrels_file(folder: Path, split: str) -> Path:
    """The judgements of the split; the only ones there are, where none has its name."""
    files = sorted([*folder.glob("*.tsv"), *folder.glob("*.trec"), *folder.glob("*.txt")])
    # One file can only be the one that is meant; of several, none is guessed.
    for file in files:
        if file.stem == split or len(files) == 1:
            return file
    there = ", ".join(file.stem for file in files) or "none"
    raise DatasetError(str(folder), f"has no judgements of split {split!r}; there are: {there}.")


def _from_tables(
    name: str, corpus: Iterable[Row], queries: Iterable[Row], qrels: Mapping[str, dict[str, int]]
) -> EvaluationSet:
    """A set of three tables."""
    pages: dict[str, Page] = {}
    for number, row in enumerate(corpus, 1):
        page = _page(row, f"{name}, corpus row {number}", name)
        if page.doc_id in pages:
            logger.warning("%s: the corpus has %r more than once; the first is kept", name, page.doc_id)
        pages.setdefault(page.doc_id, page)

    questions: list[Question] = []
    for number, row in enumerate(queries, 1):
        questions.append(_question(row, f"{name}, queries row {number}", number))
    return EvaluationSet(name, tuple(questions), qrels, tuple(pages.values()))


def _from_rows(name: str, rows: Iterable[Row], root: Path = Path()) -> EvaluationSet:
    """A set of one table: each row is a question with its page, its pages (files below `root`), or where it is."""
    questions: list[Question] = []
    qrels: dict[str, dict[str, int]] = {}
    corpus: dict[str, Page] = {}
    for number, row in enumerate(rows, 1):
        where = f"{name}, row {number}"
        # Several pictures are what the question is to be answered from (EVisRAG); nothing is searched.
        if isinstance(row.get("image"), list):
            shown = tuple(_shown(picture, root, where, i) for i, picture in enumerate(row["image"], 1))
            questions.append(replace(_question(row, where, number), pages=shown))
            continue
        # One picture is the page of the row. Rows of one page are questions about it: it is kept once.
        if row.get("image") is not None:
            page = _page(row, where, name, _PAGE_ID_BESIDE_QUESTION)
            corpus.setdefault(page.doc_id, page)
            row.setdefault("relevant", [page.doc_id])
        if row.get("image") is None or row.get("query") is not None:  # a row may hold a page that nobody asks for
            question = _question(row, where, number)
            questions.append(question)
            relevant = _relevant(row, where)
            if relevant:
                qrels[question.id] = relevant
    return EvaluationSet(name, tuple(questions), qrels, tuple(corpus.values()))


def _page(row: Row, where: str, name: str, columns: Sequence[str] = _PAGE_ID) -> Page:
    given = _first(row, columns)
    if given is None or str(given) == "":
        raise DatasetError(where, f"a page needs an id, in one of the columns {', '.join(columns)}.")
    text = "\n".join(str(row[column]) for column in ("title", "text") if row.get(column))
    if row.get("image") is None and not text:
        raise DatasetError(where, f"page {given!r} has neither a picture (column image) nor a text (column text).")
    return Page(
        str(given), 1, text, source=f"{name}/{given}", metadata={"corpus_id": str(given)}, picture=row.get("image")
    )


def _shown(picture: Any, root: Path, where: str, number: int) -> Page:
    """A picture that comes with a question; known by its path in the set."""
    if picture is None:
        raise DatasetError(where, f"image {number} is no picture.")
    name = f"{where}, image {number}"
    if isinstance(picture, Path):
        name = picture.relative_to(root).as_posix()
    return Page.from_image(picture, doc_id=name, source=name, metadata={"corpus_id": name})


def _question(row: Row, where: str, number: int) -> Question:
    text = _first(row, ("query", "question", "text"))
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(where, f"has no question: column query is {text!r}.")
    given = _first(row, _QUESTION_ID)
    group = _first(row, ("group", "kind"))
    answerable = bool(_first(row, ("answerable", "is_sufficient"), True))
    if not group and "is_sufficient" in row:
        group = "answerable" if answerable else "unanswerable"
    answers = _first(row, ("answers", "answer", "golden_answers"))
    numeric = _first(row, ("numeric", "is_numerical"))
    # A set that says nothing, but writes the answer as a number, means a number.
    if numeric is None and isinstance(answers, (int, float)):
        numeric = True
    return Question(
        id=f"q{number}" if given is None else str(given),
        text=text.strip(),
        answers=_texts(answers, where),
        options=_texts(row.get("options"), where),
        answerable=answerable,
        numeric=None if numeric is None else bool(numeric),
        group=str(group or ""),
        boxes=page_boxes(row.get("boxes"), where),
    )


def _relevant(row: Row, where: str) -> dict[str, int]:
    """The pages that hold the answer: `relevant` (keys, or key -> grade), or `source` and `page`."""
    relevant = row.get("relevant")
    if isinstance(relevant, Mapping):
        return {str(key): _whole(grade, where, "the grade") for key, grade in relevant.items()}
    if relevant is not None:
        return dict.fromkeys(_texts(relevant, where), 1)
    source, pages = row.get("source"), row.get("page")
    if source is None:
        return {}
    if not isinstance(pages, list):
        pages = [pages]
    return {key_of(str(source), _whole(number, where, "page")): 1 for number in pages}


def _grades(rows: Sequence[Row], where: str) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for number, row in enumerate(rows, 1):
        question = _first(row, ("query-id", "query_id", "qid"))
        page = _first(row, ("corpus-id", "corpus_id"))
        if question is None or page is None:
            raise DatasetError(where, f"row {number} of qrels lacks query-id or corpus-id; it has {', '.join(row)}.")
        grade = _whole(_first(row, _GRADE, 1), f"{where}, qrels row {number}", "the grade")
        qrels.setdefault(str(question), {})[str(page)] = grade
    return qrels


def _checked(found: EvaluationSet, source: str) -> EvaluationSet:
    """The set, if questions have ids of their own and judgements are about them and about its pages."""
    if not found.questions:
        which = " that is judged" if found.qrels else ""
        raise DatasetError(source, f"holds no question{which}.")
    # Results are kept by id: of two questions with one id, one would take the other's place.
    ids = Counter(question.id for question in found.questions)
    twice, count = ids.most_common(1)[0]
    if count > 1:
        raise DatasetError(source, f"has {count} questions with the id {twice!r}; ids must differ.")
    qrels = {question: judged for question, judged in found.qrels.items() if question in ids}
    if found.qrels and not qrels:
        one, other = next(iter(found.qrels)), next(iter(ids))
        raise DatasetError(source, f"its judgements are about other questions: there is {one!r}, and not {other!r}.")
    if found.pages:
        _warn_of_missing_pages(found, qrels, source)
    return replace(found, qrels=qrels)


def _warn_of_missing_pages(found: EvaluationSet, qrels: Mapping[str, Mapping[str, int]], source: str) -> None:
    """A relevant page that the corpus lacks can never be found, and lowers every score."""
    known = {page.doc_id for page in found.pages}
    missing: list[str] = []
    for judged in qrels.values():
        for page in relevant_pages(judged):
            if page not in known:
                missing.append(page)
    if missing:
        examples = ", ".join(map(repr, missing[:3]))
        logger.warning(
            "%s: %d relevant pages are not in the corpus and can never be found: %s", source, len(missing), examples
        )


def _first(row: Row, columns: Iterable[str], default: Any = None) -> Any:
    """The value of the first of these columns that has one."""
    for column in columns:
        if row.get(column) is not None:
            return row[column]
    return default


def _texts(value: Any, where: str) -> tuple[str, ...]:
    """One text or several; numbers as they are written."""
    if not isinstance(value, (list, tuple)):
        value = [value]
    texts: list[str] = []
    for one in value:
        if one is None:
            continue
        if not isinstance(one, (str, int, float)):
            raise DatasetError(where, f"{one!r} is {type(one).__name__}; answers, options and page keys are texts.")
        texts.append(str(one))
    return tuple(texts)


def _whole(value: Any, where: str, what: str) -> int:
    # 2.0 and "2" are whole numbers in a JSON or parquet file, True and 2.5 are not.
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or number != float(value):
        raise DatasetError(where, f"{what} is {value!r}; it must be a whole number.")
    return number
