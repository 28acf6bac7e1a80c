"""What metadata shows is what filters see: a user's own keys, tenants, numbers, dates, keys with dots, indexes."""

from __future__ import annotations

import datetime
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import opened, places
from qdrant_client import QdrantClient, models

from visrag_integrations import Page, PageRetriever, QdrantPageStore
from visrag_integrations.errors import FilterError, SettingError, StoreError
from visrag_integrations.interfaces.filters import join_filters
from visrag_integrations.interfaces.stores import shown_filter, store_of_tenant, tenant_of

OWN = [
    {"tenant": "ada"},
    {"doc_id": "D7"},
    {"number": 42},
    {"sources": ["wiki", "web"]},
    {"source": 7},
    {"image": "cat.png"},
    {"page": "iv"},
    {"number": 2.5},
    {"doc_id": ["a", "b"]},
    {},
]


class Ones:
    """Every page is alike."""

    name, kind, dimension = "ones", "single", 4

    def embed_pages(self, pages: Any) -> list[Any]:
        return [np.ones(4, np.float32) for _ in pages]

    embed_queries = embed_pages


@pytest.fixture(params=places("folder", "memory", "server"))
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with opened(request.param, tmp_path) as place:
        yield place


def filled(location: Any, pages: list[Page], **settings: Any) -> QdrantPageStore:
    store = QdrantPageStore(location, pictures=False, **settings)
    store.prepare(Ones())
    store.add_pages(pages, Ones().embed_pages(pages))
    return store


def hosts(metadata: list[dict[str, Any]], **fields: Any) -> list[Page]:
    """Pages as hosts make them of Documents."""
    return [Page(f"x{n}", 1, text=str(n), metadata=own, given_id=f"g{n}", **fields) for n, own in enumerate(metadata)]


def numbered(values: list[Any], key: str = "year") -> list[Page]:
    return [Page("d", n, metadata={key: value}) for n, value in enumerate(values, 1)]


# --- a user's own keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_host", [True, False])
def test_a_filter_sees_what_a_hosts_page_shows(location: Any, by_host: bool) -> None:
    with filled(location, hosts(OWN)) as store:
        for own in OWN[:-1]:
            ((key, value),) = own.items()
            if key == "page" and not by_host:
                continue  # refused: see below
            asked = value[0] if isinstance(value, list) else value

            def ask(condition: Any, key: str = key) -> Any:
                return {"$metadata": {key: condition}} if by_host else {key: condition}

            holders = [page for page in OWN if key in page]
            assert [page.metadata for page in store.scroll(ask(asked))] == [own]
            assert store.count(ask({"in": [asked]})) == store.count(ask({"eq": asked})) == 1
            assert store.count(ask({"ne": asked})) == store.count(ask({"nin": [asked]})) == len(OWN) - 1
            assert store.count(ask({"exists": True})) == len(holders)
            assert store.count(ask(None)) == store.count(ask({"exists": False})) == len(OWN) - len(holders)
        assert store.count({"number": {"gte": 1}}) == 2
        assert store.count({"number": {"lt": 3}}) == 1


def test_deleting_by_a_number_that_no_page_shows_deletes_none(location: Any) -> None:
    with filled(location, hosts(OWN)) as store:
        assert store.delete(filter={"number": 1}) == store.delete(filter={"$metadata": {"number": 1}}) == 0
        assert store.delete(filter={"doc_id": "D7"}) == 1
        assert store.delete(filter={"$doc_ids": ["x0"]}) == 1
        assert store.count() == len(OWN) - 2


def test_the_cores_own_pages_keep_the_meaning_of_these_keys(location: Any) -> None:
    pages = [Page("d", n, source="books/d.pdf", tenant="ada") for n in (1, 2)]
    with filled(location, [*pages, *hosts(OWN)]) as store:
        for filter_ in ({"doc_id": "d"}, {"source": "d.pdf"}, {"sources": "books/d.pdf"}, {"number": [1, 2]}):
            assert store.count(filter_) == 2, filter_
            assert store.count({"$metadata": filter_}) == 2, filter_
        assert store.count({"number": 2}) == store.count({"$metadata": {"page": 1}}) == 1
        # `Page.tenant`, and the key of that name where a page has no tenant
        assert store.count({"tenant": "ada"}) == 3


def test_names_of_files_are_found_where_a_page_shows_a_source(location: Any) -> None:
    pages = [
        Page("a", 1, source="x/b.pdf", metadata={"source": "x/b.pdf"}, given_id="1"),
        Page("a", 2, source="x/b.pdf", metadata={"file_path": "x/b.pdf"}, given_id="2"),
    ]
    with filled(location, pages) as store:
        for value in ("x/b.pdf", "b.pdf"):
            assert [page.given_id for page in store.scroll({"source": value})] == ["1"]


@pytest.mark.parametrize(
    "filter", [{"page": 2}, {"page": {"gte": 1}}, {"metadata.page": 2}, {"$not": {"page": 2}}, {"$or": [{"page": 2}]}]
)
def test_page_is_refused_by_name(location: Any, filter: Any) -> None:
    with filled(location, numbered([1, 2])) as store:
        with pytest.raises(FilterError, match="number=2"):
            store.count(filter)
        with pytest.raises(FilterError, match="number=2"):
            store.delete(filter=filter)


def test_a_filter_nested_without_end_is_refused(location: Any) -> None:
    deep: Any = {"a": 1}
    for _ in range(5000):
        deep = {"$not": deep}
    with filled(location, []) as store, pytest.raises(FilterError, match="deeper"):
        store.count(deep)


def test_two_pages_without_text_are_two_results(location: Any) -> None:
    with filled(location, [Page("d", 1), Page("d", 2)]) as store:
        assert len(store.search(np.ones(4, np.float32))) == 2


def test_a_hosts_filter_is_wrapped_for_stores_that_know_it() -> None:
    with QdrantPageStore(":memory:") as store:
        assert shown_filter(store, {"page": 1}) == {"$metadata": {"page": 1}}
    assert shown_filter(object(), {"page": 1}) == {"page": 1}
    native = models.Filter(must=[])
    assert shown_filter(store, native) is native
    with pytest.raises(SettingError, match="'source'"):
        join_filters({"$metadata": {"source": "a"}}, {"$metadata": {"source": "b"}})
    joined = join_filters({"$metadata": {"source": "a"}}, {"$metadata": {"year": 1}})
    assert joined == {"$metadata": {"source": "a", "year": 1}}


# --- tenants --------------------------------------------------------------------------------------------------------


def two_tenants(location: Any) -> tuple[QdrantPageStore, list[Page], list[Page]]:
    mine = [Page("d", n, text="word", metadata={"year": n, "tenant": "bob"}, tenant="ada") for n in (1, 2, 3)]
    theirs = [Page("d", n, text="word", metadata={"year": n, "tenant": "ada"}, tenant="bob") for n in (1, 2, 3)]
    return filled(location, [*mine, *theirs]), mine, theirs


WIDER = [
    None,
    {"tenant": "bob"},
    {"$or": [{"tenant": "bob"}, {"year": {"gte": 0}}]},
    {"$not": {"tenant": "nobody"}},
    {"$metadata": {"$or": [{"tenant": "ada"}, {"tenant": "bob"}]}},
    {"visrag.tenant": "bob"},
]


@pytest.mark.parametrize("filter", WIDER)
def test_no_filter_widens_a_tenants_store(location: Any, filter: Any) -> None:
    everybody, _, theirs = two_tenants(location)
    store = everybody.of_tenant("ada")
    native = models.Filter(should=[models.FieldCondition(key="visrag.tenant", match=models.MatchValue(value="bob"))])
    filters = [filter, {"$or": [filter or {}, {"$ids": [page.id for page in theirs]}]}]
    if isinstance(location, QdrantClient):
        filters += [native, {"$or": [native, filter or {}]}]
    for each in filters:
        found = [hit.page for hit in store.search(np.ones(4, np.float32), top_k=50, filter=each)]
        for mode in ("lexical", "hybrid"):
            found += [hit.page for hit in store.search(np.ones(4), text="word", top_k=50, filter=each, mode=mode)]  # type: ignore[arg-type]
        found += store.scroll(each)
        assert {page.tenant for page in found} <= {"ada"}
        assert store.count(each) <= 3
        store.delete(filter=each) if each else store.delete(doc_id="d")
    assert everybody.of_tenant("bob").count() == 3
    everybody.close()


def test_nothing_of_another_tenant_is_given_or_changed_by_id(location: Any) -> None:
    everybody, mine, theirs = two_tenants(location)
    store = everybody.of_tenant("ada")
    ids = [page.id for page in [*mine, *theirs]]
    assert {page.tenant for page in store.get_pages(ids)} == {"ada"}
    assert set(store.score(np.ones(4, np.float32), ids)) == {page.id for page in mine}
    assert set(store.get_embeddings(ids)) == {page.id for page in mine}
    assert [document.pages for document in store.documents()] == [3]
    assert store.page_numbers("d") == {1, 2, 3}
    assert store.add_source("d", "elsewhere.pdf") == 3
    assert store.delete(ids=ids) == 3
    assert [page.source for page in everybody.scroll()] == ["", "", ""]
    with pytest.raises(SettingError, match=r"'bob'.*'ada'"):
        store.add_pages(theirs, Ones().embed_pages(theirs))
    with pytest.raises(SettingError, match="other"):
        store.forget()
    with pytest.raises(SettingError, match="as a whole"):
        store.next_version()
    everybody.close()


def test_starting_over_removes_the_tenants_pages_only(location: Any) -> None:
    everybody, _, _ = two_tenants(location)
    everybody.of_tenant("ada").prepare(Ones(), recreate=True)
    assert [page.tenant for page in everybody.scroll()] == ["bob"] * 3
    everybody.close()


def test_an_export_of_a_tenants_store_holds_the_tenants_pages(location: Any, tmp_path: Path) -> None:
    everybody, _, _ = two_tenants(location)
    assert everybody.of_tenant("ada").export(tmp_path / "ada.zip") == 3
    everybody.close()
    with QdrantPageStore.import_from(tmp_path / "ada.zip", ":memory:") as store:
        assert {page.tenant for page in store.scroll()} == {"ada"}
    with pytest.raises(SettingError, match="without tenant"):
        QdrantPageStore.import_from(tmp_path / "ada.zip", ":memory:", tenant="ada")


def test_a_users_own_key_tenant_stays_the_users(location: Any) -> None:
    pages = [Page("d", n, metadata={"tenant": name}) for n, name in enumerate(["x", "y"], 1)]
    pages += [Page("e", 1, metadata={"tenant": "x"}, given_id="7")]
    with QdrantPageStore(location, pictures=False, tenant="acme") as store:
        store.prepare(Ones())
        store.add_pages(pages, Ones().embed_pages(pages))
        assert {(page.tenant, page.metadata["tenant"]) for page in store.scroll()} == {("acme", "x"), ("acme", "y")}
        for filter_ in ({"tenant": "x"}, {"$metadata": {"tenant": "x"}}):
            assert store.count(filter_) == 2
            assert store.count({"$not": filter_}) == 1
        assert store.count({"tenant": "acme"}) == 0
        assert store.tenant == tenant_of(store) == "acme"
        assert store.of_tenant("acme") is store
        with pytest.raises(SettingError, match="'acme', not of 'bob'"):
            store.of_tenant("bob")
    with pytest.raises(SettingError, match="tenant is 7"):
        QdrantPageStore(":memory:", tenant=7)  # type: ignore[arg-type]


def test_a_tenants_store_is_filled_once() -> None:
    from visrag_integrations.indexing.loop import fill_store

    pages = [Page("d", n, text="word") for n in (1, 2)]
    with QdrantPageStore(":memory:", tenant="ada") as store:
        store.prepare(Ones())
        told: dict[str, Any] = {"batch_size": 8, "on_failure": print, "on_batch": lambda _: None}
        counts = [fill_store(pages, store, Ones(), **told) for _ in range(2)]
        assert [(count.added, count.unchanged) for count in counts] == [(2, 0), (0, 2)]


def test_a_retriever_of_one_tenant(location: Any) -> None:
    everybody, mine, theirs = two_tenants(location)
    retriever = PageRetriever(Ones(), everybody, tenant="ada")
    for filter_ in WIDER:
        hits = retriever.retrieve("word", top_k=50, filter=filter_)
        hits += retriever.more_like(mine[0], top_k=50, filter=filter_)
        assert {hit.page.tenant for hit in hits} <= {"ada"}
    assert retriever.more_like(mine[0], same_document=False) == []
    with pytest.raises(SettingError, match="No page with the id"):
        retriever.more_like(theirs[0].id)
    with pytest.raises(SettingError, match="of_tenant"):
        store_of_tenant(object(), "ada")  # type: ignore[arg-type]
    everybody.close()


@pytest.mark.parametrize("fields", [{"tenant": "\ud800"}, {"doc_id": "a\udfff"}, {"given_id": "\ud83d"}])
def test_half_surrogates_have_an_id_and_are_found(location: Any, fields: dict[str, str]) -> None:
    page = Page(**{"doc_id": "a", "number": 1, **fields})  # type: ignore[arg-type]
    assert uuid.UUID(page.id)
    with filled(location, [page]) as store:
        assert [found.id for found in store.get_pages([page.id])] == [page.id]
        if page.tenant:
            assert store.of_tenant(page.tenant).count() == 1


# --- equal numbers, dates, keys with dots ---------------------------------------------------------------------------

YEARS = [2020.0, 2020, 2021.0, 2**53 + 1, True, [2020.0, 7], -0.0, 1e20, float(2**53), -(2.0**60), "2020", 0.5]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"year": 2020}, 3),
        ({"year": 2020.0}, 3),
        ({"year": np.int64(2020)}, 3),
        ({"year": [2020.0, 2021]}, 4),
        ({"year": {"ne": 2020}}, 9),
        ({"year": {"nin": [2020, 2021.0]}}, 8),
        ({"year": 2**53 + 1}, 1),
        ({"year": 2**53}, 1),
        ({"year": float(2**53)}, 1),
        ({"year": -(2**60)}, 1),
        ({"year": -(2**60) + 1}, 0),
        ({"year": True}, 1),
        ({"year": 1}, 0),
        ({"year": 0}, 1),
        ({"year": -0.0}, 1),
        ({"year": 1e20}, 1),
        ({"year": 7}, 1),
        ({"year": "2020"}, 1),
        ({"year": ["2020", 2020]}, 4),
        ({"year": np.float32(0.5)}, 1),
        ({"$metadata": {"year": {"in": [7.0, 0.5]}}}, 2),
    ],
)
def test_numbers_are_equal_when_they_are_equal(years: QdrantPageStore, filter: Any, expected: int) -> None:
    assert years.count(filter) == expected


@pytest.fixture(scope="module", params=places("folder", "memory", "server"))
def years(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantPageStore]:
    with opened(request.param, tmp_path_factory.mktemp("years")) as where, filled(where, numbered(YEARS)) as store:
        yield store


NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc)
EARLIER = datetime.timezone(datetime.timedelta(hours=-2))


def test_values_are_kept_in_their_one_json_form(location: Any) -> None:
    values = [
        datetime.date(2024, 5, 1),
        NOON,
        np.int64(3),
        np.float32(0.5),
        np.bool_(True),
        uuid.UUID(int=7),
        np.datetime64("2024-05-01T10:00"),
        {"deep": [np.int8(1), datetime.date(2024, 1, 2)]},
        np.array([1, 2]),
        datetime.time(10, 30),
    ]
    with filled(location, numbered(values, "value")) as store:
        kept = [page.metadata["value"] for page in sorted(store.scroll(), key=lambda page: page.number)]
        assert kept == [
            "2024-05-01",
            "2024-05-01T12:00:00+00:00",
            3,
            0.5,
            True,
            "00000000-0000-0000-0000-000000000007",
            "2024-05-01T10:00",
            {"deep": [1, "2024-01-02"]},
            [1, 2],
            "10:30:00",
        ]
        assert store.count({"value": datetime.date(2024, 5, 1)}) == 1
        assert store.count({"value": NOON}) == store.count({"value": NOON.astimezone(EARLIER)}) == 1
        assert store.count({"value": {"ne": NOON}}) == len(values) - 1
        assert store.count({"value": uuid.UUID(int=7)}) == 1
        assert store.count({"value": {"gte": datetime.date(2024, 5, 1), "lt": datetime.date(2024, 5, 2)}}) == 3


@pytest.mark.parametrize("value", [np.datetime64("NaT"), float("nan"), np.float32("inf"), 1 + 2j, b"x", {1, 2}])
def test_what_has_no_json_form_is_refused_by_name(value: Any) -> None:
    with QdrantPageStore(":memory:") as store:
        store.prepare(Ones())
        with pytest.raises(SettingError, match="'year'"):
            store.add_pages(numbered([value]), Ones().embed_pages([1]))


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"a.b": "x"}, "a.b"),
        ({"a": {"b": "x"}}, "a.b"),
        ({"a.b": {"c d": "x"}}, "a.b.c d"),
        ({"a": {"b.c": "x"}}, "a.b.c"),
        ({"a.b.c.d.e": "x"}, "a.b.c.d.e"),
    ],
)
def test_keys_with_dots_are_found(location: Any, metadata: Any, key: str) -> None:
    pages = [Page("d", 1, metadata=metadata), Page("d", 2, metadata={"other": 1})]
    with filled(location, pages) as store:
        assert [page.number for page in store.scroll({key: "x"})] == [1]
        assert [page.number for page in store.scroll({key: {"ne": "x"}})] == [2]
        assert [page.number for page in store.scroll({key: {"exists": True}})] == [1]
        assert [page.number for page in store.scroll({key: None})] == [2]


# --- declared keys --------------------------------------------------------------------------------------------------

FIELDS: Any = {
    "org": "keyword",
    "year": "integer",
    "price": "float",
    "day": "datetime",
    "a.b": "keyword",
    "paid": "bool",
}


@pytest.mark.parametrize("declared", ["before", "after", "never"])
def test_declared_keys_are_found_as_others_are(location: Any, declared: str) -> None:
    first = {"org": "o1", "year": 2020.0, "price": 3, "day": "2024-05-01", "a": {"b": "x"}, "paid": True}
    second = {"org": "o2", "year": 2021, "price": 3.0, "day": NOON, "a.b": "y", "paid": False}
    pages = [Page("d", n, metadata=metadata) for n, metadata in enumerate([first, second], 1)]
    store = filled(location, pages, indexed_fields=FIELDS if declared == "before" else None)
    if declared == "after":
        store.close()
        store = QdrantPageStore(location, pictures=False, indexed_fields=FIELDS)
        store.prepare(Ones())
    for _ in range(2):
        for filter_, numbers in (
            ({"org": "o1"}, [1]),
            ({"year": 2020}, [1]),
            ({"year": {"ne": 2020.0}}, [2]),
            ({"year": {"gte": 2020}}, [1, 2]),
            ({"price": 3}, [1, 2]),
            ({"price": {"nin": [3.0]}}, []),
            ({"day": datetime.date(2024, 5, 1)}, [1]),
            ({"day": NOON.astimezone(EARLIER)}, [2]),
            ({"day": "2024-05-01"}, [1]),
            ({"day": {"gt": "2024-05-01"}}, [2]),
            ({"a.b": "x"}, [1]),
            ({"a.b": ["x", "y"]}, [1, 2]),
            ({"paid": True}, [1]),
        ):
            assert sorted(page.number for page in store.scroll(filter_)) == numbers, filter_
        if declared != "never":
            years = [page.metadata["year"] for page in store.scroll()]
            assert sorted(map(repr, years)) == ["2020", "2021"]
            assert store.info is not None
            assert dict(store.info.indexed) == FIELDS
        store.close()
        store = QdrantPageStore(location, pictures=False)  # the collection remembers what was declared
    store.close()


@pytest.mark.parametrize("fields", [{"a": "text"}, {"a..b": "keyword"}, ["a"], {3: "keyword"}, {"a": 1}])
def test_declarations_that_make_no_sense_are_refused(fields: Any) -> None:
    with pytest.raises(SettingError, match="indexed_fields"):
        QdrantPageStore(":memory:", indexed_fields=fields)


def test_a_filter_on_a_declared_key_reads_no_payloads(tmp_path: Path) -> None:
    from visrag_integrations.store.engine import FOLDER_INDEXES, TENANT

    with filled(tmp_path, [], indexed_fields={"org": "keyword"}) as store:
        engine: Any = store._engine
        assert set(engine._shard.info().payload_schema) == {*FOLDER_INDEXES, TENANT, "metadata.org"}


# --- what a filter did ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ({"sorce": "x.pdf"}, ["no page has the key 'sorce'", "source"]),
        ({"source": "debian-tips-scan"}, ["'debian-tips-scan'", "debian-tips-scan.pdf"]),
        ({"$and": [{"yaer": 2001}]}, ["'yaer'", "the nearest is 'year'"]),
        ({"year": 1999}, ["'year' = 1999"]),
        ({"year": {"gt": 2005}}, ["'year' in that range", "2001 to 2003"]),
        ({"$metadata": {"source": "Debian-Tips"}}, ["debian-tips-scan.pdf"]),
        ({"author.nmae": "Ada"}, ["'author.nmae'", "author.name"]),
        ({"year": 2001, "number": 2}, ["all of the filter together"]),
        ({"$or": [{"year": 1}, {"source": "x"}]}, ["'year' = 1", "'source' = 'x'"]),
    ],
)
def test_a_filter_that_fits_nothing_says_why(location: Any, caplog: Any, filter: Any, words: list[str]) -> None:
    metadata = {"author": {"name": "Ada"}}
    pages = [Page("d", n, source="in/debian-tips-scan.pdf", metadata={"year": 2000 + n, **metadata}) for n in (1, 2, 3)]
    with filled(location, pages) as store:
        note = store.why_nothing(filter).casefold()
        for word in words:
            assert word.casefold() in note
        with caplog.at_level(logging.WARNING):
            assert PageRetriever(Ones(), store).retrieve("x", filter=filter) == []
        assert len(caplog.records) == 1
        assert words[0].casefold() in caplog.text.casefold()
        assert store.why_nothing({"year": 2001}) == ""


def test_nothing_is_told_of_pages_that_may_not_be_seen(location: Any) -> None:
    everybody, _, _ = two_tenants(location)
    assert "'d'" not in everybody.of_tenant("carl").why_nothing({"doc_id": "x"})
    hidden = [Page("secret", 1, source="secret.pdf", metadata={"level": 2}), Page("open", 1, metadata={"level": 1})]
    everybody.add_pages(hidden, Ones().embed_pages(hidden))
    assert "secret" not in everybody.why_nothing({"source": "secre.pdf"}, {"level": 1})
    everybody.close()


def test_a_look_at_many_pages_ends(location: Any) -> None:
    with filled(location, numbered(list(range(1100)))) as store:
        assert store.why_nothing({"colour": "red"}).startswith("None of the 1,000 pages looked at has the key 'colour'")


def test_a_store_error_is_still_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        QdrantPageStore(tmp_path / "a").add_pages([], [])
