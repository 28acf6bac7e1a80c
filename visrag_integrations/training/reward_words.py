"""The words of a text as rewards compare them, by the published rule and by ours."""

from __future__ import annotations

import re
import string
import unicodedata

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = {"a", "an", "the"}
# Han, kana and their marks: written without spaces, so each character is compared as a word.
_UNSPACED = "\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(rf"[{_UNSPACED}]|\d+(?:[.,]\d+)*|[^\W\d{_UNSPACED}]+(?:['’][^\W\d_]+)?")


def words_f1(text: str, right: str, published: bool) -> float:
    """F1 over the sets of words; 0 where they share none."""
    found = set(normalised(text, published).split())
    wanted = set(normalised(right, published).split())
    common = len(found & wanted)
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def normalised(text: str, published: bool) -> str:
    """Words that count, joined by single blanks."""
    if not published:
        return " ".join(words(text))
    plain = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION))
    return " ".join(plain.split())


def words(text: str) -> list[str]:
    """The words of a text as answers are compared by them: without case, punctuation and English articles.

    >>> words("The U.S. grew 4.2%"), words("420万欧元")
    (['u', 's', 'grew', '4.2'], ['420', '万', '欧', '元'])
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return [word for word in _WORD.findall(plain) if word not in _ARTICLES]
