"""What of a page's metadata JSON can hold, and the one JSON form of what it cannot: dates, numpy numbers, UUIDs."""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from visrag_integrations.errors import SettingError, storable


def fits_64_bits(number: int) -> bool:
    """Whether engines can keep the integer, which they do as a signed one of 64 bits."""
    return -(2**63) <= number < 2**63


def to_plain(value: Any) -> Any:
    """A date, a time, a numpy value or a UUID in its one JSON form; anything else as it is.

    >>> to_plain(datetime.date(2024, 5, 1)), to_plain(np.int64(3)), to_plain(uuid.UUID(int=7))
    ('2024-05-01', 3, '00000000-0000-0000-0000-000000000007')
    """
    if isinstance(value, (np.datetime64, datetime.date, datetime.time)):
        return _iso(value)
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()  # of a scalar too: the Python value
    if isinstance(value, uuid.UUID):
        return str(value)
    return value


def _iso(value: Any) -> Any:
    """ISO text; "not a time", which pandas and numpy have, stays what it is and is refused as a value."""
    if isinstance(value, np.datetime64):
        return value if np.isnat(value) else str(value)
    text = value.isoformat()
    return value if text == "NaT" else text


def json_like(value: Any, key: str) -> Any:
    """The value as JSON can hold it: strings, numbers, true/false, null, lists and dicts of them.

    >>> json_like((1, "a"), "tags")
    [1, 'a']
    >>> json_like([datetime.date(2024, 5, 1), np.float32(0.5)], "read")
    ['2024-05-01', 0.5]

    Raises:
        SettingError: It has no obvious JSON form; the message names the key.
    """
    value = to_plain(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, int) and fits_64_bits(value):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [json_like(item, f"{key}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {storable(name): json_like(item, f"{key}.{name}") for name, item in value.items()}
    raise SettingError(
        f"The page metadata {key!r} is {value!r} ({type(value).__name__}), which JSON cannot hold. "
        "Use strings, finite numbers (integers below 2**63), true/false, null, dates, UUIDs, and lists or dicts of "
        "them."
    )
