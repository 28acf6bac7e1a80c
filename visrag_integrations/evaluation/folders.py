"""A folder as the hub's data sets are laid out: a folder of files for each table."""

from __future__ import annotations

import re
from pathlib import Path

from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation.parts import Tables
from visrag_integrations.evaluation.rows import judgement_of
from visrag_integrations.evaluation.tables import Row, read_rows
from visrag_integrations.evaluation.trec import read_qrels

_QRELS = ("qrels", "default", "data")


def folder_tables(folder: Path, split: str) -> Tables:
    """The tables of a folder: each folder in it is one, of parquet or .jsonl files; judgements may be text files."""
    try:
        names = tuple(sorted(each.name for each in folder.iterdir() if each.is_dir()))
    except OSError as err:
        raise DatasetError(str(folder), f"cannot be read: {err.strerror or err}.") from err

    def rows(name: str) -> list[Row]:
        found: list[Row] = []
        files = parquet_files(folder / name, split) or _files(folder / name, "*.jsonl", split)
        for file in files:
            found += read_rows(file, folder)
        if not found and (name in _QRELS or name.endswith("-qrels")):
            return _rows_of_qrels(read_qrels(qrels_file(folder / name, split)))
        return found

    return Tables(str(folder), names, rows)


def parquet_files(folder: Path, split: str) -> list[Path]:
    """Those of the split; all there are, where none has its name."""
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
    # "test-00000-of-00001.parquet" is of split test, "testing.parquet" is not.
    files = sorted(folder.rglob(pattern))
    return [file for file in files if re.match(rf"{re.escape(split)}\b", file.name)] or files


def _rows_of_qrels(qrels: dict[str, dict[str, int]]) -> list[Row]:
    rows: list[Row] = []
    for question, judged in qrels.items():
        for page, grade in judged.items():
            rows.append({"query-id": question, "corpus-id": page, "score": grade})
    return rows
