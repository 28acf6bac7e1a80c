"""The share of evidence that stands on its page, as `ground()` sees it: a reward, a measure, and a filter of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from visrag_integrations import ocr
from visrag_integrations.errors import MissingExtraError
from visrag_integrations.generation.evisrag import parse_evidence
from visrag_integrations.grounding import ground
from visrag_integrations.training.reader_examples import ReaderExample
from visrag_integrations.types import Answer, Page


def support_reward(response: str, pages: Sequence[Page]) -> float | None:
    """The share of the evidence that its page holds, from 0 to 1; 0 without evidence.

    None where nothing can be checked: the pages have no words.

    >>> page = Page("d", 1, text="The orchestra has 12 violins, four harps and a piano.")
    >>> support_reward("<evidence>[1]: 12 violins, four harps</evidence><answer>12</answer>", [page])
    1.0
    """
    if not any(page.text.strip() or page.words for page in pages):
        return None
    return evidence_support(parse_evidence(response, pages)) or 0.0


def evidence_support(answer: Answer) -> float | None:
    """The share of an answer's evidence that is supported; None where it has none that can be checked."""
    checked = supported = 0
    for entry in ground(answer).evidence:
        if entry.relevant and entry.grounding is not None and entry.grounding.verdict != "unchecked":
            checked += 1
            supported += entry.grounding.verdict == "supported"
    if not checked:
        return None
    return supported / checked


def pages_with_words(example: ReaderExample) -> list[Page]:
    """An example's pages, with the words that their texts say, or that OCR reads where there are none.

    Raises:
        MissingExtraError: There are no texts, and no OCR.
    """
    pages: list[Page] = []
    for number, picture in enumerate(example.pictures, 1):
        text = example.page_texts[number - 1] if number <= len(example.page_texts) else ""
        page = Page.from_image(picture, doc_id=f"{example.where}, picture {number}", number=1, text=text)
        if not text.strip():
            if not ocr.is_installed():
                raise MissingExtraError("RapidOCR, which reads pages that come without page_texts,", "cpu")
            with page.open_image() as image:
                page = dataclasses.replace(page, words=ocr.read_words(image))
        pages.append(page)
    return pages
