from __future__ import annotations

import asyncio
import base64
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import PixelEmbedder
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, TextNode
from PIL import Image

from visrag_integrations.embedders import register_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.llamaindex import VisRAGEmbedding
from visrag_integrations.types import Page


class ManyVectors(PixelEmbedder):
    name, kind = "many", "multi"


class SlowEmbedder(PixelEmbedder):
    def embed_queries(self, queries: Any) -> list[Any]:
        time.sleep(0.2)
        return super().embed_queries(queries)


class Events(BaseEventHandler):
    names: list[str] = []  # noqa: RUF012  # a pydantic field

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.names.append(event.class_name())


@pytest.fixture
def embedder() -> PixelEmbedder:
    return PixelEmbedder()


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def vector_of_picture(path: Path, text: str = "") -> list[float]:
    return PixelEmbedder().embed_pages([Page("x", 1, text, picture=path)])[0].tolist()


def test_texts_and_questions(embedder: PixelEmbedder) -> None:
    embedding = VisRAGEmbedding(embedder=embedder)
    assert embedding.get_query_embedding("apple") == embedder.embed_queries(["apple"])[0].tolist()
    assert embedding.get_text_embedding("apple") == embedder.embed_pages([Page("x", 1, "apple")])[0].tolist()
    texts = ["one", "two", "three"]
    together = VisRAGEmbedding(embedder=embedder, embed_batch_size=2).get_text_embedding_batch(texts)
    assert together == [embedding.get_text_embedding(text) for text in texts]


def test_pictures_in_every_shape(embedder: PixelEmbedder, red: Path) -> None:
    embedding = VisRAGEmbedding(embedder=embedder)
    data = red.read_bytes()
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    shapes = [str(red), red, red.as_uri(), url, io.BytesIO(data), Image.open(red)]
    vectors = embedding.get_image_embedding_batch(shapes)
    assert vectors == [vector_of_picture(red)] * len(shapes)
    assert embedding.get_image_embedding(str(red)) == vectors[0]


async def test_async_twins(embedder: PixelEmbedder, red: Path) -> None:
    embedding = VisRAGEmbedding(embedder=embedder)
    assert await embedding.aget_query_embedding("a") == embedding.get_query_embedding("a")
    assert await embedding.aget_text_embedding_batch(["a", "b"]) == embedding.get_text_embedding_batch(["a", "b"])
    assert await embedding.aget_image_embedding(str(red)) == vector_of_picture(red)
    assert await embedding.aget_image_embedding_batch([str(red)]) == [vector_of_picture(red)]


async def test_the_loop_goes_on() -> None:
    embedding = VisRAGEmbedding(embedder=SlowEmbedder())
    asked = asyncio.ensure_future(embedding.aget_query_embedding("a"))
    ticks = 0
    while not asked.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks > 5


def test_as_a_transformation(embedder: PixelEmbedder, red: Path) -> None:
    nodes = [
        ImageNode(text="caption", image_path=str(red)),
        TextNode(text="words"),
        ImageDocument(image_resource=MediaResource(path=red)),
        ImageNode(image=base64.b64encode(red.read_bytes()).decode()),
    ]
    before = [node.to_dict() for node in nodes]
    made = VisRAGEmbedding(embedder=embedder)(nodes)
    assert [node.to_dict() for node in nodes] == before
    assert [node.node_id for node in made] == [node.node_id for node in nodes]
    assert [type(node) for node in made] == [type(node) for node in nodes]
    assert made[0].embedding == made[2].embedding == made[3].embedding == vector_of_picture(red)
    assert made[1].embedding == embedder.embed_pages([Page("x", 1, "words")])[0].tolist()


def test_a_picture_that_two_nodes_share_is_embedded_once(embedder: PixelEmbedder, red: Path) -> None:
    made = VisRAGEmbedding(embedder=embedder)([ImageNode(text=text, image_path=str(red)) for text in "abc"])
    assert embedder.embedded == 1
    assert [node.embedding for node in made] == [vector_of_picture(red)] * 3


async def test_as_an_async_transformation(embedder: PixelEmbedder, red: Path) -> None:
    (made,) = await VisRAGEmbedding(embedder=embedder).acall([ImageNode(image_path=str(red))])
    assert made.embedding == vector_of_picture(red)


def test_no_nodes(embedder: PixelEmbedder) -> None:
    assert VisRAGEmbedding(embedder=embedder)([]) == []
    assert VisRAGEmbedding(embedder=embedder).get_image_embedding_batch([]) == []


def test_events(embedder: PixelEmbedder, red: Path) -> None:
    seen, debug = Events(), LlamaDebugHandler(print_trace_on_end=False)
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(seen)
    try:
        embedding = VisRAGEmbedding(embedder=embedder, callback_manager=CallbackManager([debug]))
        embedding([ImageNode(image_path=str(red)), TextNode(text="a")])
    finally:
        dispatcher.event_handlers.remove(seen)
    assert seen.names == ["EmbeddingStartEvent", "EmbeddingEndEvent"] * 2
    assert len(debug.get_event_pairs(CBEventType.EMBEDDING)) == 2


def test_multi_vectors_are_refused_by_name() -> None:
    with pytest.raises(SettingError, match=r"'many' makes many vectors.*VisRAGVectorStore"):
        VisRAGEmbedding(embedder=ManyVectors())


def test_settings_of_a_held_embedder_are_refused(embedder: PixelEmbedder) -> None:
    with pytest.raises(SettingError, match="device"):
        VisRAGEmbedding(embedder=embedder, device="cuda")


def test_host_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MultiModalEmbedding in VisRAGEmbedding.__mro__
    assert VisRAGEmbedding.class_name() == "VisRAGEmbedding"
    assert VisRAGEmbedding().model_name == "openbmb/VisRAG-Ret"  # nothing is loaded yet
    register_embedder("pixels-by-name", PixelEmbedder, replace=True)
    embedding = VisRAGEmbedding("pixels-by-name", embed_batch_size=3, fetch_urls=True)
    back = VisRAGEmbedding.from_dict(embedding.to_dict())
    assert (back.model_name, back.embed_batch_size, back.fetch_urls) == ("pixels-by-name", 3, True)
    assert np.allclose(back.get_query_embedding("a"), embedding.get_query_embedding("a"))
    assert VisRAGEmbedding.from_dict(VisRAGEmbedding(device="cpu").to_dict()).settings == {"device": "cpu"}


def test_in_the_settings(embedder: PixelEmbedder) -> None:
    held = Settings._embed_model
    try:
        Settings.embed_model = VisRAGEmbedding(embedder=embedder)
        assert Settings.embed_model.get_query_embedding("a") == embedder.embed_queries(["a"])[0].tolist()
    finally:
        Settings._embed_model = held
