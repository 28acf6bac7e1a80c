"""The answer format as a regular expression: what it lets through, and how an answer that is cut off gets its end."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.guided import AnswerFormat, GuidedAnswer
from visrag_integrations.generation.parser import parse_evidence
from visrag_integrations.types import GenerationSettings, Message, Page

GOOD = (
    "<observe>Two pages.</observe>\n<evidence>\n[1]: seven {packages}\n[2]: no relevant information\n</evidence>\n"
    "<think>So 7 [see 1].</think>\n<answer>7</answer>"
)


def pages(count: int) -> list[Page]:
    return [Page("d", number) for number in range(1, count + 1)]


def test_what_the_form_lets_through_parses_without_problems() -> None:
    assert re.fullmatch(AnswerFormat(2).regex(2000), GOOD)
    answer = parse_evidence(GOOD, pages(2))
    assert answer.problems == ()
    assert [entry.relevant for entry in answer.evidence] == [True, False]


@pytest.mark.parametrize(
    "bad",
    [
        GOOD.replace("[2]: no relevant information\n", ""),
        GOOD.replace("[2]", "[3]"),
        GOOD.replace("7</answer>", "</answer>"),
        GOOD.replace("So 7", "<answer>"),
        GOOD.replace("seven", "[2]: seven"),
        GOOD + " ",
        GOOD.replace("Two pages.", "x" * 601),
    ],
)
def test_what_the_form_keeps_out(bad: str) -> None:
    assert not re.fullmatch(AnswerFormat(2).regex(2000), bad)


@given(st.integers(0, len(GOOD)))
def test_every_beginning_has_an_end(cut: int) -> None:
    begun = GOOD[:cut]
    rest = AnswerFormat(2).rest(begun)
    ended = begun + shortest(rest)
    assert re.fullmatch(AnswerFormat(2).regex(2000), ended)
    assert parse_evidence(ended, pages(2)).problems == ()
    assert re.fullmatch(rest, GOOD[cut:]) or len(GOOD) - cut > 16  # the true end too, unless a section is long


def shortest(pattern: str) -> str:
    """One text that a pattern of ours matches: a letter for each section."""
    text = re.sub(r"\[0-9A-Za-z[^\]]*\]\[\^[^\]]*\]\{0,\d+\}", "a", pattern.replace(r"[^<\[\n\r]", "[^x]"))
    return re.sub(r"\\([\[\](){}.*+?|^$\\])", r"\1", text.replace(r"\n", "\n"))


@pytest.mark.parametrize("images", [1, 3, 8])
@pytest.mark.parametrize("size", [1, 16])
def test_the_reserve_holds_the_longest_end(images: int, size: int) -> None:
    """With a token for each byte, the longest characters there are, and nothing written yet."""
    form = AnswerFormat(images)
    longest = "".join(part if isinstance(part, str) else "\U0001f600" * size for part in form.parts)
    assert len(longest.encode()) == form.reserve(size)
    assert re.fullmatch(form.rest("", size), longest.replace("\U0001f600" * size, "a" + "\U0001f600" * (size - 1)))


@pytest.mark.parametrize(("total", "share"), [(2048, 0.25), (300, 0.5)])
def test_the_end_gets_a_quarter_unless_there_is_little(total: int, share: float) -> None:
    guide = GuidedAnswer(AnswerFormat(3), GenerationSettings(max_tokens=total))
    assert 0 < total - (guide.first.max_tokens or 0) <= share * total


def test_two_requests_share_the_tokens() -> None:
    guide = GuidedAnswer(AnswerFormat(2), GenerationSettings(max_tokens=400, guided=True))
    assert guide.first.guided is False
    guide.add(GOOD[:30])
    rest = guide.rest("length")
    assert rest is not None
    assert (rest.max_tokens or 0) + (guide.first.max_tokens or 0) == 400
    assert guide.rest("stop") is None


def test_random_bytes_in_the_sections_never_break_the_form() -> None:
    """What an untrained model writes within the form: any character but those that the form keeps out."""
    letters = [chr(c) for c in range(32, 0x2FFF) if chr(c) not in "<[\n\r" and not 0xD800 <= c < 0xE000]
    for seed in range(50):
        rng = random.Random(seed)
        sections = ["a" + "".join(rng.choices(letters, k=20)) for _ in range(5)]
        text = (
            "<observe>{}</observe>\n<evidence>\n[1]: {}\n[2]: {}\n</evidence>\n<think>{}</think>\n<answer>{}</answer>"
        )
        assert parse_evidence(text.format(*sections), pages(2)).problems == ()


def test_room_and_pages_are_needed() -> None:
    with pytest.raises(SettingError, match="max_tokens is 50"):
        GuidedAnswer(AnswerFormat(3), GenerationSettings(max_tokens=50))
    assert AnswerFormat.of((Message(("q", *pages(3))),)) == AnswerFormat(3)
    with pytest.raises(SettingError, match="shows none"):
        AnswerFormat.of((Message(("q",)),))
