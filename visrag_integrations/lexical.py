"""Words as sparse vectors (BM25) and how a dense and a lexical score become one.

A store keeps `document_vector(page.text)` with inverse document frequency switched on (Qdrant: `Modifier.IDF`) and
searches it with `query_vector(question)`: the dot product is BM25. Indices are stable hashes, so nothing has to be
fitted and pages can be added one by one. The average page length is a constant for the same reason.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter

K1 = 1.2
"""How soon more of the same word stops counting."""
B = 0.75
"""How much a long page is discounted: 0 is not at all."""
AVERAGE_LENGTH = 250.0
"""Tokens of a usual page; BM25 wants the mean of the collection, which no single page knows."""
MAX_QUERY_TOKENS = 2048
"""Different tokens of a query that count; the rest of a longer query is ignored."""

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\u31f0-\u31ff\uac00-\ud7af\u1100-\u11ff"
_RUN = re.compile(f"[{_CJK}\U00020000-\U0003ffff]+")
_GAP = re.compile(rf"(?<=[{_CJK}])\s+(?=[{_CJK}])")
_TOKEN = re.compile(rf"[{_CJK}\U00020000-\U0003ffff]+|\d+(?:[.,]\d+)*|[^\W_]+")


def tokens(text: str) -> list[str]:
    """The words of a text, folded for comparison; Chinese, Japanese and Korean as pairs of characters.

    >>> tokens("The Café's π is 3.14, not 1,000.")
    ['the', 'cafe', 's', 'π', 'is', '3.14', 'not', '1,000']
    >>> tokens("软件 包")
    ['软件', '件包']
    """
    folded = unicodedata.normalize("NFKD", text.casefold())
    folded = unicodedata.normalize("NFKC", "".join(c for c in folded if not "\u0300" <= c <= "\u036f"))
    found: list[str] = []
    for word in _TOKEN.findall(_GAP.sub("", folded)):
        if len(word) > 2 and _RUN.fullmatch(word):
            found.extend(word[i : i + 2] for i in range(len(word) - 1))
        else:
            found.append(word)
    return found


def document_vector(text: str) -> tuple[list[int], list[float]]:
    """Indices and BM25 term weights (without idf) of a page's text; both empty when it has no words."""
    counts = Counter(tokens(text))
    length = sum(counts.values())
    norm = K1 * (1 - B + B * length / AVERAGE_LENGTH)
    weights: dict[int, float] = {}
    for token, count in counts.items():
        index = _index(token)
        weights[index] = weights.get(index, 0.0) + count * (K1 + 1) / (count + norm)
    return list(weights), list(weights.values())


def query_vector(text: str) -> tuple[list[int], list[float]]:
    """Indices and weights of a query: 1.0 for each different token."""
    indices = list(dict.fromkeys(_index(token) for token in tokens(text)))[:MAX_QUERY_TOKENS]
    return indices, [1.0] * len(indices)


def fuse(dense: dict[str, float], lexical: dict[str, float], query: str) -> dict[str, float]:
    """One score for every id in either half; an id that a half does not know scores 0 there."""
    best = max(lexical.values(), default=0.0)
    scale = 1.0 / best if best > 0 else 0.0
    return {id_: lexical.get(id_, 0.0) * scale + 0.3 * dense.get(id_, 0.0) for id_ in {**dense, **lexical}}


def _index(token: str) -> int:
    return zlib.crc32(token.encode("utf-8", "surrogatepass"))
