"""`make_queries`: questions with answers for pages of your own, written by a generator and filtered.

The recipe is VisRAG's: up to six question-answer pairs a page, as JSON; what nobody could find the page by is left out.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.batch_runner import BatchRunner
from visrag_integrations.evaluation.run_record import RunRecord
from visrag_integrations.evaluation.sets import EvaluationSet, Question, page_key
from visrag_integrations.interfaces import Generator
from visrag_integrations.interfaces.generators import generate, supports
from visrag_integrations.progress_bars import progress_bar
from visrag_integrations.scores.lexical import tokens
from visrag_integrations.types import Failure, GenerationSettings, Message, Page

logger = logging.getLogger(__name__)

Pair = tuple[str, str]
"""A question and its answer."""

PROMPT = """\
You see one page from a large collection of documents. Write questions that somebody who has never seen this page \
would type into a search engine, and for which this page is the one to find.

- At most {count} questions, each about something else on the page: its text, tables, figures, numbers.
- Each question must make sense alone: name the product, person, place, method or year it is about. Never say "this \
page", "the figure", "the table", "the document" or the like.
- Each answer is short (a number, a name, a few words) and stands on the page.
- Write in the language of the page.
- If the page holds nothing worth asking (a cover, an empty page, a list of contents), give an empty list.

Give JSON only, in this form:
{{"pairs": [{{"question": "...", "answer": "..."}}]}}"""

_TEXT = {"type": "string"}
_PAIR = {
    "type": "object",
    "properties": {"question": _TEXT, "answer": _TEXT},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
MAX_PARSED = 30_000
"""Characters of a generator's text that are read, many times six pairs: every "{" costs a try to parse from there."""
_OBJECT = re.compile(r'\{\s*"')

_THING = (
    r"(?:page|document|figure|image|picture|table|chart|graph|diagram|slide|text|passage|section|excerpt|screenshot)"
)
_VAGUE = re.compile(
    rf"\b(?:this|these|that|above|below|following|given|provided|shown)\s+{_THING}s?\b"
    rf"|\b(?:in|on|from|by|to|does|do|of)\s+the\s+{_THING}s?\b(?!\s+(?:of|for|about|on|that|which|called|named|titled))"
    rf"|\b(?:figure|fig\.?|table|chart|section|page|slide)\s+\d"
    r"|[本此该该這这]\s*(?:页|頁|图|圖|表|文|张|張|篇|章)|[上下如]图|图中|表中|この(?:ページ|図|表|文書|画像)|이\s?(?:페이지|그림|표|문서)",
    re.IGNORECASE,
)
# "Total revenue?" fits a hundred pages of a collection. Chinese and Japanese have no spaces between words, so there
# characters count.
_MIN_WORDS = 3
_MIN_CHARACTERS = 6
# The share of an answer's words that must be on the page. Not all: a generator writes "12 meters" for "12 m", and puts
# an article before a name; its numbers, which it may make up, must all be there.
_ON_PAGE = 0.6


def make_queries(
    pages: Iterable[Page],
    generator: Generator,
    *,
    per_page: int = 6,
    name: str = "made queries",
    settings: GenerationSettings | None = None,
    record: str | Path | None = None,
    batch_size: int = 4,
    progress: bool | None = None,
    on_dropped: Callable[[Page, Pair, str], None] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
) -> EvaluationSet:
    """Questions with answers, each judged to be answered by the page it was written for.

    Left out are: questions without an answer, too short ones, ones that speak of "this page" or "figure 3" and so make
    no sense alone, ones that were there already, and ones whose answer is not in the page's text, where it has one.

    Args:
        pages: For example `PageReader().read("report.pdf")`; read lazily.
        generator: What writes; one that sees pictures. With "json_schema" in its `supports` it is held to the form.
        per_page: At most so many questions a page.
        name: What the set is called.
        settings: How to write; by default at temperature 0.7.
        record: A file that keeps what was written, page by page, so that a run that was stopped goes on.
        batch_size: Pages given to the generator together.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        on_dropped: Called with every pair that is left out: the page, the pair, why.
        on_failure: Called with every page the generator failed on; the others go on.

    Raises:
        SettingError: `per_page` is less than 1, or the record is of other settings.
        GenerationError: The generator failed on five pages in a row.
    """
    if per_page < 1:
        raise SettingError(f"per_page is {per_page}; it must be 1 or more.")
    settings = _settings(generator, settings, per_page)
    about = {"task": "queries", "generator": generator.name, "per_page": per_page}
    kept = RunRecord(record, about)
    seen: list[Page] = []

    def write(batch: list[Page]) -> list[str]:
        prompt = PROMPT.format(count=per_page)
        conversations = [(Message((prompt, page)),) for page in batch]
        return [written.text for written in generate(generator, conversations, settings)]

    def fail(page: Page, error: Exception) -> None:
        logger.warning("%s, page %d: %s", page.source or page.doc_id, page.number, error)
        if on_failure is not None:
            on_failure(Failure(page.source or page.doc_id, f"{error}", page.number))

    with progress_bar(progress, unit="page", desc="Writing") as bar:

        def left() -> Iterator[Page]:
            for page in pages:
                seen.append(replace(page, picture=None))  # its text is needed at the end, its picture is not
                bar.update()
                if page.id not in kept.done:
                    yield page

        def done(finished: list[tuple[Page, str]]) -> None:
            kept.append([{"id": page.id, "text": text} for page, text in finished])

        BatchRunner(write, done, fail, batch_size).all(left())
    written: list[tuple[Page, list[Pair]]] = []
    for page in seen:
        if page.id in kept.done:
            written.append((page, parse_pairs(str(kept.done[page.id]["text"]))))
    return _kept(written, per_page, name, on_dropped or _ignore)


def parse_pairs(text: str) -> list[Pair]:
    """The question-answer pairs in what a generator wrote; never raises. What was cut off inside a pair is left out.

    >>> parse_pairs('Sure! ```json {"pairs": [{"question": "Who?", "answer": "Ada"}, {"question": "Wh')
    [('Who?', 'Ada')]
    """
    decoder = json.JSONDecoder()
    pairs: list[Pair] = []
    start = 0
    text = text[:MAX_PARSED]
    while found := _OBJECT.search(text, start):
        start = found.start()
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start += 1  # not here, or not whole: a pair may begin further inside
            continue
        pairs += _pairs_in(value)
        start = end
    return pairs


def reason_to_drop(pair: Pair, page: Page) -> str:
    """Why nobody could use this question, in words; "" for a good one.

    >>> reason_to_drop(("What does the figure show?", "A cat"), Page("doc", 1))
    'it makes no sense without the page'
    """
    question, answer = pair
    if not answer.strip():
        return "it has no answer"
    if len(question.split()) < _MIN_WORDS and (question.isascii() or len(question.strip()) < _MIN_CHARACTERS):
        return "it is too short"
    if _VAGUE.search(question):
        return "it makes no sense without the page"
    if page.text.strip() and not _stands_on(answer, page.text):
        return "its answer is not on the page"
    return ""


def _kept(
    written: Sequence[tuple[Page, Sequence[Pair]]],
    per_page: int,
    name: str,
    dropped: Callable[[Page, Pair, str], None],
) -> EvaluationSet:
    questions: list[Question] = []
    qrels: dict[str, dict[str, int]] = {}
    asked: set[str] = set()
    for page, pairs in written:
        count = 0
        key = page_key(page)
        for pair in pairs:
            reason = reason_to_drop(pair, page)
            same = " ".join(tokens(pair[0]))
            if not reason and same in asked:
                reason = "it was asked before"
            if not reason and count >= per_page:
                reason = f"there are {per_page} for this page already"
            if reason:
                dropped(page, pair, reason)
                continue
            asked.add(same)
            count += 1
            question = Question(f"{key}:{count}", pair[0].strip(), answers=(pair[1].strip(),))
            if question.id in qrels:  # two files of one name
                question = replace(question, id=f"{page.id}:{count}")
            questions.append(question)
            qrels[question.id] = {key: 1}
    return EvaluationSet(name, tuple(questions), qrels)


def _pairs_in(value: Any) -> list[Pair]:
    """The pairs anywhere in a JSON value."""
    if isinstance(value, list):
        parts = value
    elif isinstance(value, Mapping):
        question = value.get("question", value.get("query"))
        if isinstance(question, str):
            return _pair(question, value.get("answer"))
        parts = list(value.values())
    else:
        return []
    pairs: list[Pair] = []
    for part in parts:
        pairs += _pairs_in(part)
    return pairs


def _pair(question: str, answer: Any) -> list[Pair]:
    """The pair, if there is a question; an answer that is no text and no number is none."""
    if not question.strip():
        return []
    if not isinstance(answer, (str, int, float)):
        answer = ""
    return [(_whole(question), _whole(str(answer)))]


def _whole(text: str) -> str:
    """The text without halves of characters, which JSON escapes can write and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _stands_on(answer: str, text: str) -> bool:
    """Whether every number and most words of the answer are in the text."""
    there = set(tokens(text))
    wanted = tokens(answer)
    found = 0
    for word in wanted:
        if word in there:
            found += 1
        elif any(character.isdigit() for character in word):
            return False
    return bool(wanted) and found >= _ON_PAGE * len(wanted)


def _settings(generator: Generator, settings: GenerationSettings | None, count: int) -> GenerationSettings:
    settings = settings or GenerationSettings(temperature=0.7, max_tokens=2048)
    if settings.json_schema is not None or not supports(generator, "json_schema"):
        return settings
    pairs = {"type": "array", "items": _PAIR, "maxItems": count}
    schema = {"type": "object", "properties": {"pairs": pairs}, "required": ["pairs"], "additionalProperties": False}
    return replace(settings, json_schema=schema)


def _ignore(page: Page, pair: Pair, reason: str) -> None:
    logger.debug("%s: %r is left out: %s", page.source, pair[0], reason)
