"""The filter of a request: its limits, and what is said where it fits no page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.stores import why_nothing
from visrag_integrations.servers.web.public import public_source

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.types import Answer

# A filter is walked by several steps, each of which nests as deep: far below Python's limit of recursion. People write
# two or three levels, and lists of ids of a few hundred.
_FILTER_DEPTH = 16
_FILTER_VALUES = 1_000


def check_filter(filter: Mapping[str, Any] | None) -> None:
    """Refuses a filter that is nested deeper or longer than anybody needs."""
    for number, depth in enumerate(_depths(filter), 1):
        if depth > _FILTER_DEPTH or number > _FILTER_VALUES:
            raise SettingError(
                f"The filter is too large: at most {_FILTER_DEPTH} levels and {_FILTER_VALUES} values are allowed."
            )


def _depths(value: Any) -> Iterator[int]:
    """How deep each value inside stands; lazily, so that counting can stop.

    >>> list(_depths({"year": {"gte": 2003}}))
    [0, 1, 2]
    """
    waiting = [(0, value)]
    while waiting:
        depth, value = waiting.pop()
        yield depth
        if isinstance(value, Mapping):
            waiting += [(depth + 1, inner) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(depth + 1, inner) for inner in value]


def filter_note(retriever: PageRetriever, filter: Filter | None) -> str:
    """Which key or value of a filter that found nothing is unknown here; tells only of what the retriever can find."""
    return why_nothing(retriever.store, filter, retriever.filter, public_source)


def with_filter_note(answer: Answer, retriever: Any, filter: Filter | None) -> Answer:
    """The answer; one from no page at all says what the filter did."""
    if answer.pages or not filter or not hasattr(retriever, "store"):
        return answer
    note = filter_note(retriever, filter)
    if not note:
        return answer
    return replace(answer, problems=(*answer.problems, note))
