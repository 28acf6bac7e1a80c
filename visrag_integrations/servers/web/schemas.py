"""The fields that answers of every server have in common: how a piece of evidence was checked against its page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from visrag_integrations.types import Verdict

VerdictField = Annotated[
    Verdict | None, Field(description="Whether it stands on its page; null where that was not checked.")
]
SupportField = Annotated[float | None, Field(description="The share of it that stands there, from 0 to 1.")]
BoxesField = Annotated[
    list[tuple[float, float, float, float]],
    Field(description="Where: left, top, right, bottom as fractions of the page."),
]
MissingField = Annotated[list[str], Field(description="Its parts that do not stand there.")]
