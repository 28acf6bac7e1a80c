"""Late-interaction models that only a server has: their names, and how each is served and asked.

Their checkpoints need code of their own, or a network that transformers does not have; vLLM has the networks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedModel:
    """One model, as vLLM serves it.

    Attributes:
        architecture: vLLM's name of the network.
        since: The first vLLM that has it, where that is known.
        page_text: Sent after a page's picture.
        texts_as: How a question is sent: "input" without the chat template, "messages" with it.
        dimension: Numbers of a vector, where that is known; else the server is asked.
    """

    architecture: str
    page_text: str = ""
    texts_as: str = "input"
    dimension: int | None = None


SERVED: dict[str, ServedModel] = {}
