"""Pages by one model, queries by another: what is loaded when, what a collection remembers, what is refused."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, index_documents, load_embedder
from visrag_integrations.embedders import QUERY_MODELS, _named, register_embedder, split_pair
from visrag_integrations.errors import (
    CheckpointError,
    EmbedderError,
    SettingError,
    StoreMismatchError,
    UnknownNameError,
)
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.embedders import fingerprint_of
from visrag_integrations.interfaces.shared import SHARED_EMBEDDERS
from visrag_integrations.known_models import MODELS

PICTURES = [Image.new("RGB", (80, 60), "red"), Image.new("RGB", (60, 90), "blue"), Image.new("RGB", (33, 40), "gold")]
PAGES = [Page.from_image(picture, doc_id="d", number=number) for number, picture in enumerate(PICTURES, 1)]
TEXTS = ["how many?", "Grüße, 世界", "a much longer question about the table on the second page"]


FAKES = ("large", "small", "tiny")


class Fake:
    """Vectors that point along one axis: pages 1, 2, 3 and questions "1", "2", "3" along the same."""

    made: list[str]

    def __init__(self, name: str, *, dimension: int = 8, kind: str = "single", fingerprint: str = "one") -> None:
        self.name, self.kind, self.dimension, self.fingerprint = name, kind, dimension, fingerprint
        Fake.made.append(name)

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        assert self.name == "large", "pages were embedded by the query model"
        return [np.eye(self.dimension, dtype=np.float32)[page.number] for page in pages]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Any]:
        assert self.name != "large", "queries were embedded by the page model"
        return [np.eye(self.dimension, dtype=np.float32)[int(str(query))] for query in queries]


@pytest.fixture(autouse=True)
def fakes() -> Iterator[None]:
    before, Fake.made = dict(_named), []
    for name in FAKES:
        register_embedder(name, lambda name=name, **settings: Fake(name, **settings))  # type: ignore[misc]
    yield
    _named.clear()
    _named.update(before)
    for key in list(SHARED_EMBEDDERS._entries):
        if key.partition("\n")[0] in FAKES:
            del SHARED_EMBEDDERS._entries[key]


def filled(store: QdrantPageStore, embedder: Any) -> QdrantPageStore:
    store.prepare(embedder)
    store.add_pages(PAGES, embedder.embed_pages(PAGES))
    return store


def found(embedder: Any, store: QdrantPageStore, query: str = "2") -> list[int]:
    return [hit.page.number for hit in PageRetriever(embedder, store).retrieve(query, 1)]


# --- what is loaded when ----------------------------------------------------------------------------------------------


def test_indexing_loads_no_query_model_and_searching_no_page_model(tmp_path: Path) -> None:
    with load_embedder("large", queries="small") as embedder:
        assert Fake.made == []
        with QdrantPageStore(tmp_path / "index") as store:
            filled(store, embedder)
        assert Fake.made == ["large"]
    Fake.made.clear()
    with QdrantPageStore(tmp_path / "index") as store:
        assert store.info is not None
        assert store.info.embedder == "large|small"
        with load_embedder(store.info.embedder) as again:
            assert found(again, store) == [2]
            assert Fake.made == ["small"]
            # More like a page that is stored needs no model at all.
            hits = PageRetriever(again, store).more_like(PAGES[0].id, 2)
            assert {hit.page.number for hit in hits} == {2, 3}
            assert Fake.made == ["small"]


def test_documents_are_indexed_by_the_page_model_alone(tmp_path: Path) -> None:
    PICTURES[0].save(tmp_path / "a.png")
    with load_embedder("large", queries="small") as embedder, QdrantPageStore(":memory:") as store:
        report = index_documents([tmp_path], store=store, embedder=embedder)
        assert (report.added, report.failed) == (1, ())
    assert Fake.made == ["large"]


def test_the_name_in_one_piece_and_in_two_mean_the_same() -> None:
    assert load_embedder("large|small").name == load_embedder("large", queries="small").name == "large|small"


def test_async_calls() -> None:
    async def both(embedder: Any) -> tuple[Any, Any]:
        return await embedder.aembed_pages(PAGES), await embedder.aembed_queries(["1", "3"])

    with load_embedder("large", queries="small") as embedder:
        pages, queries = asyncio.run(both(embedder))
    np.testing.assert_array_equal(np.stack(pages) @ np.stack(queries).T, [[1, 0], [0, 0], [0, 1]])


def test_handles_share_both_models() -> None:
    one = load_embedder("large", queries="small", shared=True)
    other = load_embedder("large|small", shared=True)
    alone = load_embedder("large", shared=True)
    for embedder in (one, other):
        embedder.embed_pages(PAGES)
        embedder.embed_queries(["1"])
    assert sorted(Fake.made) == ["large", "small"]
    close(one)
    other.embed_queries(["1"])
    close(other)
    close(alone)
    with pytest.raises(SettingError, match="closed"):
        _ = one.name


def test_a_copy_in_another_process_is_the_same_pair() -> None:
    embedder = load_embedder("large", queries="small", dimension=16, query_settings={"dimension": 16})
    for handle in (embedder, load_embedder("large", queries="small", shared=True)):
        again = pickle.loads(pickle.dumps(handle))
        assert again.name == "large|small"
    again = pickle.loads(pickle.dumps(embedder))
    assert (again.dimension, len(again.embed_pages(PAGES)[0])) == (16, 16)


def test_closed_is_closed() -> None:
    embedder = load_embedder("large", queries="small")
    close(embedder)
    for call in (embedder.embed_pages, embedder.embed_queries):
        with pytest.raises(EmbedderError, match="closed"):
            call([])


def test_settings_go_to_their_own_model() -> None:
    embedder = load_embedder("large", queries="small", dimension=9, query_settings={"dimension": 9})
    assert [len(embedder.embed_pages(PAGES)[0]), len(embedder.embed_queries(["1"])[0])] == [9, 9]
    with pytest.raises(SettingError, match="query_settings are those of queries="):
        load_embedder("large", query_settings={"dimension": 9})


# --- what fits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["pages", "queries"])
@pytest.mark.parametrize(("what", "settings"), [("dimension", {"dimension": 9}), ("kind", {"kind": "multi"})])
def test_models_of_other_vectors_are_refused(first: str, what: str, settings: dict[str, Any]) -> None:
    embedder = load_embedder("large", queries="small", query_settings=settings)
    calls = [lambda: embedder.embed_pages(PAGES), lambda: embedder.embed_queries(["1"])]
    if first == "queries":
        calls.reverse()
    calls[0]()
    with pytest.raises(EmbedderError, match=rf"Pages by 'large' and queries by 'small'.*their {what} is"):
        calls[1]()


def test_a_collection_of_other_vectors_is_refused() -> None:
    with QdrantPageStore(":memory:") as store:
        filled(store, load_embedder("large|small"))
        other = load_embedder("large", queries="small", query_settings={"dimension": 9})
        with pytest.raises(StoreMismatchError, match=r"8-dim.*'large\|small'.*9-dim"):
            found(other, store)


@pytest.mark.parametrize("asked", ["large|tiny", "tiny|small", "small|large", "tiny", "small"])
def test_another_pair_is_refused_by_both_names(asked: str) -> None:
    with QdrantPageStore(":memory:") as store:
        filled(store, load_embedder("large|small"))
        with pytest.raises(StoreMismatchError) as raised:
            store.check(load_embedder(asked))
        assert "'large|small'" in str(raised.value)
        assert f"'{asked}'" in str(raised.value)


def test_pages_of_the_same_model_are_the_same_with_or_without_a_query_model() -> None:
    for filled_by, asked in (("large|small", "large"), ("large", "large|small")):
        with QdrantPageStore(":memory:") as store:
            filled(store, load_embedder(filled_by))
            store.check(load_embedder(asked))
            assert store.info is not None
            assert store.info.embedder == filled_by
    with QdrantPageStore(":memory:") as store:
        filled(store, load_embedder("large"))
        assert found(load_embedder("large", queries="small"), store) == [2]


def test_another_checkpoint_of_either_name_is_refused() -> None:
    with QdrantPageStore(":memory:") as store:
        first = load_embedder("large|small")
        first.embed_queries(["1"])  # so that its fingerprint is known too
        filled(store, first)
        assert store.info is not None
        assert store.info.fingerprint == "one|one"
        trained = load_embedder("large", queries="small", query_settings={"fingerprint": "two"})
        with pytest.raises(StoreMismatchError, match=r"'one\|one'.*'\|two'"):
            found(trained, store)
        trained = load_embedder("large", queries="small", fingerprint="two")
        with pytest.raises(StoreMismatchError, match=r"'one\|one'.*'two\|"):
            filled(store, trained)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "queries", "said"),
    [
        ("large", "nanovdr/NanoVDR-S-Multy", r"Did you mean 'nanovdr/NanoVDR-S-Multi'"),
        ("large", "smal", "Did you mean 'small'"),
        ("larg", "small", "Did you mean 'large'"),
        ("large", "someone/unknown", "say its system"),
    ],
)
def test_a_name_that_is_wrong_is_said_before_any_work(pages: str, queries: str, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        load_embedder(pages, queries=queries)


def test_a_query_model_that_lies_elsewhere() -> None:
    with pytest.raises(CheckpointError, match=r"'/nowhere/small', is not on this machine.*--query-embedder FOLDER"):
        load_embedder("large", queries="/nowhere/small")


@pytest.mark.parametrize(("pages", "queries"), [("large", "a|b"), ("large", ""), ("", "small"), ("a|b", "small")])
def test_a_name_that_cannot_stand_in_a_pair(pages: str, queries: str) -> None:
    with pytest.raises(SettingError, match=r"PAGES\|QUERIES"):
        load_embedder(pages, queries=queries)


def test_pages_may_have_been_embedded_by_a_folder_of_another_machine() -> None:
    assert load_embedder("/gpu/models/large", queries="small").name == "/gpu/models/large|small"
    assert load_embedder("visrag-ret:/gpu/large|small").name == "visrag-ret:/gpu/large|small"


def test_a_query_model_alone_says_what_it_is_for() -> None:
    for name, (_, pages) in QUERY_MODELS.items():
        with pytest.raises(SettingError, match="embeds queries only") as raised:
            load_embedder(name)
        assert f'load_embedder("{pages}", queries="{name}")' in str(raised.value)
        assert name in {model.name for model in MODELS}


def test_a_folder_with_a_bar_in_its_name_is_no_pair(tmp_path: Path) -> None:
    folder = tmp_path / "a|b"
    folder.mkdir()
    assert split_pair(str(folder)) == (str(folder), None)


# --- real models ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(pages, queries): a tiny CLIP of sentence-transformers, and a text encoder to as many numbers."""
    pytest.importorskip("sentence_transformers")
    from tiny_adapters import query_model
    from tiny_retrievers import tiny

    root = tmp_path_factory.mktemp("pair")
    return Path(shutil.copytree(tiny("sentence-transformers"), root / "pages")), query_model(root / "queries", 24)


def test_values_are_those_of_both_called_by_hand(models: tuple[Path, Path]) -> None:
    import sentence_transformers

    pages, queries = (sentence_transformers.SentenceTransformer(str(each), device="cpu") for each in models)
    with load_embedder(models[0], queries=models[1], device="cpu", query_settings={"device": "cpu"}) as embedder:
        assert embedder.name == f"{models[0]}|{models[1]}"
        assert (embedder.kind, embedder.dimension) == ("single", 24)
        expected = pages.encode_document([{"image": picture} for picture in PICTURES], normalize_embeddings=True)
        np.testing.assert_allclose(np.stack(embedder.embed_pages(PAGES)), expected, rtol=0, atol=1e-5)
        expected = queries.encode_query(TEXTS, normalize_embeddings=True)
        np.testing.assert_allclose(np.stack(embedder.embed_queries(TEXTS)), expected, rtol=0, atol=1e-5)
        one_by_one = [embedder.embed_queries([text])[0] for text in TEXTS]
        np.testing.assert_allclose(np.stack(one_by_one), expected, rtol=0, atol=1e-5)


def test_many_vectors_a_page_by_two_models(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    from tiny_adapters import query_model
    from tiny_retrievers import tiny, tiny_embedder

    queries = query_model(tmp_path, 16, kind="multi")
    with load_embedder(tiny("colqwen2"), queries=queries, device="cpu") as embedder:
        assert (embedder.kind, embedder.dimension) == ("multi", 16)
        for one, other in zip(embedder.embed_pages(PAGES), tiny_embedder("colqwen2").embed_pages(PAGES), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
        expected = library.MultiVectorEncoder(str(queries), device="cpu").encode_query(TEXTS, normalize_embeddings=True)
        for one, other in zip(embedder.embed_queries(TEXTS), expected, strict=True):
            np.testing.assert_allclose(one, np.asarray(other), rtol=0, atol=1e-5)
        grid = embedder.patch_grid(PAGES[0])  # type: ignore[attr-defined]
        assert grid.indices.size
        with QdrantPageStore(":memory:") as store:
            filled(store, embedder)
            assert store.info is not None
            assert store.info.pooling == "rows"  # as the page model says
            assert len(PageRetriever(embedder, store).retrieve(TEXTS[0], 3)) == 3


def test_both_fingerprints_are_remembered_and_only_files_of_the_query_model_are_looked_at(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with load_embedder(models[0]) as pages, load_embedder(models[1], texts_only=True) as queries:
        expected = f"{fingerprint_of(pages)}|{fingerprint_of(queries)}"
    with QdrantPageStore(":memory:") as store, load_embedder(models[0], queries=models[1]) as embedder:
        import sentence_transformers

        real = sentence_transformers.SentenceTransformer

        def guarded(folder: str, **settings: Any) -> Any:
            assert folder != str(models[1]), "indexing loaded the query model"
            return real(folder, **settings)

        monkeypatch.setattr(sentence_transformers, "SentenceTransformer", guarded)
        assert (embedder.kind, embedder.dimension) == ("single", 24)
        filled(store, embedder)
        assert store.info is not None
        assert store.info.fingerprint == expected


def test_a_query_model_of_another_dimension_is_refused_before_a_page_is_embedded(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    from tiny_adapters import query_model

    PICTURES[0].save(tmp_path / "a.png")
    queries = query_model(tmp_path / "queries", 20)
    with (
        load_embedder(models[0], queries=queries) as embedder,
        QdrantPageStore(":memory:") as store,
        pytest.raises(EmbedderError, match=r"their dimension is 24 and 20\. Name a query model"),
    ):
        index_documents([tmp_path / "a.png"], store=store, embedder=embedder)
    with load_embedder(models[0], queries=queries, query_settings={"truncate_dim": 16}, truncate_dim=16) as embedder:
        assert embedder.embed_pages(PAGES)[0].shape == embedder.embed_queries(["x"])[0].shape == (16,)


def test_a_query_with_a_picture_needs_a_model_that_looks_at_it(models: tuple[Path, Path]) -> None:
    with load_embedder(models[0], queries=models[1]) as embedder:
        with pytest.raises(EmbedderError, match="reads text only, and this query has a picture"):
            embedder.embed_queries([Query(image=PICTURES[0])])
        with pytest.raises(EmbedderError, match="reads text only, and this query has a picture"):
            embedder.embed_queries(["how many?", Query("like this", image=PICTURES[0])])


def test_a_text_model_for_pages_says_how_to_use_it(models: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"not pictures.*queries="):
        load_embedder(models[1])
    with load_embedder(models[1], texts_only=True) as embedder, pytest.raises(EmbedderError, match="reads text only"):
        embedder.embed_pages(PAGES)


def test_a_folder_that_moved_is_known_by_its_fingerprint(models: tuple[Path, Path], tmp_path: Path) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        with load_embedder(models[0], queries=models[1]) as embedder:
            filled(store, embedder)
        moved = [Path(shutil.copytree(each, tmp_path / f"moved{number}")) for number, each in enumerate(models)]
        with load_embedder(moved[0], queries=moved[1]) as embedder:
            assert len(PageRetriever(embedder, store).retrieve("x", 3)) == 3
        config = json.loads((moved[0] / "config.json").read_text())
        (moved[0] / "config.json").write_text(json.dumps({**config, "trained": "further"}))
        with load_embedder(moved[0], queries=moved[1]) as embedder, pytest.raises(StoreMismatchError):
            PageRetriever(embedder, store).retrieve("x", 3)


# --- in the hosts ---------------------------------------------------------------------------------------------------


def test_langchain(models: tuple[Path, Path]) -> None:
    pytest.importorskip("langchain_core")
    from visrag_integrations.langchain import VisRAGEmbeddings, VisRAGVectorStore

    with load_embedder(models[0], queries=models[1]) as embedder:
        (expected,) = embedder.embed_queries(TEXTS[:1])
        of_page = embedder.embed_pages(PAGES[:1])[0]
    embeddings = VisRAGEmbeddings(models[0], queries=models[1])
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(embeddings.embed_image(PICTURES[0])[0], of_page, rtol=0, atol=1e-5)
    embeddings.close()
    with QdrantPageStore(":memory:") as store:
        vectors = VisRAGVectorStore(store=store, embedding=load_embedder("large", queries="small"))
        vectors.add_pages(PAGES)
        assert Fake.made == ["large"]
        (document,) = vectors.similarity_search("2", k=1)
        assert document.metadata["number"] == 2
        assert sorted(Fake.made) == ["large", "small"]


def test_llamaindex(models: tuple[Path, Path]) -> None:
    pytest.importorskip("llama_index.core")
    from visrag_integrations.llamaindex import VisRAGEmbedding

    with load_embedder(models[0], queries=models[1]) as embedder:
        (expected,) = embedder.embed_queries(TEXTS[:1])
        of_page = embedder.embed_pages(PAGES[:1])[0]
    embedding = VisRAGEmbedding(str(models[0]), queries=str(models[1]))
    np.testing.assert_allclose(embedding.get_query_embedding(TEXTS[0]), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(embedding.get_image_embedding(PICTURES[0]), of_page, rtol=0, atol=1e-5)
    embedding.close()


def test_a_server_searches_with_what_the_collection_remembers() -> None:
    from visrag_integrations.servers.web.following import FollowingRetriever

    with QdrantPageStore(":memory:") as store:
        filled(store, load_embedder("large|small"))
        assert store.info is not None
        retriever = FollowingRetriever(load_embedder(store.info.embedder), store, load=load_embedder)
        assert [hit.page.number for hit in retriever.retrieve("3", 1)] == [3]
        assert Fake.made == ["large", "small"]  # the first one filled it
        retriever.close()


# --- re-indexing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [("large", "large|small"), ("large|small", "large")])
def test_a_query_model_is_added_or_dropped_without_embedding_a_page_again(
    before: str, after: str, tmp_path: Path
) -> None:
    from visrag_integrations.ingestion import reindex

    with QdrantPageStore(tmp_path / "index") as store:
        filled(store, load_embedder(before))
        embedder = load_embedder(after)
        large = embedder.open_pages() if "|" in after else embedder  # type: ignore[attr-defined]
        large.embed_pages = None  # would fail
        report = reindex(store, embedder=embedder)
        assert report.failed == ()
        assert store.info is not None
        assert store.info.embedder == after
        assert store.count() == 3
    if "|" in after:
        with QdrantPageStore(tmp_path / "index") as store:
            assert found(load_embedder(after), store) == [2]


def test_another_page_model_embeds_again(tmp_path: Path) -> None:
    from visrag_integrations.ingestion import reindex

    register_embedder("larger", lambda: Larger())
    with QdrantPageStore(tmp_path / "index") as store:
        filled(store, load_embedder("large|small"))
        reindex(store, embedder=load_embedder("larger", queries="small"))
        assert store.info is not None
        assert store.info.embedder == "larger|small"
        (vector,) = store.get_embeddings([PAGES[0].id]).values()
        np.testing.assert_array_equal(np.flatnonzero(vector), [5])


class Larger(Fake):
    def __init__(self) -> None:
        super().__init__("larger", fingerprint="larger")

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        return [np.eye(self.dimension, dtype=np.float32)[5] for _ in pages]
