"""Names that need TRL, loaded when they are asked for, with a plain error where it is missing or of another version."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from visrag_integrations import telemetry
from visrag_integrations.errors import MissingExtraError

TRL = ((1, 16), (1, 17))
"""The first version of TRL that fits, and the first that does not: its private hooks may change with every minor."""


def trl_name(module: str, name: str) -> Any:
    """An attribute of a module that imports TRL.

    Raises:
        MissingExtraError: TRL is not installed, is of another version, or this Python is too old for it.
    """
    check_trl()
    return getattr(importlib.import_module(module), name)


def check_trl() -> None:
    """Nothing, if TRL is there in a version that fits.

    Raises:
        MissingExtraError: It is not.
    """
    telemetry.switch_off()  # TRL reports every trainer to the hub unless it is told not to
    try:
        import trl
    except ImportError as err:
        what = "TRL, which reinforcement learning needs,"
        if sys.version_info < (3, 11):
            what = "TRL, which reinforcement learning needs and which needs Python 3.11 or newer,"
        raise MissingExtraError(what, "training") from err
    numbers = tuple(int(part) for part in trl.__version__.split(".")[:2])
    if not TRL[0] <= numbers < TRL[1]:
        raise MissingExtraError(f"TRL {trl.__version__} is here, and a version from 1.16 to before 1.17", "training")


@contextlib.contextmanager
def without_old_names() -> Iterator[None]:
    """Transformers warns, for every step, of a name that TRL and PEFT still use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
        yield
