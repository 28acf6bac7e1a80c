"""Which version of the page reader filled a collection, and what a collection of an older one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

READER_VERSION = 2
"""Higher when the same file gives other text or words than before: 2 orders words by where they stand, leaves out what
cannot be seen, and checks text layers that look wrong."""

_KEY = "reader_version"


def version_of(reader: Mapping[str, Any]) -> int | None:
    """The version in what `PageReader.describe()` said; None where no page reader is spoken of.

    >>> version_of({"backend": "pdfium", "reader_version": 2}), version_of({"backend": "pdfium"}), version_of({})
    (2, 1, None)
    """
    if _KEY not in reader and "backend" not in reader:
        return None
    version = reader.get(_KEY)
    if isinstance(version, int) and not isinstance(version, bool):
        return version
    return 1  # before readers had versions


def is_outdated(reader: Mapping[str, Any]) -> bool:
    """Whether pages were read by an older version than this one."""
    version = version_of(reader)
    return version is not None and version < READER_VERSION


def with_oldest_version(reader: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What a collection remembers where pages of both readers are in it: the newer one, with the older version.

    >>> with_oldest_version({"backend": "pdfium", "reader_version": 2}, {"backend": "pymupdf"})
    {'backend': 'pdfium', 'reader_version': 1}
    """
    mixed = dict(reader)
    version = version_of(reader)
    version_before = version_of(before)
    if version is not None and version_before is not None:
        mixed[_KEY] = min(version, version_before)
    return mixed


def is_read_otherwise(reader: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether two readers differ in more than their version, of which `outdated_note` speaks.

    >>> is_read_otherwise({"backend": "pdfium", "reader_version": 2}, {"backend": "pdfium"})
    False
    """
    return {**reader, _KEY: 0} != {**before, _KEY: 0}


def outdated_note(reader: Mapping[str, Any]) -> str:
    """What to know of a collection whose pages an older version read, and how to mend it; "" for others."""
    if not is_outdated(reader):
        return ""
    return (
        "its pages were read by an older version: text that nobody can see may be found and quoted, words may stand in "
        "another order than on the page, and numbers in another spelling may not be found. To read them again: "
        "visrag reindex --read-again, or reindex(store, embedder=..., read_again=True)"
    )
