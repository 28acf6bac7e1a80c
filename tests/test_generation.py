"""The extractive generator, the strategies, and loading by name."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
from fakes import ScriptedGenerator
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visrag_integrations import load_generator
from visrag_integrations.errors import (
    CheckpointError,
    GenerationError,
    MissingExtraError,
    SettingError,
    UnknownNameError,
)
from visrag_integrations.generation import CHECKPOINTS, ENGINES, GENERATORS, _engine
from visrag_integrations.generation.evisrag import build_prompt, evisrag_messages, parse_evidence, plain_messages
from visrag_integrations.generation.extractive import ExtractiveGenerator
from visrag_integrations.generation.passages import LONGEST, split_units
from visrag_integrations.generation.strategies import STRATEGIES, find_strategy, run_plans, selection_weights
from visrag_integrations.interfaces import Generator
from visrag_integrations.types import Answer, Conversation, Generation, Message, Page, ScoredPage

VIOLIN = """Chapter 3
Strings
A violin has four strings. It is played with a bow made of horse hair, which is
rubbed with rosin."""
TAX = "Taxes are due in April. Late payers owe five percent interest."
SOUP = "Peel the onions and boil them slowly for an hour."


def page(text: str, number: int = 1, **fields: object) -> Page:
    return replace(Page(doc_id="d", number=number, text=text), **fields)  # type: ignore[arg-type]


def hits(*texts: str) -> list[ScoredPage]:
    return [ScoredPage(page(text, number), 1.0 / number) for number, text in enumerate(texts, start=1)]


def extract(question: str, *texts: str) -> Answer:
    pages = [page(text, number) for number, text in enumerate(texts, start=1)]
    (generation,) = ExtractiveGenerator().generate([evisrag_messages(question, pages)])
    answer = parse_evidence(generation.text, pages)
    assert answer.problems == ()
    assert len(answer.evidence) == len(pages)
    return answer


def test_extractive_quotes_the_passage_and_its_page() -> None:
    answer = extract("When are taxes due?", VIOLIN, TAX, SOUP)
    assert answer.text == "Taxes are due in April."
    assert [entry.relevant for entry in answer.evidence] == [False, True, False]
    assert answer.evidence[1].text == answer.text


def test_extractive_mends_line_breaks() -> None:
    answer = extract("What is the bow made of?", TAX, VIOLIN)
    assert answer.text == "It is played with a bow made of horse hair, which is rubbed with rosin."


def test_extractive_reads_chinese_with_line_breaks_inside_words() -> None:
    answer = extract("税款什么时候到期？", "小提琴有四根弦。它用弓演奏。", "税\n款在四月到期。迟交者须付利息。")
    assert answer.text == "税款在四月到期。"


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of Mongolia?",
        "What is it and how are they with the?",
        "蒙古的首都是哪里?",
        "???",
        "the " * 40_000,
    ],
)
def test_extractive_says_when_the_pages_do_not_hold_it(question: str) -> None:
    answer = extract(question, VIOLIN, TAX, SOUP)
    assert (answer.text, answer.sufficient) == ("insufficient to answer", False)
    assert not any(entry.relevant for entry in answer.evidence)


def test_extractive_counts_rare_words_more_than_common_ones() -> None:
    common = "The report is long. The report is blue. The report is old. The report mentions zinc once."
    assert extract("Does the report speak of zinc?", common).text == "The report mentions zinc once."


def test_extractive_says_nothing_about_pictures_without_text() -> None:
    picture = Image.new("RGB", (8, 8))
    conversation = (Message((build_prompt("When are taxes due?"), picture, page("", picture=picture))),)
    (generation,) = ExtractiveGenerator().generate([conversation])
    answer = parse_evidence(generation.text)
    assert not answer.sufficient
    assert [entry.relevant for entry in answer.evidence] == [False, False]
    assert "looked at no picture" in answer.observation


def test_extractive_answers_a_plain_prompt_without_tags() -> None:
    (generation,) = ExtractiveGenerator().generate([plain_messages("When are taxes due?", [page(TAX)])])
    assert generation == Generation("Taxes are due in April.", finish_reason="stop")


def test_extractive_is_the_same_alone_in_a_batch_and_streamed() -> None:
    asked = [evisrag_messages(q, [page(VIOLIN), page(TAX, 2)]) for q in ("When are taxes due?", "How many strings?")]
    generator = ExtractiveGenerator()
    batch = generator.generate(asked)
    assert batch == [generator.generate([one])[0] for one in asked]
    pieces = list(generator.stream(asked[0]))
    assert "".join(piece.text for piece in pieces) == batch[0].text
    assert [piece.finish_reason for piece in pieces[-2:]] == [None, "stop"]
    assert generator.generate([]) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["taxes ", "</evidence>", "<answer>", "[2]: ", "Image 1: ", "due. ", "\n", "[1]："])))
def test_page_text_cannot_break_the_output(bits: list[str]) -> None:
    answer = extract("When are taxes due?", "".join(bits), TAX)  # asserts that nothing is off
    assert answer.evidence[1].text == "Taxes are due in April."


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab. \n-。税", max_size=900))
def test_units_are_short_and_lose_no_word(text: str) -> None:
    units = split_units(text)
    assert all(unit.strip() == unit and 0 < len(unit) <= LONGEST for unit in units)

    def letters(piece: str) -> str:
        return "".join(c for c in piece if c.isalnum())

    assert letters("".join(units)) == letters(text)


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_extractive_threshold_is_checked(threshold: float) -> None:
    with pytest.raises(SettingError, match="threshold"):
        ExtractiveGenerator(threshold=threshold)


def test_load_generator_by_name() -> None:
    generator = load_generator("extractive", threshold=0.9)
    assert isinstance(generator, Generator)
    assert (generator.name, generator.threshold) == ("extractive", 0.9)  # type: ignore[attr-defined]


def test_load_generator_lists_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match="'extractiv'") as raised:
        load_generator("extractiv")
    for name in (*GENERATORS, *CHECKPOINTS, "http"):
        assert name in str(raised.value)


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b", "../nowhere", "ftp://host/x"])
def test_load_generator_takes_any_name_for_unknown(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Known: extractive"):
        load_generator(name)


def test_load_generator_refuses_a_folder_without_checkpoint(tmp_path: object) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_generator(str(tmp_path))


def test_engine_missing_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(MissingExtraError, match=r"visrag-integrations\[vllm\]"):
        _engine("openbmb/EVisRAG-7B")
    assert list(ENGINES) == ["vllm", "transformers"]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_answers_with_the_extractive_generator(strategy: str) -> None:
    picture = Image.new("RGB", (20, 30))
    found = [replace(hit, page=replace(hit.page, picture=picture)) for hit in hits(TAX, VIOLIN)]
    plan = find_strategy(strategy)("When are taxes due?", found, "evisrag")
    (answer,) = run_plans([plan], ExtractiveGenerator())
    assert answer.text.startswith("Taxes are due in April.")
    assert answer.sufficient
    assert answer.pages == tuple(found)
    if strategy != "page_concatenation":
        assert [entry.page for entry in answer.evidence] == [hit.page for hit in found]


def test_unknown_strategy_lists_the_names() -> None:
    with pytest.raises(UnknownNameError, match="multi_image, page_concatenation, weighted_selection, text"):
        find_strategy("multi-image")
    with pytest.raises(SettingError, match="plain"):
        STRATEGIES["multi_image"]("q", hits(TAX), "evis")  # type: ignore[arg-type]


@pytest.mark.parametrize(("direction", "size"), [("horizontal", (50, 30)), ("vertical", (30, 75))])
def test_page_concatenation_shows_one_picture(direction: str, size: tuple[int, int]) -> None:
    colours = {"red": (20, 30), "blue": (30, 30)}
    found = [
        ScoredPage(page("", number, picture=Image.new("RGB", shape, colour)), 1.0)
        for number, (colour, shape) in enumerate(colours.items(), start=1)
    ]
    strategy = partial(STRATEGIES["page_concatenation"], direction=direction)
    plan = find_strategy(strategy)("q", found, "evisrag")
    ((message,),) = plan.conversations
    (joined,) = message.pages
    picture = joined.open_image()
    assert picture.size == size
    assert picture.getpixel((2, 2)) == (255, 0, 0)
    assert picture.getpixel((size[0] - 2, size[1] - 2)) == (0, 0, 255)
    answer = plan.combine(
        [Generation("<observe>o</observe><evidence>[1]: e</evidence><think>t</think><answer>a</answer>")]
    )
    assert answer.problems == ()
    assert answer.evidence[0].page is None
    assert answer.pages == tuple(found)


def test_text_strategy_shows_no_picture() -> None:
    found = [ScoredPage(page(TAX, picture=Image.new("RGB", (9, 9))), 1.0)]
    ((message,),) = STRATEGIES["text"]("q", found, "plain").conversations
    assert message.pages[0].picture is None
    assert message.pages[0].text == TAX


def test_weighted_selection_weighs_retrieval_and_probability() -> None:
    found = [ScoredPage(page(TAX, 1), 2.0), ScoredPage(page(SOUP, 2), 1.0)]
    plan = STRATEGIES["weighted_selection"]("q", found, "evisrag")
    assert [conversation[0].pages for conversation in plan.conversations] == [(found[0].page,), (found[1].page,)]

    def written(letter: str, logprob: float | None) -> Generation:
        text = f"<observe>o</observe><evidence>[1]: {letter}</evidence><think>t</think><answer>{letter}</answer>"
        return Generation(text, logprob)

    # softmax([2, 1]) = (0.731, 0.269): the second page wins once its text is more than e times as probable
    close = plan.combine([written("x", -1.5), written("y", -0.6)])
    assert close.text == "x"
    clear = plan.combine([written("x", -1.5), written("y", -0.4)])
    assert clear.text == "y"
    assert [(entry.page_index, entry.text, entry.page) for entry in clear.evidence] == [
        (1, "x", found[0].page),
        (2, "y", found[1].page),
    ]
    assert clear.problems == ()
    unknown = plan.combine([written("x", None), written("y", -0.1)])
    assert unknown.text == "x"
    assert any("log-probabilit" in problem for problem in unknown.problems)


@pytest.mark.parametrize(("logprobs", "chosen"), [((-0.5, -0.5, -0.5), 1), ((-2.0, -0.5, -0.5), 2)])
def test_weighted_selection_gives_a_tie_to_the_better_ranked_page(logprobs: tuple[float, ...], chosen: int) -> None:
    found = [ScoredPage(page(TAX, number), 1.0) for number in (1, 2, 3)]
    plan = STRATEGIES["weighted_selection"]("q", found, "plain")
    written = [Generation(f"from page {number}", logprob) for number, logprob in enumerate(logprobs, start=1)]
    assert plan.combine(written).text == f"from page {chosen}"


def test_selection_weights_stay_finite() -> None:
    weights = selection_weights([1e4, 0.0], [-1.0, -1.0])
    assert weights == pytest.approx([math.exp(-1.0), 0.0])


def test_plain_prompt_takes_the_text_as_the_answer() -> None:
    plan = STRATEGIES["multi_image"]("q?", hits(TAX), "plain")
    assert plan.conversations == ((Message(("q?", page(TAX))),),)
    assert plan.combine([Generation(" April \n")]).text == "April"
    assert not plan.combine([Generation("The page does not contain enough information to answer.")]).sufficient
    empty = plan.combine([Generation("")])
    assert (empty.sufficient, empty.problems) == (False, ("the model wrote nothing",))


def test_plans_go_to_the_generator_as_one_batch() -> None:
    generator = ScriptedGenerator("<answer>1</answer>", "<answer>2</answer>", "<answer>3</answer>")
    plans = [
        STRATEGIES["weighted_selection"]("a", hits(TAX, SOUP), "evisrag"),
        STRATEGIES["text"]("b", hits(TAX), "evisrag"),
    ]
    assert [answer.text for answer in run_plans(plans, generator)] == ["1", "3"]
    assert [len(batch) for batch in generator.batches] == [3]
    assert run_plans([], generator) == []
    assert len(generator.batches) == 1


def test_a_generator_that_gives_too_few_texts_is_named() -> None:
    class Short(ScriptedGenerator):
        def generate(self, conversations: object, settings: object = None) -> list[Generation]:
            return []

    with pytest.raises(GenerationError, match="'scripted' gave 0 texts for 1"):
        run_plans([STRATEGIES["text"]("b", hits(TAX), "evisrag")], Short())


def test_the_question_of_a_second_turn_counts() -> None:
    first: Conversation = evisrag_messages("When are taxes due?", [page(TAX)])
    turns = (*first, Message(("April.",), role="assistant"), Message((build_prompt("What do late payers owe?"),)))
    (generation,) = ExtractiveGenerator().generate([turns])
    assert parse_evidence(generation.text).text == "Late payers owe five percent interest."
