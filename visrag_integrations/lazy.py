"""Names of a package that are imported when they are asked for: importing the package is quick and needs no extra."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_attribute(package: str, homes: Mapping[str, str], name: str, check: Callable[[], None] | None = None) -> Any:
    """What a package's `__getattr__` gives: the value, kept in the package from then on.

    Args:
        package: The package's full name.
        homes: Each name, and the module of the package that defines it.
        name: The one that is asked for.
        check: Raises what is to be said where the extra is missing; called before anything is imported.

    Raises:
        AttributeError: The package has no such name.
    """
    module: Any = sys.modules[package]
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(module.__all__)}")
    if check is not None:
        check()
    value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
    setattr(module, name, value)
    return value
