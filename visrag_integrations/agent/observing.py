"""What a run's model is shown and told: problems with a turn or a box, and pages and crops as parts of a message."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from visrag_integrations.agent.pictures import Cut
from visrag_integrations.agent.problems import problem, quoted
from visrag_integrations.agent.steps import WHOLE, Problem, Shown
from visrag_integrations.errors import PictureError
from visrag_integrations.generation.pixel_boxes import PixelBox, box_problem
from visrag_integrations.generation.shown_pages import file_name
from visrag_integrations.generation.vrag import Turn
from visrag_integrations.types import Part, ScoredPage

logger = logging.getLogger(__name__)


def remarks_on(turn: Turn) -> list[Problem]:
    """What is off about a turn that can be carried out all the same."""
    return [problem(name, count=len(turn.actions)) for name in turn.problems]  # only one of them has a {count}


def wrong_with(turn: Turn) -> list[Problem]:
    """Why a turn cannot be carried out."""
    action = turn.action
    if action is None:
        return remarks_on(turn)
    return [*remarks_on(turn), problem(action.flaw or "empty_answer", tag=action.name)]


def wrong_box(written: str, box: PixelBox | str, size: tuple[int, int]) -> list[Problem]:
    """What is wrong with a box on a picture of this size: one problem, or none."""
    width, height = size
    if isinstance(box, str):
        name = box  # why its text is no box
    else:
        name = box_problem(box, width, height)
    if not name:
        return []
    return [problem(name, written=quoted(written), width=width, height=height)]


def on_one_line(text: str) -> str:
    """Model text on one line, without control characters."""
    letters: list[str] = []
    for letter in text:
        if not letter.isprintable():
            letter = " "
        letters.append(letter)
    return " ".join("".join(letters).split())


def looked(open_cut: Callable[..., Cut], *arguments: Any) -> Cut | str:
    """The picture, or why it cannot be shown."""
    try:
        return open_cut(*arguments)
    except PictureError as err:
        logger.warning("a page's picture cannot be shown to the model: %s", err)
        return "it cannot be opened"  # the error names the file, and those who ask a server read this


def shown_as(hit: ScoredPage, cut: Cut | str) -> Shown:
    """A page, or a part of it, as the model sees it; as its text where its picture cannot be shown."""
    if isinstance(cut, str):
        return Shown(hit, WHOLE, (0, 0))
    return Shown(hit, cut.region, cut.picture.size, cut.picture)


def unshowable(hit: ScoredPage, cut: Cut | str) -> list[Problem]:
    """What the model is told of a picture that cannot be shown: one problem, or none."""
    if not isinstance(cut, str):
        return []
    page = hit.page
    return [problem("unshowable", page=f"page {page.number} of {quoted(file_name(page))}", reason=cut)]


def as_part(shown: Shown) -> Part:
    """A whole page stays a page, so that a generator that sees nothing can read its text; a crop is its pixels."""
    if shown.whole or shown.picture is None:
        return dataclasses.replace(shown.page.page, picture=shown.picture)
    return shown.picture
