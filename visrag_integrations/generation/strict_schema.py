"""JSON schemas as servers take them: strictly where the schema fits strict mode, else as a schema to go by.

Strict mode (OpenAI's "Structured Outputs") refuses a schema whose objects have properties that may be left out or that
are not named, and a number of keywords. Such a schema, sent as strict, is answered with an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# From OpenAI's guide "Structured model outputs", section "Supported schemas".
_REFUSED = frozenset(
    {
        *("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "default"),
        *("patternProperties", "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties"),
        *("unevaluatedItems", "contains", "minContains", "maxContains", "uniqueItems", "prefixItems"),
    }
)
_BY_NAME = ("properties", "$defs", "definitions")
"""Keywords whose value is a dict of schemas by names of the user's own."""
_IN_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_ALONE = ("items", "additionalProperties", "not", "contains")


def response_format(schema: Mapping[str, Any], strict: bool | None = None) -> dict[str, Any]:
    """The `response_format` of a chat completions request.

    >>> response_format({"type": "object", "properties": {}})["json_schema"]["strict"]
    False

    Args:
        schema: What the answer must be.
        strict: Whether strict mode is asked for; then objects that do not say whether they may have more properties
            say that they may not. None asks for it where the schema fits as it is.
    """
    sent = dict(schema)
    if strict is None:
        strict = fits_strict_mode(schema)
    elif strict:
        sent = closed(schema)
    named = {"name": "answer", "schema": sent, "strict": strict}
    return {"type": "json_schema", "json_schema": named}


def fits_strict_mode(schema: Mapping[str, Any]) -> bool:
    """Whether strict mode takes the schema: its root is an object, and every object says exactly what it has.

    >>> fits_strict_mode({"type": "object", "properties": {}, "additionalProperties": False})
    True
    >>> fits_strict_mode({"type": "object", "properties": {"a": {}}, "additionalProperties": False})
    False
    """
    if schema.get("type") != "object":
        return False
    return all(map(_fits, _parts(schema)))


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema whose objects say that they have no other properties, which strict mode asks for.

    >>> closed({"type": "object", "properties": {}})
    {'type': 'object', 'properties': {}, 'additionalProperties': False}
    """
    copy: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            copy[key] = {name: _closed(part) for name, part in value.items()}
        elif key in _IN_LISTS and isinstance(value, list):
            copy[key] = list(map(_closed, value))
        elif key in _ALONE:
            copy[key] = _closed(value)
        else:
            copy[key] = value
    if copy.get("type") == "object":
        copy.setdefault("additionalProperties", False)
    return copy


def _closed(part: Any) -> Any:
    return closed(part) if isinstance(part, Mapping) else part


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schema and all schemas in it."""
    yield schema
    for key in _BY_NAME:
        for part in _values(schema.get(key)):
            yield from _parts(part)
    for key in _IN_LISTS:
        for part in schema.get(key) or ():
            if isinstance(part, Mapping):
                yield from _parts(part)
    for key in _ALONE:
        alone = schema.get(key)
        if isinstance(alone, Mapping):
            yield from _parts(alone)


def _values(named: Any) -> list[Mapping[str, Any]]:
    if not isinstance(named, Mapping):
        return []
    return [part for part in named.values() if isinstance(part, Mapping)]


def _fits(part: Mapping[str, Any]) -> bool:
    if _REFUSED & part.keys():
        return False
    # {"$ref": "#/$defs/A", "description": "..."}: a reference stands alone.
    if "$ref" in part and len(part) > 1:
        return False
    if part.get("type") != "object":
        return bool(part)  # {} would be anything
    if part.get("additionalProperties") is not False:
        return False
    return set(part.get("required") or ()) == set(part.get("properties") or ())
