"""Uploaded files by names that tell nothing about this machine.

Gradio answers an upload with the path of each file on this machine's disk, and the page sends the path back when the
file is used. Visitors get a name instead:

    /home/anna/demo/incoming/829fb2/report.pdf   ->   uploaded/829fb2/report.pdf
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_PREFIX = "uploaded/"


class UnknownFileError(Exception):
    """A request names a file that was not uploaded here, or cannot be read."""


def names_of(answer: bytes, incoming: Path) -> bytes:
    """Gradio's answer to an upload, with names in place of paths.

    Args:
        answer: A JSON list of paths; anything else is an error of Gradio's.
        incoming: The folder of uploaded files.

    Raises:
        ValueError: Not such a list, or a path that is not in the folder.
    """
    folder = os.path.realpath(incoming)  # Gradio follows links too
    names = []
    for path in json.loads(answer):
        inside = Path(os.path.realpath(path)).relative_to(folder)
        names.append(_PREFIX + inside.as_posix())
    return json.dumps(names).encode()


def with_paths(body: bytes, incoming: Path) -> bytes:
    """The body of a request to one of the page's handlers, with paths in place of names.

    Every file in it must be an upload: Gradio would fetch a URL, and would say whether a path exists.

    Raises:
        UnknownFileError: It is not, or the body is no JSON.
    """
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        raise UnknownFileError from None
    waiting: list[Any] = [read]
    changed = False
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            if "path" in value:
                value["path"] = _path_of(value["path"], incoming)
                changed = True
            waiting += value.values()
    return json.dumps(read).encode() if changed else body


def _path_of(name: Any, incoming: Path) -> str:
    if not isinstance(name, str) or not name.startswith(_PREFIX):
        raise UnknownFileError
    parts = name.removeprefix(_PREFIX).split("/")
    # A folder of Gradio's and a file in it. What such a file may be is checked again where it is taken.
    if len(parts) != 2 or any(part in {"", ".", ".."} or "\0" in part or "\\" in part for part in parts):
        raise UnknownFileError
    return str(incoming.joinpath(*parts))
