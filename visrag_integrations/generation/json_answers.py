"""Answers and evidence that a model wrote as JSON, in the shapes in which models write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from visrag_integrations.generation.events import Section
from visrag_integrations.generation.indexes import next_start, placed_numbers

MAX_DEPTH = 64
"""Brackets within brackets in an answer that is read as JSON; answers need three or four."""
_BRACKET = re.compile(r"[\[\]{}]")
_FENCE = re.compile(r"\s*```(?:json)?", re.IGNORECASE)
_INDEX_KEYS = ("index", "image_index", "page_index", "image", "page", "img", "id", "number", "i", "image_id", "page_id")
_TEXT_KEYS = ("text", "evidence", "content", "information", "info", "value", "description", "quote", "details")
_SECTION_KEYS: dict[str, Section] = {
    **dict.fromkeys(("observe", "observation", "observations"), "observe"),
    **dict.fromkeys(("evidence", "evidences"), "evidence"),
    **dict.fromkeys(("think", "thinking", "thought", "reasoning", "reason"), "think"),
    **dict.fromkeys(("answer", "final_answer", "finalanswer"), "answer"),
}
_FIGURES = re.compile(r"[0-9０-９]{1,9}")


class JsonEntry(NamedTuple):
    """An evidence entry; `relevant` is None where its words have to tell."""

    indexes: tuple[int, ...]
    text: str
    relevant: bool | None = None


def looks_like_json(head: str) -> bool | None:
    """Whether a text whose first letters, blanks left out, are these may be JSON; None: too few to tell.

    >>> looks_like_json('{"a":1'), looks_like_json("[1]:"), looks_like_json("["), looks_like_json("```json{")
    (True, False, None, True)
    """
    head = head.lower()
    for fence in ("```json", "```{", "```["):
        if head.startswith(fence):
            return True
        if head and fence.startswith(head):
            return None
    if head in ("", "["):
        return None
    return head.startswith(("{", "[{", '["'))


def entries_in(text: str) -> list[JsonEntry]:
    """The entries of an evidence section that is JSON; [] when it is none."""
    return list(_entries(_parsed(text)))


def sections_in(text: str) -> dict[Section, Any]:
    """The sections of an answer that is one JSON object, by name; {} when it is none, or has no answer."""
    value = _parsed(text)
    found: dict[Section, Any] = {}
    if isinstance(value, Mapping):
        for key, content in value.items():
            section = _SECTION_KEYS.get(key.strip(" <>").lower().replace(" ", "_"))
            if section is not None:
                found[section] = content
    return found if "answer" in found else {}


def entries_of(value: Any) -> list[JsonEntry]:
    """The entries in a value that JSON gave."""
    return list(_entries(value))


def text_of(value: Any) -> str:
    """A value of JSON as the text that it stands for; what is not text is JSON again."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _parsed(text: str) -> Any:
    fence = _FENCE.match(text)
    if fence is not None:
        text = text[fence.end() :].rstrip().removesuffix("```")
    if _is_deep(text):
        return None
    try:
        return json.loads(text.strip(), strict=False)
    except ValueError:  # of a number with very many digits too
        return None


def _is_deep(text: str) -> bool:
    """Whether brackets are nested deeper than any answer; JSON of that depth would break the stack."""
    depth = 0
    for bracket in _BRACKET.finditer(text):
        if bracket[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        else:
            depth -= 1
    return False


def _entries(value: Any) -> Iterator[JsonEntry]:
    if isinstance(value, Mapping):
        inner = list(value.values())
        if _index_in(value) is not None:
            yield from _listed([value])
        elif len(inner) == 1 and not isinstance(inner[0], str) and _numbers(next(iter(value))) is None:
            yield from _entries(inner[0])  # {"evidence": [...]}
        else:
            yield from _keyed(value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from _listed(value)


def _keyed(value: Mapping[str, Any]) -> Iterator[JsonEntry]:
    """{"1": "total 7", "[2]": "no relevant information", "Image 3": {"text": "..."}}."""
    for key, content in value.items():
        indexes = _numbers(key)
        if indexes is None:
            continue
        yield _entry(indexes, content)


def _listed(value: Sequence[Any]) -> Iterator[JsonEntry]:
    """[{"image": 1, "text": "total 7"}], ["[1]: total 7"], ["total 7", "no relevant information"]."""
    for place, content in enumerate(value, start=1):
        indexes: tuple[int, ...] | None = (place,)
        if isinstance(content, Mapping):
            indexes = _index_in(content)
            if indexes is None and len(content) == 1:  # [{"1": "total 7"}, {"2": "..."}]
                yield from _keyed(content)
                continue
        elif isinstance(content, str) and (start := next_start(content, 0)) is not None and start.begin == 0:
            yield JsonEntry(start.indexes, content[start.end :])
            continue
        yield _entry(indexes or (place,), content)


def _entry(indexes: tuple[int, ...], content: Any) -> JsonEntry:
    if not isinstance(content, Mapping):
        return JsonEntry(indexes, text_of(content))
    relevant = content.get("relevant")
    if not isinstance(relevant, bool):
        relevant = None
    for key, text in content.items():
        if key.lower() in _TEXT_KEYS:
            return JsonEntry(indexes, text_of(text), relevant)
    rest = {key: text for key, text in content.items() if key.lower() not in _INDEX_KEYS}
    return JsonEntry(indexes, text_of(rest), relevant)


def _index_in(value: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The number that an object says it is about."""
    for key, content in value.items():
        if key.lower() in _INDEX_KEYS:
            return _numbers(content)
    return None


def _numbers(written: Any) -> tuple[int, ...] | None:
    """The images named by a key or value such as 2, "2", "[2]", "Image 2" or [1, 2]; None where it names none."""
    if isinstance(written, Sequence) and not isinstance(written, str):
        numbers: list[int] = []
        for one in written:
            numbers += _numbers(one) or ()
        return tuple(dict.fromkeys(numbers)) or None
    if isinstance(written, bool) or not isinstance(written, (int, str)):
        return None
    text = str(written) if isinstance(written, str) or abs(written) < 10**9 else ""
    if not 1 <= len(_FIGURES.findall(text)) <= 10 or len(text) > 60:
        return None
    return placed_numbers(text) or None
