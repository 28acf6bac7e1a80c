"""The folder of an embedded index: its marker, its lock, and files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError, StoreError, StoreFormatError, StoreLockedError, printable
from visrag_integrations.files.whole import unfinished, write_whole
from visrag_integrations.store.json_limits import read_limited_json

DEFAULT_FOLDER = ".visrag"
"""Where an index is when nothing is said, in Python as in a terminal: in the working folder."""
MARKER = "visrag.json"
PICTURES = "pictures"
FOLDER_VERSION = 1
"""Of the folder's layout; a collection has a version of its own."""
# A description takes a kilobyte or two; whatever is larger was not written by this library.
_MAX_MARKER = 1 << 20
_LOCKED_BYTE = 1 << 30  # Windows locks bytes; this one is behind the text of the file


def check_folder(folder: Path) -> None:
    """Nothing when the folder is an index, empty, or not there yet.

    Raises:
        StoreFormatError: It holds something else, or an index of a newer version.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoreFormatError(f"{printable(str(folder))} is a file, not an index folder. Name a folder.")
    marker = read_json(folder / MARKER)
    if marker is None:
        # What a kill in the first moment left is written over.
        if any(path.name != unfinished(folder / MARKER).name for path in folder.iterdir()):
            raise StoreFormatError(
                f"{printable(str(folder))} holds files but is no index of this library (it has no {MARKER}). "
                "Nothing was changed; name an empty or a new folder."
            )
        return
    version = marker.get("format_version")
    if not isinstance(version, int) or version > FOLDER_VERSION:
        raise StoreFormatError(
            f"{printable(str(folder))} has format version {version!r}; this version reads up to {FOLDER_VERSION}. "
            "Update it: pip install --upgrade visrag-integrations"
        )


def check_collection_name(collection: str) -> str:
    """The name, if it can be part of a path everywhere."""
    if re.fullmatch(r"(?!\.)[\w.-]{1,128}", collection, re.ASCII) and collection != PICTURES:
        return collection
    raise SettingError(
        f"The collection name {collection!r} is not allowed: letters, digits, '_', '-' and '.' (not first), "
        f"at most 128, and not {PICTURES!r}."
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no such file."""
    try:
        with path.open("rb") as file:
            value = read_limited_json(file.read(_MAX_MARKER + 1).decode("utf-8"), _MAX_MARKER)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        raise StoreFormatError(
            f"{path} cannot be read: {err}. The index is damaged; index again in a new folder."
        ) from err
    if not isinstance(value, dict):
        raise StoreFormatError(f"{path} holds no JSON object. The index is damaged; index again in a new folder.")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all, and durably."""
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8"))


class FolderLock:
    """An advisory lock on a folder that ends with the process, however it ends.

    Raises:
        StoreLockedError: Another process has it; the message names its pid.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        try:
            self._file = open(path, "a+", encoding="ascii")  # noqa: SIM115  (held open while it is locked)
        except OSError as err:
            raise StoreError(f"{path} cannot be written: {err}. An index folder must be writable.") from err
        try:
            _lock(self._file.fileno())
        except OSError as err:
            self._file.seek(0)
            holder = self._file.read(32).strip() or "unknown"
            self._file.close()
            raise StoreLockedError(
                f"{printable(str(folder))} is in use by process {holder}. Close it there, or run a Qdrant server and "
                'give its URL instead of a folder: QdrantPageStore("http://localhost:6333").'
            ) from err
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others have the folder."""
        self._file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
