"""Which device an embedder computes on, and in which type."""

from __future__ import annotations

from typing import TypeVar

from visrag_integrations.errors import MissingExtraError, SettingError, UnknownNameError

try:
    import torch
except ImportError as err:
    raise MissingExtraError("torch", "torch") from err

Found = TypeVar("Found")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def lookup(setting: str, value: str, table: dict[str, Found]) -> Found:
    """The entry of that name.

    Raises:
        UnknownNameError: There is none; the message names the setting and lists the names.
    """
    if value not in table:
        raise UnknownNameError(f"Unknown {setting} {value!r}. Choose one of: {', '.join(sorted(table))}.")
    return table[value]


def at_least_one(**settings: int | None) -> None:
    """Nothing, where every setting is None or positive.

    Raises:
        SettingError: One is not; the message names it.
    """
    for name, value in settings.items():
        if value is not None and value < 1:
            raise SettingError(f"{name} is {value}; it must be at least 1.")


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; without one, the first GPU there is, else the processor.

    Raises:
        SettingError: It is no device, or not one of this machine.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)  # an index such as "cuda:99" is only found out by using it
    except (RuntimeError, AssertionError) as err:
        raise SettingError(f'device is {str(device)!r}, which this machine does not have: {err}. Try "cpu".') from err
    return chosen


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The type asked for; without one, bfloat16 on a GPU and float32 elsewhere.

    Raises:
        UnknownNameError: It is none of `DTYPES`.
    """
    if dtype is not None:
        return lookup("dtype", str(dtype).removeprefix("torch."), DTYPES)
    if device.type == "cuda":
        return torch.bfloat16
    return torch.float32  # most processors have no fast half precision


def why_no_gpu() -> str:
    """Why nothing would be computed on a GPU here; "" where there is one that torch can use."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for the processor only"
    return f"torch {torch.__version__} sees none"
