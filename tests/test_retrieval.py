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
from visrag_integrations.retrieval import PageReranker, Search
from visrag_integrations.scores.exact import maxsims
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


def test_two_filters_that_list_conditions_hold_together(retriever: PageRetriever) -> None:
    either = {"$and": [{"doc_id": ["violin.pdf", "tax.pdf"]}]}
    narrow = PageRetriever(retriever.embedder, retriever.store, filter=either)
    found = narrow.retrieve("wages", 10, filter={"$and": [{"doc_id": ["tax.pdf", "bread.pdf"]}]})
    assert {hit.page.doc_id for hit in found} == {"tax.pdf"}


def test_searches_that_differ_are_embedded_together_and_found_as_alone(
    retriever: PageRetriever, letters: Letters
) -> None:
    searches = [Search("violin bow", 2), Search("wages", mode="lexical"), Search("fiddle", 1, {"doc_id": "violin.pdf"})]
    found = [retriever.find(search) for search in retriever.embed(searches)]
    assert letters.batches == [["violin bow", "fiddle"]]
    assert found == [
        retriever.retrieve("violin bow", 2),
        retriever.retrieve("wages", mode="lexical"),
        retriever.retrieve("fiddle", 1, filter={"doc_id": "violin.pdf"}),
    ]
    with pytest.raises(SettingError, match="top_k is 0"):
        retriever.embed([Search("a", 0)])


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
    assert scores[1] > scores[2]
    at_the_second = retriever.retrieve("violin bow", score_threshold=scores[1])
    assert [hit.score for hit in at_the_second] == scores[:2], "a score exactly at the threshold stays"
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


# --- by a page, by a region, in two steps -----------------------------------------------------------------------------


class Chunks(Letters):
    """Late interaction over words: one vector each."""

    name, kind = "chunks", "multi"
    pages_embedded = 0

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        listed = list(pages)
        self.pages_embedded += len(listed)
        return [np.stack([self._vector(word) for word in page.text.split()]) for page in listed]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[np.ndarray]:
        self.batches.append(list(queries))
        texts = [query if isinstance(query, str) else query.text for query in self.batches[-1]]
        return [np.stack([self._vector(word) for word in text.split()]) for text in texts]


@pytest.fixture
def chunks() -> Iterator[tuple[Chunks, QdrantPageStore]]:
    embedder = Chunks()
    with filled(embedder) as store:
        embedder.pages_embedded = 0
        yield embedder, store


def test_rerank_gives_the_exact_scores_of_the_second_embedder(
    retriever: PageRetriever, chunks: tuple[Chunks, QdrantPageStore]
) -> None:
    embedder, store = chunks
    query = "wages salaries and tips"
    expected = maxsims(embedder.embed_queries([query])[0], Chunks().embed_pages(pages()))
    order = sorted(range(5), key=lambda place: -expected[place])
    hits = PageReranker(embedder, store).rerank(query, retriever.retrieve(query, 5))
    assert places(hits) == [(pages()[place].doc_id, pages()[place].number) for place in order]
    assert [hit.score for hit in hits] == pytest.approx([expected[place] for place in order], abs=1e-3)
    assert {hit.score_type for hit in hits} == {"maxsim"}
    assert embedder.pages_embedded == 0, "pages are never embedded again"
    assert places(PageReranker(embedder, store).rerank(query, hits[::-1], 2)) == places(hits)[:2]
    assert PageReranker(embedder, store).rerank(query, []) == []


def test_a_retriever_with_a_reranker(
    retriever: PageRetriever, letters: Letters, chunks: tuple[Chunks, QdrantPageStore]
) -> None:
    both = PageRetriever(letters, retriever.store, mode="lexical", reranker=PageReranker(*chunks), candidates=4)
    hits = both.retrieve("wages and a bow", 1, score_threshold=0.1)
    assert len(hits) == 1
    alone = PageReranker(*chunks).rerank("wages and a bow", retriever.retrieve("wages and a bow", 4, mode="lexical"))
    assert places(hits) == places(alone)[:1]
    assert both.retrieve("unheard") == []
    with pytest.raises(SettingError, match="candidates is 0"):
        PageRetriever(letters, retriever.store, reranker=both.reranker, candidates=0)


def test_the_reranker_is_given_as_many_pages_as_are_wanted(
    retriever: PageRetriever, letters: Letters, chunks: tuple[Chunks, QdrantPageStore]
) -> None:
    """`candidates` is what it gets at least: where more pages are wanted, it gets those."""
    few = PageRetriever(letters, retriever.store, reranker=PageReranker(*chunks), candidates=2)
    assert len(few.retrieve("wages and a bow", 5)) == 5
    assert len(few.retrieve("wages and a bow", 1)) == 1
    with QdrantPageStore(":memory:") as store:
        many = [Page("long.pdf", number, text=f"bow {'a' * number}") for number in range(1, 61)]
        store.prepare(letters)
        store.add_pages(many, letters.embed_pages(many))
        usual = PageRetriever(letters, store, reranker=PageReranker(letters, store))
        assert len(usual.retrieve("bow", 60)) == 60


def test_reranking_by_a_store_of_another_embedder_or_without_the_pages(
    retriever: PageRetriever, letters: Letters, caplog: pytest.LogCaptureFixture
) -> None:
    hits = retriever.retrieve("violin", 3)
    with pytest.raises(StoreMismatchError):
        PageReranker(Chunks(), retriever.store).rerank("violin", hits)
    with QdrantPageStore(":memory:") as empty:
        assert PageReranker(letters, empty).rerank("violin", hits) == []
    assert "3 of 3 pages" in caplog.text


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_more_like_a_page_leaves_it_out(retriever: PageRetriever, letters: Letters, mode: Mode) -> None:
    copy = Page("copy.pdf", 1, text=pages()[0].text)
    retriever.store.add_pages([copy], letters.embed_pages([copy]))
    for asked in (pages()[0], pages()[0].id):
        hits = retriever.more_like(asked, 2, mode=mode)
        assert places(hits)[0] == ("copy.pdf", 1)
        assert ("violin.pdf", 1) not in places(hits)
    assert letters.batches == [], "nothing is embedded for a stored page"


def test_more_like_a_page_outside_its_document_and_within_a_filter(retriever: PageRetriever) -> None:
    hits = retriever.more_like(pages()[0], 9, same_document=False)
    assert {hit.page.doc_id for hit in hits} == {"tax.pdf"}
    one = retriever.more_like(pages()[0], 9, same_document=False, filter={"number": 2})
    assert places(one) == [("tax.pdf", 2)]
    with pytest.raises(SettingError, match="No page with the id 'nope'"):
        retriever.more_like("nope")


def test_more_like_a_page_that_is_not_stored_and_of_many_vectors(chunks: tuple[Chunks, QdrantPageStore]) -> None:
    embedder, store = chunks
    many = Page("new", 1, text=" ".join([pages()[4].text] * 12))
    assert places(PageRetriever(embedder, store).more_like(many, 1)) == [("tax.pdf", 2)]
    assert embedder.pages_embedded == 1
    assert places(PageRetriever(embedder, store).more_like(pages()[1], 1))[0] != ("violin.pdf", 2)
    assert embedder.pages_embedded == 1


def test_a_region_is_cut_out_and_asked_as_a_picture() -> None:
    class Shades(Letters):
        """The mean colour of a picture."""

        name, dimension = "shades", 3

        def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
            return [np.asarray(page.open_image().convert("RGB"), np.float32).mean(axis=(0, 1)) for page in pages]

        def embed_queries(self, queries: Iterable[str | Query]) -> list[np.ndarray]:
            self.batches.append(list(queries))
            return self.embed_pages(Page("q", 1, picture=query.image) for query in self.batches[-1])  # type: ignore[union-attr]

    half = Image.new("RGB", (40, 20), "red")
    half.paste("blue", (20, 0, 40, 20))
    drawn = [Page("half", 1, picture=half)]
    drawn += [Page(colour, 1, picture=Image.new("RGB", (9, 9), colour)) for colour in ("red", "blue")]
    embedder = Shades()
    with QdrantPageStore(":memory:", picture_format="PNG") as store:
        store.prepare(embedder)
        store.add_pages(drawn, embedder.embed_pages(drawn))
        retriever = PageRetriever(embedder, store)
        for box, found in (((0, 0, 0.5, 1), "red"), ((0.5, 0, 1, 1), "blue")):
            for asked in (drawn[0], drawn[0].id):
                assert places(retriever.retrieve_region(asked, box, 2))[0] == (found, 1)
        assert ("half", 1) not in places(retriever.retrieve_region(drawn[0], (0, 0, 1, 1), 3))
        retriever.retrieve_region(drawn[0], (0, 0, 0.5, 1), text="what is this?")
        assert embedder.batches[-1][0].text == "what is this?"  # type: ignore[union-attr]
        with pytest.raises(SettingError, match="empty"):
            retriever.retrieve_region(drawn[0], (0.5, 0, 0.5, 1))
