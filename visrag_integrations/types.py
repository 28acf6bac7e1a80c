"""The values that pass between the rooms: frozen, plain, with next to no behaviour."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union

from visrag_integrations import images
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.page_ids import id_of_given, id_of_page

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["dense", "lexical", "hybrid"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions (0 to 1) of the page's width and height, from its top left corner."""


class Word(NamedTuple):
    """A word (or an OCR line, where OCR gives no words) and where it stands on its page."""

    text: str
    box: Box


@dataclass(frozen=True)
class Page:
    """One page of a document: its picture and what is known about it.

    Attributes:
        doc_id: The document: sha256 of the file's bytes (hex) unless the caller chose one.
        number: The page's number, from 1.
        text: What can be read on the page; "" when there is none.
        source: The path or URI the document was read from, as it was given.
        metadata: Anything else, JSON-like (`total_pages`, `page_label`, the caller's own keys).
        words: Every word with its box, in reading order; may be empty.
        tenant: Whose page this is, where one collection serves several; "" otherwise.
        given_id: The id a host framework gave it, any string; "" for a page known by its document and number.
        picture: Where the pixels are; `open_image` opens it.
    """

    doc_id: str
    number: int
    text: str = ""
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[Word] = field(default=(), repr=False)
    tenant: str = ""
    picture: images.PictureSource | None = field(default=None, repr=False, compare=False)
    given_id: str = ""

    def __post_init__(self) -> None:
        if self.number < 1:
            raise SettingError(f"Page numbers start at 1, not {self.number}.")
        if not self.doc_id:
            raise SettingError('A page needs a doc_id that is not empty, for example doc_id="report-2024".')

    @functools.cached_property
    def id(self) -> str:
        """The same page always has the same id (a UUID), so indexing it again overwrites it."""
        if self.given_id:
            return id_of_given(self.given_id, self.tenant)
        return id_of_page(self.doc_id, self.number, self.tenant)

    def open_image(self) -> Image:
        """The page's picture, opened now; the caller may change or close it.

        Raises:
            PictureError: The page has no picture, or it cannot be opened.
        """
        if self.picture is None:
            raise PictureError(
                f"Page {self.number} of {self.source or self.doc_id!r} has no picture. "
                "It was stored without one; index the document again with pictures kept."
            )
        return images.open_picture(self.picture)

    @classmethod
    def from_image(cls, image: images.PictureSource, *, doc_id: str, number: int = 1, **fields: Any) -> Page:
        """A page from a picture you already hold (PIL image, encoded bytes, or a path); no pixel is changed."""
        return cls(doc_id=doc_id, number=number, picture=image, **fields)


@dataclass(frozen=True)
class Query:
    """What to search for: a text, a picture (a crop, another page), or both."""

    text: str = ""
    image: images.PictureSource | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise SettingError(f"The query's text is {type(self.text).__name__} {self.text!r}. Give a text.")
        if isinstance(self.image, (int, float, list, tuple, dict, set)):
            raise SettingError(
                f"The query's image is {type(self.image).__name__} {self.image!r}. Give a PIL image, the bytes of a "
                'picture file, or its Path("crop.png").'
            )
        if not self.text.strip() and self.image is None:
            raise SettingError("The query is empty. Give it a text, an image, or both.")


@dataclass(frozen=True)
class ScoredPage:
    """A page that was found, with the score of the way it was searched.

    Attributes:
        page: The page, as the store holds it.
        score: Higher is better; comparable only within one result list.
        score_type: What the score is: "cosine", "maxsim", "bm25", "fused", or a reranker's, "rerank".
    """

    page: Page
    score: float
    score_type: str = "cosine"


@dataclass(frozen=True)
class StoredDocument:
    """One document as a store holds it.

    Attributes:
        doc_id: The document.
        sources: Every path or URI it was indexed from.
        pages: How many of its pages are stored.
        total_pages: How many pages the document has; None when it was not said.
    """

    doc_id: str
    sources: tuple[str, ...]
    pages: int
    total_pages: int | None = None


class PageText(str):
    """The text of a page, as it stands in a prompt beside the page's picture: no part of what is asked."""

    __slots__ = ()


Part = Union[str, "Image", Page]
"""One part of a message: text, a picture, or a page (shown as its picture; text-only generators read its text)."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: text and pictures in the order the model sees them."""

    content: tuple[Part, ...]
    role: Literal["system", "user", "assistant"] = "user"

    @property
    def text(self) -> str:
        """The text parts, joined by newlines: what is said, without the texts of pages."""
        return "\n".join(part for part in self.content if isinstance(part, str) and not isinstance(part, PageText))

    @property
    def pages(self) -> tuple[Page, ...]:
        """The parts that are pages, in order."""
        return tuple(part for part in self.content if isinstance(part, Page))


Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class Usage:
    """Tokens that went in (pictures included) and came out."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Generation:
    """What a generator wrote, or, while streaming, a piece of it.

    Attributes:
        text: The text; of a streamed piece, only what is new.
        logprob: Mean token log-probability of the whole text; None when the engine does not say (or not yet).
        usage: Tokens in and out; None when the engine does not say (or not yet).
        finish_reason: "stop", "length" (cut off at the token limit), or None while streaming.
    """

    text: str
    logprob: float | None = None
    usage: Usage | None = None
    finish_reason: str | None = None


@dataclass(frozen=True)
class GenerationSettings:
    """How to write. None leaves a setting at the generator's own default.

    Attributes:
        max_tokens: At most so many new tokens.
        temperature: 0 is greedy.
        top_p: Nucleus sampling.
        repetition_penalty: 1.0 is none.
        seed: For repeatable sampling.
        stop: Strings that end the text.
        guided: Hold the model to EVisRAG's four tags, one evidence line per picture, where the engine can.
        json_schema: The text must be JSON of this schema; only for generators whose `supports` names "json_schema".
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    guided: bool = False
    json_schema: Mapping[str, Any] | None = field(default=None, hash=False)


Verdict = Literal["supported", "in the speaker notes", "partly", "not found on the page", "unchecked"]
"""Whether a page holds what is said of it; "unchecked" where there is nothing to check it against."""


@dataclass(frozen=True)
class Grounding:
    """Where a piece of evidence stands on its page, and how much of it does.

    Attributes:
        verdict: "supported": all of it stands there. "in the speaker notes": all of it stands in the notes of a slide,
            which are on no picture. "partly": some of it stands there, or its numbers or names do not.
        support: The share of it that stands there, from 0 to 1; numbers, units and names weigh most.
        boxes: Around what was found, one per line, in reading order.
        missing: The parts of the evidence's text (start, end) that do not stand there.
        note: What is missing or why it was not checked, in words; "" when nothing is to be said.
    """

    verdict: Verdict
    support: float = 0.0
    boxes: tuple[Box, ...] = ()
    missing: tuple[tuple[int, int], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Evidence:
    """What the model says it found on one of the pages it was shown.

    Attributes:
        page_index: The picture's place among those shown, from 1, as the model counts.
        text: The evidence in the model's words.
        relevant: False where the model says the page holds nothing about the question.
        page: The page itself, when the pages were given to the parser.
        grounding: Where it stands on that page, once `ground` has looked.
    """

    page_index: int
    text: str
    relevant: bool = True
    page: Page | None = None
    grounding: Grounding | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Answer:
    """An answer with the evidence it rests on.

    Attributes:
        text: The answer; "" when the model gave none.
        sufficient: False when the model says the pages do not hold the answer, or gave none.
        evidence: One entry per page the model spoke of, in its order.
        thinking: The model's reasoning.
        observation: What the model saw, before it recorded evidence.
        pages: The pages it was shown, best first.
        problems: What was wrong with the form of the model's text, in words; empty where nothing was.
        raw: The model's text, untouched.
    """

    text: str
    sufficient: bool = True
    evidence: tuple[Evidence, ...] = ()
    thinking: str = ""
    observation: str = ""
    pages: tuple[ScoredPage, ...] = ()
    problems: tuple[str, ...] = ()
    raw: str = ""

    def __str__(self) -> str:
        """The answer's text, or the model's where no answer could be read in it."""
        return self.text or self.raw


@dataclass(frozen=True)
class Failure:
    """A document or page that could not be indexed, by name and reason."""

    source: str
    error: str
    page: int | None = None
