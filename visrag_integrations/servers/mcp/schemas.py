"""What the tools take and give; the clients' schemas are made from this."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from visrag_integrations.servers.web.schemas import BoxesField, MissingField, SupportField, VerdictField

Text = Annotated[str, Field(min_length=1, max_length=4_000)]
QueryArgument = Annotated[Text, Field(description="What to look for, in plain words; any language.")]
QuestionArgument = Annotated[Text, Field(description="The question, as you would ask a person.")]
TopKArgument = Annotated[int, Field(ge=1, le=20, description="How many pages.")]
SourceArgument = Annotated[
    str | None, Field(max_length=2_000, description="Only pages of this document: its path or file name.")
]
FilterArgument = Annotated[
    dict[str, Any] | None, Field(description='Only pages with this metadata, such as {"number": {"lte": 5}}.')
]
WithPicturesArgument = Annotated[bool, Field(description="Also give the pictures of the pages, for models that see.")]
PageIdArgument = Annotated[str, Field(max_length=64, description="The id of a page, from search_pages or ask.")]
RegionArgument = Annotated[
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
    verdict: VerdictField = None
    support: SupportField = None
    boxes: BoxesField = []
    missing: MissingField = []


class GivenAnswer(BaseModel):
    """An answer with the evidence it rests on."""

    answer: str
    sufficient: bool
    evidence: list[FoundEvidence]
    pages: list[FoundPage]
    problems: list[str]
