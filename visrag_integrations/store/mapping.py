"""Where others keep a page's text, source, number and picture in the payload of their points. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.store.conditions import All, Condition, Either, Empty, FieldMatch, Ids, Not, Range
from visrag_integrations.store.payload import OWN_KEYS
from visrag_integrations.store.shown import FilterView, at_path, spellings

# Others number their points; ours have UUIDs. Point 17 is the UUID that begins with these 48 bits and ends with 17.
_NUMBERED = 0x76697372_6167  # "visrag"


@dataclass(frozen=True)
class PayloadMapping:
    """Paths in the payload of somebody else's points; "" where there is nothing.

    Attributes:
        metadata: The object that holds the metadata; "" means that the payload itself is it.
        text: The page's text.
        source: The path or URI of its document.
        page: The page's number.
        first_page: What that number is on the first page: 0 or 1; None looks whether any page has a 0.
        doc_id: The document; its source where there is none.
        picture: A picture as base64 or data URL, or the name of its file below the folder `pictures`; or how that name
            is made, with braces: "{source}/{page}.png".
        node: LlamaIndex's node as JSON text, from which the text is taken.
    """

    metadata: str = ""
    text: str = "text"
    source: str = "source"
    page: str = "page"
    first_page: int | None = None
    doc_id: str = "doc_id"
    picture: str = "image"
    node: str = ""


LAYOUTS: Mapping[str, PayloadMapping] = {
    "langchain": PayloadMapping(
        "metadata", "page_content", "metadata.source", "metadata.page", 0, "metadata.doc_id", "metadata.image"
    ),
    "llamaindex": PayloadMapping("", "text", "file_path", "page_label", 1, "doc_id", "image", "_node_content"),
    "flat": PayloadMapping(),
}
"""What langchain-qdrant, LlamaIndex's Qdrant store, and the tutorials of ColPali and byaldi write."""
_OF_LLAMAINDEX = ("_node_content", "_node_type", "document_id", "ref_doc_id")


def read_mapping(mapping: str | Mapping[str, Any] | PayloadMapping | None, sample: Mapping[str, Any]) -> PayloadMapping:
    """The mapping that was asked for; for None the layout that this payload has.

    Raises:
        SettingError: An unknown layout, or an unknown field.
    """
    if mapping is None:
        if "_node_content" in sample:
            return LAYOUTS["llamaindex"]
        if "page_content" in sample and isinstance(sample.get("metadata"), Mapping):
            return LAYOUTS["langchain"]
        return LAYOUTS["flat"]
    if isinstance(mapping, PayloadMapping):
        return mapping
    if isinstance(mapping, str):
        if mapping not in LAYOUTS:
            raise SettingError(f"mapping is {mapping!r}; allowed: {', '.join(LAYOUTS)}, or a dict of payload paths.")
        return LAYOUTS[mapping]
    known = [each.name for each in fields(PayloadMapping)]
    unknown = sorted(set(mapping) - set(known))
    if unknown:
        raise SettingError(f"mapping has {', '.join(map(repr, unknown))}; allowed: {', '.join(known)}.")
    return PayloadMapping(**mapping)


def our_id(id_: object) -> str:
    """A point's id as a page has it.

    >>> our_id(17)
    '76697372-6167-0000-0000-000000000011'
    """
    text = str(id_)
    if text.isdecimal():
        return str(uuid.UUID(int=_NUMBERED << 80 | int(text)))
    return text


def their_id(id_: str) -> int | str:
    """A page's id as the point has it.

    >>> their_id(our_id(17)), their_id("5f0c9a52-1d1b-4c37-9d0a-0f4a5a0c9b11")
    (17, '5f0c9a52-1d1b-4c37-9d0a-0f4a5a0c9b11')
    """
    number = uuid.UUID(id_).int
    if number >> 80 == _NUMBERED:
        return number & (2**64 - 1)
    return id_


def our_payload(payload: Mapping[str, Any], id_: str, mapping: PayloadMapping) -> dict[str, Any]:
    """Their payload in our layout: a page that a host named, with the metadata that it has there."""
    shown = _shown(payload, mapping)
    source = _text_at(payload, mapping.source)
    doc_id = _text_at(payload, mapping.doc_id) or source or id_
    number = _number(_value_at(payload, mapping.page), mapping.first_page or 0)
    metadata: dict[str, Any] = {key: value for key, value in shown.items() if key not in OWN_KEYS}
    metadata |= {"source": source, "doc_id": doc_id, "number": number, "page": number - 1}
    metadata["sources"] = [source] if source else []
    picture = _picture(payload, id_, mapping, metadata)
    if picture:
        metadata["image"] = picture
    given = {key: value for key, value in shown.items() if key in OWN_KEYS and value != picture}
    text = _text_at(payload, mapping.text) or _node_text(payload, mapping)
    return {"page_content": text, "metadata": metadata, "visrag": {"given_id": id_, "given": given, "tenant": ""}}


def their_payload(ours: Mapping[str, Any], mapping: PayloadMapping) -> dict[str, Any]:
    """Our payload of a new page in their layout."""
    metadata, own = ours["metadata"], ours.get("visrag") or {}
    shown = {key: value for key, value in metadata.items() if key not in OWN_KEYS} | (own.get("given") or {})
    payload: dict[str, Any] = {}
    if mapping.metadata:
        _put(payload, mapping.metadata, shown)
    else:
        payload |= shown
    values = {
        mapping.text: ours["page_content"],
        mapping.source: metadata["source"],
        mapping.doc_id: metadata["doc_id"],
        mapping.page: metadata["number"] - 1 + (mapping.first_page or 0),
    }
    for path, value in values.items():
        if path:
            _put(payload, path, value)
    return payload


def their_condition(condition: Condition, mapping: PayloadMapping) -> Condition:
    """A condition on our payload as one on theirs."""
    match condition:
        case All(parts):
            return All(tuple(their_condition(part, mapping) for part in parts))
        case Either(parts):
            return Either(tuple(their_condition(part, mapping) for part in parts))
        case Not(inner):
            return Not(their_condition(inner, mapping))
        case FieldMatch() | Range() | Empty():
            return _their_field(condition, mapping)
        case _:
            return condition


def _their_field(leaf: FieldMatch | Range | Empty, mapping: PayloadMapping) -> Condition:
    view = FilterView()
    match leaf.key:
        case "visrag.source_keys":
            return at_path(leaf, mapping.source, view)
        case "document" | "metadata.doc_id":
            # A page without a document of its own has its source for it: see `our_payload`.
            places = [path for path in (mapping.doc_id, mapping.source) if path]
            return Either(tuple(at_path(leaf, path, view) for path in places))
        case "metadata.number":
            return at_path(_shifted(leaf, (mapping.first_page or 0) - 1), mapping.page, view)
        case "visrag.tenant" | "shown.tenant":
            key = "metadata.tenant"
        case _:
            key = leaf.key
    if not key.startswith("metadata."):
        return FieldMatch(key, ())  # fields of this library's own: nobody else's points have them
    found = []
    for path in spellings(key, {}):
        theirs = path.removeprefix("metadata.")
        found.append(at_path(leaf, f"{mapping.metadata}.{theirs}" if mapping.metadata else theirs, view))
    if len(found) == 1:
        return found[0]
    return All(tuple(found)) if isinstance(leaf, Empty) else Either(tuple(found))


def _shifted(leaf: FieldMatch | Range | Empty, step: int) -> FieldMatch | Range | Empty:
    """Numbers that count from 1, as they are counted there; page labels may be texts."""
    match leaf:
        case FieldMatch(key, values):
            moved: list[str | int | bool] = []
            for value in values:
                if isinstance(value, int) and not isinstance(value, bool):
                    moved += [value + step, str(value + step)]
                else:
                    moved.append(value)
            return FieldMatch(key, tuple(moved))
        case Range(key, bounds, False):
            return Range(key, {name: bound + step for name, bound in bounds.items()})
        case _:
            return leaf


def their_ids(condition: Condition) -> Condition:
    """The same with ids as the points have them."""
    match condition:
        case Ids(ids):
            return Ids(tuple(their_id(id_) for id_ in ids))  # type: ignore[misc]
        case All(parts):
            return All(tuple(map(their_ids, parts)))
        case Either(parts):
            return Either(tuple(map(their_ids, parts)))
        case Not(inner):
            return Not(their_ids(inner))
        case _:
            return condition


def _shown(payload: Mapping[str, Any], mapping: PayloadMapping) -> dict[str, Any]:
    """The metadata that whoever filled the collection would see."""
    held = _value_at(payload, mapping.metadata) if mapping.metadata else payload
    if not isinstance(held, Mapping):
        return {}
    hidden: Sequence[str] = (mapping.text,)
    if mapping.node:
        hidden = (mapping.text, *_OF_LLAMAINDEX, "doc_id")
    return {key: value for key, value in held.items() if mapping.metadata or key not in hidden}


def _picture(payload: Mapping[str, Any], id_: str, mapping: PayloadMapping, metadata: Mapping[str, Any]) -> str:
    if "{" not in mapping.picture:
        return _text_at(payload, mapping.picture)
    known = {**metadata, "id": their_id(id_), "page": _value_at(payload, mapping.page)}
    try:
        return mapping.picture.format_map(known)
    except (KeyError, IndexError, ValueError, AttributeError) as err:
        raise SettingError(f"The mapping's picture {mapping.picture!r} cannot be filled in: {err!r}.") from err


def _node_text(payload: Mapping[str, Any], mapping: PayloadMapping) -> str:
    node = payload.get(mapping.node) if mapping.node else None
    if not isinstance(node, str):
        return ""
    try:
        value = json.loads(node)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    text = value.get("text")
    if not isinstance(text, str):
        resource = value.get("text_resource")
        text = resource.get("text") if isinstance(resource, dict) else ""
    return text if isinstance(text, str) else ""


def _number(value: Any, first_page: int) -> int:
    """The page's number from 1; 1 where it says none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return 1
    return max(1, value - first_page + 1)


def _value_at(payload: Mapping[str, Any], path: str) -> Any:
    value: Any = payload
    for part in path.split(".") if path else ():
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if path else None


def _text_at(payload: Mapping[str, Any], path: str) -> str:
    value = _value_at(payload, path)
    return value if isinstance(value, str) else ""


def _put(payload: dict[str, Any], path: str, value: Any) -> None:
    *folders, name = path.split(".")
    place = payload
    for folder in folders:
        place = place.setdefault(folder, {})
    if isinstance(value, dict) and isinstance(place.get(name), dict):
        place[name] |= value
    else:
        place[name] = value
