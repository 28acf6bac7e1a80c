"""What a response says of its answer: JSON for programs, logs and traces, and beside it the core's own objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.schema import NodeWithScore

from visrag_integrations.grounding import ground, grounding_dict
from visrag_integrations.types import Answer, Evidence


class AnswerMetadata(dict[str, Any]):
    """JSON-like entries, and objects that are found by their name but are not among the items.

    So `metadata["answer"]` is the core's `Answer`, with its pages and pictures, while `json.dumps(metadata)` and a loop
    over its items see what is JSON.

    >>> import json
    >>> metadata = AnswerMetadata({"sufficient": True}, answer=Answer("12"))
    >>> metadata["answer"].text, "answer" in metadata, json.dumps(metadata)
    ('12', True, '{"sufficient": true}')
    """

    def __init__(self, entries: Mapping[str, Any] | None = None, **objects: Any) -> None:
        super().__init__(entries or {})
        self.objects = objects

    def __missing__(self, key: str) -> Any:
        return self.objects[key]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.objects

    def get(self, key: str, default: Any = None) -> Any:
        """The entry or object of that name."""
        try:
            return self[key]
        except KeyError:
            return default

    def keys(self) -> Any:
        """The names of entries and objects; `items` has the entries alone, and `json.dumps` goes by those."""
        names = [name for name, _ in self.items()]
        return dict.fromkeys([*names, *self.objects]).keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def fill(self, other: AnswerMetadata) -> None:
        """Take over everything of another one."""
        self.update(other)
        self.objects.update(other.objects)


def answer_metadata(answer: Answer, nodes: Sequence[NodeWithScore], **objects: Any) -> AnswerMetadata:
    """The answer as response metadata.

    >>> answer_metadata(Answer("12", thinking="Six and six."), [])["thinking"]
    'Six and six.'

    Args:
        answer: The answer.
        nodes: What the model was shown, in that order.
        **objects: More objects to find beside `answer`.
    """
    answer = ground(answer)
    entries = {
        "sufficient": answer.sufficient,
        "evidence": [_entry(entry, nodes) for entry in answer.evidence],
        "thinking": answer.thinking,
        "observation": answer.observation,
        "problems": list(answer.problems),
    }
    return AnswerMetadata(entries, answer=answer, **objects)


def _entry(entry: Evidence, nodes: Sequence[NodeWithScore]) -> dict[str, Any]:
    found: dict[str, Any] = {"index": entry.page_index, "node_id": None, "source": None, "page": None}
    page = entry.page
    if page is not None:
        found |= {"source": page.source, "page": page.number}
        # The model counts the images from 1.
        if 0 < entry.page_index <= len(nodes):
            found["node_id"] = nodes[entry.page_index - 1].node_id
    return {**found, "text": entry.text, "relevant": entry.relevant, **grounding_dict(entry)}
