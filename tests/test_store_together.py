"""Two embedders in one collection: one vector a page and many, side by side, in every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_pdf
from fakes import CountingEmbedder
from places import opened, places

from visrag_integrations import Page, PageReader, PageRetriever, QdrantPageStore, embedders, index_documents
from visrag_integrations.cli import main
from visrag_integrations.errors import EmbedderError, SettingError, StoreMismatchError
from visrag_integrations.ingestion import index_documents_ray, reindex
from visrag_integrations.retrieval import PageReranker
from visrag_integrations.scores.exact import cosine, maxsims
from visrag_integrations.types import Query

READER = PageReader(backend="pdfium", ocr="never")
Open = Callable[[], QdrantPageStore]


class Lines(CountingEmbedder):
    """Late interaction in small: one vector for each word of a page that it knows."""

    name, kind, dimension = "lines", "multi", 4
    pooling = "rows"

    def embed_queries(self, queries: Iterable[object]) -> list[np.ndarray]:
        return super().embed_queries(query.text if isinstance(query, Query) else query for query in queries)

    def _vector(self, text: str) -> np.ndarray:
        known = [word for word in text.split() if word in self.words]
        return np.array([super(Lines, self)._vector(word) for word in known], np.float32).reshape(-1, 4)


def both() -> tuple[CountingEmbedder, Lines]:
    return CountingEmbedder(), Lines()


@pytest.fixture(params=places("folder", "memory", "server"))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same collection again and again."""
    stores: list[QdrantPageStore] = []
    with opened(request.param, tmp_path) as place:

        def open_again() -> QdrantPageStore:
            stores.append(QdrantPageStore(place, pictures=tmp_path / "pictures", storage="float32"))
            return stores[-1]

        yield open_again
        for store in stores:
            store.close()


def written(texts: Iterable[str], **fields: Any) -> list[Page]:
    return [Page("d", number, text=text, source="d.pdf", **fields) for number, text in enumerate(texts, 1)]


def embedded(pages: list[Page]) -> list[dict[str, np.ndarray]]:
    one, many = (embedder.embed_pages(pages) for embedder in both())
    return [{"page": vector, "patches": patches} for vector, patches in zip(one, many, strict=True)]


TEXTS = ("alpha alpha beta", "beta gamma", "gamma gamma delta", "delta alpha gamma")


@pytest.fixture
def store(open_store: Open) -> QdrantPageStore:
    """Four pages by both embedders."""
    one, many = both()
    made = open_store()
    made.prepare(one, also=[many])
    pages = written(TEXTS)
    made.add_pages(pages, embedded(pages))
    return made


# --- the store ------------------------------------------------------------------------------------------------------


def test_each_embedder_finds_by_its_own_vectors(store: QdrantPageStore) -> None:
    pages = written(TEXTS)
    for embedder, exact in ((CountingEmbedder(), cosine), (Lines(), maxsims)):
        (asked,) = embedder.embed_queries(["beta delta"])
        expected = exact(asked, embedder.embed_pages(pages))  # type: ignore[operator]
        found = store.search(asked, top_k=4)
        assert {hit.page.number: hit.score for hit in found} == {
            number: pytest.approx(score, abs=1e-3) for number, score in enumerate(expected, 1)
        }
        assert {hit.score_type for hit in found} == {"cosine" if embedder.kind == "single" else "maxsim"}
        scores = store.score(asked, [page.id for page in pages])
        assert scores == {page.id: pytest.approx(score, abs=1e-3) for page, score in zip(pages, expected, strict=True)}
        fused = store.search(asked, text="beta delta", mode="hybrid", top_k=4)
        assert {hit.page.number for hit in fused} == {1, 2, 3, 4}
    assert [hit.page.number for hit in store.search(None, text="alpha", mode="lexical", top_k=1)] == [1]


def test_the_collection_remembers_both(open_store: Open, store: QdrantPageStore) -> None:
    again = open_store()
    assert again.info is not None
    assert [(e.embedder, e.kind, e.dimension, e.fingerprint) for e in again.info.embedders] == [
        ("counting", "single", 4, "1"),
        ("lines", "multi", 4, "1"),
    ]
    assert [e.pooling for e in again.info.embedders] == [None, "rows"]
    one, many = both()
    for first, *others in ([one, many], [many, one], [one], [many]):
        again.prepare(first, also=others)
    many.fingerprint = "2"
    with pytest.raises(StoreMismatchError, match=r"'counting'.* and .*'lines'.*; .*'lines' \(fingerprint '2'\)"):
        again.prepare(many)


def test_vectors_come_back_by_embedder(store: QdrantPageStore) -> None:
    pages = written(TEXTS)
    ids = [page.id for page in pages]
    for embedder in both():
        kept = store.get_embeddings(ids, embedder)
        for page, vector in zip(pages, embedder.embed_pages(pages), strict=True):
            unit = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
            np.testing.assert_allclose(kept[page.id], unit, atol=1e-6)
    assert store.get_embeddings(ids)[ids[0]].shape == (4,), "the first one's"

    class Stranger(Lines):
        name = "stranger"

    assert store.get_embeddings(ids, Stranger()) == {}


def test_one_embedding_for_two_embedders_is_refused(store: QdrantPageStore) -> None:
    page = Page("new", 1, text="alpha")
    with pytest.raises(EmbedderError, match=r'Page 1 of .new. comes with one embedding.*\{"page": ..., "patches":'):
        store.add_pages([page], CountingEmbedder().embed_pages([page]))
    with pytest.raises(EmbedderError, match=r"vectors named 'pages'"):
        store.add_pages([page], [{"pages": np.ones(4)}])
    with pytest.raises(EmbedderError, match=r"shape \(3,\)"):
        store.add_pages([page], [{"page": np.ones(3)}])
    assert store.count() == 4


def test_a_page_may_lack_the_vectors_of_one(store: QdrantPageStore) -> None:
    store.add_pages(
        [Page("new", 1, text="gamma"), Page("new", 2, text="gamma")],
        [{"page": np.ones(4)}, {"page": np.zeros((0,)), "patches": np.ones((2, 4))}],
    )
    one = store.search(np.ones(4), top_k=9, filter={"doc_id": "new"})
    many = store.search(np.ones((1, 4)), top_k=9, filter={"doc_id": "new"})
    assert ([hit.page.number for hit in one], [hit.page.number for hit in many]) == ([1], [2])


def test_no_pass_of_either_leaves_a_filter_out(store: QdrantPageStore) -> None:
    for tenant in ("ada", "bob"):
        pages = written(["gamma delta"] * 40, tenant=tenant)
        store.add_pages(pages, embedded(pages))
    for embedder in both():
        (asked,) = embedder.embed_queries(["gamma delta"])
        for mode in ("dense", "hybrid"):
            found = store.search(asked, text="gamma", top_k=60, mode=mode, filter={"tenant": "bob"})
            assert len(found) == 40
            assert {hit.page.tenant for hit in found} == {"bob"}


def test_at_most_one_of_each_kind(open_store: Open) -> None:
    with pytest.raises(SettingError, match=r"'lines' and 'lines'.*one of kind 'multi'"):
        open_store().prepare(Lines(), also=[Lines()])


def test_as_a_file(store: QdrantPageStore, tmp_path: Path) -> None:
    store.add_pages([Page("new", 1, text="gamma")], [{"patches": np.ones((2, 4))}])
    assert store.export(tmp_path / "index.zip") == 5
    with QdrantPageStore.import_from(tmp_path / "index.zip", tmp_path / "imported") as other:
        assert other.info == store.info
        for embedder in both():
            ids = [page.id for page in store.scroll()]
            there, here = store.get_embeddings(ids, embedder), other.get_embeddings(ids, embedder)
            assert there.keys() == here.keys()
            for id_ in there:
                np.testing.assert_allclose(here[id_], there[id_], atol=1e-6)


def test_versions_of_the_format(open_store: Open) -> None:
    """A folder that the first version can read says so; what older ones would misread or delete is refused by them."""
    one, many = both()
    alone = open_store()
    alone.prepare(one)
    assert alone.info is not None
    assert alone.info.format_version == (3 if alone.folder is None else 1)
    alone.prepare(one, also=[many], recreate=True)
    assert alone.info is not None
    assert alone.info.format_version == (3 if alone.folder is None else 2)


OLD = {
    "embedder": "counting",
    "kind": "single",
    "dimension": 4,
    "fingerprint": "1",
    "instruction": None,
    "reader": {},
    "quantization": None,
    "storage": "float32",
    "pooling": None,
    "pooled": 0,
    "format_version": 1,
    "created": "2026-11-20T10:00:00+00:00",
    "complete": True,
}
"""What version 1 wrote down, word for word."""


def test_a_collection_of_the_first_version_opens(open_store: Open) -> None:
    made = open_store()
    made.prepare(CountingEmbedder())
    pages = written(TEXTS)
    made.add_pages(pages, CountingEmbedder().embed_pages(pages))
    made._engine.save_info(OLD)
    again = open_store()
    assert again.info is not None
    assert [e.embedder for e in again.info.embedders] == ["counting"]
    assert PageRetriever(CountingEmbedder(), again).retrieve("alpha", 1)[0].page.number == 1
    with pytest.raises(StoreMismatchError, match=r"reindex\(store, embedder=\["):
        again.prepare(Lines())
    reindex(again, embedder=list(both()))
    assert PageRetriever(Lines(), again).retrieve("beta delta", 4)


# --- retrieval ------------------------------------------------------------------------------------------------------


def test_retrieval_with_either_and_reranking_within_the_collection(store: QdrantPageStore) -> None:
    pages = written(TEXTS)
    one, many = both()
    expected = {
        e.kind: f(e.embed_queries(["gamma beta"])[0], e.embed_pages(pages))  # type: ignore[operator]
        for e, f in ((CountingEmbedder(), cosine), (Lines(), maxsims))
    }
    for embedder in (one, many):
        hits = PageRetriever(embedder, store).retrieve("gamma beta", 4)
        assert [hit.score for hit in hits] == pytest.approx(sorted(expected[embedder.kind], reverse=True), abs=1e-3)
    hits = PageRetriever(one, store, reranker=PageReranker(many, store)).retrieve("gamma beta", 4)
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected["multi"], reverse=True), abs=1e-3)
    assert (one.embedded, many.embedded) == ([], []), "no page is embedded again"
    for embedder in (one, many):
        assert PageRetriever(embedder, store).more_like(pages[0].id, 1)[0].page.number == 4
    assert (one.embedded, many.embedded) == ([], [])
    assert PageRetriever(many, store).retrieve(Query("delta"), 1, mode="lexical")


# --- ingestion ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    draw_pdf(made / "one.pdf", ["alpha first", "beta second", "gamma alpha"])
    draw_pdf(made / "two.pdf", ["delta beta"])
    return made


def index(store: QdrantPageStore, folder: Path, *fillers: Any) -> Any:
    return index_documents(folder, store=store, embedder=list(fillers), reader=READER, workers=1)


def best(store: QdrantPageStore, embedder: Any, word: str) -> tuple[str, int]:
    (hit,) = PageRetriever(embedder, store).retrieve(word, 1)
    return Path(hit.page.source).name, hit.page.number


def test_indexing_reads_once_and_embeds_by_both(open_store: Open, folder: Path) -> None:
    store, (one, many) = open_store(), both()
    report = index(store, folder, one, many)
    assert (report.pages, report.added, report.embedded) == (4, 4, 4)
    assert sorted(one.embedded) == sorted(many.embedded)
    assert len(one.embedded) == 4
    for embedder in (one, many):
        assert best(store, embedder, "gamma") == ("one.pdf", 3)
        assert best(store, embedder, "delta") == ("two.pdf", 1)
    assert index(store, folder, many, one).unchanged == 4
    (folder / "copy.pdf").write_bytes((folder / "two.pdf").read_bytes() + b"\n")
    again = index(store, folder, one, many)
    assert (again.added, again.embedded) == (1, 0), "equal pages are embedded once, by both"
    assert len(store.search(Lines().embed_queries(["delta"])[0], top_k=9)) == 5


def test_indexing_by_one_of_two_is_refused_before_anything_is_read(open_store: Open, folder: Path) -> None:
    store, (one, many) = open_store(), both()
    index(store, folder, one, many)
    draw_pdf(folder / "three.pdf", ["delta"])
    with pytest.raises(StoreMismatchError, match=r"'counting'.*'lines'.*Give both to index_documents: "):
        index(store, folder, many)
    assert store.count() == 4
    with pytest.raises(SettingError, match="no embedder in the list"):
        index(store, folder)


def test_ray_fills_by_one_embedder(tmp_path: Path) -> None:
    with QdrantPageStore(tmp_path / "index") as store, pytest.raises(SettingError, match="use index_documents"):
        index_documents_ray([tmp_path], store=store, embedder=list(both()))


@pytest.fixture
def registered() -> Iterator[None]:
    """Both embedders can be loaded by their names."""
    before = dict(embedders._named)
    for embedder in (CountingEmbedder, Lines):
        embedders.register_embedder(embedder.name, embedder)
    yield
    embedders._named.clear()
    embedders._named.update(before)


@pytest.mark.usefixtures("registered")
def test_the_command_line_indexes_by_both(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        index(store, folder, *both())
    draw_pdf(folder / "three.pdf", ["alpha alone"])
    command = ["index", str(folder), "--index", str(tmp_path / "index"), "--workers", "1", "--quiet"]
    assert main(command) == 0
    capsys.readouterr()
    with QdrantPageStore(tmp_path / "index") as store:
        for embedder in both():
            assert len(store.search(embedder.embed_queries(["alpha"])[0], top_k=9)) == 5
    assert main([*command, "--embedder", "lines"]) == 2
    assert "Give both" in capsys.readouterr().err


def test_a_page_that_one_cannot_embed_is_left_out_whole(open_store: Open, folder: Path) -> None:
    store = open_store()
    report = index(store, folder, CountingEmbedder(), Lines(refuse="beta second"))
    assert [(Path(failure.source).name, failure.page) for failure in report.failed] == [("one.pdf", 2)]
    assert store.count() == 3


def test_a_second_embedder_is_added_and_the_vectors_of_the_first_stay(open_store: Open, folder: Path) -> None:
    store, (one, many) = open_store(), both()
    index(store, folder, one)
    ids = [page.id for page in store.scroll()]
    before, made = store.get_embeddings(ids, one), len(one.embedded)
    report = reindex(store, embedder=[one, many])
    assert (report.pages, report.embedded) == (4, 4)
    assert (len(one.embedded), len(many.embedded)) == (made, 4), "only the second embeds"
    after = store.get_embeddings(ids, one)
    for id_ in ids:
        np.testing.assert_allclose(after[id_], before[id_], atol=1e-6)
    for embedder in (one, many):
        assert best(open_store(), embedder, "delta") == ("two.pdf", 1)
    assert reindex(store, embedder=many).embedded == 0
    assert len(many.embedded) == 4, "and one is left without embedding again"
    assert store.info is not None
    assert [e.embedder for e in store.info.embedders] == ["lines"]
    with pytest.raises(StoreMismatchError):
        store.prepare(one)
    assert best(store, many, "gamma") == ("one.pdf", 3)


def test_adding_a_second_embedder_goes_on_after_a_kill(open_store: Open, folder: Path) -> None:
    class Breaks(Lines):
        def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
            if self.embedded:
                raise KeyboardInterrupt
            return super().embed_pages(pages)

    store, (one, many) = open_store(), both()
    index(store, folder, one)
    with pytest.raises(KeyboardInterrupt):
        reindex(store, embedder=[one, Breaks()], batch_size=2)
    assert best(store, one, "gamma") == ("one.pdf", 3), "the old one is searched meanwhile"
    report = reindex(store, embedder=[one, many], batch_size=2)
    assert (report.added, report.unchanged, len(many.embedded)) == (2, 2, 2)
    assert best(store, many, "delta") == ("two.pdf", 1)
