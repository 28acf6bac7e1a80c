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
from visrag_integrations.servers.web.telling import page_fields
from visrag_integrations.types import Answer, Evidence, Page, ScoredPage

logger = logging.getLogger(__name__)

PICTURES = "visrag://pages/{page_id}/image"
"""The resource that holds a page's picture."""
MAX_PIXELS = 1_600_000
"""Of a picture in a tool's result: enough to read a page's text, and what models take at once."""
_BEGINNING = 300


def found(hits: Sequence[ScoredPage], *, with_pictures: bool) -> CallToolResult:
    """The result of `search_pages`."""
    lines = [f"{rank}. {_hit_line(hit)}" for rank, hit in enumerate(hits, 1)]
    content: list[ContentBlock] = [_text("\n".join(lines) or "No page was found.")]
    for rank, hit in enumerate(hits, 1) if with_pictures else ():
        content += [_text(f"Picture of {rank}:"), *_picture(hit.page)]
    return CallToolResult(content=content, structured_content={"pages": [_hit(hit) for hit in hits]})


def read(page: Page, region: Sequence[float] | None) -> CallToolResult:
    """The result of `read_page`."""
    text = page.text.strip() or "(no text is known of this page; look at the picture)"
    what = "" if region is None else f"; the picture is its part {[round(edge, 4) for edge in region]}"
    picture = _picture(page, region)
    if not picture:
        what += "; no picture of it is kept"
    return CallToolResult(
        content=[_text(f"{_place(page)} (id {page.id}){what}\n\n{inert(text)}"), *picture],
        structured_content={**page_fields(page), "text": page.text, "image": _address(page)},
    )


def answered(answer: Answer) -> CallToolResult:
    """The result of `ask`."""
    lines = [answer.text or "(no answer)"]
    lines += ["", "The pages do not hold the answer."] if not answer.sufficient else []
    relevant = [evidence for evidence in answer.evidence if evidence.relevant]
    if relevant:
        lines += ["", "Evidence", *map(_evidence_line, relevant)]
    lines += ["", "Pages read", *(f"[{i}] {_place(h.page)} (id {h.page.id})" for i, h in enumerate(answer.pages, 1))]
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
        logger.warning("the picture of page %s cannot be opened", page.id, exc_info=True)
        return []
    if region is not None:
        left, top, right, bottom = region
        try:
            image = images.crop(image, (left, top, right, bottom))
        except SettingError as err:
            raise SettingError(f"region is {list(region)}: give left < right and top < bottom, from 0 to 1.") from err
    data = images.encode(images.fit(image, MAX_PIXELS), "JPEG")
    return [ImageContent(type="image", data=base64.b64encode(data).decode("ascii"), mime_type="image/jpeg")]


def _text(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _hit(hit: ScoredPage) -> dict[str, Any]:
    score = {"score": float(hit.score), "score_type": hit.score_type}
    return {**page_fields(hit.page), **score, "image": _address(hit.page)}


def _evidence(evidence: Evidence) -> dict[str, Any]:
    page = page_fields(evidence.page) if evidence.page else {"id": None, "source": None, "page": None}
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
    verdict = f" ({evidence.grounding.verdict})" if evidence.grounding is not None else ""
    return f"[{evidence.page_index}] {evidence.text}{verdict}"


def _hit_line(hit: ScoredPage) -> str:
    words = inert_line(hit.page.text)
    beginning = words if len(words) <= _BEGINNING else words[: _BEGINNING - 3] + "..."
    return f"{_place(hit.page)} (id {hit.page.id}, {hit.score_type} {hit.score:.3f})\n   {beginning}"


def _place(page: Page) -> str:
    fields = page_fields(page)
    return f"{inert(printable(fields['source'] or fields['doc_id']))}, page {page.number}"


def _address(page: Page) -> str:
    return PICTURES.replace("{page_id}", page.id)
