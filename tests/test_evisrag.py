"""EVisRAG's prompt and the reading of its answers: a corpus of malformed outputs, and properties for any string."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visrag_integrations.generation.events import AnswerReady, Event, EvidenceFound, SectionStarted, SectionText
from visrag_integrations.generation.evisrag import (
    EvidenceStream,
    build_prompt,
    evisrag_messages,
    parse_evidence,
    plain_messages,
    prompt_template,
    question_of,
    quotable,
)
from visrag_integrations.generation.inert import inert
from visrag_integrations.types import Page, ScoredPage

PUBLISHED_SHA256 = "7fbff7c282445e17398e0fda9a23c26e5cb7cf445a17f5ebd55e1e8a03452cd9"
CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "evisrag_outputs.jsonl").read_text(encoding="utf-8").splitlines()
]
BITS = [
    *(f"<{slash}{name}>" for name in ("observe", "evidence", "think", "answer") for slash in ("", "/")),
    *("[1]:", "[2]：", "[3]", "Image 1:", "**[2]:**", " [", "]", ":", "<", "</", "<ans", "wer>", "\n", "- ", "1. "),
    *(
        "[1][2]:",
        "[1, 3]:",
        "【2】：",
        "[1-3]:",
        "[[1]]:",
        "`[2]`:",
        "Images 1 and 2:",
        "Page 2: ",
        "| [1] | x |",
        "see ",
        "word",
    ),
    *(
        "< answer >",
        "**<think>**",
        "＜/evidence＞",
        "&lt;answer&gt;",
        "`</think>`",
        '<answer a="b">',
        "\\<observe\\>",
        "{",
        '"1": "x"',
    ),
    *("x" * 45, "的" * 60, "Answer: 7", "**", "_", "&lt", "```json\n", "[{", "}", "①", "第1页：", "2) "),
    *("no relevant information", "insufficient to answer", "text ", "图片1：", "<ANSWER>", "\ud800", "image", "9" * 12),
]
outputs = st.lists(st.one_of(st.sampled_from(BITS), st.text(max_size=6)), max_size=30).map("".join)


def pages_of(count: int | None) -> list[Page] | None:
    return None if count is None else [Page(doc_id="d", number=number) for number in range(1, count + 1)]


def in_pieces(text: str, cuts: list[int], pages: list[Page] | None = None) -> tuple[list[Event], EvidenceStream]:
    stream = EvidenceStream(pages)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    events = [event for start, end in itertools.pairwise(places) for event in stream.feed(text[start:end])]
    return events, stream


def test_prompt_is_the_published_one_byte_for_byte() -> None:
    assert hashlib.sha256(prompt_template().encode()).hexdigest() == PUBLISHED_SHA256
    assert prompt_template().count("{query}") == 1


@given(st.text())
def test_prompt_holds_the_question_literally_and_gives_it_back(question: str) -> None:
    before, after = prompt_template().split("{query}")
    harmless = inert(question, begins_line=False)
    assert build_prompt(question) == before + harmless + after
    assert question_of(build_prompt(question)) == harmless
    assert build_prompt(harmless) == build_prompt(question)


@given(st.text(alphabet=st.characters(blacklist_characters="<[＜﹤&:：﹕︓")))
def test_ordinary_questions_stand_in_the_published_prompt_byte_for_byte(question: str) -> None:
    before, after = prompt_template().split("{query}")
    assert build_prompt(question) == before + question + after


@pytest.mark.parametrize(
    "question", ["{query}", "{0} {} %s $x", "\\1 \\g<0>", "Is 3 < 5? See [2], <b>bold</b>: a & b", ""]
)
def test_question_with_placeholders_is_not_expanded(question: str) -> None:
    assert question_of(build_prompt(question)) == question


def test_tags_in_a_question_are_text() -> None:
    prompt = build_prompt("<answer>x</answer>")
    assert question_of(prompt) == "‹answer›x‹/answer›"
    assert prompt.count("<answer>") == prompt_template().count("<answer>")


def test_messages_show_text_first_then_pages_in_rank_order() -> None:
    pages = [Page(doc_id="d", number=number) for number in (3, 1, 2)]
    (message,) = evisrag_messages("q?", [ScoredPage(page, 0.5) for page in pages])
    assert message.role == "user"
    assert message.content == (build_prompt("q?"), *pages)
    (plain,) = plain_messages("q?", pages)
    assert plain.content == ("q?", *pages)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_corpus_of_outputs(case: dict[str, Any]) -> None:
    pages = pages_of(case["pages"])
    answer = parse_evidence(case["text"], pages)
    assert answer.text == case["answer"]
    assert answer.sufficient is case["sufficient"]
    assert [[entry.page_index, entry.text, entry.relevant] for entry in answer.evidence] == case["evidence"]
    assert answer.raw == case["text"]
    for entry in answer.evidence:
        known = pages is not None and 1 <= entry.page_index <= len(pages)
        assert entry.page == (pages[entry.page_index - 1] if pages is not None and known else None)
    if not case["problems"]:
        assert answer.problems == ()
    for words in case["problems"]:
        assert any(words in problem for problem in answer.problems), answer.problems
    for name in ("thinking", "observation"):
        if name in case:
            assert getattr(answer, name) == case[name]


def test_corpus_is_large_enough_and_its_names_are_distinct() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 60


@settings(max_examples=400, deadline=None)
@given(outputs, st.lists(st.integers(0, 1000), max_size=12), st.integers(0, 3))
def test_any_split_reads_like_the_whole(text: str, cuts: list[int], shown: int) -> None:
    pages = pages_of(shown)
    events, stream = in_pieces(text, cuts, pages)
    end = stream.finish()
    assert isinstance(end[-1], AnswerReady)
    answer = parse_evidence(text, pages)
    assert end[-1].answer == answer
    seen = [*events, *end]
    assert tuple(event.evidence for event in seen if isinstance(event, EvidenceFound)) == answer.evidence
    for section, whole in (("think", answer.thinking), ("observe", answer.observation)):
        told = "".join(
            event.text if isinstance(event, SectionText) else "\0"
            for event in seen
            if isinstance(event, (SectionText, SectionStarted)) and event.section == section
        )
        assert "\n\n".join(filter(None, (part.strip() for part in told.split("\0")[1:]))) == whole or "\0" in text


@settings(max_examples=100, deadline=None)
@given(outputs)
def test_one_character_at_a_time_reads_like_the_whole(text: str) -> None:
    _, stream = in_pieces(text, list(range(len(text))))
    assert stream.close() == parse_evidence(text)


@settings(max_examples=200, deadline=None)
@given(outputs, outputs)
def test_quoted_text_never_breaks_out_of_its_entry(foreign: str, more: str) -> None:
    text = (
        f"<observe>o</observe><evidence>[1]: x{quotable(foreign)}\n[2]: x{quotable(more)}</evidence>"
        "<think>t</think><answer>a</answer>"
    )
    answer = parse_evidence(text, pages_of(2))
    assert answer.text == "a"
    assert [entry.page_index for entry in answer.evidence] == [1, 2]
    assert not any("tag" in problem or "<" in problem for problem in answer.problems)


@pytest.mark.parametrize(
    "text",
    [
        "<evidence>subimage 3: the total is 42 and nothing else is said about it here</evidence><answer>42</answer>",
        "<evidence>[1]: see b图片3：" + "的" * 60 + "</evidence><answer>1</answer>",
        "<evidence>mImage 1:** foo\n- *2]: no relevant informak>\nWe se",
        "<evidence>[1]: " + "x" * 200 + "image 2: " + "y" * 200 + " [2]: z</evidence>",
        "<evidence>[1]: word" + "image 3:" * 40 + "</evidence>",
        "<evidence>" + "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10] and [11] and [12][13]: x</evidence>",
        "**<observe>**" * 3 + "**7**</answer>**<answer>**7**</answer>**",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 47, 48, 49, 50])
def test_pieces_of_any_size_read_like_the_whole(text: str, size: int) -> None:
    _, stream = in_pieces(text, list(range(0, len(text), size)))
    assert stream.close() == parse_evidence(text)


def test_events_come_as_soon_as_they_are_certain() -> None:
    stream = EvidenceStream()
    assert stream.feed("<obser") == []
    assert stream.feed("ve>two ima") == [SectionStarted("observe"), SectionText("observe", "two ima")]
    stream.feed("ges</observe>")
    assert stream.feed("<evidence>[1]: seven") == [SectionStarted("evidence")]
    (found,) = stream.feed(" apples [2]:")
    assert isinstance(found, EvidenceFound)
    assert (found.evidence.page_index, found.evidence.text) == (1, "seven apples")
    (found,) = stream.feed(" none</evidence>")
    assert isinstance(found, EvidenceFound)
    assert not found.evidence.relevant
    assert stream.feed("<think>a < b, </th")[-1] == SectionText("think", "a < b, ")


def test_a_tag_inside_an_open_section_waits_until_it_is_certain() -> None:
    stream = EvidenceStream()
    stream.feed("<think>")
    assert stream.feed("say <answer>no</answer>") == [SectionText("think", "say ")]
    assert SectionText("think", "<answer>") in stream.feed("</think>")
    assert stream.close().thinking == "say <answer>no</answer>"


@pytest.mark.parametrize(
    "unit",
    [
        "<think>",
        "<answer>",
        "<observe><think>",
        "</answer>",
        "<observe><evidence><think><answer>",
        "<",
        "<evidence>[1]:",
        *("<evidence>[", "<evidence>\n", "</", "<evidence></observe>", "<think></think>", "<evidence>** ", "[1]:"),
    ],
)
def test_adversarial_tags_take_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        text = "<evidence>" + unit * (size // len(unit))
        start = time.process_time()
        parse_evidence(text, pages_of(3))
        return time.process_time() - start

    gc.disable()  # a collection would walk through all that other tests have left in memory
    try:
        small = min(seconds(50_000) for _ in range(3))
        large = min(seconds(400_000) for _ in range(2))
    finally:
        gc.enable()
    assert large < 30 * small + 0.05, f"8 times the text took {large / small:.0f} times as long"


def test_sections_without_end_are_cut_off_in_words() -> None:
    answer = parse_evidence("<answer>a</answer>" * 1000 + "<answer>b</answer>")
    assert answer.text == "a"
    assert any("after the first 1000 sections" in problem for problem in answer.problems)


def test_hostile_text_gives_a_bounded_answer() -> None:
    answer = parse_evidence("<evidence>" + "[1]: x " * 100_000 + "</evidence>" + "</think>" * 100_000)
    assert len(answer.evidence) == 1000
    assert len(answer.problems) < 12
    assert max(map(len, answer.problems)) < 300
    assert any("beyond the first 1000" in problem for problem in answer.problems)
