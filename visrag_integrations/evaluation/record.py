"""Work that is written down as it is done: one JSON object a line, durable, so that a run that was killed goes on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from visrag_integrations.errors import MissingExtraError, SettingError, StoreError, UnknownNameError

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

FORMAT = 1
_KEY = "visrag_evaluation"
_MANY = 5
"""After so many failures in a row it is the models or the server, not the questions."""
_ENDS = (SettingError, StoreError, MissingExtraError, UnknownNameError)
"""Errors that the next question would meet too."""


class Record:
    """What was done, by id; in a file where one is given.

    Args:
        path: The file, made at once where there is none; None keeps everything in memory.
        settings: What the work depends on. A file of other settings is refused.

    Raises:
        SettingError: The file is of other settings, of a newer version, no record, or cannot be written.
    """

    def __init__(self, path: str | Path | None, settings: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        self.done: dict[str, dict[str, Any]] = {}
        if self.path is not None:
            if self.path.exists():
                self._load(self.path)
            self._write(self.path, [])

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add things that are done; each has an `id`. When it returns, they survive a kill."""
        self.done |= {entry["id"]: dict(entry) for entry in entries}
        if self.path is not None:
            self._write(self.path, [json.dumps(entry, ensure_ascii=False) for entry in entries])

    def _write(self, path: Path, lines: list[str]) -> None:
        try:
            with path.open("ab") as file:
                if file.tell() == 0:
                    lines = [json.dumps({_KEY: FORMAT, "settings": self.settings}, ensure_ascii=False), *lines]
                file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as err:
            raise SettingError(
                f"The record {str(path)!r} cannot be written: {err.strerror or err}. Name another file."
            ) from err

    def _load(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError as err:
            raise SettingError(f"{str(path)!r} cannot be read: {err.strerror or err}. Give another file.") from err
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            logger.info("%s: the last line was cut off by a kill; it is taken away", path)
            with path.open("rb+") as file:
                file.truncate(len(whole))
        rows = [_parsed(line, path, number) for number, line in enumerate(whole.split(b"\n")[:-1], 1)]
        if rows:
            self._check(rows[0], path)
        self.done = {row["id"]: row for row in rows[1:]}

    def _check(self, header: Mapping[str, Any], path: Path) -> None:
        if header.get(_KEY) != FORMAT or not isinstance(header.get("settings"), dict):
            raise SettingError(f"{str(path)!r} is no record of an evaluation (version {FORMAT}). Name another file.")
        before = header["settings"]
        names = [name for name in {**before, **self.settings} if before.get(name) != self.settings.get(name)]
        if names:
            changes = "; ".join(f"{name} was {before.get(name)!r}, is {self.settings.get(name)!r}" for name in names)
            raise SettingError(
                f"{str(path)!r} holds results of other settings: {changes}. "
                "Use the same settings to go on, or give another file (or delete this one) to start anew."
            )


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


@dataclass(frozen=True)
class Work(Generic[T, R]):
    """How to do things in batches.

    Attributes:
        do: A batch in, one result each out, in order.
        on_done: Told of each batch's things and results, in the calling thread.
        on_failure: Told of each thing that failed even when it was alone, in the calling thread.
        batch_size: So many at once.
        workers: So many batches at the same time; 1 works in the calling thread.
    """

    do: Callable[[list[T]], Sequence[R]]
    on_done: Callable[[list[tuple[T, R]]], None]
    on_failure: Callable[[T, Exception], None]
    batch_size: int = 8
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, int) or value < 1:
                raise SettingError(f"{name} is {value!r}; it must be a whole number from 1.")

    def all(self, things: Iterable[T]) -> None:
        """Do everything; a batch that fails is tried one by one, and one thing's failure does not stop the others.

        Raises:
            Exception: The last error, after five failures in a row; or at once one that is nobody's own.
        """
        row = 0
        for outcome in self._outcomes(_batches(things, self.batch_size)):
            self.on_done([(thing, result) for thing, result, error in outcome if error is None])  # type: ignore[misc]
            for thing, _, error in outcome:
                row = 0 if error is None else row + 1
                if error is not None:
                    self.on_failure(thing, error)
                if error is not None and row >= _MANY:
                    raise error

    def _outcomes(self, batches: Iterator[list[T]]) -> Iterator[list[tuple[T, R | None, Exception | None]]]:
        if self.workers == 1:
            yield from map(self._try, batches)
            return
        with ThreadPoolExecutor(self.workers, "visrag-evaluation") as pool:
            running: set[Future[list[tuple[T, R | None, Exception | None]]]] = set()
            try:
                while True:
                    running |= {pool.submit(self._try, batch) for batch in islice(batches, self.workers - len(running))}
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _try(self, batch: list[T]) -> list[tuple[T, R | None, Exception | None]]:
        try:
            results = self.do(batch)
            if len(results) != len(batch):
                raise SettingError(
                    f"{len(results)} results came back for a batch of {len(batch)}; there must be one each."
                )
        except _ENDS:
            raise
        except Exception as err:  # noqa: BLE001  embedders and generators of all kinds raise anything
            return self._one_by_one(batch) if len(batch) > 1 else [(batch[0], None, err)]
        return [(thing, result, None) for thing, result in zip(batch, results, strict=True)]

    def _one_by_one(self, batch: list[T]) -> list[tuple[T, R | None, Exception | None]]:
        """Each alone; what comes after too many failures in a row is not tried, as `all` ends there."""
        outcomes: list[tuple[T, R | None, Exception | None]] = []
        for thing in batch:
            outcomes += self._try([thing])
            if len(outcomes) >= _MANY and all(error is not None for _, _, error in outcomes[-_MANY:]):
                break
        return outcomes


def _batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(things)
    while batch := list(islice(remaining, size)):
        yield batch
