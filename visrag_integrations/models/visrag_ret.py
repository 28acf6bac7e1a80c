"""VisRAG-Ret (MiniCPM-V 2.0 read as an embedder): vision tower -> resampler -> decoder -> weighted mean.

Reference: https://github.com/OpenBMB/VisRAG. Also the network of MiniCPM-Visual-Embedding. Three networks, a file each:
`siglip.py`, `resampler.py`, `minicpm.py`; this file puts them together. No language-model head is in memory.

Nothing here waits for the device: every index comes from the caller, and no result is looked at. Gradients flow from
the embeddings to every weight, once these ask for them: `network.requires_grad_(True)`.

Letters: S slices, Q vectors a slice, B sequences, L tokens, D the decoder's width, P numbers of one patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from visrag_integrations.models.config import VisRAGRetConfig
from visrag_integrations.models.minicpm import MiniCPMDecoder
from visrag_integrations.models.resampler import Resampler
from visrag_integrations.models.siglip import SiglipTower
from visrag_integrations.models.tables import Grid
from visrag_integrations.models.weights import load_weights

PREFIXES = {"llm.model.": "llm."}  # published prefix -> ours
UNUSED = ("llm.lm_head.",)  # writes text, which an embedder never does


class PictureGroup(NamedTuple):
    """Pictures of one shape, each of which is cut into the same grid of slices.

    Attributes:
        pixels: uint8 (pictures, height, width, 3).
        columns: Slices side by side.
        rows: Slices above each other.
    """

    pixels: Tensor
    columns: int = 1
    rows: int = 1


class Patches(NamedTuple):
    """The slices of some pictures of one shape, cut into patches.

    Attributes:
        pixels: uint8 (S, patches, P), each patch as channel, row, column.
        grid: Rows and columns of patches in a slice.
        inside: Where there are real pixels, (patches, P); None when all are.
    """

    pixels: Tensor
    grid: tuple[int, int]
    inside: Tensor | None = None


def cut_patches(pictures: PictureGroup, patch: int) -> Patches:
    """The patches of every slice, picture by picture, slices row by row; a slice is filled up to whole patches."""
    height, width = pictures.pixels.shape[1:3]
    high, wide = height // pictures.rows, width // pictures.columns
    rows, columns = -(-high // patch), -(-wide // patch)  # rounded up

    def cut(pixels: Tensor) -> Tensor:
        # A page of 2 x 2 slices a b / c d becomes a, b, c, d; each slice becomes its patches, row by row.
        slices = pixels.view(-1, pictures.rows, high, pictures.columns, wide, 3)
        slices = slices.permute(0, 1, 3, 5, 2, 4)  # (pictures, rows, columns, 3, high, wide)
        padded = F.pad(slices, (0, columns * patch - wide, 0, rows * patch - high))
        parts = padded.reshape(-1, 3, rows, patch, columns, patch)
        parts = parts.permute(0, 2, 4, 1, 3, 5)  # (S, rows, columns, 3, patch, patch)
        return parts.reshape(parts.shape[0], rows * columns, -1)

    inside = None
    if (rows * patch, columns * patch) != (high, wide):
        inside = cut(torch.ones_like(pictures.pixels[:1]))[0].bool()
    return Patches(cut(pictures.pixels), (rows, columns), inside)


def normalise(patches: Patches, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Some slices as the network takes them, mean and deviation 0.5, zeros where a slice was filled up: (T, P)."""
    pixels = patches.pixels[start:stop].to(torch.float32).div_(255).sub_(0.5).div_(0.5)
    if patches.inside is not None:
        pixels *= patches.inside
    return pixels.to(dtype).flatten(0, 1)


def plan_passes(groups: Sequence[Patches], limit: int) -> list[list[tuple[int, int, int]]]:
    """Passes of at most `limit` patches (or one slice), in order, each as (group, first slice, end)."""
    passes: list[list[tuple[int, int, int]]] = []
    room = 0  # patches that still fit into the last pass
    for number, group in enumerate(groups):
        slices, length = group.pixels.shape[:2]
        start = 0
        while start < slices:
            if room < length:
                passes.append([])
                room = max(limit, length)
            stop = min(slices, start + room // length)
            passes[-1].append((number, start, stop))
            room -= (stop - start) * length
            start = stop
    return passes


class VisRAGRetModel(nn.Module):
    """Pictures and token ids in, embeddings out."""

    def __init__(self, config: VisRAGRetConfig, attn_implementation: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        width = config.decoder.hidden_size
        self.vpm = SiglipTower(config.tower, attn_implementation)
        self.resampler = Resampler(config.query_num, width, config.tower.embed_dim, attn_implementation)
        self.llm = MiniCPMDecoder(config.decoder, attn_implementation)

    @property
    def device(self) -> torch.device:
        return self.vpm.pos_embed.device

    @property
    def dtype(self) -> torch.dtype:
        return self.vpm.pos_embed.dtype

    def look(self, groups: Sequence[PictureGroup], limit: int = 1 << 16) -> Tensor:
        """Every slice through tower and resampler: (S, Q, D), group by group in the order given.

        Args:
            groups: Those whose slices have equally many patches should be neighbours: they share a kernel's run then.
            limit: So many patches at most go through together, unless one slice has more.
        """
        cut = [cut_patches(group, self.config.tower.patch_size) for group in groups]
        # Tables made from weights live as long as this call: all its passes see the same weights.
        positions: list[dict[Grid, Tensor]] = [{}, {}]  # of the tower and of the resampler
        return torch.cat([self._look_once(cut, parts, *positions) for parts in plan_passes(cut, limit)])

    def _look_once(
        self,
        cut: Sequence[Patches],
        parts: Sequence[tuple[int, int, int]],
        tower_positions: dict[Grid, Tensor],
        key_positions: dict[Grid, Tensor],
    ) -> Tensor:
        patches: list[Tensor] = []
        grids: list[Grid] = []  # one a slice
        runs: list[tuple[int, int]] = []
        for group, start, stop in parts:
            patches.append(normalise(cut[group], start, stop, self.dtype))
            rows, columns = cut[group].grid
            grids += [(rows, columns)] * (stop - start)
            count, length = stop - start, rows * columns
            if runs and runs[-1][1] == length:  # equally long neighbours share a run, and so a kernel
                count += runs.pop()[0]
            runs.append((count, length))
        seen = self.vpm(torch.cat(patches), grids, runs, tower_positions)  # (T, V)
        vectors: Tensor = self.resampler(seen, grids, runs, key_positions)
        return vectors

    def embed_tokens(
        self, ids: Tensor, vectors: Tensor | None = None, places: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Token vectors with the pictures' vectors put in: (B, L) -> (B, L, D).

        Args:
            ids: Token ids, padded on the right with anything.
            vectors: What `look` gave.
            places: Which rows of `vectors`, read as (S * Q, D), go to which rows of the result, read as (B * L, D).
        """
        embedded = self.llm.embed(ids)
        if vectors is not None and places is not None:
            rows, targets = places
            shown = vectors.flatten(0, 1)[rows].to(embedded.dtype)  # under autocast they come in half precision
            embedded.view(-1, embedded.shape[-1]).index_copy_(0, targets, shown)
        return embedded

    def pool(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """The mean of the real tokens, the n-th one counting n times, float32: (B, L, D), (B,) -> (B, D)."""
        steps = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
        weights = (steps * (steps <= lengths[:, None])).float()  # (B, L)
        with torch.autocast(hidden.device.type, enabled=False):  # it would turn the product into half precision
            total = (weights[:, None] @ hidden.float())[:, 0]  # (B, D)
        return total / weights.sum(dim=1, keepdim=True)

    def forward(
        self, ids: Tensor, lengths: Tensor, vectors: Tensor | None = None, places: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Unit vectors, float32: (B, L) token ids of which the first (B,) are real -> (B, D)."""
        hidden = self.llm(self.embed_tokens(ids, vectors, places))
        return F.normalize(self.pool(hidden, lengths), dim=-1)

    def checkpoint_activations(self, on: bool = True) -> None:
        """Whether training recomputes the layers of tower and decoder in the backward pass: a third of the speed for
        most of the memory.
        """
        self.vpm.checkpoint_activations(on)
        self.llm.checkpoint_activations(on)

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compile what lies between the attention kernels, for any number of tokens."""
        for block in [*self.vpm.blocks, *self.llm.layers]:
            block.project = torch.compile(block.project, dynamic=True, backend=backend)
            block.finish = torch.compile(block.finish, dynamic=True, backend=backend)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        config: VisRAGRetConfig,
        *,
        device: torch.device,
        dtype: torch.dtype,
        attn_implementation: str = "sdpa",
    ) -> VisRAGRetModel:
        """The network with a checkpoint's weights, read strictly; see `load_weights`."""
        with torch.device("meta"):
            network = cls(config, attn_implementation)
        load_weights(network, folder, prefixes=PREFIXES, unused=UNUSED, device=device, dtype=dtype)
        return network

    @classmethod
    def random(
        cls, config: VisRAGRetConfig, *, device: torch.device, dtype: torch.dtype, attn_implementation: str = "sdpa"
    ) -> VisRAGRetModel:
        """The network with random weights, made where they are needed: to measure, not to search."""
        with torch.device("meta"):
            network = cls(config, attn_implementation)
        network.to(dtype).to_empty(device=device)
        for name, weight in network.named_parameters():
            if "norm" in name and name.endswith("weight"):
                nn.init.ones_(weight)
            else:
                nn.init.normal_(weight, std=0.02)  # what most checkpoints call initializer_range
        return network.requires_grad_(False).eval()
