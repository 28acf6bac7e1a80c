"""Whether an answer is right: EVisRAG's and VisRAG-Gen's published rules, and ANLS. Each gives a value from 0 to 1."""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from visrag_integrations.errors import UnknownNameError
from visrag_integrations.evaluation.metrics import PerQuery
from visrag_integrations.evaluation.sets import Question
from visrag_integrations.evaluation.ultrarag_metrics import ULTRARAG_METRICS

REFUSALS = ("no relevant information", "insufficient to answer", "insufficient to answer the question")
"""What an unanswerable question must be answered with."""

RIGHT_FROM = 0.5
"""A rule that gives shares, such as f1, calls an answer right from here on, where only right and wrong are counted."""

_ARTICLES = {"a", "an", "the"}
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

# VisRAG-Gen's normalisation, that of the VQA benchmarks.
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_LONE_POINT = re.compile(r"\.(?!\d)")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(n) for n, word in enumerate(_DIGITS)}
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's "
    "isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'd somebody'll somebody's someone'd someone'll someone's something'd something'll that's "
    "there'd there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's "
    "what've when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've "
    "wouldn't y'all you'd you'll you're you've"
)
# Of these one apostrophe may be missing, not both: "shed've" and "she'dve".
_LONG_CONTRACTIONS = (
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've something'd've "
    "there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've 'ow's'at"
)


def _contracted() -> dict[str, str]:
    """Contractions as people write them without an apostrophe -> with all of them."""
    found: dict[str, str] = {}
    for word in _CONTRACTIONS.split():
        found[word.replace("'", "")] = word
    for word in _LONG_CONTRACTIONS.split():
        for place, letter in enumerate(word):
            if letter == "'":
                found[word[:place] + word[place + 1 :]] = word
    return found


_CONTRACTED = _contracted()
# VisRAG-Gen's table has one pair the wrong way round: it takes the apostrophe out of "somebody'd", and puts none in.
_PUBLISHED_CONTRACTED = {**_CONTRACTED, "somebody'd": "somebodyd"}
del _PUBLISHED_CONTRACTED["somebodyd"]
# It hands re.UNICODE, which is 32, to `sub` where the count goes: later points stay.
_PUBLISHED_POINTS = 32


def evaluate_answers_of(
    answers: Mapping[str, str], questions: Iterable[Question], metrics: Iterable[str] = ("em", "accuracy", "f1")
) -> PerQuery:
    """Each metric for each question that was answered; see `ANSWER_METRICS`.

    >>> evaluate_answers_of({"q": "The total is 7."}, [Question("q", "How many?", answers=("7",))], ["em", "accuracy"])
    {'q': {'em': 0.0, 'accuracy': 1.0}}
    """
    rules = {metric: find_answer_metric(metric) for metric in metrics}
    values: PerQuery = {}
    for question in questions:
        if question.id not in answers:
            continue
        values[question.id] = {}
        for metric, rule in rules.items():
            values[question.id][metric] = float(rule(answers[question.id], question))
    return values


def find_answer_metric(metric: str) -> Callable[[str, Question], float]:
    """The rule of that name."""
    if metric not in ANSWER_METRICS:
        raise UnknownNameError(f"There is no answer metric {metric!r}; there is {', '.join(ANSWER_METRICS)}.")
    return ANSWER_METRICS[metric]


def normalized(text: str) -> str:
    """Lower case, without punctuation (ASCII), articles and extra spaces: how EVisRAG compares.

    >>> normalized(" The U.S. -  total,")
    'us total'
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def vqa_normalized(text: str, *, published: bool = False) -> str:
    """How VisRAG-Gen compares: number words become digits, contractions get their apostrophe, punctuation goes.

    >>> vqa_normalized("The seven red/blue cars, dont!"), vqa_normalized("1,234.50")
    ("7 red blue cars don't", '1234.50')

    Args:
        text: An answer.
        published: Letter for letter what VisRAG-Gen's own code gives, with its two slips: "somebody'd" becomes
            "somebodyd", and of more than 32 points the later ones stay.
    """
    contracted, points = _CONTRACTED, 0  # 0: all of them
    if published:
        contracted, points = _PUBLISHED_CONTRACTED, _PUBLISHED_POINTS
    text = text.replace("\n", " ").replace("\t", " ").strip()
    for mark in _MARKS:
        # As published: beside a space, or in any text with a thousands comma, a mark goes; else it becomes a space.
        at_a_space = f"{mark} " in text or f" {mark}" in text
        if at_a_space or _THOUSANDS.search(text):
            text = text.replace(mark, "")
        else:
            text = text.replace(mark, " ")
    words: list[str] = []
    for word in _LONE_POINT.sub("", text, count=points).lower().split():
        word = _NUMBERS.get(word, word)
        if word not in _ARTICLES:
            words.append(contracted.get(word, word))
    return " ".join(words)


def em(answer: str, question: Question) -> float:
    """Exact match: the same text as one of the right answers, both normalised."""
    given = normalized(answer)
    # An answer of punctuation only is nothing, and so may a right answer be: that is no match.
    return float(bool(given) and given in map(normalized, right_answers(question)))


def accuracy(answer: str, question: Question) -> float:
    """Whether every word of one of the right answers is in the answer, whatever their order."""
    given = set(normalized(answer).split())
    for truth in right_answers(question):
        words = set(normalized(truth).split())
        if words and words <= given:
            return 1.0
    return 0.0


def f1(answer: str, question: Question) -> float:
    """Shared words: the harmonic mean of precision and recall, against the right answer that fits best."""
    given = normalized(answer).split()
    best = 0.0
    for truth in right_answers(question):
        best = max(best, _shared(given, normalized(truth).split()))
    return best


def anls(answer: str, question: Question) -> float:
    """1 - edit distance / length of the longer text, against the right answer that fits best; 0 below or at a half."""
    best = 0.0
    for truth in right_answers(question):
        best = max(best, _similarity(_folded(answer), _folded(truth)))
    return best


def exact(answer: str, question: Question, *, published: bool = False) -> float:
    """VisRAG-Gen's rule for MP-DocVQA, InfoVQA and SlideVQA: the same text, apart from a percent sign only one has.

    `published`: see `vqa_normalized`.
    """
    given, truths = _without_odd_percent(answer, right_answers(question), published)
    return float(bool(given) and given in truths)


def relaxed(answer: str, question: Question, *, published: bool = False) -> float:
    """VisRAG-Gen's rule for ChartQA and PlotQA: as `exact`, or a number within 5 % of the right one.

    Where the set says that the answer is no number (`Question.numeric`), only the exact text counts.
    """
    given, truths = _without_odd_percent(answer, right_answers(question), published)
    if given and given in truths:
        return 1.0
    # Only False stops here: where a set does not say, both texts being numbers is enough.
    if question.numeric is False:
        return 0.0
    return float(any(_is_near(given, truth) for truth in truths))


def choice(answer: str, question: Question) -> float:
    """VisRAG-Gen's rule for ArxivQA: the first character is the right option's letter."""
    given = _first_letter(answer)
    return float(bool(given) and given in map(_first_letter, right_answers(question)))


ANSWER_METRICS: dict[str, Callable[[str, Question], float]] = {
    "em": em,
    "accuracy": accuracy,
    "f1": f1,
    "anls": anls,
    "exact": exact,
    "relaxed": relaxed,
    "choice": choice,
    "exact-published": functools.partial(exact, published=True),
    "relaxed-published": functools.partial(relaxed, published=True),
    **ULTRARAG_METRICS,
}
"""Name -> function of the answer and its question."""


def right_answers(question: Question) -> Sequence[str]:
    """What counts as right: the set's answers, or, of a question that cannot be answered, a refusal.

    >>> right_answers(Question("q", "Who paid?", answerable=False))[1]
    'insufficient to answer'
    """
    if question.answerable:
        return question.answers
    return REFUSALS


def _first_letter(text: str) -> str:
    return text.strip()[:1].upper()


def _shared(given: Sequence[str], truth: Sequence[str]) -> float:
    same = (Counter(given) & Counter(truth)).total()
    if not same:
        return 0.0
    return 2 * same / (len(given) + len(truth))


def _without_odd_percent(answer: str, truths: Sequence[str], published: bool) -> tuple[str, list[str]]:
    """Both normalised; a percent sign that the answer or the first right answer lacks is taken from the other."""
    given = vqa_normalized(answer, published=published)
    wanted = [vqa_normalized(truth, published=published) for truth in truths]
    # As published: only the first right answer says whether a percent sign belongs there.
    there = bool(wanted) and "%" in wanted[0]
    if "%" in given and not there:
        given = given.replace("%", "")
    elif "%" not in given and there:
        wanted = [truth.replace("%", "") for truth in wanted]
    return given, wanted


def _is_near(given: str, truth: str) -> bool:
    """Whether both are numbers and the first is within 5 % of the second; nothing is near 0."""
    try:
        number, right = float(given), float(truth)
    except ValueError:
        return False
    return right != 0 and abs((number - right) / right) * 100 <= 5


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


def _similarity(given: str, truth: str) -> float:
    longer = max(len(given), len(truth))
    # The difference in length is the least number of edits; from half of the longer text on the result is 0 anyway.
    if abs(len(given) - len(truth)) * 2 >= longer:
        return 0.0
    distance = _edits(given, truth)
    if distance * 2 >= longer:
        return 0.0
    return 1 - distance / longer


def _edits(one: str, other: str) -> int:
    """Levenshtein distance: insertions, deletions and replacements."""
    # One row of the table at a time: before[j] edits turn the part of `one` so far into the first j letters of `other`.
    before = list(range(len(other) + 1))
    for i, first in enumerate(one, 1):
        row = [i]
        for j, second in enumerate(other, 1):
            deleted, inserted = before[j] + 1, row[j - 1] + 1
            replaced = before[j - 1] + (first != second)
            row.append(min(deleted, inserted, replaced))
        before = row
    return before[-1]
