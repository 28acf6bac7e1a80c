"""How much of a GPU vLLM takes for a generator, where other models run on the same one."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from visrag_integrations.cli.machine import gpu_megabytes
from visrag_integrations.cli.model_sizes import weights_of
from visrag_integrations.cli.noting import note
from visrag_integrations.errors import SettingError, printable

# What vLLM takes when nothing is said, of the whole memory. It refuses to start where less than that is free.
_VLLM_TAKES = 0.9
# Bytes that an embedder needs for each byte of its weights: the pages of a batch and CUDA itself come on top. Less, and
# a page beside a busy generator may not fit; more would only be missing to the generator.
_BESIDE_WEIGHTS = 1.5
# With less than this, no generator of the presets has room for its weights on any GPU that there is.
_LEAST = 0.2


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--gpu-memory`."""
    parser.add_argument(
        "--gpu-memory",
        type=_share,
        metavar="SHARE",
        help="of the GPU's memory, what vLLM takes for a generator, such as 0.6 (default: 0.9, less what an "
        "embedder and a reranker on the same GPU need)",
    )


def _share(text: str) -> float:
    """A share above 0 and at most 1, as an argparse type."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share of the memory: say a number such as 0.6, at most 1")
    return share


def refuse_without_vllm(arguments: argparse.Namespace, name: str) -> None:
    """Nothing, unless `--gpu-memory` is given and what answers is not run by vLLM in this process.

    Raises:
        SettingError: It is.
    """
    if getattr(arguments, "gpu_memory", None) is not None:
        raise SettingError(
            f"--gpu-memory is for a generator that vLLM runs in this process, and {printable(name)} is none. Leave it "
            "out; a server of your own takes --gpu-memory-utilization when it is started."
        )


def refuse_without_room(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Nothing, if `--gpu-memory` says a share that all of these have beside each other.

    Raises:
        SettingError: It does not. vLLM would load the first, which takes minutes, and then have no room for the next.
    """
    share: float | None = getattr(arguments, "gpu_memory", None)
    if share is not None and share * len(names) <= _VLLM_TAKES:
        return
    called = " and ".join(map(printable, names))
    said = (
        f"vLLM would run {called} on one GPU in this process, and the first leaves no room for another. Start all but "
        f"one on a server (vllm serve {printable(names[-1])}), and give its URL in place of the name"
    )
    if hasattr(arguments, "gpu_memory"):
        each = math.floor(_VLLM_TAKES / len(names) * 100) / 100
        said += f"; or, where {each} of the GPU is enough for each, say --gpu-memory {each}"
    raise SettingError(f"{said}.")


def vllm_settings(arguments: argparse.Namespace, name: str, beside: Sequence[str]) -> dict[str, Any]:
    """What vLLM is told for this generator; nothing where it may take what it takes by itself.

    Args:
        arguments: With `gpu_memory`.
        name: Of the generator.
        beside: Of what runs on the same GPU: embedders, a reranker.
    """
    if find_spec("vllm") is None:  # transformers takes what it needs, and no more
        refuse_without_vllm(arguments, name)
        return {}
    asked: float | None = getattr(arguments, "gpu_memory", None)
    if asked is not None:
        return {"gpu_memory_utilization": asked}
    megabytes = gpu_megabytes() if beside else None  # the driver's program takes a second
    if megabytes is None:
        return {}
    weights, known = 0, []
    for other in beside:
        size = weights_of(other)
        if size is None:
            _say(
                arguments,
                f"how much of the GPU {printable(other)} needs is not known, so vLLM leaves nothing for it; a share "
                "such as --gpu-memory 0.6 does.",
            )
        else:
            weights += size
            known.append(printable(other))
    left = share_beside(weights, megabytes)
    if left is None:
        return {}
    _say(
        arguments,
        f"vLLM takes {left:.0%} of the GPU for {printable(name)}, and leaves the rest to {' and '.join(known)}; "
        f"--gpu-memory {left} or another share says it otherwise.",
    )
    return {"gpu_memory_utilization": left}


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not getattr(arguments, "quiet", False):
        note(text)


def share_beside(weights: int, megabytes: int | None) -> float | None:
    """The share of a GPU that vLLM may take beside weights of so many bytes; None where it need not be told.

    VisRAG-Ret needs 1.5 x 6.8 GB: 0.78 of 80 GiB is left of vLLM's 0.9, and 0.5 of 24 GiB.

    >>> share_beside(6_800_000_000, 81920), share_beside(6_800_000_000, 24576)
    (0.78, 0.5)
    >>> share_beside(0, 81920), share_beside(6_800_000_000, None)
    (None, None)
    """
    if not weights or not megabytes:
        return None
    needed = weights * _BESIDE_WEIGHTS / (megabytes * 1024 * 1024)
    return max(_LEAST, math.floor((_VLLM_TAKES - needed) * 100) / 100)
