"""Folders, files and web addresses of the person who runs the demo, put into a knowledge base.

Never for visitors: they would read this machine's disk, and what stands behind its firewall.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visrag_integrations.errors import DocumentError, SettingError
from visrag_integrations.readers.finding import LeftOut, find_documents
from visrag_integrations.readers.remote import is_url
from visrag_integrations.servers.demo.visitor_limits import in_words

if TYPE_CHECKING:
    from visrag_integrations.servers.demo.knowledge_base import KnowledgeBase


@dataclass(frozen=True)
class SourcesTaken:
    """What became of sources that were given.

    Attributes:
        names: The documents that are read now.
        left_out: Files whose kind is not read, and folders that could not be looked into.
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def add_sources(base: KnowledgeBase, sources: Sequence[str], room: int) -> SourcesTaken:
    """Copy files (those of folders too) into a knowledge base and have them read, and what stands at addresses.

    Args:
        base: Where they go.
        sources: Paths and addresses.
        room: Bytes that may still come in.

    Raises:
        SettingError: There is nothing at a path, no document in a folder, or more than fits.
    """
    files: list[Path] = []
    links: list[str] = []
    left_out: list[str] = []
    for source in sources:
        given = source.strip()
        if is_url(given):
            links.append(_checked_link(given))
        else:
            files += _files_at(given, left_out)
    # Before anything is copied: half a folder would look like the whole one.
    size = sum(path.stat().st_size for path in files)
    if size > room:
        raise SettingError(
            f"These files have {in_words(size)}; the demo's folder has room for {in_words(max(0, room))}. Take fewer, "
            "or allow more with --max-total-mb."
        )
    names = base.add([(path, path.name) for path in files], copied=True) if files else []
    for link in links:
        base.add_link(link)
    return SourcesTaken((*names, *links), tuple(left_out))


def _checked_link(link: str) -> str:
    if not link.lower().startswith(("http://", "https://")):
        raise SettingError(f"{link!r} is no web address. It begins with http:// or https://.")
    return link


def _files_at(given: str, left_out: list[str]) -> list[Path]:
    """The documents at a path."""
    if not given:
        raise SettingError("Type the path of a file or a folder, or a web address.")
    path = Path(given).expanduser()
    if not path.exists():
        raise SettingError(f"There is no file or folder {str(path)!r}. Check the spelling.")

    def leave_out(found: LeftOut) -> None:
        left_out.append(os.path.basename(found.source))

    try:
        found = list(find_documents(path, leave_out))
    except DocumentError as err:
        raise SettingError(str(err)) from err
    return [Path(str(document)) for document in found]
