"""What the page says about the models behind it, in words for people who never heard of them."""

from __future__ import annotations

from visrag_integrations.interfaces import Generator, PageEmbedder
from visrag_integrations.interfaces.embedders import reads_pixels
from visrag_integrations.interfaces.generators import only_quotes

NOTHING_YET = "There is nothing to search yet: add a document."
READING_YET = "The first pages are still being read. Ask again in a moment."
NEEDS_A_WRITER = "This model only quotes passages. Searching in several steps needs one that writes."

STEPS_HELP = "It looks for pages, looks closer and looks again until it knows. This takes longer."
NO_FOLLOW_UPS = "Each question is searched for as you type it: what only quotes cannot know what “it” stood for before."


def shown_name(name: str) -> str:
    """A model's name for visitors: of a folder on this machine only the last part.

    >>> shown_name("/srv/models/reader-7b"), shown_name("openbmb/EVisRAG-7B")
    ('reader-7b', 'openbmb/EVisRAG-7B')
    """
    slashed = name.replace("\\", "/")
    # "C:/models" of Windows too.
    if slashed.startswith(("/", ".", "~")) or slashed[1:3] == ":/":
        return slashed.rstrip("/").rpartition("/")[2] or "model"
    return name


def how_found(embedder: PageEmbedder) -> str:
    """How pages are found, as half a sentence: "Pages are found ..."."""
    if reads_pixels(embedder):
        return "by how they look"
    return "by their text"


def how_answered(generator: Generator) -> str:
    """What comes back for a question."""
    if only_quotes(generator):
        return "the best passage is quoted"
    return f"{shown_name(generator.name)} writes the answer"


def about(embedder: PageEmbedder, generator: Generator) -> str:
    """One sentence about both: what stands in the page's header."""
    return f"Pages are found {how_found(embedder)}, and {how_answered(generator)}."


def while_indexing(embedder: PageEmbedder) -> str:
    """What a visitor sees happen to a document that was added."""
    if reads_pixels(embedder):
        return "Wait until every page has been looked at: pages are found by how they look."
    return "Wait until every page has been read: pages are found by their text, scans too."
