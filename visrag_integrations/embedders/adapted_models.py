"""Adapters as sentence-transformers reads them: the base is fetched, every weight accounted for, both merged once.

PEFT and transformers go on with random numbers where a weight is missing, and only log what is left over. Here both are
errors: an adapter of another base would give vectors that look right and find nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from visrag_integrations.embedders.checkpoints import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    adapter_base,
    base_revision,
    resolve_checkpoint,
)
from visrag_integrations.errors import CheckpointError, MissingExtraError
from visrag_integrations.files import write_whole
from visrag_integrations.models.weights import find_weight_files, first_names, read_json

PROJECTION = "custom_text_proj"  # colpali-engine's name of the layer that makes 128 numbers of a token
# Where sentence-transformers keeps that layer, trained; it is read from there and not from the adapter.
DENSE = "*_Dense"
ENDS = 16  # numbers compared at either end of a weight of the base: random ones of the same shape would never agree


def fetch_base(folder: Path) -> Path:
    """The folder of the base that an adapter names, downloaded once where it is a name on the hub.

    Raises:
        CheckpointError: The adapter names none, its weights are no safetensors file, or the hub does not give the base.
        MissingExtraError: PEFT, which reads adapters, is not installed.
    """
    try:
        import peft  # noqa: F401
    except ImportError as err:
        raise MissingExtraError("peft", "sentence-transformers") from err
    if (folder / "config.json").is_file():  # whole weights with an adapter beside them: the library takes those
        return folder
    base = adapter_base(folder)
    try:
        return resolve_checkpoint(base, revision=base_revision(folder))
    except CheckpointError as err:
        raise CheckpointError(f"{str(folder)!r} is an adapter of {base!r}, which is needed too. {err}") from err


@contextlib.contextmanager
def base_by_folder(folder: Path, base: Path | None) -> Iterator[Path]:
    """A folder for the library to read the adapter from, which leads to this base and to no other.

    An adapter may name a revision of its base; the library would look for the newest one under the base's name.
    """
    if base is None or base == folder or base_revision(folder) is None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="visrag-adapter-") as place:
        # Some hundred megabytes: whoever names a revision of a base is rare.
        copy = Path(shutil.copytree(folder, Path(place) / "adapter"))
        config = {**read_json(copy / ADAPTER), "base_model_name_or_path": str(base), "revision": None}
        write_whole(copy / ADAPTER, json.dumps(config).encode(), durable=False)
        yield copy


def merge_adapter_into(model: Any, folder: Path, base: Path) -> None:
    """Check a model that sentence-transformers loaded from an adapter, and add the adapter to the base's weights.

    Args:
        model: What sentence-transformers made of `folder`.
        folder: The adapter's.
        base: The base's.

    Raises:
        CheckpointError: A weight of the adapter or of the base found no place, or has none in the files.
    """
    network = model.transformers_model
    _check_pairs(network, folder)
    without = _without_numbers(network, find_weight_files(base))
    if without:
        raise CheckpointError(
            f"The base in {str(base)!r} has not all weights of its network; missing: {first_names(without)}. "
            "Download it again."
        )
    _merge(network)


def check_weights(model: Any, folder: Path) -> None:
    """Every weight of a whole checkpoint's network comes from its files.

    Args:
        model: What sentence-transformers made of `folder`.
        folder: The checkpoint's.

    Raises:
        CheckpointError: One has no numbers in the files: it would be random.
    """
    network = model.transformers_model
    if network is None:  # a module of the library's own, which reads its weights strictly
        return
    without = _without_numbers(network, sorted(folder.rglob("*.safetensors")))
    if any(type(module).__name__ == "Pooling" for module in model):
        # BERT's own pooling, which many checkpoints leave out and nothing reads where there is another one.
        without = [name for name in without if not name.startswith("pooler.")]
    if without:
        raise CheckpointError(
            f"{str(folder)!r} has not all weights of its network; missing: {first_names(without)}. Download it again."
        )


def _check_pairs(network: Any, folder: Path) -> None:
    """Every matrix of the adapter stands in the network, and every one in the network comes from the adapter."""
    from safetensors.torch import load_file

    in_network = dict(_adapter_weights(network))
    types = {weight.dtype for weight in in_network.values()}
    if len(types) != 1:
        raise CheckpointError(f"Nothing of the adapter in {str(folder)!r} found a place. Is it one of another base?")
    loaded_as = types.pop()
    elsewhere = any(folder.glob(f"{DENSE}/model.safetensors"))
    in_file: dict[str, Any] = {}
    for name, weight in load_file(folder / ADAPTER_WEIGHTS).items():
        if elsewhere and f".{PROJECTION}." in name:
            continue
        in_file[name] = weight.to(loaded_as)
    # By their numbers: transformers renames the layers of older checkpoints, so that names need not agree.
    without_place = _not_among(in_file, in_network)
    without_numbers = _not_among(in_network, in_file)
    if without_place or without_numbers:
        raise CheckpointError(
            f"The adapter in {str(folder)!r} does not fit its base. {_lists(without_place, without_numbers)}. "
            "Is it an adapter of another checkpoint?"
        )


def _lists(without_place: list[str], without_numbers: list[str]) -> str:
    told = []
    if without_place:
        told.append(f"Without a place: {first_names(without_place)}")
    if without_numbers:
        told.append(f"not in the adapter: {first_names(without_numbers)}")
    return "; ".join(told)


def _adapter_weights(network: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in network.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        for part, weight in module.named_parameters():
            if not part.startswith("base_layer."):
                yield f"{name}.{part}", weight


def _not_among(these: Mapping[str, Any], those: Mapping[str, Any]) -> list[str]:
    """Names of these weights whose numbers none of those has; a number of times, where several are alike."""
    left = Counter(map(_digest, those.values()))
    names = []
    for name, weight in these.items():
        digest = _digest(weight)
        if left[digest] == 0:
            names.append(name)
        left[digest] -= 1
    return names


def _digest(weight: Any) -> str:
    numbers = weight.detach().float().cpu().contiguous().numpy()
    return f"{numbers.shape} {hashlib.sha256(numbers.tobytes()).hexdigest()}"


def _without_numbers(network: Any, files: Iterable[Path]) -> list[str]:
    """Names of the network's weights, but the adapter's own, whose numbers stand in none of these files."""
    from safetensors import safe_open

    added = dict(_adapter_weights(network))
    weights = {name: weight for name, weight in network.named_parameters() if name not in added}
    types = {weight.dtype for weight in weights.values()}
    # Either end alone: transformers puts some weights together that a file has in parts, one after the other.
    begins: set[tuple[float, ...]] = set()
    ends: set[tuple[float, ...]] = set()
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, no mapping
                first, last = _rows(file, name)
                for loaded_as in types:
                    begins.add(_numbers(first, loaded_as)[:ENDS])
                    ends.add(_numbers(last, loaded_as)[-ENDS:])
    without = []
    for name, weight in weights.items():
        first, last = (weight, weight) if weight.ndim < 2 else (weight[0], weight[-1])
        begin, end = _numbers(first, weight.dtype)[:ENDS], _numbers(last, weight.dtype)[-ENDS:]
        if begin not in begins or end not in ends:
            without.append(name)
    return without


def _rows(file: Any, name: str) -> tuple[Any, Any]:
    """The first and the last row of a weight in a file: the whole of it would be gigabytes."""
    piece = file.get_slice(name)
    shape = piece.get_shape()
    if len(shape) < 2:
        whole = file.get_tensor(name)
        return whole, whole
    return piece[0:1][0], piece[shape[0] - 1 : shape[0]][0]


def _numbers(row: Any, loaded_as: Any) -> tuple[float, ...]:
    """The numbers of a row, as the network holds them; those in its middle, which nobody asks for, are left out."""
    flat = row.detach().flatten()
    if len(flat) > 2 * ENDS:
        flat = torch.cat([flat[:ENDS], flat[-ENDS:]])
    return tuple(flat.to(loaded_as).float().tolist())


def _merge(network: Any) -> None:
    """Each adapted layer becomes a plain one again, with the adapter's product added to its weight."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [name for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)]
    for name in adapted:
        parent, _, child = name.rpartition(".")
        layer = network.get_submodule(name)
        layer.merge()
        setattr(network.get_submodule(parent), child, layer.get_base_layer())
    # Else transformers would look for the adapter that is no longer there.
    network._hf_peft_config_loaded = False
    if hasattr(network, "peft_config"):
        del network.peft_config
