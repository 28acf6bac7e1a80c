"""Examples in docstrings (`>>> ...`) are shown as code: without this they would be read as Markdown's quotations."""

from __future__ import annotations

from typing import Any

import griffe


class Doctests(griffe.Extension):
    """A step of mkdocstrings' reading of the package."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the examples of an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """The text with a fence around each example.

    "Half of it.\\n\\n>>> half(4)\\n2" becomes "Half of it.\\n\\n```pycon\\n>>> half(4)\\n2\\n```".
    """
    lines: list[str] = []
    margin: str | None = None  # the white space before the example that goes on, None outside of one
    for line in docstring.splitlines():
        words = line.lstrip()
        if margin is None and words.startswith(">>> "):
            margin = line[: len(line) - len(words)]
            lines.append(margin + "```pycon")
        elif margin is not None and not words:
            lines.append(margin + "```")
            margin = None
        lines.append(line.replace("<BLANKLINE>", ""))
    if margin is not None:
        lines.append(margin + "```")
    return "\n".join(lines)
