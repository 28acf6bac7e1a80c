"""Weights from one or many safetensors files into a network, strictly: nothing missing, nothing left over."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visrag_integrations.errors import CheckpointError, MissingExtraError

# As transformers names them.
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".safetensors"}  # named in the error, never opened: pickles can run code
_NAMES_SHOWN = 5  # a whole checkpoint has hundreds; a few say which kind is missing


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint.

    Raises:
        CheckpointError: There is no such file, or it holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise CheckpointError(f"{path.parent} has no {path.name}. Give the folder of a whole checkpoint.") from err
    except (OSError, ValueError) as err:
        raise CheckpointError(f"{path} cannot be read as JSON: {err}") from err
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object.")
    return content


def find_weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those its index names, else the single one.

    Raises:
        CheckpointError: There are none, or the index names one that is not there.
    """
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{folder / INDEX} has no weight_map.")
        names = sorted(set(map(str, weight_map.values())))
    elif (folder / SINGLE).is_file():
        names = [SINGLE]
    else:
        found = ""
        others = [path.name for path in folder.iterdir() if path.suffix in _OTHER_WEIGHTS]
        if others:
            found = f"; there is {first_names(others)}"
        raise CheckpointError(f"{folder} has no {SINGLE} and no {INDEX}{found}. Weights are read from those only.")
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{folder / INDEX} names {name!r}; weight files must lie in the folder itself.")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}, which {INDEX} names. Download the checkpoint again.")
    return [folder / name for name in names]


def _open(path: Path) -> Any:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as err:
        raise MissingExtraError("safetensors", "torch") from err
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as err:
        raise CheckpointError(f"{path} is damaged or cut off ({err}). Download it again.") from err


def first_names(names: Iterable[str]) -> str:
    """The first few names and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:_NAMES_SHOWN])
    if len(ordered) > _NAMES_SHOWN:
        shown += f" and {len(ordered) - _NAMES_SHOWN} more"
    return shown


class _Renamer:
    """Published key -> the network's own, by prefixes; None for keys that are not needed."""

    def __init__(self, prefixes: Mapping[str, str], unused: Sequence[str]) -> None:
        self.prefixes, self.unused = prefixes, tuple(unused)

    def ours(self, key: str) -> str | None:
        if key.startswith(self.unused):
            return None
        for published, own in self.prefixes.items():
            if key.startswith(published):
                return own + key[len(published) :]
        return key

    def published(self, key: str) -> str:
        for published, own in self.prefixes.items():
            if key.startswith(own):
                return published + key[len(own) :]
        return key


def _check(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Compare names and shapes, both by published key, and report every difference at once."""
    problems = []
    if missing := wanted.keys() - found.keys():
        problems.append(f"missing: {first_names(missing)}")
    if unexpected := found.keys() - wanted.keys():
        problems.append(f"unexpected: {first_names(unexpected)}")
    misshaped = []
    for key in found.keys() & wanted.keys():
        if found[key] != wanted[key]:
            misshaped.append(f"{key} (is {list(found[key])}, config.json asks for {list(wanted[key])})")
    if misshaped:
        problems.append(f"misshaped: {first_names(misshaped)}")
    if problems:
        raise CheckpointError(f"The weights in {folder} do not fit the network. {'; '.join(problems)}.")


def load_weights(
    network: nn.Module,
    folder: Path,
    *,
    prefixes: Mapping[str, str],
    unused: Sequence[str] = (),
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Fill a network made on the meta device from a checkpoint folder.

    Args:
        network: Its parameters are replaced, one after the other, so that nothing is in memory twice.
        folder: Holds one safetensors file, or several and their index.
        prefixes: Published prefix -> the network's own.
        unused: Prefixes of published keys that are neither needed nor read.
        device: Where the weights go.
        dtype: What they are cast to.

    Raises:
        CheckpointError: A key is missing, left over, twice there or misshaped, or a file is damaged; names the keys.
    """
    renamer = _Renamer(prefixes, unused)
    files = [(path, _open(path)) for path in find_weight_files(folder)]
    shapes: dict[str, tuple[int, ...]] = {}
    for path, file in files:
        for key in file.keys():  # noqa: SIM118  (no mapping)
            if key in shapes:
                raise CheckpointError(f"{path} holds {key}, which another file of {folder} holds too.")
            if renamer.ours(key) is not None:
                shapes[key] = tuple(file.get_slice(key).get_shape())
    # All names and shapes are compared before the first weight is read: gigabytes later it would be a long wait.
    wanted = {renamer.published(key): tuple(value.shape) for key, value in network.state_dict().items()}
    _check(shapes, wanted, folder)
    for _, file in files:
        state: dict[str, Tensor] = {}
        for key in file.keys():  # noqa: SIM118
            own = renamer.ours(key)
            if own is not None:
                state[own] = _read(file, key, device, dtype)
        network.load_state_dict(state, strict=False, assign=True)
    network.requires_grad_(False).eval()


def _read(file: Any, key: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """One tensor, cast and moved; a copy, so that the file may go."""
    tensor: Tensor = file.get_tensor(key)
    if not tensor.is_floating_point():
        raise CheckpointError(f"{key} is stored as {tensor.dtype}; quantised weights cannot be read here.")
    return tensor.to(device=device, dtype=dtype, copy=True)
