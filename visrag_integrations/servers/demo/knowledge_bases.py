"""`KnowledgeBases`: all of them, in one folder, by name."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError, StoreFormatError, StoreLockedError, UnknownNameError
from visrag_integrations.interfaces import Generator, PageEmbedder
from visrag_integrations.servers.demo.demo_models import LoadedEmbedders, Models
from visrag_integrations.servers.demo.knowledge_base import KnowledgeBase
from visrag_integrations.servers.demo.names import base_folder, base_key, base_name, safe_file_name
from visrag_integrations.servers.demo.visitor_limits import Limits, in_words
from visrag_integrations.store.folder import FolderLock, read_json, write_json
from visrag_integrations.store.info import EmbedderInfo
from visrag_integrations.types import Failure

logger = logging.getLogger(__name__)

FIRST_BASE = "My documents"
"""What a new folder starts with, so that the first visitor can upload at once."""
_MARKER, _BASE, _INCOMING, _TRASH = "visrag-demo.json", "base.json", "incoming", ".deleted-"
_VERSION = 1
# Seconds after which an upload that nobody took is deleted. It is taken as soon as it has arrived; the hour is for one
# that arrives slowly, which must not be deleted under way.
_LEFT_BEHIND = 3600.0


class KnowledgeBases:
    """Knowledge bases kept in one folder, which belongs to this process while they are open. Thread-safe.

    Args:
        folder: Where they are kept; made when it is not there.
        embedder: Fills new ones.
        generator: Answers.
        limits: How much may be put in.
        searching: Other arguments of `PageRetriever`: `reranker`, `candidates`.
        load: Loads the embedder of a knowledge base that another one filled, by what its index remembers; as any other
            where None.
        others: More generators that visitors may choose to answer.
        **answering: Other arguments of `VisRAG`: `strategy`, `prompt`, `top_k`, `settings`.

    Raises:
        StoreLockedError: Another demo has the folder open.
        StoreFormatError: The folder holds something else.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        embedder: PageEmbedder,
        generator: Generator,
        limits: Limits | None = None,
        searching: Mapping[str, Any] | None = None,
        load: Callable[[EmbedderInfo], PageEmbedder] | None = None,
        others: Sequence[Generator] = (),
        **answering: Any,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.limits = limits or Limits()
        self._embedders = LoadedEmbedders(load)
        self.models = Models(embedder, generator, answering, self._embedders.get, searching or {}, tuple(others))
        self._guard, self._turn = threading.RLock(), threading.Lock()
        _check_folder(self.folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        write_json(self.folder / _MARKER, {"format_version": _VERSION})
        for left in (self.incoming, *self.folder.glob(f"{_TRASH}*")):
            shutil.rmtree(left, ignore_errors=True)
        self.incoming.mkdir(mode=0o700)
        self._bases = {base_key(base.name): base for base in self._found()}
        self.keep_one()

    @property
    def incoming(self) -> Path:
        """Where uploads arrive before a knowledge base takes them."""
        return self.folder / _INCOMING

    def names(self) -> list[str]:
        """Their names, sorted."""
        with self._guard:
            return sorted((base.name for base in self._bases.values()), key=base_key)

    def get(self, name: str) -> KnowledgeBase:
        """The one of that name.

        Raises:
            UnknownNameError: There is none.
        """
        with self._guard:
            base = self._bases.get(base_key(str(name)))
        if base is None:
            raise UnknownNameError(f"There is no knowledge base called {str(name)[:80]!r}. Choose one from the list.")
        return base

    def create(self, name: str) -> KnowledgeBase:
        """A new, empty one.

        Raises:
            SettingError: The name cannot be used, or there are as many as are allowed.
        """
        name = base_name(name)
        with self._guard:
            if base_key(name) in self._bases:
                raise SettingError(f"There is a knowledge base called {self.get(name).name!r} already.")
            if len(self._bases) >= self.limits.bases:
                raise SettingError(f"There are {self.limits.bases} knowledge bases already. Delete one first.")
            folder = self.folder / base_folder(name)
            base = KnowledgeBase(folder, name, self.models, self._turn)
            write_json(folder / _BASE, {"name": name, "format_version": _VERSION})
            self._bases[base_key(name)] = base
            return base

    def delete(self, name: str) -> None:
        """Remove one with all its documents.

        Raises:
            StoreError: Its indexing does not stop.
        """
        with self._guard:
            base = self.get(name)
            del self._bases[base_key(name)]
        base.close()
        trash = self.folder / f"{_TRASH}{uuid.uuid4().hex}"
        try:
            os.replace(base.folder, trash)  # from one moment to the next; what is left is removed at the next start
        except OSError as err:
            raise SettingError(f"{base.name!r} cannot be deleted: {err.strerror}. Restart the demo.") from err
        shutil.rmtree(trash, ignore_errors=True)

    def keep_one(self) -> None:
        """Where there is none, an empty one is made."""
        with self._guard:
            if not self._bases:
                self.create(FIRST_BASE)

    def upload(self, name: str, uploads: list[dict[str, Any]]) -> list[str]:
        """Let a knowledge base take files that arrived; what is refused is shown with what fails.

        Args:
            name: Of the knowledge base.
            uploads: Each with `path`, where it arrived, and `orig_name`, what it was called; neither is trusted.

        Returns:
            The names of the documents that were taken.
        """
        files: list[tuple[Path, str]] = []
        failures: list[Failure] = []
        for place, upload in enumerate(uploads):
            path = self._arrived(upload.get("path"))
            given = str(upload.get("orig_name") or "")
            if path is None:
                failures.append(Failure(safe_file_name(given), "it did not arrive; upload it again."))
                continue
            given = given or path.name
            reason = self._refused(path, place)
            if reason:
                failures.append(Failure(safe_file_name(given), reason))
                path.unlink(missing_ok=True)
            else:
                files.append((path, given))
        return self.get(name).add(files, failures)

    def room(self) -> int:
        """Bytes that may still come in. Uploads that nobody took are deleted on the way."""
        self._sweep()
        return self.limits.total_bytes - sum(_sizes(self.folder))

    def close(self) -> None:
        """Stop indexing, and let others have the folder."""
        with self._guard:
            bases, self._bases = list(self._bases.values()), {}
        for base in bases:
            base.close()
        self._embedders.close()
        shutil.rmtree(self.incoming, ignore_errors=True)
        self._lock.release()

    def __enter__(self) -> KnowledgeBases:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _found(self) -> list[KnowledgeBase]:
        found = []
        for marker in sorted(self.folder.glob(f"*/{_BASE}")):
            described = read_json(marker) or {}
            if described.get("format_version") != _VERSION or not isinstance(described.get("name"), str):
                logger.warning("%s is left alone: a newer version wrote it, or it is damaged", marker.parent)
                continue
            found.append(KnowledgeBase(marker.parent, described["name"], self.models, self._turn))
        return found

    def _arrived(self, path: Any) -> Path | None:
        """The file, if it is one that was uploaded just now: nothing else on this machine is ever taken."""
        if not isinstance(path, str) or "\0" in path:
            return None
        real = Path(os.path.realpath(path))
        # Resolved first, so that neither ".." nor a link leads out of the folder.
        if not real.is_relative_to(os.path.realpath(self.incoming)) or os.path.islink(path):
            return None
        return real if real.is_file() else None

    def _refused(self, path: Path, place: int) -> str:
        """Why an upload is not taken; "" when it is."""
        if place >= self.limits.files:
            return f"at most {self.limits.files} files are taken at once; upload it separately."
        if path.stat().st_size > self.limits.file_bytes:
            return f"it is larger than {in_words(self.limits.file_bytes)}, the most one file may have."
        return ""

    def _sweep(self) -> None:
        for root, folders, files in os.walk(self.incoming, topdown=False):
            for name in (*files, *folders):
                with contextlib.suppress(OSError):  # taken meanwhile, or a folder that is not empty
                    _remove_if_old(Path(root, name))


def _remove_if_old(path: Path) -> None:
    if time.time() - path.stat().st_mtime <= _LEFT_BEHIND:
        return
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()


def _check_folder(folder: Path) -> None:
    """Nothing when the folder is ours, empty, or not there yet."""
    marker = None
    try:
        names = os.listdir(folder)
        marker = read_json(folder / _MARKER)
    except FileNotFoundError:
        return
    except OSError as err:
        raise StoreFormatError(f"{folder} is no folder that can be read: {err.strerror or err}.") from err
    # A lock alone is left by a demo that ended before it wrote its marker.
    if marker is None and set(names) - {"lock"}:
        raise StoreFormatError(
            f"{folder} holds files, but no knowledge bases of a demo (it has no {_MARKER}). Nothing was changed; "
            "name an empty or a new folder: visrag demo --folder FOLDER"
        )
    if marker is not None and marker.get("format_version") != _VERSION:
        raise StoreFormatError(
            f"{folder} was written by a newer version ({marker.get('format_version')!r}). "
            "Update this one: pip install --upgrade visrag-integrations"
        )


def _locked(folder: Path) -> FolderLock:
    try:
        return FolderLock(folder)
    except StoreLockedError as err:
        holder = str(err).partition("is in use by ")[2].partition(".")[0] or "another process"
        raise StoreLockedError(
            f"Another demo ({holder}) has {folder} open. Use that one, stop it, or choose another folder: "
            "visrag demo --folder FOLDER"
        ) from err


def _sizes(folder: Path) -> list[int]:
    sizes = []
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # deleted meanwhile
                sizes.append(os.lstat(os.path.join(root, name)).st_size)
    return sizes
