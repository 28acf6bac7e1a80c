"""`/ask` by the agent: it searches and looks closer by itself; its steps can be had as they happen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from visrag_integrations.agent import Trace, VRAGAgent
from visrag_integrations.grounding import ground
from visrag_integrations.servers.http.schemas import AgentAnswer
from visrag_integrations.servers.web.filters import with_filter_note
from visrag_integrations.servers.web.stored import within

if TYPE_CHECKING:
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.servers.http.schemas import AskRequest
    from visrag_integrations.servers.http.service import Presenter, Service
    from visrag_integrations.types import Answer


def agent_for(body: AskRequest, rag: VisRAG, service: Service) -> VRAGAgent:
    """The agent of this request: the server's models, within the request's filter."""
    return VRAGAgent(service.retriever, rag.generator, filter=within(body.filter), settings=rag.settings)


async def agent_answer(body: AskRequest, rag: VisRAG, show: Presenter, service: Service) -> AgentAnswer:
    """The whole run."""
    trace = await agent_for(body, rag, service).arun(body.question)
    return show.agent_answer(trace, await checked(trace, body, service))


async def checked(trace: Trace, body: AskRequest, service: Service) -> Answer:
    """The answer with its evidence checked, and with what the filter did where nothing was found."""
    answer = await asyncio.to_thread(with_filter_note, trace.answer, service.retriever, body.filter)
    return await asyncio.to_thread(ground, answer)
