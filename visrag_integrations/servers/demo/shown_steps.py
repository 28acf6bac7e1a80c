"""The steps of a model that searches by itself, as they are shown: in words, with the page or the close-up it saw."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from visrag_integrations import images
from visrag_integrations.agent import Crop, SearchStep, Shown, Step, Thought
from visrag_integrations.errors import PictureError
from visrag_integrations.servers.demo.conversation import KeptStep, StepKind
from visrag_integrations.servers.demo.picture_uri import picture_as_uri
from visrag_integrations.types import Box, Page

logger = logging.getLogger(__name__)

# Every step that follows sends all of them again, and a run has ten or so: large enough to be read when it is opened.
_PIXELS = 500_000
# What was off, for people: what the model is told is about tags and pixels, and may name a file of this machine.
_NOTES = {
    **dict.fromkeys(("empty", "no_action", "crossed_tags"), "It said nothing that could be done."),
    "cut_off": "It wrote too much and was cut off.",
    "several_actions": "It wanted several things at once; the first was done.",
    "empty_search": "It searched for nothing.",
    "repeated_search": "It had searched for the same words before.",
    "no_picture": "It wanted to look closer before it had a page.",
    **dict.fromkeys(("box_unreadable", "box_not_finite", "box_reversed"), "It named no part of the picture."),
    **dict.fromkeys(("box_empty", "box_outside"), "It named a part that is not on the picture."),
    "box_whole": "It asked for the whole picture again.",
    "unshowable": "The picture of this page cannot be opened.",
    **dict.fromkeys(("empty_answer", "no_answer"), "It gave no answer."),
}
"""Name of a problem -> one sentence; what is not here made no difference."""


@dataclass(frozen=True)
class ShownStep:
    """One step.

    Attributes:
        kind: What the model did.
        text: What it thought, or searched for.
        page: The page it was shown; None for none.
        region: Which part of that page; None for all of it.
        uri: The picture it was shown; "" for none.
        notes: What was off, in words.
    """

    kind: StepKind
    text: str
    page: Page | None = None
    region: Box | None = None
    uri: str = ""
    notes: tuple[str, ...] = ()


def shown_step(step: Step) -> ShownStep | None:
    """A step as it is shown; None for one that has nothing to show."""
    notes = tuple(_NOTES[problem.name] for problem in step.observation.problems if problem.name in _NOTES)
    if isinstance(step, Thought):
        if not step.text and not notes:
            return None
        return ShownStep("thought", step.text, notes=notes)
    if isinstance(step, SearchStep):
        return _with_picture("search", step.query, step.observation.shown, notes)
    if isinstance(step, Crop):
        return _with_picture("look", step.written, step.observation.shown, notes)
    return None


def kept_step(step: ShownStep) -> KeptStep:
    """What the browser keeps of it: its picture is cut from the page again."""
    return KeptStep(step.kind, step.text, step.page.id if step.page is not None else "", step.region)


def kept_again(step: KeptStep, page: Page | None) -> ShownStep:
    """A kept step as it was shown; without a picture where its page is gone."""
    uri = ""
    if page is not None and step.kind != "thought":
        uri = _cut_uri(page, step.region)
    return ShownStep(step.kind, step.text, page, step.region, uri)


def _with_picture(kind: StepKind, text: str, shown: tuple[Shown, ...], notes: tuple[str, ...]) -> ShownStep:
    if not shown:
        return ShownStep(kind, text, notes=notes or ("Nothing new was found.",))
    seen = shown[0]
    region = None if seen.whole else seen.region
    uri = ""
    if seen.picture is not None:
        uri = picture_as_uri(seen.picture, _PIXELS)
    return ShownStep(kind, text, seen.page.page, region, uri, notes)


def _cut_uri(page: Page, region: Box | None) -> str:
    try:
        picture = images.to_rgb(page.open_image())
    except (PictureError, OSError) as err:
        logger.warning("no picture of page %d of %r is shown: %s", page.number, page.source, err)
        return ""
    if region is not None:
        left, top, right, bottom = region
        # A browser may send a region thinner than a pixel.
        box = (
            min(int(left * picture.width), picture.width - 1),
            min(int(top * picture.height), picture.height - 1),
            max(round(right * picture.width), 1),
            max(round(bottom * picture.height), 1),
        )
        box = (box[0], box[1], max(box[0] + 1, box[2]), max(box[1] + 1, box[3]))
        picture = picture.crop(box)
    return picture_as_uri(picture, _PIXELS)
