r"""The index that begins an evidence entry, however it is spelled.

Two ways of finding them:

* `next_start` finds what is an index wherever it stands, by its brackets or its word *and* its colon, while the text
  arrives: "[2]:", "[Image 2]：", "【2】：", "[1, 3]:", "[1][2]:", "[1-3]:", "Image 2:", "图片2：", each also in bold.
* `line_starts` looks, where a section has no such index, for what is one by its place at the beginning of a line:
  "- [2] total", "Page 2: total", "### Image 2", "Seite 2 - Summe", "第2页：", "2. total", "(2) total", "② total".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

COLONS = ":：﹕︰"  # "∶" is none of them: it stands for a colon in quotations, see `evisrag.quotable`
_OPEN, _CLOSE = r"\[［【〔", r"\]］】〕"
_WORD = r"(?:image|img|图片|图像)"
_BLANK = r"[ \t]{0,2}"
_NUMBER = r"[0-9０-９]{1,9}"
_BETWEEN = rf"{_BLANK}(?:,|，|、|;|/|&|-|–|—|~|and|und|et|y|e|to|bis|和|与|及|至|到){_BLANK}"
# "[2]", "[ img #2 ]", "[1, 3]", "[1-3]". Ten pages are more than a model is shown at once; a longer list is text.
_BRACKET = (
    rf"\\?[{_OPEN}]{{1,2}}{_BLANK}(?:{_WORD}s?{_BLANK})?[#]?{_NUMBER}"
    rf"(?:{_BETWEEN}(?:{_WORD}{_BLANK})?[#]?[0-9０-９]{{1,4}}){{0,9}}{_BLANK}\\?[{_CLOSE}]{{1,2}}"
)
_WORDED = rf"(?<![^\W_]){_WORD}s?{_BLANK}(?:\[{_NUMBER}\]|[#]?{_NUMBER}(?:{_BETWEEN}[#]?[0-9０-９]{{1,4}}){{0,9}})"
# "[1][2]", "[1], [2] and [3]"
_INDEX = rf"(?:{_BRACKET}(?:(?:{_BETWEEN}|{_BLANK})[{_OPEN}]{_NUMBER}[{_CLOSE}]){{0,9}}|{_WORDED})"
# In bold too: "**[2]:**" and "**[2]**:" begin with "**". Every repetition has a bound, so that a megabyte of "[" or "*"
# is read in linear time.
_START = re.compile(rf"[*_`]{{0,2}}(?P<index>{_INDEX})[*_`]{{0,2}}{_BLANK}[{COLONS}]", re.IGNORECASE)
# What may become such an index when more text comes: a little more than every beginning of it, which holds back a few
# letters for longer and changes nothing else. No part can be read in two ways: "[[[[" must not take quadratic time.
_INSIDE = rf"[^\n{COLONS}{_OPEN}{_CLOSE}]"
_UNFINISHED = re.compile(
    rf"[*_`]{{0,2}}(?:\\|\\?[{_OPEN}]{{1,2}}{_INSIDE}{{0,200}}(?:[{_CLOSE}]{{1,2}}{_INSIDE}{{0,8}}(?:[{_OPEN}][0-9０-９]{{0,9}})?){{0,10}}"
    rf"|(?<![^\W_])(?:{_WORD}[^\n{COLONS}]{{0,130}}|i|im|ima|imag|图))?\Z",
    re.IGNORECASE,
)
LONGEST = 420
"""Characters that may have to wait for the end of an index, with room to spare."""
_LONGEST_WORDED = 160
_ANY_OPEN = re.compile(rf"[{_OPEN}]")
_FIGURE = re.compile(r"[0-9０-９]+|[-–—~至到]|to|bis")
_LONGEST_RANGE = 50  # "[1-3]" is three pages; "[1-1000000]" is a text made to hurt, and only its ends are read


class Start(NamedTuple):
    """The beginning of an entry.

    Attributes:
        indexes: The images that it is about.
        written: The index as it was written, with its colon.
        begin: Where it begins in the text.
        end: Where the entry's own text begins.
    """

    indexes: tuple[int, ...]
    written: str
    begin: int
    end: int

    @property
    def plain(self) -> str:
        """As it should be written."""
        return " ".join(f"[{index}]:" for index in self.indexes)


def next_start(text: str, look: int) -> Start | None:
    """The next index with brackets or a word, and a colon.

    >>> next_start("so **[1][3]**: seven", 0).indexes, next_start("[1-3]：", 0).indexes, next_start("[1] seven", 0)
    ((1, 3), (1, 2, 3), None)
    """
    match = _START.search(text, look)
    if match is None:
        return None
    return Start(_numbers(match["index"]), match[0].strip(), match.start(), match.end())


def without_colons(text: str) -> str:
    """The text with another sign for the colon of each index, so that none begins an entry.

    >>> without_colons("[2]: seven, 10:30")
    '[2]∶ seven, 10:30'
    """
    return _START.sub(lambda match: match[0][:-1] + "∶", text)


def certain_end(text: str, start: int) -> int:
    """Up to where no index may begin that more text would complete."""
    first = max(start, len(text) - _LONGEST_WORDED)
    bracket = _ANY_OPEN.search(text, max(start, len(text) - LONGEST))
    if bracket is not None:
        first = max(start, min(first, bracket.start() - 3))  # before it may stand "**" and a backslash
    unfinished = _UNFINISHED.search(text, first)
    assert unfinished is not None  # the empty end of the text matches at last
    return unfinished.start()


def _numbers(written: str) -> tuple[int, ...]:
    """The numbers of an index, each once, ranges filled in."""
    numbers: dict[int, None] = {}  # in order, each once
    last: int | None = None
    dash = False
    for figure in _FIGURE.findall(written):
        if not figure[0].isdecimal():
            dash = last is not None
            continue
        number = int(figure)
        if dash and last is not None and last < number <= last + _LONGEST_RANGE:
            numbers.update(dict.fromkeys(range(last, number)))
        numbers[number] = None
        last, dash = number, False
    return tuple(numbers)


# --- by their place -----------------------------------------------------------------------------------------------

# Words for a page or a picture in the languages the models write. Longer ones first where one begins another.
_PAGE_WORDS = (
    "pages?|page|pg\\.?|p\\.|images?|imgs?|pictures?|pics?|photos?|figures?|fig\\.?|screenshots?|slides?|scans?|"
    "documents?|docs?|evidence|"  # English; French: page, image, document
    "seiten?|bild(?:er)?|abbildung|abb\\.?|dokument|folie|"  # German
    "páginas?|paginas?|imagen(?:es)?|imágenes|imagem|imagens|figura|documento|diapositiva|"  # Spanish, Portuguese
    "pagine|immagin[ei]|"  # Italian
    "pagina's|afbeelding(?:en)?|"  # Dutch
    "страниц[аы]|стр\\.?|изображени[ея]|рисунок|рис\\.?|картинка|сторінка|зображення|"  # Russian, Ukrainian
    "strona|strony|obraz|stránka|strana|obrázek|oldal|kép|sivu|kuva|sidan?|bilden|side|billede|bilde|imaginea?|"
    "sayfa|görsel|resim|trang|hình(?: ảnh)?|ảnh|halaman|gambar|"  # Turkish, Vietnamese, Indonesian
    "σελίδα|εικόνα|עמוד|תמונה|صفحة|الصفحة|صورة|الصورة|صفحه|تصویر|पृष्ठ|पेज|छवि|चित्र|หน้า|ภาพ|"
    "图片|图像|图|页面|页|圖片|圖像|圖|頁面|頁|文档|ページ|画像|図|페이지|이미지|그림|사진|쪽"
)
_COUNTERS = "页|頁|张图片|張圖片|张图|張圖|张图像|幅图|幅圖|ページ(?:目)?|枚目|페이지|쪽|번째 (?:페이지|이미지)|個"
_FIGURES = rf"{_NUMBER}(?:{_BETWEEN}[0-9０-９]{{1,4}}){{0,9}}"
# Behind a word a list needs its colon: "Pages 1 and 3:", but "Page 1, 42 units".
_LISTED = rf"{_FIGURES}(?=[*_]{{0,3}}{_BLANK}[{COLONS}])|{_NUMBER}"
_LEAD = r"^[ \t>|]{0,8}(?:(?:[-*+]|#{1,6}|[0-9]{1,2}[.)])[ \t]{1,4}|[•–—▪●◦·‣][ \t]{0,4})?(?P<bold>\*{1,3}|_{1,3})?"
_ANY_COLON = rf"[{COLONS}]|[;；,，=](?=[ \t\n])|[.．]?[ \t]{{0,2}}[-–—|→](?=[ \t\n*_])|[.．)）](?=[ \t\n*_]|\Z)"
_TAIL = rf"{_BLANK}(?:{_ANY_COLON})?(?(bold)(?:(?P=bold){_BLANK}(?:{_ANY_COLON})?)?)"
_FLAGS = re.MULTILINE | re.IGNORECASE
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"
_HAN = "一二三四五六七八九十"
_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


_POINTER = re.compile(
    r"(?:\b(?:see|in|of|at|on|by|from|to|as|with|per|cf|ref|reference|page|pages|figure|table|section|note|compare|"
    r"siehe|vgl|in|auf|voir|dans|ver|véase|vedi|zie|см|смотри)\.?|见|見|参见|參見|参考|参照|[(,\"“'‘])\s{0,2}\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Family:
    """One way of spelling indexes at the beginnings of lines.

    Attributes:
        pattern: Such an index; what the numbers are is in `index`.
        inside: Such an index inside a line, for sections that are one line.
        ordered: Whether it may as well be an ordinary list item or number, so that the order 1, 2, ... has to tell.
    """

    pattern: re.Pattern[str]
    inside: re.Pattern[str] | None
    ordered: bool


_FAMILIES = (
    # "[2] total", "- [Page 2] total", "【2】total", "[1][2] total", "[图2] total"
    _Family(
        re.compile(
            rf"{_LEAD}(?P<index>[{_OPEN}]{_BLANK}(?:(?:{_PAGE_WORDS}){_BLANK})?[#]?{_FIGURES}{_BLANK}[{_CLOSE}]"
            rf"(?:(?:{_BETWEEN}|{_BLANK})[{_OPEN}]{_NUMBER}[{_CLOSE}]){{0,9}}){_TAIL}",
            _FLAGS,
        ),
        inside=re.compile(rf"(?P<index>[{_OPEN}]{_BLANK}{_NUMBER}{_BLANK}[{_CLOSE}]){_BLANK}", _FLAGS),
        ordered=False,
    ),
    # "Page 2: total", "Image #2", "### Seite 2", "page 1 and 3:", "第2页：", "2ページ："
    _Family(
        re.compile(
            rf"{_LEAD}(?:the[ ]|from[ ]|on[ ]|in[ ])?(?P<index>(?:{_PAGE_WORDS})"
            rf"[_-]?{_BLANK}(?:no\.?|nr\.?|n[°º]|№|#)?{_BLANK}"
            rf"[(\[]?(?:{_LISTED})[)\]]?(?![\w.,]?[0-9])|第?{_BLANK}{_FIGURES}{_BLANK}(?:{_COUNTERS})"
            rf"|(?:{_PAGE_WORDS}) (?:{'|'.join(_NUMBER_WORDS)})\b|(?:{'|'.join(_ORDINALS)}) (?:{_PAGE_WORDS})\b"
            rf"|第[{_HAN}](?:{_COUNTERS})|[图圖][{_HAN}]){_TAIL}",
            _FLAGS,
        ),
        inside=re.compile(rf"(?<![^\W_])(?P<index>(?:{_PAGE_WORDS}){_BLANK}{_NUMBER}){_BLANK}[{COLONS}]", _FLAGS),
        ordered=False,
    ),
    # "2. total", "2) total", "2: total", "2 - total", "(2) total", "（2）total", "{2}: total", "② total", "二、total"
    _Family(
        re.compile(
            rf"{_LEAD.replace('|[0-9]{1,2}[.)]', '')}"
            rf"(?P<index>[(（{{<「《]{_BLANK}#?[0-9０-９]{{1,2}}{_BLANK}[)）}}>」》]|"
            rf"[#]?[0-9０-９]{{1,2}}(?={_BLANK}(?:{_ANY_COLON}|[、]))|[{_CIRCLED}]|[{_HAN}](?=[、.．]))[、]?{_TAIL}",
            _FLAGS,
        ),
        inside=None,
        ordered=True,
    ),
)


def line_starts(text: str) -> list[Start]:
    r"""The indexes at beginnings of lines, where none has brackets or a word and a colon; all are of one spelling.

    >>> [(start.indexes, start.written) for start in line_starts("- [1] seven\n- [2] nothing")]
    [((1,), '[1]'), ((2,), '[2]')]
    >>> [start.indexes for start in line_starts("1. seven\n2. eight\n   1. not this one\n3. nine")]
    [(1,), (2,), (3,)]
    """
    best: list[Start] = []
    for family in _FAMILIES:
        starts = list(_of_family(family, text))
        if len(starts) == 1 and family.inside is not None and "\n" not in text.strip():
            starts += _in_one_line(family.inside, starts[0], text)
        # The spelling whose first index comes first is the model's; the others are in what it quotes.
        if starts and (not best or starts[0].begin < best[0].begin):
            best = starts
    return best


def _of_family(family: _Family, text: str) -> Iterator[Start]:
    last = 0
    for match in family.pattern.finditer(text):
        indexes = placed_numbers(match["index"])
        if family.ordered:
            (number,) = indexes
            # The first is 1; the others grow. A year or an amount at the beginning of a line is neither.
            if number <= last or (last == 0 and number != 1):
                continue
            last = number
        yield Start(indexes, match["index"].strip(), match.start(), match.end())


def _in_one_line(pattern: re.Pattern[str], first: Start, text: str) -> Iterator[Start]:
    """The indexes that follow the first one in its line, each one higher than the one before."""
    last = first
    for match in pattern.finditer(text, first.end):
        indexes = placed_numbers(match["index"])
        if indexes[0] == last.indexes[-1] + 1 and not points(text[max(0, match.start() - 16) : match.start()]):
            last = Start(indexes, match["index"].strip(), match.start(), match.end())
            yield last


def points(before: str) -> bool:
    """Whether an index behind this text only points to another page, as in "see [2]: appendix".

    >>> points("as you see in "), points("seven apples ")
    (True, False)
    """
    return _POINTER.search(before) is not None


def placed_numbers(written: str) -> tuple[int, ...]:
    """The numbers of an index in figures, circles or Chinese.

    >>> placed_numbers("Pages 1-3"), placed_numbers("②"), placed_numbers("第二页")
    ((1, 2, 3), (2,), (2,))
    """
    found = _numbers(written)
    if found:
        return found
    for words in (_CIRCLED, _HAN, _NUMBER_WORDS, _ORDINALS):
        for number, word in enumerate(words, start=1):
            if word in written.lower():
                return (number,)
    return ()
