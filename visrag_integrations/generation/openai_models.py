"""Which of a server's models answers: the one that was named, or the only one that it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visrag_integrations.errors import GenerationError, SettingError, printable

_NAMED = 20  # models of one error: a cloud lists a hundred, and the first lines of a terminal are what is read


def described(listed: Sequence[dict[str, Any]], model: str | None, url: str) -> dict[str, Any]:
    """What the server says of the model; {} where it says nothing of the one that was named.

    Raises:
        GenerationError: None was named, and the server lists none.
        SettingError: None was named, and the server lists several.
    """
    if model is not None:
        return next((card for card in listed if card["id"] == model), {})
    if not listed:
        raise GenerationError(f"{url} lists no models. Name one: {_HOW}")
    if not _is_one_model(listed):
        # The first of them may be one that embeds, or one that nobody wants to pay for.
        raise SettingError(f"{url} has {len(listed)} models: {_names(listed)}. Name one: {_HOW}")
    return listed[0]


_HOW = "--model NAME beside --generator, or URL#NAME, on the command line; model=NAME in Python."


def _is_one_model(listed: Sequence[dict[str, Any]]) -> bool:
    """Whether all are names of one model: vLLM lists each name of `--served-model-name`, with the same root."""
    if len(listed) == 1:
        return True
    roots = {card.get("root") for card in listed}
    return len(roots) == 1 and None not in roots and not any(card.get("parent") for card in listed)


def _names(listed: Sequence[dict[str, Any]]) -> str:
    shown = ", ".join(printable(str(card["id"])) for card in listed[:_NAMED])
    more = len(listed) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
