"""Networks and processors that transformers has, loaded strictly: from safetensors, without remote code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.embedders.checkpoints import TOKENIZERS
from visrag_integrations.errors import CheckpointError, MissingExtraError
from visrag_integrations.models.weights import find_weight_files, first_names, read_json

if TYPE_CHECKING:
    import torch

PROCESSORS = ("processor_config.json", "preprocessor_config.json")
HEAD = "lm_head.weight"  # writes text, which no embedder does: there are checkpoints with it and without
PROBLEMS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def find_class(name: str) -> Any:
    """A class of transformers by its name.

    Raises:
        MissingExtraError: transformers is not installed, or too old to have it.
    """
    try:
        import transformers
    except ImportError as err:
        raise MissingExtraError("transformers", "torch") from err
    try:
        return getattr(transformers, name)
    except (AttributeError, ImportError) as err:
        raise MissingExtraError(
            f"A transformers that has {name} (this is {transformers.__version__})", "torch"
        ) from err


def check_architecture(folder: Path, allowed: frozenset[str]) -> None:
    """Nothing, where the folder's config.json names one of these architectures.

    Raises:
        CheckpointError: It names another, or there is none.
    """
    names = read_json(folder / "config.json").get("architectures") or []
    if not allowed.intersection(name for name in names if isinstance(name, str)):
        raise CheckpointError(
            f"config.json in {str(folder)!r} says architectures={names!r}; this embedder reads "
            f"{' or '.join(sorted(allowed))}. Use load_embedder, which picks the embedder that fits."
        )


def load_network(
    class_name: str, folder: Path, *, device: torch.device, dtype: torch.dtype, attn_implementation: str
) -> Any:
    """The network of that class with the folder's weights, as transformers has it, ready to compute.

    Raises:
        CheckpointError: Weights are missing, left over, of other shapes, or cannot be read.
        MissingExtraError: transformers does not have the class.
    """
    network = find_class(class_name)
    find_weight_files(folder)
    settings = {"dtype": dtype, "attn_implementation": attn_implementation, "use_safetensors": True}
    try:
        with silent():
            model, report = network.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, output_loading_info=True, **settings
            )
    except Exception as err:  # whatever transformers finds wrong with it, the caller learns which checkpoint it was
        raise CheckpointError(f"{class_name} cannot be read from {str(folder)!r}: {err}") from err
    # transformers only warns of these, and goes on with random numbers in place of what is missing.
    for problem in PROBLEMS:
        names = [name for name in map(str, report.get(problem) or ()) if not name.endswith(HEAD)]
        if names:
            raise CheckpointError(
                f"The weights in {str(folder)!r} do not fit {class_name}: {problem.replace('_', ' ')}: "
                f"{first_names(names)}. Download the checkpoint again, or say another system=."
            )
    return model.eval().requires_grad_(False).to(device)


def load_processor(class_name: str, folder: Path) -> Any:
    """The folder's processor, with picture operations by Pillow, so that pixels do not depend on what is installed.

    Raises:
        CheckpointError: Its files are missing or do not fit.
    """
    processor = find_class(class_name)
    for files in (TOKENIZERS, PROCESSORS):  # without them transformers silently makes up its own
        if not any((folder / name).is_file() for name in files):
            raise CheckpointError(
                f"{str(folder)!r} has none of {', '.join(files)}. Give the folder of a whole checkpoint."
            )
    try:
        with silent():
            return processor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, backend="pil")
    except Exception as err:  # as above
        raise CheckpointError(f"{class_name} cannot be read from {str(folder)!r}: {err}") from err


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without transformers' progress bars and its warnings about what it loads, which are checked here instead."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
