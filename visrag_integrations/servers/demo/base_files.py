"""The documents of one knowledge base on the disk: the files that were added, and the web addresses."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from visrag_integrations.readers.remote import is_url
from visrag_integrations.servers.demo.names import safe_file_name, unused_name
from visrag_integrations.store.folder import read_json, write_json

DOCUMENTS, LINKS = "documents", "links.json"
_VERSION = 1


class BaseFiles:
    """The folder `documents` of a knowledge base, and its list of web addresses. Thread-safe.

    Args:
        folder: Of the knowledge base.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / DOCUMENTS
        self.folder.mkdir(parents=True, exist_ok=True)
        self._links = folder / LINKS
        # In stored sources: a part of the path that no other folder has, also where all bases were moved elsewhere.
        self._inside = f"/{folder.name}/{DOCUMENTS}/"
        self._guard = threading.RLock()

    def names(self) -> list[str]:
        """All its documents, sorted: the names of files, and the addresses."""
        with os.scandir(self.folder) as entries:
            files = [entry.name for entry in entries if entry.is_file()]
        return sorted([*files, *self.links()])

    def source(self, name: str) -> Path | str:
        """Where a document is: a path, or its address."""
        if is_url(name):
            return name
        return self.folder / name

    def name_of(self, source: str) -> str:
        """The document that something stored under this source belongs to.

        Files are known by their names, wherever the folder was when they were indexed; what lies inside of a file
        belongs to the file: ".../documents/a.pdf/notes.txt" to "a.pdf".
        """
        if is_url(source):
            return source
        slashed = source.replace("\\", "/")
        _, found, inside = slashed.partition(self._inside)
        if found:
            return inside.partition("/")[0]
        return slashed.rpartition("/")[2]

    def take(self, path: Path, given: str, *, copied: bool = False) -> Path:
        """Put a file into the folder, moved or copied; the same file under the same name is there once."""
        name = safe_file_name(given)
        with self._guard:
            target = self._same(path, name)
            # The same file again is not indexed twice; another one of that name gets a number.
            if target is None:
                target = self.folder / unused_name(name, os.listdir(self.folder))
            if not copied:
                os.replace(path, target)
            elif not target.exists():
                _copy(path, target)
            return target

    def _same(self, path: Path, name: str) -> Path | None:
        """The same file under this name, or under this name with a number."""
        stem, dot, suffix = name.rpartition(".")
        if not stem:
            stem, dot, suffix = name, "", ""
        numbered = re.compile(rf"{re.escape(stem)}( \(\d+\))?{re.escape(dot + suffix)}", re.IGNORECASE)
        for other in sorted(os.listdir(self.folder)):
            target = self.folder / other
            if numbered.fullmatch(other) and target.is_file() and filecmp.cmp(path, target, shallow=False):
                return target
        return None

    def remove(self, name: str) -> None:
        """One document less; nothing where it is not there."""
        with self._guard:
            if is_url(name):
                self._change_links(lambda links: [link for link in links if link != name])
            else:
                (self.folder / name).unlink(missing_ok=True)

    def links(self) -> list[str]:
        """The web addresses, in the order in which they were added."""
        kept = read_json(self._links) or {}
        links = kept.get("links")
        if not isinstance(links, list):
            return []
        return [link for link in links if isinstance(link, str) and is_url(link)]

    def add_link(self, link: str) -> None:
        """One web address more, once."""
        with self._guard:
            self._change_links(lambda links: list(dict.fromkeys([*links, link])))

    def _change_links(self, change: Callable[[list[str]], Sequence[str]]) -> None:
        write_json(self._links, {"format_version": _VERSION, "links": list(change(self.links()))})


def _copy(path: Path, target: Path) -> None:
    """Whole or not at all: a copy that was cut off would be indexed as a broken document."""
    partial = target.parent.parent / f".copy-{target.name}"
    try:
        shutil.copyfile(path, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
