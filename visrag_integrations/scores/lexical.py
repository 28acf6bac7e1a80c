"""Words as sparse vectors (BM25) and how a dense and a lexical score become one.

A store keeps `document_vector(page.text)` with inverse document frequency switched on (Qdrant: `Modifier.IDF`) and
searches it with `query_vector(question)`: the dot product is BM25 over three kinds of terms, so that nothing but one
page's own text is needed to index it and pages can be added one by one:

- its words (pairs of characters in scripts that do not put spaces between words), and other forms of them, as people
  type them: numbers in plain digits, part numbers without separators, words divided at line ends (`word_forms`),
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

from visrag_integrations.scores import word_forms

RULES = 2
"""Which rules the vectors of a page's words follow; a collection remembers it.

1: words as they are printed. 2: other forms of them too (`word_forms`), Arabic without tatweel and apart from Latin
letters, digits of every script as 0 to 9, letters with a stroke as those without. A query holds all terms of rules 1
but for these last few, so that older collections are searched as before.
"""
# K1, B and AVERAGE_LENGTH are in the vectors of every stored page: another value means indexing again.
# K1 and B are the values of Anserini and Pyserini, below the textbook's 1.2 and 0.75. Larger: a page that repeats one
# word beats one that has them all (K1), and full pages lose to nearly empty ones (B).
K1 = 0.9
"""How soon more of the same word stops counting."""
B = 0.4
"""How much a long page is discounted: 0 is not at all."""
# No single page knows the mean, so it is a constant; with B = 0.4, being off by half changes a weight by a tenth or so.
AVERAGE_LENGTH = 300.0
"""Words of a usual page."""
# Judged by benchmarks/quality.py (benchmarks/RESULTS.md has the numbers for 0.1 to 0.4). More for pairs: pages that
# happen to have two words side by side beat pages with all of them. Less: five words of one line find it less often.
# At LINE_WEIGHT less than a word, a page that mentions a heading's words often beats the page that carries it.
PAIR_WEIGHT = 0.3
LINE_WEIGHT = 1.0
"""What a pair of words and a whole line count beside a word's 1.0."""
# Judged by benchmarks/quality.py on 139 questions in people's own words, and on the pages' words (benchmarks/RESULTS.md
# has 2.7 to 3.5). Fewer: a page that has some of the query's words by chance beats the one that is about it. More: a
# page that has every word of the query loses to one that is only about the same thing.
POINTS_PER_WORD = 3.0
"""BM25 points for every word of the query that count as much as a cosine of 1.0."""
# Protects the search from a whole document as its query; a page of text has some 300 words.
MAX_QUERY_WORDS = 2048
"""Words of a query that count; the rest of a longer query is ignored."""
MAX_FORMED_WORDS = 256
"""Words of the longest query whose numbers and names are looked for in other forms too; a longer one is a text."""
# Longer than this a line is a sentence, not a heading, and nobody asks for it word by word.
MAX_LINE_WORDS = 16

# Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, then Chinese, Japanese and Korean (text extracted
# from Korean files often lost its spaces, so Hangul is treated alike).
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_INDIC = "\u0900-\u0963\u0966-\u0dff"  # vowel signs are no letters to `re`, and still part of the word
# White space between two unspaced characters is a line break or a typesetter's: "软件 包" -> "软件包".
_GAP = re.compile(rf"(?<=[{_UNSPACED}])\s+(?=[{_UNSPACED}])")
# "1,000" -> "1000", but "1,00" and "10,0000" stay.
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WORD = re.compile(
    rf"[{_UNSPACED}]+|\d+(?:[.,]\d+)*|(?:[^\W\d_{_UNSPACED}]|[{_INDIC}])(?:[^\W_{_UNSPACED}]|[{_INDIC}])*"
)
_ASCII_WORD = re.compile(r"\d+(?:[.,]\d+)*|[A-Za-z][A-Za-z0-9]*")  # the same, for ASCII
_PUNCTUATED = re.compile(r"[\x00-\x7f\u2010-\u2027\u2500-\u25ff]*")  # nor are these letters
_FIRST_UNSPACED = "\u0e00"
_UNSPACED_START = re.compile(f"[{_UNSPACED}]")
_TATWEEL = "\u0640"  # lengthens an Arabic word for the eye: "تكلفـــة"
_ARABIC = "\u0620-\u063f\u0641-\u064a\u066e-\u06d3"
# Between Arabic letters and Latin ones or digits no space is needed: "بلغةR".
_ARABIC_EDGE = re.compile(rf"(?<=[{_ARABIC}])(?=[a-z0-9])|(?<=[a-z0-9])(?=[{_ARABIC}])")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
# Letters that have no accent to be taken off, and are typed without their stroke.
_STROKES = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "þ": "th"})
# Characters that folding leaves alone: most of what is not ASCII.
_PLAIN = re.compile(
    "[\x00-\x7f\u00ab\u00b7\u00bb\u2012-\u2016\u2018-\u2023\u3001\u3002\u3008-\u3011\u3041-\u3096\u30a1-\u30fe"
    "\u4e00-\u9fff\uac00-\ud7a3]*"
)
# The dots of a table of contents: four or more, spaced or not; three are an ellipsis.
_LEADER = re.compile(r"(?:[.·…․‥]\s*){4,}")
# Two dots: a quick look that spares most lines the slower pattern.
_DOTS = re.compile(r"[.·…․‥]\s*[.·…․‥]")


class _Accents(dict[int, "int | None"]):
    """For `str.translate`: leaves accents out; knows a character once it has met it."""

    def __missing__(self, code: int) -> int | None:
        kept: int | None = code
        # Combining classes below 10 (nukta, virama, kana voicing) make another letter; from 10 on they are accents.
        if unicodedata.combining(chr(code)) >= 10:
            kept = None
        self[code] = kept
        return kept


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
    if text.isascii():
        words = list(chain.from_iterable(by_line))
    else:
        words = _across_lines(folded, by_line)
    counts, pairs = _count_terms(words)
    # BM25 of a term that stands there n times: n * (K1 + 1) / (n + norm). Few different n: each is computed once.
    # Other forms of a word are no further words: the page does not become longer by them.
    forms = Counter(map(_index, _other_forms(lines, folded) - set(words)))
    for index, n in forms.items():
        counts[index] = counts.get(index, 0) or n
    norm = K1 * (1 - B + B * len(words) / AVERAGE_LENGTH)
    points = {n: n * (K1 + 1) / (n + norm) for n in {*counts.values(), *pairs.values()}}
    weights = {index: points[n] for index, n in counts.items()}
    for index, n in pairs.items():
        weights[index] = weights.get(index, 0.0) + points[n]  # a word's hash may be a pair's too
    for heading in _headings(lines, by_line):
        weights[_index(heading)] = 1.0  # how often a heading stands on its page says nothing
    return list(weights), list(weights.values())


def _other_forms(lines: list[str], folded: list[str]) -> set[str]:
    """Other forms of a page's numbers, codes and divided words."""
    forms: set[str] = set()
    for line in folded:
        forms.update(word_forms.number_and_code_forms(line))
    for word in word_forms.divided_words(lines):
        forms.update(_words(_fold(word)))
    return forms


def _count_terms(words: list[str]) -> tuple[Counter[int], Counter[int]]:
    """How often each word and each pair of neighbours stands there, by its index.

    A CRC goes on where another ended, so that a pair needs no new string: crc32(b" bow", crc32(b"violin")) is the
    `_index` of "violin bow".
    """
    encoded = list(map(_encoded, words))
    indices = [index for index, _ in encoded]
    continuations = [data for _, data in encoded[1:]]
    return Counter(indices), Counter(map(zlib.crc32, continuations, indices))


def query_vector(text: str) -> tuple[list[int], list[float]]:
    """Indices and weights of a query: 1.0 for each different word, other weights for their pairs and the whole line."""
    words = tokens(text)[:MAX_QUERY_WORDS]
    weights: dict[int, float] = {}
    line = _line(words)
    if line:
        weights[_index(line)] = LINE_WEIGHT
    for first, second in pairwise(words):
        weights[_index(f"{first} {second}")] = PAIR_WEIGHT
    for form in _query_forms(text, words):
        weights[_index(form)] = 1.0
    for word in words:  # last: where two terms have one hash, the word counts
        weights[_index(word)] = 1.0
    return list(weights), list(weights.values())


def _query_forms(text: str, words: list[str]) -> list[str]:
    """Other forms of a query's words; none for a text that is no question."""
    if len(words) > MAX_FORMED_WORDS:
        return []
    forms = [*word_forms.number_and_code_forms(_fold(text)), *word_forms.query_forms(words)]
    if not text.isascii():
        forms += tokens(word_forms.spelled_out(text))
    return forms


def fuse(dense: dict[str, float], lexical: dict[str, float], query: str) -> dict[str, float]:
    """One score for every id in either half: the cosine + the square of the BM25 points per word of the query.

    A page with all words of the query has some `POINTS_PER_WORD` points for each, or more: the words decide. A page
    with half of them, as any page may have of a question in people's own words, has a quarter of that: the vectors
    decide. BM25 is taken as it is, not scaled to the best page, which may have only a few of the words. An id missing
    in a half scores 0 there.

    Args:
        dense: Cosine, or MaxSim divided by the number of the query's vectors, by id.
        lexical: BM25 by id, from `query_vector(query)`.
        query: The query's text.

    >>> fuse({"a": 0.5, "b": 0.25}, {"a": 4.5, "b": 9.0}, "three short words")
    {'a': 0.75, 'b': 1.25}
    """
    dense_factor, lexical_factor = fusion_factors(query)
    fused: dict[str, float] = {}
    for id_ in {**dense, **lexical}:
        cosine = max(0.0, dense.get(id_, 0.0))  # a page that points the other way is as far away as any
        points = lexical_factor * lexical.get(id_, 0.0)
        fused[id_] = dense_factor * cosine + points * points
    return fused


def fusion_factors(query: str) -> tuple[float, float]:
    """By what a cosine, and BM25 points before they are squared, are multiplied in `fuse`: for engines that fuse.

    >>> dense, lexical = fusion_factors("two words")
    >>> dense, round(lexical, 3)
    (1.0, 0.167)
    """
    count = max(1, len(set(tokens(query)[:MAX_QUERY_WORDS])))
    return 1.0, 1 / (POINTS_PER_WORD * count)


def _fold(text: str) -> str:
    """The text as it is compared: "Straße ﬁle Café" -> "strasse file cafe"."""
    if text.isascii() or _PLAIN.fullmatch(text):
        return text.lower()
    without_hyphens = text.casefold().replace("\u00ad", "").replace(_TATWEEL, "")  # soft hyphens
    parts = unicodedata.normalize("NFKD", without_hyphens).translate(_ACCENTS)  # "é" -> "e" + accent -> "e"
    parts = _OTHER_DIGIT.sub(_ascii_digit, parts.translate(_STROKES))
    parts = _ARABIC_EDGE.sub(" ", parts)
    if parts.isascii():
        return parts
    return unicodedata.normalize("NFKC", parts)  # Hangul syllables, taken apart above, are put together again


def _ascii_digit(digit: re.Match[str]) -> str:
    return str(unicodedata.decimal(digit.group()))


def _words(folded: str) -> list[str]:
    """The words of a folded text."""
    if "," in folded:
        folded = _THOUSANDS.sub("", folded)
    if folded.isascii() or _PUNCTUATED.fullmatch(folded):
        return _ASCII_WORD.findall(folded)
    if not _UNSPACED_START.search(folded):
        return _WORD.findall(folded)
    found: list[str] = []
    for word in _WORD.findall(_GAP.sub("", folded)):
        if len(word) > 2 and _is_unspaced(word[0]):
            found.extend(map("".join, pairwise(word)))  # "软件包" -> "软件", "件包"
        else:
            found.append(word)
    return found


def _across_lines(folded: list[str], by_line: list[list[str]]) -> list[str]:
    """The words of all lines, as `_words` of the whole: unspaced writing goes on from one line to the next.

    >>> _across_lines(["软件", "包裹"], [["软件"], ["包裹"]])
    ['软件', '件包', '包裹']
    """
    found: list[str] = []
    open_end = False  # the line before ends in unspaced writing
    for line, words in zip(folded, by_line, strict=True):
        stripped = line.strip()
        if not stripped:
            continue
        if open_end and _is_unspaced(stripped[0]):
            last = found[-1]
            if len(last) == 1:
                found.pop()  # a lone character is only half of a pair
            found.append(last[-1] + stripped[0])
            if len(words[0]) == 1:
                words = words[1:]  # so is a lone one at the start of this line
        found.extend(words)
        open_end = _is_unspaced(stripped[-1])
    return found


def _is_unspaced(character: str) -> bool:
    """Whether it belongs to a script without spaces; the first comparison answers for most characters."""
    return character >= _FIRST_UNSPACED and _UNSPACED_START.match(character) is not None


def _headings(lines: list[str], by_line: list[list[str]]) -> Iterator[str]:
    """The short lines of a page as terms, without those of a table of contents."""
    leaders = [_leader_start(line) for line in lines]
    for place, words in enumerate(by_line):
        if leaders[place] is not None:
            continue
        if place + 1 < len(lines) and leaders[place + 1] == 0:
            continue  # its dots and page number were put on a line of their own
        term = _line(words)
        if term:
            yield term


def _leader_start(line: str) -> int | None:
    """Where in the line the dots of a table of contents begin; None where it has none.

    >>> _leader_start("Widgets . . . . 127"), _leader_start(" ..... 127"), _leader_start("Widgets ...")
    (8, 0, None)
    """
    if not _DOTS.search(line):
        return None
    found = _LEADER.search(line.lstrip())
    if found is None:
        return None
    return found.start()


def _line(words: list[str]) -> str:
    """One line as a term, without the number before a heading; "" when it is too long or empty."""
    first = 0
    while first < len(words) and words[first][0].isdigit():
        first += 1
    heading = words[first:]  # ["3", "1", "strings"] -> ["strings"]
    if not heading or len(heading) > MAX_LINE_WORDS:
        return ""
    return "\n" + " ".join(heading)  # no word or pair has a line break: a line of one word is not that word


@functools.lru_cache(1 << 15)  # words repeat from page to page; some 32,000 cover a language's common ones
def _encoded(word: str) -> tuple[int, bytes]:
    """Its index, and how it continues a pair."""
    data = word.encode("utf-8", "surrogatepass")
    return zlib.crc32(data), b" " + data


def _index(term: str) -> int:
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))
