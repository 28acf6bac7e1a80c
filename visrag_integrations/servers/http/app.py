"""The server as a FastAPI app: routes behind the guards of `web`."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from visrag_integrations import __version__
from visrag_integrations.errors import VisRAGError
from visrag_integrations.servers.http.ask import ask_routes
from visrag_integrations.servers.http.batching import QueryBatcher
from visrag_integrations.servers.http.metrics import Metrics
from visrag_integrations.servers.http.observe import HEALTH, UNCOUNTED, Observe
from visrag_integrations.servers.http.operations import operation_routes
from visrag_integrations.servers.http.pages import NotFoundError, page_routes
from visrag_integrations.servers.http.schemas import ErrorAnswer
from visrag_integrations.servers.http.search import search_routes
from visrag_integrations.servers.http.service import Service
from visrag_integrations.servers.http.settings import ServeSettings
from visrag_integrations.servers.web.access import LimitRate, RequireToken
from visrag_integrations.servers.web.asgi import error_body
from visrag_integrations.servers.web.hosts import AllowHosts
from visrag_integrations.servers.web.limits import LimitBody, LimitConcurrency, LimitTime
from visrag_integrations.servers.web.public import public_error

if TYPE_CHECKING:
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.retrieval import PageRetriever

logger = logging.getLogger(__name__)

_STATUSES = {
    400: "Not HTTP, or not JSON.",
    401: "No token, or a wrong one.",
    404: "There is no such page, or nothing at this address.",
    405: "Not with this method.",
    408: "The request's body came too slowly.",
    413: "The request's body is too large.",
    421: "The server is not called that.",
    422: "Something in the request is not allowed; the message says what.",
    429: "Too many requests; Retry-After says when to come again.",
    500: "The server failed; its log says why.",
    501: "A package is missing on the server.",
    502: "The generator failed.",
    503: "The server is busy, or the index cannot be reached; come again.",
    504: "It took too long.",
}
_KINDS = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed"}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning} for status, meaning in _STATUSES.items()
}


def create_app(retriever: PageRetriever, rag: VisRAG | None = None, settings: ServeSettings | None = None) -> FastAPI:
    """A server over what the retriever finds.

    Run it with uvicorn, or mount it; closing the retriever's store stays with you.

    >>> app = create_app(PageRetriever(embedder, store), settings=ServeSettings(tokens=("...",)))  # doctest: +SKIP

    Args:
        retriever: Finds the pages; with a filter of its own, only pages that fit it can be had at all.
        rag: Answers questions; without it there is no `/ask`. If it has the same retriever, its questions are embedded
            together with the searches.
        settings: What is allowed.
    """
    settings, metrics = settings or ServeSettings(), Metrics()
    batcher = QueryBatcher(retriever, settings.max_batch, metrics.batch)
    service = Service(retriever, settings, metrics, batcher)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="visrag",
        summary="Search documents as page images, and answer from them.",
        version=__version__,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses=_RESPONSES,
    )
    # For the description only: `RequireToken` checks them, also where there is no route.
    secured = [Depends(HTTPBearer(auto_error=False))] if settings.tokens else []
    app.include_router(search_routes(service), dependencies=secured)
    if rag is not None:
        app.include_router(ask_routes(service, _batched(rag, retriever, batcher)), dependencies=secured)
    app.include_router(page_routes(service), dependencies=secured)
    app.include_router(operation_routes(service), dependencies=secured)
    _add_guards(app, settings, metrics)
    _add_error_handlers(app)
    return app


def _batched(rag: VisRAG, retriever: PageRetriever, batcher: QueryBatcher) -> VisRAG:
    """The same, with its questions embedded by the batcher, where they would be by the same retriever."""
    if rag.retriever is not retriever:
        return rag
    batched = copy.copy(rag)
    batched.retriever = batcher
    return batched


def _add_guards(app: FastAPI, settings: ServeSettings, metrics: Metrics) -> None:
    """From the innermost to the outermost.

    Who may ask is checked before anything of a request is kept; places are taken when its body is there, so that a
    slow one takes none; time runs from the body to the last byte. `Observe` sees what each of them refuses.
    """
    # `/ask` ends its streams itself, with an event that says so; this cuts off only what does not end then.
    app.add_middleware(LimitTime, seconds=settings.request_seconds, of_path={"/ask": settings.ask_seconds + 5})
    app.add_middleware(
        LimitConcurrency,
        limit=settings.max_concurrency,
        open_paths=UNCOUNTED,
        on_refusal=metrics.overloaded.inc,
    )
    app.add_middleware(LimitBody, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds, bare_paths=HEALTH)
    app.add_middleware(LimitRate, rate=settings.requests_per_second, burst=settings.burst, open_paths=UNCOUNTED)
    app.add_middleware(RequireToken, tokens=settings.tokens, open_paths=HEALTH)
    app.add_middleware(AllowHosts, hosts=settings.hosts)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match"],
        )
    app.add_middleware(Observe, metrics=metrics)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(VisRAGError)
    async def refused(_: Request, error: VisRAGError) -> JSONResponse:
        public = public_error(error)
        if public.status >= 500:
            logger.error("a request failed", exc_info=error)
        headers: dict[str, str] = {}
        if public.status == 503:
            # A store or an embedder that is started again needs some seconds; asking sooner only adds to its work.
            headers["Retry-After"] = "5"
        return _error(public.status, public.kind, public.message, headers)

    @app.exception_handler(NotFoundError)
    async def not_found(_: Request, error: NotFoundError) -> JSONResponse:
        return _error(404, "not_found", str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems: list[str] = []
        for problem in error.errors()[:5]:  # a long list of wrong values makes as many
            place = ".".join(map(str, problem["loc"]))
            problems.append(f"{place}: {problem['msg']}")
        return _error(422, "invalid_request", "; ".join(problems))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        kind = _KINDS.get(error.status_code, "invalid_request")
        return _error(error.status_code, kind, str(error.detail), error.headers)


def _error(status: int, kind: str, message: str, headers: Any = None) -> JSONResponse:
    return JSONResponse(error_body(kind, message), status, headers=headers)
