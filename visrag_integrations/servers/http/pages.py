"""`/pages`: a page and its picture, by id; nothing else can be had."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from typing import Any

from fastapi import APIRouter, Request, Response

from visrag_integrations.errors import PictureError
from visrag_integrations.images.urls import encoded
from visrag_integrations.servers.http.schemas import PageDetails
from visrag_integrations.servers.http.service import Service, presenter_for
from visrag_integrations.servers.web.public import public_metadata
from visrag_integrations.types import Page

_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture file.",
        "content": {kind: {} for kind in ("image/jpeg", "image/png", "image/webp", "image/gif")},
    },
    304: {"description": "The picture is still the one that If-None-Match names."},
}


class NotFoundError(Exception):
    """No page, or no picture, is there; its text is for the client."""


def page_routes(service: Service) -> APIRouter:
    """The routes of pages."""
    router = APIRouter(tags=["pages"], prefix="/pages")

    @router.get("/{page_id}", summary="What is known of a page")
    async def page(request: Request, page_id: uuid.UUID) -> PageDetails:
        """Its place, its text and its metadata."""
        found = await _page(service, page_id)
        fields = presenter_for(request, service).fields(found)
        return PageDetails(**fields, text=found.text, metadata=public_metadata(found))

    @router.get("/{page_id}/image", response_class=Response, responses=_PICTURE, summary="A page's picture")
    async def image(request: Request, page_id: uuid.UUID) -> Response:
        """The picture as it is stored; ask again with If-None-Match, which costs nothing when it is the same."""
        data, mime = await asyncio.to_thread(_picture, await _page(service, page_id))
        # Of the bytes themselves: a document that was indexed again may have another picture under the same id.
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Content-Security-Policy": "default-src 'none'"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=mime, headers=headers)

    return router


async def _page(service: Service, id_: uuid.UUID) -> Page:
    found = await service.page(str(id_))
    if found is None:
        raise NotFoundError("No page has this id. Ids are those of search results.")
    return found


def _picture(page: Page) -> tuple[bytes, str]:
    if page.picture is None:
        raise NotFoundError("This page was stored without a picture.")
    try:
        return encoded(page.picture)
    except PictureError as err:
        raise NotFoundError("The picture of this page is gone. Index its document again.") from err
