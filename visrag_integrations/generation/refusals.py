"""The two things a model says in many ways: nothing on this page, and not enough to answer."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from visrag_integrations.types import Evidence

_LIMIT = 400  # characters looked at: whoever says nothing says it briefly
_CLAUSE = re.compile(r"[.;:,(\n—–。；：，（]")
_WORD = re.compile(r"[^\W_]+")
_AROUND = " \t\r\n\"'`*_.。“”‘’[]()!"
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*(?=\S)(?<!\d\.)|[;；]\s*|\n")
_ONLY_SHOWN = re.compile(
    r"\b(?:they|it|these|which|the \w+) only \w+|\bonly (?:shows?|contains?|mentions?|lists?)\b", re.IGNORECASE
)
_ANSWERED = re.compile(r"\d[^,，、]*[,，、]")
_ANSWER_IS = re.compile(
    r"^(?:the )?(?:final )?answer(?: is(?: that)?:?|:)\s+", re.IGNORECASE
)  # "The answer is no" answers
_LANGUAGES = (
    *("Chinese", "Japanese", "Korean", "German", "French", "Spanish and Portuguese", "Italian", "Dutch"),
    *("Slavic languages", "Nordic and other European languages", "Other languages"),
)
_OTHER_SECTIONS = ("English", "used", "lead in", "description", "yes or no", "contrast", "nothing relevant")
_NAMED = re.compile(r"([a-z_]+) = (.*)")
_LEAST_LETTERS = 3  # "no", "yes" apart, words of fewer letters stand on every page or say nothing


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
    if _phrases("nothing relevant").match(clause):
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
    >>> says_insufficient("The provided pages do not mention the total.")
    True
    >>> says_insufficient("No, the permit does not mention dogs.")
    False
    """
    return _says_so_briefly(text) or _says_so_in_a_sentence(text)


def rests_on_nothing(text: str, evidence: Sequence[Evidence], page_texts: Iterable[str]) -> bool:
    """Whether an answer is one in form only: the model found nothing on any page, and no page has a word of it.

    Short words and numbers do not count: "no" and "0" may be what follows from finding nothing.

    >>> nothing = [Evidence(1, "no relevant information", relevant=False)]
    >>> rests_on_nothing("Unknown", nothing, ["The fee is 5 euros."]), rests_on_nothing("No", nothing, ["The fee."])
    (True, False)
    """
    if not evidence or any(entry.relevant for entry in evidence):
        return False
    words = {word for word in _words(text[:_LIMIT]) if len(word) >= _LEAST_LETTERS and not word.isdecimal()}
    if not words:
        return False
    found = False
    for page_text in page_texts:
        # A page whose text is not known, a scan without OCR, may hold the answer.
        if not page_text.strip() or not words.isdisjoint(_words(page_text)):
            found = True
    return not found


def _says_so_briefly(text: str) -> bool:
    """Whether the first clause holds only words of that kind: "insufficient to answer (no page shows 2019)"."""
    clause = _first_clause(text)
    if not clause:
        return False
    if _CJK_SHORT.fullmatch(clause):
        return True
    words = _words(clause)
    return bool(
        words & _SHORTFALL and words & _SUFFICIENCY_SURE and words <= _SHORTFALL | _SUFFICIENCY | _FILLER | {"relevant"}
    )


def _says_so_in_a_sentence(text: str) -> bool:
    """Whether the text is a refusal in a model's own words.

    Its first sentence tells, after what only leads to it ("Based on the images, ..."). Sentences that say what the
    pages show are passed over. What follows a "but" is an answer after all.
    """
    text = " ".join(text[:_LIMIT].replace("*", " ").split()).strip(_AROUND)
    if _phrases("yes or no").match(text):
        return False
    for sentence in _SENTENCE.split(text):
        found = _refusal_in(sentence)
        if found is not None:
            rest = text[text.index(sentence) + found :]
            return not _phrases("contrast").search(_ONLY_SHOWN.sub(" ", rest)) and not _phrases("used").search(sentence)
        if not _phrases("description").match(_begun(sentence)):
            return False
    return False


def _refusal_in(sentence: str) -> int | None:
    """Where the words of refusal end that the sentence begins with; None when it is no refusal."""
    begun = _begun(sentence)
    match = _phrases("English").match(begun)
    if match is not None:
        return len(sentence) - len(begun) + match.end()
    for language in _LANGUAGES:
        match = _phrases(language).search(sentence)
        # "7 Euro, die Währung ist nicht angegeben" begins with the answer.
        if match is not None and not _ANSWERED.search(sentence[: match.start()]):
            return match.end()
    return None


def _begun(sentence: str) -> str:
    """The sentence without what only leads to it."""
    lead = _phrases("lead in").match(sentence)
    return sentence if lead is None else sentence[lead.end() :]


@functools.cache
def _phrases(name: str) -> re.Pattern[str]:
    """The expressions of one section of `refusals.txt`, as one."""
    return re.compile("|".join(f"(?:{line})" for line in _sections()[name]), re.IGNORECASE)


@functools.cache
def _sections() -> dict[str, list[str]]:
    """`refusals.txt`: the expressions of each section, their names filled in."""
    text = resources.files("visrag_integrations.generation").joinpath("refusals.txt").read_text("utf-8")
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    names: dict[str, str] = {}
    for line in text.replace("\n  ", "").splitlines():
        named = _NAMED.match(line)
        if line.startswith("[") and line[1:-1] in (*_LANGUAGES, *_OTHER_SECTIONS):
            lines = sections[line[1:-1]] = []
        elif named:
            names[named[1]] = _filled(named[2], names)
        elif line and not line.startswith("#"):
            lines.append(_filled(line, names))
    return sections


def _filled(expression: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        expression = expression.replace("{" + name + "}", f"(?:{value})")
    return expression


def _first_clause(text: str) -> str:
    """The text up to its first stop; "" where it is long without one, or goes on to say something else after all."""
    text = text[:_LIMIT].strip(_AROUND)
    text = _ANSWER_IS.sub("", text)
    if _phrases("contrast").search(text):
        return ""
    return _CLAUSE.split(text, maxsplit=1)[0].strip()


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
