"""VisRAG: question in, answer out; batches, streams, and what happens when nothing is found."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator

import pytest
from fakes import ScriptedGenerator, ScriptedRetriever

from visrag_integrations import Page, ScoredPage, VisRAG, load_generator
from visrag_integrations.errors import GenerationError, SettingError, UnknownNameError
from visrag_integrations.generation.events import AnswerReady, EvidenceFound, PagesFound, SectionStarted, SectionText
from visrag_integrations.generation.loop import LoopGenerator
from visrag_integrations.generation.strategies import STRATEGIES
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Query

WRITTEN = (
    "<observe>two pages</observe><evidence>[1]: April [2]: no relevant information</evidence>"
    "<think>so</think><answer>April</answer>"
)
HITS = (
    ScoredPage(Page(doc_id="tax", number=4, text="Taxes are due in April."), 0.9),
    ScoredPage(Page(doc_id="soup", number=1, text="Peel the onions."), 0.4),
    ScoredPage(Page(doc_id="soup", number=2, text="Boil them."), 0.3),
    ScoredPage(Page(doc_id="soup", number=3, text="Serve hot."), 0.2),
)


def test_ask_gives_the_answer_with_its_pages() -> None:
    retriever, generator = ScriptedRetriever(*HITS), ScriptedGenerator(WRITTEN)
    answer = VisRAG(retriever, generator, top_k=2).ask("When?", filter={"source": "a.pdf"})
    assert (answer.text, answer.sufficient, answer.problems) == ("April", True, ())
    assert answer.pages == HITS[:2]
    assert answer.evidence[0].page is HITS[0].page
    assert retriever.calls == [("When?", 2, {"source": "a.pdf"})]
    ((conversation,),) = generator.batches
    assert conversation[0].pages == tuple(hit.page for hit in HITS[:2])


def test_three_pages_are_shown_unless_asked_otherwise() -> None:
    rag = VisRAG(ScriptedRetriever(*HITS), load_generator("extractive"))
    assert len(rag.ask("When are taxes due?").pages) == 3
    assert len(rag.ask("When are taxes due?", top_k=1).pages) == 1


def test_a_question_may_have_a_picture_to_find_pages_by() -> None:
    retriever, question = ScriptedRetriever(*HITS), Query("When?", image="crop.png")
    generator = ScriptedGenerator(WRITTEN, WRITTEN)
    rag = VisRAG(retriever, generator, top_k=1)
    assert rag.ask(question).text == "April"
    assert [type(event) for event in rag.stream(question)][-1] is AnswerReady
    assert [call[0] for call in retriever.calls] == [question, question]
    assert all("When?" in conversation[0].text for (conversation,) in generator.batches)
    with pytest.raises(SettingError, match="empty"):
        rag.ask(Query(image="crop.png"))


def test_ask_many_is_one_batch_in_order() -> None:
    generator = ScriptedGenerator("<answer>1</answer>", "<answer>2</answer>")
    answers = VisRAG(ScriptedRetriever(*HITS), generator).ask_many(question for question in ("a?", "b?"))
    assert [answer.text for answer in answers] == ["1", "2"]
    assert [len(batch) for batch in generator.batches] == [2]
    assert VisRAG(ScriptedRetriever(*HITS), generator).ask_many([]) == []


def test_a_batching_retriever_is_asked_once() -> None:
    class Batching(ScriptedRetriever):
        def retrieve_many(self, queries: list[str], top_k: int, *, filter: object = None) -> list[list[ScoredPage]]:
            self.batch = (list(queries), top_k, filter)
            return [list(self.hits[:top_k]), []]

    retriever = Batching(*HITS)
    answers = VisRAG(retriever, ScriptedGenerator(WRITTEN)).ask_many(["a?", "b?"], top_k=2)
    assert retriever.batch == (["a?", "b?"], 2, None)
    assert [answer.text for answer in answers] == ["April", "insufficient to answer"]


def test_nothing_found_is_an_answer_that_says_so_and_asks_no_generator() -> None:
    generator = ScriptedGenerator()
    rag = VisRAG(ScriptedRetriever(), generator)
    answer = rag.ask("When?")
    assert (answer.text, answer.sufficient, answer.pages) == ("insufficient to answer", False, ())
    assert answer.problems[0].startswith("no page was found")
    assert generator.batches == []
    assert list(rag.stream("When?")) == [PagesFound(()), AnswerReady(answer)]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("prompt", ["evisrag", "plain"])
def test_stream_ends_with_what_ask_gives(strategy: str, prompt: str) -> None:
    rag = VisRAG(ScriptedRetriever(*HITS), load_generator("extractive"), strategy, prompt=prompt)  # type: ignore[arg-type]
    events = list(rag.stream("When are taxes due?"))
    assert events[0] == PagesFound(HITS[:3])
    assert events[-1] == AnswerReady(rag.ask("When are taxes due?"))
    assert sum(isinstance(event, AnswerReady) for event in events) == 1


def test_stream_tells_pages_then_observation_then_evidence_then_answer() -> None:
    rag = VisRAG(ScriptedRetriever(*HITS), ScriptedGenerator(WRITTEN), top_k=2)
    events = list(rag.stream("When?"))
    order = [event.section for event in events if isinstance(event, SectionStarted)]
    assert order == ["observe", "evidence", "think", "answer"]
    assert [event.evidence.page for event in events if isinstance(event, EvidenceFound)] == [h.page for h in HITS[:2]]
    told = "".join(event.text for event in events if isinstance(event, SectionText) and event.section == "answer")
    assert told == "April"


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
async def test_answers_from_given_pages_are_those_of_a_search_that_finds_them(strategy: str) -> None:
    retriever = ScriptedRetriever(*HITS)
    rag = VisRAG(retriever, load_generator("extractive"), strategy)
    asked = "When are taxes due?"
    answer, events = rag.ask(asked), list(rag.stream(asked))
    retriever.calls.clear()
    assert rag.answer_from([asked], [HITS[:3]]) == [answer]
    assert await rag.aanswer_from(asked, HITS[:3]) == answer
    assert list(rag.stream_from(asked, HITS[:3])) == events
    assert [event async for event in rag.astream_from(asked, HITS[:3])] == events
    assert retriever.calls == []


async def test_without_pages_nothing_is_asked() -> None:
    generator = ScriptedGenerator()
    rag = VisRAG(ScriptedRetriever(), generator)
    nothing = rag.ask("When?")
    assert await rag.aask("When?") == await rag.aanswer_from("When?", ()) == nothing
    assert list(rag.stream_from("When?", ())) == [PagesFound(()), AnswerReady(nothing)]
    assert [event async for event in rag.astream_from("When?", ())] == [PagesFound(()), AnswerReady(nothing)]
    assert generator.batches == []
    with pytest.raises(SettingError, match="empty"):
        rag.stream_from(" ", HITS)
    with pytest.raises(SettingError, match="empty"):
        await rag.aanswer_from(" ", HITS)


async def test_a_generator_that_loses_a_text_is_named() -> None:
    class Lossy(ScriptedGenerator):
        async def agenerate(self, conversations: object, settings: object = None) -> list[Generation]:
            return []

    with pytest.raises(GenerationError, match="'scripted' gave 0 texts for 1"):
        await VisRAG(ScriptedRetriever(*HITS), Lossy()).aask("When?")


def test_closing_the_stream_stops_the_generator() -> None:
    generator = ScriptedGenerator(WRITTEN)
    stream = VisRAG(ScriptedRetriever(*HITS), generator).stream("When?")
    next(event for event in stream if isinstance(event, SectionText))
    assert not generator.closed
    stream.close()  # type: ignore[attr-defined]
    assert generator.closed


class Stepping(LoopGenerator):
    """Asynchronous itself; remembers that it was stopped."""

    def __init__(self, *texts: str) -> None:
        super().__init__("stepping")
        self.texts, self.stopped = texts, threading.Event()

    async def _write(
        self, conversation: Conversation, settings: GenerationSettings | None, *, whole: bool
    ) -> AsyncGenerator[Generation, None]:
        try:
            for text in self.texts:
                yield Generation(text)
                await asyncio.sleep(0)
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped.set()
            raise


@pytest.mark.parametrize("prompt", ["evisrag", "plain"])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_astream_tells_what_stream_tells(strategy: str, prompt: str) -> None:
    for generator in (load_generator("extractive"), Stepping(WRITTEN[:40], WRITTEN[40:])):
        rag = VisRAG(ScriptedRetriever(*HITS), generator, strategy, prompt=prompt)  # type: ignore[arg-type]
        told = [event async for event in rag.astream("When are taxes due?")]
        assert told == list(rag.stream("When are taxes due?"))
        assert isinstance(told[0], PagesFound)
        assert isinstance(told[-1], AnswerReady)
        getattr(generator, "close", lambda: None)()


async def test_astream_says_when_nothing_is_found_and_when_nothing_is_asked() -> None:
    rag = VisRAG(ScriptedRetriever(), ScriptedGenerator())
    assert [event async for event in rag.astream("When?")] == list(rag.stream("When?"))
    with pytest.raises(SettingError, match="empty"):
        await anext(rag.astream(" "))


async def test_closing_astream_stops_either_kind_of_generator() -> None:
    own, plain = Stepping("<answer>", *("more " * 100_000).split()), ScriptedGenerator(WRITTEN)
    for generator in (own, plain):
        events = VisRAG(ScriptedRetriever(*HITS), generator).astream("When?")
        async for event in events:
            if isinstance(event, SectionText):
                break
        await events.aclose()
    assert plain.closed
    assert await asyncio.to_thread(own.stopped.wait, 10)
    own.close()


def test_a_generator_that_dies_while_streaming_raises() -> None:
    class Dying(ScriptedGenerator):
        def stream(
            self, conversation: Conversation, settings: GenerationSettings | None = None
        ) -> Iterator[Generation]:
            yield Generation("<observe>")
            raise GenerationError("the engine died")

    with pytest.raises(GenerationError, match="the engine died"):
        list(VisRAG(ScriptedRetriever(*HITS), Dying()).stream("When?"))


def test_aask_leaves_the_event_loop_free() -> None:
    started, go_on = threading.Event(), threading.Event()

    class Slow(ScriptedGenerator):
        def generate(self, conversations: object, settings: object = None) -> list[Generation]:
            started.set()
            assert go_on.wait(20)
            return [Generation(WRITTEN)]

    async def both() -> str:
        asked = asyncio.create_task(VisRAG(ScriptedRetriever(*HITS), Slow()).aask("When?"))
        while not started.is_set():
            await asyncio.sleep(0.001)  # only runs while the generator waits if the loop is free
        go_on.set()
        return (await asked).text

    assert asyncio.run(both()) == "April"


def test_settings_reach_the_generator() -> None:
    class Noting(ScriptedGenerator):
        def generate(self, conversations: object, settings: GenerationSettings | None = None) -> list[Generation]:
            self.settings = settings
            return [Generation(WRITTEN)]

    generator, wanted = Noting(), GenerationSettings(max_tokens=7)
    VisRAG(ScriptedRetriever(*HITS), generator, settings=wanted).ask("When?")
    assert generator.settings is wanted


@pytest.mark.parametrize("question", ["", "  \n"])
def test_empty_questions_are_refused(question: str) -> None:
    rag = VisRAG(ScriptedRetriever(*HITS), ScriptedGenerator())
    with pytest.raises(SettingError, match="empty"):
        rag.ask(question)
    with pytest.raises(SettingError, match="empty"):
        rag.stream(question)
    with pytest.raises(SettingError, match="empty"):
        rag.ask_many(["When?", question])


def test_wrong_settings_are_refused_by_name() -> None:
    retriever, generator = ScriptedRetriever(*HITS), ScriptedGenerator()
    with pytest.raises(SettingError, match="top_k is 0"):
        VisRAG(retriever, generator, top_k=0)
    with pytest.raises(SettingError, match="top_k is -1"):
        VisRAG(retriever, generator).ask("When?", top_k=-1)
    with pytest.raises(UnknownNameError, match="weighted_selection"):
        VisRAG(retriever, generator, "weighted")
    with pytest.raises(SettingError, match="plain"):
        VisRAG(retriever, generator, prompt="evis")  # type: ignore[arg-type]
