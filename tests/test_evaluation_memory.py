"""The pages of a set are never all open: what is in memory while they are indexed does not grow with their pictures."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn_sets import RedEmbedder
from PIL import Image

from visrag_integrations.evaluation import index_pages, load_evaluation_set
from visrag_integrations.store import QdrantPageStore


def write_set(folder: Path, count: int) -> int:
    """Pages of noise, which JPEG cannot make small, in row groups of ten; says how many bytes the pictures have."""
    noise = np.random.default_rng(0).integers(0, 255, (400, 300, 3), dtype=np.uint8)
    rows, total = [], 0
    for number in range(count):
        noise[0, :, 0] = number % 200  # no two pictures are the same
        noise[1, :, 0] = number // 200
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "JPEG", quality=90)
        total += len(file.getvalue())
        rows.append({"corpus-id": number, "image": {"bytes": file.getvalue(), "path": None}})
    for table, values in (
        ("corpus", rows),
        ("queries", [{"query-id": 0, "query": "near 1"}]),
        ("qrels", [{"query-id": 0, "corpus-id": 1, "score": 1}]),
    ):
        (folder / table).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(values), folder / table / "test-0.parquet", row_group_size=10)
    return total


def peak(folder: Path) -> int:
    """The most bytes that Python held while the pages were loaded and indexed."""
    store = QdrantPageStore(folder / "index")
    tracemalloc.start()
    try:
        report = index_pages(load_evaluation_set(folder).pages, RedEmbedder(), store, progress=False)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        store.close()
        assert not report.failed


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    write_set(tmp_path / "warm", 10)
    peak(tmp_path / "warm")  # what is imported and set up on the way counts for neither
    few, many = write_set(tmp_path / "few", 60), write_set(tmp_path / "many", 300)
    assert many - few > 12_000_000
    # Of the pictures that are more, not a tenth is in memory; the pages themselves are some kilobytes each.
    assert peak(tmp_path / "many") - peak(tmp_path / "few") < (many - few) / 10
