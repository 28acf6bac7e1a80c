"""A filter on a key without an index: said once, with what to type, where there are many pages."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.store import unindexed


class Given:
    name, kind, dimension = "given", "single", 4


PAGES = [
    Page(
        "d",
        number,
        text="word",
        metadata={"year": 2000 + number % 3, "org": "acme", "day": "2024-05-01", "a": {"b": 1}},
    )
    for number in range(1, 7)
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantPageStore]:
    monkeypatch.setattr(unindexed, "MANY", 6)
    with QdrantPageStore(tmp_path / "index", pictures=False, indexed_fields={"declared": "keyword"}) as opened:
        opened.prepare(Given())  # type: ignore[arg-type]
        opened.add_pages(PAGES, [np.ones(4, np.float32)] * len(PAGES))
        yield opened


def said_of(store: QdrantPageStore, filter: dict[str, Any], caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger=unindexed.logger.name):
        store.search(np.ones(4, np.float32), filter=filter)
    return [record.getMessage() for record in caplog.records if record.name == unindexed.logger.name]


@pytest.mark.parametrize(
    ("filter", "typed"),
    [
        ({"year": 2001}, "{'year': 'integer'}"),
        ({"year": {"gte": 2001, "lt": 2003}}, "{'year': 'float'}"),
        ({"org": ["acme", "other"]}, "{'org': 'keyword'}"),
        ({"$or": [{"org": "acme"}, {"doc_id": "d"}]}, "{'org': 'keyword'}"),
        ({"$not": {"org": "acme"}}, "{'org': 'keyword'}"),
        ({"open": True}, "{'open': 'bool'}"),
        ({"day": {"gte": datetime.date(2024, 1, 1)}}, "{'day': 'datetime'}"),
        ({"a.b": 1}, "{'a.b': 'integer'}"),
        ({"$metadata": {"org": "acme"}}, "{'org': 'keyword'}"),
    ],
)
def test_it_is_said_once_with_what_to_type(
    store: QdrantPageStore, caplog: pytest.LogCaptureFixture, filter: dict[str, Any], typed: str
) -> None:
    (said,) = said_of(store, filter, caplog)
    assert "all 6 pages" in said
    assert f"indexed_fields={typed}" in said
    assert said_of(store, filter, caplog) == []


@pytest.mark.parametrize(
    "filter",
    [
        {"doc_id": "d"},
        {"number": 3},
        {"source": "a.pdf"},
        {"declared": "x"},
        {"tenant": "ada"},
        {"$ids": [PAGES[0].id]},
        {"$doc_ids": ["d"]},
    ],
)
def test_nothing_is_said_of_keys_with_an_index(
    store: QdrantPageStore, caplog: pytest.LogCaptureFixture, filter: dict[str, Any]
) -> None:
    assert said_of(store, filter, caplog) == []


def test_nothing_is_said_of_few_pages(
    store: QdrantPageStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unindexed, "MANY", 7)
    assert said_of(store, {"org": "acme"}, caplog) == []


def test_what_is_said_can_be_typed(store: QdrantPageStore, caplog: pytest.LogCaptureFixture) -> None:
    """The message's own setting makes the index, and nothing is said any more."""
    (said,) = said_of(store, {"org": "acme", "year": 2001}, caplog)
    folder = store.folder
    assert folder is not None
    store.close()
    setting = said.partition("indexed_fields=")[2].partition(").prepare")[0]
    assert setting == "{'org': 'keyword', 'year': 'integer'}"
    unindexed._told.clear()
    with QdrantPageStore(folder, indexed_fields={"org": "keyword", "year": "integer"}) as again:
        again.prepare(Given())  # type: ignore[arg-type]
        assert said_of(again, {"org": "acme", "year": 2001}, caplog) == []
        assert again.count({"org": "acme", "year": 2001}) == 2


def test_whole_numbers_are_found_however_they_are_written(store: QdrantPageStore) -> None:
    more = [
        Page("e", 1, metadata={"year": 2030}),
        Page("e", 2, metadata={"year": 2030.0}),
        Page("e", 3, metadata={"year": [1, 2030]}),
        Page("e", 4, metadata={"year": 2030.5}),
        Page("e", 5, metadata={"year": "2030"}),
        Page("e", 6, metadata={"year": True}),
        Page("e", 7, metadata={"year": 2**53 + 1}),
    ]
    store.add_pages(more, [np.ones(4, np.float32)] * len(more))
    assert {page.number for page in store.scroll({"year": 2030})} == {1, 2, 3}
    assert {page.number for page in store.scroll({"year": [2030, 2**53 + 1], "doc_id": "e"})} == {1, 2, 3, 7}
    assert store.count({"year": 1}) == 1, "true is no number"
    assert store.count({"year": 2**53}) == 0
