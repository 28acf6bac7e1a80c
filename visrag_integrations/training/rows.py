"""Pairs from files: parquet and jsonl in the layout of VisRAG-Ret's training data, read a few row groups at a time.

A row has `query`, and `image` (a struct of bytes and path, encoded bytes, or in jsonl a path or data URL) or `text` in
its place; it may have `source` and `negatives`, a list of images. Beside the files may lie `metadata.json` with their
number of rows, which a stream needs and this reader only compares.

To shuffle all rows of a large set would read a whole row group, some 50 MB, for every page. So row groups are
shuffled, then so many neighbours as fill `WINDOW` are read together, and their rows are shuffled. A set that is
smaller than a window is shuffled as a whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from visrag_integrations.errors import DatasetError, MissingExtraError, PictureError
from visrag_integrations.evaluation.tables import picture_inside
from visrag_integrations.images import urls
from visrag_integrations.training.examples import Example, Order, PageSource, TextOfPage

logger = logging.getLogger(__name__)

# Bytes of encoded pages that are shuffled among each other: about 1,300 of the published set's, ten of its row groups.
# Twice as much is in memory while one window follows another. Less would put pages of one document, which follow each
# other in the file, into the same batches.
WINDOW = 512 << 20
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SUFFIXES = (".parquet", ".jsonl")


class RowBlock(Protocol):
    """Rows of a file that are read together."""

    rows: int
    size: int

    def read(self) -> list[Any]:
        """All rows; each is a dict, or an error in words."""
        ...


class FilePairs:
    """Pairs of one or several files; only the rows of a window are in memory."""

    def __init__(self, name: str, blocks: list[Any], negatives: int) -> None:
        self.name, self.negatives = name, negatives
        self._blocks = blocks
        self._first = np.cumsum([0, *(block.rows for block in blocks)])
        self._kept: OrderedDict[int, list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Of the files' names, sizes and numbers of rows."""
        described = "".join(f"{block.where}:{block.rows}:{block.size}\n" for block in self._blocks)
        return hashlib.sha256(f"{described}{self.negatives}".encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return int(self._first[-1])

    def example(self, index: int) -> Example:
        """One row.

        Raises:
            DatasetError: It is broken.
        """
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        block, place = self._blocks[number], index - int(self._first[number])
        where = f"{block.where}, row {block.start + place + 1}"
        row = self._rows_of(number)[place]
        return read_row(row, where, block.root, self.negatives)

    def order(self, seed: int, epoch: int) -> Order:
        """Shuffled within windows of row groups, which are shuffled too; see the top of the file."""
        random = np.random.default_rng([seed, epoch])
        windows: list[list[Order]] = [[]]
        room = WINDOW
        for number in random.permutation(len(self._blocks)):
            size = self._blocks[number].size
            if windows[-1] and size > room:
                windows.append([])
                room = WINDOW
            windows[-1].append(np.arange(self._first[number], self._first[number + 1]))
            room -= size
        return np.concatenate([random.permutation(np.concatenate(window)) for window in windows])

    def _rows_of(self, number: int) -> list[Any]:
        with self._lock:  # the other threads wait for the same rows anyway
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            rows: list[Any] = self._blocks[number].read()
            self._kept[number] = rows
            # The window that goes and the one that comes; at least the block that was asked for.
            while len(self._kept) > 1 and sum(self._blocks[each].size for each in self._kept) > 2 * WINDOW:
                self._kept.popitem(last=False)
            return rows


class ParquetBlock:
    """A row group."""

    def __init__(self, path: Path, root: Path, group: int, start: int, metadata: Any) -> None:
        self.path, self.root, self.group, self.start = path, root, group, start
        self.where, self.rows, self.size = str(path), int(metadata.num_rows), int(metadata.total_byte_size)

    def read(self) -> list[Any]:
        """Its rows; where the group cannot be read, each is the error."""
        try:
            with _parquet().ParquetFile(self.path) as file:
                rows: list[Any] = file.read_row_group(self.group).to_pylist()
                return rows
        except Exception as err:  # noqa: BLE001  (pyarrow has no base for what it raises)
            return [f"its row group cannot be read: {err}"] * self.rows


class JsonBlock:
    """The lines of a jsonl file, by their places in it: pictures are usually files of their own."""

    def __init__(self, path: Path, root: Path, offsets: list[int]) -> None:
        self.path, self.root, self.start = path, root, 0
        self.where, self.rows, self.size = str(path), len(offsets), path.stat().st_size
        self._offsets = offsets

    def read(self) -> list[Any]:
        """One row a line; a line that is no JSON is an error in words."""
        rows: list[Any] = []
        with self.path.open("rb") as file:
            for offset in self._offsets:
                file.seek(offset)
                try:
                    rows.append(json.loads(file.readline()))
                except (ValueError, RecursionError) as err:
                    rows.append(f"the line is no JSON: {err}")
        return rows


def open_rows(path: Path, name: str) -> FilePairs:
    """The pairs of a file, or of all parquet and jsonl files of a folder.

    Raises:
        DatasetError: There are none, or their columns are not those of pairs.
    """
    files = [path]
    root = path.parent
    if path.is_dir():
        root = path
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    blocks: list[Any] = []
    for file in files:
        if file.suffix == ".parquet":
            blocks += _parquet_blocks(file, root)
        elif file.suffix == ".jsonl":
            blocks.append(JsonBlock(file, root, _line_offsets(file)))
    # A file without rows is no fault; a folder without any is.
    blocks = [block for block in blocks if block.rows]
    if not blocks:
        raise DatasetError(
            name, "holds no .parquet or .jsonl file with rows. A row has `query`, and `image` or `text`."
        )
    _compare_length(root / "metadata.json", sum(block.rows for block in blocks), name)
    return FilePairs(name, blocks, _count_negatives(blocks[0]))


def read_row(row: Any, where: str, root: Path, negatives: int) -> Example:
    """A row as an example.

    Raises:
        DatasetError: It has no query or no page, or fewer hard negatives than the others.
    """
    if not isinstance(row, Mapping):
        raise DatasetError(where, row if isinstance(row, str) else "it is no JSON object.")
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise DatasetError(where, f"it has no query: the column says {query!r}.")
    pages = [_page_of(row.get("image"), row.get("text"), root, where)]
    # Equally many everywhere: the loss knows by its place which page belongs to which query.
    others = row.get("negatives") or []
    if not isinstance(others, list) or len(others) < negatives:
        raise DatasetError(where, f"it has fewer than the {negatives} hard negatives of the first row.")
    for other in others[:negatives]:
        pages.append(_page_of(other, None, root, where))
    return Example(query, tuple(pages), where)


def download(name: str) -> Path:
    """A data set of the hub in a folder here, downloaded once.

    Raises:
        DatasetError: It is no path and no set of that name can be had.
    """
    if not _HUB_NAME.fullmatch(name):
        raise DatasetError(name, "there is no such file or folder. Give a path, or a data set's name on the hub.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as err:
        raise MissingExtraError("huggingface_hub", "training") from err
    try:
        wanted = ["*.parquet", "*.jsonl", "metadata.json", "*.tsv"]
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=wanted))
    except Exception as err:  # whatever the net or the hub does, the caller learns which set it was
        raise DatasetError(name, f"is no path here and cannot be downloaded from the hub: {err}") from err


def _page_of(image: Any, text: Any, root: Path, where: str) -> PageSource:
    # As `datasets` writes an image; the bytes win, because the path is of the machine that made the file.
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes) and image:
        return image
    if isinstance(image, str) and image.startswith("data:"):
        try:
            return urls.decode_data_url(image)
        except PictureError as err:
            raise DatasetError(where, f"its picture is no data URL that can be read: {err}") from err
    if isinstance(image, str) and image:
        return picture_inside(root, image, where)
    if isinstance(text, str) and text.strip():
        return TextOfPage(text)
    raise DatasetError(where, "it has neither a picture (column image) nor a text (column text).")


def _parquet_blocks(path: Path, root: Path) -> list[ParquetBlock]:
    try:
        with _parquet().ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
    except MissingExtraError:
        raise
    except Exception as err:  # as above
        raise DatasetError(str(path), f"is no parquet file that can be read: {err}") from err
    if "query" not in names or not names & {"image", "text"}:
        raise DatasetError(str(path), f"has the columns {sorted(names)}; pairs have query, and image or text.")
    blocks: list[ParquetBlock] = []
    start = 0
    for number, metadata in enumerate(groups):
        blocks.append(ParquetBlock(path, root, number, start, metadata))
        start += int(metadata.num_rows)
    return blocks


def _line_offsets(path: Path) -> list[int]:
    offsets: list[int] = []
    place = 0
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                offsets.append(place)
            place += len(line)
    return offsets


def _count_negatives(block: Any) -> int:
    """Hard negatives of the first good row; all others must have as many."""
    for row in block.read():
        if isinstance(row, Mapping) and row.get("query"):
            others = row.get("negatives")
            return len(others) if isinstance(others, list) else 0
    return 0


def _compare_length(path: Path, rows: int, name: str) -> None:
    if not path.is_file():
        return
    try:
        said = json.loads(path.read_text(encoding="utf-8"))["length"]
    except (OSError, ValueError, KeyError, TypeError):
        logger.warning("%s: metadata.json does not say a length; %d rows were counted.", name, rows)
        return
    if said != rows:
        logger.warning("%s: metadata.json says %s rows, and there are %d. Is a file missing?", name, said, rows)


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as err:
        raise MissingExtraError("pyarrow, which reads parquet files,", "training") from err
    return pyarrow.parquet
