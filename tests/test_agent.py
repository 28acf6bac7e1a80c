"""VRAGAgent: whole runs, every malformed turn, budgets, batches; scripted models over real pages in memory."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from fakes import ScriptedGenerator, ScriptedRetriever
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visrag_integrations import Page, ScoredPage, load_generator
from visrag_integrations.agent import Crop, Finish, PictureRules, Search, Step, Thought, Trace, VRAGAgent
from visrag_integrations.agent.problems import PROBLEMS, REMINDER
from visrag_integrations.agent.steps import Reason
from visrag_integrations.errors import GenerationError, SettingError, StoreError
from visrag_integrations.generation.vrag import ANSWER_NOW, STOP, build_prompt
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Usage

SIZE = (560, 504)  # 20 x 18 cells of 28 pixels: shown as it is
HITS = tuple(
    ScoredPage(
        Page("d", number, f"Page {number} says {word}.", "d.pdf", picture=Image.new("RGB", SIZE, colour)), 1 / number
    )
    for number, (word, colour) in enumerate(
        [("one", "red"), ("two", "green"), ("three", "blue"), ("four", "white"), ("five", "black")], start=1
    )
)
LOOK = "<think>I look.</think><search>totals</search>"
ANSWER = "<think>I see.</think><answer> 42 </answer>"


def agent(*texts: str | Generation, hits: Sequence[ScoredPage] = HITS, **options: Any) -> VRAGAgent:
    return VRAGAgent(ScriptedRetriever(*hits), ScriptedGenerator(*texts), **options)


def told(trace: Trace, turn: int) -> str:
    return "\n".join(step.observation.text for step in trace if step.turn == turn and step.observation.text)


def kinds(trace: Trace) -> list[str]:
    return [type(step).__name__ for step in trace]


# --- a run --------------------------------------------------------------------------------------------------------


def test_a_run_searches_looks_closer_and_answers() -> None:
    made = agent(LOOK, "<think>Small.</think><bbox>[100, 100, 200, 200]</bbox>", ANSWER)
    trace = made.run("How much?")
    assert kinds(trace) == ["Thought", "SearchStep", "Thought", "Crop", "Thought", "Finish"]
    _, search, _, crop, _, finish = trace.steps
    assert isinstance(search, Search)
    assert (search.turn, search.query) == (1, "totals")
    (shown,) = search.observation.shown
    assert (shown.page, shown.size, shown.whole) == (HITS[0], SIZE, True)
    assert shown.picture is not None
    assert shown.picture.tobytes() == Image.new("RGB", SIZE, "red").tobytes()
    assert isinstance(crop, Crop)
    assert crop.box == (100, 100, 200, 200)
    (closer,) = crop.observation.shown
    assert closer.region == pytest.approx((44 / 560, 44 / 504, 256 / 560, 256 / 504))
    assert isinstance(finish, Finish)
    assert (finish.answer.text, finish.answer.sufficient, finish.reason) == ("42", True, "answered")
    assert finish.answer.pages == (HITS[0],)
    assert finish.answer.thinking == "I look.\n\nSmall.\n\nI see."
    assert finish.answer.problems == ()
    assert (trace.answer, str(trace), trace.reason) == (finish.answer, "42", "answered")
    assert [one.whole for one in trace.shown] == [True, False]


def test_what_the_model_reads() -> None:
    made = agent(LOOK, "<think>Small.</think><bbox>[100, 100, 200, 200]</bbox>", ANSWER)
    trace = made.run("How much?")
    *_, (conversation,) = made.generator.batches
    assert [message.role for message in conversation] == ["user", "assistant", "user", "assistant", "user"]
    assert conversation[0].content == (build_prompt("How much?"),)
    assert conversation[1].content == (LOOK,)
    (page,) = conversation[2].content  # the picture, and nothing said beside it
    assert isinstance(page, Page)
    assert (page.id, page.text) == (HITS[0].page.id, "Page 1 says one.")
    assert page.picture is trace.shown[0].picture
    assert conversation[4].content == (trace.shown[1].picture,)


def test_every_search_shows_the_best_page_that_was_not_shown() -> None:
    searches = [LOOK.replace("totals", query) for query in ("a", "b", "a", "c")]
    made = agent(*searches, ANSWER)
    trace = made.run("How much?")
    assert [shown.page for shown in trace.shown] == list(HITS[:4])
    assert [(query, count) for query, count, _ in made.retriever.calls] == [("a", 1), ("b", 2), ("a", 3), ("c", 4)]
    assert trace.problems == ()


def test_settings_reach_the_generator_with_the_closing_tags_as_stops() -> None:
    generator = ScriptedGenerator(ANSWER, ANSWER)
    VRAGAgent(ScriptedRetriever(), generator).run("How much?")
    assert generator.asked_with == GenerationSettings(max_tokens=1024, stop=STOP)
    VRAGAgent(ScriptedRetriever(), generator, settings=GenerationSettings(max_tokens=9, temperature=0.0)).run("How?")
    assert generator.asked_with == GenerationSettings(max_tokens=9, temperature=0.0, stop=STOP)


def test_filter_and_template_are_used() -> None:
    made = agent(LOOK, ANSWER, filter={"source": "d.pdf"}, template="Q: {question}\nThink, search, answer.")
    trace = made.run("How {much}?")
    assert made.retriever.calls == [("totals", 1, {"source": "d.pdf"})]
    assert made.generator.batches[0][0][0].text == "Q: How {much}?\nThink, search, answer."
    assert trace.template == "Q: {question}\nThink, search, answer."


@pytest.mark.parametrize("options", [{"max_turns": 0}, {"token_budget": 0}, {"template": "no place"}])
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        agent(**options)
    with pytest.raises(SettingError, match="question is empty"):
        agent().run(" ")


# --- malformed turns: nothing raises, the model is told, it is counted ------------------------------------------------

CASES: dict[str, tuple[list[str | Generation], str, int]] = {
    # name: (what the model writes, what it is told, pages and crops shown all the same)
    "empty": ([""], "You wrote nothing.", 0),
    "no_action": (["I believe it is 42."], "holds no action", 0),
    "cut_off": ([Generation("<think>First I", finish_reason="length")], "cut off at the token limit", 0),
    "crossed_tags": (["<think>a</think><search>x <answer>4</answer>"], "Close <search> before any other tag", 0),
    "several_actions": (
        ["<think>a</think><search>x</search><search>y</search><answer>4</answer>"],
        "You wrote 3 act",
        1,
    ),
    "no_think": (["<search>totals</search>"], "Begin your turn with <think>", 1),
    "unclosed_think": (["<think>a <search>totals</search>"], "You did not close <think>", 1),
    "empty_search": (["<think>a</think><search> \u200b\x00 </search>"], "search is empty", 0),
    "repeated_search": (
        [LOOK, LOOK.upper().replace("SEARCH", "search"), LOOK, LOOK],
        'You searched for "totals" 4 times',
        3,
    ),
    "no_picture": (["<think>a</think><bbox>[1, 2, 30, 40]</bbox>"], "no picture to look closer at", 0),
    "box_unreadable": ([LOOK, "<think>a</think><bbox>top left</bbox>"], '"top left" is not four numbers', 1),
    "box_not_finite": ([LOOK, "<think>a</think><bbox>[0, 0, NaN, 9]</bbox>"], "not a finite number", 1),
    "box_reversed": ([LOOK, "<think>a</think><bbox>[300, 10, 200, 90]</bbox>"], "x1 must be less than x2", 1),
    "box_empty": ([LOOK, "<think>a</think><bbox>[0.1, 0.1, 0.5, 0.5]</bbox>"], "The last picture is 560 x 504", 1),
    "box_outside": (
        [LOOK, "<think>a</think><bbox>[600, 0, 900, 90]</bbox>"],
        "outside the last picture, which is 560 x 504",
        1,
    ),
    "box_clipped": ([LOOK, "<think>a</think><bbox>[500, 0, 900, 90]</bbox>"], "beyond the last picture (560 x 504", 2),
    "box_whole": ([LOOK, "<think>a</think><bbox>[9, 9, 550, 490]</bbox>"], "takes in the whole of the last picture", 1),
    "empty_answer": (["<think>a</think><answer> </answer>"], "Your answer is empty.", 0),
}


@pytest.mark.parametrize("name", CASES)
def test_a_malformed_turn_is_answered_with_what_is_wrong(name: str) -> None:
    texts, said, shown = CASES[name]
    trace = agent(*texts, ANSWER).run("How much?")
    assert trace.reason == "answered"
    assert said in told(trace, len(texts))
    assert trace.problem_counts == {name: 1}
    assert len(trace.shown) == shown
    assert len(trace.answer.problems) == 1
    assert trace.answer.problems[0].startswith(f"turn {len(texts)}: ")
    assert (REMINDER in told(trace, len(texts))) == (
        name not in {"several_actions", "no_think", "unclosed_think", "box_clipped"}
    )


def test_every_problem_has_a_case() -> None:
    elsewhere = {"no_answer", "unshowable"}
    assert set(CASES) | elsewhere == set(PROBLEMS)


def test_an_action_that_is_cut_off_is_not_carried_out() -> None:
    trace = agent(Generation("<think>a</think><search>half a que", finish_reason="length"), ANSWER).run("How much?")
    assert trace.problem_counts == {"cut_off": 1}
    assert trace.shown == ()


def test_a_page_whose_picture_is_damaged_is_shown_as_its_text() -> None:
    damaged = ScoredPage(Page("bad", 1, "The total is 42.", "bad.pdf", picture=b"\xff\xd8\xffno picture"), 1.0)
    made = agent(LOOK, "<think>a</think><bbox>[1, 1, 90, 90]</bbox>", LOOK, ANSWER, hits=[damaged, *HITS])
    trace = made.run("How much?")
    assert trace.problem_counts == {"unshowable": 1, "no_picture": 1}
    (text, note) = made.generator.batches[1][0][2].content
    assert isinstance(text, Page)
    assert (text.text, text.picture) == ("The total is 42.", None)
    assert 'page 1 of "bad.pdf" cannot be shown' in str(note)
    assert trace.answer.pages == (damaged, HITS[0])


def test_nothing_new_is_said_and_is_no_problem() -> None:
    trace = agent(LOOK, LOOK, ANSWER, hits=HITS[:1]).run("How much?")
    assert "No page that you have not seen" in told(trace, 2)
    assert trace.problems == ()
    assert len(trace.shown) == 1


def test_a_trace_says_what_it_is() -> None:
    assert repr(agent(LOOK, ANSWER).run("How much?")) == "Trace('How much?', 2 turns, answered: '42')"


def test_half_characters_and_control_characters_do_no_harm() -> None:
    made = agent("<think>\ud800</think><search>to\x00ta\x1bls \udfff</search>", ANSWER)
    trace = made.run("How much?")
    assert made.retriever.calls[0][0] == "to ta ls ?"
    trace.turns[0].text.encode("utf-8")
    made.generator.batches[1][0][1].text.encode("utf-8")


def test_what_the_model_is_told_holds_no_tags_of_its_own() -> None:
    trace = agent(LOOK, "<think>a</think><bbox>[<answer>7]</bbox>", "<think>a</think><bbox>[<b>]</bbox>", ANSWER).run(
        "?"
    )
    assert '"[‹b›]"' in told(trace, 3)


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_before_the_last_turn_the_model_is_asked_to_answer() -> None:
    made = agent(LOOK, LOOK, ANSWER, max_turns=3)
    trace = made.run("How much?")
    asked = [ANSWER_NOW in batch[0][-1].text for batch in made.generator.batches]
    assert asked == [False, False, True]
    assert trace.reason == "answered"
    only = agent(ANSWER, max_turns=1)
    assert only.run("How much?").reason == "answered"
    assert only.generator.batches[0][0][0].content == (build_prompt("How much?"), ANSWER_NOW)


def test_a_model_that_never_answers_ends_with_the_best_answer_so_far() -> None:
    made = agent("<think>a</think><search>x</search> or <answer>41</answer>", LOOK, LOOK, max_turns=3)
    trace = made.run("How much?")
    assert (trace.reason, trace.answer.text, trace.answer.sufficient) == ("turns", "41", True)
    assert trace.problem_counts == {"several_actions": 1, "no_answer": 1}
    assert len(trace.shown) == 2  # the last turn's search is not carried out
    nothing = agent(*["hm"] * 3, max_turns=3).run("How much?")
    assert (nothing.reason, nothing.answer.text, nothing.answer.sufficient) == ("turns", "", False)
    assert nothing.answer.problems[-1] == "turn 3: You were asked to answer and did not."


def test_ten_turns_unless_asked_otherwise() -> None:
    made = agent(*["hm"] * 99)
    assert len(made.run("How much?").turns) == 10
    assert len(made.generator.batches) == 10


def test_an_insufficient_answer_says_so() -> None:
    trace = agent("<think>a</think><answer>Insufficient to answer.</answer>").run("How much?")
    assert (trace.reason, trace.answer.sufficient) == ("answered", False)


def test_the_token_budget_asks_for_the_answer_and_then_ends_the_run() -> None:
    # A turn reads and writes 1000; the next may take 1000 + 512 + 100 + 1024 more.
    turns = [Generation(LOOK, usage=Usage(900, 100)) for _ in range(9)]
    asked = agent(turns[0], Generation(ANSWER, usage=Usage(1, 1)), token_budget=3000)
    trace = asked.run("How much?")
    assert ANSWER_NOW in told(trace, 1)
    assert (trace.reason, trace.usage) == ("answered", Usage(901, 101))
    stubborn = agent(*turns, token_budget=3000).run("How much?")
    assert (stubborn.reason, len(stubborn.turns)) == ("tokens", 2)
    over = agent(*turns, token_budget=500).run("How much?")
    assert (over.reason, len(over.turns), over.shown) == ("tokens", 1, ())
    ample = agent(*turns[:2], Generation(ANSWER, usage=Usage(9, 9)), token_budget=100_000).run("How much?")
    assert (ample.reason, ample.problems) == ("answered", ())


def test_tokens_are_estimated_where_the_engine_says_nothing() -> None:
    # 400 characters are 100 tokens, and are read again in every turn.
    long = f"<think>{'a' * 400}</think><search>x</search>"
    trace = agent(*[long] * 9, token_budget=4000).run("How much?")
    assert trace.reason == "tokens"
    assert 2 <= len(trace.turns) < 9


def test_a_generator_that_takes_few_pictures_is_asked_when_it_has_them() -> None:
    generator = ScriptedGenerator(LOOK, LOOK, ANSWER)
    generator.max_images = 2  # type: ignore[attr-defined]
    trace = VRAGAgent(ScriptedRetriever(*HITS), generator).run("How much?")
    assert ANSWER_NOW in told(trace, 2)
    assert (trace.reason, len(trace.shown)) == ("answered", 2)
    generator.queue = [Generation(LOOK) for _ in range(9)]
    assert VRAGAgent(ScriptedRetriever(*HITS), generator).run("How much?").reason == "pictures"


def test_a_full_context_is_answered_before_it_overflows() -> None:
    generator = ScriptedGenerator(
        Generation(LOOK, usage=Usage(400, 100)), Generation(LOOK, usage=Usage(1000, 100)), LOOK
    )
    generator.context_length = 4000  # type: ignore[attr-defined]
    # 500 + 612 + 1024 fits, and another picture and turn behind it (612 + 1024); after 1100 they would not.
    trace = VRAGAgent(ScriptedRetriever(*HITS), generator).run("How much?")
    assert (trace.reason, len(trace.turns)) == ("context", 3)
    assert ANSWER_NOW not in told(trace, 1)
    assert ANSWER_NOW in told(trace, 2)


# --- many at once, streams, async -------------------------------------------------------------------------------------


def test_many_questions_are_one_batch_a_round() -> None:
    texts = [
        LOOK,
        ANSWER,
        "hm",
        "<think>a</think><bbox>[1, 1, 90, 90]</bbox>",
        ANSWER.replace("42", "43"),
        LOOK,
        ANSWER,
    ]
    made = agent(*texts)
    # rounds: a searches, b answers, c writes nonsense; a crops, c answers; a searches again; a answers
    traces = made.run_many(question for question in ("a?", "b?", "c?"))
    assert [trace.question for trace in traces] == ["a?", "b?", "c?"]
    assert [trace.answer.text for trace in traces] == ["42", "42", "43"]
    assert [len(batch) for batch in made.generator.batches] == [3, 2, 1, 1]
    assert made.run_many([]) == []


def test_a_run_does_not_depend_on_the_others_in_its_batch() -> None:
    class Echo(ScriptedGenerator):
        """Searches for the question, then crops, then answers: by the conversation alone."""

        def generate(
            self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
        ) -> list[Generation]:
            turns = [LOOK, "<think>a</think><bbox>[9, 9, 99, 99]</bbox>", "hm", ANSWER]
            return [Generation(turns[len(talk) // 2]) for talk in conversations]

    one = VRAGAgent(ScriptedRetriever(*HITS), Echo())
    assert one.run_many(["a?", "b?"])[0].steps == one.run("a?").steps


def test_searches_of_a_round_are_one_call_where_the_retriever_can() -> None:
    class Batching(ScriptedRetriever):
        def retrieve_many(self, queries: list[str], top_k: int, **only: Any) -> list[list[ScoredPage]]:
            self.calls.append((str(queries), top_k, only.get("filter")))
            return [list(self.hits[:top_k]) for _ in queries]

    retriever = Batching(*HITS)
    generator = ScriptedGenerator(LOOK, LOOK, ANSWER, ANSWER)
    traces = VRAGAgent(retriever, generator).run_many(["a?", "b?"])
    assert retriever.calls == [("['totals', 'totals']", 1, None)]
    assert [len(trace.shown) for trace in traces] == [1, 1]


def test_a_stream_gives_the_steps_and_then_the_trace() -> None:
    texts = [LOOK, "<think>a</think><bbox>[9, 9, 99, 99]</bbox>", ANSWER]
    *steps, trace = agent(*texts).stream("How much?")
    assert trace == agent(*texts).run("How much?")
    assert isinstance(trace, Trace)
    assert tuple(steps) == trace.steps


def test_a_thought_is_streamed_before_its_search_is_done() -> None:
    made = agent(LOOK, ANSWER)
    stream = made.stream("How much?")
    assert isinstance(next(stream), Thought)
    assert made.retriever.calls == []
    assert isinstance(next(stream), Search)
    stream.close()  # type: ignore[attr-defined]
    assert len(made.generator.batches) == 1


async def test_async_runs_give_the_same() -> None:
    texts = [LOOK, "<think>a</think><bbox>[9, 9, 99, 99]</bbox>", ANSWER]
    expected = agent(*texts).run("How much?")
    assert await agent(*texts).arun("How much?") == expected
    found: list[Step | Trace] = [item async for item in agent(*texts).astream("How much?")]
    assert found == [*expected.steps, expected]
    made = agent(*texts[:1] * 2, *texts[1:2] * 2, *texts[2:] * 2)
    assert [trace.steps for trace in await made.arun_many(["a?", "b?"])] == [expected.steps] * 2
    assert [len(batch) for batch in made.generator.batches] == [2, 2, 2]


async def test_the_event_loop_goes_on_meanwhile() -> None:
    asked, go_on = threading.Event(), threading.Event()

    class Slow(ScriptedGenerator):
        def generate(
            self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
        ) -> list[Generation]:
            asked.set()
            assert go_on.wait(60)
            return super().generate(conversations, settings)

    run = asyncio.ensure_future(VRAGAgent(ScriptedRetriever(*HITS), Slow(LOOK, ANSWER)).arun("How much?"))
    while not asked.is_set():
        await asyncio.sleep(0.01)
    go_on.set()  # nobody could, if the loop waited for the generator
    assert (await run).answer.text == "42"


async def test_a_generator_with_agenerate_is_awaited() -> None:
    class Awaited(ScriptedGenerator):
        async def agenerate(
            self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
        ) -> list[Generation]:
            await asyncio.sleep(0)
            return ScriptedGenerator.generate(self, conversations, settings)

        def generate(self, *_: Any) -> list[Generation]:
            raise AssertionError("generate is not called")

    assert (await VRAGAgent(ScriptedRetriever(*HITS), Awaited(LOOK, ANSWER)).arun("How much?")).answer.text == "42"


# --- what does raise --------------------------------------------------------------------------------------------------


def test_a_dead_store_and_a_dead_engine_raise() -> None:
    class Dead(ScriptedRetriever):
        def retrieve(self, *_: Any, **__: Any) -> Sequence[ScoredPage]:
            raise StoreError("the store is gone")

    with pytest.raises(StoreError):
        VRAGAgent(Dead(), ScriptedGenerator(ANSWER, LOOK)).run_many(["a?", "b?"])

    class Died(ScriptedGenerator):
        def generate(self, *_: Any) -> list[Generation]:
            raise GenerationError("the engine died")

    with pytest.raises(GenerationError):
        VRAGAgent(ScriptedRetriever(*HITS), Died()).run("How much?")


def test_a_generator_that_gives_too_few_texts_is_refused() -> None:
    class Short(ScriptedGenerator):
        def generate(self, *_: Any) -> list[Generation]:
            return []

    with pytest.raises(GenerationError, match="0 texts for 1 conversations"):
        VRAGAgent(ScriptedRetriever(*HITS), Short()).run("How much?")


# --- a generator that understands nothing -----------------------------------------------------------------------------


def test_the_extractive_generator_searches_and_quotes() -> None:
    hits = [
        ScoredPage(Page("soup", 1, "Peel the onions."), 0.9),
        ScoredPage(Page("tax", 4, "Taxes are due in April. <search>no</search>"), 0.4),
    ]
    trace = VRAGAgent(ScriptedRetriever(*hits), load_generator("extractive")).run("When are taxes due?")
    assert (trace.reason, trace.answer.sufficient) == ("answered", True)
    assert trace.answer.text.startswith("Taxes are due in April.")
    assert [step.query for step in trace if isinstance(step, Search)] == ["When are taxes due?"] * 2
    assert {problem.name for problem in trace.problems} == {"unshowable"}  # these pages have no picture
    nothing = VRAGAgent(ScriptedRetriever(*HITS), load_generator("extractive")).run("Who won the football match?")
    assert (nothing.answer.sufficient, len(nothing.shown)) == (False, 3)
    assert VRAGAgent(ScriptedRetriever(), load_generator("extractive")).run("Who won?").answer.sufficient is False
    once = VRAGAgent(ScriptedRetriever(*HITS), load_generator("extractive"), max_turns=1).run("Who won?")
    assert once.reason == "answered"


# --- anything at all --------------------------------------------------------------------------------------------------

NUMBER = st.one_of(
    st.integers(-9, 700).map(str), st.floats().map(str), st.sampled_from(["1e999", "NaN", "9" * 400, "", "x", "½"])
)
BOX = st.lists(NUMBER, max_size=6).map(lambda numbers: f"[{', '.join(numbers)}]")
QUERY = st.sampled_from(["totals", "Totals", "a", " "]) | st.text(max_size=6)
ACTION = st.one_of(
    QUERY.map(lambda query: f"<search>{query}</search>"),
    BOX.map(lambda box: f"<bbox>{box}</bbox>"),
    st.sampled_from(["<answer> </answer>", "<answer>4</answer>"]),
)
TAG = st.sampled_from([f"<{slash}{name}>" for name in ("think", "search", "bbox", "answer") for slash in ("", "/")])
WRITTEN = st.one_of(
    ACTION.map(lambda action: f"<think>a</think>{action}"),
    BOX.map(lambda box: f"<think>a</think><bbox>{box}</bbox>"),
    st.lists(st.one_of(ACTION, TAG, BOX, st.text(max_size=6)), max_size=6).map("".join),
)
TURN = st.builds(Generation, WRITTEN, finish_reason=st.sampled_from(["stop", "length", None]))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(TURN, min_size=6, max_size=6), st.integers(1, 6), st.integers(0, 5), st.sampled_from([None, 1, 2000, 9000])
)
def test_any_model_ends_raises_nothing_and_sees_no_page_twice(
    turns: list[Generation], max_turns: int, pages: int, budget: int | None
) -> None:
    made = agent(*turns, hits=HITS[:pages], max_turns=max_turns, token_budget=budget, pictures=SMALL)
    trace = made.run("How much?")
    assert isinstance(trace.steps[-1], Finish)
    assert 1 <= len(trace.turns) == len(made.generator.batches) <= max_turns
    whole = [shown.page.page.id for shown in trace.shown if shown.whole]
    assert len(whole) == len(set(whole))
    assert [hit.page.id for hit in trace.answer.pages] == whole[: len(trace.answer.pages)]
    for shown in trace.shown:
        width, height = shown.size
        assert width % 28 == height % 28 == 0
        assert 4 * 28 * 28 <= width * height <= 40 * 28 * 28
        assert 0 <= shown.region[0] < shown.region[2] <= 1
        assert 0 <= shown.region[1] < shown.region[3] <= 1
    assert set(trace.problem_counts) <= set(PROBLEMS)
    assert len(trace.answer.problems) == len(trace.problems)
    for batch in made.generator.batches:
        assert [message.role for message in batch[0]] == (["user", "assistant"] * 9)[: len(batch[0])]
        assert all(message.content for message in batch[0])
    assert Trace.__iter__(trace) is not None
    assert trace._repr_html_()


SMALL = PictureRules(min_pixels=4 * 28 * 28, max_pixels=40 * 28 * 28, from_source=False)


@pytest.fixture(autouse=True)
def _no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`d.pdf`, the source of the pages, is not there."""
    monkeypatch.chdir(tmp_path)


def test_every_problem_and_reason_is_in_the_documentation() -> None:
    text = (Path(__file__).parent.parent / "docs" / "agent.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    reasons = {reason for reason in get_args(Reason) if reason != "answered"}
    assert sorted(rows) == sorted([*PROBLEMS, *reasons])
