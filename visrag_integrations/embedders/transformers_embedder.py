"""What all embedders on transformers' networks share: loading, threads, batches, and the plug's members."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from visrag_integrations import images
from visrag_integrations.embedders.checkpoint_embedder import CheckpointEmbedder
from visrag_integrations.embedders.device_batches import group_by_length
from visrag_integrations.embedders.device_runner import DeviceRunner, send
from visrag_integrations.embedders.devices import at_least_one, choose_device, choose_dtype
from visrag_integrations.embedders.minicpm_inputs import to_rgb
from visrag_integrations.embedders.pretrained import check_architecture, load_network, load_processor
from visrag_integrations.embedders.query_parts import join_parts, plain_text, special_tokens_of, split_query
from visrag_integrations.errors import PictureError
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import Embedding

# Tokens and patches at once. More would fill the memory, fewer would leave the device waiting between batches.
GPU_BUDGET, CPU_BUDGET = 1 << 16, 1 << 12
# Tokens under which a run costs about the same however few they are.
GPU_FLOOR, CPU_FLOOR = 2048, 64
PATCH_NUMBERS = 3 * 14 * 14  # of a patch in most towers: only for a picture's cost, which need not be exact


@dataclass(frozen=True)
class Inputs:
    """One sequence as a network takes it, without padding.

    Attributes:
        ids: Token ids; empty for a picture that goes into a network without a text.
        tensors: Pictures and what describes them, as the processor made them, without a batch axis.
        cost: Tokens and patches.
    """

    ids: list[int]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    cost: int = 1

    @property
    def length(self) -> int:
        return len(self.ids)


class TransformersRunner(DeviceRunner[Any, Inputs]):
    """Sorts a batch into groups that one call of the network takes: pictures or none, and of about equal length."""

    def __init__(
        self,
        model: Any,
        forward: Callable[[Any, list[Inputs]], list[Tensor]],
        *,
        batch_size: int | None,
        token_budget: int | None,
    ) -> None:
        super().__init__(model, batch_size, token_budget)
        self._forward = forward

    def _usual_budget(self, device: torch.device) -> int:
        return CPU_BUDGET if device.type == "cpu" else GPU_BUDGET

    def _cost(self, item: Inputs) -> int:
        return item.cost

    def _length(self, item: Inputs) -> int:
        return item.length

    def launch(self, batch: list[Inputs]) -> list[Tensor]:
        model = self.open_model()
        floor = CPU_FLOOR if model.device.type == "cpu" else GPU_FLOOR
        same_tensors: dict[frozenset[str], list[int]] = defaultdict(list)  # names of tensors -> places in the batch
        for index, item in enumerate(batch):
            same_tensors[frozenset(item.tensors)].append(index)
        rows: dict[int, Tensor] = {}
        for members in same_tensors.values():
            for group in group_by_length([batch[index].length for index in members], self.token_budget, floor):
                chosen = [members[place] for place in group]  # places among the members -> places in the batch
                vectors = self._forward(model, [batch[index] for index in chosen])
                rows.update(zip(chosen, vectors, strict=True))
        return [rows[index] for index in range(len(batch))]


class TransformersEmbedder(CheckpointEmbedder):
    """An embedder on a network of transformers; a system says how pages and queries become inputs and vectors.

    Attributes:
        name: The checkpoint, as `load_embedder` takes it.
        kind: "single" or "multi".
        dimension: Numbers of a vector.
    """

    kind: Literal["single", "multi"]
    dimension: int
    network: ClassVar[str]
    processor_class: ClassVar[str]

    def __init__(
        self,
        model_name_or_path: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int | None = None,
        token_budget: int | None = None,
        max_tokens: int = 2048,
        attn_implementation: str = "sdpa",
        workers: int | None = None,
        revision: str | None = None,
    ) -> None:
        """Load a checkpoint.

        Args:
            model_name_or_path: A folder, or a name on the hub.
            device: Where to compute; the first GPU when there is one.
            dtype: "float32", "bfloat16", "float16" or torch's own; bfloat16 on a GPU, float32 elsewhere by default.
            batch_size: At most so many pages or queries at once; None: only `token_budget` counts.
            token_budget: At most so many tokens and patches at once, unless one page alone has more.
            max_tokens: Texts are cut off so that a sequence has at most so many tokens.
            attn_implementation: "sdpa", "eager", or another that transformers has here.
            workers: Threads that prepare pages; as many as there are processors, at most 16, by default.
            revision: Of a name on the hub.

        Raises:
            CheckpointError: The checkpoint is not there, not whole, or not of this architecture.
            SettingError: A setting is not allowed.
        """
        at_least_one(batch_size=batch_size, token_budget=token_budget, workers=workers, max_tokens=max_tokens)
        target = choose_device(device)
        weight_type = choose_dtype(dtype, target)
        self._find(model_name_or_path, revision)
        self.max_tokens = max_tokens
        check_architecture(self._folder, self.architectures)
        self._processor = load_processor(self.processor_class, self._folder)
        model = load_network(
            self.network, self._folder, device=target, dtype=weight_type, attn_implementation=attn_implementation
        )
        runner = TransformersRunner(
            self._set_up(model), self._forward, batch_size=batch_size, token_budget=token_budget
        )
        self._start(runner, workers)

    def _set_up(self, model: Any) -> Any:
        """Read what a system needs to know from the network (its dimension, at least); gives the part that is run."""
        raise NotImplementedError

    def _prepare_page(self, image: Image) -> Inputs:
        """A page's picture, in RGB, as the network takes it."""
        raise NotImplementedError

    def _prepare_query(self, text: str, image: Image | None) -> list[Inputs]:
        """A query as the network takes it; several sequences' vectors are put one after the other."""
        raise NotImplementedError

    def _forward(self, model: Any, batch: list[Inputs]) -> list[Tensor]:
        """One tensor an input, on the device; all inputs have the same kinds of tensors."""
        raise NotImplementedError

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """Float32 unit vectors of each page, in order; the pages are read once, a batch ahead of the device.

        Raises:
            PictureError: A page has no picture, or one that cannot be opened or embedded.
        """
        self._runner.check_open()
        # Closed also where the network fails: its error would keep the pages that are waiting, and their threads busy.
        with closing(self._ahead(pages, lambda page: self._picture(page.open_image()))) as ahead:
            return self._runner.embed(ahead)

    def page_item(self, image: Image) -> Inputs:
        """A page's picture as the network takes it, for `launch`.

        Raises:
            PictureError: It cannot be embedded.
        """
        return self._picture(image)

    def query_item(self, text: str) -> Inputs:
        """A query's text as the network takes it, for `launch`."""
        return self._query_parts(text)[0]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """Float32 unit vectors of each query, in order: of a text, a picture, or a picture with a text."""
        self._runner.check_open()
        parts: list[Inputs] = []
        counts: list[int] = []
        for of_query in self._ahead(queries, self._query_parts):
            parts += of_query
            counts.append(len(of_query))
        return join_parts(self._runner.embed_sorted(parts), counts)

    def _picture(self, image: Image) -> Inputs:
        image = to_rgb(image)
        try:
            return self._prepare_page(image)
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as err:
            size = f"{image.width} x {image.height}"
            raise PictureError(f"A picture of {size} pixels cannot be embedded by {self.name}: {err}") from err

    def _query_parts(self, query: str | Query) -> list[Inputs]:
        text, picture = split_query(query)
        image = None if picture is None else to_rgb(images.open_picture(picture))
        return self._prepare_query(self._plain(text), image)

    def _plain(self, text: str) -> str:
        return plain_text(text, self._special_tokens)

    @cached_property
    def _special_tokens(self) -> list[str]:
        return special_tokens_of(self._processor.tokenizer)


def pad(sequences: list[list[int]], filler: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids, filled up on the right, and the mask of what is real: both (batch, longest)."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), filler)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=ids.dtype)
        mask[row, : len(sequence)] = 1
    return send(ids, device), send(mask, device)
