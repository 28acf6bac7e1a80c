"""What must be right in a folder before sentence-transformers reads it.

The library goes on where a part is missing: it adds random layers, or takes a pooling that the model was not trained
for.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from visrag_integrations.errors import CheckpointError, MissingExtraError, SettingError

MULTI_VECTOR = {"MultiVectorEncoder", "ColBERT"}
CONFIG = "config_sentence_transformers.json"
MODULES = "modules.json"
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
_HEADER_SIZE = 8  # bytes at the beginning of a safetensors file that say how long its header is


def check_library() -> None:
    """Nothing, if the library is installed.

    Raises:
        MissingExtraError: It is not.
    """
    if find_spec("sentence_transformers") is None:
        raise MissingExtraError("sentence-transformers", "sentence-transformers")


def refuse_pickles(folder: Path) -> None:
    """Nothing, unless weights are in a pickle alone.

    Raises:
        CheckpointError: That is so.
    """
    unsafe = []
    for path in folder.rglob("*"):
        # A pickle can run code. Beside a safetensors file it does no harm: the library takes that one.
        if path.suffix in PICKLES and not any(path.parent.glob("*.safetensors")):
            unsafe.append(str(path.relative_to(folder)))
    if unsafe:
        raise CheckpointError(f"{str(folder)!r} has weights in {', '.join(unsafe)}; only safetensors files are read.")


def refuse_cut_off(folder: Path) -> None:
    """Nothing, unless a file of weights ends before its header says, as after a download that broke off.

    Raises:
        CheckpointError: That is so; the message names the file.
    """
    for path in sorted(folder.rglob("*.safetensors")):
        why = _damage(path)
        if why:
            raise CheckpointError(f"{path} is damaged or cut off: {why}. Download it again.")


def refuse_without_tokenizer(folder: Path) -> None:
    """Nothing, unless no tokenizer is there: transformers would make one up that knows no word.

    Raises:
        CheckpointError: That is so.
    """
    if not any(any(folder.rglob(name)) for name in TOKENIZERS):
        raise CheckpointError(
            f"{str(folder)!r} has no tokenizer ({', '.join(TOKENIZERS)}). Give the folder of a whole checkpoint."
        )


def kind_of(folder: Path, kind: str | None) -> str | None:
    """What reads the folder: "multi", "single", or None where neither the folder nor the caller says it.

    Raises:
        SettingError: The caller says one, and the folder the other.
    """
    said = None
    if _config(folder).get("model_type") in MULTI_VECTOR:
        said = "multi"
    elif "Pooling" in _module_types(folder):  # makes one vector of all tokens
        said = "single"
    if kind is not None and said is not None and kind != said:
        raise SettingError(
            f"kind is {kind!r}, and {str(folder)!r} says in its {CONFIG} and {MODULES} that it is of kind {said!r}. "
            "Leave kind out."
        )
    return kind or said


def refuse_random_projection(folder: Path) -> None:
    """Refuse a folder that does not say which modules a model has.

    The library would add a projection with random weights, or take the mean of all tokens.

    Raises:
        CheckpointError: It does not say it.
    """
    if (folder / MODULES).is_file():
        return
    names: Any = []
    if (folder / "config.json").is_file():
        names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    for name in names:
        # These have their projection in the network; the last one has it in the same file.
        if str(name).endswith("ForRetrieval") or name == "HF_ColBERT":
            return
    raise CheckpointError(
        f"{str(folder)!r} has no {MODULES}, so it does not say how tokens become vectors (architectures={names!r}). "
        "Give a checkpoint with that file, or one whose name ends in -hf or -merged."
    )


def refuse_guessed_pooling(model: Any, folder: Path) -> None:
    """The library takes the mean of all tokens where a folder does not say how they become one vector.

    A model that was trained on its last token, as those on language models are, would find nothing with that.

    Raises:
        CheckpointError: The folder does not say it.
    """
    if (folder / MODULES).is_file() or not any(type(module).__name__ == "Pooling" for module in model):
        return
    raise CheckpointError(
        f"{str(folder)!r} has no {MODULES}, so it does not say how its tokens become one vector. Give a checkpoint "
        'with that file; or say kind="single", if the mean of all tokens is right for it.'
    )


def _damage(path: Path) -> str:
    """What is wrong with a safetensors file; "" where it has all bytes that its header names."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_HEADER_SIZE), "little")
        if size < _HEADER_SIZE or length > size - _HEADER_SIZE:
            return f"it has {size} bytes, too few for its header"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return "its header cannot be read"
    wanted = _HEADER_SIZE + length + max(ends, default=0)
    if size != wanted:
        return f"it has {size} bytes, and its header says {wanted}"
    return ""


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        return {}
    read = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return read if isinstance(read, dict) else {}


def _module_types(folder: Path) -> set[str]:
    """The classes of its modules, without their packages."""
    if not (folder / MODULES).is_file():
        return set()
    modules = json.loads((folder / MODULES).read_text(encoding="utf-8"))
    return {str(module.get("type", "")).rpartition(".")[2] for module in modules}
