"""The `extractive` generator: no model, it quotes the passage of each page that shares most words with the question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visrag_integrations.errors import SettingError
from visrag_integrations.generation import vrag
from visrag_integrations.generation.evisrag import INSUFFICIENT, NOTHING_RELEVANT, build_prompt, question_of, quotable
from visrag_integrations.generation.passages import Passage, best_passages
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page

ENOUGH_TO_ANSWER = 0.5
"""The share of the question's words, rare ones weighing more, that a passage must hold to be the answer."""
ENOUGH_TO_QUOTE = 0.35
"""The share a passage must hold to be quoted as evidence."""
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
        asked = vrag.question_of(conversation)
        if asked is not None:
            yield self._turn(asked, conversation)
            return
        prompt, pages = _asked(conversation)
        question = question_of(prompt)
        passages = best_passages(question, [page.text if page else "" for page in pages])
        best = max(range(len(pages)), key=lambda i: _rank(passages[i], i), default=None)
        chosen = passages[best] if best is not None else None
        enough = chosen is not None and chosen.coverage >= self.threshold
        answer = quotable(chosen.text) if chosen is not None and enough else INSUFFICIENT
        if prompt != build_prompt(question):
            yield answer
            return
        yield f"<observe>{_observation(pages)}</observe>\n<evidence>\n"
        least = min(ENOUGH_TO_QUOTE, self.threshold)
        for number, passage in enumerate(passages, start=1):
            quoted = passage is not None and passage.coverage >= least
            yield f"[{number}]: {quotable(passage.text) if passage and quoted else NOTHING_RELEVANT}\n"
        reason = f"shares {_coverage(chosen):.0%} of the question's weighted words"
        needed = f"at least {self.threshold:.0%} are needed to answer"
        place = f"The best passage is on image {best + 1}; it" if chosen and best is not None else "No passage"
        reason = reason if chosen else "shares a word with the question"
        yield f"</evidence>\n<think>{place} {reason}; {needed}.</think>\n"
        yield f"<answer>{answer}</answer>"

    def _turn(self, question: str, conversation: Conversation) -> str:
        """One turn of the agent's protocol: search, or answer."""
        prompt, pages = _asked(conversation)
        passages = best_passages(question, [page.text if page else "" for page in pages])
        best = max((found for found in passages if found is not None), key=lambda found: found.score, default=None)
        if best is not None and best.coverage >= self.threshold:
            thought, act = (
                "A passage shares enough words with the question.",
                f"answer> {vrag.quotable(best.text)} </answer",
            )
        elif len(pages) >= MOST_SEARCHES or len(conversation) > 2 * MOST_SEARCHES or vrag.ANSWER_NOW in prompt:
            thought, act = "No passage shares enough words with the question.", f"answer> {INSUFFICIENT} </answer"
        else:
            thought, act = "I look for the question's words.", f"search> {vrag.quotable(question)} </search"
        return f"<think>{thought}</think><{act}>"


def _asked(conversation: Conversation) -> tuple[str, list[Page | None]]:
    """The last user turn's text, and every picture shown so far; None for one that is no page and so has no text."""
    turns = [message for message in conversation if message.role == "user"]
    prompt = next((message.text for message in reversed(turns) if message.text), "")
    parts = [part for message in turns for part in message.content if not isinstance(part, str)]
    return prompt, [part if isinstance(part, Page) else None for part in parts]


def _observation(pages: Sequence[Page | None]) -> str:
    with_text = sum(1 for page in pages if page is not None and page.text.strip())
    return f"Compared the question's words with the text of {with_text} of {len(pages)} images; looked at no picture."


def _rank(passage: Passage | None, place: int) -> float:
    """How good a passage is as the answer; a page that was found earlier gives a better one."""
    return -1.0 if passage is None else passage.score - 0.03 * place


def _coverage(passage: Passage | None) -> float:
    return passage.coverage if passage else 0.0
