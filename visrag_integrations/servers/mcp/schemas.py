"""What the tools take and give; the clients' schemas are made from this."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from visrag_integrations.types import Verdict

Text = Annotated[str, Field(min_length=1, max_length=4_000)]
Query = Annotated[Text, Field(description="What to look for, in plain words; any language.")]
Question = Annotated[Text, Field(description="The question, as you would ask a person.")]
TopK = Annotated[int, Field(ge=1, le=20, description="How many pages.")]
Source = Annotated[
    str | None, Field(max_length=2_000, description="Only pages of this document: its path or file name.")
]
Filter = Annotated[
    dict[str, Any] | None, Field(description='Only pages with this metadata, such as {"number": {"lte": 5}}.')
]
WithPictures = Annotated[bool, Field(description="Also give the pictures of the pages, for models that see.")]
PageId = Annotated[str, Field(max_length=64, description="The id of a page, from search_pages or ask.")]
Region = Annotated[
    list[float] | None,
    Field(
        min_length=4,
        max_length=4,
        description="Left, top, right, bottom as fractions of the page from its top left corner: only this part of "
        "the picture, in full resolution, to read small print.",
    ),
]


class FoundPage(BaseModel):
    """A page that was found."""

    id: str
    doc_id: str
    source: str
    page: int
    score: float
    score_type: str
    image: str = Field(description="The resource that holds its picture.")


class FoundPages(BaseModel):
    """The pages that fit, best first."""

    pages: list[FoundPage]


class ReadPage(BaseModel):
    """A page and its text."""

    id: str
    doc_id: str
    source: str
    page: int
    text: str
    image: str = Field(description="The resource that holds its picture.")


class FoundEvidence(BaseModel):
    """What was found on one of the pages that were read."""

    index: int
    page_id: str | None
    source: str | None
    page: int | None
    text: str
    relevant: bool
    verdict: Verdict | None = Field(None, description="Whether it stands on its page; null where that was not checked.")
    support: float | None = Field(None, description="The share of it that stands there, from 0 to 1.")
    boxes: list[tuple[float, float, float, float]] = Field(
        [], description="Where: left, top, right, bottom as fractions of the page."
    )
    missing: list[str] = Field([], description="Its parts that do not stand there.")


class GivenAnswer(BaseModel):
    """An answer with the evidence it rests on."""

    answer: str
    sufficient: bool
    evidence: list[FoundEvidence]
    pages: list[FoundPage]
    problems: list[str]
