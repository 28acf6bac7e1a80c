"""Answers in the small print of many models: tags, indexes and whole answers that are spelled differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visrag_integrations.generation.events import Event
from visrag_integrations.generation.evisrag import EvidenceStream, parse_evidence
from visrag_integrations.generation.indexes import line_starts
from visrag_integrations.generation.json_answers import MAX_DEPTH
from visrag_integrations.generation.strategies import STRATEGIES
from visrag_integrations.types import Answer, Generation, Page, ScoredPage

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "cases" / "evidence-written-otherwise" / "texts.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
NOTHING = "no relevant information"
Entries = list[tuple[int, str]]


def entries_of(answer: Answer) -> Entries:
    return [(entry.page_index, entry.text) for entry in answer.evidence]


def read(evidence: str) -> Answer:
    return parse_evidence(
        f"<observe>x</observe><evidence>{evidence}</evidence><think>t</think><answer>7</answer>",
        [Page("d", 1), Page("d", 2), Page("d", 3)],
    )


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_what_a_reader_takes_from_an_answer(case: dict[str, Any]) -> None:
    answer = parse_evidence(case["text"], [Page("d", 1), Page("d", 2)])
    assert answer.text == case["answer"]
    assert [[entry.page_index, entry.text, entry.relevant] for entry in answer.evidence] == case["evidence"]
    assert answer.sufficient


ONE_AND_TWO = [
    "* [1] seven\n* [2] eight",
    "• [1] seven\n• [2] eight",
    "•[1] seven\n•[2] eight",
    "1) seven\n2) eight",
    "(1) seven\n(2) eight",
    "（1）seven\n（2）eight",
    "① seven\n② eight",
    "{1}: seven\n{2}: eight",
    "<1>: seven\n<2>: eight",
    "「1」：seven\n「2」：eight",
    "1: seven\n2: eight",
    "1 - seven\n2 - eight",
    "一、seven\n二、eight",
    "[1] - seven\n[2] – eight",
    "[1]. seven\n[2]. eight",
    "[1]; seven\n[2]; eight",
    "[1]\nseven\n[2]\neight",
    "[[1]]: seven\n[[2]]: eight",
    "\\[1\\]: seven\n\\[2\\]: eight",
    "`[1]`: seven\n`[2]`: eight",
    "__[1]:__ seven\n__[2]:__ eight",
    "[１]：seven\n[２]：eight",
    "［1］：seven\n［2］：eight",
    "【图1】：seven\n【图2】：eight",
    "【1】seven【2】eight",
    "[Page 1]: seven\n[Page 2]: eight",
    "[p. 1] seven\n[p. 2] eight",
    "PAGE 1: seven\nPAGE 2: eight",
    "Page 1: seven Page 2: eight",
    "**Page 1:** seven\n**Page 2:** eight",
    "**Page 1**: seven\n**Page 2**: eight",
    "1. **Page 1**: seven\n2. **Page 2**: eight",
    "### Image 1\nseven\n### Image 2\neight",
    "**Image 1** seven\n**Image 2** eight",
    "Image #1: seven\nImage #2: eight",
    "Image no. 1: seven\nImage no. 2: eight",
    "image_1: seven\nimage_2: eight",
    "Image-1: seven\nImage-2: eight",
    "From image 1: seven\nFrom image 2: eight",
    "In page 1, seven\nIn page 2, eight",
    "Image one: seven\nImage two: eight",
    "The first image: seven\nThe second image: eight",
    "Evidence 1: seven\nEvidence 2: eight",
    "> [1]: seven\n> [2]: eight",
    "| 1 | seven |\n| 2 | eight |",
    "第1页：seven\n第2页：eight",
    "第一页：seven\n第二页：eight",
    "图1：seven\n图2：eight",
    "图片1seven\n图片2eight",
    "Seite 1: seven\nSeite 2: eight",
    "Página 1: seven\nPágina 2: eight",
    "Страница 1: seven\nСтраница 2: eight",
    "ページ1：seven\nページ2：eight",
    "1ページ目：seven\n2ページ目：eight",
    "페이지 1: seven\n페이지 2: eight",
    "صفحة 1: seven\nصفحة 2: eight",
    '{"1": "seven", "2": "eight"}',
    '{"[1]": "seven", "[2]": "eight"}',
    '{"image_1": "seven", "image_2": {"text": "eight"}}',
    '[{"image": 1, "evidence": "seven"}, {"image": 2, "evidence": "eight"}]',
    '[{"1": "seven"}, {"2": "eight"}]',
    '["seven", "eight"]',
    '["[1]: seven", "[2]: eight"]',
    '```json\n[{"index": "[1]", "text": "seven"}, {"index": 2, "text": "eight"}]\n```',
    '{"evidence": [{"page": 1, "text": "seven"}, {"page": 2, "text": "eight"}]}',
]


@pytest.mark.parametrize("evidence", ONE_AND_TWO)
def test_indexes_are_found_however_they_are_spelled(evidence: str) -> None:
    answer = read(evidence)
    assert entries_of(answer) == [(1, "seven"), (2, "eight")]
    assert any("written differently" in problem for problem in answer.problems) or evidence.startswith(">")


@pytest.mark.parametrize(
    ("index", "pages"),
    [
        ("[1][2]:", [1, 2]),
        ("[1] [3]:", [1, 3]),
        ("[1], [2] and [3]:", [1, 2, 3]),
        ("[1],[2]：", [1, 2]),
        ("[1, 3]:", [1, 3]),
        ("[1、2]：", [1, 2]),
        ("[1 and 2]:", [1, 2]),
        ("[1/2]:", [1, 2]),
        ("[1-3]:", [1, 2, 3]),
        ("[1]-[3]:", [1, 2, 3]),
        ("[1–2]:", [1, 2]),
        ("[Images 1, 2]:", [1, 2]),
        ("Images 1 and 2:", [1, 2]),
        ("Image 1 and 3:", [1, 3]),
        ("Pages 1-2:", [1, 2]),
        ("**[1][2]**:", [1, 2]),
        ("【1】【2】：", [1, 2]),
        ("- [1, 2]", [1, 2]),
    ],
)
def test_one_entry_for_several_pages(index: str, pages: list[int]) -> None:
    assert entries_of(read(f"{index} seven on all")) == [(page, "seven on all") for page in pages]


def test_a_range_without_end_is_its_ends() -> None:
    assert [entry.page_index for entry in read("[1-9999]: x").evidence] == [1, 9999]


@pytest.mark.parametrize(
    ("evidence", "entries"),
    [
        ("[1]: see [2]: appendix\n[2]: none", [(1, "see [2]: appendix"), (2, "none")]),
        ("\n[1]: the fee, [2]: appendix, is 7\n[2]: none", [(1, "the fee, [2]: appendix, is 7"), (2, "none")]),
        ("\n[1]: a\n[2]: as on [1]: above", [(1, "a"), (2, "as on [1]: above")]),
        ("\n[1]: a [2]: b\n[3]: c", [(1, "a"), (2, "b"), (3, "c")]),
        ("[1]: Image 2: b", [(1, ""), (2, "b")]),
        ("[1]: Page 2: fees\nPage 3: more", [(1, "Page 2: fees\nPage 3: more")]),
        ("[1]: the steps\n1. peel\n2. boil", [(1, "the steps\n1. peel\n2. boil")]),
        ("1. seven\n2019. a year\n2. eight", [(1, "seven\n2019. a year"), (2, "eight")]),
        ("1. seven\n   1. a part\n2. eight", [(1, "seven\n   1. a part"), (2, "eight")]),
        ("[1] seven\n1. a part\n[2] eight", [(1, "seven\n1. a part"), (2, "eight")]),
        ("[1]: {x: 1}", [(1, "{x: 1}")]),
        ("[1]: a (b) c\n[2]: <1>: d", [(1, "a (b) c"), (2, "<1>: d")]),
        ("the total is 7", []),
        ("{1 not json", []),
        ("On 3 May the fee was 7.\n12 boxes.", []),
        ("total **7** eur", []),
    ],
)
def test_what_is_no_index_stays_text(evidence: str, entries: Entries) -> None:
    assert entries_of(read(evidence)) == entries


@pytest.mark.parametrize(
    "form",
    [
        "<{}>",
        "< {} >",
        "<{} >",
        "**<{}>**",
        "`<{}>`",
        "*<{}>*",
        "__<{}>__",
        "＜{}＞",
        "&lt;{}&gt;",
        "\\<{}\\>",
        "<{}\\>",
    ],
)
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_tags_are_found_however_they_are_spelled(form: str, case: Any) -> None:
    text = ""
    for name, content in {
        "observe": "o",
        "evidence": "[1]: seven [2]: eight",
        "think": "t",
        "answer": "**7** x",
    }.items():
        text += form.format(case(name)) + content + form.format("/" + case(name)) + "\n"
    answer = parse_evidence(text, [Page("d", 1), Page("d", 2)])
    assert (answer.observation, answer.thinking, answer.text) == ("o", "t", "**7** x")
    assert entries_of(answer) == [(1, "seven"), (2, "eight")]
    assert not any("outside" in problem or "missing" in problem for problem in answer.problems)


def test_attributes_of_tags_are_left_out() -> None:
    answer = parse_evidence('<think lang="en">t</think><answer type="final" n=1>7</answer>')
    assert (answer.thinking, answer.text) == ("t", "7")
    assert any("tags are written differently" in problem for problem in answer.problems)


def test_bold_text_at_a_tag_keeps_its_asterisks() -> None:
    assert parse_evidence("<answer>**7**</answer>").text == "**7**"
    assert parse_evidence("**<answer>**7**</answer>**").text == "7"
    assert parse_evidence("**<answer>** 7 **</answer>**").text == "7"


def test_an_escaped_tag_among_others_is_text_of_the_page() -> None:
    answer = parse_evidence("<evidence>[1]: it prints &lt;/evidence&gt; and 7</evidence><answer>7</answer>")
    assert entries_of(answer) == [(1, "it prints &lt;/evidence&gt; and 7")]


@pytest.mark.parametrize("text", ["<ans wer>7</ans wer>", "<answering>7</answering>", "<answer the question>", "< b"])
def test_what_is_no_tag_is_text(text: str) -> None:
    answer = parse_evidence(text)
    assert answer.text == text
    assert any("no tags" in problem for problem in answer.problems)


# --- no tags ------------------------------------------------------------------------------------------------------


def test_a_text_without_tags_is_the_answer() -> None:
    answer = parse_evidence(" The total is 7. \n", [Page("d", 1)])
    assert (answer.text, answer.sufficient, answer.evidence) == ("The total is 7.", True, ())
    assert any("no tags" in problem for problem in answer.problems)
    assert not parse_evidence("The pages do not mention the total.").sufficient
    assert not parse_evidence("  ").sufficient


def test_a_text_that_was_cut_off_before_any_tag_is_no_answer() -> None:
    pages = [ScoredPage(Page("d", 1, "The fee is 7."), 1.0)]
    plan = STRATEGIES["text"]("What is the fee?", pages, "evisrag")
    cut = plan.combine([Generation("Let me look at the", finish_reason="length")])
    assert (cut.text, cut.sufficient) == ("", False)
    assert {"<answer> is missing", 'text outside the tags is left out: "Let me look at the"'} <= set(cut.problems)
    whole = plan.combine([Generation("The fee is 7.", finish_reason="stop")])
    assert (whole.text, whole.sufficient) == ("The fee is 7.", True)


@pytest.mark.parametrize(
    "rest",
    [
        "Answer: 7",
        "**Answer:** 7",
        "**Answer: 7**",
        "### Final answer: 7",
        "The answer is: 7",
        "答案：7",
        "Antwort: 7",
        "Réponse: 7",
        "So it is.\nAnswer: 7",
        "7",
    ],
)
def test_an_answer_behind_the_reasoning_is_the_answer(rest: str) -> None:
    answer = parse_evidence(f"<observe>o</observe><evidence>[1]: seven</evidence><think>t</think>\n{rest}")
    assert answer.text == "7"
    assert any("outside its tags" in problem for problem in answer.problems)


def test_reasoning_whose_tag_the_template_wrote() -> None:
    answer = parse_evidence("I look at both pages.</think>\n\nThe total is 7.")
    assert (answer.thinking, answer.text) == ("I look at both pages.", "The total is 7.")


@pytest.mark.parametrize(
    "text", ["<answer>7</answer>\nAnswer: 8", "<think>t</think><answer>7</answer>\nHope this helps."]
)
def test_an_answer_in_its_tags_stands(text: str) -> None:
    assert parse_evidence(text).text == "7"


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```", " \n{}\n"])
def test_an_answer_that_is_json(fence: str) -> None:
    content = {
        "Observation": "two pages",
        "evidence": [{"index": 1, "text": "seven"}, {"index": 2, "text": NOTHING}],
        "thinking": "so",
        "answer": 7,
    }
    answer = parse_evidence(fence.format(json.dumps(content)), [Page("d", 1), Page("d", 2)])
    assert (answer.observation, answer.thinking, answer.text) == ("two pages", "so", "7")
    assert [(entry.page_index, entry.text, entry.relevant) for entry in answer.evidence] == [
        (1, "seven", True),
        (2, NOTHING, False),
    ]
    assert answer.problems == ("the text is JSON, without tags",)


def test_json_with_evidence_as_text_and_said_relevance() -> None:
    answer = parse_evidence('{"evidence": "[1]: seven\\n[2]: eight", "answer": "15"}')
    assert entries_of(answer) == [(1, "seven"), (2, "eight")]
    answer = parse_evidence('{"evidence": {"1": {"text": "a", "relevant": false}, "2": ["b"]}, "answer": "x"}')
    assert [(entry.text, entry.relevant) for entry in answer.evidence] == [("a", False), ('["b"]', True)]


@pytest.mark.parametrize(
    "text",
    [
        '{"total": 7}',
        '["a"]',
        "{",
        '{"answer": 7',
        "null",
        "7",
        "[" * 100_000,
        '{"answer":' * (MAX_DEPTH + 1),
        "1" * 5000,
    ],
)
def test_json_that_is_no_answer_is_text(text: str) -> None:
    assert parse_evidence(text).text == text


def test_streamed_events_tell_what_the_answer_holds() -> None:
    for text in ("The total is 7.", '{"evidence": ["seven"], "answer": "7"}', "<think>t</think>\nAnswer: 7"):
        stream = EvidenceStream()
        events: list[Event] = []
        for letter in text:
            events += stream.feed(letter)
        events += stream.finish()
        answer = parse_evidence(text)
        told = "".join(
            event.text for event in events if getattr(event, "section", "") == "answer" and hasattr(event, "text")
        )
        assert told == answer.text
        assert tuple(event.evidence for event in events if hasattr(event, "evidence")) == answer.evidence


def test_starts_of_lines_are_of_one_spelling() -> None:
    assert [start.indexes for start in line_starts("Page 1: a\n[2] b\n3. c\nPage 2: d")] == [(1,), (2,)]
    assert line_starts("") == line_starts("no index here") == []
