"""Speaker notes of a slide: searched with it, at the end of its text, and on no picture of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTES_KEY = "speaker_notes"
"""The metadata key under which a page has its notes."""
NOTES_HEADING = "Speaker notes:"
"""What stands before them in the page's text."""


def with_notes(text: str, notes: str) -> str:
    """The text of a slide, with its notes at the end.

    >>> with_notes("Plan", "Say hello.")
    'Plan\\n\\nSpeaker notes:\\nSay hello.'
    """
    return f"{text}\n\n{NOTES_HEADING}\n{notes}".strip()


def notes_of(metadata: Mapping[str, Any]) -> str:
    """The notes of a page, by its metadata; "" where it has none."""
    notes = metadata.get(NOTES_KEY)
    if isinstance(notes, str):
        return notes.strip()
    return ""


def without_notes(text: str, notes: str) -> str:
    """What of a page's text is on its picture; a host may have cut the text anywhere.

    >>> without_notes("Plan\\n\\nSpeaker notes:\\nSay hello.", "Say hello.")
    'Plan\\n\\n'
    >>> without_notes("Plan\\n\\nSpeaker notes:\\nSay he", "Say hello."), without_notes("hello.", "Say hello.")
    ('Plan\\n\\n', '')
    """
    if not notes:
        return text
    # Hosts may write white space otherwise, so only words are compared.
    said = " ".join(notes.split())
    slide, heading, after = text.rpartition(NOTES_HEADING)
    if heading and said.startswith(" ".join(after.split())):
        return slide
    if " ".join(text.split()) in said:
        return ""  # a piece of the notes
    return text
