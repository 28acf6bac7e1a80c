"""`make_queries`: what a generator writes is parsed whatever it looks like, filtered, kept, and can be evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import CountingEmbedder, ScriptedGenerator
from hypothesis import given, settings
from hypothesis import strategies as st

from visrag_integrations.errors import GenerationError, SettingError
from visrag_integrations.evaluation import evaluate_retrieval, index_pages, load_evaluation_set, make_queries
from visrag_integrations.evaluation.questions import parse_pairs, reason_to_drop
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Conversation, Failure, Generation, GenerationSettings, Page

PAIR = {"question": "Who wrote it?", "answer": "Ada"}


def written(*pairs: tuple[str, str]) -> str:
    return json.dumps({"pairs": [{"question": question, "answer": answer} for question, answer in pairs]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"pairs": [PAIR]}), [("Who wrote it?", "Ada")]),
        (f"Here you are:\n```json\n{json.dumps([PAIR])}\n```\nAnything else?", [("Who wrote it?", "Ada")]),
        ('{"result": [{"answer": "7", "query": "How many?"}]}', [("How many?", "7")]),  # VisRAG's own form
        ('{"pairs": [{"question": "A b?", "answer": "1"}, {"question": "C d?", "ans', [("A b?", "1")]),
        ('{"pairs": [{"question": "A b?", "answer": "1"},]}', [("A b?", "1")]),  # a comma too many
        ('{"question": "A?", "answer": 7} {"question": "B?", "answer": "8"}', [("A?", "7"), ("B?", "8")]),
        ('{"question": "A?"}', [("A?", "")]),
        ('{"question": "A?", "answer": ["1", "2"]}', [("A?", "")]),
        ('{"question": {"question": "A?", "answer": "1"}}', [("A?", "1")]),
        ('{"question": " ", "answer": "1"}', []),
        ('{"pairs": []}', []),
        (r'{"question": "A \ud800 b?", "answer": "\udc00"}', [("A ? b?", "?")]),  # halves of characters
        ("I cannot see the page.", []),
        ("", []),
        ("{" * 5000, []),
        ('{"a":' * 5000, []),
        ("[" * 5000, []),
    ],
)
def test_parsing(text: str, expected: list[tuple[str, str]]) -> None:
    assert parse_pairs(text) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('{}[]",:\\ question answer7é\n'), max_size=200) | st.text(max_size=200))
def test_parsing_never_raises(text: str) -> None:
    assert all(isinstance(part, str) for pair in parse_pairs(text) for part in pair)


PAGE = Page("doc", 1, "The Falcon 9 flew 134 times in 2024, the company said.", source="docs/space.pdf")


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("How often did the Falcon 9 fly in 2024?", "134", ""),
        ("How often did the Falcon 9 fly in 2024?", "134 times", ""),
        ("How often did the Falcon 9 fly in 2024?", "135", "its answer is not on the page"),
        ("Who built the Falcon 9 rocket?", "SpaceX", "its answer is not on the page"),
        ("Who built the Falcon 9 rocket?", " ", "it has no answer"),
        ("How often?", "134", "it is too short"),
        ("多少?", "134", "it is too short"),
        ("猎鹰九号飞了多少次?", "134", ""),
        ("What is the number of flights shown in this figure?", "134", "it makes no sense without the page"),
        ("What does the table show for 2024?", "134", "it makes no sense without the page"),
        ("According to Figure 3, how many flights were there?", "134", "it makes no sense without the page"),
        ("What is said in the document?", "134", "it makes no sense without the page"),
        ("图中的数字是多少呢?", "134", "it makes no sense without the page"),
        ("What is in the table of Falcon 9 flights of 2024?", "134", ""),
        ("Which table stands in the office of the company?", "134", ""),
    ],
)
def test_filters(question: str, answer: str, reason: str) -> None:
    assert reason_to_drop((question, answer), PAGE) == reason


def test_a_page_without_text_cannot_be_compared() -> None:
    assert reason_to_drop(("Who built the Falcon 9?", "SpaceX"), Page("scan", 1)) == ""


def test_questions_are_made_kept_and_evaluated(tmp_path: Path) -> None:
    pages = [
        Page("a", 1, "alpha alpha is the first letter", source="docs/letters.pdf"),
        Page("a", 2, "beta beta is the second letter", source="docs/letters.pdf"),
    ]
    first = written(
        ("Where does alpha stand?", "first"), ("Where does alpha, stand", "first"), ("Who is on this page?", "x")
    )
    second = written(*((f"Where does beta stand, number {i}?", "second") for i in range(4)))
    dropped: list[tuple[Page, tuple[str, str], str]] = []
    generator = ScriptedGenerator(first, second)
    made = make_queries(
        (page for page in pages), generator, per_page=2, name="letters", on_dropped=lambda *one: dropped.append(one)
    )
    assert [(q.id, q.text, q.answers) for q in made.questions] == [
        ("letters.pdf#page=1:1", "Where does alpha stand?", ("first",)),
        ("letters.pdf#page=2:1", "Where does beta stand, number 0?", ("second",)),
        ("letters.pdf#page=2:2", "Where does beta stand, number 1?", ("second",)),
    ]
    assert [reason for _, _, reason in dropped] == [
        "it was asked before",
        "it makes no sense without the page",
        "there are 2 for this page already",
        "there are 2 for this page already",
    ]
    assert "At most 2 questions" in generator.batches[0][0][0].text
    assert generator.batches[0][0][0].pages == (pages[0],)

    made.save(tmp_path / "letters.jsonl")
    loaded = load_evaluation_set(tmp_path / "letters.jsonl")
    assert loaded == made
    embedder, store = CountingEmbedder(), QdrantPageStore(":memory:")
    index_pages([Page("b", 1, "gamma"), *pages], embedder, store)
    assert evaluate_retrieval(loaded, PageRetriever(embedder, store), ["hit@1"]).metrics == {"hit@1": 1.0}


class Strict:
    """Remembers its settings; fails on pages that say so."""

    name = "strict"
    supports = ("json_schema",)

    def __init__(self) -> None:
        self.settings: GenerationSettings | None = None
        self.asked = 0

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        self.settings = settings
        if any("bad" in page.text for conversation in conversations for page in conversation[0].pages):
            raise GenerationError("the server is away")
        self.asked += len(conversations)
        return [
            Generation(written((f"What is {c[0].pages[0].text} again?", c[0].pages[0].text))) for c in conversations
        ]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        yield from self.generate([conversation], settings)


def test_the_form_is_demanded_where_the_generator_can() -> None:
    strict = Strict()
    make_queries([Page("a", 1, "one")], strict, per_page=4)
    assert strict.settings is not None
    assert strict.settings.json_schema is not None
    pairs = strict.settings.json_schema["properties"]["pairs"]
    assert pairs["maxItems"] == 4
    assert pairs["items"]["required"] == ["question", "answer"]
    plain = ScriptedGenerator(written(("What is one again?", "one")))
    assert len(make_queries([Page("a", 1, "one")], plain).questions) == 1


def test_a_failing_page_is_told_and_tried_again(tmp_path: Path) -> None:
    record, failures = tmp_path / "made.jsonl", list[Failure]()
    texts = ["one", "two", "bad", "four"]
    pages: list[Any] = [Page("a", number, text, source="a.pdf") for number, text in enumerate(texts, 1)]
    made = make_queries(pages, Strict(), record=record, on_failure=failures.append)
    assert [question.answers[0] for question in made.questions] == ["one", "two", "four"]
    assert [(failure.source, failure.page, failure.error) for failure in failures] == [
        ("a.pdf", 3, "the server is away")
    ]

    strict = Strict()
    pages[2] = Page("a", 3, "three", source="a.pdf")
    again = make_queries(pages, strict, record=record)
    assert [question.answers[0] for question in again.questions] == ["one", "two", "three", "four"]
    assert strict.asked == 1
    with pytest.raises(SettingError, match="per_page was 6, is 3"):
        make_queries(pages, strict, record=record, per_page=3)


def test_no_pages_no_questions_and_a_dead_server() -> None:
    assert make_queries([], ScriptedGenerator()).questions == ()
    with pytest.raises(SettingError, match="per_page is 0"):
        make_queries([], ScriptedGenerator(), per_page=0)
    with pytest.raises(GenerationError, match="the server is away"):
        make_queries([Page("a", number, "bad") for number in range(1, 9)], Strict())
