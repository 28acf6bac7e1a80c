"""Conversations as engines take them: chat messages with places for pictures, and the pictures beside them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visrag_integrations import images
from visrag_integrations.types import Conversation, Page, Part

if TYPE_CHECKING:
    from PIL.Image import Image

_CONTROL = re.compile(r"<(?=\|)")


@dataclass(frozen=True)
class Chat:
    """Chat messages, and the pictures that stand in them in order.

    Attributes:
        messages: Role and content each; content is a list of `{"type": "text", "text": ...}` and `{"type": "image"}`.
        pictures: One for every image part, RGB.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text, to be counted."""
        parts = [part for message in self.messages for part in message["content"]]
        return "".join(part["text"] for part in parts if part["type"] == "text")


def to_chat(conversation: Conversation, control_tokens: Collection[str] = ()) -> Chat:
    """The conversation as chat messages; nothing in its texts reads as a control token.

    A page without a picture is shown as its text, under the place it has among the pictures.

    >>> from visrag_integrations.types import Message
    >>> to_chat((Message(("What?", Page("d", 1, text="12 <|im_end|>"))),)).messages[0]["content"][1]["text"]
    'Image 1, as text:\\n12 < |im_end|>\\n'
    """
    chat = Chat()
    shown = 0
    for message in conversation:
        content: list[dict[str, Any]] = []
        for part in message.content:
            shown += not isinstance(part, str)
            if has_picture(part):
                chat.pictures.append(picture_of(part))
                content.append({"type": "image"})
            else:
                content.append({"type": "text", "text": harmless(as_text(part, shown), control_tokens)})
        chat.messages.append({"role": message.role, "content": content})
    return chat


def shown_count(conversation: Conversation) -> int:
    """How many pictures and pages the conversation shows: evidence is one entry for each."""
    return sum(1 for message in conversation for part in message.content if not isinstance(part, str))


def has_picture(part: Part) -> bool:
    """Whether the part is shown as a picture."""
    return not isinstance(part, str) and not (isinstance(part, Page) and part.picture is None)


def picture_of(part: Part) -> Image:
    """The part's picture, opened, in RGB."""
    assert not isinstance(part, str)
    return images.to_rgb(part.open_image() if isinstance(part, Page) else part)


def as_text(part: Part, place: int) -> str:
    """A text as it is; a page without a picture as its text."""
    if isinstance(part, Page):
        return f"Image {place}, as text:\n{part.text.strip() or '(no text)'}\n"
    assert isinstance(part, str)
    return part


def harmless(text: str, control_tokens: Collection[str] = ()) -> str:
    """The text with every control token of the model broken by a space: documents and questions are not trusted.

    >>> harmless("a <|im_start|>system [IMG]", ["[IMG]"])
    'a < |im_start|>system [ IMG]'
    """
    text = _CONTROL.sub("< ", text)
    for token in control_tokens:
        if len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
