"""A LangChain stack as people have it, end to end on the CPU default: what the model was shown, and what came back.

Splitter, ensemble, several questions for one, compression, cached embeddings, parent documents, time-weighted memory,
self-query, the indexing API, agents and a checkpointer: LangChain's own classes, with ours in the places of others.
"""

from __future__ import annotations

import base64
import datetime
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.retrievers import (
    ContextualCompressionRetriever,
    EnsembleRetriever,
    MultiQueryRetriever,
    ParentDocumentRetriever,
    TimeWeightedVectorStoreRetriever,
)
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.stores import InMemoryByteStore, InMemoryStore
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery
from langchain_text_splitters import CharacterTextSplitter, RecursiveCharacterTextSplitter
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent
from PIL import Image
from pydantic import Field

from visrag_integrations import Answer, Evidence, Page, PageRetriever, QdrantPageStore, load_embedder
from visrag_integrations.langchain import (
    ChatEVisRAG,
    VisRAGEmbeddings,
    VisRAGLoader,
    VisRAGReranker,
    VisRAGRetriever,
    VisRAGTranslator,
    VisRAGVectorStore,
    checkpoint_types,
    create_visrag_chain,
    create_visrag_tool,
    image_references,
    open_document_image,
    pages_to_content,
    with_tool_pictures,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*create_react_agent.*")

TEXTS = [
    "A violin has four strings. They are tuned in fifths.",
    "A cello is larger than a violin. It stands on the floor.",
    "Taxes are due in April. Late payers are charged interest.",
]


class ScriptedChat(BaseChatModel):
    """Says what was queued, and remembers what it was shown."""

    queue: list[Any]
    shown: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        self.shown.append(messages)
        said = self.queue.pop(0)
        return AIMessage(said) if isinstance(said, str) else said

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        said = self._next(messages)
        chunk = AIMessageChunk(said.content, tool_calls=said.tool_calls, id=said.id)
        yield ChatGenerationChunk(message=chunk)


def searching(query: str) -> AIMessage:
    call = {"name": "search_pages", "args": {"query": query}, "id": "call-1", "type": "tool_call"}
    return AIMessage("", tool_calls=[call])  # type: ignore[list-item]


def pictures_in(content: Any) -> list[Image.Image]:
    found = []
    for block in content:
        if isinstance(block, dict) and block["type"] == "image":
            found.append(Image.open(io.BytesIO(base64.b64decode(block["base64"]))))
    return found


def texts_in(content: Any) -> list[str]:
    return [block["text"] for block in content if block["type"] == "text"]


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pdf(tmp_path_factory.mktemp("stack") / "lessons.pdf", TEXTS)


@pytest.fixture
def store(pdf: Path) -> Iterator[VisRAGVectorStore]:
    """The pages of the PDF in the CPU default's index."""
    made = VisRAGVectorStore.from_documents(VisRAGLoader(pdf).lazy_load(), "ocr")
    yield made
    made.close()


def keeping(**settings: Any) -> VisRAGVectorStore:
    return VisRAGVectorStore(QdrantPageStore(":memory:", **settings), DeterministicFakeEmbedding(size=16))


# --- splitters and parents --------------------------------------------------------------------------------------------


def test_every_piece_of_a_split_page_is_kept_and_comes_back(pdf: Path) -> None:
    pages = VisRAGLoader(pdf).load()
    for splitter in (
        RecursiveCharacterTextSplitter(chunk_size=30, chunk_overlap=0),
        CharacterTextSplitter(separator=".", chunk_size=20, chunk_overlap=5),
    ):
        pieces = splitter.split_documents(pages)
        assert len(pieces) > len(pages)
        for batch_size in (1, 2, 32):
            store = keeping()
            ids = store.add_documents(pieces, batch_size=batch_size)
            assert len(set(ids)) == store.store.count() == len(pieces)
            found = store.get_by_ids(ids)
            assert [(one.page_content, one.metadata) for one in found] == [
                (one.page_content, one.metadata) for one in pieces
            ]
            # A piece still knows the picture of its page.
            assert open_document_image(found[0]).size == open_document_image(pages[0]).size


def test_pieces_that_kept_the_id_of_their_page_do_not_overwrite_each_other(pdf: Path) -> None:
    (page, *_) = VisRAGLoader(pdf).load()
    halves = [page.model_copy(update={"page_content": half}) for half in page.page_content.split(". ")]
    for batch_size in (1, 32):
        store = keeping()
        ids = store.add_documents(halves, batch_size=batch_size)
        assert [one.page_content for one in store.get_by_ids(ids)] == [half.page_content for half in halves]
        assert ids[0] == page.id
    # The same page twice is one page, and with an id of the caller's it is what the caller says.
    assert keeping().add_documents([page, page]) == [page.id, page.id]
    assert keeping().add_documents(halves, ids=["a", "a"]) == ["a", "a"]


def test_a_split_page_is_rendered_once(pdf: Path) -> None:
    image_references._rendered.cache_clear()
    pieces = RecursiveCharacterTextSplitter(chunk_size=12, chunk_overlap=0).split_documents(VisRAGLoader(pdf).load())
    embeddings = VisRAGEmbeddings(embedder=PixelEmbedder())
    VisRAGVectorStore.from_documents(pieces, embeddings)
    assert len(pieces) > 6
    assert image_references._rendered.cache_info().misses == 3


def test_documents_of_others_come_back_as_they_went_in() -> None:
    given = [
        Document("first", metadata={"doc_id": "r1", "number": 1}),
        Document("second", metadata={"doc_id": "r1", "number": 1, "page": 7, "image": "cat.png"}),
        Document("", metadata={"doc_id": "r1", "number": 1}),
        Document("third", metadata={"source": "", "tenant": "ada", "sources": ["x"]}),
        Document("fourth", metadata={"score": 3, "nested": {"a": [1, None, True]}}, id="4"),
        Document("", metadata={}),
    ]
    store = keeping()
    ids = store.add_documents(given)
    found = store.get_by_ids(ids)
    assert [(one.page_content, one.metadata) for one in found] == [(one.page_content, one.metadata) for one in given]


def test_dates_and_numbers_of_data_frames_have_one_json_form() -> None:
    import uuid

    import numpy as np

    store = keeping()
    metadata = {
        "day": datetime.date(2024, 5, 1),
        "at": datetime.datetime(2024, 5, 1, 12, 30),
        "count": np.int64(3),
        "share": np.float32(0.5),
        "flag": np.bool_(True),
        "id": uuid.UUID(int=7),
    }
    (id_,) = store.add_documents([Document("hello", metadata=metadata)])
    (found,) = store.get_by_ids([id_])
    assert found.metadata == {
        "day": "2024-05-01",
        "at": "2024-05-01T12:30:00",
        "count": 3,
        "share": 0.5,
        "flag": True,
        "id": str(uuid.UUID(int=7)),
    }
    for filter_ in ({"day": datetime.date(2024, 5, 1)}, {"count": np.int64(3)}, {"at": {"gte": "2024-05-01"}}):
        assert [one.id for one in store.similarity_search("hello", filter=filter_)] == [id_]


def test_parent_documents(pdf: Path) -> None:
    children = keeping()
    retriever = ParentDocumentRetriever(
        vectorstore=children,
        docstore=InMemoryStore(),
        child_splitter=RecursiveCharacterTextSplitter(chunk_size=20, chunk_overlap=0),
        search_kwargs={"k": 50},
    )
    pages = VisRAGLoader(pdf).load()
    retriever.add_documents(pages)
    assert children.store.count() > 6
    found = retriever.invoke("violin")
    assert sorted(one.page_content for one in found) == sorted(one.page_content for one in pages)
    assert len(pictures_in(pages_to_content(found))) == 3


# --- filters and tenants ----------------------------------------------------------------------------------------------

OWN = [{"tenant": "ada"}, {"doc_id": "D7"}, {"number": 42}, {"sources": ["wiki"]}, {"source": 7}, {"image": "cat.png"}]


@pytest.mark.parametrize("metadata", OWN, ids=lambda own: str(next(iter(own))))
def test_a_filter_sees_what_the_metadata_show(metadata: dict[str, Any]) -> None:
    store = keeping()
    store.add_documents([Document(f"text {n}", metadata=own) for n, own in enumerate(OWN)])
    ((key, value),) = metadata.items()
    if isinstance(value, list):
        (value,) = value

    def found(asked: Any) -> list[dict[str, Any]]:
        return [one.metadata for one in store.similarity_search("text", k=9, filter=asked)]

    for asked in ({key: value}, {key: {"$eq": value}}, {key: {"in": [value, "other"]}}, {key: {"exists": True}}):
        assert found(asked) == [metadata], asked
    for asked in ({key: {"ne": value}}, {key: {"nin": [value]}}, {"$not": {key: value}}, {key: None}):
        rest = found(asked)
        assert len(rest) == len(OWN) - 1, asked
        assert metadata not in rest
    assert found({key: "nobody has this"}) == []
    store.delete(filter={key: "nobody has this"})
    assert store.store.count() == len(OWN)
    store.delete(filter={key: value})
    assert store.store.count() == len(OWN) - 1
    assert metadata not in found(None)


def test_page_counts_from_zero_as_the_metadata_do(store: VisRAGVectorStore) -> None:
    (second,) = store.similarity_search("violin", k=9, filter={"page": 1})
    assert (second.metadata["page"], second.metadata["number"]) == (1, 2)
    retriever = VisRAGRetriever(retriever=PageRetriever(load_embedder("ocr"), store.store), filter={"page": 1})
    assert [one.metadata["number"] for one in retriever.invoke("violin")] == [2]


def test_no_filter_widens_a_tenant(pdf: Path) -> None:
    pages = QdrantPageStore(":memory:")
    embeddings = DeterministicFakeEmbedding(size=16)
    ada, bob = (VisRAGVectorStore(pages, embeddings, tenant=name) for name in ("ada", "bob"))
    ids = ada.add_texts(["ada's note"], [{"tenant": "mine"}], ids=["1"])
    assert bob.add_texts(["bob's note"], ids=["1"]) == ids == ["1"]
    loaded = VisRAGLoader(pdf).load()
    page_ids = ada.add_documents(loaded)
    for filter_ in (
        None,
        {"tenant": "ada"},
        {"tenant": {"ne": "bob"}},
        {"$or": [{}, {"tenant": "ada"}]},
        {"$not": {"tenant": "bob"}},
        {"tenant": {"in": ["ada", "bob"]}},
    ):
        for found in (
            bob.similarity_search("note", k=9, filter=filter_),
            bob.max_marginal_relevance_search("note", k=9, filter=filter_),
            bob.as_retriever(search_kwargs={"k": 9, "filter": filter_}).invoke("note"),
            VisRAGRetriever(retriever=PageRetriever(bob.embedder, pages), tenant="bob", filter=filter_).invoke("note"),
        ):
            assert {one.page_content for one in found} <= {"bob's note"}, filter_
    # A key of the user's own, on the tenant's own Documents.
    assert [one.page_content for one in ada.similarity_search("note", filter={"tenant": "mine"})] == ["ada's note"]
    assert [one.page_content for one in bob.get_by_ids(["1", *page_ids])] == ["bob's note"]
    assert len(ada.get_by_ids(["1", *page_ids])) == 1 + len(loaded)
    bob.delete(page_ids)
    bob.delete(filter={"source": {"exists": True}})
    assert ada.store.count() == 1 + len(loaded)
    bob.delete()
    assert (ada.store.count(), bob.store.count()) == (1 + len(loaded), 0)
    ada.delete([*page_ids[:2], "1"])
    assert ada.store.count() == 1
    with pytest.raises(TypeError, match="tenant"):
        VisRAGRetriever(retriever=PageRetriever(ada.embedder, pages), tenant="ada").invoke("note", tenant="bob")


def test_indexed_fields_reach_the_store(tmp_path: Path) -> None:
    fields = {"org": "keyword", "year": "integer", "day": "datetime"}
    documents = [Document(f"text {n}", metadata={"org": f"o{n % 2}", "year": 2000 + n}) for n in range(4)]
    made = VisRAGVectorStore.from_documents(
        documents, DeterministicFakeEmbedding(size=8), path=str(tmp_path / "index"), indexed_fields=fields
    )
    assert dict(made.store.info.indexed) == fields  # type: ignore[attr-defined]
    assert len(made.similarity_search("text", filter={"org": "o1", "year": {"gte": 2002}})) == 1
    made.close()


# --- equal pages are equal --------------------------------------------------------------------------------------------


def test_several_questions_give_each_page_once(store: VisRAGVectorStore) -> None:
    retriever = VisRAGRetriever(retriever=PageRetriever(store.embedder, store.store), k=2, context_pages=1)
    llm = FakeListChatModel(responses=["violin strings\nhow many strings\nthe floor"])
    for each in (retriever, store.as_retriever(search_kwargs={"k": 3})):
        found = MultiQueryRetriever.from_llm(retriever=each, llm=llm).invoke("violin?")
        assert len({one.id for one in found}) == len(found)
        assert not {"score", "score_type", "context_of"} & set().union(*(one.metadata for one in found))


def test_an_ensemble_keeps_pages_without_text_apart(tmp_path: Path) -> None:
    scan = draw_pdf(tmp_path / "scan.pdf", ["", "", "words"])
    embeddings = VisRAGEmbeddings(embedder=PixelEmbedder())
    store = VisRAGVectorStore.from_documents(VisRAGLoader(scan, ocr="never").load(), embeddings)
    store.add_images([Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")], ids=["r", "b"])
    one, other = store.as_retriever(search_kwargs={"k": 9}), store.as_retriever(search_kwargs={"k": 8})
    found = EnsembleRetriever(retrievers=[one, other], weights=[0.5, 0.5]).invoke("words")
    assert len(found) == 5
    assert f"[image of {scan}, page 2]" in {document.page_content for document in found}
    # The line in place of the text is no text: it is not embedded, shown or searched.
    assert {page.text.strip() for page in store.store.scroll()} == {"", "words"}
    assert len(pictures_in(pages_to_content(found))) == 5
    again = VisRAGVectorStore.from_documents(found, embeddings)
    assert {page.text.strip() for page in again.store.scroll()} == {"", "words"}


def test_compression_with_our_reranker(store: VisRAGVectorStore) -> None:
    reranker = VisRAGReranker(embedder="ocr", store=store.store, top_n=1, with_scores=False)
    base = store.as_retriever(search_kwargs={"k": 3})
    retriever = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)
    (best,) = retriever.invoke("when are taxes due?")
    assert best in base.invoke("taxes")
    assert best.page_content.startswith("Taxes")
    reranker.close()


# --- embeddings, memory, self-query, indexing -------------------------------------------------------------------------


class SeesColour:
    """Sees the colour of a picture; all texts are alike to it."""

    name, kind, dimension = "colours", "single", 3

    def embed_pages(self, pages: Any) -> list[Any]:
        import numpy as np

        return [np.asarray(page.open_image().resize((1, 1)), np.float32).ravel() / 255 for page in pages]

    def embed_texts(self, texts: Any) -> list[Any]:
        import numpy as np

        return [np.ones(3, np.float32) for _ in texts]

    embed_queries = embed_texts


def test_cached_embeddings_still_look_at_pictures() -> None:
    plain = VisRAGEmbeddings(embedder=SeesColour())  # type: ignore[arg-type]
    cached = CacheBackedEmbeddings.from_bytes_store(plain, InMemoryByteStore(), namespace="c", key_encoder="sha256")
    twice = CacheBackedEmbeddings.from_bytes_store(cached, InMemoryByteStore(), namespace="c", key_encoder="sha256")
    page = Page.from_image(Image.new("RGB", (8, 8), "red"), doc_id="d", text="a text layer")
    vectors = []
    for embeddings in (plain, cached, twice):
        store = VisRAGVectorStore(QdrantPageStore(":memory:"), embeddings)
        store.add_pages([page])
        store.add_texts(["only text"])
        vectors.append(store.store.get_embeddings([page.id])[page.id])  # type: ignore[attr-defined]
        # The wrapper changes no vector, so the collection is the same embedder's.
        assert VisRAGVectorStore(store.store, plain).similarity_search("x", k=1)
    assert vectors[0] @ vectors[1] == pytest.approx(1) == vectors[0] @ vectors[2]


def test_text_embeddings_say_once_that_they_do_not_look_at_pictures(caplog: pytest.LogCaptureFixture) -> None:
    store = keeping()
    with caplog.at_level(logging.WARNING):
        store.add_texts(["only text"])
        assert not caplog.records
        picture = Image.new("RGB", (8, 8), "red")
        store.add_pages([Page.from_image(picture, doc_id=name, text="t") for name in ("d", "e")])
        store.add_pages([Page.from_image(picture, doc_id="f")])
    (record,) = caplog.records
    assert "DeterministicFakeEmbedding embeds text only" in record.getMessage()
    assert "d, page 1" in record.getMessage()


def test_models_behind_one_class_have_names_of_their_own_and_old_collections_open() -> None:
    from visrag_integrations.errors import StoreMismatchError

    class HuggingFaceLike(DeterministicFakeEmbedding):
        model_name: str = ""

    class Cached(CacheBackedEmbeddings):
        pass

    one, other = HuggingFaceLike(size=4, model_name="a/one"), HuggingFaceLike(size=4, model_name="b/two")
    wrapped = Cached.from_bytes_store(other, InMemoryByteStore(), namespace="x", key_encoder="sha256")
    made = VisRAGVectorStore.from_texts(["hello"], one)
    assert made.store.info.embedder == "langchain:HuggingFaceLike:a/one"  # type: ignore[attr-defined]
    for another in (other, wrapped):
        with pytest.raises(StoreMismatchError, match="b/two"):
            VisRAGVectorStore(made.store, another).similarity_search("hello")

    class Before(SeesColour):  # as these embeddings were named before
        name, dimension = "langchain:HuggingFaceLike", 4

    before = QdrantPageStore(":memory:")
    before.prepare(Before())  # type: ignore[arg-type]
    before.add_pages([Page("d", 1, "hello")], one.embed_documents(["hello"]))
    assert len(VisRAGVectorStore(before, one).similarity_search("hello")) == 1


def test_time_weighted_memory() -> None:
    retriever = TimeWeightedVectorStoreRetriever(vectorstore=keeping(), decay_rate=0.01, k=2)
    retriever.add_documents([Document("hello"), Document("goodbye")])
    found = retriever.invoke("hello")
    assert {one.page_content for one in found} == {"hello", "goodbye"}


def test_self_query() -> None:
    pytest.importorskip("lark")
    from langchain_classic.chains.query_constructor.schema import AttributeInfo
    from langchain_classic.retrievers.self_query.base import SelfQueryRetriever

    store = keeping()
    rows = [{"org": "a", "year": 2019}, {"org": "a", "year": 2021}, {"org": "b", "year": 2021}, {"year": 2021}]
    store.add_documents([Document(f"report {n}", metadata=row) for n, row in enumerate(rows)])

    def ask(filter_: str) -> list[dict[str, Any]]:
        said = f'```json\n{{"query": "report", "filter": "{filter_}"}}\n```'
        retriever = SelfQueryRetriever.from_llm(
            FakeListChatModel(responses=[said]),
            store,
            "reports",
            [AttributeInfo(name=name, description=name, type="string") for name in ("org", "year")],
            structured_query_translator=VisRAGTranslator(),
            search_kwargs={"k": 9},
        )
        return sorted((one.metadata for one in retriever.invoke("?")), key=str)

    def rows_with(*places: int) -> list[dict[str, Any]]:
        return sorted((rows[place] for place in places), key=str)

    assert ask('and(eq(\\"org\\", \\"a\\"), gte(\\"year\\", 2020))') == rows_with(1)
    assert ask('or(lt(\\"year\\", 2020), eq(\\"org\\", \\"b\\"))') == rows_with(0, 2)
    assert ask('not(eq(\\"org\\", \\"a\\"))') == rows_with(2, 3)
    assert ask('in(\\"org\\", [\\"a\\", \\"b\\"])') == rows_with(0, 1, 2)
    assert ask("NO_FILTER") == rows_with(0, 1, 2, 3)


def test_translated_conditions() -> None:
    translator = VisRAGTranslator()
    day = Comparison(comparator=Comparator.GT, attribute="day", value={"date": "2024-05-31", "type": "date"})
    tag = Comparison(comparator=Comparator.CONTAIN, attribute="tags", value="x")
    neither = Operation(operator=Operator.NOT, arguments=[day, tag])
    assert translator.visit_structured_query(StructuredQuery(query="q", filter=neither, limit=None)) == (
        "q",
        {"filter": {"$not": {"$and": [{"day": {"gt": "2024-05-31"}}, {"tags": {"eq": "x"}}]}}},
    )
    with pytest.raises(ValueError, match="like"):
        translator.visit_comparison(Comparison(comparator=Comparator.LIKE, attribute="a", value="x"))


def test_one_changed_page_is_one_changed_page_for_the_indexing_api(tmp_path: Path) -> None:
    import pymupdf

    path = tmp_path / "handbook.pdf"

    def write(texts: list[str], day: str, colour: tuple[float, float, float] | None = None) -> None:
        with pymupdf.open() as document:
            for text in texts:
                page = document.new_page()
                page.insert_text((72, 72), text)
                if colour is not None and text == texts[0]:
                    page.draw_rect((200, 200, 300, 300), fill=colour)
            document.set_metadata({"creationDate": f"D:{day}120000Z", "modDate": f"D:{day}130000Z", "producer": day})
            document.save(path)

    store, records = keeping(), InMemoryRecordManager("handbook")

    def run() -> tuple[int, int, int]:
        counts = index(
            VisRAGLoader(path), records, store, cleanup="incremental", source_id_key="source", key_encoder="sha256"
        )
        return counts["num_added"], counts["num_skipped"], counts["num_deleted"]

    texts = [f"Page {number} stays." for number in range(1, 6)]
    write(texts, "20240101")
    assert run() == (5, 0, 0)
    write(texts, "20240202")  # written again: nothing that can be seen has changed
    assert run() == (0, 5, 0)
    write([*texts[:4], "Page 5 is new."], "20240303")
    assert run() == (1, 4, 1)
    write([*texts[:4], "Page 5 is new.", "Page 6."], "20240404")  # a page more
    assert run() == (1, 5, 0)
    write([*texts[:4], "Page 5 is new.", "Page 6."], "20240404", (1, 0, 0))  # another picture, the same text
    assert run() == (1, 5, 1)
    assert store.store.count() == 6


# --- what the model is shown ------------------------------------------------------------------------------------------


def test_a_prompt_of_ones_own(store: VisRAGVectorStore) -> None:
    documents = store.similarity_search("violin", k=2)
    content = pages_to_content(documents, max_pixels=10_000)
    assert [block["type"] for block in content] == ["text", "image"] * 2
    assert all(block.keys() == {"type", "text"} for block in content if block["type"] == "text")
    assert texts_in(content)[0] == f"[1] {documents[0].metadata['source']}, page {documents[0].metadata['number']}:"
    assert all(picture.width * picture.height <= 10_000 for picture in pictures_in(content))
    assert texts_in(pages_to_content(documents, captions=False, text_only=True)) == [
        one.page_content for one in documents
    ]
    # ChatEVisRAG knows from the blocks which page it cites.
    said = ChatEVisRAG("extractive").invoke([HumanMessage([{"type": "text", "text": "How many strings?"}, *content])])
    citation = said.content_blocks[-1]["annotations"][0]  # type: ignore[typeddict-item]
    assert citation["extras"]["number"] == 1  # type: ignore[typeddict-item]


AGENTS = ["create_react_agent", "create_agent"]


def agent_of(name: str, model: Any, tools: list[Any], **settings: Any) -> Any:
    if name == "create_react_agent":
        return create_react_agent(model, tools, **settings)
    agents = pytest.importorskip("langchain.agents")
    return agents.create_agent(model, tools, **settings)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
async def test_the_tool_in_an_agent(store: VisRAGVectorStore, name: str, way: str) -> None:
    model = ScriptedChat(queue=[searching("violin strings"), "It has four."])
    tool = create_visrag_tool(store.as_retriever(search_kwargs={"k": 2}), max_pixels=40_000)
    agent = agent_of(name, model, [tool])
    asked = {"messages": [HumanMessage("How many strings?")]}
    if way == "invoke":
        last = agent.invoke(asked)["messages"][-1]
    elif way == "ainvoke":
        last = (await agent.ainvoke(asked))["messages"][-1]
    elif way == "stream":
        last = list(agent.stream(asked, stream_mode="values"))[-1]["messages"][-1]
    else:
        last = [piece async for piece in agent.astream(asked, stream_mode="values")][-1]["messages"][-1]
    assert last.text == "It has four."
    (result,) = (message for message in model.shown[1] if isinstance(message, ToolMessage))
    assert texts_in(result.content)[0].endswith("lessons.pdf, page 1:")
    assert len(pictures_in(result.content)) == 2
    assert all(picture.width * picture.height <= 40_000 for picture in pictures_in(result.content))
    assert result.artifact[0].metadata["number"] == 1


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("query", ["", "  ", "\n"])
async def test_a_model_is_told_of_its_empty_query_and_asks_again(
    store: VisRAGVectorStore, name: str, query: str
) -> None:
    """An error of the search itself would end the agent's run."""
    for asynchronous in (False, True):
        model = ScriptedChat(queue=[searching(query), searching("violin strings"), "It has four."])
        agent = agent_of(name, model, [create_visrag_tool(store.as_retriever(search_kwargs={"k": 1}))])
        asked = {"messages": [HumanMessage("How many strings?")]}
        ended = await agent.ainvoke(asked) if asynchronous else agent.invoke(asked)
        assert ended["messages"][-1].text == "It has four."
        (told,) = (message for message in model.shown[1] if isinstance(message, ToolMessage))
        assert told.status == "error"
        assert "say what to look for, in words" in told.text
        found = [message for message in model.shown[2] if isinstance(message, ToolMessage)][-1]
        assert (found.status, found.artifact[0].metadata["number"]) == ("success", 1)


def test_a_tool_node_alone(store: VisRAGVectorStore) -> None:
    node = ToolNode([create_visrag_tool(store.as_retriever(search_kwargs={"k": 1}), text_only=True)])
    graph = StateGraph(_Messages)
    graph.add_node("tools", node)
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    (message,) = graph.compile().invoke({"messages": [searching("taxes")]})["messages"]
    assert texts_in(message.content)[1].split() == TEXTS[2].split()
    empty = create_visrag_tool(VisRAGVectorStore.from_documents([], "ocr").as_retriever())
    assert empty.invoke({"query": "x"}) == [{"type": "text", "text": "No page fits this query."}]


class _Messages(TypedDict):
    messages: list[BaseMessage]


@pytest.mark.parametrize("name", AGENTS)
def test_no_pictures_in_a_checkpoint(store: VisRAGVectorStore, name: str) -> None:
    model = ScriptedChat(queue=[searching("violin"), "Four.", searching("cello"), "The floor."])
    tool = create_visrag_tool(store.as_retriever(search_kwargs={"k": 2}), pictures=False)
    saver = InMemorySaver()
    settings: dict[str, Any] = {}
    if name == "create_react_agent":
        # Not `pre_model_hook`: what it gives is written into the checkpoint too.
        settings["prompt"] = lambda state: with_tool_pictures(state["messages"])
    else:
        middleware = pytest.importorskip("langchain.agents.middleware")

        @middleware.wrap_model_call
        def show_pictures(request: Any, handler: Any) -> Any:
            return handler(request.override(messages=with_tool_pictures(request.messages)))

        settings["middleware"] = [show_pictures]
    config: Any = {"configurable": {"thread_id": "1"}}
    for question in ("How many strings?", "Where does it stand?"):
        # A new agent each time, as another process would have: all it knows is in the checkpoint.
        agent = agent_of(name, model, [tool], checkpointer=saver, **settings)
        last = agent.invoke({"messages": [HumanMessage(question)]}, config)["messages"][-1]
    assert last.text == "The floor."
    results = [message for message in model.shown[-1] if isinstance(message, ToolMessage)]
    assert [len(pictures_in(message.content)) for message in results] == [2, 2]
    written = sum(len(value) for _, value in saver.blobs.values())
    shown = sum(len(block["base64"]) for message in results for block in message.content if block["type"] == "image")
    assert written < 100_000 < shown * 10


class _Answered(TypedDict, total=False):
    question: str
    answer: Answer
    evidence: list[Evidence]
    context: list[Document]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inside", ["memory", "folder"])
def test_answers_are_kept_by_a_checkpointer(pdf: Path, tmp_path: Path, inside: str) -> None:
    place = ":memory:" if inside == "memory" else tmp_path / "index"
    store = VisRAGVectorStore.from_documents(VisRAGLoader(pdf).lazy_load(), "ocr", location=place)
    chain = create_visrag_chain(store.as_retriever(search_kwargs={"k": 2}), ChatEVisRAG("extractive"))

    def answer(state: _Answered) -> _Answered:
        said = chain.invoke(state["question"])
        return {"answer": said["result"], "evidence": said["evidence"], "context": said["context"]}

    graph = StateGraph(_Answered)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=checkpoint_types()))
    compiled = graph.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    said = compiled.invoke({"question": "How many strings has a violin?"}, config)
    kept = compiled.get_state(config).values
    assert isinstance(kept["answer"], Answer)
    assert kept["answer"].text == said["answer"].text
    assert (kept["evidence"][0].text, kept["evidence"][0].page_index) == (
        said["evidence"][0].text,
        said["evidence"][0].page_index,
    )
    page = kept["answer"].evidence[0].page
    assert page.open_image().size == said["answer"].evidence[0].page.open_image().size
    assert kept["context"] == said["context"]
    assert sum(len(value) for _, value in saver.blobs.values()) < 100_000
    store.close()
