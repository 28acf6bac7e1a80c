"""A page as the payload of its point, and back. Pure: pictures are only spoken of by their reference."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from visrag_integrations.errors import SettingError, StoreFormatError, storable
from visrag_integrations.images import EncodedPixels, Pixels
from visrag_integrations.store.json_values import json_like
from visrag_integrations.store.source_folders import folder_keys
from visrag_integrations.types import Page, Word

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource

OWN_KEYS = frozenset({"source", "sources", "doc_id", "number", "page", "image"})
"""Metadata keys of the payload that are fields of a `Page`; its own metadata must not use them otherwise."""
LISTING = ("metadata.doc_id", "metadata.number", "metadata.sources", "metadata.total_pages")
"""What a list of documents needs of a payload."""
# Boxes are kept as whole hundred-thousandths of the page, as fine as OCR gives them: 0.003 mm of an A4 page.
_UNITS = 100_000
# A damaged or hostile payload must not fill the memory. A word with its box takes some 40 bytes, so that this is far
# above the words of any page.
_MAX_WORDS_BYTES = 1 << 26


def page_to_payload(page: Page, *, sources: Sequence[str] = (), image: str | None = None) -> dict[str, Any]:
    """The payload of a page's point.

    Args:
        page: The page.
        sources: Where else the same page was found before; the page's own source is added.
        image: The reference of its stored picture.

    >>> page_to_payload(Page("d1", 2, text="Hi", source="a/b.pdf"))["metadata"]
    {'source': 'a/b.pdf', 'sources': ['a/b.pdf'], 'doc_id': 'd1', 'number': 2, 'page': 1}

    Raises:
        SettingError: Metadata that JSON cannot hold, or under a key that is the store's own.
    """
    merged = _merged_sources(page, sources)
    metadata: dict[str, Any] = {
        "source": merged[0] if merged else "",
        "sources": merged,
        "doc_id": storable(page.doc_id),
        "number": page.number,
        "page": page.number - 1,
    }
    if image is not None:
        metadata["image"] = image
    own: dict[str, Any] = {"tenant": storable(page.tenant), **_looked_up_by(merged)}
    if page.given_id:
        given = _given_values(page)
        own |= {"given_id": storable(page.given_id), "given": given}
        if "page" in given:
            metadata["page"] = given["page"]  # the host filters by the number it gave
    else:
        _check_own_keys(page, metadata)
    for key, value in page.metadata.items():
        if key not in OWN_KEYS:
            metadata[storable(str(key))] = json_like(value, str(key))
    if page.words:
        own["words"] = pack_words(page.words)
    content = content_key(page)
    if content:
        own["content"] = content
    return {"page_content": storable(page.text), "metadata": metadata, "visrag": own}


def _merged_sources(page: Page, before: Sequence[str]) -> list[str]:
    """Every place where the page was found, each once, the oldest first."""
    # A page that a host named is replaced as a whole, so the places of the one before are not its own.
    found = [page.source] if page.given_id else [*before, page.source, *_metadata_sources(page.metadata)]
    return list(dict.fromkeys(storable(source) for source in found if source))


def _given_values(page: Page) -> dict[str, Any]:
    """What a host's metadata has under the store's own keys: kept apart, and given back as it came."""
    return {key: json_like(page.metadata[key], key) for key in page.metadata if key in OWN_KEYS}


def _check_own_keys(page: Page, metadata: Mapping[str, Any]) -> None:
    """Nothing when the page's metadata says under the store's own keys what the page itself says."""
    for key, value in page.metadata.items():
        if key in OWN_KEYS and key != "sources" and metadata.get(key) != value:
            raise SettingError(_reserved(page, key, value))


def payload_to_page(payload: Mapping[str, Any], picture: PictureSource | None = None) -> Page:
    """The page that a payload describes.

    >>> page = Page("d1", 2, text="Hi", source="a/b.pdf", metadata={"year": 2024})
    >>> payload_to_page(page_to_payload(page)) == page
    True
    """
    metadata = payload.get("metadata") or {}
    own = payload.get("visrag") or {}
    kept = {key: value for key, value in metadata.items() if key not in OWN_KEYS}
    if own.get("given_id"):
        kept |= own.get("given") or {}
    elif len(metadata.get("sources") or ()) > 1:
        kept["sources"] = list(metadata["sources"])
    words: Sequence[Word] = ()
    if own.get("words"):
        words = PackedWords(own["words"])
    return Page(
        doc_id=metadata["doc_id"],
        number=metadata["number"],
        text=payload.get("page_content") or "",
        source=metadata.get("source") or "",
        metadata=kept,
        words=words,
        tenant=own.get("tenant") or "",
        picture=picture,
        given_id=own.get("given_id") or "",
    )


def content_key(page: Page) -> str:
    """The same for pages with the same pixels (or picture file) and text, in any document; "" for other pictures.

    >>> content_key(Page("d1", 1, picture=b"jpeg")) == content_key(Page("d2", 7, picture=b"jpeg"))
    True
    """
    picture = page.picture
    if isinstance(picture, (Pixels, EncodedPixels)):
        digest = picture.digest
    elif isinstance(picture, bytes):
        digest = f"file\n{hashlib.sha256(picture).hexdigest()}"
    else:
        return ""
    known = f"{digest}\n{storable(page.text)}"
    return hashlib.sha256(known.encode("utf-8")).hexdigest()[:32]


def source_fields(sources: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What changes in `metadata` and in `visrag` when a page is found at these sources."""
    return {"source": sources[0], "sources": list(sources)}, _looked_up_by(sources)


def _looked_up_by(sources: Sequence[str]) -> dict[str, Any]:
    """What a page is found by that lies at these sources: their names, and their folders."""
    return {"source_keys": source_keys(sources), "folders": folder_keys(sources)}


def source_keys(sources: Iterable[str]) -> list[str]:
    """What a filter on "source" may name: the paths and URIs themselves, and their file names.

    >>> source_keys(["a/b.pdf", "https://h/d.pdf?v=1"])
    ['a/b.pdf', 'b.pdf', 'https://h/d.pdf?v=1', 'd.pdf']
    """
    keys: dict[str, None] = {}  # in order, each once
    for source in sources:
        path = source
        if "://" in source:
            path = re.split(r"[?#]", source, maxsplit=1)[0]  # https://h/d.pdf?v=1 -> https://h/d.pdf
        name = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
        keys |= {source: None, name: None}
    keys.pop("", None)
    return list(keys)


def pack_words(words: Sequence[Word]) -> str:
    """Words and boxes in few characters; boxes are rounded to a hundred-thousandth of the page.

    >>> unpack_words(pack_words([Word("Hi", (0.1, 0.2, 0.3, 0.4))]))
    (Word(text='Hi', box=(0.1, 0.2, 0.3, 0.4)),)
    """
    # All edges in one flat list: [left, top, right, bottom, left, top, ...], four a word.
    edges = np.array([word.box for word in words], np.float64).ravel()
    units = np.rint(edges * _UNITS).astype(np.int64).tolist()
    compact = json.dumps([[word.text for word in words], units], separators=(",", ":"))
    # Level 1: the fastest. A page's words are packed while it is indexed.
    return base64.b64encode(zlib.compress(compact.encode("ascii"), 1)).decode("ascii")


def unpack_words(packed: str) -> tuple[Word, ...]:
    """What `pack_words` packed.

    Raises:
        StoreFormatError: It is damaged.
    """
    try:
        unpacker = zlib.decompressobj()
        compact = unpacker.decompress(base64.b64decode(packed), _MAX_WORDS_BYTES)
        if not unpacker.eof:
            raise ValueError("cut off")
        texts, units = json.loads(compact)
        edges = iter([unit / _UNITS for unit in units])
        # The same iterator four times takes four edges a word; `strict` below refuses a box without a word.
        boxes = zip(edges, edges, edges, edges, strict=False)
        return tuple(Word(str(text), box) for text, box in zip(texts, boxes, strict=True))
    except (ValueError, TypeError, zlib.error) as err:
        raise StoreFormatError(
            f"The stored word boxes of a page are damaged ({err}). Index its document again."
        ) from err


class PackedWords(Sequence[Word]):
    """Words that are unpacked when they are first looked at, because most searches never do."""

    def __init__(self, packed: str) -> None:
        self._packed = packed

    @functools.cached_property
    def _words(self) -> tuple[Word, ...]:
        return unpack_words(self._packed)

    @overload
    def __getitem__(self, place: int) -> Word: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Word, ...]: ...
    def __getitem__(self, place: int | slice) -> Word | tuple[Word, ...]:
        return self._words[place]

    def __len__(self) -> int:
        return len(self._words)

    def __bool__(self) -> bool:
        return True  # a page without words has none packed; to ask whether there are any unpacks nothing

    def __iter__(self) -> Iterator[Word]:
        return iter(self._words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._words == tuple(other)

    def __hash__(self) -> int:
        return hash(self._words)


def _metadata_sources(metadata: Mapping[str, Any]) -> list[str]:
    sources = metadata.get("sources") or ()
    if isinstance(sources, (list, tuple)) and all(isinstance(source, str) for source in sources):
        return list(sources)
    raise SettingError(f"The page metadata 'sources' is {sources!r}; it must be a list of paths or URIs.")


def _reserved(page: Page, key: str, value: Any) -> str:
    return (
        f"Page {page.number} of {page.source or page.doc_id!r} has the metadata {key!r}={value!r}, which the store "
        f"keeps from the page itself (source, doc_id, number; 'page' is number - 1). Give it another name."
    )
