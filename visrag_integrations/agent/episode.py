"""One question on its way to an answer: what happens next, without doing any of it.

An `Episode` asks for what it needs (`Write`, `Find`, `Look`) and is told the result, so that the same rules hold
whoever does the work: one thread, an event loop, a batch of many questions, or a host with its callbacks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.agent.budget import Capacity, Rules, Tokens
from visrag_integrations.agent.observing import (
    as_part,
    looked,
    on_one_line,
    remarks_on,
    shown_as,
    unshowable,
    wrong_box,
    wrong_with,
)
from visrag_integrations.agent.pictures import Cut
from visrag_integrations.agent.problems import CARRIED_OUT, NOTHING_NEW, REMINDER, problem, quoted
from visrag_integrations.agent.steps import (
    Crop,
    Finish,
    Observation,
    Problem,
    Reason,
    SearchStep,
    Shown,
    Step,
    Thought,
)
from visrag_integrations.agent.trace import Trace
from visrag_integrations.generation.pixel_boxes import PixelBox, parse_box
from visrag_integrations.generation.refusals import says_insufficient
from visrag_integrations.generation.vrag import ANSWER_NOW, Action, Turn, build_prompt, parse_turn
from visrag_integrations.types import Answer, Conversation, Generation, Message, Part, ScoredPage

MOST_REPEATS = 3
"""How often the same words may be searched for: each time the next best page is shown.
Without a limit a model that goes round in circles would use up its turns."""


@dataclass(frozen=True)
class Write:
    """The generator is to write the next turn; the result is a `Generation`."""

    conversation: Conversation


@dataclass(frozen=True)
class Find:
    """The best pages for a query, `count` of them, are needed; the result is a sequence of `ScoredPage`."""

    query: str
    count: int


@dataclass(frozen=True)
class Look:
    """A picture is to be opened, which takes a while; the result is what `work()` gives."""

    work: Callable[[], Cut | str]


Request = Write | Find | Look


@dataclass
class Episode:
    """One run.

    Attributes:
        question: What was asked.
        rules: What holds for it.
        capacity: Tells what the generator takes; it may know more once it has written.
        steps: What has happened so far.
        waiting: What is needed next; None when the run is over.
    """

    question: str
    rules: Rules = field(default_factory=Rules)
    capacity: Callable[[], Capacity] = Capacity
    steps: list[Step] = field(default_factory=list)
    waiting: Request | None = None
    _turns: list[Generation] = field(default_factory=list)
    _hits: list[ScoredPage] = field(default_factory=list)
    _searches: Counter[str] = field(default_factory=Counter)
    _shown: list[Shown] = field(default_factory=list)  # pictures only
    _tokens: Tokens = field(default_factory=Tokens)
    _best: str = ""  # the last answer that stood anywhere

    def __post_init__(self) -> None:
        self._why_last = self._budget_that_ends()
        first: list[Part] = [build_prompt(self.question, self.rules.template)]
        if self._why_last:
            first.append(ANSWER_NOW)
        self._conversation: Conversation = (Message(tuple(first)),)
        self._course = self._run()
        self.waiting = next(self._course)

    def tell(self, result: Any) -> list[Step]:
        """Take the result of what was waited for; gives the steps that it brings."""
        before = len(self.steps)
        try:
            self.waiting = self._course.send(result)
        except StopIteration:
            self.waiting = None
        return self.steps[before:]

    @property
    def trace(self) -> Trace:
        """Everything that happened so far."""
        return Trace(self.question, tuple(self.steps), tuple(self._turns), self.rules.template)

    # --- a turn -----------------------------------------------------------------------------------------------------

    def _run(self) -> Generator[Request, Any, None]:
        while True:
            # Each `yield` asks for something, and takes what `tell` is given.
            turn = self._read((yield Write(self._conversation)))
            if self._is_last(turn):
                return
            action = turn.action
            if action is not None and not action.flaw and action.name != "answer":
                self._think(turn)
                if action.name == "search":
                    observation = yield from self._search(action, remarks_on(turn))
                else:
                    observation = yield from self._crop(action, remarks_on(turn))
            else:
                observation = self._refuse(*wrong_with(turn))
                self.steps.append(Thought(len(self._turns), turn.thought, observation))
            self._go_on(turn, observation)

    def _read(self, written: Generation) -> Turn:
        text = written.text.encode("utf-8", "replace").decode("utf-8")  # half a character breaks tokenizers
        self._turns.append(dataclasses.replace(written, text=text))
        self._tokens.count(self._conversation, self._turns[-1])
        turn = parse_turn(text, cut_off=written.finish_reason == "length")
        # Also one in a turn that cannot be carried out: better than none when a budget ends.
        if turn.answers:
            self._best = turn.answers[-1]
        return turn

    def _is_last(self, turn: Turn) -> bool:
        """Whether the model answered or has used up its budget; then the run is over."""
        action = turn.action
        budget = self.rules.token_budget
        if action is not None and action.name == "answer" and action.content and not action.flaw:
            self._think(turn)
            self._finish("answered", action.content, remarks_on(turn))
        # It was asked to answer, and did not.
        elif self._why_last is not None:
            self._think(turn)
            self._finish(self._why_last, self._best, [problem("no_answer")])
        elif budget is not None and self._tokens.spent >= budget:
            self._think(turn)
            self._finish("tokens", self._best, [])
        else:
            return False
        return True

    def _think(self, turn: Turn) -> None:
        if turn.thought:
            self.steps.append(Thought(len(self._turns), turn.thought))

    def _finish(self, reason: Reason, text: str, problems: Sequence[Problem]) -> None:
        number = len(self._turns)
        pages: list[Shown] = []
        noted: list[str] = []
        thoughts: list[str] = []
        for step in self.steps:
            pages += [shown for shown in step.observation.shown if shown.whole]
            noted += [f"turn {step.turn}: {one.text}" for one in step.observation.problems]
            if isinstance(step, Thought) and step.text:
                thoughts.append(step.text)
        noted += [f"turn {number}: {one.text}" for one in problems]
        answer = Answer(
            text,
            sufficient=bool(text) and not says_insufficient(text),
            thinking="\n\n".join(thoughts),
            pages=tuple(self._hits),
            problems=tuple(noted),
            raw="\n".join(turn.text for turn in self._turns),
        )
        self.steps.append(Finish(number, answer, reason, Observation(tuple(pages), problems=tuple(problems))))

    # --- actions ----------------------------------------------------------------------------------------------------

    def _search(self, action: Action, remarks: Sequence[Problem]) -> Generator[Request, Any, Observation]:
        query = on_one_line(action.content)
        observation = self._wrong_search(query, remarks)
        if observation is None:
            # One more than were shown: at least one of them is new.
            hits = yield Find(query, len(self._hits) + 1)
            seen = {hit.page.id for hit in self._hits}
            new = next((hit for hit in hits if hit.page.id not in seen), None)
            if new is None:
                observation = self._observe(None, remarks, NOTHING_NEW)
            else:
                self._hits.append(new)
                cut = yield Look(functools.partial(looked, self.rules.pictures.whole, new.page))
                observation = self._observe(shown_as(new, cut), [*remarks, *unshowable(new, cut)])
        self.steps.append(SearchStep(len(self._turns), query, observation))
        return observation

    def _wrong_search(self, query: str, remarks: Sequence[Problem]) -> Observation | None:
        if not query:
            return self._refuse(*remarks, problem("empty_search"))
        # Upper and lower case find the same pages.
        said = query.casefold()
        self._searches[said] += 1
        if self._searches[said] > MOST_REPEATS:
            count = self._searches[said]
            return self._refuse(*remarks, problem("repeated_search", query=quoted(query), count=count))
        return None

    def _crop(self, action: Action, remarks: Sequence[Problem]) -> Generator[Request, Any, Observation]:
        written = on_one_line(action.content)
        box = parse_box(action.content)
        observation = yield from self._look_closer(written, box, remarks)
        # A box that cannot be read is the name of what is wrong with it.
        numbers = box if not isinstance(box, str) else None
        self.steps.append(Crop(len(self._turns), written, numbers, observation))
        return observation

    def _look_closer(
        self, written: str, box: PixelBox | str, remarks: Sequence[Problem]
    ) -> Generator[Request, Any, Observation]:
        """What the model is shown for its box, which is always on the last picture it saw."""
        if not self._shown:
            return self._refuse(*remarks, problem("no_picture"))
        last = self._shown[-1]
        wrong = wrong_box(written, box, last.size)
        problems = [*remarks, *wrong]
        if isinstance(box, str) or any(one.name not in CARRIED_OUT for one in wrong):
            return self._refuse(*problems)
        crop = self.rules.pictures.crop
        cut = yield Look(functools.partial(looked, crop, last.page.page, last.region, last.size, box))
        if isinstance(cut, str):
            return self._refuse(*remarks, *unshowable(last.page, cut))
        # The same picture again would teach the model nothing.
        if cut.region == last.region:
            return self._refuse(*remarks, problem("box_whole", written=quoted(written)))
        return self._observe(shown_as(last.page, cut), problems)

    # --- what the model is shown and told ---------------------------------------------------------------------------

    def _refuse(self, *problems: Problem) -> Observation:
        return self._observe(None, problems, REMINDER)

    def _observe(self, shown: Shown | None, problems: Sequence[Problem], note: str = "") -> Observation:
        if shown is not None and shown.picture is not None:
            self._shown.append(shown)
        # The model has to know before it writes that a turn is its last one.
        self._tokens.add(shown, self.rules)
        self._why_last = self._budget_that_ends()
        told = [one.text for one in problems]
        if note:
            told.append(note)
        if self._why_last:
            told.append(ANSWER_NOW)
        pictures = (shown,) if shown is not None else ()
        return Observation(pictures, "\n".join(told), tuple(problems))

    def _budget_that_ends(self) -> Reason | None:
        """Which budget leaves room for only one more turn."""
        rules = self.rules
        capacity = self.capacity()
        tokens = self._tokens
        if len(self._turns) + 1 >= rules.max_turns:
            return "turns"
        if rules.token_budget is not None and tokens.spent + tokens.next_turn(rules) > rules.token_budget:
            return "tokens"
        if capacity.max_images is not None and len(self._shown) >= capacity.max_images:
            return "pictures"
        if capacity.context_length is not None and tokens.turn_after(rules) > capacity.context_length:
            return "context"
        return None

    def _go_on(self, turn: Turn, observation: Observation) -> None:
        parts: list[Part] = [as_part(shown) for shown in observation.shown]
        if observation.text:
            parts.append(observation.text)
        # What is kept of a turn ends with its first action: the model must not read what it made up after it.
        said = Message((turn.kept.strip() or "(nothing)",), "assistant")
        self._conversation = (*self._conversation, said, Message(tuple(parts)))
