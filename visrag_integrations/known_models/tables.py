"""Known models as a table, and found by a name that is nearly theirs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from visrag_integrations.known_models.rows import KnownModel

TITLES = {"embedder": "Embedders", "reranker": "Rerankers", "generator": "Generators"}
"""Headings of the tables, by role, in their order."""
_HEAD = ("model", "parameters", "weights in bfloat16", "licence", "languages", "vectors", "published score")
_MOST = 3  # names that are suggested: more would be a list to read, not a hint
# Of letters that agree. A slip in a name of twenty letters, or an owner left out, agrees in more; at 0.5 nearly any
# name of this field would be suggested for any other.
_NEAR = 0.6


def markdown_table(models: Iterable[KnownModel]) -> str:
    """The models of one role as the table of docs/models.md."""
    head = (*_HEAD, "speed measured here", "how", "note")
    lines = [_line(head), _line(["---"] * len(head))]
    for model in models:
        known = [model.size, model.memory, model.licence, model.languages, model.kind, model.score, model.speed]
        lines.append(_line([f"`{model.name}`", *known, _ways(model), model.note]))
    return "\n".join(lines)


def find_model(name: str, models: Iterable[KnownModel]) -> KnownModel | None:
    """The model of that name, in whatever case and with or without its owner; None where there is none.

    >>> row = KnownModel("Alibaba-NLP/gme-Qwen2-VL-2B-Instruct", "embedder", ())
    >>> find_model("GME-Qwen2-VL-2B-Instruct", [row]) is row
    True
    """
    asked = _last(name)
    for model in models:
        owner, slash, _ = name.rpartition("/")
        same_owner = not slash or model.name.lower().startswith(f"{owner.lower()}/")
        if same_owner and _last(model.name) == asked:
            return model
    return None


def nearest_names(name: str, names: Sequence[str]) -> list[str]:
    """At most three names that are nearly this one, the nearest first.

    >>> nearest_names("colpali-v1.3", ["ocr", "vidore/colpali-v1.2", "vidore/colpali-v1.3-hf"])
    ['vidore/colpali-v1.3-hf', 'vidore/colpali-v1.2']
    """
    closeness: dict[str, float] = {}
    for known in names:
        # The name alone too, since the owner is what people leave out or get wrong.
        whole = difflib.SequenceMatcher(None, name.lower(), known.lower()).ratio()
        alone = difflib.SequenceMatcher(None, _last(name), _last(known)).ratio()
        closeness[known] = max(whole, alone)
        if len(_last(name)) > 3 and _last(known).startswith(_last(name)):
            closeness[known] = 1.0  # the beginning of a longer name: "colpali" of "vidore/colpali-v1.3-hf"
    near = [known for known in names if closeness[known] >= _NEAR]
    return sorted(near, key=lambda known: -closeness[known])[:_MOST]


def _last(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _ways(model: KnownModel) -> str:
    """How to get it, each way once with its extras: "in process `[vllm]` or `[torch]`, vLLM"."""
    extras: dict[str, list[str]] = {}
    for way in model.ways:
        of_way = extras.setdefault(way.name, [])
        if way.extra:
            of_way.append(f"`[{way.extra}]`")
    return ", ".join(f"{name} {' or '.join(each)}".strip() for name, each in extras.items())


def _line(cells: Iterable[str]) -> str:
    line = "|"
    for cell in cells:
        line += f" {cell} |" if cell else " |"
    return line
