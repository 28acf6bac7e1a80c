"""Pages as payloads, filters as conditions, picture references: pure, against literal values."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from visrag_integrations.errors import FilterError, PictureError, SettingError, StoreFormatError
from visrag_integrations.store.conditions import All, Either, Empty, FieldMatch, Not, Range
from visrag_integrations.store.filters import parse_filter
from visrag_integrations.store.payload import page_to_payload, payload_to_page, source_keys, unpack_words
from visrag_integrations.store.picture_files import check_reference
from visrag_integrations.types import Page, Word

PAGE = Page(
    doc_id="d1",
    number=3,
    text="A chart.",
    source="reports/q1.pdf",
    metadata={"total_pages": 9, "page_label": "iii", "author": {"name": "Ada"}, "tags": ["x", "y"]},
    words=(Word("A", (0.1, 0.2, 0.15, 0.25)), Word("chart.", (0.16, 0.2, 0.4, 0.25))),
    tenant="acme",
)


def test_payload_is_what_the_design_says() -> None:
    payload = page_to_payload(PAGE, image="pages/ab/cd.jpg")
    words = payload["visrag"].pop("words")
    assert payload == {
        "page_content": "A chart.",
        "metadata": {
            "source": "reports/q1.pdf",
            "sources": ["reports/q1.pdf"],
            "doc_id": "d1",
            "number": 3,
            "page": 2,
            "image": "pages/ab/cd.jpg",
            "total_pages": 9,
            "page_label": "iii",
            "author": {"name": "Ada"},
            "tags": ["x", "y"],
        },
        "visrag": {
            "tenant": "acme",
            "source_keys": ["reports/q1.pdf", "q1.pdf"],
            "folders": ["reports/", "."],
        },
    }
    assert unpack_words(words) == PAGE.words


def test_a_page_comes_back_as_it_went_in() -> None:
    assert payload_to_page(page_to_payload(PAGE)) == PAGE


def test_sources_are_merged_and_told() -> None:
    page = payload_to_page(page_to_payload(PAGE, sources=["old/copy.pdf"]))
    assert page.source == "old/copy.pdf"
    assert page.metadata["sources"] == ["old/copy.pdf", "reports/q1.pdf"]
    again = page_to_payload(page)
    assert again["metadata"]["sources"] == ["old/copy.pdf", "reports/q1.pdf"]
    assert again["visrag"]["source_keys"] == ["old/copy.pdf", "copy.pdf", "reports/q1.pdf", "q1.pdf"]


def test_a_payload_of_another_writer_is_read() -> None:
    page = payload_to_page({"page_content": "x", "metadata": {"doc_id": "d", "number": 1}})
    assert page == Page("d", 1, text="x")


@pytest.mark.parametrize("value", [object(), {1: 2}, float("nan"), 2**63, b"x", datetime.timedelta(1)])
def test_metadata_that_json_cannot_hold_is_named(value: object) -> None:
    with pytest.raises(SettingError, match=r"'deep\.key\[1\]'"):
        page_to_payload(Page("d", 1, metadata={"deep": {"key": [0, value]}}))


def test_the_stores_own_keys_are_not_overwritten() -> None:
    with pytest.raises(SettingError, match="'page'=7"):
        page_to_payload(Page("d", 1, metadata={"page": 7}))
    assert page_to_payload(Page("d", 1, metadata={"page": 0}))["metadata"]["page"] == 0


def test_half_surrogates_become_storable() -> None:
    payload = page_to_payload(
        Page("d", 1, text="a\ud800b", source="caf\udce9.pdf", words=(Word("\ud800", (0, 0, 1, 1)),))
    )
    assert payload["page_content"] == "a\\ud800b"
    assert payload["metadata"]["source"] == "caf\\udce9.pdf"
    assert parse_filter({"doc_id": "a\ud800"}) == FieldMatch("metadata.doc_id", ("a\\ud800",))
    assert len(payload_to_page(payload).words) == 1


def test_damaged_words_are_told_when_they_are_asked_for() -> None:
    payload = page_to_payload(PAGE)
    payload["visrag"]["words"] = payload["visrag"]["words"][:-8]
    page = payload_to_page(payload)
    assert page.text == "A chart."
    with pytest.raises(StoreFormatError, match="Index its document again"):
        list(page.words)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/a/b.pdf", "b.pdf"),
        ("s3://x/y/c.pdf", "c.pdf"),
        ("https://h/d.pdf#page=2", "d.pdf"),
        (r"C:\docs\e.pdf", "e.pdf"),
        ("/dir/", "dir"),
        ("a/what?.pdf", "what?.pdf"),
    ],
)
def test_a_source_is_found_by_its_path_and_its_file_name(source: str, name: str) -> None:
    assert source_keys([source]) == [source, name]


@pytest.mark.parametrize(
    ("filter", "condition"),
    [
        (None, None),
        ({}, None),
        ({"number": 3}, FieldMatch("metadata.number", (3,))),
        ({"metadata.number": 3}, FieldMatch("metadata.number", (3,))),
        ({"author.name": "Ada"}, FieldMatch("metadata.author.name", ("Ada",))),
        ({"tenant": "acme"}, FieldMatch("visrag.tenant", ("acme",))),
        ({"draft": True}, FieldMatch("metadata.draft", (True,))),
        ({"tags": ["x", "y"]}, FieldMatch("metadata.tags", ("x", "y"))),
        ({"year": {"$gte": 2020, "lt": 2024}}, Range("metadata.year", {"gte": 2020, "lt": 2024})),
        ({"day": {"gt": datetime.date(2024, 1, 2)}}, Range("metadata.day", {"gt": "2024-01-02"}, dates=True)),
        ({"score": 0.5}, Range("metadata.score", {"gte": 0.5, "lte": 0.5})),
        ({"score": 2.0}, FieldMatch("metadata.score", (2,))),
        ({"year": {"not": 2020}}, Not(FieldMatch("metadata.year", (2020,)))),
        ({"year": {"nin": [1, 2]}}, Not(FieldMatch("metadata.year", (1, 2)))),
        ({"year": {"exists": False}}, Empty("metadata.year")),
        ({"year": None}, Empty("metadata.year")),
        ({"a": 1, "b": 2}, All((FieldMatch("metadata.a", (1,)), FieldMatch("metadata.b", (2,))))),
        ({"$or": [{"a": 1}, {"b": 2}]}, Either((FieldMatch("metadata.a", (1,)), FieldMatch("metadata.b", (2,))))),
        ({"$or": [{"a": 1}, {}]}, All(())),  # an alternative that every page fulfils
        ({"$and": [{"a": 1}, {}]}, All((FieldMatch("metadata.a", (1,)),))),
        ({"$not": {"a": 1}}, Not(FieldMatch("metadata.a", (1,)))),
        ({"source": "b.pdf"}, FieldMatch("visrag.source_keys", ("b.pdf",))),
    ],
)
def test_filters(filter: Any, condition: Any) -> None:
    assert parse_filter(filter) == condition


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        ("doc_id", "A filter is a dict"),
        ({3: 1}, "metadata keys"),
        ({"year": {"above": 3}}, "Unknown operator 'above'.*gte"),
        ({"year": {}}, "empty"),
        ({"$xor": []}, r"\$and, \$or"),
        ({"$or": []}, "at least one"),
        ({"year": {"gte": "soon"}}, "'soon'"),
        ({"year": {"gte": 3, "lt": "2024-01-01"}}, "A bound on 'year'"),
        ({"year": {"gte": True}}, "A bound on 'year'"),
        ({"year": object()}, "object"),
        ({"a..b": 1}, "cannot be a metadata key"),
        ({'a"b': 1}, "cannot be a metadata key"),
    ],
)
def test_filters_that_cannot_be_understood(filter: Any, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        parse_filter(filter)


@pytest.mark.parametrize(
    "reference",
    [
        "../x.jpg",
        "a/../../x.jpg",
        "/etc/passwd",
        "http://h/x.jpg",
        "C:/x.jpg",
        "a\\..\\x",
        "",
        "a//b",
        "./a",
        "a/\0",
        3,
    ],
)
def test_references_that_leave_the_root_are_refused(reference: Any) -> None:
    with pytest.raises(PictureError, match="refused"):
        check_reference(reference)


def test_references_below_the_root_are_taken() -> None:
    assert check_reference("pages/ab/cd.jpg") == "pages/ab/cd.jpg"


@pytest.mark.parametrize("given_id", ["chunk-7", "5f0c9a52-1d1b-4c37-9d0a-0f4a5a0c9b11"])
def test_a_page_with_an_id_of_its_host_keeps_its_metadata_whatever_the_keys(given_id: str) -> None:
    metadata = {"source": "a.pdf", "page": "iv", "number": [1], "doc_id": 7, "image": None, "sources": "x", "year": 1}
    page = Page("a.pdf", 1, text="Hi", source="a.pdf", metadata=metadata, given_id=given_id)
    payload = page_to_payload(page, sources=["before.pdf"], image="pages/ab/cd.jpg")
    assert payload_to_page(payload) == page
    assert payload["metadata"] == {
        "source": "a.pdf",
        "sources": ["a.pdf"],
        "doc_id": "a.pdf",
        "number": 1,
        "page": "iv",
        "image": "pages/ab/cd.jpg",
        "year": 1,
    }


def test_given_ids_become_uuids_and_uuids_stay() -> None:
    given = "5f0c9a52-1d1b-4c37-9d0a-0f4a5a0c9b11"
    assert Page("d", 1, given_id=given).id == Page("e", 2, given_id=given.upper()).id == given
    assert Page("d", 1, given_id=given, tenant="t").id != given
    reserved = "00000000-0000-5000-8000-000000000001"
    assert Page("d", 1, given_id=reserved).id != reserved
    assert Page("d", 1, given_id="7").id == Page("e", 2, given_id="7").id != Page("d", 1, given_id="8").id
