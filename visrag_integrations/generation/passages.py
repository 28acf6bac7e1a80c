"""A page's text cut into passages, and how well a passage matches a question: by the words they share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import NamedTuple

from visrag_integrations.scores.lexical import tokens

# A passage is an answer and a quotation: shorter, and the sentence that explains is lost; longer, and it covers the
# question's words by its length alone, and nobody sees which of them is meant.
LONGEST = 360
"""Characters of the longest passage."""
_WINDOW = 3  # sentences or lines in the longest passage
_QUESTION_TERMS = 64  # different words of a question that count; a pasted document is no question

# What the score of a passage gains or loses beside its coverage (0 to 1). All are small: they decide between passages
# that cover about the same words.
_IN_ORDER = 0.08  # all neighbouring words of the question stand together
_BEGINS_WITH_IT = 0.04  # "Rent is ..." defines what "what is the rent?" asks for
_PER_SENTENCE = 0.06  # each further one: the shortest passage that says it all
_TOO_SHORT = 0.05  # a heading names a thing and says nothing about it
_SHORT = 40  # characters of what is taken for a heading
_LEADERS_FACTOR = 0.6  # "Rent ........ 12" in a table of contents points elsewhere

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_SENTENCE = re.compile(r"(?<=[.!?])[ ]+(?=[^\Wa-z_]|[\"“(\[•])|(?<=[。！？])")
_ENDS = re.compile(r"[.!?:;。！？：；]\W{0,2}$")
_BULLET = re.compile(r"^(?:[•◦▪‣·–*-]\s*)+")
# A line of a form: "Invoice date: 20-10-2031". A label is a few words; a longer beginning is a sentence with a colon.
_LABELLED = re.compile(r"[^\W\d_][^:：]{1,38}[:：](?:\s|$)")
_LEADERS = re.compile(r"(?:[.·] ?){5,}")


def _vocabulary(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STOP = _vocabulary(
    "a about after all also am an and any are as at be because been before being between both but by can could did do "
    "does doing during each for from further had has have having he her here him his how i if in into is it its just "
    "me more most my no nor not of off on once only or other our out over own please s same she should show so some "
    "such t tell than that the their them then there these they this those through to too under until up very was we "
    "were what when where which while who whom why will with would you your give find explain describe mean means many "
    "much use used using"
)
_STOP_CJK = re.compile(
    "为什么|什么时候|什么|何时|时候|怎么|怎样|如何|哪些|哪个|哪里|哪种|多少|请问|是否|可以|应该|我们|你们|他们|的|了|吗|呢|是|在|有|和|与|或|"
    "何ですか|ですか|ますか|なぜ|どの|どれ|どう|について|は|が|を|に|で|の|"
    "무엇입니까|무엇인가요|무엇|어떻게|어떤|어디|언제|입니까|인가요|합니까|하나요"
)


@dataclass(frozen=True)
class Passage:
    """A stretch of one page and how much of the question it covers.

    Attributes:
        text: The stretch, on one line.
        coverage: From 0 to 1: the share of the question's words it holds, rare words weighing more.
        score: Coverage, and how the words stand; to compare passages.
    """

    text: str
    coverage: float
    score: float = field(default=0.0, compare=False, repr=False)


def best_passages(question: str, texts: Sequence[str]) -> list[Passage | None]:
    """The passage of each text that matches the question best; None where not one word is shared.

    Words count by their rarity in these texts, so the result depends on nothing else.

    >>> best_passages("Who pays the rent?", ["The sun is hot. The rent is paid by Ann.", "Nothing."])
    [Passage(text='The rent is paid by Ann.', coverage=...), None]
    """
    pages = [_units(text) for text in texts]
    asked = _WeighedQuestion.of(question, chain.from_iterable(pages))
    return [_best(page, asked) for page in pages]


class _Unit(NamedTuple):
    """A sentence or line, and its words."""

    text: str
    words: list[str]


def _units(text: str) -> list[_Unit]:
    return [_Unit(unit, terms(unit)) for unit in split_units(text)]


@dataclass(frozen=True)
class _WeighedQuestion:
    """The question's words in order and what each is worth: more the fewer units hold it."""

    weights: dict[str, float]
    pairs: frozenset[tuple[str, str]]
    total: float

    @classmethod
    def of(cls, question: str, units: Iterable[_Unit]) -> _WeighedQuestion:
        words = list(dict.fromkeys(terms(question)))[:_QUESTION_TERMS]
        count = 0
        holders: Counter[str] = Counter()  # how many units hold a word
        for unit in units:
            count += 1
            holders.update(set(unit.words))
        weights = {}
        for word in words:
            weights[word] = math.log(1 + (count + 1) / (holders[word] + 1))
        return cls(weights, frozenset(pairwise(words)), sum(weights.values()))

    def coverage(self, words: Sequence[str]) -> float:
        """The share of the question, by weight, that is among these words."""
        held = set(words)
        weight = sum(weight for word, weight in self.weights.items() if word in held)
        return weight / (self.total or 1.0)

    def score(self, words: Sequence[str], coverage: float) -> float:
        """Coverage, a little more where words stand together as in the question, or where the passage begins so."""
        if not coverage:
            return 0.0
        together = len(self.pairs.intersection(pairwise(words))) / max(1, len(self.pairs))
        begins = bool(words) and words[0] in self.weights
        return coverage + _IN_ORDER * together + _BEGINS_WITH_IT * begins


def terms(text: str) -> list[str]:
    """The words of a text that carry meaning, with their endings folded; in order, repeated.

    >>> terms("What are the packages used for building?")
    ['packag', 'build']
    """
    if re.search(f"[{_CJK}]", text):
        text = _STOP_CJK.sub("|", text)  # a mark in their place: no token may go across it
    return [_stem(token) for token in tokens(text) if token not in _STOP]


def split_units(text: str) -> list[str]:
    """Sentences, and lines that are not part of one (headings, table rows); line breaks inside are mended.

    >>> split_units("Costs\\nThe total of all the costs rose a-\\ngain this year. It fell later.")
    ['Costs', 'The total of all the costs rose again this year.', 'It fell later.']
    """
    units = []
    for block in _blocks([line.strip() for line in text.splitlines()]):
        for sentence in _SENTENCE.split(block):
            units += _chop(sentence.strip())
    return [unit for unit in units if unit]


def _blocks(lines: list[str]) -> list[str]:
    """Lines joined where a line break does not end anything."""
    # A line of running text is nearly as long as the column is wide. The width is that of a long line, not of the
    # longest: one heading or table row across the page must not make all of the text look broken.
    lengths = sorted(map(len, filter(None, lines)))
    full = 0.0
    if lengths:
        full = 0.7 * lengths[int(0.85 * (len(lengths) - 1))]
    blocks: list[list[str]] = []
    goes_on = False
    for line in lines:
        if goes_on and _begins_entry(blocks[-1][-1], line):
            goes_on = False
        if goes_on and line:
            blocks[-1].append(line)
        elif line:
            blocks.append([line])
        prose = line.endswith("-") or len(line) >= full
        goes_on = bool(line) and prose and not _ENDS.search(line)
        if line and prose and line[-1] in ".!?" and len(line) >= full:
            goes_on = True  # a sentence ends with the line; the paragraph may go on, and is split there anyway
    return [_join(block) for block in blocks]


def _begins_entry(last: str, line: str) -> bool:
    """Whether a line is the next label with its value, or what follows the last one of them.

    Of "Invoice date: 20-10-2031" and "Tax number: 81" neither goes on with the other, though both are equally long.
    """
    if last.endswith("-") or line[:1].islower():
        return False
    return _LABELLED.match(line) is not None or _LABELLED.match(last) is not None


def _join(lines: list[str]) -> str:
    joined = " ".join(lines)
    joined = re.sub(r"(?<=[^\W\d_])[-\u2010\u00ad] (?=[a-zß-ÿ])", "", joined)
    return re.sub(rf"(?<=[{_CJK}，。、；：]) (?=[{_CJK}])", "", joined)


def _chop(sentence: str) -> list[str]:
    """A text that is too long for one passage, cut at spaces where there are any."""
    pieces = []
    while len(sentence) > LONGEST:
        cut = sentence.rfind(" ", LONGEST // 2, LONGEST)
        if cut < 0:
            cut = LONGEST
        pieces.append(sentence[:cut].rstrip())
        sentence = sentence[cut:].lstrip()
    return [*pieces, sentence]


def _best(page: Sequence[_Unit], asked: _WeighedQuestion) -> Passage | None:
    best: Passage | None = None
    for start in range(len(page)):
        words: list[str] = []
        length = 0
        for end in range(start + 1, min(start + _WINDOW, len(page)) + 1):
            last = page[end - 1]
            words = words + last.words
            length += len(last.text) + 1
            if length > LONGEST and end > start + 1:
                break
            coverage = asked.coverage(words)
            score = asked.score(words, coverage)
            score -= _PER_SENTENCE * (end - start - 1)
            if length < _SHORT:
                score -= _TOO_SHORT
            if _LEADERS.search(last.text):
                score *= _LEADERS_FACTOR
            if coverage > 0 and (best is None or score > best.score):
                best = Passage(_extended(page, start, end), min(1.0, coverage), score)
    return best


def _extended(page: Sequence[_Unit], start: int, end: int) -> str:
    """The passage; a heading is given with what follows it, a label with its value."""
    text = " ".join(unit.text for unit in page[start:end])
    if end < len(page) and text.endswith((":", "：")) and len(text) + len(page[end].text) < LONGEST:
        text += " " + page[end].text
        end += 1
    if _LABELLED.match(text):
        return _BULLET.sub("", text)
    while end < len(page) and not _ENDS.search(text) and len(text) + len(page[end].text) < LONGEST // 2:
        text += " " + page[end].text
        end += 1
    return _BULLET.sub("", text)


# An ending, and the letters that must be left without it: "sing" keeps its "ing", "building" loses it.
_ENDINGS = (("ing", 4), ("ies", 3), ("ed", 4), ("es", 4), ("s", 3), ("e", 4), ("y", 3))


def _stem(token: str) -> str:
    """English endings off, so that "package" finds "packages"; other words as they are."""
    if not token.isascii() or not token.isalpha() or len(token) < 4:
        return token
    for ending, least in _ENDINGS:
        if token.endswith(ending) and not token.endswith("ss") and len(token) - len(ending) >= least:
            return token[: -len(ending)]
    return token
