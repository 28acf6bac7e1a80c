"""`/health` and `/metrics`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from visrag_integrations.servers.http.schemas import Health
from visrag_integrations.servers.http.service import Service

_UNAVAILABLE: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "The index does not answer."}}


def operation_routes(service: Service) -> APIRouter:
    """The routes for whoever runs the server."""
    router = APIRouter(tags=["operations"])

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Health:
        """Always ok."""
        return Health(status="ok")

    @router.get("/health/ready", responses=_UNAVAILABLE, summary="Whether searches can be answered")
    @router.get("/health", responses=_UNAVAILABLE, summary="The same as /health/ready")
    async def ready(response: Response) -> Health:
        """Asks the index, at most once a second."""
        if await service.ready():
            return Health(status="ok")
        response.status_code = 503
        return Health(status="unavailable")

    @router.get("/metrics", response_class=Response, summary="Numbers for Prometheus")
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
