"""The ids of pages: UUIDs made of a page's document and number, or of the id that a host framework gave it. Pure."""

from __future__ import annotations

import hashlib
import uuid

_NAMESPACE = uuid.UUID("5ba0e6f0-2d2f-5c1c-9c0e-6d7c3ad4c1b7").bytes


def id_of_page(doc_id: str, number: int, tenant: str = "") -> str:
    """The id of a page that is known by its document and number.

    >>> id_of_page("d1", 3) == str(uuid.uuid5(uuid.UUID(bytes=_NAMESPACE), "\\x1fd1\\x1f3"))
    True
    """
    return _name_based(f"{tenant}\x1f{doc_id}\x1f{number}")


def id_of_given(given_id: str, tenant: str = "") -> str:
    """A UUID stays what it is; any other string gets one of its own. The first 2**80 UUIDs are the stores'.

    >>> id_of_given("5BA0E6F0-2D2F-5C1C-9C0E-6D7C3AD4C1B7")
    '5ba0e6f0-2d2f-5c1c-9c0e-6d7c3ad4c1b7'
    """
    try:
        given = uuid.UUID(given_id)
    except ValueError:
        given = uuid.UUID(int=0)
    if given.int >> 80 and not tenant:
        return str(given)
    return _name_based(f"{tenant}\x1f{given_id}")


def _name_based(name: str) -> str:
    """`str(uuid.uuid5(_NAMESPACE, name))`, in a third of the time: a search makes one for every page it finds."""
    # Half surrogates, as in names of files that are not UTF-8, are written out: "caf\udce9" as "caf\\udce9".
    digest = hashlib.sha1(_NAMESPACE + name.encode("utf-8", "backslashreplace"), usedforsecurity=False).digest()
    bits = bytearray(digest[:16])
    # RFC 9562, 5.5: four bits say the version, 5, and two the variant.
    bits[6] = bits[6] & 0x0F | 0x50
    bits[8] = bits[8] & 0x3F | 0x80
    text = bits.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
