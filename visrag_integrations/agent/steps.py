"""What happens in a run, as typed steps: what the model thought and did, and what it was shown and told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from visrag_integrations.generation.pixel_boxes import PixelBox
from visrag_integrations.types import Answer, Box, ScoredPage

if TYPE_CHECKING:
    from PIL.Image import Image

Reason = Literal["answered", "turns", "tokens", "pictures", "context"]
"""Why a run ended: the model answered; or it did not, though it was asked to because a budget was used up."""
# A region that is exactly this is the page itself; any crop is smaller, because a box with all of a picture is refused.
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class Problem(NamedTuple):
    """Something off in a turn: its name in the table `PROBLEMS`, and what the model was told."""

    name: str
    text: str


@dataclass(frozen=True)
class Shown:
    """A picture as the model saw it.

    Attributes:
        page: The page, with the score of the search that found it.
        region: The part of the page that is shown, as fractions.
        size: Width and height in pixels; boxes are given in these.
        picture: The pixels; None where the page has no picture and was shown as its text.
    """

    page: ScoredPage
    region: Box
    size: tuple[int, int]
    picture: Image | None = field(default=None, repr=False, compare=False)

    @property
    def whole(self) -> bool:
        """Whether it is the whole page, not a crop."""
        return self.region == WHOLE


@dataclass(frozen=True)
class Observation:
    """What came back to the model.

    Attributes:
        shown: The picture it was shown: one, or none. Of a `Finish`: all the pages of the run.
        text: What it was told beside it.
        problems: What was wrong with its turn.
    """

    shown: tuple[Shown, ...] = ()
    text: str = ""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Thought:
    """The model reasoned; `turn` counts from 1. Where its turn holds no action, the observation says so."""

    turn: int
    text: str
    observation: Observation = Observation()


@dataclass(frozen=True)
class SearchStep:
    """The model searched, and was shown the best page it had not seen."""

    turn: int
    query: str
    observation: Observation = Observation()


@dataclass(frozen=True)
class Crop:
    """The model looked closer at a part of the last picture.

    Attributes:
        turn: Counts from 1.
        written: The box as it was written.
        box: The same as numbers, in pixels of the last picture; None when it could not be read.
        observation: What it was shown and told.
    """

    turn: int
    written: str
    box: PixelBox | None = None
    observation: Observation = Observation()


@dataclass(frozen=True)
class Finish:
    """The run is over: the model answered, or it had to end."""

    turn: int
    answer: Answer
    reason: Reason
    observation: Observation = Observation()


Step = Thought | SearchStep | Crop | Finish
KINDS: dict[str, type[Step]] = {"thought": Thought, "search": SearchStep, "crop": Crop, "finish": Finish}
"""What a step is called where it is kept or given to programs."""


def step_dict(step: Step) -> dict[str, Any]:
    """The step for programs: what was done, which page was shown how large, what the model was told.

    >>> step_dict(SearchStep(2, "totals"))
    {'turn': 2, 'kind': 'search', 'query': 'totals', 'shown': [], 'told': '', 'problems': []}
    """
    observed = step.observation
    return {
        "turn": step.turn,
        "kind": kind_of(step),
        **_what_was_done(step),
        "shown": list(map(_shown_dict, observed.shown)),
        "told": observed.text,
        "problems": [problem.name for problem in observed.problems],
    }


def kind_of(step: Step) -> str:
    """The step's name in `KINDS`."""
    return next(name for name, kind in KINDS.items() if type(step) is kind)


def _what_was_done(step: Step) -> dict[str, Any]:
    if isinstance(step, Thought):
        return {"text": step.text}
    if isinstance(step, SearchStep):
        return {"query": step.query}
    if isinstance(step, Finish):
        return {"answer": step.answer.text, "sufficient": step.answer.sufficient, "reason": step.reason}
    box = list(step.box) if step.box is not None else None
    return {"box": box, "written": step.written}


def _shown_dict(shown: Shown) -> dict[str, Any]:
    page = shown.page.page
    return {
        "source": page.source,
        "page": page.number,
        "doc_id": page.doc_id,
        "id": page.id,
        "score": shown.page.score,
        "region": list(shown.region),
        "size": list(shown.size),
    }
