"""An answer in a terminal, as it is written: first what the model is at, then the answer's words as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from visrag_integrations.cli import options, output
from visrag_integrations.errors import printable_lines
from visrag_integrations.generation.events import AnswerReady, PagesFound, SectionStarted, SectionText
from visrag_integrations.generation.evisrag import INSUFFICIENT
from visrag_integrations.types import Answer

if TYPE_CHECKING:
    from visrag_integrations.generation.events import Event

_DOING = {"observe": "looking at the pages", "evidence": "writing down what they say", "think": "thinking"}
"""What a section's beginning means, in words; the answer itself needs none."""


def written_live(events: Iterator[Event]) -> Answer:
    """The answer; its words were written to standard output as they came, what came before them told on standard error.

    Args:
        events: Of `VisRAG.stream`.
    """
    words: list[str] = []
    held = ""
    answer = Answer("")
    for event in events:
        if isinstance(event, PagesFound) and event.pages:
            options.note(f"reading {output.counted(len(event.pages), 'page')}")
        elif isinstance(event, SectionStarted):
            if event.section in _DOING:
                options.note(_DOING[event.section])
            elif words:  # a second answer, in place of the first
                words.clear()
                held = ""
                print()
        elif isinstance(event, SectionText) and event.section == "answer":
            words.append(event.text)
            held += event.text
            # What may become the mark for "no answer" is held back: it tells nobody what to do.
            if INSUFFICIENT.startswith("".join(words).strip().lower()):
                continue
            print(printable_lines(held), end="", flush=True)
            held = ""
        elif isinstance(event, AnswerReady):
            answer = event.answer
    said = "".join(words).strip()
    if said and not held:
        print()
    # Which of several texts is the answer, or that it is none, may be known only at its end.
    if held or said != answer.text.strip():
        print(output.answer_words(answer))
    return answer


def is_wanted(*, as_json: bool) -> bool:
    """Whether somebody looks on."""
    return sys.stdout.isatty() and not as_json
