"""`/search`: pages for queries; `GET` answers as VRAG's search engine does."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from visrag_integrations.errors import SettingError
from visrag_integrations.retrieval import Search
from visrag_integrations.servers.http.checks import check_is_here, check_text, check_top_k
from visrag_integrations.servers.http.schemas import RankedImage, SearchAnswer, SearchRequest
from visrag_integrations.servers.http.service import Service, presenter_for

Queries = Annotated[list[str], Query(description="What to search for; may be given several times.", min_length=1)]
TopK = Annotated[int, Query(ge=1, description="At most so many pages for each query.")]


def search_routes(service: Service) -> APIRouter:
    """The routes of searches."""
    router = APIRouter(tags=["search"])

    @router.get(
        "/search",
        response_model=list[list[RankedImage]],
        summary="Pages for several queries, as VRAG's search engine answers",
    )
    async def search_as_vrag(request: Request, queries: Queries, top_k: TopK = 10) -> Response:
        """One list for each query, in order, best page first."""
        settings, show = service.settings, presenter_for(request, service)
        if len(queries) > settings.max_queries:
            raise SettingError(
                f"{len(queries)} queries were given; at most {settings.max_queries} are allowed at once."
            )
        check_top_k(top_k, settings)
        for text in queries:
            check_text(text, settings, "A query")
        # All at once, so that they are one batch of the embedder.
        found = await asyncio.gather(*(service.batcher.find(Search(text, top_k)) for text in queries))
        if not settings.search_paths:
            return json_answer([show.ranked_images(hits) for hits in found])
        check_is_here(request)
        ranked = await asyncio.to_thread(lambda: [show.ranked_images(hits, service.paths) for hits in found])
        return json_answer(ranked)

    # Beside VRAG's `GET`: filters and pictures do not fit into an address.
    @router.post("/search", response_model=SearchAnswer, summary="Pages by text, picture or both")
    async def search(request: Request, body: SearchRequest) -> Response:
        """The pages that fit, best first."""
        show = presenter_for(request, service)
        hits = await service.search(body)
        note = None if hits else await service.filter_note(body)
        pages = [show.found(hit, details=body.details) for hit in hits]
        return json_answer({"pages": pages, "note": note})

    return router


def json_answer(values: Any) -> Response:
    """Values as the JSON that FastAPI would make of the model they belong to; they are our own, and right by test.

    Making models of them and checking those again took as long as all guards of the server together.
    """
    return Response(to_json(values, inf_nan_mode="null"), media_type="application/json")
