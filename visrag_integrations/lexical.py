"""Words as sparse vectors (BM25) and how a dense and a lexical score become one.

A store keeps `document_vector(page.text)` with inverse document frequency switched on (Qdrant: `Modifier.IDF`) and
searches it with `query_vector(question)`: the dot product is BM25 over three kinds of terms, so that nothing but one
page's own text is needed to index it and pages can be added one by one:

- its words (pairs of characters in scripts that do not put spaces between words),
- pairs of neighbouring words, which count a little, so that a phrase beats the same words scattered,
- whole short lines, so that a page that carries a heading beats the pages that mention its words. Lines of a table of
  contents are told by their leaders ("Widgets . . . . 127") and left out: they point at a heading, they are not it.

Terms are numbered by a stable hash. The average page length is a constant because no single page knows the mean.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from itertools import pairwise

K1 = 0.9
"""How soon more of the same word stops counting."""
B = 0.4
"""How much a long page is discounted: 0 is not at all."""
AVERAGE_LENGTH = 300.0
"""Words of a usual page."""
PAIR_WEIGHT = 0.2
LINE_WEIGHT = 1.0
"""What a pair of words and a whole line count beside a word's 1.0."""
DENSE_WEIGHT = 2.0
"""What a cosine of 1.0 counts beside one BM25 point for every word of the query."""
MAX_QUERY_WORDS = 2048
"""Words of a query that count; the rest of a longer query is ignored."""
MAX_LINE_WORDS = 16

# Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, then Chinese, Japanese and Korean (text extracted
# from Korean files often lost its spaces, so Hangul is treated alike).
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_INDIC = "\u0900-\u0963\u0966-\u0dff"  # vowel signs are no letters to `re`, and still part of the word
_GAP = re.compile(rf"(?<=[{_UNSPACED}])\s+(?=[{_UNSPACED}])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WORD = re.compile(
    rf"[{_UNSPACED}]+|\d+(?:[.,]\d+)*|(?:[^\W\d_{_UNSPACED}]|[{_INDIC}])(?:[^\W_{_UNSPACED}]|[{_INDIC}])*"
)
_LEADER = re.compile(r"(?:[.·…․‥]\s*){4,}")


def tokens(text: str) -> list[str]:
    """The words of a text, folded for comparison: case, accents, ligatures, full-width forms, thousands separators.

    Scripts without spaces give pairs of characters; white space inside them is ignored.

    >>> tokens("The Café's π is 3.14, not 1,000.")
    ['the', 'cafe', 's', 'π', 'is', '3.14', 'not', '1000']
    >>> tokens("软件 包, ﬁle_name")
    ['软件', '件包', 'file', 'name']
    """
    found: list[str] = []
    for word in _WORD.findall(_THOUSANDS.sub("", _GAP.sub("", _fold(text)))):
        if len(word) > 2 and re.match(f"[{_UNSPACED}]", word):
            found.extend(word[i : i + 2] for i in range(len(word) - 1))
        else:
            found.append(word)
    return found


def document_vector(text: str) -> tuple[list[int], list[float]]:
    """Indices and BM25 term weights (without idf) of a page's text; both empty when it has no words.

    Line breaks matter: give the text as it stands on the page.
    """
    words = tokens(text)
    norm = K1 * (1 - B + B * len(words) / AVERAGE_LENGTH)
    weights: dict[int, float] = {}
    for term, count in (Counter(words) + Counter(_pairs(words))).items():
        index = _index(term)
        weights[index] = weights.get(index, 0.0) + count * (K1 + 1) / (count + norm)
    for line in _lines(text):
        weights[_index(line)] = 1.0
    return list(weights), list(weights.values())


def query_vector(text: str) -> tuple[list[int], list[float]]:
    """Indices and weights of a query: 1.0 for each different word, other weights for their pairs and the whole line."""
    words = tokens(text)[:MAX_QUERY_WORDS]
    line = _line(words)
    weights = {_index(line): LINE_WEIGHT} if line else {}
    weights |= {_index(pair): PAIR_WEIGHT for pair in _pairs(words)}
    weights |= {_index(word): 1.0 for word in words}
    return list(weights), list(weights.values())


def fuse(dense: dict[str, float], lexical: dict[str, float], query: str) -> dict[str, float]:
    """One score for every id in either half: BM25 points per word of the query + `DENSE_WEIGHT` x cosine.

    BM25 is taken as it is, not scaled to the best page: where the query's own words are on a page they decide, and
    where the best page has only a few of them (a paraphrase) the vectors do. An id missing in a half scores 0 there.

    Args:
        dense: Cosine, or MaxSim divided by the number of the query's vectors, by id.
        lexical: BM25 by id, from `query_vector(query)`.
        query: The query's text.

    >>> fuse({"a": 0.5, "b": 0.4}, {"b": 6.0}, "three short words")
    {'a': 1.0, 'b': 2.8}
    """
    count = max(1, len(set(tokens(query)[:MAX_QUERY_WORDS])))
    ids = {**dense, **lexical}
    return {i: lexical.get(i, 0.0) / count + DENSE_WEIGHT * max(0.0, dense.get(i, 0.0)) for i in ids}


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFKD", text.casefold().replace("\u00ad", ""))
    return unicodedata.normalize("NFKC", "".join(c for c in parts if unicodedata.combining(c) < 10))


def _pairs(words: list[str]) -> list[str]:
    return [f"{first} {second}" for first, second in pairwise(words)]


def _lines(text: str) -> set[str]:
    """The short lines of a page as terms, without those of a table of contents."""
    lines = [line for line in text.splitlines() if line.strip()]
    found = set()
    for line, after in pairwise([*lines, ""]):
        if not _LEADER.search(line) and not _LEADER.match(after.lstrip()):
            found.add(_line(tokens(line)))
    return found - {""}


def _line(words: list[str]) -> str:
    """One line as a term, without the number before a heading; "" when it is too long or empty."""
    first = next((i for i, word in enumerate(words) if not word[0].isdigit()), len(words))
    heading = words[first:]
    return "\n" + " ".join(heading) if 0 < len(heading) <= MAX_LINE_WORDS else ""


def _index(term: str) -> int:
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))
