"""Conversations written out as the prompts of models that run on this machine: chat template, pictures, tokens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import CheckpointError, GenerationError
from visrag_integrations.generation.budget import PictureGrid, share_tokens
from visrag_integrations.generation.defaults import MAX_IMAGES
from visrag_integrations.generation.inert import inert
from visrag_integrations.images import open_picture, to_rgb
from visrag_integrations.types import Conversation, GenerationSettings, Page, PageText, Part

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.images import PictureSource


@dataclass(frozen=True)
class WrittenPrompt:
    """What a model reads.

    Attributes:
        text: The chat template filled in; a picture's place is the model's own placeholder.
        pictures: In the order of their places, fitted to the context.
        max_tokens: How many tokens may be written behind it.
        tokens: How many it takes; None where the model's way of counting pictures is not known.
    """

    text: str
    pictures: tuple[Image, ...]
    max_tokens: int
    tokens: int | None = None


class PromptWriter:
    """Writes conversations out for one model.

    Args:
        processor: transformers' processor of the model, with its tokenizer and chat template.
        context_length: Tokens of prompt and answer together.
        max_images: Pictures in one conversation.
    """

    def __init__(self, processor: Any, context_length: int, max_images: int = MAX_IMAGES) -> None:
        self.processor = processor
        self.context_length = context_length
        self.max_images = max_images
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._grid = PictureGrid.of(getattr(processor, "image_processor", None))
        self._control = control_tokens(self._tokenizer)
        if getattr(processor, "chat_template", None) is None:
            raise CheckpointError(
                "The checkpoint has no chat template (chat_template.jinja, or in tokenizer_config.json). "
                "Copy the one of the model it was made from."
            )

    def write(self, conversation: Conversation, settings: GenerationSettings, written: str = "") -> WrittenPrompt:
        """The prompt, its pictures fitted to the context; `written` is the beginning of the answer.

        Raises:
            GenerationError: It does not fit; the message says what does.
        """
        pictures = shown_pictures(conversation, self.max_images)
        turns = []
        for message, parts in zip(conversation, merged_parts(conversation), strict=True):
            turns.append({"role": message.role, "content": self._content(parts)})
        text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + written
        words = len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        room = self._room(words, settings)
        if not pictures:
            return WrittenPrompt(text, (), settings.max_tokens or room, words)
        if self._grid is None:
            return WrittenPrompt(text, tuple(pictures), settings.max_tokens or room)
        fitted = fit_pictures(self._grid, pictures, room)
        taken = words
        for picture in fitted:
            taken += self._grid.tokens(*picture.size)
        left = self.context_length - taken
        return WrittenPrompt(text, tuple(fitted), min(settings.max_tokens or left, left), taken)

    def _room(self, words: int, settings: GenerationSettings) -> int:
        """Tokens left for pictures, once the answer has its share: a quarter at most, unless pictures need less."""
        # More for the answer would shrink the pages until it has nothing to say; less, and it is cut off.
        most = self.context_length // 4
        answer = min(settings.max_tokens or most, most)
        room = self.context_length - words - answer
        if room < 1:
            raise GenerationError(
                f"The text alone takes {words} of {self.context_length} tokens, which leaves too few for pictures and "
                f"an answer. At most {self.context_length - answer} fit. Shorten the text, show fewer pages, or raise "
                "the generator's context_length if the model allows it."
            )
        return room

    def _content(self, parts: Sequence[str | None]) -> list[dict[str, str]]:
        content = []
        for part in parts:
            if part is None:
                content.append({"type": "image"})
            else:
                content.append({"type": "text", "text": without_control(part, self._control)})
        return content


def merged_parts(conversation: Conversation) -> list[list[str | None]]:
    """Per message its texts, neighbours joined, and None where a picture stands; a page without picture is its text.

    >>> from visrag_integrations.types import Message
    >>> merged_parts((Message(("Read:", Page("a", 1, "seven"), Page("a", 2, "", picture=b"..."))),))
    [['Read:\\n\\nPage 1:\\nseven', None]]
    """
    turns = []
    shown = 0  # pages and pictures so far; both are counted, as the model counts "image 2"
    for message in conversation:
        parts: list[str | None] = []
        for part in message.content:
            shown += not isinstance(part, str)
            text = _text_of(part, shown)
            if text is not None and parts and parts[-1] is not None:
                between = "\n"
                if isinstance(part, (Page, PageText)):
                    between = "\n\n"
                parts[-1] += between + text
            else:
                parts.append(text)
        turns.append(parts)
    return turns


def _text_of(part: Part, number: int) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, Page) and part.picture is None:
        return f"Page {number}:\n{inert(part.text)}"
    return None


def shown_pictures(conversation: Conversation, max_images: int | None) -> list[Image]:
    """The pictures a conversation shows, opened, in order.

    Raises:
        GenerationError: They are more than `max_images`.
    """
    return [to_rgb(open_picture(source)) for source in picture_sources(conversation, max_images)]


def picture_sources(conversation: Conversation, max_images: int | None) -> list[PictureSource]:
    """Where the pictures are that a conversation shows, in order.

    Raises:
        GenerationError: They are more than `max_images`.
    """
    sources: list[PictureSource] = []
    for message in conversation:
        for part in message.content:
            source = part.picture if isinstance(part, Page) else part
            if source is not None and not isinstance(source, str):
                sources.append(source)
    if max_images is not None:
        check_image_count(len(sources), max_images)
    return sources


def fit_pictures(grid: PictureGrid, pictures: Sequence[Image], budget: int) -> list[Image]:
    """The pictures, scaled down where they take more than so many tokens together.

    Raises:
        GenerationError: Not even small ones fit.
    """
    shares = share_tokens([grid.tokens(*picture.size) for picture in pictures], budget)
    return list(map(grid.fit, pictures, shares))


def check_image_count(count: int, allowed: int) -> None:
    """Nothing, unless a conversation shows too many pictures.

    Raises:
        GenerationError: It does; the message says what fits.
    """
    if count > allowed:
        raise GenerationError(
            f"{count} pictures in one conversation; at most {allowed} are allowed. Show fewer pages (top_k={allowed}), "
            f"or make the generator with max_images={count} if the model can take so many."
        )


def without_control(text: str, control: re.Pattern[str] | None) -> str:
    """Text that no tokenizer takes for a control token: an invisible space goes behind its first character."""
    if control is None:
        return text
    return control.sub(lambda match: match[0] + "\u200b", text)


def shortened(settings: GenerationSettings, prompt: WrittenPrompt) -> GenerationSettings:
    """The settings with as many tokens as the prompt leaves."""
    return dataclasses.replace(settings, max_tokens=prompt.max_tokens)


def control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """What a text must not contain: the tokens that have a meaning to the model."""
    added: Iterable[Any] = getattr(tokenizer, "added_tokens_decoder", {}).values()
    tokens = {str(token) for token in added if getattr(token, "special", False)}
    tokens |= set(getattr(tokenizer, "all_special_tokens", ()))
    # The longest first, so that none is cut by one it begins with. Tokens of one or two characters, such as a blank or
    # "\n\n" in some vocabularies, are common text.
    found = sorted((re.escape(token) for token in tokens if len(token) > 2), key=len, reverse=True)
    if not found:
        return None
    # Only the first character is taken in, so that a token is found that begins inside another one.
    return re.compile(rf"(?=(?:{'|'.join(found)}))(?s:.)")
