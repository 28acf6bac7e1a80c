"""A whole collection as one file, and back: a zip of JSON lines, float32 arrays and pictures.

    index.json              format version, and what the collection remembers
    pictures/ab/cdef.jpg    each once, before the first page that shows it, named by the sha256 of its bytes
    points/000000.jsonl     a line a page: its id, how many vectors it has, its payload
    vectors/000000.npy      those vectors, one under the other
    patches/000000.npy      the second embedder's, where there is one (or `page/`)
    end.json                how many pages there are: a file without it is cut off

The file is not trusted: names in it are never used as paths, sizes are limited, and every page goes into the store the
way any other page does.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from visrag_integrations.errors import StoreError, StoreFormatError, VisRAGError
from visrag_integrations.files import whole_file
from visrag_integrations.store.engine import DENSE_VECTOR, STORAGES, Record, Schema, Vector
from visrag_integrations.store.info import CollectionInfo, format_for, read_info
from visrag_integrations.store.json_limits import read_limited_json
from visrag_integrations.store.parts import CollectionParts
from visrag_integrations.store.payload import payload_to_page
from visrag_integrations.types import Page

# Pages in one file of lines and one of vectors. It is part of the format: an import counts files by it.
_BATCH = 128
# Pictures that are held in memory: 3 MB of 200 KB each.
_PICTURES_AT_ONCE = 16
# Bytes that one file in the archive may unpack to: 128 pages of a million float32 numbers are half of it.
_MAX_ENTRY = 1 << 30
# What zipfile, zlib, json and numpy raise on entries that are not what they claim to be.
_ENTRY_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, MemoryError),
    *(LookupError, ValueError, TypeError, AttributeError),
    *(RuntimeError, RecursionError, OverflowError),  # zipfile raises RuntimeError on encrypted entries
)
# Bytes of one line of points: a page with its text, words and metadata. The packed words alone may be 64 MB unpacked.
_MAX_LINE = 1 << 26
# Of `index.json` and `end.json`.
_MAX_DESCRIPTION = 1 << 20
# How many times its size in the archive an entry of some size may unpack to: deflate reaches 1,000 on zeros only, texts
# and payloads stay below 20.
_MAX_RATIO = 200
_RATIO_FROM = 1 << 24


def write_index(path: Path, info: CollectionInfo, parts: CollectionParts) -> int:
    """Write the collection to `path`, whole or not at all; returns how many pages it holds."""
    try:
        with whole_file(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
            pages = _write(_IndexWriter(archive, parts), info)
    except OSError as err:
        raise StoreError(f"The index cannot be written to {path}: {err}. Make room, or name another place.") from err
    return pages


def _write(writer: _IndexWriter, info: CollectionInfo) -> int:
    version = format_for(info.embedders)  # of the file; a collection on a server has a layout of its own
    writer.json("index.json", {"format_version": version, "info": {**info.as_dict(), "format_version": version}})
    batch: list[Record] = []
    for record in writer.parts.engine.scroll(None, None, writer.parts.vector_names):
        batch.append(record)
        if len(batch) == _BATCH:
            writer.points(batch)
            batch = []
    writer.points(batch)
    writer.json("end.json", {"pages": writer.pages})
    return writer.pages


class _IndexWriter:
    """Writes pages into the archive, batch by batch, and counts them."""

    def __init__(self, archive: zipfile.ZipFile, parts: CollectionParts) -> None:
        self.archive, self.parts = archive, parts
        self.pages = 0
        self._folders = _folders(parts.schemas)
        self._written: set[str] = set()
        self._read: dict[str, bytes | None] = {}

    def json(self, name: str, value: Any) -> None:
        self.archive.writestr(name, json.dumps(value, ensure_ascii=False), zipfile.ZIP_DEFLATED)

    def points(self, records: Sequence[Record]) -> None:
        """Pictures, payloads and vectors of these pages."""
        if not records:
            return
        number = f"{self.pages // _BATCH:06}"
        lines = []
        for place, record in enumerate(records):
            own = {**(record.payload.get("visrag") or {})}
            own.pop("mark", None)  # of this collection; the importing one marks pages itself
            payload = {**record.payload, "metadata": {**record.payload["metadata"]}, "visrag": own}
            image = payload["metadata"].pop("image", None)
            entry: dict[str, Any] = {"id": record.id, "payload": payload}
            for folder, schema in self._folders:
                entry[folder] = len(_rows(record, schema))
            # References are this store's own; the importing one names pictures anew, by their content.
            if isinstance(image, str):
                if image not in self._read:
                    self._read_pictures(records[place : place + _PICTURES_AT_ONCE])
                entry["picture"] = self._picture(image)
            lines.append(json.dumps(entry, ensure_ascii=False))
        self.archive.writestr(f"points/{number}.jsonl", "\n".join(lines), zipfile.ZIP_DEFLATED)
        for folder, schema in self._folders:
            buffer = io.BytesIO()
            np.save(buffer, np.concatenate([_rows(record, schema) for record in records]), allow_pickle=False)
            self.archive.writestr(f"{folder}/{number}.npy", buffer.getvalue())
        self.pages += len(lines)

    def _read_pictures(self, records: Sequence[Record]) -> None:
        """Read the pictures of these pages, in one request where they are on a server."""
        references = [record.payload["metadata"].get("image") for record in records]
        wanted = list(dict.fromkeys(reference for reference in references if isinstance(reference, str)))
        found = self.parts.pictures.read_all(wanted)
        self._read = {reference: found.get(reference) for reference in wanted}

    def _picture(self, reference: str) -> str | None:
        """The name under which the picture is in the archive; None when the store lost it."""
        data = self._read.get(reference)
        if data is None:
            return None
        digest = hashlib.sha256(data).hexdigest()
        name = f"pictures/{digest[:2]}/{digest[2:]}.{reference.rpartition('.')[2]}"
        if name not in self._written:
            self._written.add(name)
            self.archive.writestr(name, data)
        return name


def _folders(schemas: Sequence[Schema]) -> list[tuple[str, Schema]]:
    """Where in the archive each embedder's vectors are; also the entry that counts them."""
    # The first one's folder is "vectors", whatever its kind, as in files from before there could be two.
    folders = [("vectors", schemas[0])]
    for schema in schemas[1:]:
        folders.append((schema.vector_name, schema))
    return folders


def _rows(record: Record, schema: Schema) -> Vector:
    """The page's vectors of one embedder as `(n, dim)`; n is 0 where it has none."""
    vector = record.vectors.get(schema.vector_name)
    if vector is None:
        return np.zeros((0, schema.dimension), np.float32)
    return np.atleast_2d(vector)


def _count(value: Any) -> int:
    """How many pages there are, as the end of the file says."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise ValueError(f"it says it holds {str(value)[:50]} pages")
    return value


class IndexFile:
    """An exported index, opened for reading.

    Raises:
        StoreFormatError: It is none, cut off, damaged, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError as err:
            raise StoreFormatError(f"There is no file {path} to import.") from err
        except _ENTRY_ERRORS as err:
            raise StoreFormatError(f"{path} is no exported index, or is cut off: {err}. Export it again.") from err
        try:
            start, end = self._json("index.json"), self._json("end.json")
            info = read_info(start["info"] | {"format_version": start["format_version"]}, str(path))
            for schema in info.schemas:
                if schema.kind not in DENSE_VECTOR or schema.storage not in STORAGES:
                    raise ValueError("it holds vectors of an unknown kind")
            # Incomplete until the importing store has every page: a kill on the way is seen at the next opening.
            self.info, self.pages = replace(info, complete=False), _count(end["pages"])
        except VisRAGError:
            self.close()
            raise
        except _ENTRY_ERRORS as err:
            self.close()
            raise self._damaged(err) from err

    def batches(self) -> Iterator[tuple[list[Page], list[Any]]]:
        """Pages and their embeddings, a hundred or so at a time; all of them, or an error at the end."""
        seen = 0
        for number in range((self.pages + _BATCH - 1) // _BATCH):
            try:
                pages, embeddings = self._batch(number)
            except _ENTRY_ERRORS as err:
                raise self._damaged(err) from err
            seen += len(pages)
            yield pages, embeddings
        if seen != self.pages:
            raise self._damaged(f"it says it holds {self.pages} pages and holds {seen}")

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def _batch(self, number: int) -> tuple[list[Page], list[Any]]:
        folders = _folders(self.info.schemas)
        rows = {folder: self._vectors(f"{folder}/{number:06}.npy", schema) for folder, schema in folders}
        starts = dict.fromkeys(rows, 0)
        pages, embeddings = [], []
        for line in self._read(f"points/{number:06}.jsonl").decode("utf-8").split("\n"):
            entry = read_limited_json(line, _MAX_LINE)
            named = {}
            for folder, schema in folders:
                start, count = starts[folder], int(entry[folder])
                if count < 0 or start + count > len(rows[folder]):
                    raise ValueError("more vectors are announced than there are")
                named[schema.vector_name] = rows[folder][start : start + count]
                starts[folder] = start + count
            page = self._page(entry)
            if page.id != entry["id"]:  # ids are made of what a page says of itself, so a changed line shows
                raise ValueError(f"the id of page {page.number} of {page.doc_id!r} does not fit it")
            pages.append(page)
            embeddings.append(named)
        return pages, embeddings

    def _vectors(self, name: str, schema: Schema) -> Vector:
        rows: Vector = np.load(io.BytesIO(self._read(name)), allow_pickle=False)
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != schema.dimension:
            raise ValueError(f"vectors of {rows.dtype} {rows.shape} in a collection of dimension {schema.dimension}")
        return rows

    def _page(self, entry: dict[str, Any]) -> Page:
        picture = None
        if entry.get("picture") is not None:
            picture = self._picture(str(entry["picture"]))
        page = payload_to_page(entry["payload"], picture)
        if not isinstance(page.metadata, Mapping):
            raise TypeError("a page has metadata that is no object")
        texts = (page.doc_id, page.text, page.source, page.tenant)
        if not all(isinstance(text, str) for text in texts) or type(page.number) is not int:
            raise TypeError("a page has fields of the wrong type")
        return page

    def _picture(self, name: str) -> bytes:
        data = self._read(name)
        digest = hashlib.sha256(data).hexdigest()
        if not name.startswith(f"pictures/{digest[:2]}/{digest[2:]}."):
            raise ValueError(f"the picture {name[:100]!r} was changed")
        return data

    def _json(self, name: str) -> dict[str, Any]:
        value = read_limited_json(self._read(name, _MAX_DESCRIPTION), _MAX_DESCRIPTION)
        if not isinstance(value, dict):
            raise TypeError(f"{name} holds no object")
        return value

    def _read(self, name: str, limit: int = _MAX_ENTRY) -> bytes:
        entry = self._archive.getinfo(name)
        # By what it says first, which costs nothing, then by what comes out, for it may lie.
        if entry.file_size > limit:
            raise ValueError(f"{name} says it unpacks to {entry.file_size} bytes; at most {limit} are read")
        if entry.file_size > max(_RATIO_FROM, _MAX_RATIO * entry.compress_size):
            raise ValueError(f"{name} says it unpacks from {entry.compress_size} to {entry.file_size} bytes")
        with self._archive.open(entry) as file:
            data = file.read(entry.file_size + 1)
        if len(data) != entry.file_size:
            raise ValueError(f"{name} unpacks to another size than it says")
        return data

    def _damaged(self, why: object) -> StoreFormatError:
        return StoreFormatError(f"{self.path} is damaged, or no exported index: {why}. Export it again.")
