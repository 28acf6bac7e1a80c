"""The ids of pages are name-based UUIDs as Python's own `uuid` makes them: an index keeps them for ever."""

from __future__ import annotations

import random
import uuid

import pytest

from visrag_integrations import Page
from visrag_integrations.errors import storable

NAMESPACE = uuid.UUID("5ba0e6f0-2d2f-5c1c-9c0e-6d7c3ad4c1b7")


def by_uuid(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, storable(name)))


def test_a_page_is_known_by_tenant_document_and_number() -> None:
    drawn = random.Random(0)
    for number in range(1, 5000):
        doc_id = "".join(drawn.choices("aé漢\udce9\x1f😀/", k=6))
        tenant = drawn.choice(["", "acme", "caf\udce9"])
        assert Page(doc_id, number, tenant=tenant).id == by_uuid(f"{tenant}\x1f{doc_id}\x1f{number}")


@pytest.mark.parametrize("given_id", ["7", "page 7", "caf\udce9", "not-a-uuid", "00000000-0000-0000-0000-000000000007"])
def test_an_id_that_a_host_gave_gets_one_of_its_own(given_id: str) -> None:
    assert Page("d1", 1, given_id=given_id).id == by_uuid(f"\x1f{given_id}")


def test_a_uuid_that_a_host_gave_stays_unless_tenants_share_the_collection() -> None:
    given = "9E107D9D-372B-4E4A-8C1E-0A2D5C6B7F80"
    assert Page("d1", 1, given_id=given).id == given.lower()
    assert Page("d1", 1, given_id=given, tenant="acme").id == by_uuid(f"acme\x1f{given}")
