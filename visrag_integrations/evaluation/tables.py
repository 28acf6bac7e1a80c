"""Rows of jsonl, tsv and parquet files as dicts; pictures in them become sources that are opened when needed.

What stands in a file is not trusted: a picture is its bytes, a data URL, or a file inside the data set's own folder.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DatasetError, MissingExtraError, PictureError
from visrag_integrations.images import urls

Row = dict[str, Any]
IMAGE = "image"
"""The column that the published sets keep pictures in; only this one is looked at for pictures."""


def read_rows(path: Path, root: Path) -> Iterator[Row]:
    """The rows of a file; its name's ending says what it is.

    Args:
        path: A .jsonl, .tsv or .parquet file, or a .json file of one list of objects.
        root: The folder that paths of pictures are relative to, and must not leave.

    Raises:
        DatasetError: Not such a file; says which line where there is one.
    """
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, root)
        return
    if path.suffix == ".json":
        yield from _listed_rows(path, root)
        return
    if path.suffix not in (".jsonl", ".tsv"):
        raise DatasetError(str(path), "this type of file holds no rows. Supported: .jsonl, .json, .tsv, .parquet.")
    # Not `splitlines`: a question may hold other line breaks, such as U+2028, which JSON does not escape.
    lines = _read_text(path).split("\n")
    if path.suffix == ".jsonl":
        yield from _json_rows(path, lines, root)
    else:
        yield from _tsv_rows(path, lines)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DatasetError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError) as err:
        raise DatasetError(str(path), f"is no JSON: {err}.") from err


def picture_inside(root: Path, name: str, source: str) -> Path:
    """The file that a data set names, inside its own folder.

    Raises:
        DatasetError: The name leaves the folder.
    """
    name = name.replace("\\", "/")
    parts = name.split("/")
    if not name or "\0" in name or ":" in parts[0] or name.startswith("/") or ".." in parts:
        raise DatasetError(source, f"names the picture {name!r}, which is no path inside {root}. It is refused.")
    path = root / name
    # Resolved, because a link inside the folder may lead out of it.
    if not any(path.resolve().is_relative_to(home) for home in _homes(root)):
        raise DatasetError(source, f"names the picture {name!r}, which leads out of {root}. It is refused.")
    return path


def _homes(root: Path) -> Iterator[Path]:
    """The folder; of a snapshot in a hub cache also where that repository's files are, to which it only links."""
    yield root.resolve()
    for parent in root.absolute().parents:
        if parent.name == "snapshots":
            yield (parent.parent / "blobs").resolve()


@dataclass(frozen=True)
class StoredPicture:
    """A picture in a parquet file; called, it gives the encoded bytes."""

    path: Path
    group: int
    place: int
    column: str

    def __call__(self) -> bytes:
        data = _row_group(self.path, self.group, self.column)[self.place]
        if isinstance(data, Mapping):  # as `datasets` writes an image
            data = data.get("bytes")
        if not isinstance(data, bytes):
            raise PictureError(f"{self.path} holds no picture in row {self.place + 1} of its row group {self.group}.")
        return data


@dataclass(frozen=True)
class _DataURL:
    url: str

    def __call__(self) -> bytes:
        return urls.decode_data_url(self.url)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise DatasetError(str(path), f"is no UTF-8 text: {err.reason} at byte {err.start}.") from err
    except OSError as err:
        raise DatasetError(str(path), f"cannot be read: {err.strerror or err}.") from err


def _json_rows(path: Path, lines: Iterable[str], root: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as err:
            raise DatasetError(str(path), f"line {number} is no JSON: {err}.") from err
        if not isinstance(row, dict):
            raise DatasetError(str(path), f"line {number} is {type(row).__name__}, not a JSON object.")
        if IMAGE in row:
            row[IMAGE] = _pictures(row[IMAGE], root, f"{path}, line {number}")
        yield row


def _listed_rows(path: Path, root: Path) -> Iterator[Row]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DatasetError(str(path), f"is {type(rows).__name__}; a .json file of rows is one list of objects.")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DatasetError(str(path), f"entry {number} is {type(row).__name__}, not a JSON object.")
        if IMAGE in row:
            row[IMAGE] = _pictures(row[IMAGE], root, f"{path}, entry {number}")
        yield row


def _tsv_rows(path: Path, lines: list[str]) -> Iterator[Row]:
    columns = lines[0].rstrip("\r").split("\t")
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) != len(columns):
            raise DatasetError(str(path), f"line {number} has {len(cells)} columns, the first line {len(columns)}.")
        yield dict(zip(columns, cells, strict=True))


def _pictures(value: Any, root: Path, source: str) -> Any:
    """The picture of a row, or its pictures; None where there is none."""
    if isinstance(value, list):
        return [_pictures(one, root, source) for one in value]
    if isinstance(value, Mapping):  # as `datasets` writes an image
        if isinstance(value.get("bytes"), bytes):
            return value["bytes"]
        value = value.get("path")
    if value is None or not isinstance(value, str):
        return None
    if value.startswith("data:"):
        return _DataURL(value)
    if "://" in value:
        raise DatasetError(source, f"names the picture {value[:80]!r}; pictures from the net are not fetched.")
    return picture_inside(root, value, source)


def parquet_columns(path: Path) -> set[str]:
    """The names of the columns of a parquet file.

    Raises:
        DatasetError: It cannot be read.
    """
    with _opened_parquet(path) as file:
        return set(file.schema_arrow.names)


@contextlib.contextmanager
def _opened_parquet(path: Path) -> Iterator[Any]:
    parquet = _parquet()
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except DatasetError:
        raise
    except Exception as err:  # pyarrow has no base for what it raises
        raise DatasetError(str(path), f"is no parquet file that can be read: {err}") from err


def _parquet_rows(path: Path, root: Path) -> Iterator[Row]:
    with _opened_parquet(path) as file:
        names = list(file.schema_arrow.names)
        has_bytes = IMAGE in names and _holds_bytes(file.schema_arrow.field(IMAGE).type)
        if has_bytes:
            # Pictures are left in the file: a set of thousands would not fit into memory.
            names.remove(IMAGE)
        for group in range(file.num_row_groups):
            for place, row in enumerate(_group_rows(file, group, names)):
                if has_bytes:
                    row[IMAGE] = StoredPicture(path, group, place, IMAGE)
                elif IMAGE in row:
                    row[IMAGE] = _pictures(row[IMAGE], root, str(path))
                yield row


def _group_rows(file: Any, group: int, columns: list[str]) -> list[Row]:
    """The rows of a row group; empty ones where a table has pictures only, because pyarrow gives none then."""
    if not columns:
        empty: list[Row] = []
        for _ in range(file.metadata.row_group(group).num_rows):
            empty.append({})
        return empty
    rows: list[Row] = file.read_row_group(group, columns=columns).to_pylist()
    return rows


def _holds_bytes(kind: Any) -> bool:
    """Whether a column is encoded pictures: binary, or a struct with a `bytes` field."""
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


# Two groups: pages are read in order, and near the border of two groups threads ask for both.
@functools.lru_cache(maxsize=2)
def _row_group(path: Path, group: int, column: str) -> list[Any]:
    """The column of a row group, kept for the next rows of it."""
    try:
        with _parquet().ParquetFile(path) as file:
            found: list[Any] = file.read_row_group(group, columns=[column]).column(column).to_pylist()
            return found
    except Exception as err:  # as above
        raise PictureError(f"{path} cannot be read any more: {err}") from err


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as err:
        raise MissingExtraError("pyarrow, which reads parquet files,", "eval") from err
    return pyarrow.parquet
