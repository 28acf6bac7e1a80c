"""`IngestionPipeline`, whose cache goes by text alone: pages must not be taken for each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import PixelEmbedder
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from PIL import Image

from visrag_integrations import QdrantPageStore
from visrag_integrations.llamaindex import (
    PageNodeParser,
    VisRAGEmbedding,
    VisRAGReader,
    VisRAGVectorStore,
    with_picture_hashes,
)
from visrag_integrations.llamaindex.convert import PICTURE_VECTOR_OF
from visrag_integrations.types import Page

SHADES = [(9 * n, 255 - 8 * n, 128) for n in range(30)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, shade in enumerate(SHADES):
        Image.new("RGB", (16, 16), shade).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def store() -> Iterator[QdrantPageStore]:
    with QdrantPageStore(":memory:") as opened:
        yield opened


@pytest.fixture
def embedder() -> PixelEmbedder:
    return PixelEmbedder()


def read(folder: Path) -> list[Any]:
    return VisRAGReader(image_dir=folder.parent / "pictures", ocr="never").load_data(folder)


def distinct(vectors: Any) -> int:
    return len(np.unique(np.round(np.asarray(list(vectors)), 6), axis=0))


def pipeline(embedder: PixelEmbedder, store: QdrantPageStore, **more: Any) -> IngestionPipeline:
    return IngestionPipeline(
        transformations=[VisRAGEmbedding(embedder=embedder)],
        vector_store=VisRAGVectorStore(store=store, embedder=embedder),
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        **more,
    )


def test_thirty_pages_without_text_get_thirty_vectors(folder: Path, embedder: PixelEmbedder) -> None:
    cache = IngestionCache()
    vectors = []
    for document in read(folder):  # one at a time, so that only the cache's key tells them apart
        run = IngestionPipeline(transformations=[VisRAGEmbedding(embedder=embedder)], cache=cache)
        vectors += [node.embedding for node in run.run(documents=[document])]
    assert distinct(vectors) == embedder.embedded == 30


def test_image_nodes_of_your_own_get_a_hash_first(folder: Path, embedder: PixelEmbedder) -> None:
    run = IngestionPipeline(transformations=[VisRAGEmbedding(embedder=embedder)])
    nodes: list[Any] = [ImageNode(image_path=str(path)) for path in sorted(folder.iterdir())]
    vectors = [run.run(nodes=[node])[0].embedding for node in with_picture_hashes(nodes)]
    assert distinct(vectors) == 30
    assert not nodes[0].metadata
    text = TextNode(text="a")
    assert with_picture_hashes([text]) == [text]


def test_the_second_run_embeds_nothing(folder: Path, embedder: PixelEmbedder, store: QdrantPageStore) -> None:
    run = pipeline(embedder, store)
    run.run(documents=read(folder))
    assert embedder.embedded == store.count() == 30
    stored = store.get_embeddings([page.id for page in store.scroll()])
    assert distinct(stored.values()) == 30
    assert not any(PICTURE_VECTOR_OF in page.metadata for page in store.scroll())
    run.run(documents=read(folder))
    assert embedder.embedded == store.count() == 30


def test_only_what_changed_is_embedded(folder: Path, embedder: PixelEmbedder, store: QdrantPageStore) -> None:
    run = pipeline(embedder, store)
    run.run(documents=read(folder))
    Image.new("RGB", (16, 16), "white").save(folder / "07.png")
    (folder / "11.png").unlink()
    run.run(documents=read(folder))
    assert embedder.embedded == 31
    assert store.count() == 29
    sources = {Path(page.source).name: page for page in store.scroll()}
    assert "11.png" not in sources
    changed = sources["07.png"]
    (expected,) = embedder.embed_pages([Page("x", 1, picture=changed.picture)])
    found = store.get_embeddings([changed.id])[changed.id]
    assert np.allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_cache_that_was_saved(folder: Path, embedder: PixelEmbedder, tmp_path: Path) -> None:
    transformations = [PageNodeParser(), VisRAGEmbedding(embedder=embedder)]
    first = IngestionPipeline(transformations=transformations)
    nodes = first.run(documents=read(folder))
    first.persist(str(tmp_path / "state"))
    second = IngestionPipeline(transformations=transformations)
    second.load(str(tmp_path / "state"))
    again = second.run(documents=read(folder))
    assert embedder.embedded == 30
    assert [node.embedding for node in again] == [node.embedding for node in nodes]
    assert [node.image_path for node in again] == [node.image_path for node in nodes]


def test_vectors_of_another_model_are_not_taken(folder: Path, embedder: PixelEmbedder, store: QdrantPageStore) -> None:
    class Other(PixelEmbedder):
        name = "other"

    nodes = VisRAGEmbedding(embedder=Other())(read(folder)[:2])
    VisRAGVectorStore(store=store, embedder=embedder).add(nodes)
    assert embedder.embedded == 2


async def test_async(folder: Path, embedder: PixelEmbedder, store: QdrantPageStore) -> None:
    run = pipeline(embedder, store)
    await run.arun(documents=read(folder))
    await run.arun(documents=read(folder))
    assert embedder.embedded == store.count() == 30
