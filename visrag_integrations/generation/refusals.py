"""The two things a model says in many ways: nothing on this page, and not enough to answer."""

from __future__ import annotations

import re

_LIMIT = 400  # characters looked at: whoever says nothing says it briefly
_CONTRAST = re.compile(
    r"\b(?:but|however|except|although|though|yet|nevertheless|still|only)\b|但|不过|然而", re.IGNORECASE
)
_CLAUSE = re.compile(r"[.;:,(\n—–。；：，（]")
_WORD = re.compile(r"[^\W_]+")


def _vocabulary(words: str) -> frozenset[str]:
    return frozenset(words.split())


_FILLER = _vocabulary(
    "the this that these those it its i we a an any is are was were be been has have had there here in on from for "
    "about to regarding concerning related with within of by as at and or all image images img picture pictures page "
    "pages document documents question query asked user given provided shown above available present found find "
    "visible contain contains containing contained include includes show shows does do did don doesn t s can could be "
    "based specific directly sufficiently such"
)
_NOTHING = _vocabulary("no not none nothing without irrelevant unrelated n na neither cannot isn doesn don lacks lack")
_RELEVANCE = _vocabulary(
    "relevant irrelevant unrelated related relevance useful pertinent information info informations evidence evidences "
    "none nothing na content data details help helpful answer answering"
)
_RELEVANCE_SURE = _vocabulary(
    "relevant irrelevant unrelated information info informations evidence evidences none nothing na"
)
_SHORTFALL = _vocabulary(
    "insufficient insufficiently unanswerable not no cannot unable impossible cant can t lacks lack inadequate"
)
_SUFFICIENCY = _vocabulary(
    "insufficient unanswerable enough sufficient sufficiently answer answers answered answerable answering determine "
    "determined information info evidence evidences data details context content inadequate"
)
_SUFFICIENCY_SURE = _vocabulary(
    "insufficient unanswerable answer answered answerable answering determine determined information evidence"
)
_CJK_NOTHING = re.compile(
    r"(?:该|此|本|这)?(?:张|幅)?(?:图片|图像|图|页面|页)?(?:中|里)?(?:没有|无|未找到|未发现|不包含|不含|未包含)?(?:任何)?(?:与(?:该|此)?问题)?"
    r"(?:无关|不相关|相关|有关)?(?:的)?(?:信息|内容|证据)?"
)
_CJK_NO = re.compile(r"没有|无|未找到|未发现|不包含|不含|未包含|不相关")
_CJK_SHORT = re.compile(
    r"(?:(?:现有|图片|图像)?(?:的)?(?:信息|证据|内容)不足(?:以|，|,)?(?:无法)?(?:回答|作答)?(?:该|此)?(?:问题)?|无法(?:回答|作答|确定)(?:该|此)?(?:问题)?|不足以回答(?:该|此)?(?:问题)?)"
)


def says_nothing_relevant(text: str) -> bool:
    """Whether an evidence entry says that its page holds nothing about the question.

    >>> says_nothing_relevant("No relevant information.")
    True
    >>> says_nothing_relevant("There is no relevant information in this image (it shows a cat).")
    True
    >>> says_nothing_relevant("No relevant information except the total, 5")
    False
    >>> says_nothing_relevant("The answer is no")
    False
    """
    clause = _first_clause(text)
    if not clause:
        return False
    if _CJK_NO.search(clause) and _CJK_NOTHING.fullmatch(clause):
        return True
    words = _words(clause.replace("n/a", "na").replace("N/A", "na"))
    return bool(words & _NOTHING and words & _RELEVANCE_SURE and words <= _NOTHING | _RELEVANCE | _FILLER)


def says_insufficient(text: str) -> bool:
    """Whether an answer says that the pages are not enough to answer.

    >>> says_insufficient("**Insufficient to answer.**")
    True
    >>> says_insufficient("The images do not contain enough information to answer the question.")
    True
    >>> says_insufficient("insufficient funds")
    False
    >>> says_insufficient("No")
    False
    """
    clause = _first_clause(text)
    if not clause:
        return False
    if _CJK_SHORT.fullmatch(clause):
        return True
    words = _words(clause)
    return bool(
        words & _SHORTFALL and words & _SUFFICIENCY_SURE and words <= _SHORTFALL | _SUFFICIENCY | _FILLER | {"relevant"}
    )


def _first_clause(text: str) -> str:
    """The text up to its first stop; "" where it is long without one, or goes on to say something else after all."""
    text = text[:_LIMIT].strip(" \t\r\n\"'`*_.。“”‘’[]()!")
    if _CONTRAST.search(text):
        return ""
    return _CLAUSE.split(text, maxsplit=1)[0].strip()


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
