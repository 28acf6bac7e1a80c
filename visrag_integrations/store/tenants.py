"""One tenant's pages of a collection: an engine that neither shows nor changes those of others.

The tenant is put to every request here, below filters, ids and searches, so that none of them can leave it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from visrag_integrations.errors import SettingError, storable
from visrag_integrations.store.conditions import Condition, FieldMatch, both
from visrag_integrations.store.engine import (
    TENANT,
    Engine,
    FusedSearch,
    PayloadChange,
    Point,
    Record,
    Schema,
    SearchHit,
    VectorSearch,
)
from visrag_integrations.types import Page


def check_tenant(tenant: object) -> str:
    """The tenant of a store, if it is one; "" is none.

    Raises:
        SettingError: It is no text.
    """
    if isinstance(tenant, str):
        return tenant
    raise SettingError(f'tenant is {tenant!r}; it is a text such as "ada". Leave it out for the pages of everybody.')


def of_tenant(page: Page, tenant: str) -> Page:
    """The page as this tenant's.

    Raises:
        SettingError: It is another one's.
    """
    if page.tenant == tenant:
        return page
    if page.tenant:
        raise SettingError(
            f"Page {page.number} of {page.source or page.doc_id!r} is of tenant {page.tenant!r}, and this store is of "
            f"tenant {tenant!r}. Leave the page's tenant out, or use that tenant's store."
        )
    return replace(page, tenant=tenant)


class TenantEngine:
    """An engine with one tenant's points.

    Args:
        engine: With everybody's.
        tenant: Whose are shown.
    """

    def __init__(self, engine: Engine, tenant: str) -> None:
        self.engine, self.where, self.max_numbers = engine, engine.where, engine.max_numbers
        self.is_shared, self.is_staged = engine.is_shared, engine.is_staged
        self._tenant = storable(tenant)
        self._mine = FieldMatch(TENANT, (self._tenant,))

    def nearest(self, search: VectorSearch) -> list[SearchHit]:
        return self.engine.nearest(self._of_mine(search))

    def fused(self, search: FusedSearch) -> list[SearchHit]:
        dense, lexical = self._of_mine(search.dense), self._of_mine(search.lexical)
        return self.engine.fused(replace(search, dense=dense, lexical=lexical))

    def _of_mine(self, search: VectorSearch) -> VectorSearch:
        return replace(search, condition=both(self._mine, search.condition))

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> list[Record]:
        wanted = None if fields is None else (*fields, TENANT)
        found = []
        for record in self.engine.retrieve(ids, wanted, vectors):
            own = record.payload.get("visrag") or {}
            if own.get("tenant") == self._tenant:
                found.append(record)
        return found

    def scroll(
        self, condition: Condition | None, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Record]:
        return self.engine.scroll(both(self._mine, condition), fields, vectors)

    def count(self, condition: Condition | None) -> int:
        return self.engine.count(both(self._mine, condition))

    def counted_by(self, key: str, condition: Condition | None, most: int) -> dict[str, int] | None:
        return self.engine.counted_by(key, both(self._mine, condition), most)

    def upsert(self, points: Sequence[Point]) -> None:
        for point in points:
            if point.payload["visrag"]["tenant"] != self._tenant:
                raise SettingError(f"The page {point.id} is not of tenant {self._tenant!r}.")
        self.engine.upsert(points)

    def delete(self, ids: Sequence[str]) -> None:
        self.engine.delete([record.id for record in self.retrieve(ids, ())])

    def set_payload(self, ids: Sequence[str], payload: Mapping[str, Any], key: str) -> None:
        self.engine.set_payload([record.id for record in self.retrieve(ids, ())], payload, key)

    def set_payloads(self, changes: Sequence[PayloadChange]) -> None:
        mine = [change._replace(ids=[record.id for record in self.retrieve(change.ids, ())]) for change in changes]
        self.engine.set_payloads([change for change in mine if change.ids])

    # --- the collection as a whole, which no tenant has for itself ---

    def load_info(self) -> dict[str, Any] | None:
        return self.engine.load_info()

    @property
    def is_unfinished(self) -> bool:
        return self.engine.is_unfinished

    def is_in_use(self) -> bool:
        return self.engine.is_in_use()

    def create(self, schemas: Sequence[Schema], info: Mapping[str, Any], *, anew: bool = False) -> bool:
        if anew:
            self.drop()
        return self.engine.create(schemas, info)

    def begin_again(self, info: Mapping[str, Any]) -> None:
        self.engine.begin_again(info)

    def migrate(self, info: Mapping[str, Any]) -> None:
        self.engine.migrate(info)

    def without_name(self) -> str:
        return self.engine.without_name()

    def save_info(self, info: Mapping[str, Any]) -> None:
        self.engine.save_info(info)

    def index_fields(self, fields: Mapping[str, str]) -> None:
        self.engine.index_fields(fields)

    def optimize(self) -> bool:
        return self.engine.optimize()

    def drop(self) -> None:
        raise SettingError(f"{self.where}: a store of one tenant cannot drop the collection, which holds others too.")

    def close(self) -> None:
        self.engine.close()
