"""What embedders that load a checkpoint share: its name and fingerprint, threads that prepare, a runner on a device."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from visrag_integrations.embedders.async_embedder import AsyncEmbedder
from visrag_integrations.embedders.checkpoints import checkpoint_name, fingerprint_of, resolve_checkpoint
from visrag_integrations.embedders.device_runner import DeviceRunner
from visrag_integrations.embedders.devices import choose_device
from visrag_integrations.embedders.prefetch import prefetch
from visrag_integrations.models.weights import find_weight_files

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from typing_extensions import Self

In = TypeVar("In")
Out = TypeVar("Out")

MAX_WORKERS = 16  # threads that prepare pages; on a machine of a hundred cores more would mostly hold memory


class CheckpointEmbedder(AsyncEmbedder):
    """Finds the checkpoint, prepares pages in threads, computes through a runner, and frees all of it.

    Thread-safe: pages are prepared in worker threads, one batch at a time is on the device.
    """

    name: str
    reads: Literal["text", "pixels"] = "pixels"
    architectures: ClassVar[frozenset[str]]

    def _find(self, model_name_or_path: str | Path, revision: str | None) -> None:
        """The checkpoint's folder and name."""
        self._folder = resolve_checkpoint(model_name_or_path, revision=revision)
        self.name = checkpoint_name(model_name_or_path, self._folder)

    def _start(self, runner: DeviceRunner[Any, Any], workers: int | None) -> None:
        self._runner = runner
        self._workers = workers or min(MAX_WORKERS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="pages")
        AsyncEmbedder.__init__(self)

    @property
    def folder(self) -> Path:
        """Where the checkpoint lies."""
        return self._folder

    @property
    def module(self) -> nn.Module:
        """The network itself; to train it, say `module.requires_grad_(True)` first."""
        module: nn.Module = self._runner.open_model()
        return module

    @property
    def workers(self) -> int:
        """Threads that prepare pages."""
        return self._workers

    def launch(self, items: list[Any]) -> list[Tensor]:
        """One unit vector, or one matrix of them, an item, on the device, with gradients where weights ask for them.

        Items are what `page_item`, `query_item` and `text_item` make. Unlike `embed_pages` it takes all of them at
        once, whatever the memory.
        """
        return self._runner.launch(items)

    @cached_property
    def fingerprint(self) -> str:
        """Tells checkpoints apart, wherever they lie; see `fingerprint_of`."""
        return fingerprint_of(self._folder, find_weight_files(self._folder))

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises EmbedderError."""
        self._runner.check_open()

    def to(self, device: str | torch.device) -> Self:
        """The same embedder, computing on another device from now on."""
        self._runner.move(choose_device(device))
        return self

    def close(self) -> None:
        """Free the network's memory and end the threads; the embedder cannot be used after."""
        self._runner.close()
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def _ahead(self, things: Iterable[In], prepare: Callable[[In], Out]) -> Generator[Out, None, None]:
        """Things, prepared so far ahead that one slow page does not stop the device, and no whole book is in memory."""
        return prefetch(things, prepare, self._pool, ahead=4 * self._workers)
