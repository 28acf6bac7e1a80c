"""What happens when somebody asks: the answer as it comes, its steps, Stop, and the conversation it belongs to."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gradio as gr

from visrag_integrations.agent import Trace
from visrag_integrations.errors import SettingError, VisRAGError
from visrag_integrations.interfaces.generators import only_quotes
from visrag_integrations.report import report
from visrag_integrations.servers.demo import answer_fragments, follow_up, fragments, words
from visrag_integrations.servers.demo.answer_state import AnswerState, answer_again, hits_again
from visrag_integrations.servers.demo.conversation import KeptTurn, kept_conversation, of_base, read_conversation
from visrag_integrations.servers.demo.knowledge_base import KnowledgeBase
from visrag_integrations.servers.demo.knowledge_bases import KnowledgeBases
from visrag_integrations.servers.demo.shown_errors import UNFORESEEN, in_words, typed
from visrag_integrations.servers.demo.visitor_choices import Choices, read_choices
from visrag_integrations.types import Answer

logger = logging.getLogger(__name__)

# Seconds between two versions of an answer that is being written. Each sends the whole answer again; more often would
# be more traffic, and not easier to follow.
_SHOW_AGAIN = 0.15
# Seconds that a question waits for one whose visitor left or pressed Stop, and whose model still writes its turn.
_WAIT_FOR_SLOT = 60.0
# Page pictures in one report: 20 questions of 5 pages each. Every one is drawn for the visitor who asks, and is some
# 100 KB of the file; a browser could ask for hundreds.
_MOST_REPORT_PAGES = 100


class View(NamedTuple):
    """What the page shows, in the order of the handlers' outputs; `gr.skip()` leaves a piece as it is."""

    answer: Any
    steps: Any
    pages: Any
    earlier: Any
    kept: Any
    question: Any
    send: Any
    stop: Any


_SAME = View(*[gr.skip()] * len(View._fields))


@dataclass
class Asking:
    """The handlers of questions. Conversations are kept by browsers; here is only what is being answered right now.

    Attributes:
        bases: Where answers come from.
        running: Session -> the answer that it waits for.
    """

    bases: KnowledgeBases
    running: dict[str, AnswerState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Gradio's own limit counts requests: one that was stopped is over for it while its model still writes.
        self._slots = threading.BoundedSemaphore(self.bases.limits.asking)

    def ask(
        self,
        name: str,
        question: str,
        kept: Any,
        documents: Any,
        top_k: Any,
        mode: Any,
        model: Any,
        in_steps: Any,
        request: gr.Request,
    ) -> Iterator[View]:
        """The answer as it comes, with its steps and the pages it rests on."""
        try:
            asked = self.checked(question)
            base = self.bases.get(typed(name))
            choices = read_choices(documents, top_k, mode, model, in_steps, most_pages=self.bases.limits.pages)
            state = self._begin(asked, base, choices)
        except (VisRAGError, OSError) as err:
            yield _SAME._replace(answer=fragments.hint(in_words(err)), steps="", pages="")
            return
        # Only from here on: a question that cannot be asked leaves the answer that is being written alone.
        turns = read_conversation(kept)
        before = self.running.get(request.session_hash)
        if before is not None:
            before.end("stopped", "")  # one answer at a time for each visitor
        self.running[request.session_hash] = state
        try:
            earlier = answer_fragments.earlier(of_base(turns, base.name))
            yield _shown(state)._replace(pages="", earlier=earlier, question="", **_buttons(running=True))
            for view in self._answered(state, base, choices, of_base(turns, base.name)):
                if state.ended == "stopped":
                    return  # whoever stopped it has shown that
                yield view
            if state.ended != "stopped":
                ended = kept_conversation([*turns, state.kept()])
                yield _shown(state)._replace(kept=ended, **_buttons(running=False))
        finally:
            if self.running.get(request.session_hash) is state:
                del self.running[request.session_hash]

    def stop(self, kept: Any, request: gr.Request) -> View:
        """End the answer that this session waits for, and keep what was found."""
        state = self.running.get(request.session_hash)
        if state is None:
            return _SAME._replace(**_buttons(running=False))
        kept = self.leave(kept, request)
        return _shown(state)._replace(kept=kept, **_buttons(running=False))

    def leave(self, kept: Any, request: gr.Request) -> Any:
        """The visitor looks at another knowledge base: the answer that was waited for ends, and is kept as it is."""
        state = self.running.get(request.session_hash)
        if state is None or state.ended:
            return gr.skip()
        state.end("stopped", "What was found before you stopped it stays.")
        return kept_conversation([*read_conversation(kept), state.kept()])

    def restored(self, name: str, kept: Any) -> View:
        """The conversation that this browser keeps about a knowledge base; a welcome where there is none."""
        try:
            base = self.bases.get(typed(name))
            turns = of_base(read_conversation(kept), base.name)
            if not turns:
                about = words.while_indexing(self.bases.models.embedder)
                greeting = fragments.welcome(len(base.files()), about)
                return _SAME._replace(answer=greeting, steps="", pages="", earlier="", **_buttons(running=False))
            *before, last = turns
            state = self._again(last, base)
        except (VisRAGError, OSError) as err:
            return _SAME._replace(answer=fragments.problem(in_words(err)), steps="", pages="", earlier="")
        earlier = answer_fragments.earlier(before)
        pages = answer_fragments.pages(state.pages)
        return _with_steps(state)._replace(pages=pages, earlier=earlier, **_buttons(running=False))

    def forget(self, name: str, kept: Any) -> View:
        """The conversation about this knowledge base is over; those about others stay."""
        turns = [turn for turn in read_conversation(kept) if turn.base != typed(name)]
        begun = kept_conversation(turns)
        return self.restored(name, begun)._replace(kept=begun)

    def report(self, name: str, kept: Any) -> tuple[str, int]:
        """The conversation as one HTML file, and how many of its oldest questions did not fit; "" where there is none.

        Raises:
            SettingError: Too many answers are being made.
        """
        base = self.bases.get(typed(name))
        turns = of_base(read_conversation(kept), base.name)
        answers: list[tuple[str, Answer]] = []
        room = _MOST_REPORT_PAGES
        with self.slot():
            for turn in reversed(turns):
                room -= len(turn.pages)
                if room < 0:
                    break
                pages = base.pages_of(page.id for page in turn.pages)
                answers.append((turn.meant, answer_again(turn, hits_again(turn, pages))))
            if not answers:
                return "", len(turns)
            return report(answers[::-1]), len(turns) - len(answers)

    def checked(self, given: Any) -> str:
        """A question as it was typed, if it is one.

        Raises:
            SettingError: It is empty or too long.
        """
        question = typed(given).strip()
        if not question:
            raise SettingError("Type a question first.")
        if len(question) > self.bases.limits.question:
            raise SettingError(f"The question is longer than {self.bases.limits.question} characters. Shorten it.")
        return question

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """One of the few places for questions that are answered at the same time.

        Raises:
            SettingError: None gets free in time.
        """
        if not self._slots.acquire(timeout=_WAIT_FOR_SLOT):
            raise SettingError("Too many questions are being answered right now. Try again in a minute.")
        try:
            yield
        finally:
            self._slots.release()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, question: str, base: KnowledgeBase, choices: Choices) -> AnswerState:
        """The answer before anything is known.

        Raises:
            SettingError: It cannot be asked so, or there is nothing to search.
        """
        generator = self.bases.models.generator_called(choices.model)
        if choices.steps and only_quotes(generator):
            raise SettingError(words.NEEDS_A_WRITER)
        if not base.store.count():
            raise SettingError(words.READING_YET if base.is_indexing else words.NOTHING_YET)
        # Documents that are gone are reported before the page shows a question that is under way.
        base.only(choices.documents)
        return AnswerState(question, base.name, quotes=only_quotes(generator), model=words.shown_name(generator.name))

    def _answered(
        self, state: AnswerState, base: KnowledgeBase, choices: Choices, earlier: list[KeptTurn]
    ) -> Iterator[View]:
        """Versions of the answer; whatever goes wrong, what was shown stays."""
        try:
            with self.slot():
                generator = self.bases.models.generator_called(choices.model)
                # Inside the slot: rewording is work of the model too.
                if earlier and follow_up.can_follow(generator):
                    state.stage = "Reading your question together with the earlier ones …"
                    yield _shown(state)
                    meant = follow_up.standalone(state.question, earlier, generator)
                    state.searched = meant if meant != state.question else ""
                    state.stage = "Searching the pages …"
                    yield _shown(state)
                if choices.steps:
                    yield from self._in_steps(state, base, choices)
                else:
                    yield from self._at_once(state, base, choices)
        except (VisRAGError, OSError) as err:
            state.end("failed", in_words(err))
        except Exception:
            logger.exception("a question failed")
            state.end("failed", UNFORESEEN)

    def _at_once(self, state: AnswerState, base: KnowledgeBase, choices: Choices) -> Iterator[View]:
        """Search once, read the best pages, answer."""
        begun = shown = time.monotonic()
        for event in base.ask(state.searched or state.question, choices):
            if state.ended:
                return
            if state.take(event):
                yield _shown(state)._replace(pages=answer_fragments.pages(state.pages))  # large: sent when they change
            elif time.monotonic() - shown > _SHOW_AGAIN:
                shown = time.monotonic()
                yield _shown(state)
            self._check_time(begun)

    def _in_steps(self, state: AnswerState, base: KnowledgeBase, choices: Choices) -> Iterator[View]:
        """The model searches and looks closer by itself."""
        begun = time.monotonic()
        agent = base.agent(choices, self.bases.limits.turns)
        most = agent.rules.max_turns
        state.stage = f"Step 1 of at most {most}: the model is thinking …"
        yield _shown(state)
        for step in agent.stream(state.searched or state.question):
            if state.ended or isinstance(step, Trace):
                return
            if state.take_step(step, most):
                yield _with_steps(state)._replace(pages=answer_fragments.pages(state.pages))
            else:
                yield _with_steps(state)
            self._check_time(begun)

    def _check_time(self, begun: float) -> None:
        if time.monotonic() - begun > self.bases.limits.seconds:
            raise SettingError(f"This took longer than {self.bases.limits.seconds} seconds, and was ended here.")

    def _again(self, turn: KeptTurn, base: KnowledgeBase) -> AnswerState:
        """A kept turn with its pages."""
        ids = [page.id for page in turn.pages] + [step.page for step in turn.steps if step.page]
        # The model may not be offered any more: then its words stand there as an answer.
        generator = self.bases.models.generators.get(turn.model)
        quotes = generator is not None and only_quotes(generator)
        return AnswerState.again(turn, base.pages_of(ids), quotes=quotes)


def _shown(state: AnswerState) -> View:
    """The answer as it is now; steps and pages as they were shown."""
    steps = gr.skip() if state.steps else ""
    return _SAME._replace(answer=answer_fragments.answer(state), steps=steps)


def _with_steps(state: AnswerState) -> View:
    return _SAME._replace(answer=answer_fragments.answer(state), steps=answer_fragments.steps(state))


def _buttons(*, running: bool) -> dict[str, Any]:
    """Ask while nothing is answered, Stop meanwhile."""
    return {"send": gr.update(visible=not running), "stop": gr.update(visible=running)}
