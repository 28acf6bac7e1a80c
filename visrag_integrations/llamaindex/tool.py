"""`create_visrag_tool`: a search that an agent can call; it sees the pages it finds."""

# No `from __future__ import annotations` here: LlamaIndex makes the tool's schema from the annotations of its function.
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import TextBlock
from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.schema import NodeWithScore
from llama_index.core.tools import FunctionTool
from llama_index.core.utils import get_cache_dir

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.retrievers import is_retriever
from visrag_integrations.llamaindex.prompt_content import nodes_to_content
from visrag_integrations.llamaindex.retriever import VisRAGRetriever

DESCRIPTION = "Search the documents. Gives the pages that fit the query best, as images."


class SearchPages(BaseModel):
    """The arguments of a search."""

    query: str = Field(description="What to look for, in words.")


def create_visrag_tool(
    retriever: Any,
    *,
    name: str = "search_pages",
    description: str = DESCRIPTION,
    max_pixels: int | None = None,
    text_only: bool = False,
    image_dir: str | os.PathLike[str] | None = None,
) -> FunctionTool:
    """A tool for agents: a query in; for each page found a line of text and its image out.

    The images are files, and the tool's answer has their paths: so an agent's context stays small when it is kept
    (`ctx.to_dict()`), and can be taken up again on this machine.

    Args:
        retriever: Any retriever of LlamaIndex, or one of the core such as `PageRetriever`.
        name: As the agent calls it.
        description: Tells the agent when to call it.
        max_pixels: Of a picture; larger ones are scaled down.
        text_only: The pages' texts instead of their pictures, for models that see none.
        image_dir: Where pictures are kept that are no files yet; a folder in LlamaIndex's cache folder when None.
    """
    if not is_retriever(retriever):
        raise SettingError(
            f"retriever is {type(retriever).__name__}, without retrieve(). Give VisRAGRetriever(...), another "
            "retriever of LlamaIndex, or PageRetriever(embedder, store)."
        )
    searched = retriever if isinstance(retriever, BaseRetriever) else VisRAGRetriever(retriever)
    folder = image_dir or Path(get_cache_dir(), "visrag_pictures")

    def content(nodes: Sequence[NodeWithScore]) -> list[Any]:
        blocks: list[Any] = list(nodes_to_content(nodes, max_pixels=max_pixels, text_only=text_only, image_dir=folder))
        return blocks or [TextBlock(text="No page fits this query.")]

    def search(query: str) -> list[Any]:
        return content(searched.retrieve(query))

    async def asearch(query: str) -> list[Any]:
        # In a thread: pictures are opened and may be written.
        return await asyncio.to_thread(content, await searched.aretrieve(query))

    return FunctionTool.from_defaults(
        fn=search, async_fn=asearch, name=name, description=description, fn_schema=SearchPages
    )
