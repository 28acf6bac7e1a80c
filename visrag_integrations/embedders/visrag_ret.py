"""VisRAG-Ret: pages and queries to one vector each, natively. See https://huggingface.co/openbmb/VisRAG-Ret."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from visrag_integrations import images
from visrag_integrations.embedders.async_embedder import AsyncEmbedder
from visrag_integrations.embedders.checkpoints import checkpoint_name, fingerprint_of, resolve_checkpoint
from visrag_integrations.embedders.devices import at_least_one, choose_device, choose_dtype, lookup
from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer
from visrag_integrations.embedders.minicpm_inputs import RESIZERS, Item, Preparer
from visrag_integrations.embedders.minicpm_runner import Runner
from visrag_integrations.embedders.prefetch import prefetch
from visrag_integrations.embedders.query_parts import split_query
from visrag_integrations.embedders.slicing import Slicing
from visrag_integrations.errors import CheckpointError
from visrag_integrations.models.config import VisRAGRetConfig, parse_config
from visrag_integrations.models.visrag_ret import VisRAGRetModel
from visrag_integrations.models.weights import find_weight_files, read_json
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    import torch

    from visrag_integrations.images import PictureSource
    from visrag_integrations.interfaces import Embedding

Made = TypeVar("Made")

MAX_WORKERS = 16  # threads that cut pages; on a machine of a hundred cores more would mostly hold memory
INSTRUCTION = "Represent this query for retrieving relevant documents: "


class VisRAGRetEmbedder(AsyncEmbedder):
    """One unit vector a page or query; the numbers of the published model, without its code.

    Thread-safe: pages are cut in worker threads, one batch at a time is on the device.

    Attributes:
        name: The checkpoint, as `load_embedder` takes it.
        kind: "single".
        dimension: Numbers of a vector.
        instruction: Put before the text of a query that has no picture.
    """

    kind: Literal["single"] = "single"
    default_instruction: ClassVar[str] = INSTRUCTION
    architectures: ClassVar[frozenset[str]] = frozenset({"VisRAG_Ret"})

    def __init__(
        self,
        model_name_or_path: str | Path = "openbmb/VisRAG-Ret",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int | None = None,
        token_budget: int | None = None,
        max_tokens: int = 2048,
        instruction: str | None = None,
        attn_implementation: str = "sdpa",
        compile: bool = False,
        resize: Literal["exact", "fast"] = "exact",
        workers: int | None = None,
        revision: str | None = None,
    ) -> None:
        """Load a checkpoint.

        Args:
            model_name_or_path: A folder, or a name on the hub.
            device: Where to compute; the first GPU when there is one.
            dtype: "float32", "bfloat16", "float16" or torch's own; bfloat16 on a GPU, float32 elsewhere by default.
            batch_size: At most so many pages or queries at once; None: only `token_budget` counts.
            token_budget: At most so many patches and tokens at once, unless one page alone has more.
            max_tokens: Longer sequences are cut off there.
            instruction: Instead of the model's own.
            attn_implementation: "sdpa", or "eager" to compare with.
            compile: Let torch compile the network; slow to start, faster after.
            resize: "exact" gives the pixels of the published model; "fast" is several times faster, and most pixels,
                not all, are equal.
            workers: Threads that cut pages; as many as there are processors, at most 16, by default.
            revision: Of a name on the hub.

        Raises:
            CheckpointError: The checkpoint is not there, not whole, or not of this architecture.
            SettingError: A setting is not allowed.
        """
        at_least_one(batch_size=batch_size, token_budget=token_budget, workers=workers, max_tokens=max_tokens)
        resizer = lookup("resize", resize, RESIZERS)
        target = choose_device(device)
        weight_type = choose_dtype(dtype, target)
        self._folder = resolve_checkpoint(model_name_or_path, revision=revision)
        self.name = checkpoint_name(model_name_or_path, self._folder)
        self.instruction = self.default_instruction if instruction is None else instruction
        config = self._read_config()
        self.dimension = config.decoder.hidden_size
        slicing = Slicing(config.max_slice_nums, config.scale_resolution, config.tower.patch_size, config.slice_mode)
        self._preparer = Preparer(self._read_tokenizer(config), slicing, config.query_num, max_tokens, resizer)
        model = VisRAGRetModel.from_folder(
            self._folder, config, device=target, dtype=weight_type, attn_implementation=attn_implementation
        )
        if compile:
            model.compile_parts()
        self._runner = Runner(model, batch_size, token_budget)
        self._workers = workers or min(MAX_WORKERS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="visrag-prepare")
        self._queue = ThreadPoolExecutor(1, thread_name_prefix="visrag-embed")

    def _read_config(self) -> VisRAGRetConfig:
        content = read_json(self._folder / "config.json")
        names = content.get("architectures")
        if not isinstance(names, list):
            names = []
        if self.architectures and not self.architectures.intersection(map(str, names)):
            raise CheckpointError(
                f"config.json in {self._folder} says architectures={names!r}; "
                f"this embedder reads {', '.join(sorted(self.architectures))}."
            )
        return parse_config(content)

    def _read_tokenizer(self, config: VisRAGRetConfig) -> LlamaTokenizer:
        tokenizer = LlamaTokenizer(self._folder)
        if tokenizer.size > config.decoder.vocab_size:
            raise CheckpointError(
                f"The tokenizer in {self._folder} gives ids up to {tokenizer.size - 1}, "
                f"but the network knows {config.decoder.vocab_size} only. They belong to different checkpoints."
            )
        return tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Tells checkpoints apart, wherever they lie; see `fingerprint_of`."""
        return fingerprint_of(self._folder, find_weight_files(self._folder))

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises EmbedderError."""
        self._runner.check_open()

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """One float32 unit vector a page, in order; the pages are read once, a batch ahead of the device.

        Raises:
            PictureError: A page has no picture, or one that cannot be opened.
        """
        self._runner.check_open()
        return self._runner.embed(self._prepare(pages, lambda page: self._preparer.picture_item(page.open_image())))

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """One float32 unit vector a query, in order.

        A text gets the instruction before it; a picture, or a picture with a text, is embedded as it is, like a page.
        """
        self._runner.check_open()
        asked = list(map(split_query, queries))
        pictures = [picture for _, picture in asked if picture is not None]
        if pictures:  # cut in the worker threads, and not held all at once, as sorting them would
            return self._runner.embed(self._prepare(asked, self._query_item))
        return self._runner.embed_sorted(list(map(self._query_item, asked)))

    def embed_texts(self, texts: Iterable[str]) -> list[Embedding]:
        """One float32 unit vector a text that is itself a document, in order: no instruction comes before it."""
        self._runner.check_open()
        return self._runner.embed_sorted(list(map(self._preparer.text_item, texts)))

    def to(self, device: str | torch.device) -> VisRAGRetEmbedder:
        """The same embedder, computing on another device from now on."""
        self._runner.move(choose_device(device))
        return self

    def close(self) -> None:
        """Free the network's memory and end the threads; the embedder cannot be used after."""
        self._runner.close()
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def _query_item(self, query: tuple[str, PictureSource | None]) -> Item:
        text, picture = query
        if picture is None:
            return self._preparer.text_item(self.instruction + text)
        return self._preparer.picture_item(images.open_picture(picture), text)

    def _prepare(self, things: Iterable[Made], prepare: Callable[[Made], Item]) -> Iterator[Item]:
        # So far ahead that the device never waits for one large page, and no whole book lies in memory.
        return prefetch(things, prepare, self._pool, ahead=4 * self._workers)
