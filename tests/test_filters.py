"""Two filters joined into one: what both ask for holds, and a contradiction is refused."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models

from tests.fakes import PixelEmbedder
from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.filters import join_filters

PAGES = [Page("a", number, metadata={"year": 2000 + number}) for number in range(1, 7)]
OWN = models.Filter(must=[models.FieldCondition(key="metadata.year", range=models.Range(lt=2003))])
EVEN = {"$or": [{"number": 2}, {"number": 4}, {"number": 6}]}
LOW = {"$or": [{"number": 1}, {"number": 2}, {"number": 3}]}


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_filter_joined_with_nothing_is_itself(nothing: Any) -> None:
    assert join_filters(nothing, {"year": 2001}) == join_filters({"year": 2001}, nothing) == {"year": 2001}
    assert join_filters(OWN, nothing) is OWN
    assert not join_filters(nothing, None)


def test_neither_filter_is_changed() -> None:
    first, second = {"$and": [{"year": 1}]}, {"$and": [{"page": 2}], "tenant": "bob"}
    assert join_filters(first, second) == {"$and": [{"year": 1}, {"page": 2}], "tenant": "bob"}
    assert (first, second) == ({"$and": [{"year": 1}]}, {"$and": [{"page": 2}], "tenant": "bob"})


@pytest.mark.parametrize(
    ("first", "second", "numbers"),
    [
        ({"year": {"gt": 2001}}, {"number": [1, 2, 3]}, {2, 3}),
        ({"year": 2002}, {"year": 2002}, {2}),
        ({"$and": [{"year": {"gt": 2001}}]}, {"$and": [{"year": {"lt": 2004}}]}, {2, 3}),
        ({"$and": ({"year": {"gt": 2001}},)}, {"$and": [{"year": {"lt": 2004}}]}, {2, 3}),
        (EVEN, LOW, {2}),
        ({"$not": {"number": 2}}, {"$not": {"number": 4}, "year": {"lt": 2006}}, {1, 3, 5}),
        ({"$ids": [page.id for page in PAGES[:4]]}, {"$ids": [page.id for page in PAGES[2:]]}, {3, 4}),
        (OWN, {"number": [2, 3]}, {2}),
        (EVEN, OWN, {2}),
        (OWN, OWN, {1, 2}),
    ],
)
def test_what_both_ask_for_holds(first: Any, second: Any, numbers: set[int]) -> None:
    with QdrantPageStore(":memory:") as store:
        store.prepare(PixelEmbedder())
        store.add_pages(PAGES, [[1.0] * PixelEmbedder.dimension] * len(PAGES))
        for joined in (join_filters(first, second), join_filters(second, first)):
            assert {page.number for page in store.scroll(joined)} == numbers


def test_a_contradiction_is_refused() -> None:
    with pytest.raises(SettingError, match=r"'source'='tax.pdf'.*'violin.pdf'"):
        join_filters({"source": "tax.pdf"}, {"source": "violin.pdf", "page": 1})
    with pytest.raises(SettingError, match="'page'"):
        join_filters({"page": {"gte": 3}}, {"page": {"lt": 9}})
