"""The values of a filter: what equals what is stored, numbers and points in time as ranges."""

from __future__ import annotations

import datetime
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from visrag_integrations.errors import FilterError, storable
from visrag_integrations.store.conditions import Range, Value
from visrag_integrations.store.json_values import fits_64_bits, to_plain

# ISO 8601 as the engines read it: a date, or a date and a time, with or without seconds and a time zone.
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?)?)?", re.ASCII)


def equal_value(key: str, path: str, value: Any) -> tuple[Value | None, Range | None]:
    """What the field must match, and the range it may be in instead; one of them may be None.

    >>> equal_value("year", "metadata.year", 2020.0), equal_value("price", "metadata.price", 2.5)
    ((2020, None), (None, Range(key='metadata.price', bounds={'gte': 2.5, 'lte': 2.5}, dates=False)))
    """
    plain = to_plain(value)
    if isinstance(value, (datetime.date, np.datetime64)) and isinstance(plain, str):
        if not is_date(plain):
            return plain, None
        # "2024-05-01T12:00:00Z" and "2024-05-01T14:00:00+02:00" are the same point in time.
        return plain, range_of(key, path, {"gte": plain, "lte": plain})
    if isinstance(plain, float):
        if not plain.is_integer() or not fits_64_bits(int(plain)):
            return None, range_of(key, path, {"gte": plain, "lte": plain})
        return int(plain), None
    if isinstance(plain, os.PathLike):
        plain = str(plain)
    if isinstance(plain, str):
        return storable(plain), None
    if isinstance(plain, bool) or (isinstance(plain, int) and fits_64_bits(plain)):
        return plain, None
    raise FilterError(
        f"The filter on {key!r} has {short(value)}; a field can be a string, a number (64 bits) or true/false."
    )


def range_of(key: str, path: str, bounds: Mapping[str, Any]) -> Range:
    """The field is within the bounds: all numbers, or all dates.

    Raises:
        FilterError: A bound is neither, or they are mixed.
    """
    written = {name: to_plain(value) for name, value in bounds.items()}
    if all(isinstance(value, str) for value in written.values()):
        for text in written.values():
            if not is_date(text):
                raise FilterError(f"The bound {text!r} on {key!r} is neither a number nor a date such as '2024-05-31'.")
        return Range(path, written, dates=True)
    for name, value in written.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_number(value):
            raise FilterError(
                f"A bound on {key!r} is {short(bounds[name])}; bounds are numbers, or ISO dates (all of them)."
            )
    return Range(path, written)


def is_date(text: str) -> bool:
    """Whether it is a date, or a date and a time, as engines read them.

    >>> is_date("2024-05-31"), is_date("2024-05-31T10:00:00Z"), is_date("soon")
    (True, True, False)
    """
    if not _DATE.fullmatch(text):
        return False
    try:
        datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not read the Z
    except ValueError:
        return _has_nanoseconds(text)
    return True


def _has_nanoseconds(text: str) -> bool:
    """Whether it would be a date with at most six digits of a second, which is all that Python 3.10 reads."""
    cut = re.sub(r"\.(\d{1,9})", lambda digits: f".{digits[1][:6]:0<6}", text)
    if cut == text:
        return False
    return is_date(cut)


def _is_number(value: float) -> bool:
    try:
        return not math.isnan(value)
    except OverflowError:
        return False  # an integer of more than 308 digits


def short(value: object) -> str:
    """The type and the value, for a message; a long value is cut off."""
    try:
        text = repr(value)
    except RecursionError:
        text = "..."  # nested deeper than Python can print
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{type(value).__name__} {text}"
