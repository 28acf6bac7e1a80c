"""What a visitor chose beside the question, checked: it comes from a browser, so nothing in it is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, get_args

from visrag_integrations.errors import SettingError
from visrag_integrations.types import Mode

MODE_WORDS: dict[str, str] = {
    "": "Recommended",
    "dense": "By meaning",
    "lexical": "By words",
    "hybrid": "By meaning and words",
}
"""Way to search -> what people read; "" is the embedder's own way."""
MOST_CHOSEN = 1000
"""Documents that may be ticked; each is a name that has to be looked up."""


@dataclass(frozen=True)
class Choices:
    """How one question is to be answered.

    Attributes:
        documents: Names of the documents to search in; all of them when empty.
        top_k: How many pages are read; the demo's own number when None.
        mode: How pages are searched; the embedder's own way when None.
        model: The name of the generator; the demo's own when "".
        steps: Whether the model searches by itself, in several steps.
    """

    documents: tuple[str, ...] = ()
    top_k: int | None = None
    mode: Mode | None = None
    model: str = ""
    steps: bool = False


def read_choices(documents: Any, top_k: Any, mode: Any, model: Any, steps: Any, *, most_pages: int) -> Choices:
    """The choices as the browser sent them.

    Raises:
        SettingError: A number of pages or a way to search that is not offered, or too many documents.
    """
    names: list[str] = []
    if isinstance(documents, list):
        names = [name for name in documents if isinstance(name, str)]
    if len(names) > MOST_CHOSEN:
        raise SettingError(f"{len(names)} documents are ticked; at most {MOST_CHOSEN} can be. Tick none to search all.")
    return Choices(
        tuple(names),
        read_count(top_k, most_pages),
        read_mode(mode),
        model if isinstance(model, str) else "",
        steps is True,
    )


def read_count(given: Any, most: int) -> int | None:
    """How many pages; None where nothing was said.

    >>> read_count(3.0, 10), read_count(None, 10)
    (3, None)

    Raises:
        SettingError: Not from 1 to `most`.
    """
    if given is None or given == "":
        return None
    whole = isinstance(given, (int, float)) and not isinstance(given, bool) and given == given // 1
    if not whole or not 1 <= given <= most:
        raise SettingError(f"The number of pages must be a whole number from 1 to {most}.")
    return int(given)


def read_mode(given: Any) -> Mode | None:
    """How pages are searched; None for the embedder's own way.

    Raises:
        SettingError: There is no such way.
    """
    if given is None or given == "":
        return None
    if isinstance(given, str) and given in get_args(Mode):
        return cast(Mode, given)
    raise SettingError("There is no such way to search. Choose one from the list.")
