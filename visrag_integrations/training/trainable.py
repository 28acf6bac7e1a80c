"""A retriever as a module that a trainer can wrap: pairs in, their vectors and the loss out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visrag_integrations.embedders.checkpoint_embedder import CheckpointEmbedder
from visrag_integrations.errors import SettingError
from visrag_integrations.models.visrag_ret import VisRAGRetModel
from visrag_integrations.training.gradcache import Vectors
from visrag_integrations.training.late_interaction import contrastive_late, join_padded, pad_rows
from visrag_integrations.training.losses import PageIds, contrastive
from visrag_integrations.training.recipe import LoraRecipe
from visrag_integrations.training.stream import MicroBatch, PairPreparer


class TrainableRetriever(nn.Module):
    """An embedder's network, to be trained.

    Attributes:
        network: The network; the same object that the embedder computes with, so that it can be evaluated as it is.
        embedder: What the network was loaded as.
        multi: Whether there are many vectors a page.
    """

    def __init__(self, embedder: CheckpointEmbedder) -> None:
        super().__init__()
        self.network = embedder.module
        self.embedder = embedder
        self.multi = getattr(embedder, "kind", "single") == "multi"

    def forward(self, part: MicroBatch) -> Vectors:
        """Queries and pages of some pairs: (b, D) and (b * n, D); of many vectors (b, Q, D) and (b * n, P, D), where
        rows of zeros are padding.
        """
        queries = part.queries
        vectors = self.embedder.launch([*queries, *part.pages])
        # One launch for both: queries are short, and share a kernel's run with each other, not with pages.
        split = len(queries)
        if self.multi:
            return pad_rows(vectors[:split]), pad_rows(vectors[split:])
        return torch.stack(vectors[:split]), torch.stack(vectors[split:])

    def loss(self, parts: Sequence[Vectors], temperature: float, page_ids: PageIds) -> Tensor:
        """The contrastive loss of a whole batch, over all devices, times their number."""
        queries = [part[0] for part in parts]
        pages = [part[1] for part in parts]
        if self.multi:
            return contrastive_late(join_padded(queries), join_padded(pages), temperature, page_ids)
        return contrastive(torch.cat(queries), torch.cat(pages), temperature, page_ids)

    def preparer(self) -> PairPreparer:
        """How pairs become what `forward` takes."""
        embedder: Any = self.embedder
        return PairPreparer(embedder.query_item, embedder.page_item, getattr(embedder, "text_item", None))

    def open_weights(self, lora: LoraRecipe | None) -> None:
        """Let the weights change: all that VisRAG trains, or, with LoRA, small matrices beside some of them."""
        if lora is not None:
            self._add_lora(lora)
            return
        self.network.requires_grad_(True)
        if isinstance(self.network, VisRAGRetModel):
            self.network.resampler.pos_embed.requires_grad_(False)  # sines, which the published trainer holds fixed too

    def recompute_activations(self) -> None:
        """Keep no inner values of layers for the backward pass; compute them again there."""
        network: Any = self.network
        if isinstance(network, VisRAGRetModel):
            network.checkpoint_activations()
            return
        enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    def _add_lora(self, lora: LoraRecipe) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        self.network.requires_grad_(False)
        targets = list(lora.target_modules)
        config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
        try:
            inject_adapter_in_model(config, self.network)
        except ValueError as err:
            raise SettingError(f"LoRA cannot be added to {targets}: {err}") from err
        for name, weight in self.network.named_parameters():
            weight.requires_grad_("lora_" in name)
