"""LlamaIndex down to a server: questions over a real PDF through an OpenAI-compatible server; a changed folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai  # noqa: F401 (this file is left out where it is missing)
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from llama_index.core import PromptTemplate, SimpleDirectoryReader
from llama_index.core.llms import ChatMessage
from pydantic import BaseModel
from scripted_server import TEXT, serving

from visrag_integrations import PageReader, PageRetriever, QdrantPageStore
from visrag_integrations.generation.evisrag import build_prompt
from visrag_integrations.llamaindex import EVisRAGLLM, VisRAGQueryEngine, VisRAGReader, VisRAGRetriever


class Song(BaseModel):
    title: str


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VisRAGRetriever]:
    embedder = PixelEmbedder()
    pages = list(PageReader(ocr="never").read(draw_pdf(tmp_path_factory.mktemp("pdf") / "a.pdf", ["boxes", "sails"])))
    with QdrantPageStore(":memory:") as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
        yield VisRAGRetriever(PageRetriever(embedder, store), similarity_top_k=2)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def llm(server: tuple[str, list[dict[str, Any]]]) -> Iterator[EVisRAGLLM]:
    made = EVisRAGLLM(server[0], engine_settings={"model": "scripted"})
    yield made
    made.generator.close()  # type: ignore[attr-defined]


async def test_a_question_over_a_pdf(
    retriever: VisRAGRetriever, llm: EVisRAGLLM, server: tuple[str, list[dict[str, Any]]]
) -> None:
    response = VisRAGQueryEngine(retriever, llm, prompt="plain").query("How many?")
    again = await VisRAGQueryEngine(retriever, llm, prompt="plain").aquery("How many?")
    assert str(response) == str(again) == TEXT
    streaming = VisRAGQueryEngine(retriever, llm, prompt="plain", streaming=True)
    pieces = list(streaming.query("How many?").response_gen)
    apieces = [piece async for piece in (await streaming.aquery("How many?")).async_response_gen()]
    assert len(pieces) > 1
    assert "".join(pieces) == "".join(apieces) == TEXT
    asked = VisRAGQueryEngine(retriever, llm).query("How many?")
    assert asked.metadata["problems"]  # it was asked as EVisRAG is, and answers without the tags
    content = server[1][-1]["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "image_url"]
    assert content[0]["text"] == build_prompt("How many?")


async def test_chats_and_their_usage(llm: EVisRAGLLM) -> None:
    hello = [ChatMessage("Hello")]
    for said in (llm.chat(hello), await llm.achat(hello), list(llm.stream_chat(hello))[-1]):
        assert (said.message.content, said.raw["usage"]["prompt_tokens"]) == (TEXT, 9)
    last = [piece async for piece in await llm.astream_chat(hello)][-1]
    assert (last.message.content, last.raw["usage"]["completion_tokens"]) == (TEXT, 5)


async def test_objects_come_through_the_servers_structured_outputs(
    llm: EVisRAGLLM, server: tuple[str, list[dict[str, Any]]]
) -> None:
    prompt = PromptTemplate("A song about {topic}.")
    song = llm.structured_predict(Song, prompt, topic="sea")
    assert isinstance(song, Song)
    sent = server[1][-1]["response_format"]["json_schema"]["schema"]
    assert sent["properties"].keys() == {"title"}
    assert await llm.astructured_predict(Song, prompt, topic="sea") == song
    assert list(llm.stream_structured_predict(Song, prompt, topic="sea"))[-1] == song


def test_only_the_changed_page_changes_in_a_folder(tmp_path: Path) -> None:
    def read() -> dict[str, str]:
        reader = VisRAGReader(image_dir=tmp_path / "pictures", ocr="never")
        folder = SimpleDirectoryReader(tmp_path / "in", file_extractor={".pdf": reader}, file_metadata=lambda _: {})
        return {document.metadata["page_label"]: document.hash for document in folder.load_data()}

    (tmp_path / "in").mkdir()
    draw_pdf(tmp_path / "in" / "a.pdf", ["one", "two", "three"])
    before = read()
    draw_pdf(tmp_path / "in" / "a.pdf", ["one", "two, and a good deal more of it", "three"])
    assert [label for label, digest in read().items() if digest != before[label]] == ["2"]
