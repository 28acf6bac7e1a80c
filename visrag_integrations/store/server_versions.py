"""What a Qdrant server can do, by its version: nothing is sent that it lacks.

A server that parses a setting may still stop at it: 1.18 reads the datatype "turbo4", then panics while it makes the
storage, and in a cluster every node does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.store.engine import Schema
from visrag_integrations.store.refusals import read_refusal

Version = tuple[int, int, int]

OLDEST: Version = (1, 16, 0)
"""The oldest supported server, and what one is taken for whose version cannot be read."""

SINCE: Mapping[str, Version] = {
    "datatype float32": (1, 0, 0),
    "datatype float16": (1, 11, 0),
    "datatype turbo4": (1, 19, 0),
    "datatype turbo8": (1, 20, 0),
    "index keyword": (1, 0, 0),
    "index integer": (1, 0, 0),
    "index float": (1, 0, 0),
    "index datetime": (1, 8, 0),
    "index bool": (1, 4, 0),
    "index of tenants": (1, 11, 0),
    "metadata of collections": (1, 16, 0),
}
"""What there is -> the first version that has it."""

_DATATYPES = {"float32": "float32", "float16": "float16", "8bit": "turbo8", "compact": "turbo4"}


def read_version(text: Any) -> Version | None:
    """The numbers of a version; None where there are none, and for versions before their release.

    A version such as 1.19.0-dev may lack what 1.19.0 has, so it counts as the last one before it.

    >>> read_version("1.18.3"), read_version("v1.20"), read_version("unknown"), read_version("1.19.0-dev")
    ((1, 18, 3), (1, 20, 0), None, (1, 18, 0))
    """
    found = re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?([-+].*)?", str(text or "").strip())
    if found is None:
        return None
    major, minor, patch = int(found[1]), int(found[2]), int(found[3] or 0)
    unreleased = (found[4] or "").startswith("-")
    if unreleased and patch == 0 and minor > 0:
        minor -= 1
    return major, minor, patch


def ask_version(client: Any) -> Version:
    """The version of the client's server, in one request; `OLDEST` where it cannot be read.

    Raises:
        Exception: The client's own, where the server does not answer at all.
    """
    try:
        said = getattr(client.info(), "version", None)
    except Exception as err:
        # A proxy may hide the page that tells the version; what is behind it may still be a Qdrant.
        if read_refusal(err).silent:
            raise
        return OLDEST
    return read_version(said) or OLDEST


def check_supported(version: Version, where: str) -> None:
    """Nothing, unless the server is too old.

    Raises:
        StoreError: It is.
    """
    if version < OLDEST:
        raise StoreError(
            f"{where}: this Qdrant server is {_shown(version)}; {_shown(OLDEST)} is the oldest one supported. Upgrade "
            "it one minor version at a time, as Qdrant asks."
        )


def check_storage(schemas: Iterable[Schema], version: Version, where: str) -> None:
    """Nothing, unless a new collection needs a datatype that the server lacks.

    Raises:
        SettingError: It does; the message says what to set instead.
    """
    for schema in schemas:
        needed = [_DATATYPES[schema.storage]]
        if schema.pooling and schema.storage == "compact":
            needed.append("turbo8")  # its pooled vectors
        first = max(SINCE[f"datatype {name}"] for name in needed)
        if version < first:
            raise SettingError(
                f"{where}: storage={schema.storage!r} needs Qdrant {_shown(first)}, and this server is "
                f"{_shown(version)}. Say storage='float16', or use a newer server or a folder."
            )


def _shown(version: Version) -> str:
    return ".".join(str(number) for number in version)
