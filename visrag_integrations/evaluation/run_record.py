"""Results written down as they come, one JSON object a line, so that a run that was killed goes on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the file; a later version that older ones cannot read gets the next number."""
# By this name, first in its first line, a file is known to be a record.
_KEY = "visrag_evaluation"


class RunRecord:
    """What was done, by id; in a file where one is given.

    Args:
        path: The file, made at once where there is none; None keeps everything in memory.
        settings: What the work depends on. A file of other settings is refused.

    Raises:
        SettingError: The file is of other settings, of a newer version, no record, or cannot be written.
    """

    def __init__(self, path: str | Path | None, settings: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        # Through JSON and back, so that they compare equal to those that are read from a file (a tuple becomes a list).
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        self.done: dict[str, dict[str, Any]] = {}
        if self.path is not None:
            if self.path.exists():
                self._load(self.path)
            self._write(self.path, [])

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add things that are done; each has an `id`. When it returns, they survive a kill."""
        for entry in entries:
            self.done[entry["id"]] = dict(entry)
        if self.path is not None:
            self._write(self.path, [json.dumps(entry, ensure_ascii=False) for entry in entries])

    def _write(self, path: Path, lines: list[str]) -> None:
        try:
            with path.open("ab") as file:
                # A new file, or one whose header was cut off by a kill: it says what the results are of.
                if file.tell() == 0:
                    lines = [json.dumps({_KEY: FORMAT, "settings": self.settings}, ensure_ascii=False), *lines]
                file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
                # Until then the lines are in the memory of this process, then in that of the system.
                file.flush()
                os.fsync(file.fileno())
        except OSError as err:
            raise _not_writable(path, err) from err

    def _load(self, path: Path) -> None:
        data = _bytes_of(path)
        # A kill may cut the last line off anywhere; what ends with a line break was written whole.
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        if not lines and not _may_be_header(data):
            raise _no_record(path)
        for number, line in enumerate(lines, 1):
            row = _parsed(line, path, number)
            if number == 1:
                self._check(row, path)
            else:
                self.done[row["id"]] = row
        # Only here is it known to be a record: from somebody's other file, named by mistake, nothing is taken away.
        if len(whole) < len(data):
            logger.info("%s: the last line was cut off by a kill; it is taken away", path)
            _cut(path, len(whole))

    def _check(self, header: Mapping[str, Any], path: Path) -> None:
        changes = differences(_settings_of(header, path), self.settings)
        if changes:
            raise SettingError(
                f"{str(path)!r} holds results of other settings: {'; '.join(changes)}. "
                "Use the same settings to go on, or give another file (or delete this one) to start anew."
            )


def read_record(path: str | Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The settings of a record and what was done, by id; the file stays as it is.

    Raises:
        SettingError: No record, or it cannot be read.
    """
    path = Path(path)
    data = _bytes_of(path)
    if not data:
        raise SettingError(f"{str(path)!r} is empty: no record of an evaluation. Give another file.")
    lines = data.split(b"\n")
    del lines[-1]  # nothing, or what a kill cut off
    if not lines:
        raise _no_record(path)
    settings = _settings_of(_parsed(lines[0], path, 1), path)
    done: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines[1:], 2):
        row = _parsed(line, path, number)
        done[row["id"]] = row
    return settings, done


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two records are of, where it is not the same.

    >>> differences({"top_k": 5}, {"top_k": 10})
    ['top_k was 5, is 10']
    """
    changes: list[str] = []
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            changes.append(f"{name} was {before.get(name)!r}, is {now.get(name)!r}")
    return changes


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise SettingError(f"{str(path)!r} cannot be read: {err.strerror or err}. Give another file.") from err


def _may_be_header(data: bytes) -> bool:
    """Whether this can be the beginning of a record's first line, which a kill cut off; an empty file can."""
    beginning = f'{{"{_KEY}": '.encode()
    return data.startswith(beginning) or beginning.startswith(data)


def _cut(path: Path, size: int) -> None:
    try:
        with path.open("rb+") as file:
            file.truncate(size)
    except OSError as err:
        raise _not_writable(path, err) from err


def _settings_of(header: Mapping[str, Any], path: Path) -> dict[str, Any]:
    settings = header.get("settings")
    if header.get(_KEY) != FORMAT or not isinstance(settings, dict):
        raise _no_record(path)
    return settings


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or (number > 1 and not isinstance(row.get("id"), str)):
        raise SettingError(
            f"{str(path)!r}, line {number}: this is no line of a record. Delete it, or give another file."
        )
    return row


def _no_record(path: Path) -> SettingError:
    return SettingError(f"{str(path)!r} is no record of an evaluation (version {FORMAT}). Name another file.")


def _not_writable(path: Path, err: OSError) -> SettingError:
    return SettingError(f"The record {str(path)!r} cannot be written: {err.strerror or err}. Name another file.")
