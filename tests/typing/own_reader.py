"""A reader of a user's own, and where it goes: it must type-check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image

from visrag_integrations import Page
from visrag_integrations.interfaces import DocumentReader


class Mine:
    def read(self, source: Any) -> Iterator[Page]:
        yield Page.from_image(Image.new("RGB", (8, 8)), doc_id=str(source))


def first(reader: DocumentReader) -> Page:
    return next(reader.read("a"))


page = first(Mine())
