"""The `extractive` generator: no model, it quotes the passage of each page that shares most words with the question."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from visrag_integrations.errors import SettingError
from visrag_integrations.generation import vrag
from visrag_integrations.generation.evisrag import (
    INSUFFICIENT,
    NOTHING_RELEVANT,
    build_prompt,
    pictures_marked,
    question_of,
    quotable,
)
from visrag_integrations.generation.passages import Passage, best_passages
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page

# Both shares protect the meaning of "quoted": lower, and pages that share a common word with the question count as
# evidence; higher, and a question that is worded otherwise than its page finds nothing.
ENOUGH_TO_ANSWER = 0.5
"""The share of the question's words, rare ones weighing more, that a passage must hold to be the answer."""
ENOUGH_TO_QUOTE = 0.35
"""The share a passage must hold to be quoted as evidence."""
# A tie goes to the page that was found first, and so does a near tie: retrieval, which saw the page as a whole, is
# trusted over small differences between passages.
_LOSS_PER_PLACE = 0.03
MOST_SEARCHES = 3
"""Pages that are asked for, one by one, when the prompt is the agent's."""


class ExtractiveGenerator:
    """For trying things out without a GPU: it finds words, it understands nothing and sees no picture.

    For each page it quotes the passage of the page's *text* that covers the question's words best, in EVisRAG's output
    format, and answers with the best of them word for word. Below a threshold it says `insufficient to answer`. A page
    without text holds nothing for it. Asked by the agent (`VRAGAgent`), it searches for the question until a page holds
    the answer, three times at most. The same input always gives the same output; settings such as `temperature` are
    ignored. To have a model look at the pages: `load_generator("openbmb/EVisRAG-7B")`.

    Args:
        threshold: The share of the question's words (from 0 to 1, rare ones weighing more) needed to answer.
    """

    name = "extractive"
    only_quotes = True

    def __init__(self, *, threshold: float = ENOUGH_TO_ANSWER) -> None:
        if not 0 < threshold <= 1:
            raise SettingError(f"threshold is {threshold!r}; it is a share above 0 and at most 1, for example 0.5.")
        self.threshold = threshold

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """One answer per conversation, in order."""
        return [Generation("".join(self._pieces(conversation)), finish_reason="stop") for conversation in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """The answer in pieces; the last one is empty and says that it is the last."""
        for piece in self._pieces(conversation):
            yield Generation(piece)
        yield Generation("", finish_reason="stop")

    def _pieces(self, conversation: Conversation) -> Iterator[str]:
        question = vrag.question_of(conversation)
        if question is not None:
            yield self._turn(question, conversation)
            return
        prompt, pages = _asked(conversation)
        question = question_of(prompt)
        passages = best_passages(question, [_text_of(page) for page in pages])
        best = _best_place(passages)
        chosen = None if best is None else passages[best]
        answer = INSUFFICIENT
        if chosen is not None and chosen.coverage >= self.threshold:
            answer = quotable(chosen.text)
        if prompt != build_prompt(question) and pictures_marked(prompt) is None:  # a plain question: a plain answer
            yield answer
            return
        yield f"<observe>{_observation(pages)}</observe>\n<evidence>\n"
        for number, passage in enumerate(passages, start=1):
            yield f"[{number}]: {self._quotation(passage)}\n"
        if best is None or chosen is None:
            found = "No passage shares a word with the question"
        else:
            share = f"{chosen.coverage:.0%} of the question's weighted words"
            found = f"The best passage is on image {best + 1}; it shares {share}"
        yield f"</evidence>\n<think>{found}; at least {self.threshold:.0%} are needed to answer.</think>\n"
        yield f"<answer>{answer}</answer>"

    def _quotation(self, passage: Passage | None) -> str:
        if passage is None or passage.coverage < min(ENOUGH_TO_QUOTE, self.threshold):
            return NOTHING_RELEVANT
        return quotable(passage.text)

    def _turn(self, question: str, conversation: Conversation) -> str:
        """One turn of the agent's protocol: search, or answer."""
        prompt, pages = _asked(conversation)
        passages = best_passages(question, [_text_of(page) for page in pages])
        best = max(filter(None, passages), key=lambda passage: passage.score, default=None)
        if best is not None and best.coverage >= self.threshold:
            thought = "A passage shares enough words with the question."
            action = f"<answer> {vrag.quotable(best.text)} </answer>"
        elif len(pages) >= MOST_SEARCHES or len(conversation) > 2 * MOST_SEARCHES or vrag.ANSWER_NOW in prompt:
            thought = "No passage shares enough words with the question."
            action = f"<answer> {INSUFFICIENT} </answer>"
        else:
            thought = "I look for the question's words."
            action = f"<search> {vrag.quotable(question)} </search>"
        return f"<think>{thought}</think>{action}"


def _asked(conversation: Conversation) -> tuple[str, list[Page | None]]:
    """The last user turn's text, and every picture shown so far; None for one that is no page and so has no text."""
    prompt = ""
    pages: list[Page | None] = []
    for message in conversation:
        if message.role != "user":
            continue
        prompt = message.text or prompt  # a turn that only shows pictures asks nothing new
        for part in message.content:
            if isinstance(part, Page):
                pages.append(part)
            elif not isinstance(part, str):
                pages.append(None)
    return prompt, pages


def _text_of(page: Page | None) -> str:
    return "" if page is None else page.text


def _observation(pages: Sequence[Page | None]) -> str:
    with_text = sum(bool(_text_of(page).strip()) for page in pages)
    return f"Compared the question's words with the text of {with_text} of {len(pages)} images; looked at no picture."


def _best_place(passages: Sequence[Passage | None]) -> int | None:
    """Where the passage stands that answers best; None where no page has one."""
    best, highest = None, -math.inf
    for place, passage in enumerate(passages):
        if passage is None:
            continue
        score = passage.score - _LOSS_PER_PLACE * place
        if score > highest:
            best, highest = place, score
    return best
