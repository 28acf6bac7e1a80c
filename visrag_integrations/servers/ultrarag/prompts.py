"""UltraRAG's prompts and picture paths as conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.generation.evisrag import evisrag_messages, pictures_marked, question_of
from visrag_integrations.servers.ultrarag.found_pages import FoundPages, Needs
from visrag_integrations.types import Conversation, Message, Page, Part

_QUESTION_LINE = "Question:"


@dataclass(frozen=True)
class PromptRules:
    """How prompts become conversations.

    Attributes:
        found: Where pages are by the paths of their pictures.
        system_prompt: The system turn; "" for none.
        image_tag: The mark in a prompt that a picture takes the place of; "" where pictures come first.
        published: Whether UltraRAG's wording of EVisRAG's prompt becomes the published one.
        words_only: Whether the generator reads words and sees no picture: pages without a text are read by OCR then,
            and of other prompts it gets the question alone, because instructions would be words to search for.
    """

    found: FoundPages
    system_prompt: str = ""
    image_tag: str = ""
    published: bool = True
    words_only: bool = False


def conversations_of(prompts: Sequence[Any], paths: Sequence[Any], rules: PromptRules) -> list[Conversation]:
    """One conversation a prompt.

    Args:
        prompts: In any of the shapes that UltraRAG sends; see `prompt_text`.
        paths: The paths of each prompt's pictures; prompts beyond the end have none, as UltraRAG has it.
        rules: How.

    Raises:
        SettingError: A prompt of another shape, or marks and pictures that do not fit together.
        PictureError: A picture that cannot be opened; it is not left out, because those after it would change places.
    """
    conversations: list[Conversation] = []
    for number, prompt in enumerate(prompts, 1):
        named = paths[number - 1] if number <= len(paths) else []
        pages = _pages(named, rules, number)
        conversation = _one(prompt_text(prompt, number), pages, rules, number)
        if rules.system_prompt:
            conversation = (Message((rules.system_prompt,), "system"), *conversation)
        conversations.append(conversation)
    return conversations


def prompt_text(prompt: Any, number: int = 1) -> str:
    """The text of a prompt: a string, or one of the dicts that a prompt server's message becomes.

    >>> prompt_text({"role": "user", "content": {"type": "text", "text": " How many? "}})
    'How many?'
    >>> prompt_text("How many?") == prompt_text({"content": "How many?"}) == prompt_text({"text": "How many?"})
    True

    Raises:
        SettingError: It has another shape.
    """
    found = prompt
    if isinstance(prompt, Mapping):
        found = prompt.get("content", prompt.get("text"))
    if isinstance(found, Mapping):
        found = found.get("text")
    if not isinstance(found, str):
        raise SettingError(
            f"Prompt {number} is {str(prompt)[:200]!r}. A prompt is a text, "
            '{"content": {"type": "text", "text": ...}}, {"content": "..."} or {"text": "..."}.'
        )
    return found.strip()


def turns_of(messages: Sequence[Any], system_prompt: str) -> Conversation:
    """A conversation of several turns as UltraRAG's `multiturn_generate` gets it.

    Raises:
        SettingError: A message of another shape, or of another role than system, user and assistant.
    """
    turns: list[Message] = []
    if system_prompt:
        turns.append(Message((system_prompt,), "system"))
    for number, message in enumerate(messages, 1):
        role: Any = "user"
        if isinstance(message, Mapping):
            role = message.get("role", "user")
        if role not in ("system", "user", "assistant"):
            raise SettingError(f"Message {number} has the role {role!r}; it is system, user or assistant.")
        turns.append(Message((prompt_text(message, number),), role))
    if not turns or turns[-1].role != "user":
        raise SettingError("The last message must be the user's: it is what is answered.")
    return tuple(turns)


def _one(text: str, pages: Sequence[Page], rules: PromptRules, number: int) -> Conversation:
    question = question_of(text)
    if rules.published and question != text:
        marks = pictures_marked(text)
        if marks and marks != len(pages):
            raise SettingError(_different(marks, "<image>", pages, number))
        return evisrag_messages(question, pages)
    tag = rules.image_tag
    if rules.words_only:
        if tag:
            text = text.replace(tag, "")
        return (Message((_question_line(text), *pages)),)
    if not tag:
        return (Message((*pages, text)),)
    parts = text.split(tag)
    if len(parts) - 1 != len(pages):
        raise SettingError(_different(len(parts) - 1, tag, pages, number))
    content: list[Part] = []
    # "Look at <image> and <image>." -> "Look at ", page 1, " and ", page 2, "."
    for place, part in enumerate(parts):
        if part.strip():
            content.append(part)
        if place < len(pages):
            content.append(pages[place])
    return (Message(tuple(content)),)


def _question_line(text: str) -> str:
    """What stands after the last line that begins with "Question:"; all of it where no line does.

    >>> _question_line("Think step by step.\\n\\nQuestion: How many?")
    'How many?'
    """
    _, heading, question = f"\n{text}".rpartition(f"\n{_QUESTION_LINE}")
    if not heading or not question.strip():
        return text
    return question.strip()


def _pages(named: Any, rules: PromptRules, number: int) -> list[Page]:
    """The pages of one prompt's pictures, in order."""
    if isinstance(named, str):
        named = [named]
    if not isinstance(named, Sequence):
        raise SettingError(f"The pictures of prompt {number} are {named!r}; give a list of paths.")
    needs: Needs = "text" if rules.words_only else "picture"
    pages: list[Page] = []
    for place, path in enumerate(named, 1):
        if not isinstance(path, str):
            raise SettingError(f"Picture {place} of prompt {number} is {path!r}; give its path.")
        try:
            pages.append(rules.found.page_at(path.strip(), needs))
        except PictureError as err:
            raise PictureError(
                f"Picture {place} of prompt {number} cannot be shown: {err} It is not left out, because the pictures "
                "after it would get other numbers. If these are texts, set is_multimodal: true for the retriever."
            ) from err
    return pages


def _different(marks: int, tag: str, pages: Sequence[Page], number: int) -> str:
    return f"Prompt {number} has {marks} times {tag} and {len(pages)} pictures; each picture needs one mark."
