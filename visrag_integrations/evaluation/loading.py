"""`load_evaluation_set`: the published layouts, told by their files, as one `EvaluationSet`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DatasetError, UnknownNameError
from visrag_integrations.evaluation.checks import checked
from visrag_integrations.evaluation.corpora import corpus_pages
from visrag_integrations.evaluation.folders import folder_tables, parquet_files, qrels_of_split
from visrag_integrations.evaluation.hub import hub_tables
from visrag_integrations.evaluation.parts import Tables, find_parts, set_of_parts
from visrag_integrations.evaluation.rows import (
    PAGE_ID_BESIDE_QUESTION,
    QUESTION_ID,
    first,
    page_of,
    question_of,
    relevant_of,
)
from visrag_integrations.evaluation.sets import EvaluationSet, Question
from visrag_integrations.evaluation.tables import Row, read_json, read_rows
from visrag_integrations.evaluation.ultrarag import is_memory, memory_questions, read_memory
from visrag_integrations.evaluation.vrag_sets import (
    is_rag_dataset,
    is_vrag_parquet,
    load_rag_dataset,
    load_vrag_parquet,
)
from visrag_integrations.types import Page

EVISRAG_FILE = "top3_test.jsonl"
LAYOUTS = (
    "a folder with corpus/, queries/ and qrels/ (parquet), as VisRAG-Ret-Test and ViDoRe sets have; "
    "one with english-corpus/, english-queries/ and english-qrels/, and other such parts, as mteb's sets have; "
    f"one with {EVISRAG_FILE}, as EVisRAG-Test sets have; "
    "one with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv, as BEIR sets have; "
    "a .jsonl, .json or .parquet file of questions; or a rag_dataset.json or parquet file of VRAG's"
)

# "organisation/name". All else that is no path here is a path that was mistyped.
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# What ends so was meant as a file, and is not looked for on the hub.
_ENDINGS = (".jsonl", ".json", ".tsv", ".parquet")


def load_evaluation_set(
    source: str | Path,
    *,
    split: str = "test",
    language: str | None = None,
    subset: str | None = None,
    text: bool = True,
) -> EvaluationSet:
    """Questions, judgements and pages from a file, a folder or the Hugging Face hub; pictures are opened when needed.

    Args:
        source: A path in one of the layouts of docs/evaluation.md, or, where there is no such path, the name of a set
            on the hub ("openbmb/VisRAG-Ret-Test-InfoVQA"), which needs the `eval` extra and the net.
        split: Which part of the set, where it has several.
        language: Only questions in this language ("fr", "french"), where the set says in which they are.
        subset: Only this part of a set of several ("academic_paper" of MMDocIR); of a set on the hub that is no set of
            three tables, the name of the table.
        text: False leaves out the text that the set has of pages with a picture, as mteb's tasks of pictures do.

    Raises:
        DatasetError: No such set, or its files are not what they should be.
        UnknownNameError: It has no part of that name, or no question in that language.
    """
    found = _found(source, split, language, subset)
    # The parts of a set may be languages: then only those of the language were read.
    if language is not None:
        found = found.in_language(language)
    found = checked(found, str(source))
    if not text:
        return _without_text(found)
    return found


def _found(source: str | Path, split: str, language: str | None, subset: str | None) -> EvaluationSet:
    path = Path(source)
    if path.is_dir():
        tables = folder_tables(path, split)
        if find_parts(tables.names, str(source)):
            return set_of_parts(path.resolve().name, tables, language=language, subset=subset)
        _refuse_subset(subset, str(source))
        return _from_folder(path, split)
    if path.is_file():
        _refuse_subset(subset, str(source))
        return _from_file(path)
    _refuse_missing(str(source))
    tables = hub_tables(str(source), split)
    name = str(source).rpartition("/")[2]
    if find_parts(tables.names, str(source)):
        return set_of_parts(name, tables, language=language, subset=subset)
    table = _one_table(tables, subset)
    if table == subset:
        name = f"{name}-{subset}"
    return _from_rows(name, tables.rows(table))


def _refuse_missing(source: str) -> None:
    """Refuse what can only be a path, and is none; what is left may be a name on the hub."""
    path = Path(source)
    if path.suffix in _ENDINGS:
        raise DatasetError(source, f"there is no such file.{_meant(path)}")
    # "samples/nope", where samples is a folder here: nobody means an organisation of that name.
    if len(path.parts) > 1 and Path(path.parts[0]).is_dir():
        raise DatasetError(
            source, f"there is no such file or folder, and {path.parts[0]!r} is a folder here.{_meant(path)}"
        )
    if not _HUB_NAME.fullmatch(source):
        raise DatasetError(
            source, f"there is no such file or folder.{_meant(path)} A set is {LAYOUTS}; or a name on the hub."
        )


def _meant(path: Path) -> str:
    """What is there under a similar name, as a sentence; "" when nothing is."""
    if not path.parent.is_dir():
        return f" There is no folder {str(path.parent)!r} either."
    try:
        there = [each.name for each in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, there, n=1)
    if not close:
        return ""
    return f" Is {str(path.parent / close[0])!r} meant?"


def _refuse_subset(subset: str | None, source: str) -> None:
    if subset is not None:
        raise UnknownNameError(f"{source} has no part {subset!r}; it is not divided into parts.")


def _one_table(tables: Tables, subset: str | None) -> str:
    """The table of a set on the hub that has no corpus: the one that is wanted, the default one, or the only one."""
    names = tables.names
    known = ", ".join(names) or "none"
    if subset is not None:
        if subset not in names:
            raise UnknownNameError(f"{tables.source} has no part {subset!r}; there is {known}.")
        return subset
    if "default" in names:
        return "default"
    if len(names) != 1:
        raise DatasetError(
            tables.source,
            f"has several tables, and none of them is a corpus: {known}. Say which: subset=... (--subset).",
        )
    return names[0]


def _from_folder(folder: Path, split: str) -> EvaluationSet:
    name = folder.resolve().name
    if (folder / EVISRAG_FILE).is_file():
        return _from_rows(name, read_rows(folder / EVISRAG_FILE, folder), folder)
    if (folder / "corpus.jsonl").is_file() and (folder / "queries.jsonl").is_file():
        return _from_beir(folder, split)
    files = parquet_files(folder, split)
    if files:
        return _from_rows(name, _rows_of(files, folder))
    raise DatasetError(str(folder), f"is in no layout that is known. A set is {LAYOUTS}.")


def _from_beir(folder: Path, split: str) -> EvaluationSet:
    """Two .jsonl files and judgements; the questions of all splits are in one file."""
    name = folder.resolve().name
    qrels = qrels_of_split(folder / "qrels", split)
    questions: list[Question] = []
    for number, row in enumerate(read_rows(folder / "queries.jsonl", folder), 1):
        if str(first(row, QUESTION_ID)) in qrels:
            questions.append(question_of(row, f"{name}, queries row {number}", number))
    pages = corpus_pages(read_rows(folder / "corpus.jsonl", folder), name, name)
    return EvaluationSet(name, tuple(questions), qrels, pages)


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


def _from_rows(name: str, rows: Iterable[Row], root: Path = Path()) -> EvaluationSet:
    """A set of one table: each row is a question with its page, its pages (files below `root`), or where it is."""
    questions: list[Question] = []
    qrels: dict[str, Mapping[str, int]] = {}
    corpus: dict[str, Page] = {}
    for number, row in enumerate(rows, 1):
        where = f"{name}, row {number}"
        # Several pictures are what the question is to be answered from (EVisRAG); nothing is searched.
        if isinstance(row.get("image"), list):
            shown: list[Page] = []
            for place, picture in enumerate(row["image"], 1):
                shown.append(_shown(picture, root, where, place))
            questions.append(replace(question_of(row, where, number), pages=tuple(shown)))
            continue
        # One picture is the page of the row. Rows of one page are questions about it: it is kept once.
        if row.get("image") is not None:
            page = page_of(row, where, name, PAGE_ID_BESIDE_QUESTION)
            corpus.setdefault(page.doc_id, page)
            row.setdefault("relevant", [page.doc_id])
        if row.get("image") is None or row.get("query") is not None:  # a row may hold a page that nobody asks for
            question = question_of(row, where, number)
            questions.append(question)
            relevant = relevant_of(row, where)
            if relevant:
                qrels[question.id] = relevant
    return EvaluationSet(name, tuple(questions), qrels, tuple(corpus.values()))


def _shown(picture: Any, root: Path, where: str, number: int) -> Page:
    """A picture that comes with a question; known by its path in the set."""
    if picture is None:
        raise DatasetError(where, f"image {number} is no picture.")
    name = f"{where}, image {number}"
    if isinstance(picture, Path):
        name = picture.relative_to(root).as_posix()
    return Page.from_image(picture, doc_id=name, source=name, metadata={"corpus_id": name})


def _without_text(dataset: EvaluationSet) -> EvaluationSet:
    """The set with the pictures of its pages only; another name, because it is indexed otherwise."""
    pages: list[Page] = []
    for page in dataset.pages:
        if page.picture is not None:
            page = replace(page, text="")
        pages.append(page)
    return replace(dataset, name=f"{dataset.name}-pictures", pages=tuple(pages))
