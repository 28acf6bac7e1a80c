"""What users of LlamaIndex's Qdrant store do with it, done with ours: add, query by mode, filters, delete, async.

The scenarios are those of its documentation (vector stores, metadata filters, hybrid search); keys that other parts of
this library use (`doc_id`, `tenant`, `number`, `page_label`) are the user's own here.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from PIL import Image
from qdrant_client import QdrantClient

from visrag_integrations import PageReader, PageRetriever, QdrantPageStore
from visrag_integrations.errors import FilterError, SettingError
from visrag_integrations.llamaindex import (
    EVisRAGLLM,
    PageNodeParser,
    VisRAGQueryEngine,
    VisRAGReader,
    VisRAGRerank,
    VisRAGRetriever,
    VisRAGVectorStore,
)
from visrag_integrations.llamaindex import filters as filters_module
from visrag_integrations.types import Page

BOTH_ENGINES = pytest.mark.parametrize("store", ["folder", "memory"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QdrantPageStore]:
    folder = getattr(request, "param", "memory") == "folder"
    with QdrantPageStore(tmp_path / "index" if folder else ":memory:") as opened:
        yield opened


@pytest.fixture
def vector_store(store: QdrantPageStore) -> VisRAGVectorStore:
    return VisRAGVectorStore(store, PixelEmbedder())


def node(id_: str, text: str = "text", *, ref: str | None = None, **metadata: Any) -> TextNode:
    relationships: dict[Any, Any] = {}
    if ref is not None:
        relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref)}
    return TextNode(id_=id_, text=text, metadata=metadata, relationships=relationships)


def filters(*parts: tuple[str, str, Any], condition: str = "and") -> MetadataFilters:
    made: list[Any] = []
    for key, operator, value in parts:
        made.append(MetadataFilter(key=key, value=value, operator=FilterOperator(operator)))
    return MetadataFilters(filters=made, condition=FilterCondition(condition))


def ids(vector_store: VisRAGVectorStore, asked: MetadataFilters | None, **query: Any) -> set[str]:
    """By every way there is to ask."""
    nodes = {found.node_id for found in vector_store.get_nodes(filters=asked)} if asked else None
    hits = vector_store.query(VectorStoreQuery(query_str="text", similarity_top_k=99, filters=asked, **query)).ids
    assert nodes is None or nodes == set(hits or ())
    return set(hits or ())


# --- the user's own keys ---------------------------------------------------------------------------------------------

OWN = [
    node("a", ref="R1", doc_id="D7", number=1, tenant="ada", page_label="iv", source="s3://x", page=0, image="no"),
    node("b", ref="R1", doc_id="D8", number=2, tenant="bob", page_label="3", sources=["q"], _node="mine"),
    node("c", ref="R2", document_id="own", file_name="c.txt", file_path="d/c.txt", tenant="bob"),
    node("d"),
]


@BOTH_ENGINES
def test_a_filter_sees_what_the_node_shows(vector_store: VisRAGVectorStore) -> None:
    vector_store.add(OWN)
    back = vector_store.get_nodes([one.node_id for one in OWN])
    assert [one.to_dict() for one in back] == [one.to_dict() for one in OWN]
    expected: list[tuple[str, str, Any, set[str]]] = [
        ("doc_id", "==", "D7", {"a"}),
        ("doc_id", "!=", "D7", {"b", "c", "d"}),
        ("doc_id", "in", ["D7", "D8"], {"a", "b"}),
        ("doc_id", "nin", ["D7", "D8"], {"c", "d"}),
        ("doc_id", "==", "R2", {"c"}),  # it shows none of its own: LlamaIndex's id of the document
        ("ref_doc_id", "==", "R1", {"a", "b"}),
        ("document_id", "==", "R1", {"a", "b"}),
        ("document_id", "==", "own", {"c"}),
        ("document_id", "==", "R2", set()),
        ("number", "==", 1, {"a"}),
        ("number", "!=", 1, {"b", "c", "d"}),
        ("number", ">=", 1, {"a", "b"}),
        ("number", "is_empty", None, {"c", "d"}),
        ("page", "==", 0, {"a"}),
        ("page", "is_empty", None, {"b", "c", "d"}),
        ("tenant", "==", "ada", {"a"}),
        ("tenant", "!=", "ada", {"b", "c", "d"}),
        ("tenant", "text_match", "b", {"b", "c"}),
        ("page_label", "==", "iv", {"a"}),
        ("page_label", "==", "3", {"b"}),
        ("page_label", "==", "1", set()),  # of a page numbered 1, but not what the node shows
        ("source", "==", "s3://x", {"a"}),
        ("sources", "contains", "q", {"b"}),
        ("image", "==", "no", {"a"}),
        ("file_name", "==", "c.txt", {"c"}),
        ("file_path", "text_match_insensitive", "D/C", {"c"}),
        ("_node", "==", "mine", set()),  # ours; the node still shows it
    ]
    for key, operator, value, wanted in expected:
        assert ids(vector_store, filters((key, operator, value))) == wanted, (key, operator, value)


@BOTH_ENGINES
def test_deleting_by_a_filter_removes_what_shows_it_and_nothing_else(vector_store: VisRAGVectorStore) -> None:
    vector_store.add(OWN)
    vector_store.delete_nodes(filters=filters(("number", "==", 1)))
    assert ids(vector_store, None) == {"b", "c", "d"}
    vector_store.delete_nodes(filters=filters(("number", "==", 7)))
    vector_store.delete("D8")  # a key of the user's own, no document of LlamaIndex
    assert ids(vector_store, None) == {"b", "c", "d"}
    vector_store.delete("R2")
    assert ids(vector_store, None) == {"b", "d"}
    vector_store.delete_nodes(["b"], filters(("doc_id", "==", "D7")))
    assert ids(vector_store, None) == {"b", "d"}
    vector_store.delete_nodes(["b"], filters(("doc_id", "==", "D8")))
    assert ids(vector_store, None) == {"d"}


@BOTH_ENGINES
def test_filters_on_pages_of_the_core_see_what_their_nodes_show(store: QdrantPageStore, tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    pages = [
        Page("d1", 1, "text one", "reports/a.pdf", {"page_label": "i"}),
        Page("d1", 2, "text two", "reports/a.pdf"),
        Page("d2", 2, "text three", "letters/b.pdf", tenant="ada"),
    ]
    store.prepare(embedder)
    store.add_pages(pages, embedder.embed_pages(pages))
    vector_store = VisRAGVectorStore(store, embedder)
    one, two, three = (page.id for page in pages)
    for found in vector_store.get_nodes():
        for key, value in found.metadata.items():
            assert found.node_id in ids(vector_store, filters((key, "==", value))), (key, value)
    expected: list[tuple[str, str, Any, set[str]]] = [
        ("file_name", "==", "a.pdf", {one, two}),
        ("file_name", "!=", "a.pdf", {three}),
        ("file_path", "==", "reports/a.pdf", {one, two}),
        ("file_path", "==", "a.pdf", set()),
        ("file_name", "text_match", "b.p", {three}),
        ("page_label", "==", "i", {one}),
        ("page_label", "==", "2", {two, three}),
        ("page_label", "in", ["i", "2"], {one, two, three}),
        ("page_label", "!=", "2", {one}),
        ("doc_id", "==", "d1", {one, two}),
        ("ref_doc_id", "==", "d2", {three}),
        ("number", ">", 1, {two, three}),
    ]
    for key, operator, value, wanted in expected:
        assert ids(vector_store, filters((key, operator, value))) == wanted, (key, operator, value)
    retriever = VisRAGRetriever(PageRetriever(embedder, store), 9, filters=filters(("file_name", "==", "b.pdf")))
    assert [found.node_id for found in retriever.retrieve("text")] == [three]
    vector_store.delete("d1")
    assert ids(vector_store, None) == {three}


# --- tenants --------------------------------------------------------------------------------------------------------


@BOTH_ENGINES
async def test_a_tenant_sees_and_changes_only_what_is_theirs(store: QdrantPageStore) -> None:
    embedder = PixelEmbedder()
    everybody = {name: VisRAGVectorStore(store, embedder, tenant=name) for name in ("ada", "bob")}
    for name, own in everybody.items():
        await own.async_add([node("same", f"text of {name}", ref="R", tenant="eve"), node(f"of {name}", "text")])
    ada, bob = everybody["ada"], everybody["bob"]
    widening = [
        filters(("tenant", "==", "bob")),
        filters(("tenant", "!=", "ada")),
        filters(("tenant", "==", "bob"), ("number", "is_empty", None), condition="or"),
        MetadataFilters(filters=[filters(("tenant", "==", "ada"))], condition=FilterCondition.NOT),
    ]
    for asked in widening:
        found = ids(ada, asked)
        assert "of bob" not in found
        texts = [one.get_content() for one in ada.get_nodes(filters=asked)]
        assert "text of bob" not in texts
    assert ids(ada, filters(("tenant", "==", "eve"))) == {"same"}  # a key of the user's own
    assert ids(ada, None) == {"same", "of ada"}
    for mode in VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR:
        assert ids(ada, None, mode=mode) == {"same", "of ada"}
    assert [one.get_content() for one in await ada.aget_nodes(["same", "of bob"])] == ["text of ada"]
    await ada.adelete("R")
    await ada.adelete_nodes(["of bob"])
    await ada.adelete_nodes(filters=filters(("tenant", "!=", "nobody"), ("tenant", "==", "bob"), condition="or"))
    assert ids(ada, None) == set()
    assert ids(bob, None) == {"same", "of bob"}
    ada.clear()
    assert ids(bob, None) == {"same", "of bob"}
    retriever = VisRAGRetriever(PageRetriever(embedder, store), 9, tenant="ada", filters={"tenant": "bob"})
    assert retriever.retrieve("text") == []
    retriever = VisRAGRetriever(PageRetriever(embedder, store), 9, tenant="bob")
    assert len(retriever.retrieve("text")) == 2
    with pytest.raises(SettingError, match="needs a PageRetriever"):
        VisRAGRetriever(_Foreign(), tenant="bob")


class _Foreign:
    def retrieve(self, query: str, top_k: int = 5, **_: Any) -> list[Any]:
        return []


def test_pages_that_the_core_indexed_for_a_tenant_are_theirs(store: QdrantPageStore, tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    own = store.of_tenant("ada")
    pages = list(PageReader(ocr="never").read(draw_pdf(tmp_path / "a.pdf", ["apples", "bananas"])))
    own.prepare(embedder)
    own.add_pages(pages, embedder.embed_pages(pages))
    vector_store = VisRAGVectorStore(store, embedder, tenant="ada")
    found = vector_store.query(VectorStoreQuery(query_str="apples", similarity_top_k=1)).nodes or []
    assert [one.node_id for one in vector_store.get_nodes([found[0].node_id])] == [found[0].node_id]
    asked = VectorStoreQuery(query_str="a", similarity_top_k=9, node_ids=[found[0].node_id])
    assert vector_store.query(asked).ids == [found[0].node_id]
    assert VisRAGVectorStore(store, embedder, tenant="bob").get_nodes([found[0].node_id]) == []
    vector_store.delete_nodes([found[0].node_id])
    assert len(vector_store.get_nodes()) == 1


# --- what comes back -------------------------------------------------------------------------------------------------


@BOTH_ENGINES
def test_dates_numbers_and_ids_in_their_json_form(vector_store: VisRAGVectorStore) -> None:
    day, key = datetime.date(2024, 5, 1), uuid.UUID(int=7)
    parent = {NodeRelationship.PARENT: RelatedNodeInfo(node_id="p", metadata={"seen": day, "n": np.float32(0.5)})}
    given = TextNode(
        id_="a",
        text="text",
        metadata={"day": day, "at": datetime.datetime(2024, 5, 1, 12), "n": np.int64(3), "key": key, "v": np.arange(2)},
        relationships=parent,
    )
    vector_store.add([given])
    (back,) = vector_store.get_nodes(["a"])
    assert back.metadata == {"day": "2024-05-01", "at": "2024-05-01T12:00:00", "n": 3, "key": str(key), "v": [0, 1]}
    assert list(back.metadata) == list(given.metadata)
    assert back.parent_node is not None
    assert back.parent_node.metadata == {"seen": "2024-05-01", "n": 0.5}
    assert ids(vector_store, filters(("n", "==", 3), ("key", "==", str(key)))) == {"a"}
    assert vector_store.get_nodes(filters={"day": {"gte": day}})[0].node_id == "a"  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="'thing'"):
        vector_store.add([node("b", thing=object())])


@BOTH_ENGINES
def test_embeddings_come_back_when_asked_for(vector_store: VisRAGVectorStore) -> None:
    vector_store.add([node("a", "apple"), node("b", "banana")])
    assert [one.embedding for one in vector_store.get_nodes()] == [None, None]
    wanted = PixelEmbedder().embed_queries(["apple"])[0]
    wanted = wanted / np.linalg.norm(wanted)
    (back,) = vector_store.get_nodes(["a"], with_embeddings=True)
    assert np.allclose(back.embedding, wanted, atol=1e-6)
    asked = VectorStoreQuery(query_str="apple", similarity_top_k=1, output_fields=["embedding"])
    (found,) = vector_store.query(asked).nodes or []
    assert np.allclose(found.embedding, wanted, atol=1e-6)
    always = VisRAGVectorStore(vector_store.client, PixelEmbedder(), with_embeddings=True)
    (found,) = always.query(VectorStoreQuery(query_str="apple", similarity_top_k=1)).nodes or []
    assert found.embedding is not None


@BOTH_ENGINES
def test_equal_pages_are_equal_nodes(store: QdrantPageStore, tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    for colour in ("red", "blue", "green"):
        Image.new("RGB", (60, 60), colour).save(tmp_path / f"{colour}.png")
    reader = VisRAGReader(image_dir=tmp_path / "p", ocr="never")
    documents = reader.load_data([tmp_path / f"{colour}.png" for colour in ("red", "blue", "green")])
    index = VectorStoreIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=VisRAGVectorStore(store, embedder)),
        embed_model=VisRAGVectorStore(store, embedder).embed_model,
        transformations=[PageNodeParser()],
    )
    one = index.as_retriever(similarity_top_k=3).retrieve("a a a a")
    other = index.as_retriever(similarity_top_k=3).retrieve("z")
    assert {found.node.hash for found in one} == {found.node.hash for found in other}
    assert [found.node.get_content() for found in one] == ["", "", ""]
    assert len({found.node.hash for found in one}) == 3  # pages without a text are not taken for each other
    assert {found.score for found in one} != {found.score for found in other}


# --- ways to search -------------------------------------------------------------------------------------------------


@BOTH_ENGINES
def test_alpha_weighs_the_halves_of_a_hybrid_query(vector_store: VisRAGVectorStore) -> None:
    # "aab" is nearest by its letters, "zebra abab" has the word.
    vector_store.add([node("letters", "aab"), node("word", "zebra aabb"), node("none", "xxxx")])

    def found(alpha: float | None) -> list[str]:
        asked = VectorStoreQuery(
            query_str="zebra", mode=VectorStoreQueryMode.HYBRID, similarity_top_k=3, hybrid_top_k=3, alpha=alpha
        )
        asked.query_embedding = PixelEmbedder().embed_queries(["aab"])[0].tolist()
        return list(vector_store.query(asked).ids or ())

    assert found(0.0) == ["word"]
    assert found(1.0)[0] == "letters"
    assert found(0.9)[0] == "letters"
    assert found(0.1)[0] == "word"
    assert set(found(None)) >= {"letters", "word"}
    with pytest.raises(SettingError, match=r"alpha is 1\.5"):
        found(1.5)


@BOTH_ENGINES
def test_different_pages_come_first(vector_store: VisRAGVectorStore, tmp_path: Path) -> None:
    class PicturesAlone(PixelEmbedder):
        name, reads = "pictures", "pixels"

        def _vector(self, text: str, image: Any) -> Any:
            return super()._vector("" if image is not None else text, image)

    embedder = PicturesAlone()
    store = VisRAGVectorStore(vector_store.client, embedder)
    texts = [" ".join(f"{word} {n}." for n in range(25)) for word in ("Apple", "Banana", "Cherry")]
    documents = VisRAGReader(image_dir=tmp_path / "p", ocr="never").load_data(draw_pdf(tmp_path / "a.pdf", texts))
    nodes = SentenceSplitter(chunk_size=60, chunk_overlap=0).get_nodes_from_documents(documents)
    assert len(nodes) > 9
    store.add(nodes)
    assert embedder.embedded == 3  # each picture once, not once a piece
    three = store.query(VectorStoreQuery(query_str="Apple", similarity_top_k=3)).nodes or []
    assert len({found.ref_doc_id for found in three}) == 3
    everything = store.query(VectorStoreQuery(query_str="Apple", similarity_top_k=99))
    assert set(everything.ids or ()) == {one.node_id for one in nodes}
    assert list(everything.similarities or ()) == sorted(everything.similarities or (), reverse=True)
    of_one = [one.node_id for one in nodes if one.ref_doc_id == documents[0].id_]
    some = store.query(VectorStoreQuery(query_str="Apple", similarity_top_k=2, node_ids=of_one))
    assert len(set(some.ids or ()) & set(of_one)) == 2
    # A page of which all pieces were found is shown to a model once.
    generator = ScriptedGenerator("<evidence>[1]: 12\n[2]: 13</evidence><answer>12</answer>")
    engine = VisRAGQueryEngine(_Foreign(), EVisRAGLLM(generator=generator))  # type: ignore[arg-type]
    shown = [NodeWithScore(node=one, score=1.0) for one in nodes if one.ref_doc_id != documents[2].id_]
    response = engine.synthesize(QueryBundle("How many?"), shown)
    (first, second) = generator.batches[0][0][0].pages
    assert "Apple 0." in first.text
    assert "Apple 24." in first.text
    assert "Banana 24." in second.text
    node_ids = [entry["node_id"] for entry in response.metadata["evidence"]]  # type: ignore[index]
    refs = {one.node_id: one.ref_doc_id for one in nodes}
    assert [refs[id_] for id_ in node_ids] == [documents[0].id_, documents[1].id_]
    assert json.loads(json.dumps(response.metadata))["evidence"][0]["text"] == "12"


# --- as LlamaIndex's Qdrant store is written -------------------------------------------------------------------------


def test_places_as_users_write_them(tmp_path: Path) -> None:
    with_path = VisRAGVectorStore(path=tmp_path / "q", collection_name="mine", embedder=PixelEmbedder())
    with_path.add([node("a")])
    with_path.close()
    with QdrantPageStore(tmp_path / "q", "mine") as store:
        assert store.count() == 1
    again = VisRAGVectorStore(None, PixelEmbedder(), path=str(tmp_path / "q"), collection_name="mine")
    assert ids(again, None) == {"a"}
    again.close()
    client = QdrantClient(":memory:")
    by_client = VisRAGVectorStore(client=client, collection_name="mine", embedder=PixelEmbedder())
    by_client.add([node("b")])
    assert by_client.client.count() == 1
    assert client.collection_exists("mine")
    with pytest.raises(SettingError, match="One store is needed"):
        VisRAGVectorStore(embedder=PixelEmbedder())
    with pytest.raises(SettingError, match="One store is needed"):
        VisRAGVectorStore(path="a", url="http://localhost:6333", embedder=PixelEmbedder())
    with pytest.raises(SettingError, match="has its own"):
        VisRAGVectorStore(by_client.client, PixelEmbedder(), collection_name="other")


def test_unknown_arguments_are_refused_with_the_nearest_known_one(
    vector_store: VisRAGVectorStore, tmp_path: Path
) -> None:
    retriever = PageRetriever(PixelEmbedder(), vector_store.client)
    tries: list[tuple[Any, str]] = [
        (lambda: VisRAGVectorStore(vector_store.client, PixelEmbedder(), fetch_url=True), "'fetch_urls'"),
        (lambda: VisRAGVectorStore(path=tmp_path, embedder=PixelEmbedder(), colection_name="a"), "'collection_name'"),
        (lambda: VisRAGVectorStore(path=tmp_path, embedder=PixelEmbedder(), enable_hybrid=True), "every store can"),
        (lambda: VisRAGRetriever(retriever, similarity_topk=3), "'similarity_top_k'"),
        (lambda: VisRAGRetriever(retriever, filter={"a": 1}), "it is filters"),
        (lambda: VisRAGRerank(PixelEmbedder(), topn=3), "'top_n'"),
        (lambda: VisRAGReader(image_dirs="a"), "'image_dir'"),
        (lambda: VisRAGReader(ocrs="never"), "'ocr'"),
        (lambda: vector_store.query(VectorStoreQuery(query_str="a"), tenant="ada"), "no argument 'tenant'"),
        (lambda: vector_store.add([], tenant="ada"), "no argument 'tenant'"),
        (lambda: vector_store.delete("a", filters=None), "no argument 'filters'"),
    ]
    for attempt, told in tries:
        with pytest.raises(SettingError, match=told):
            attempt()


def test_a_text_that_is_everywhere(vector_store: VisRAGVectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters_module, "_MOST_MATCHES", 3)
    vector_store.add([node(str(n), title="the same") for n in range(4)])
    with pytest.raises(FilterError, match="more than 3 pages"):
        vector_store.get_nodes(filters=filters(("title", "text_match", "same")))
