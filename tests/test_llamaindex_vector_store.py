from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import ImageNode, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQueryMode
from PIL import Image

from visrag_integrations import QdrantPageStore
from visrag_integrations.errors import FilterError, SettingError
from visrag_integrations.images import open_picture
from visrag_integrations.llamaindex import (
    PageNodeParser,
    VisRAGEmbedding,
    VisRAGReader,
    VisRAGVectorStore,
    open_node_image,
)
from visrag_integrations.llamaindex.convert import page_id
from visrag_integrations.types import Page

TEXTS = ["apples are red", "bananas are yellow", ""]


class PatchEmbedder(PixelEmbedder):
    """Two vectors a page."""

    name, kind = "patches", "multi"

    def _vector(self, text: str, image: Any) -> Any:
        vector = super()._vector(text, image)
        return np.stack([vector, np.where(np.arange(len(vector)) < 48, 0, vector)]).astype(np.float32)


BOTH_ENGINES = pytest.mark.parametrize("store", ["folder", "memory"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QdrantPageStore]:
    folder = getattr(request, "param", "memory") == "folder"
    with QdrantPageStore(tmp_path / "index" if folder else ":memory:") as opened:
        yield opened


@pytest.fixture
def documents(tmp_path: Path) -> list[Any]:
    reader = VisRAGReader(image_dir=tmp_path / "pictures", ocr="never")
    return reader.load_data(draw_pdf(tmp_path / "a.pdf", TEXTS))


@pytest.fixture
def vector_store(store: QdrantPageStore) -> VisRAGVectorStore:
    return VisRAGVectorStore(store=store, embedder=PixelEmbedder())


def picture_vectors(documents: list[Any]) -> list[Any]:
    pages = [Page("x", 1, document.text, picture=Path(document.image_path)) for document in documents]
    return [vector / np.linalg.norm(vector) for vector in PixelEmbedder().embed_pages(pages)]


def stored_vectors(store: QdrantPageStore) -> dict[str, Any]:
    """By the first words of the page."""
    pages = list(store.scroll())
    vectors = store.get_embeddings([page.id for page in pages])
    return {page.text: vectors[page.id] for page in pages}


def assert_picture_vectors(store: QdrantPageStore, documents: list[Any]) -> None:
    stored = stored_vectors(store)
    assert len(stored) == len(documents) == store.count()
    for document, vector in zip(documents, picture_vectors(documents), strict=True):
        assert np.allclose(stored[document.text], vector, atol=1e-6)


@pytest.mark.parametrize("own_model", [False, True])
def test_an_index_from_documents_holds_picture_vectors(
    vector_store: VisRAGVectorStore, documents: list[Any], own_model: bool
) -> None:
    model = VisRAGEmbedding(embedder=PixelEmbedder()) if own_model else vector_store.embed_model
    index = VectorStoreIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=vector_store),
        embed_model=model,
        transformations=[PageNodeParser()],
    )
    assert_picture_vectors(vector_store.client, documents)
    (found, *_) = index.as_retriever(similarity_top_k=2).retrieve("bananas yellow")
    assert isinstance(found.node, ImageNode)
    assert found.node.text == TEXTS[1]
    assert found.node.ref_doc_id == documents[1].id_
    assert open_node_image(found).size == open_picture(Path(documents[1].image_path)).size


@BOTH_ENGINES
@pytest.mark.parametrize("batch", [1, 2, 99])
def test_every_piece_of_a_page_is_kept(vector_store: VisRAGVectorStore, tmp_path: Path, batch: int) -> None:
    from llama_index.core.node_parser import SentenceSplitter

    long = draw_pdf(tmp_path / "long.pdf", [" ".join(f"Sentence {n}." for n in range(25)), "short"])
    documents = VisRAGReader(image_dir=tmp_path / "pictures", ocr="never").load_data(long)
    nodes = SentenceSplitter(chunk_size=40, chunk_overlap=0).get_nodes_from_documents(documents)
    assert len(nodes) > 3
    ids = []
    for start in range(0, len(nodes), batch):
        ids += vector_store.add(nodes[start : start + batch])
    assert ids == [node.node_id for node in nodes]
    assert vector_store.client.count() == len(nodes)
    back = vector_store.get_nodes(ids)
    assert [_as_stored(node) for node in back] == [_as_stored(node) for node in nodes]
    sizes = [open_node_image(node).size for node in nodes]
    assert [open_node_image(node).size for node in back] == sizes
    assert [node.hash for node in back] == [node.hash for node in vector_store.get_nodes(ids)]
    (last,) = (
        vector_store.query(
            VectorStoreQuery(query_str="24", mode=VectorStoreQueryMode.TEXT_SEARCH, similarity_top_k=1)
        ).nodes
        or []
    )
    assert "Sentence 24." in last.get_content()
    vector_store.delete_nodes(ids[:1])
    assert {node.node_id for node in vector_store.get_nodes()} == set(ids[1:])
    vector_store.delete(documents[0].id_)
    assert [node.text for node in vector_store.get_nodes()] == ["short"]  # type: ignore[attr-defined]


def _as_stored(node: Any) -> dict[str, Any]:
    """The node without where its picture is: the store has a file of its own, or the picture is in the node."""
    return {key: value for key, value in node.to_dict().items() if key not in ("image", "image_path")}


@BOTH_ENGINES
def test_insert_refresh_and_delete(vector_store: VisRAGVectorStore, documents: list[Any], tmp_path: Path) -> None:
    store = vector_store.client
    index = VectorStoreIndex.from_vector_store(
        vector_store, embed_model=vector_store.embed_model, transformations=[PageNodeParser()]
    )
    index.insert(documents[0])
    assert_picture_vectors(store, documents[:1])
    assert index.refresh_ref_docs(documents) == [False, True, True]
    assert_picture_vectors(store, documents)
    reader = VisRAGReader(image_dir=tmp_path / "pictures", ocr="never")
    changed = reader.load_data(draw_pdf(tmp_path / "a.pdf", [TEXTS[0], "cherries now", ""]))
    assert index.refresh_ref_docs(changed) == [False, True, False]
    assert_picture_vectors(store, changed)
    index.delete_ref_doc(documents[0].id_, delete_from_docstore=True)
    assert {page.text for page in store.scroll()} == {"cherries now", ""}
    index.delete_nodes([node.node_id for node in vector_store.get_nodes() if node.text])
    assert [page.text for page in store.scroll()] == [""]


async def test_async_index(vector_store: VisRAGVectorStore, documents: list[Any]) -> None:
    index = VectorStoreIndex.from_vector_store(vector_store, embed_model=vector_store.embed_model)
    await index.ainsert_nodes(PageNodeParser()(documents))
    assert_picture_vectors(vector_store.client, documents)
    found = await index.as_retriever(similarity_top_k=1).aretrieve("apples red")
    assert [hit.node.text for hit in found] == [TEXTS[0]]
    await index.adelete_ref_doc(documents[0].id_)
    assert len(await vector_store.aget_nodes()) == 2
    await vector_store.aclear()
    assert vector_store.client.count() == 0


def test_multi_vectors(store: QdrantPageStore, documents: list[Any]) -> None:
    vector_store = VisRAGVectorStore(store=store, embedder=PatchEmbedder())
    assert not vector_store.is_embedding_query
    index = VectorStoreIndex.from_vector_store(vector_store, embed_model=MockEmbedding(embed_dim=4))
    index.insert_nodes(PageNodeParser()(documents))
    (found,) = index.as_retriever(similarity_top_k=1).retrieve("bananas yellow")
    assert found.node.text == TEXTS[1]
    stored = store.get_embeddings([page_id(found.node.node_id)])[page_id(found.node.node_id)]
    assert stored.shape == (2, PatchEmbedder.dimension)


def test_persist_and_reload(documents: list[Any], tmp_path: Path) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        vector_store = VisRAGVectorStore(store=store, embedder=PixelEmbedder())
        context = StorageContext.from_defaults(vector_store=vector_store)
        VectorStoreIndex(PageNodeParser()(documents), storage_context=context, embed_model=vector_store.embed_model)
        context.persist(str(tmp_path / "storage"))
    with QdrantPageStore(tmp_path / "index") as store:
        vector_store = VisRAGVectorStore(store=store, embedder=PixelEmbedder())
        context = StorageContext.from_defaults(vector_store=vector_store, persist_dir=str(tmp_path / "storage"))
        index = load_index_from_storage(context, embed_model=vector_store.embed_model)
        (found,) = index.as_retriever(similarity_top_k=1).retrieve("apples red")
        assert found.node.text == TEXTS[0]
        assert open_node_image(found).size == open_node_image(documents[0]).size


def test_nodes_come_back_as_they_were(vector_store: VisRAGVectorStore, tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    Image.new("RGB", (9, 9), "blue").save(picture)
    parent = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="parent")}
    nodes = [
        TextNode(
            id_="any id",
            text="words",
            metadata={"n": 1, "source": "a.txt", "page": "iv", "tags": ["a"]},
            relationships=parent,
        ),
        ImageNode(id_="pic", text="caption", image_path=str(picture), metadata={"doc_id": "mine", "source": "s"}),
        IndexNode(id_="ix", text="about", index_id="other"),
        TextNode(text="t", text_template="{content}", excluded_llm_metadata_keys=["n"], start_char_idx=3),
    ]
    before = [node.to_dict() for node in nodes]
    ids = vector_store.add(nodes)
    assert [node.to_dict() for node in nodes] == before
    back = vector_store.get_nodes(ids)
    assert [type(node) for node in back] == [type(node) for node in nodes]
    for node, found in zip(nodes, back, strict=True):
        own = {key: value for key, value in node.to_dict().items() if not key.startswith("image")}
        assert {key: value for key, value in found.to_dict().items() if not key.startswith("image")} == own
        assert isinstance(node, ImageNode) or found.hash == node.hash
    assert open_node_image(back[1]).size == (9, 9)
    assert [node.node_id for node in vector_store.get_nodes(["ix", "none", "pic"])] == ["ix", "pic"]


def test_given_vectors_of_texts_are_kept(vector_store: VisRAGVectorStore) -> None:
    axis = np.eye(PixelEmbedder.dimension)
    vector_store.add([TextNode(id_=str(n), text="same", embedding=axis[n].tolist()) for n in range(3)])
    found = vector_store.query(VectorStoreQuery(query_embedding=axis[1].tolist(), similarity_top_k=2))
    assert found.ids is not None
    assert found.similarities is not None
    assert found.ids[0] == "1"
    assert found.similarities[0] == pytest.approx(1.0)


def filtered(vector_store: VisRAGVectorStore, *filters: Any, condition: str = "and") -> set[str]:
    asked = MetadataFilters.model_validate({"filters": list(filters), "condition": condition})
    nodes = vector_store.get_nodes(filters=asked)
    hits = vector_store.query(VectorStoreQuery(query_str="a", similarity_top_k=9, filters=asked)).nodes or []
    assert {node.node_id for node in nodes} == {node.node_id for node in hits}
    return {node.node_id for node in nodes}


@BOTH_ENGINES
def test_every_filter_operator(vector_store: VisRAGVectorStore) -> None:
    metadata = {
        "a": {"year": 2019, "kind": "letter", "tags": ["x", "y"], "title": "The Red Fox"},
        "b": {"year": 2021, "kind": "form", "tags": ["y"], "title": "the red hen"},
        "c": {"year": 2024, "kind": "form", "tags": [], "title": ""},
        "d": {"kind": "memo"},
    }
    vector_store.add([TextNode(id_=id_, text=f"text {id_}", metadata=fields) for id_, fields in metadata.items()])
    expected: list[tuple[str, str, Any, set[str]]] = [
        ("kind", "==", "form", {"b", "c"}),
        ("kind", "!=", "form", {"a", "d"}),
        ("year", ">", 2021, {"c"}),
        ("year", ">=", 2021, {"b", "c"}),
        ("year", "<", 2021, {"a"}),
        ("year", "<=", 2021, {"a", "b"}),
        ("kind", "in", ["letter", "memo"], {"a", "d"}),
        ("kind", "nin", ["letter", "memo"], {"b", "c"}),
        ("tags", "any", ["x", "z"], {"a"}),
        ("tags", "all", ["x", "y"], {"a"}),
        ("tags", "contains", "y", {"a", "b"}),
        ("title", "text_match", "Red", {"a"}),
        ("title", "text_match_insensitive", "RED", {"a", "b"}),
        ("title", "text_match", "nothing", set()),
        ("text", "text_match", "xt c", {"c"}),
        ("tags", "is_empty", None, {"c", "d"}),
        ("title", "is_empty", None, {"c", "d"}),
        ("ref_doc_id", "==", "a", {"a"}),
    ]
    for key, operator, value, ids in expected:
        assert filtered(vector_store, {"key": key, "operator": operator, "value": value}) == ids, (key, operator)


def test_nested_filters(vector_store: VisRAGVectorStore) -> None:
    vector_store.add([TextNode(id_=f"{n}", text="t", metadata={"n": n, "even": n % 2 == 0}) for n in range(6)])
    small, large = {"key": "n", "operator": "<", "value": 2}, {"key": "n", "operator": ">", "value": 4}
    ends = {"filters": [small, large], "condition": "or"}
    assert filtered(vector_store, small, large, condition="or") == {"0", "1", "5"}
    assert filtered(vector_store, small, large, condition="not") == {"2", "3", "4"}
    assert filtered(vector_store, ends, {"key": "n", "operator": ">", "value": 0}) == {"1", "5"}
    assert filtered(vector_store, {"filters": [ends], "condition": "not"}) == {"2", "3", "4"}
    assert filtered(vector_store) == {str(n) for n in range(6)}


def test_filters_that_make_no_sense(vector_store: VisRAGVectorStore) -> None:
    vector_store.add([TextNode(text="t")])
    with pytest.raises(FilterError, match="takes a list"):
        filtered(vector_store, {"key": "n", "operator": "in", "value": 3})
    with pytest.raises(FilterError, match="takes a text"):
        filtered(vector_store, {"key": "n", "operator": "text_match", "value": 3})


def test_ways_to_search(vector_store: VisRAGVectorStore) -> None:
    vector_store.add([TextNode(id_=name, text=f"{name} {name}") for name in ("apple", "papel", "grape", "zzz")])

    def ids(mode: str, **more: Any) -> list[str]:
        asked = VectorStoreQuery(query_str="papel", mode=VectorStoreQueryMode(mode), similarity_top_k=2, **more)
        return list(vector_store.query(asked).ids or [])

    assert ids("text_search") == ids("sparse") == ["papel"]
    assert ids("hybrid")[0] == "papel"
    assert set(ids("default")) == {"apple", "papel"}  # the same letters
    assert ids("hybrid", hybrid_top_k=1) == ["papel"]
    assert "zzz" in ids("mmr", mmr_threshold=0.1)
    assert "zzz" not in ids("mmr", mmr_threshold=0.99)
    with pytest.raises(SettingError, match="'svm' is not known"):
        ids("svm")
    with pytest.raises(SettingError, match="neither a text nor an embedding"):
        vector_store.query(VectorStoreQuery())


def test_only_among_some(vector_store: VisRAGVectorStore) -> None:
    relation = {name: {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc {name}")} for name in "abc"}
    vector_store.add([TextNode(id_=name, text=name, relationships=relation[name]) for name in "abc"])

    def ids(**more: Any) -> set[str]:
        return set(vector_store.query(VectorStoreQuery(query_str="a", similarity_top_k=9, **more)).ids or [])

    assert ids(node_ids=["a", "c", "none"]) == {"a", "c"}
    assert ids(doc_ids=["doc b"]) == {"b"}
    assert ids(doc_ids=["doc b"], node_ids=["a"]) == set()
    vector_store.delete_nodes(["a"])
    vector_store.delete("doc b")
    assert ids() == {"c"}
    with pytest.raises(SettingError, match="clear"):
        vector_store.delete_nodes()
    vector_store.delete_nodes(filters=MetadataFilters.from_dicts([{"key": "document_id", "value": "doc c"}]))
    assert ids() == set()


@BOTH_ENGINES
async def test_nodes_are_deleted_only_where_both_ids_and_filters_fit(vector_store: VisRAGVectorStore) -> None:
    years = {"a": 1, "b": 2, "c": 2}
    nodes = [TextNode(id_=name, text=name, metadata={"year": year}) for name, year in years.items()]
    second = MetadataFilters.from_dicts([{"key": "year", "value": 2}])
    vector_store.add(nodes)
    vector_store.delete_nodes(["a", "b"], second)
    assert {node.node_id for node in vector_store.get_nodes()} == {"a", "c"}
    vector_store.add(nodes)
    await vector_store.adelete_nodes(["a", "b"], second)
    assert {node.node_id for node in vector_store.get_nodes()} == {"a", "c"}
    vector_store.delete_nodes(["a", "c"], MetadataFilters.from_dicts([{"key": "year", "value": 3}]))
    assert {node.node_id for node in vector_store.get_nodes()} == {"a", "c"}


@BOTH_ENGINES
def test_pages_of_the_core_are_nodes_too(store: QdrantPageStore, tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    page = Page("d1", 3, "apple", "reports/a.pdf", {"page_label": "iii"}, picture=Image.new("RGB", (5, 5), "red"))
    store.prepare(embedder)
    store.add_pages([page], embedder.embed_pages([page]))
    vector_store = VisRAGVectorStore(store=store, embedder=embedder)
    (node,) = vector_store.query(VectorStoreQuery(query_str="apple")).nodes or []
    assert isinstance(node, ImageNode)
    assert (node.node_id, node.ref_doc_id) == (page.id, "d1")
    assert {key: node.metadata[key] for key in ("page_label", "file_name", "file_path", "doc_id", "number")} == {
        "page_label": "iii",
        "file_name": "a.pdf",
        "file_path": "reports/a.pdf",
        "doc_id": "d1",
        "number": 3,
    }
    assert open_node_image(node).size == (5, 5)
    assert [found.node_id for found in vector_store.get_nodes([node.node_id])] == [page.id]
    vector_store.delete("d1")
    assert store.count() == 0


def test_empty_store(vector_store: VisRAGVectorStore) -> None:
    assert vector_store.add([]) == []
    assert vector_store.get_nodes() == []
    assert list(vector_store.query(VectorStoreQuery(query_str="a")).nodes or []) == []
    vector_store.clear()
    vector_store.delete("none")


def test_clear(vector_store: VisRAGVectorStore) -> None:
    vector_store.add([TextNode(text="a")])
    vector_store.clear()
    assert vector_store.get_nodes() == []


def test_host_conventions(vector_store: VisRAGVectorStore) -> None:
    assert BasePydanticVectorStore in VisRAGVectorStore.__mro__
    assert vector_store.class_name() == "VisRAGVectorStore"
    assert vector_store.stores_text
    assert vector_store.is_embedding_query
    assert vector_store.to_dict()["class_name"] == "VisRAGVectorStore"


async def test_async_queries_do_not_block(vector_store: VisRAGVectorStore) -> None:
    await vector_store.async_add([TextNode(id_=name, text=name * 3) for name in "abcdef"])
    asked = [VectorStoreQuery(query_str=name * 2) for name in "abcdef"] * 5
    found = await asyncio.gather(*(vector_store.aquery(query) for query in asked))
    assert [result.ids for result in found] == [[name] for name in "abcdef"] * 5
    await vector_store.adelete("a")
    await vector_store.adelete_nodes(["b"])
    assert {node.node_id for node in await vector_store.aget_nodes()} == set("cdef")


def test_of_nodes_with_one_id_the_last_stands(vector_store: VisRAGVectorStore) -> None:
    assert vector_store.add([TextNode(id_="7", text="first"), TextNode(id_="7", text="last")]) == ["7", "7"]
    assert [node.text for node in vector_store.get_nodes()] == ["last"]


def test_among_many_ids(vector_store: VisRAGVectorStore) -> None:
    vector_store.add([TextNode(id_=f"{n}", text="abc"[n % 3] * 3) for n in range(300)])

    def found(wanted: set[int], **more: Any) -> set[int]:
        ids = [str(n) for n in sorted(wanted)]
        asked = VectorStoreQuery(query_str="aaa", similarity_top_k=120, node_ids=ids, **more)
        return {int(id_) for id_ in vector_store.query(asked).ids or []}

    everything = set(range(300))
    assert set(range(0, 300, 3)) <= found(everything)
    assert found(everything - {0, 3}, mode=VectorStoreQueryMode.SPARSE) == set(range(6, 300, 3))
    assert not {0, 3} & found(everything - {0, 3})
