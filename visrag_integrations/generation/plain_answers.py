"""What a general model wrote, without EVisRAG's tags, as an answer."""

from __future__ import annotations

from collections.abc import Sequence

from visrag_integrations.generation.refusals import says_insufficient
from visrag_integrations.types import Answer, ScoredPage


def plain_answer(written: str, pages: Sequence[ScoredPage]) -> Answer:
    """All of it is the answer, but for what a model thought before."""
    thinking, answer = _thought_and_answer(written)
    if not answer:
        problem = "the model wrote nothing"
        if thinking:
            problem = "the model thought, and was cut off before it answered; raise max_tokens"
        return Answer("", False, thinking=thinking, pages=tuple(pages), problems=(problem,), raw=written)
    return Answer(answer, not says_insufficient(answer), thinking=thinking, pages=tuple(pages), raw=written)


def _thought_and_answer(written: str) -> tuple[str, str]:
    """What a model that thinks first thought, and what it then answered; "" and all of it where it does not.

    >>> _thought_and_answer("<think>It is on page 2.</think>Twelve."), _thought_and_answer("Twelve.")
    (('It is on page 2.', 'Twelve.'), ('', 'Twelve.'))
    """
    text = written.strip()
    thought, end, answer = text.partition("</think>")  # some templates write the opening tag into the prompt
    if end:
        return thought.removeprefix("<think>").strip(), answer.strip()
    if text.startswith("<think>"):
        return text.removeprefix("<think>").strip(), ""
    return "", text
