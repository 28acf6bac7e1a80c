"""A folder as the hub's data sets are laid out: a folder of files for each table."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation.parts import Tables
from visrag_integrations.evaluation.rows import judgement_of
from visrag_integrations.evaluation.tables import Row, read_rows
from visrag_integrations.evaluation.trec import read_qrels

logger = logging.getLogger(__name__)

_QRELS = ("qrels", "default", "data")
# How the hub names the files of a split: "train-00000-of-00003.parquet".
_SPLIT_FILE = re.compile(r"(.+?)-\d+-of-\d+\b")


def folder_tables(folder: Path, split: str) -> Tables:
    """The tables of a folder: each folder in it is one, of parquet or .jsonl files; judgements may be text files."""
    names: list[str] = []
    try:
        for each in sorted(folder.iterdir()):
            if each.is_dir():
                names.append(each.name)
    except OSError as err:
        raise DatasetError(str(folder), f"cannot be read: {err.strerror or err}.") from err

    def rows(name: str) -> list[Row]:
        found: list[Row] = []
        for file in parquet_files(folder / name, split) or _files(folder / name, "*.jsonl", split):
            found += read_rows(file, folder)
        if not found and (name in _QRELS or name.endswith("-qrels")):
            return _rows_of_qrels(read_qrels(qrels_file(folder / name, split)))
        return found

    return Tables(str(folder), tuple(names), rows)


def parquet_files(folder: Path, split: str) -> list[Path]:
    """Those of the split; all there are, where none has its name: what is not divided has any name."""
    return _files(folder, "*.parquet", split)


def qrels_of_split(folder: Path, split: str) -> dict[str, dict[str, int]]:
    """The judgements of a BEIR set: a TREC file, or one of JSON lines as mteb's sets have."""
    file = qrels_file(folder, split)
    if file.suffix != ".jsonl":
        return read_qrels(file)
    qrels: dict[str, dict[str, int]] = {}
    for number, row in enumerate(read_rows(file, folder), 1):
        question, page, grade, _ = judgement_of(row, str(file), number)
        qrels.setdefault(question, {})[page] = grade
    return qrels


def qrels_file(folder: Path, split: str) -> Path:
    """The judgements of the split; the only ones there are, where none has its name."""
    files: list[Path] = []
    for ending in ("tsv", "trec", "txt", "jsonl"):
        files += sorted(folder.glob(f"*.{ending}"))
    # One file can only be the one that is meant; of several, none is guessed.
    for file in files:
        if file.stem == split or len(files) == 1:
            return file
    there = ", ".join(file.stem for file in files) or "none"
    raise DatasetError(str(folder), f"has no judgements of split {split!r}; there are: {there}.")


def _files(folder: Path, pattern: str, split: str) -> list[Path]:
    files = sorted(folder.rglob(pattern))
    # "test-00000-of-00001.parquet" is of split test, "testing.parquet" is not.
    of_split = re.compile(rf"{re.escape(split)}\b")
    wanted: list[Path] = []
    for file in files:
        if of_split.match(file.name):
            wanted.append(file)
    if wanted:
        return wanted
    splits: set[str] = set()
    for file in files:
        found = _SPLIT_FILE.match(file.name)
        if found is not None:
            splits.add(found[1])
    if len(splits) > 1:
        there = ", ".join(sorted(splits))
        logger.warning("%s: no file is of split %r, so those of all splits are read: %s", folder, split, there)
    return files


def _rows_of_qrels(qrels: dict[str, dict[str, int]]) -> list[Row]:
    rows: list[Row] = []
    for question, judged in qrels.items():
        for page, grade in judged.items():
            rows.append({"query-id": question, "corpus-id": page, "score": grade})
    return rows
