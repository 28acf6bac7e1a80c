"""A run as a chat row: what LLaMA-Factory, ms-swift and `train_agent` learn from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from visrag_integrations.agent import PictureRules
from visrag_integrations.generation.chat import merged_parts, shown_pictures
from visrag_integrations.generation.pixel_boxes import parse_box
from visrag_integrations.training.reader_examples import PLACE
from visrag_integrations.training.reader_export import keep_picture
from visrag_integrations.types import Conversation

_BOX = re.compile(r"(<bbox>)(.*?)(</bbox>)", re.IGNORECASE | re.DOTALL)
_OPEN_ACTION = re.compile(r"<(search|bbox|answer)>(?!.*</\1>)", re.IGNORECASE | re.DOTALL)


def as_chat_row(conversation: Conversation, last: str, pictures: PictureRules, folder: Path) -> dict[str, Any]:
    """The row, its pictures in the folder's `images`.

    Args:
        conversation: What the last turn was written to.
        last: The last turn.
        pictures: How large the trained model sees pictures; boxes on them are scaled to that.
        folder: Where the pictures go.

    Returns:
        `{"messages": [{"role", "content"}], "images": [path]}`; `<image>` where a picture stands.
    """
    shown = shown_pictures(conversation, None)
    images: list[str] = []
    messages: list[dict[str, str]] = []
    before = after = (1, 1)  # of the last picture: as the expert saw it, and as the trained model does
    for message, parts in zip(conversation, merged_parts(conversation), strict=True):
        text = ""
        for part in parts:
            if part is None:
                picture = shown[len(images)]
                seen = pictures.grid.seen(picture)
                before, after = picture.size, seen.size
                images.append(keep_picture(seen, folder))
                text += PLACE
            else:
                text += part.replace(PLACE, "<image >")
        if message.role == "assistant":
            text = rescaled(text, before, after)
        messages.append({"role": message.role, "content": text})
    messages.append({"role": "assistant", "content": rescaled(closed(last.strip()), before, after)})
    return {"messages": messages, "images": images}


def closed(text: str) -> str:
    """With the closing tag that a stop string took away.

    >>> closed("<think>so</think><answer>12")
    '<think>so</think><answer>12</answer>'
    """
    found = _OPEN_ACTION.search(text)
    return text if found is None else f"{text}</{found[1].lower()}>"


def rescaled(text: str, before: tuple[int, int], after: tuple[int, int]) -> str:
    """The turn with its box for a picture of another size: scaled, whole pixels, inside the picture, as published.

    >>> rescaled("<bbox>[10, 20, 500, 900]</bbox>", (1000, 1000), (500, 400))
    '<bbox>[5, 8, 250, 360]</bbox>'
    """
    if before == after:
        return text

    def scale(found: re.Match[str]) -> str:
        box = parse_box(found[2])
        if isinstance(box, str):
            return found[0]
        numbers: list[str] = []
        for place, side in enumerate(box):
            most = after[place % 2]
            numbers.append(str(min(max(0, round(side * most / before[place % 2])), most)))
        return f"{found[1]}[{', '.join(numbers)}]{found[3]}"

    return _BOX.sub(scale, text)
