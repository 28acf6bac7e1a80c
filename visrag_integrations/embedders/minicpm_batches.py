"""Batches of pages and texts as tensors, for the network in `models.visrag_ret`; to embed, and to train.

batch = make_batch(items, queries=network.config.query_num, device=network.device)
vectors = embed_batch(network, batch)  # (B, D), with gradients where the weights ask for them
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visrag_integrations.embedders.device_runner import send
from visrag_integrations.embedders.minicpm_inputs import Item, PixelArray
from visrag_integrations.models.visrag_ret import PictureGroup, VisRAGRetModel


class Sequences(NamedTuple):
    """Token ids and what stands in for the pictures among them; B sequences, L tokens of the longest.

    Attributes:
        ids: (B, L), filled up with zeros on the right.
        lengths: (B,), how many ids of each sequence are real.
        places: Which rows of the pictures' vectors go to which of the B * L places; None without pictures.
    """

    ids: Tensor
    lengths: Tensor
    places: tuple[Tensor, Tensor] | None


class MiniCPMBatch(NamedTuple):
    """Everything the network needs for some items, on its device."""

    pictures: list[PictureGroup]
    sequences: Sequences


def make_batch(items: Sequence[Item], queries: int, device: torch.device) -> MiniCPMBatch:
    """The items as one padded batch.

    Args:
        items: What `minicpm_inputs.Preparer` makes of pages and texts.
        queries: Vectors a picture becomes, `network.config.query_num`.
        device: Where the network is.
    """
    pictures, slices = stack_pictures(items, device)
    return MiniCPMBatch(pictures, make_sequences(items, slices, queries, device))


def embed_batch(network: VisRAGRetModel, batch: MiniCPMBatch, patches_at_once: int = 1 << 16) -> Tensor:
    """One unit vector an item, in order, float32: (B, D)."""
    ids, lengths, places = batch.sequences
    vectors = None
    if batch.pictures:
        vectors = network.look(batch.pictures, patches_at_once)
    embedded: Tensor = network(ids, lengths, vectors, places)
    return embedded


def stack_pictures(items: Sequence[Item], device: torch.device) -> tuple[list[PictureGroup], list[list[int]]]:
    """Pictures of one shape together, and, for every item, the numbers of the slices that its spans show.

    A page is an overview and a grid of slices. Say one page has the overview o and the slices a, b, and a small page
    the overview p, and o and p have the same shape. Then the groups are (o, p) and (a b), the slices are numbered
    o = 0, p = 1, a = 2, b = 3, and the items show [0, 2, 3] and [1].
    """
    members: dict[tuple[int, int, int, int], list[tuple[int, int, PixelArray]]] = defaultdict(list)
    for index, item in enumerate(items):
        for part, pixels in enumerate(item.pixels):
            columns, rows = item.grid if part else (1, 1)
            height, width = pixels.shape[:2]
            members[height, width, columns, rows].append((index, part, pixels))

    groups: list[PictureGroup] = []
    first: list[list[int]] = [
        [0] * len(item.pixels) for item in items
    ]  # of each picture, the number of its first slice
    number = 0
    for shape in sorted(members, key=_slice_area):
        _, _, columns, rows = shape
        stacked = np.stack([pixels for _, _, pixels in members[shape]])
        groups.append(PictureGroup(_to(stacked, device), columns, rows))
        for index, part, _ in members[shape]:
            first[index][part] = number
            number += columns * rows
    return groups, list(map(_slice_numbers, items, first))


def make_sequences(
    items: Sequence[Item], slices: Sequence[Sequence[int]], queries: int, device: torch.device
) -> Sequences:
    """Some items' ids, padded, and the places of their pictures' vectors; `slices` as `stack_pictures` gives them.

    A picture's vectors are rows `number * queries` and following; item 1's span (3, 5), padded to 10 ids, goes to
    places 13 and 14.
    """
    lengths = np.array([len(item.ids) for item in items])
    padded = int(lengths.max())
    ids = np.zeros((len(items), padded), dtype=np.int64)
    sources: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    for row, item in enumerate(items):
        ids[row, : len(item.ids)] = item.ids
        # There are fewer spans than slices where the ids were cut off.
        for (start, end), number in zip(item.spans, slices[row], strict=False):
            sources.append(np.arange(number * queries, number * queries + end - start))
            targets.append(np.arange(start, end) + row * padded)
    places = None
    if sources:
        places = (_to(np.concatenate(sources), device), _to(np.concatenate(targets), device))
    return Sequences(_to(ids, device), _to(lengths, device), places)


def _slice_area(shape: tuple[int, int, int, int]) -> int:
    """Pixels of a slice: groups whose slices have equally many patches become neighbours, and share a kernel's run."""
    height, width, columns, rows = shape
    return height * width // (columns * rows)


def _slice_numbers(item: Item, first: Sequence[int]) -> list[int]:
    """The slices in the order of the item's spans: the overview, then the refined page's, row by row."""
    numbers = list(first[:1])
    if len(first) > 1:
        columns, rows = item.grid
        numbers += range(first[1], first[1] + columns * rows)
    return numbers


def _to(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return send(torch.from_numpy(array), device)
