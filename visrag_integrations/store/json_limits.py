"""JSON from files that are not trusted: limited in size and in depth, so that no file can end the process."""

from __future__ import annotations

import json
from typing import Any

# Deeper than any payload of ours by far, and far below the depth at which Python's parser gives up.
MAX_DEPTH = 100


def read_limited_json(text: str | bytes, max_bytes: int) -> Any:
    """The value in a JSON text.

    >>> read_limited_json('{"a": [1, 2]}', 100)
    {'a': [1, 2]}

    Raises:
        ValueError: It is no JSON, too long, or nested too deep.
    """
    if len(text) > max_bytes:
        raise ValueError(f"{len(text)} bytes of JSON; at most {max_bytes} are read")
    try:
        value = json.loads(text)
    except RecursionError as err:
        raise ValueError("JSON that is nested too deep") from err
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Without recursion: newer versions of Python parse deeper than they can walk."""
    waiting = [(value, 1)]
    while waiting:
        inner, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError("JSON that is nested too deep")
        if isinstance(inner, dict):
            waiting += [(item, depth + 1) for item in inner.values()]
        elif isinstance(inner, list):
            waiting += [(item, depth + 1) for item in inner]
