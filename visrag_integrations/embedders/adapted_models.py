"""Adapters as sentence-transformers reads them: the base is fetched, every weight accounted for, both merged once.

PEFT and transformers go on with random numbers where a weight is missing, and only log what is left over. Here both are
errors: an adapter of another base would give vectors that look right and find nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from visrag_integrations.embedders.checkpoints import ADAPTER_WEIGHTS, adapter_base, resolve_checkpoint
from visrag_integrations.errors import CheckpointError, MissingExtraError
from visrag_integrations.models.weights import find_weight_files, first_names

PROJECTION = "custom_text_proj"  # colpali-engine's name of the layer that makes 128 numbers of a token
DENSE = (
    "*_Dense"  # where sentence-transformers keeps that layer, trained; it is read from there and not from the adapter
)
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
        return resolve_checkpoint(base)
    except CheckpointError as err:
        raise CheckpointError(f"{str(folder)!r} is an adapter of {base!r}, which is needed too. {err}") from err


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
    _check_base(network, base)
    _merge(network)


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
            f"The adapter in {str(folder)!r} does not fit its base. Without a place: {first_names(without_place)}; "
            f"not in the adapter: {first_names(without_numbers)}. Is it an adapter of another checkpoint?"
        )


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


def _check_base(network: Any, base: Path) -> None:
    """Every weight of the network but the adapter's own comes from the base's files."""
    from safetensors import safe_open

    added = dict(_adapter_weights(network))
    weights = {name: weight for name, weight in network.named_parameters() if name not in added}
    types = {weight.dtype for weight in weights.values()}
    known = set()
    for path in find_weight_files(base):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, no mapping
                piece = file.get_slice(name)
                shape = tuple(piece.get_shape())
                if not shape:
                    continue
                # A row at either end: the whole of it would be gigabytes.
                for loaded_as in types:
                    known.add((shape, _ends(piece[0:1], piece[shape[0] - 1 : shape[0]], loaded_as)))
    without = []
    for name, weight in weights.items():
        if (tuple(weight.shape), _ends(weight[0:1], weight[-1:], weight.dtype)) not in known:
            without.append(name)
    if without:
        raise CheckpointError(
            f"The base in {str(base)!r} has not all weights of its network; missing: {first_names(without)}. "
            "Download it again."
        )


def _ends(first: Any, last: Any, loaded_as: Any) -> tuple[float, ...]:
    """The numbers at either end of a weight, as the network holds them."""
    row, final = first.detach().flatten()[:ENDS], last.detach().flatten()[-ENDS:]
    return (*row.to(loaded_as).float().tolist(), *final.to(loaded_as).float().tolist())


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
