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

import functools
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import chain, pairwise

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
_ASCII_WORD = re.compile(r"\d+(?:[.,]\d+)*|[A-Za-z][A-Za-z0-9]*")  # the same, for ASCII
_PUNCTUATED = re.compile(r"[\x00-\x7f\u2010-\u2027\u2500-\u25ff]*")  # nor are these letters
_FIRST_UNSPACED = "\u0e00"
_UNSPACED_START = re.compile(f"[{_UNSPACED}]")
# Characters that folding leaves alone: most of what is not ASCII.
_PLAIN = re.compile(
    "[\x00-\x7f\u00ab\u00b7\u00bb\u2012-\u2016\u2018-\u2023\u3001\u3002\u3008-\u3011\u3041-\u3096\u30a1-\u30fe"
    "\u4e00-\u9fff\uac00-\ud7a3]*"
)
_LEADER = re.compile(r"(?:[.·…․‥]\s*){4,}")
_DOTS = re.compile(r"[.·…․‥]\s*[.·…․‥]")


class _Accents(dict[int, "int | None"]):
    """For `str.translate`: leaves accents out; knows a character once it has met it."""

    def __missing__(self, code: int) -> int | None:
        self[code] = code if unicodedata.combining(chr(code)) < 10 else None
        return self[code]


_ACCENTS = _Accents()


def tokens(text: str) -> list[str]:
    """The words of a text, folded for comparison: case, accents, ligatures, full-width forms, thousands separators.

    Scripts without spaces give pairs of characters; white space inside them is ignored.

    >>> tokens("The Café's π is 3.14, not 1,000.")
    ['the', 'cafe', 's', 'π', 'is', '3.14', 'not', '1000']
    >>> tokens("软件 包, ﬁle_name")
    ['软件', '件包', 'file', 'name']
    """
    return _words(_fold(text))


def document_vector(text: str) -> tuple[list[int], list[float]]:
    """Indices and BM25 term weights (without idf) of a page's text; both empty when it has no words.

    Line breaks matter: give the text as it stands on the page.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    folded = [_fold(line) for line in lines]
    by_line = [_words(line) for line in folded]
    words = list(chain.from_iterable(by_line)) if text.isascii() else _across_lines(folded, by_line)
    norm = K1 * (1 - B + B * len(words) / AVERAGE_LENGTH)
    encoded = list(map(_encoded, words))
    starts = [crc for crc, _ in encoded]
    counts = Counter(starts)
    pairs = Counter(map(zlib.crc32, [data for _, data in encoded[1:]], starts))  # `_index` of "first second"
    points = {n: n * (K1 + 1) / (n + norm) for n in {*counts.values(), *pairs.values()}}
    weights = {index: points[n] for index, n in counts.items()}
    shared = [(index, weights[index]) for index in weights.keys() & pairs.keys()]
    weights |= {index: points[n] for index, n in pairs.items()}
    for index, more in shared:
        weights[index] += more
    weights |= dict.fromkeys(map(_index, _headings(lines, by_line)), 1.0)
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
    if text.isascii() or _PLAIN.fullmatch(text):
        return text.lower()
    parts = unicodedata.normalize("NFKD", text.casefold().replace("\u00ad", "")).translate(_ACCENTS)
    return parts if parts.isascii() else unicodedata.normalize("NFKC", parts)


def _words(folded: str) -> list[str]:
    """The words of a folded text."""
    if "," in folded:
        folded = _THOUSANDS.sub("", folded)
    if folded.isascii():
        return _ASCII_WORD.findall(folded)
    if _PUNCTUATED.fullmatch(folded):
        return _ASCII_WORD.findall(folded)
    if not _UNSPACED_START.search(folded):
        return _WORD.findall(folded)
    found: list[str] = []
    for word in _WORD.findall(_GAP.sub("", folded)):
        if len(word) > 2 and word[0] >= _FIRST_UNSPACED and _UNSPACED_START.match(word):
            found.extend(map("".join, pairwise(word)))
        else:
            found.append(word)
    return found


def _across_lines(folded: list[str], by_line: list[list[str]]) -> list[str]:
    """The words of all lines, as `_words` of the whole: unspaced writing goes on from one line to the next."""
    found: list[str] = []
    open_end = False
    for line, words in zip(folded, by_line, strict=True):
        stripped = line.strip()
        if not stripped:
            continue
        if open_end and stripped[0] >= _FIRST_UNSPACED and _UNSPACED_START.match(stripped):
            last = found[-1] if len(found[-1]) > 1 else found.pop()  # a lone character is only half of a pair
            found.append(last[-1] + stripped[0])
            found.extend(words if len(words[0]) > 1 else words[1:])
        else:
            found.extend(words)
        open_end = stripped[-1] >= _FIRST_UNSPACED and _UNSPACED_START.match(stripped[-1]) is not None
    return found


def _pairs(words: list[str]) -> list[str]:
    return [f"{first} {second}" for first, second in pairwise(words)]


def _headings(lines: list[str], by_line: list[list[str]]) -> Iterator[str]:
    """The short lines of a page as terms, without those of a table of contents."""
    leads = [_leads(line) for line in lines]
    for words, within, after in zip(by_line, leads, [*leads, ""][1:], strict=True):
        if not within and after != "start" and (term := _line(words)):
            yield term


def _leads(line: str) -> str:
    """Where a line has the dots of a table of contents: "start", "within", or "" for nowhere."""
    found = _LEADER.search(line.lstrip()) if _DOTS.search(line) else None
    return "" if found is None else ("within" if found.start() else "start")


def _line(words: list[str]) -> str:
    """One line as a term, without the number before a heading; "" when it is too long or empty."""
    first = 0
    while first < len(words) and words[first][0].isdigit():
        first += 1
    heading = words[first:]
    return "\n" + " ".join(heading) if 0 < len(heading) <= MAX_LINE_WORDS else ""


@functools.lru_cache(1 << 15)
def _encoded(word: str) -> tuple[int, bytes]:
    """Its index, and how it continues a pair."""
    data = word.encode("utf-8", "surrogatepass")
    return zlib.crc32(data), b" " + data


def _index(term: str) -> int:
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))
