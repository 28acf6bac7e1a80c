"""`/ask`: an answer with its evidence, whole or as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from pydantic_core import to_json

from visrag_integrations.agent import Step, Trace
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.events import (
    AnswerReady,
    Event,
    EvidenceFound,
    PagesFound,
    SectionStarted,
    SectionText,
)
from visrag_integrations.generation.strategies import find_strategy
from visrag_integrations.grounding import ground
from visrag_integrations.servers.http.agent import agent_answer, agent_for, checked
from visrag_integrations.servers.http.checks import check_text, check_top_k
from visrag_integrations.servers.http.schemas import AgentAnswer, AskAnswer, AskRequest
from visrag_integrations.servers.http.service import Presenter, Service, presenter_for
from visrag_integrations.servers.web.asgi import error_body
from visrag_integrations.servers.web.filters import check_filter, with_filter_note
from visrag_integrations.servers.web.public import public_error
from visrag_integrations.servers.web.stored import within

if TYPE_CHECKING:
    from visrag_integrations.rag import VisRAG

# What a stream tells: of an answer its parts, of the agent its steps and then the whole run.
_Told = Event | Step | Trace

logger = logging.getLogger(__name__)

_EVENT = {
    "description": "One event.",
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["pages", "section", "text", "evidence", "step", "answer", "error"]},
        "data": {"type": "string", "description": "JSON; of `answer` the same as without `stream`."},
    },
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream`, events: pages, section, text, evidence, step, answer, error.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}


def ask_routes(service: Service, rag: VisRAG) -> APIRouter:
    """The routes of questions."""
    router = APIRouter(tags=["ask"])

    @router.post(
        "/ask", response_model=AgentAnswer | AskAnswer, responses=_STREAM, summary="An answer with its evidence"
    )
    async def ask(request: Request, body: AskRequest) -> Any:
        """Reads the pages that fit the question, and answers from them."""
        check_text(body.question, service.settings, "question")
        check_top_k(body.top_k, service.settings)
        check_filter(body.filter)
        show, only = presenter_for(request, service), within(body.filter)
        asked = _as_asked(body, rag)
        if body.agent and not body.stream:
            return await agent_answer(body, rag, show, service)
        if not body.stream:
            answer = await asked.aask(body.question, body.top_k, only)
            answer = await asyncio.to_thread(with_filter_note, answer, service.retriever, body.filter)
            return show.answer(body.question, await asyncio.to_thread(ground, answer))
        events: AsyncGenerator[_Told, None]
        if body.agent:
            events = agent_for(body, rag, service).astream(body.question)
        else:
            events = asked.astream(body.question, body.top_k, only)
        first = await anext(events)  # what fails before it has a status of its own
        return EventStream(_lines(first, events, body, show, service))

    return router


def _as_asked(body: AskRequest, rag: VisRAG) -> VisRAG:
    """The same, with the pages shown as the request says.

    Raises:
        SettingError: The agent is asked, which shows pages in its own way.
        UnknownNameError: There is no such strategy.
    """
    if body.strategy is None:
        return rag
    if body.agent:
        raise SettingError("strategy is for answers without the agent, which shows pages in its own way. Leave it out.")
    strategy = find_strategy(body.strategy)
    own = getattr(rag.strategy, "__name__", "")  # a partial function has none
    if own.startswith(f"{body.strategy}_"):  # the server's own budget of the same one
        return rag
    other = copy.copy(rag)
    other.strategy = strategy
    return other


class EventStream(StreamingResponse):
    """Closes what it streams, however it ends, so that the generator stops when the client goes away."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__(lines, media_type="text/event-stream")
        self._lines = lines

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with contextlib.aclosing(self._lines):
            await super().__call__(scope, receive, send)


async def _lines(
    first: _Told, events: AsyncGenerator[_Told, None], body: AskRequest, show: Presenter, service: Service
) -> AsyncGenerator[bytes, None]:
    """Server-sent events; a comment where nothing happened for a while; what fails is the last event."""
    settings = service.settings
    try:
        yield await _line(first, body, show, service)
        async for event in with_heartbeat(events, settings.heartbeat_seconds, settings.ask_seconds):
            if event is None:
                yield b": still here\n\n"  # a comment; proxies close connections that are silent
            else:
                yield await _line(event, body, show, service)
    except asyncio.TimeoutError:
        # The status was sent long ago: what goes wrong now can only be an event.
        message = f"No answer within {settings.ask_seconds:g} seconds. Try again later."
        yield _event("error", error_body("timeout", message))
    except Exception as err:
        logger.exception("an answer failed while it was streamed")
        public = public_error(err)
        yield _event("error", error_body(public.kind, public.message))
    finally:
        await events.aclose()  # stops the generator, also when the client left


async def with_heartbeat(
    events: AsyncGenerator[_Told, None], every: float, seconds: float
) -> AsyncIterator[_Told | None]:
    """The events, and None whenever none came for a while.

    Raises:
        asyncio.TimeoutError: They did not end in time.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    step: asyncio.Future[_Told] | None = None
    try:
        while True:
            # The same step is waited for again after a heartbeat: cancelling it would end the generator.
            step = step or asyncio.ensure_future(anext(events))
            left = end - loop.time()
            done, _ = await asyncio.wait({step}, timeout=max(0.0, min(every, left)))
            if not done and left <= every:
                raise asyncio.TimeoutError
            if not done:
                yield None
                continue
            try:
                event = step.result()
            except StopAsyncIteration:
                return
            step = None
            yield event
    finally:
        if step is not None and not step.done():
            step.cancel()
            await asyncio.wait({step})


async def _line(event: _Told, body: AskRequest, show: Presenter, service: Service) -> bytes:
    match event:
        case PagesFound(pages):
            return _event("pages", {"pages": [show.hit(hit) for hit in pages]})
        case SectionStarted(section):
            return _event("section", {"section": section})
        case SectionText(section, text):
            return _event("text", {"section": section, "text": text})
        case EvidenceFound(evidence):
            return _event("evidence", show.evidence(evidence))
        case AnswerReady(answer):
            answer = await asyncio.to_thread(with_filter_note, answer, service.retriever, body.filter)
            answer = await asyncio.to_thread(ground, answer)
            return _event("answer", show.answer(body.question, answer))
        case Trace():
            return _event("answer", show.agent_answer(event, await checked(event, body, service)))
        case _:
            return _event("step", show.step(event))


def _event(name: str, value: BaseModel | dict[str, Any]) -> bytes:
    return b"event: " + name.encode("ascii") + b"\ndata: " + to_json(value) + b"\n\n"
