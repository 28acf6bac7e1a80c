"""VisRAG-Ret: pages and queries to one vector each, natively. See https://huggingface.co/openbmb/VisRAG-Ret."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from visrag_integrations import images
from visrag_integrations.embedders.checkpoint_embedder import CheckpointEmbedder
from visrag_integrations.embedders.devices import at_least_one, choose_device, choose_dtype, lookup
from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer
from visrag_integrations.embedders.minicpm_inputs import RESIZERS, Item, Preparer
from visrag_integrations.embedders.minicpm_runner import Runner
from visrag_integrations.embedders.pretrained import check_architecture
from visrag_integrations.embedders.query_parts import split_query
from visrag_integrations.embedders.slicing import Slicing
from visrag_integrations.errors import CheckpointError
from visrag_integrations.models.config import VisRAGRetConfig, parse_config
from visrag_integrations.models.visrag_ret import VisRAGRetModel
from visrag_integrations.models.weights import read_json
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from visrag_integrations.images import PictureSource
    from visrag_integrations.interfaces import Embedding


INSTRUCTION = "Represent this query for retrieving relevant documents: "


class VisRAGRetEmbedder(CheckpointEmbedder):
    """One unit vector a page or query; the numbers of the published model, without its code.

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
        self._find(model_name_or_path, revision)
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
        self._start(Runner(model, batch_size, token_budget), workers)

    def _read_config(self) -> VisRAGRetConfig:
        if self.architectures:
            check_architecture(self._folder, self.architectures)
        return parse_config(read_json(self._folder / "config.json"))

    def _read_tokenizer(self, config: VisRAGRetConfig) -> LlamaTokenizer:
        tokenizer = LlamaTokenizer(self._folder)
        if tokenizer.size > config.decoder.vocab_size:
            raise CheckpointError(
                f"The tokenizer in {self._folder} gives ids up to {tokenizer.size - 1}, "
                f"but the network knows {config.decoder.vocab_size} only. They belong to different checkpoints."
            )
        return tokenizer

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """One float32 unit vector a page, in order; the pages are read once, a batch ahead of the device.

        Raises:
            PictureError: A page has no picture, or one that cannot be opened.
        """
        self._runner.check_open()
        # Closed also where the network fails: its error would keep the pages that are waiting, and their threads busy.
        with closing(self._ahead(pages, lambda page: self._preparer.picture_item(page.open_image()))) as ahead:
            return self._runner.embed(ahead)

    def page_item(self, image: Image) -> Item:
        """A page's picture as the network takes it, for `launch`."""
        return self._preparer.picture_item(image)

    def query_item(self, text: str) -> Item:
        """A query's text, after the instruction, for `launch`."""
        return self._preparer.text_item(self.instruction + text)

    def text_item(self, text: str) -> Item:
        """A text that stands for a page, for `launch`."""
        return self._preparer.text_item(text)

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """One float32 unit vector a query, in order.

        A text gets the instruction before it; a picture, or a picture with a text, is embedded as it is, like a page.
        """
        self._runner.check_open()
        asked = list(map(split_query, queries))
        pictures = [picture for _, picture in asked if picture is not None]
        if pictures:  # cut in the worker threads, and not held all at once, as sorting them would
            with closing(self._ahead(asked, self._query_item)) as ahead:
                return self._runner.embed(ahead)
        return self._runner.embed_sorted(list(map(self._query_item, asked)))

    def embed_texts(self, texts: Iterable[str]) -> list[Embedding]:
        """One float32 unit vector a text that is itself a document, in order: no instruction comes before it."""
        self._runner.check_open()
        return self._runner.embed_sorted(list(map(self._preparer.text_item, texts)))

    def _query_item(self, query: tuple[str, PictureSource | None]) -> Item:
        text, picture = query
        if picture is None:
            return self.query_item(text)
        return self._preparer.picture_item(images.open_picture(picture), text)
