"""VisRAGRetriever: fields, calls, configurable fields, callbacks, neighbours, the host's combinators, concurrency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import PixelEmbedder, ScriptedRetriever
from langchain_classic.retrievers import EnsembleRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnableParallel
from langchain_core.vectorstores import InMemoryVectorStore
from PIL import Image

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, ScoredPage
from visrag_integrations.errors import SettingError
from visrag_integrations.langchain import VisRAGRetriever, open_document_image

WORDS = ("violin", "cello", "taxes", "rainfall", "index", "zebra")
COLOURS = ("red", "green", "blue", "white", "black", "yellow")


@pytest.fixture(scope="module")
def core() -> Iterator[PageRetriever]:
    embedder = PixelEmbedder()
    with QdrantPageStore(":memory:", picture_format="PNG") as store:
        store.prepare(embedder)
        pages = [
            Page(doc_id, n, word, f"{doc_id}.pdf", picture=Image.new("RGB", (8, 8), colour))
            for doc_id in ("a", "b")
            for n, (word, colour) in enumerate(zip(WORDS, COLOURS, strict=True), 1)
        ]
        store.add_pages(pages, [embedder._vector(p.text, p.open_image() if p.doc_id == "b" else None) for p in pages])
        yield PageRetriever(embedder, store)


@pytest.fixture
def retriever(core: PageRetriever) -> VisRAGRetriever:
    return VisRAGRetriever(retriever=core, k=2, filter={"source": "a.pdf"})


def places(documents: list[Document]) -> list[tuple[str, int]]:
    return [(d.metadata["doc_id"], d.metadata["number"]) for d in documents]


def test_documents_say_where_they_are_from(retriever: VisRAGRetriever) -> None:
    best, second = retriever.invoke("zebra", with_scores=True)
    assert (best.page_content, best.metadata["source"], best.metadata["page"]) == ("zebra", "a.pdf", 5)
    assert best.metadata["score"] > second.metadata["score"]
    assert best.metadata["score_type"] == "cosine"
    assert open_document_image(best).getpixel((0, 0)) == (255, 255, 0)
    inline = retriever.invoke("zebra", k=1, inline_images=True)[0].metadata["image"]
    assert inline.startswith("data:image/")


async def test_every_field_is_an_argument_of_a_call(retriever: VisRAGRetriever) -> None:
    calls: list[tuple[dict[str, Any], list[tuple[str, int]]]] = [
        ({"k": 1}, [("a", 6)]),
        ({"k": 1, "filter": {"doc_id": "a", "number": {"lt": 2}}}, [("a", 1)]),
        ({"mode": "lexical"}, [("a", 6)]),
        ({"score_threshold": 0.999}, [("a", 6)]),
        ({"k": 1, "context_pages": 2}, [("a", 4), ("a", 5), ("a", 6)]),
    ]
    for settings, expected in calls:
        assert places(retriever.invoke("zebra", **settings)) == expected
        assert places(await retriever.ainvoke("zebra", **settings)) == expected
        if "filter" not in settings:
            again = VisRAGRetriever(**{**dict(retriever), **settings})
            assert places(again.invoke("zebra")) == expected
    with pytest.raises(TypeError, match="top_k"):
        retriever.invoke("zebra", top_k=1)


def test_questions_with_pictures(core: PageRetriever) -> None:
    retriever = VisRAGRetriever(retriever=core, k=1, filter={"doc_id": "b"})
    blue = Image.new("RGB", (5, 5), "blue")
    for query in (blue, {"image": blue}, {"text": "taxes", "image": blue}, Query(image=blue)):
        assert places(retriever.invoke(query)) == [("b", 3)]  # type: ignore[arg-type]


async def test_batches(retriever: VisRAGRetriever) -> None:
    expected = [[("a", n)] for n in range(1, 7)]
    assert [places(found) for found in retriever.batch(list(WORDS), k=1)] == expected
    assert [places(found) for found in await retriever.abatch(list(WORDS), k=1)] == expected


def test_configurable_fields(retriever: VisRAGRetriever) -> None:
    configurable = retriever.configurable_fields(k=ConfigurableField(id="pages"))
    assert len(configurable.invoke("zebra", config={"configurable": {"pages": 4}})) == 4
    assert len(configurable.invoke("zebra")) == 2


def test_neighbours_come_in_reading_order_and_once(retriever: VisRAGRetriever) -> None:
    asked: dict[str, Any] = {"context_pages": 1, "k": 2, "filter": {"number": {"lte": 2}, "doc_id": "a"}}
    found = retriever.invoke("violin", with_scores=True, **asked)
    assert places(found) == [("a", 1), ("a", 2), ("a", 3)]
    # A page is the same Document as a neighbour and as a hit.
    assert retriever.invoke("violin", **asked)[2] == retriever.invoke("violin", k=1, filter={"number": 3})[0]
    assert found[2].metadata["context_of"] == found[1].id
    assert "score" not in found[2].metadata
    with pytest.raises(SettingError, match="needs a store"):
        VisRAGRetriever(retriever=ScriptedRetriever(ScoredPage(Page("d", 1), 1.0)), context_pages=1).invoke("a")


def test_callbacks_tags_and_tracing_parameters(retriever: VisRAGRetriever) -> None:
    seen: list[Any] = []

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
            seen.append((query, kwargs["tags"], kwargs["metadata"]))

        def on_retriever_end(self, documents: Any, **kwargs: Any) -> None:
            seen.append(len(documents))

        def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:
            seen.append(type(error))

    config: Any = {"callbacks": [Handler()], "tags": ["t"], "metadata": {"m": 1}}
    retriever.invoke("zebra", config)
    query, tags, metadata = seen[0]
    assert (query, tags, metadata["m"], seen[1]) == ("zebra", ["t"], 1, 2)
    assert metadata["ls_retriever_name"] == "visrag"
    assert metadata["ls_vector_store_provider"] == "QdrantPageStore"
    assert (metadata["ls_embedding_provider"], metadata["ls_embedding_model"]) == ("PixelEmbedder", "pixels")
    with pytest.raises(SettingError):
        retriever.invoke("", config)
    assert seen[-1] is SettingError


def test_a_retriever_of_your_own_and_what_is_none() -> None:
    scripted = ScriptedRetriever(*(ScoredPage(Page("d", n), 1.0) for n in range(1, 9)))
    assert len(VisRAGRetriever(retriever=scripted).invoke("a")) == 5
    assert scripted.calls == [("a", 5, None)]
    with pytest.raises(ValueError, match=r"PageRetriever\(embedder, store\)"):
        VisRAGRetriever(retriever="index")
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        VisRAGRetriever(retriever=scripted, k=0)


def test_from_an_index_that_is_there(tmp_path: Any) -> None:
    embedder = PixelEmbedder()
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(embedder)
        store.add_pages([Page("d", 1, "zebra")], embedder.embed_pages([Page("d", 1, "zebra")]))
    retriever = VisRAGRetriever.from_index(tmp_path / "index", embedder, k=1)
    assert places(retriever.invoke("zebra")) == [("d", 1)]
    retriever.retriever.store.close()


async def test_the_combinators_of_the_host(retriever: VisRAGRetriever) -> None:
    texts = InMemoryVectorStore.from_texts(["zebra", "unrelated"], DeterministicFakeEmbedding(size=8))
    ensemble = EnsembleRetriever(retrievers=[retriever, texts.as_retriever(search_kwargs={"k": 1})])
    assert ensemble.invoke("zebra")[0].page_content == "zebra"
    assert len(ensemble.invoke("zebra")) == len(await ensemble.ainvoke("zebra")) == 2  # zebra was found by both

    both = RunnableParallel(pages=retriever, question=RunnableLambda(str.upper))
    assert places(both.invoke("zebra")["pages"])[0] == ("a", 6)
    assert places((await both.ainvoke("zebra"))["pages"])[0] == ("a", 6)

    class Flaky(BaseRetriever):
        failures: list[int]

        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            if self.failures:
                self.failures.pop()
                raise ConnectionError("down")
            return retriever.invoke(query)

    assert places(Flaky(failures=[1]).with_fallbacks([retriever]).invoke("zebra"))[0] == ("a", 6)
    again = Flaky(failures=[1]).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    assert places(again.invoke("zebra"))[0] == ("a", 6)


async def test_64_concurrent_calls_block_no_loop_and_mix_nothing_up(core: PageRetriever) -> None:
    class Slow:
        def retrieve(self, query: Any, top_k: int = 5, **settings: Any) -> Any:
            time.sleep(0.02)
            return core.retrieve(query, top_k, **settings)

    retriever = VisRAGRetriever(retriever=Slow(), k=1, filter={"doc_id": "a"})
    gaps: list[float] = []

    async def heartbeat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before)

    pulse = asyncio.create_task(heartbeat())
    found = await asyncio.gather(*(retriever.ainvoke(WORDS[i % 6]) for i in range(64)))
    pulse.cancel()
    assert [places(documents) for documents in found] == [[("a", i % 6 + 1)] for i in range(64)]
    assert len(gaps) > 10
    assert sorted(gaps)[len(gaps) // 2] < 0.1
