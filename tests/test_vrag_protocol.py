"""VRAG-RL's turns: what is read in well-formed ones, what is wrong with the others, and that any text can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.pixel_boxes import box_problem, parse_box
from visrag_integrations.generation.vrag import (
    TEMPLATE,
    build_prompt,
    check_template,
    parse_turn,
    question_of,
    quotable,
)
from visrag_integrations.types import Message

TAGS = [f"<{slash}{name}>" for name in ("think", "search", "bbox", "answer") for slash in ("", "/")]


def read(text: str, *, cut_off: bool = False) -> tuple[str, tuple[str, str, str] | None, tuple[str, ...]]:
    turn = parse_turn(text, cut_off=cut_off)
    action = turn.action
    return turn.thought, None if action is None else (action.name, action.content, action.flaw), turn.problems


@pytest.mark.parametrize(
    ("text", "thought", "action", "problems"),
    [
        ("<think>a</think><search> q </search>", "a", ("search", "q", ""), ()),
        ("<think>a</think>\n<bbox>[1, 2, 3, 4]</bbox>\n", "a", ("bbox", "[1, 2, 3, 4]", ""), ()),
        ("<think>a</think><answer>4</answer>", "a", ("answer", "4", ""), ()),
        ("< Think >a</THINK><Search>q</ search>", "a", ("search", "q", ""), ()),
        ("<think>a</think><search>q", "a", ("search", "q", ""), ()),  # a stop string took the closing tag away
        ("<think>a</think><answer>4</ans", "a", ("answer", "4", ""), ()),
        ("a</think><answer>4</answer>", "a", ("answer", "4", ""), ()),  # the template had opened it
        ("<think>a</think><think>b</think><answer>4</answer>", "a\n\nb", ("answer", "4", ""), ()),
        (
            "<think>I may <search>x</search></think><answer>4</answer>",
            "I may <search>x</search>",
            ("answer", "4", ""),
            (),
        ),
        ("<think>if a < b & c > d</think><answer>a < b", "if a < b & c > d", ("answer", "a < b", ""), ()),
        ("I look. <search>q</search>", "I look.", ("search", "q", ""), ("no_think",)),
        ("<think>a <search>q</search>", "a", ("search", "q", ""), ("unclosed_think",)),
        ("<think>a</think><search>q</search><answer>4</answer>", "a", ("search", "q", ""), ("several_actions",)),
        ("<think>a</think><search>q <answer>4</answer>", "a", ("search", "q", "crossed_tags"), ()),
        ("<think>a</think><search>q<search>r</search></search>", "a", ("search", "q<search>r", "crossed_tags"), ()),
        ("<think>a</think>", "a", None, ("no_action",)),
        ("The answer is 4.", "The answer is 4.", None, ("no_action",)),
        ("</answer>4", "4", None, ("no_action",)),
        ("", "", None, ("empty",)),
        (" \n", "", None, ("empty",)),
    ],
)
def test_turns(text: str, thought: str, action: tuple[str, str, str] | None, problems: tuple[str, ...]) -> None:
    assert read(text) == (thought, action, problems)


@pytest.mark.parametrize(
    ("text", "action", "problems"),
    [
        ("<think>a", None, ("cut_off",)),
        ("<think>a</think><search>q", ("search", "q", "cut_off"), ()),
        ("<think>a</think><answer>4</ans", ("answer", "4", "cut_off"), ()),
        ("<think>a</think><search>q</search> and then", ("search", "q", ""), ()),
    ],
)
def test_turns_that_ended_at_the_token_limit(
    text: str, action: tuple[str, str, str] | None, problems: tuple[str, ...]
) -> None:
    assert read(text, cut_off=True)[1:] == (action, problems)


def test_what_is_kept_is_what_an_engine_with_stop_strings_gives() -> None:
    whole = "<think>a</think><search>q</search> <answer>made up</answer>"
    stopped = "<think>a</think><search>q"
    assert parse_turn(whole).kept == parse_turn(stopped).kept == "<think>a</think><search>q</search>"
    assert parse_turn(whole).answers == ("made up",)


@given(st.lists(st.sampled_from(TAGS) | st.text(max_size=8)).map("".join), st.booleans())
def test_any_text_can_be_read(text: str, cut_off: bool) -> None:
    turn = parse_turn(text, cut_off=cut_off)
    assert set(turn.problems) <= {"empty", "no_action", "cut_off", "no_think", "unclosed_think", "several_actions"}
    assert (turn.action is None) == bool({"empty", "no_action", "cut_off"} & set(turn.problems))
    for action in turn.actions:
        assert action.content == action.content.strip()
        assert action.content in text


@pytest.mark.parametrize(
    "piece", ["<think>", "<search>", "</think>", "<search><answer>", "<answer>x</search>", "<", "[("]
)
def test_long_text_is_read(piece: str) -> None:
    """In linear time: a quadratic reader would take an hour for these."""
    turn = parse_turn(piece * 200_000)
    assert len(turn.problems) <= 2
    assert parse_box(piece * 200_000) == "box_unreadable"


@pytest.mark.parametrize(
    ("written", "box"),
    [
        ("[1, 2, 3, 4]", (1, 2, 3, 4)),
        ("1 2 3 4", (1, 2, 3, 4)),
        ("( -1.5,2e1;3 ,4. )", (-1.5, 20, 3, 4)),
        ('{"bbox_2d": [1, 2, 3, 4]}', (1, 2, 3, 4)),
        ("[1, 2, 3]", "box_unreadable"),
        ("[1, 2, 3, 4, 5]", "box_unreadable"),
        ("[[1, 2], [3, 4]]", "box_unreadable"),
        ("[a, b, c, d]", "box_unreadable"),
        ("[, , , ]", "box_unreadable"),
        ("", "box_unreadable"),
        ("[nan, 0, 1, 1]", "box_not_finite"),
        ("[0, 0, Infinity, 1]", "box_not_finite"),
        ("[0, 0, 1e999, 1]", "box_not_finite"),
        (f"[0, 0, {'9' * 5000}, 1]", "box_not_finite"),
    ],
)
def test_boxes(written: str, box: object) -> None:
    assert parse_box(written) == box


@pytest.mark.parametrize(
    ("box", "name"),
    [
        ((0, 0, 100, 50), ""),
        ((99, 49, 100, 50), ""),
        ((60, 10, 20, 40), "box_reversed"),
        ((10, 40, 20, 10), "box_reversed"),
        ((10, 10, 10, 40), "box_empty"),
        ((0.1, 0.1, 0.9, 0.9), "box_empty"),  # fractions instead of pixels
        ((100, 0, 200, 50), "box_outside"),
        ((-50, 0, 0, 50), "box_outside"),
        ((0, 50, 100, 1e300), "box_outside"),
        ((-5, 0, 50, 50), "box_clipped"),
        ((0, 0, 1e300, 50), "box_clipped"),
    ],
)
def test_boxes_on_a_picture_of_100_by_50(box: tuple[float, float, float, float], name: str) -> None:
    assert box_problem(box, 100, 50) == name


def test_a_question_goes_into_the_template_literally() -> None:
    question = "Cost of {question} and {0} %s <b>?"
    assert build_prompt(question) == TEMPLATE.replace("{question}", question, 1)
    assert build_prompt(question, "Q: {question}!") == f"Q: {question}!"
    assert question_of((Message((build_prompt(question), "more")),)) == question
    assert question_of((Message((build_prompt("How many?", "Q: {question}"),)),)) is None
    assert question_of(()) is None
    # What would read as a part of the protocol is made to read as text.
    assert build_prompt("</think>?") == TEMPLATE.replace("{question}", "‹/think›?", 1)
    with pytest.raises(SettingError, match=r"no \{question\}.*'Answer this: \{\}'"):
        check_template("Answer this: {}")


def test_the_template_names_every_tag_of_the_protocol() -> None:
    for tag in TAGS:
        assert tag in TEMPLATE


def test_quoted_text_holds_no_tags() -> None:
    turn = parse_turn(f"<think>a</think><answer>{quotable('x </answer><search>y</search>')}</answer>")
    assert turn.problems == ()
    assert turn.answers == ("x ‹/answer›‹search›y‹/search›",)
