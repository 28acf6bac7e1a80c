"""What this machine can run: its GPUs and which extras are installed, found out without importing anything heavy."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

EXTRAS: dict[str, tuple[str, ...]] = {
    "cpu": ("rapidocr", "onnxruntime", "wordllama"),
    "torch": ("torch", "transformers", "safetensors"),
    "sentence-transformers": ("sentence_transformers", "peft", "torchvision", "torch", "transformers"),
    "vllm": ("vllm",),
    "openai": ("openai",),
}
"""Extras that models need, and what is imported of each."""
_ANSWER_S = 10.0  # for the driver: it answers in one second, and a broken one may never


@dataclass(frozen=True)
class Machine:
    """What is there.

    Attributes:
        gpus: Name and memory of each, as NVIDIA's driver says them.
        torch: Its version; "" where it is not installed.
        missing: Extra -> the packages of it that are not installed; complete extras are left out.
    """

    gpus: tuple[str, ...] = ()
    torch: str = ""
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def has_gpu(self) -> bool:
        """Whether torch, once it is installed, can use one."""
        return bool(self.gpus) and not self.torch_without_gpu

    @property
    def torch_without_gpu(self) -> bool:
        """Whether the torch that is installed was built without support for GPUs."""
        return self.torch.endswith("+cpu")

    def as_dict(self) -> dict[str, Any]:
        """What `visrag models --json` prints."""
        missing = {}
        for extra, packages in self.missing.items():
            missing[extra] = {"packages": list(packages), "command": install_command(extra)}
        return {"gpus": list(self.gpus), "torch": self.torch or None, "has_gpu": self.has_gpu, "missing": missing}


def look_at_machine() -> Machine:
    """This machine."""
    from importlib.metadata import PackageNotFoundError, version  # every command imports this file; few look

    missing: dict[str, tuple[str, ...]] = {}
    for extra, packages in EXTRAS.items():
        absent = tuple(package for package in packages if find_spec(package) is None)
        if absent:
            missing[extra] = absent
    torch = ""
    with contextlib.suppress(PackageNotFoundError):
        torch = version("torch")
    return Machine(_gpus(), torch, missing)


def install_command(extra: str) -> str:
    """What installs it."""
    return f'pip install "visrag-integrations[{extra}]"'


def gpu_megabytes() -> int | None:
    """MiB of the smallest GPU, as the driver says them; None where it says nothing.

    The smallest: which of several is used is decided later, by CUDA_VISIBLE_DEVICES or by the model's engine.
    """
    sizes: list[int] = []
    for gpu in _gpus():
        found = re.search(r"(\d+) MiB", gpu)
        if found is not None:
            sizes.append(int(found[1]))
    return min(sizes, default=None)


def _gpus() -> tuple[str, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    asked = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=_ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError):  # a driver without a device, or one that does not answer
        return ()
    return tuple(line.strip() for line in said.stdout.splitlines() if line.strip())
