"""Pages and answers as MCP content: always text, pictures beside it for clients that take them, and the values."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from typing import Any

from mcp.types import CallToolResult, ContentBlock, ImageContent, TextContent

from visrag_integrations import images
from visrag_integrations.errors import PictureError, SettingError, printable
from visrag_integrations.generation.inert import inert, inert_line
from visrag_integrations.grounding import grounding_dict
from visrag_integrations.scores.shown import shown_score
from visrag_integrations.servers.web.public import page_fields
from visrag_integrations.types import Answer, Evidence, Page, ScoredPage

logger = logging.getLogger(__name__)

PICTURES = "visrag://pages/{page_id}/image"
"""The resource that holds a page's picture."""
MAX_PIXELS = 1_600_000
"""Of a picture in a tool's result: enough to read a page's text, and what models take at once."""
# Characters of a page in a list of results. The list is read by a model that pays for each: enough to see what the page
# is about, and `read_page` gives all of it.
_BEGINNING = 300


def pages_result(hits: Sequence[ScoredPage], *, with_pictures: bool, note: str = "") -> CallToolResult:
    """The result of `search_pages`; `note` says what the filter did where nothing was found."""
    lines: list[str] = []
    pictures: list[ContentBlock] = []
    for rank, hit in enumerate(hits, 1):
        lines.append(f"{rank}. {_hit_line(hit)}")
        if with_pictures:
            pictures += [_text(f"Picture of {rank}:"), *_picture(hit.page)]
    text = _text("\n".join(lines) or f"No page was found. {note}".strip())
    return CallToolResult(content=[text, *pictures], structured_content={"pages": list(map(_hit, hits))})


def page_result(page: Page, region: Sequence[float] | None) -> CallToolResult:
    """The result of `read_page`."""
    heading = f"{_place(page)} (id {page.id})"
    if region is not None:
        heading += f"; the picture is its part {[round(edge, 4) for edge in region]}"
    picture = _picture(page, region)
    if not picture:
        heading += "; no picture of it is kept"
    text = page.text.strip() or "(no text is known of this page; look at the picture)"
    return CallToolResult(
        content=[_text(f"{heading}\n\n{inert(text)}"), *picture],
        structured_content={**page_fields(page), "text": page.text, "image": _address(page)},
    )


def answer_result(answer: Answer) -> CallToolResult:
    """The result of `ask`."""
    lines = [answer.text or "(no answer)"]
    if not answer.sufficient:
        lines += ["", "The pages do not hold the answer."]
    # Pages without anything relevant are in the values; as text they would only be more to read.
    relevant = [evidence for evidence in answer.evidence if evidence.relevant]
    if relevant:
        lines += ["", "Evidence", *map(_evidence_line, relevant)]
    if not answer.pages and answer.problems:  # a filter that fits no page, for example
        lines += ["", *answer.problems]
    lines += ["", "Pages read"]
    for index, hit in enumerate(answer.pages, 1):
        lines.append(f"[{index}] {_place(hit.page)} (id {hit.page.id})")
    values = {
        "answer": answer.text,
        "sufficient": answer.sufficient,
        "evidence": [_evidence(evidence) for evidence in answer.evidence],
        "pages": [_hit(hit) for hit in answer.pages],
        "problems": list(answer.problems),
    }
    return CallToolResult(content=[_text("\n".join(lines))], structured_content=values)


def jpeg(page: Page) -> bytes:
    """The page's picture as a JPEG file; one that is stored so is given as it is."""
    if page.picture is None:
        raise PictureError("This page was stored without a picture.")
    return images.encode(page.picture, "JPEG")


def _picture(page: Page, region: Sequence[float] | None = None) -> list[ContentBlock]:
    """The page's picture, or a part of it, small enough for a model; nothing where none can be had."""
    if page.picture is None:
        return []
    try:
        image = page.open_image()
    except PictureError:
        # The text still says what stands there; a result without a picture is better than none.
        logger.warning("the picture of page %s cannot be opened", page.id, exc_info=True)
        return []
    if region is not None:
        left, top, right, bottom = region
        try:
            image = images.crop(image, (left, top, right, bottom))
        except SettingError as err:
            raise SettingError(
                f"region is {list(region)}: give finite numbers, left < right and top < bottom, from 0 to 1."
            ) from err
    data = images.encode(images.fit(image, MAX_PIXELS), "JPEG")
    return [ImageContent(type="image", data=base64.b64encode(data).decode("ascii"), mime_type="image/jpeg")]


def _text(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _hit(hit: ScoredPage) -> dict[str, Any]:
    score = {"score": float(hit.score), "score_type": hit.score_type}
    return {**page_fields(hit.page), **score, "image": _address(hit.page)}


def _evidence(evidence: Evidence) -> dict[str, Any]:
    page: dict[str, Any] = {"id": None, "source": None, "page": None}  # the model named a page that it was not shown
    if evidence.page:
        page = page_fields(evidence.page)
    return {
        "index": evidence.page_index,
        "page_id": page["id"],
        "source": page["source"],
        "page": page["page"],
        "text": evidence.text,
        "relevant": evidence.relevant,
        **grounding_dict(evidence),
    }


def _evidence_line(evidence: Evidence) -> str:
    line = f"[{evidence.page_index}] {evidence.text}"
    if evidence.grounding is not None:
        line += f" ({evidence.grounding.verdict})"
    return line


def _hit_line(hit: ScoredPage) -> str:
    beginning = inert_line(hit.page.text)
    if len(beginning) > _BEGINNING:
        beginning = beginning[: _BEGINNING - 3] + "..."
    return f"{_place(hit.page)} (id {hit.page.id}, score {shown_score(hit.score)})\n   {beginning}"


def _place(page: Page) -> str:
    fields = page_fields(page)
    return f"{inert(printable(fields['source'] or fields['doc_id']))}, page {page.number}"


def _address(page: Page) -> str:
    return PICTURES.replace("{page_id}", page.id)
