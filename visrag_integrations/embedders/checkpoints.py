"""From a name to a checkpoint folder, and from a folder to what tells it apart."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from visrag_integrations.errors import CheckpointError, MissingExtraError

# Never "*.py" or "*.bin": code is not run, and pickles can hold some.
PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt", "*.jinja")
TOKENIZERS = ("tokenizer.model", "tokenizer.json", "vocab.json")
# A folder that has this file beside no config.json is an adapter of PEFT's layout, and no whole checkpoint.
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# 4 MB a file, spread over all of it: to read gigabytes would take minutes, and weights that were trained further differ
# everywhere. Every stored fingerprint depends on both numbers: they may not change.
SAMPLES = 64
SAMPLE_BYTES = 1 << 16
# What changes when a checkpoint is copied or saved again, though its numbers stay.
_INCIDENTAL = ("_name_or_path", "transformers_version", "torch_dtype", "auto_map")


def resolve_checkpoint(model_name_or_path: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a checkpoint: itself, or what the hub has under that name, downloaded once.

    Only configuration, safetensors and the tokenizer are downloaded, never code.

    Raises:
        CheckpointError: There is no such folder and the hub does not give it.
    """
    folder = Path(model_name_or_path).expanduser()
    if folder.is_dir():
        return folder
    name = str(model_name_or_path)
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or folder.exists():
        raise CheckpointError(
            f"{name!r} is no folder. Give a checkpoint's folder or its name, such as openbmb/VisRAG-Ret."
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as err:
        raise MissingExtraError("huggingface_hub", "torch") from err
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(PATTERNS)))
    except Exception as err:  # whatever the network or the hub does, the caller learns which checkpoint it was
        raise CheckpointError(f"{name!r} is no folder here and cannot be downloaded from the hub: {err}") from err


def adapter_base(folder: Path) -> str:
    """The checkpoint that an adapter was trained on: a name on the hub, or a folder.

    Raises:
        CheckpointError: The adapter does not say it, or has no safetensors file.
    """
    try:
        config = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise CheckpointError(f"{ADAPTER} in {str(folder)!r} cannot be read: {err}.") from err
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base or not (folder / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(
            f"{str(folder)!r} holds an adapter, no whole model, and not its base's name or no {ADAPTER_WEIGHTS}. "
            'Give the merged checkpoint: published ones have "-hf" or "-merged" in their names.'
        )
    return base


def base_revision(folder: Path) -> str | None:
    """The revision of its base that an adapter was trained on; None where it says none, or its base is a folder."""
    config = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    revision, base = config.get("revision"), config.get("base_model_name_or_path")
    if not isinstance(revision, str) or not revision or Path(str(base)).expanduser().is_dir():
        return None
    return revision


def checkpoint_name(model_name_or_path: str | Path, folder: Path) -> str:
    """What an embedder is called: the hub's name, or the whole path of a folder, which works from anywhere."""
    if Path(model_name_or_path).expanduser().is_dir():
        return str(folder.resolve())
    return str(model_name_or_path)


def fingerprint_of(folder: Path, weight_files: list[Path]) -> str:
    """16 hex digits that tell checkpoints apart, wherever they lie: from config, tokenizer and samples of the weights.

    A few megabytes are read, whatever the size. The same weights in other shards have another fingerprint.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in _INCIDENTAL:
        config.pop(key, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in TOKENIZERS:
        if (folder / name).is_file():  # the first one that is there decides; others say the same in another format
            digest.update((folder / name).read_bytes())
            break
    for path in weight_files:
        _sample(path, path.name, digest)
    return digest.hexdigest()[:16]


def fingerprint_of_all(folder: Path) -> str:
    """The same for a folder with folders in it: from every JSON file, and samples of all weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.json")):
        digest.update(f"{path.relative_to(folder).as_posix()}:".encode() + path.read_bytes())
    for path in sorted(folder.rglob("*.safetensors")):
        _sample(path, path.relative_to(folder).as_posix(), digest)
    return digest.hexdigest()[:16]


def _sample(path: Path, name: str, digest: hashlib._Hash) -> None:
    """A file's name, size, and pieces from all over it, into the digest."""
    size = path.stat().st_size
    digest.update(f"{name}:{size}".encode())
    with path.open("rb") as file:
        for sample in range(SAMPLES):
            file.seek(size * sample // SAMPLES)
            digest.update(file.read(SAMPLE_BYTES))
