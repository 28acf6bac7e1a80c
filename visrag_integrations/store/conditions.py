"""What a filter asks of a page's payload, as values that every engine can translate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = str | int | bool


@dataclass(frozen=True)
class FieldMatch:
    """The field is one of the values (a list field: has one of them)."""

    key: str
    values: tuple[Value, ...]

    def by_type(self) -> tuple[list[bool], list[str], list[int]]:
        """The values apart, as engines match only one type at a time.

        >>> FieldMatch("metadata.a", ("x", 1, True)).by_type()
        ([True], ['x'], [1])
        """
        truths: list[bool] = []
        texts: list[str] = []
        numbers: list[int] = []
        for value in self.values:
            if isinstance(value, bool):  # first: a bool is an int too
                truths.append(value)
            elif isinstance(value, str):
                texts.append(value)
            else:
                numbers.append(value)
        return truths, texts, numbers


@dataclass(frozen=True)
class Range:
    """The field is a number within the bounds, or a point in time where `dates`."""

    key: str
    bounds: Mapping[str, Any] = field(hash=False)
    dates: bool = False


@dataclass(frozen=True)
class Empty:
    """The field is missing, null or an empty list."""

    key: str


@dataclass(frozen=True)
class Ids:
    """The point is one of these."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Not:
    """The condition does not hold."""

    condition: Condition


@dataclass(frozen=True)
class All:
    """Every condition holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Either:
    """At least one condition holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Native:
    """A filter object of the engine's own."""

    filter: Any


Condition = FieldMatch | Range | Empty | Ids | Not | All | Either | Native


def both(first: Condition | None, second: Condition | None) -> Condition | None:
    """A condition that holds where both hold; None is one that always does."""
    return all_of([condition for condition in (first, second) if condition is not None])


def all_of(conditions: Sequence[Condition]) -> Condition | None:
    """One condition that holds where all do; None where there are none."""
    if not conditions:
        return None
    if len(conditions) == 1:
        return conditions[0]
    return All(tuple(conditions))
