"""`create_visrag_tool`: a search that an agent can call; it sees the pages it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.langchain.messages import page_to_block

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.runnables import Runnable

DESCRIPTION = "Search the documents. Gives the pages that fit the query best, as images."


class SearchPages(BaseModel):
    """The arguments of a search."""

    query: str = Field(description="What to look for, in words.")


def create_visrag_tool(
    retriever: Runnable[Any, list[Document]], *, name: str = "search_pages", description: str = DESCRIPTION
) -> BaseTool:
    """A tool for agents: a query in; for each page found a line of text and its image out.

    Args:
        retriever: Any retriever.
        name: As the agent calls it.
        description: Tells the agent when to call it.

    The Documents themselves are the `artifact` of the tool's message.
    """

    def search(query: str) -> tuple[list[dict[str, Any]], list[Document]]:
        documents = retriever.invoke(query)
        return _content(documents), documents

    async def asearch(query: str) -> tuple[list[dict[str, Any]], list[Document]]:
        documents = await retriever.ainvoke(query)
        # In a thread: pictures are opened and become base64.
        return await run_in_executor(None, _content, documents), documents

    return StructuredTool.from_function(
        func=search,
        coroutine=asearch,
        name=name,
        description=description,
        args_schema=SearchPages,
        response_format="content_and_artifact",
    )


def _content(documents: list[Document]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for place, document in enumerate(documents, start=1):
        page = document_to_page(document)
        # The text before each picture tells the agent what it may cite.
        content.append({"type": "text", "text": f"[{place}] {page.source or page.doc_id}, page {page.number}:"})
        content.append(page_to_block(page))
    return content or [{"type": "text", "text": "No page fits this query."}]
