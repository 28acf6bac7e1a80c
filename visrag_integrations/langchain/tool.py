"""`create_visrag_tool`: a search that an agent can call; it sees the pages it finds."""

# Without `from __future__ import annotations`: LangGraph reads the annotations of a tool's functions.
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field, field_validator

from visrag_integrations.langchain.content import pages_to_content

DESCRIPTION = "Search the documents. Gives the pages that fit the query best, as images."
NOTHING_FOUND = "No page fits this query."
NOT_SHOWN = "(Its image is shown by with_tool_pictures.)"
"""What stands for a picture in the message of a tool with `pictures=False`."""


class SearchPages(BaseModel):
    """The arguments of a search."""

    query: str = Field(description="What to look for, in words.")

    @field_validator("query")
    @classmethod
    def _not_empty(cls, query: str) -> str:
        # What is wrong with arguments is told to the model, which tries again; an error of the search ends the run.
        if not query.strip():
            raise ValueError("it is empty; say what to look for, in words.")
        return query


def create_visrag_tool(
    retriever: Runnable[Any, list[Document]],
    *,
    name: str = "search_pages",
    description: str = DESCRIPTION,
    pictures: bool = True,
    text_only: bool = False,
    max_pixels: int | None = None,
    max_bytes: int | None = None,
) -> BaseTool:
    """A tool for agents: a query in; for each page found a line of text and its image out.

    Args:
        retriever: Any retriever.
        name: As the agent calls it.
        description: Tells the agent when to call it.
        pictures: False leaves the images out of the tool's message, which a checkpointer writes down at every step;
            `with_tool_pictures(messages)` puts them in where the model is called.
        text_only: The text of every page instead of its image, for models that see none.
        max_pixels: Of an image; larger ones are scaled down.
        max_bytes: Of an image's file.

    The Documents themselves are the `artifact` of the tool's message.
    """

    def content(documents: list[Document]) -> list[dict[str, Any]]:
        if not documents:
            return [{"type": "text", "text": NOTHING_FOUND}]
        if not pictures and not text_only:
            return _captions(documents)
        return pages_to_content(documents, text_only=text_only, max_pixels=max_pixels, max_bytes=max_bytes)

    def search(query: str) -> tuple[list[dict[str, Any]], list[Document]]:
        documents = retriever.invoke(query)
        return content(documents), documents

    async def asearch(query: str) -> tuple[list[dict[str, Any]], list[Document]]:
        documents = await retriever.ainvoke(query)
        # In a thread: pictures are opened and become base64.
        return await run_in_executor(None, content, documents), documents

    return StructuredTool.from_function(
        func=search,
        coroutine=asearch,
        name=name,
        description=description,
        args_schema=SearchPages,
        response_format="content_and_artifact",
    )


def with_tool_pictures(
    messages: Sequence[BaseMessage], *, max_pixels: int | None = None, max_bytes: int | None = None
) -> list[BaseMessage]:
    """The messages as the model is to see them: with the pictures that a tool with `pictures=False` found.

    For a middleware of `create_agent`, or as `prompt=lambda state: with_tool_pictures(state["messages"])` of
    `create_react_agent`: the agent's state, and so its checkpoints, keep the short messages. LangGraph's
    `pre_model_hook` would not do, for what it gives is written down too.

    Args:
        messages: Of the agent's state; they stay as they are.
        max_pixels: Of a picture; larger ones are scaled down.
        max_bytes: Of a picture's file.
    """
    shown: list[BaseMessage] = []
    for message in messages:
        documents = _left_out(message)
        if documents:
            content: Any = pages_to_content(documents, max_pixels=max_pixels, max_bytes=max_bytes)
            message = message.model_copy(update={"content": content})
        shown.append(message)
    return shown


def _captions(documents: list[Document]) -> list[dict[str, Any]]:
    """What was found, without the pictures; a page that has none is its text."""
    return pages_to_content(map(_without_picture, documents), text_only=True)


def _without_picture(document: Document) -> Document:
    if not document.metadata.get("image"):
        return document
    return Document(id=document.id, page_content=NOT_SHOWN, metadata=document.metadata)


def _left_out(message: BaseMessage) -> list[Document]:
    """The Documents whose pictures the tool's message leaves out."""
    if not isinstance(message, ToolMessage) or not isinstance(message.artifact, list):
        return []
    texts = [block.get("text") for block in message.content if isinstance(block, Mapping)]
    if NOT_SHOWN not in texts:
        return []
    # Out of a checkpoint a Document comes as the dict of its fields.
    return [Document(**one) if isinstance(one, Mapping) else one for one in message.artifact]
