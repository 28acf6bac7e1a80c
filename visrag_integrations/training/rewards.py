"""What a model is rewarded for: the published rules of EVisRAG and of VRAG-RL, as functions of texts.

EVisRAG (https://arxiv.org/abs/2510.09733; `examples/reward_function/evidencecot.py` of its repository) rewards six
things; `EVISRAG_REWARDS` has their weights and the part of the response that each may change. With `published=True` a
function gives exactly the published numbers. By default it mends three faults of them: evidence of more than five pages
is averaged too, a language without spaces is compared character by character, and blank space around the response costs
nothing.

VRAG-RL (https://arxiv.org/abs/2505.22019; `VRAG-RL/verl/utils/reward_score` and `rm.py`) rewards pages found early, the
form of the actions, and an answer that a judge accepts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.training.reward_words import normalised, words, words_f1

TAGS = ("observe", "evidence", "think", "answer")
NO_EVIDENCE = "no relevant information"
"""What an evidence line says of a page that holds nothing."""

LONG_LINE = 5
"""An evidence line of so many words is compared by F1; a shorter one (a number, a name) has to be contained whole."""
RELEVANT_WEIGHT = 3
"""A page that holds evidence counts three times as much as one that does not: most pages of a prompt do not."""
PUBLISHED_LINES = 6
"""The published loop reads at most six lines, and divides by their weights only when it met fewer."""

RewardScope = Literal["all", "before_think", "from_think", "before_evidence", "think"]
"""Which tokens of a response a reward reaches; `training.scopes` finds them."""


@dataclass(frozen=True)
class RewardSpec:
    """A reward, how much it counts, and which part of the response it judges.

    Attributes:
        name: What it is called in logs; one of EVisRAG's or ours, or any other name with a function of its own.
        weight: How much it counts in the sum that groups of responses are kept by.
        scope: Which tokens it reaches.
        function: A reward of your own: response and ground truth in, a number out, or None where it says nothing.
    """

    name: str
    weight: float
    scope: RewardScope
    function: Callable[[str, str], float | None] | None = None


EVISRAG_REWARDS = (
    RewardSpec("accuracy", 3.0, "from_think"),
    RewardSpec("evidence", 3.0, "before_think"),
    RewardSpec("format", 1.0, "all"),
    RewardSpec("length", 1.0, "all"),
    RewardSpec("observation", 1.0, "before_evidence"),
    RewardSpec("thinking", 1.0, "think"),
)
"""The published rewards, in their order."""
SUPPORT_REWARD = RewardSpec("support", 1.0, "before_think")
"""Ours, off by default: the share of the evidence that stands on its page. `(*EVISRAG_REWARDS, SUPPORT_REWARD)`."""


def answer_reward(response: str, truth: str, *, published: bool = False) -> float:
    """F1 over the sets of words of the two answers, from 0 to 1; 0 where the response has no answer.

    Raises:
        DatasetError: The ground truth has no `<answer>`.

    >>> answer_reward("<answer>4.2 million</answer>", "<answer>4.2 million euros</answer>")
    0.8
    """
    answer = _section(response, "answer")
    if published and answer is None:
        return 0.0
    right = _truth(truth, "answer")
    if answer is None:
        return 0.0
    return words_f1(answer, right, published)


def evidence_reward(response: str, truth: str, *, published: bool = False) -> float:
    """How well each page's evidence is given, from 0 to 1: the mean over pages, those with evidence counted thrice.

    Published, six or more lines are summed and not averaged, so that the reward may be 18.

    Raises:
        DatasetError: The ground truth has no `<evidence>`.
    """
    evidence = _section(response, "evidence")
    if published and evidence is None:
        return 0.0
    right = _truth(truth, "evidence")
    if evidence is None:
        return 0.0
    total = weights = 0.0
    lines = _published_lines(right) if published else _lines(right)
    for index, line in lines:
        weight = 1 if line == NO_EVIDENCE else RELEVANT_WEIGHT
        found = _published_line(evidence, index) if published else dict(_lines(evidence)).get(index)
        total += weight * _line_score(found, line, published)
        weights += weight
    if published and len(lines) >= PUBLISHED_LINES:
        return total
    return total / weights if weights else 0.0


def format_reward(response: str, truth: str = "", *, published: bool = False) -> float:
    """1 where the response is the four tags in their order, each once, with only blank space between them; else 0.

    Published, blank space before the first or after the last tag gives 0.
    """
    if not published:
        response = response.strip()
    form = r"\s*".join(rf"<{tag}>.*</{tag}>" for tag in TAGS)
    if re.fullmatch(form, response, re.DOTALL) is None:
        return 0.0
    for tag in TAGS:
        if response.count(f"<{tag}>") != 1 or response.count(f"</{tag}>") != 1:
            return 0.0
    return 1.0


def observation_reward(response: str, truth: str = "", *, published: bool = False) -> float:
    """-1 where the observation speaks of pages by their evidence index, such as "[2]"; else 0.

    The observation is to describe what is seen; published, the indexes 1 to 5 are looked for.
    """
    observation = _section(response, "observe")
    if observation is None:
        return 0.0
    index = r"\[[1-5]\]" if published else r"\[\d+\]"
    return -1.0 if re.search(index, observation) else 0.0


def thinking_reward(response: str, truth: str = "", *, published: bool = False) -> float:
    """-1 where the thinking is only the answer; else 0. Published, blank space around them makes them differ."""
    thinking, answer = _section(response, "think"), _section(response, "answer")
    if thinking is None or answer is None:
        return 0.0
    if not published:
        thinking, answer = thinking.strip(), answer.strip()
    return -1.0 if thinking == answer else 0.0


def length_reward(tokens: int, longest: int = 1536, buffer: int = 512, shortest: int = 200) -> float:
    """From 0 down to -1 for responses that are too short, or that use up the last `buffer` tokens before `longest`.

    >>> [length_reward(tokens) for tokens in (199, 200, 1024, 1280, 1536, 9999)]
    [-1.0, 0.0, 0.0, -0.5, -1.0, -1.0]
    """
    if not 0 < buffer <= longest:
        raise SettingError(f"buffer is {buffer} and longest {longest}; buffer must be from 1 to longest.")
    if tokens < shortest:
        return -1.0
    beyond = tokens - (longest - buffer)
    if beyond <= 0:
        return 0.0
    return max(-1.0, -beyond / buffer)


def ndcg_reward(seen: Sequence[str], golden: Collection[str]) -> float:
    """How early the golden pages were seen: 1 when they came first, 0 when none was seen or none is known.

    A page that is seen again counts the first time only.

    Args:
        seen: The ids of the pages in the order they were shown.
        golden: The ids of all pages that hold the answer.

    >>> ndcg_reward(["b", "a"], ["a"])
    0.6309297535714575
    """
    wanted = set(golden)
    if not wanted:
        return 0.0
    gain = 0.0
    for place, page in enumerate(dict.fromkeys(seen)):
        if page in wanted:
            gain += 1 / math.log2(place + 2)
    best = sum(1 / math.log2(place + 2) for place in range(len(wanted)))
    return gain / best


def action_format_reward(own_text: str, *, published: bool = False) -> float:
    """1 where the model searched and answered, each in whole tags; else 0.

    Args:
        own_text: What the model itself wrote. The published code gives the whole trajectory here, with the rules that
            an invalid action is answered by, which hold both tags.
        published: The order of the two does not matter. By default the last answer comes after the first search.
    """
    if published:
        searched = re.search(r"<search>.*</search>", own_text, re.DOTALL)
        answered = re.search(r"<answer>.*</answer>", own_text, re.DOTALL)
        return 1.0 if searched and answered else 0.0
    return 1.0 if re.search(r"<search>.*?</search>.*<answer>.*?</answer>", own_text, re.DOTALL) else 0.0


def trajectory_reward(
    ndcg: float, form: float, judged: float, *, weights: tuple[float, float, float] = (0.2, 0.1, 0.7)
) -> float:
    """The reward of a whole run of the agent: 0 without the form, else the weighted sum.

    The published code multiplies by the form in this way; the paper adds the three.

    >>> trajectory_reward(1.0, 1.0, 1.0), trajectory_reward(1.0, 0.0, 1.0)
    (1.0, 0.0)
    """
    if form <= 0:
        return 0.0
    for_pages, for_form, for_answer = weights
    return for_answer * judged + for_form * form + for_pages * ndcg


def _section(text: str, tag: str) -> str | None:
    """What stands between the first opening tag and the next closing one; None where the text lacks either.

    The published rule: a text that has both tags anywhere has the section, up to the text's end if need be.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    if opening not in text or closing not in text:
        return None
    return text.split(opening)[1].split(closing)[0]


def _truth(truth: str, tag: str) -> str:
    section = _section(truth, tag)
    if section is None:
        raise DatasetError(
            f"ground truth {truth[:80]!r}",
            f"it has no <{tag}>...</{tag}>. Give the whole of it, with its <evidence> and <answer> tags.",
        )
    return section


_INDEX = re.compile(r"^\s*(?:Image\s*)?\[(\d+)\]\s*[:：]?\s*", re.MULTILINE | re.IGNORECASE)


def _lines(evidence: str) -> list[tuple[int, str]]:
    """Index and text of every entry, the first of each index; an entry begins a line, so that an index in a text stays.

    >>> _lines("[1]: see [2]\\n[2]：this")
    [(1, 'see [2]'), (2, 'this')]
    """
    found: dict[int, str] = {}
    end = len(evidence)
    # From the last mark to the first: each entry ends where the one after it begins, and the first of an index stays.
    for mark in reversed(list(_INDEX.finditer(evidence))):
        found[int(mark[1])] = evidence[mark.end() : end].strip()
        end = mark.start()
    return list(reversed(found.items()))


def _published_lines(evidence: str) -> list[tuple[int, str]]:
    """The lines from index 1 on, up to the first index that is missing."""
    lines: list[tuple[int, str]] = []
    for index in range(1, PUBLISHED_LINES + 1):
        line = _published_line(evidence, index)
        if line is None:
            break
        lines.append((index, line))
    return lines


def _published_line(evidence: str, index: int) -> str | None:
    """From "[1]:" to "[2]", wherever these stand."""
    mark = f"[{index}]:"
    if mark not in evidence:
        return None
    return evidence.split(mark)[1].split(f"[{index + 1}]")[0].strip()


def _line_score(found: str | None, right: str, published: bool) -> float:
    if found is None:
        return 0.0
    if published:
        is_long = len(right.split()) >= LONG_LINE
    else:
        is_long = len(words(right)) >= LONG_LINE
    if is_long:
        return words_f1(found, right, published)
    return float(normalised(right, published) in normalised(found, published))
