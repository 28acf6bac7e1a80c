"""PageRetriever: what is embedded, what is asked of the store, and what is refused, on a real store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from PIL import Image

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, load_embedder
from visrag_integrations.errors import EmbedderError, SettingError, StoreMismatchError
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.types import Mode

TEXTS = {
    "violin.pdf": ["A violin has four strings and is played with a bow.", "The cello is larger.", "Index of names"],
    "tax.pdf": ["Taxes are due in April.", "Form 1040 is for wages, salaries and tips."],
}


class Letters:
    """Vectors of letter counts; remembers what it was given."""

    name, kind, dimension = "letters", "single", 26

    def __init__(self) -> None:
        self.batches: list[list[str | Query]] = []

    def _vector(self, text: str) -> np.ndarray:
        counts = np.array([text.casefold().count(chr(97 + i)) for i in range(26)], np.float32)
        return counts / max(float(np.linalg.norm(counts)), 1e-12)

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        return [self._vector(page.text) for page in pages]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[np.ndarray]:
        self.batches.append(list(queries))
        return [self._vector(query if isinstance(query, str) else query.text) for query in self.batches[-1]]


def pages() -> list[Page]:
    return [
        Page(doc_id=source, number=number, text=text, source=f"/docs/{source}")
        for source, texts in TEXTS.items()
        for number, text in enumerate(texts, 1)
    ]


def filled(embedder: PageEmbedder) -> QdrantPageStore:
    store = QdrantPageStore(":memory:")
    store.prepare(embedder)
    store.add_pages(pages(), embedder.embed_pages(pages()))
    return store


@pytest.fixture(scope="module")
def ocr_retriever() -> Iterator[PageRetriever]:
    embedder = load_embedder("ocr")
    with filled(embedder) as store:
        yield PageRetriever(embedder, store)


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def retriever(letters: Letters) -> Iterator[PageRetriever]:
    with filled(letters) as store:
        yield PageRetriever(letters, store)


def places(hits: list) -> list[tuple[str, int]]:
    return [(hit.page.doc_id, hit.page.number) for hit in hits]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_every_mode_finds_the_page_best_first(ocr_retriever: PageRetriever, mode: Mode) -> None:
    hits = ocr_retriever.retrieve("strings of the violin", 3, mode=mode)
    assert places(hits)[0] == ("violin.pdf", 1)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert {hit.score_type for hit in hits} == {{"dense": "maxsim", "lexical": "bm25", "hybrid": "fused"}[mode]}


def test_hybrid_finds_what_only_one_half_knows(ocr_retriever: PageRetriever) -> None:
    assert ocr_retriever.mode == "hybrid", "the ocr embedder's own default"
    assert places(ocr_retriever.retrieve("1040", 1)) == [("tax.pdf", 2)]
    assert ocr_retriever.retrieve("fiddle", mode="lexical") == []
    assert places(ocr_retriever.retrieve("fiddle", 1)) == [("violin.pdf", 1)]


def test_the_mode_is_the_embedders_then_the_retrievers_then_the_calls(retriever: PageRetriever) -> None:
    assert retriever.mode == "dense"
    assert {hit.score_type for hit in retriever.retrieve("violin")} == {"cosine"}
    lexical = PageRetriever(retriever.embedder, retriever.store, mode="lexical")
    assert {hit.score_type for hit in lexical.retrieve("violin")} == {"bm25"}
    assert {hit.score_type for hit in lexical.retrieve("violin", mode="hybrid")} == {"fused"}


def test_many_queries_are_one_batch_and_lexical_embeds_none(retriever: PageRetriever, letters: Letters) -> None:
    many = retriever.retrieve_many(text for text in ["violin bow", "wages"])
    assert letters.batches == [["violin bow", "wages"]]
    assert many == [retriever.retrieve("violin bow"), retriever.retrieve("wages")]
    letters.batches.clear()
    assert retriever.retrieve("violin", mode="lexical")
    assert letters.batches == []
    assert retriever.retrieve_many([]) == []


def test_top_k_is_an_upper_bound(retriever: PageRetriever) -> None:
    assert len(retriever.retrieve("violin", 2)) == 2
    assert len(retriever.retrieve("violin", 50)) == 5


def test_filters_of_the_retriever_and_of_the_call_both_hold(retriever: PageRetriever) -> None:
    one = PageRetriever(retriever.embedder, retriever.store, filter={"source": "tax.pdf"})
    assert {hit.page.doc_id for hit in one.retrieve("violin")} == {"tax.pdf"}
    assert places(one.retrieve("violin", filter={"number": 2})) == [("tax.pdf", 2)]
    assert len(one.retrieve("violin", filter={"source": "tax.pdf"})) == 2
    with pytest.raises(SettingError, match=r"'source'='tax.pdf'.*violin.pdf"):
        one.retrieve("violin", filter={"source": "violin.pdf"})


def test_a_threshold_leaves_out_lower_scores_and_is_for_dense_only(retriever: PageRetriever) -> None:
    scores = [hit.score for hit in retriever.retrieve("violin bow")]
    cut = (scores[1] + scores[2]) / 2
    assert [hit.score for hit in retriever.retrieve("violin bow", score_threshold=cut)] == scores[:2]
    for mode in ("lexical", "hybrid"):
        with pytest.raises(SettingError, match="mode='dense'"):
            retriever.retrieve("violin", mode=mode, score_threshold=0.5)


@pytest.mark.parametrize("query", ["", " \n\t"])
@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_an_empty_query_is_refused(retriever: PageRetriever, query: str, mode: Mode) -> None:
    with pytest.raises(SettingError, match="query is empty"):
        retriever.retrieve(query, mode=mode)


@pytest.mark.parametrize("top_k", [0, -1, 2.0, True, "3"])
def test_top_k_must_be_a_number_of_pages(retriever: PageRetriever, top_k: object) -> None:
    with pytest.raises(SettingError, match=f"top_k is {top_k!r}"):
        retriever.retrieve("x", top_k)  # type: ignore[arg-type]


def test_an_unknown_mode_is_refused_early(retriever: PageRetriever) -> None:
    with pytest.raises(SettingError, match="'sparse'; allowed: dense, lexical, hybrid"):
        retriever.retrieve("x", mode="sparse")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="allowed"):
        PageRetriever(retriever.embedder, retriever.store, mode="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_query_of_100_kb_works_in_bounded_time(ocr_retriever: PageRetriever, mode: Mode) -> None:
    started = time.perf_counter()
    hits = ocr_retriever.retrieve("violin strings bow " + "padding " * 13_000, 1, mode=mode)
    assert time.perf_counter() - started < 10
    assert mode == "dense" or places(hits) == [("violin.pdf", 1)]


def test_another_embedder_than_the_stores_is_refused(retriever: PageRetriever) -> None:
    other = PageRetriever(load_embedder("ocr"), retriever.store)
    for _ in range(2):
        with pytest.raises(StoreMismatchError, match=r"letters.*ocr"):
            other.retrieve("violin")


def test_asking_an_index_that_is_not_there_finds_nothing_and_makes_none(letters: Letters) -> None:
    with QdrantPageStore(":memory:") as store:
        assert PageRetriever(letters, store).retrieve("x") == []
        assert store.info is None


def test_an_embedder_that_loses_queries_is_named(retriever: PageRetriever) -> None:
    class Lossy(Letters):
        def embed_queries(self, queries: Iterable[str | Query]) -> list[np.ndarray]:
            return super().embed_queries(queries)[:1]

    with pytest.raises(EmbedderError, match="'letters' gave 1 vectors for 2 queries"):
        PageRetriever(Lossy(), retriever.store).retrieve_many(["a", "b"])


def test_a_picture_goes_to_the_embedder(retriever: PageRetriever, letters: Letters) -> None:
    query = Query("violin bow", image=Image.new("RGB", (8, 8)))
    assert places(retriever.retrieve(query, 1)) == [("violin.pdf", 1)]
    assert letters.batches == [[query]]


def test_a_picture_alone_has_no_words(retriever: PageRetriever) -> None:
    query = Query(image=Image.new("RGB", (8, 8)))
    with pytest.raises(SettingError, match="only a picture"):
        retriever.retrieve(query, mode="lexical")


def test_a_picture_is_read_once_where_the_embedder_works_on_text(retriever: PageRetriever) -> None:
    class Reading(Letters):
        read = 0

        def read_query(self, query: Query) -> str:
            Reading.read += 1
            return "wages salaries"

    query = Query(image=Image.new("RGB", (8, 8)))
    for mode in ("lexical", "hybrid"):
        assert places(PageRetriever(Reading(), retriever.store, mode=mode).retrieve(query, 1)) == [("tax.pdf", 2)]
    assert Reading.read == 2


def test_async_gives_the_same_and_leaves_the_loop_free(retriever: PageRetriever) -> None:
    loop_thread, seen = threading.get_ident(), []

    class Watched(Letters):
        def embed_queries(self, queries: Iterable[str | Query]) -> list[np.ndarray]:
            seen.append(threading.get_ident())
            return super().embed_queries(queries)

    watched = PageRetriever(Watched(), retriever.store)
    assert asyncio.run(watched.aretrieve("violin bow", 2, score_threshold=0.1)) == watched.retrieve("violin bow", 2)
    assert seen[0] != loop_thread == seen[1]


def test_a_store_without_info_is_checked_through_prepare(letters: Letters) -> None:
    class Plain:
        prepared = 0

        def prepare(self, embedder: PageEmbedder) -> None:
            self.prepared += 1

        def search(self, vector: np.ndarray, **asked: object) -> list:
            return [asked["text"], asked["top_k"], asked["mode"]]

    store = Plain()
    retriever = PageRetriever(letters, store)  # type: ignore[arg-type]
    assert retriever.retrieve("abc", 4) == retriever.retrieve("abc", 4) == ["abc", 4, "dense"]
    assert store.prepared == 1
