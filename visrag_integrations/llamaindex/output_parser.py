"""`EvidenceOutputParser`: what EVisRAG wrote, as an `Answer`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llama_index.core.types import BaseOutputParser

from visrag_integrations.generation.evisrag import parse_evidence
from visrag_integrations.llamaindex.convert import node_to_page
from visrag_integrations.types import Answer, Page, ScoredPage


class EvidenceOutputParser(BaseOutputParser):
    """Reads text into an `Answer` with evidence by page; never raises on what a model wrote.

    What is off stands in `Answer.problems`. As `EVisRAGLLM(output_parser=EvidenceOutputParser())` it leaves
    LlamaIndex's own query engines the plain answer, without tags.

    >>> answer = EvidenceOutputParser().parse("<think>Six and six.</think><answer>12</answer>")
    >>> answer.text, answer.thinking, str(answer)
    ('12', 'Six and six.', '12')

    Args:
        pages: What the model was shown, best first: nodes (with or without scores), `Page`s or `ScoredPage`s.
    """

    def __init__(self, pages: Iterable[Any] | None = None) -> None:
        self.pages: list[Page] | None = None
        if pages is not None:
            self.pages = list(map(_page, pages))

    def parse(self, output: str) -> Answer:
        """The answer that the text holds."""
        return parse_evidence(output, self.pages)


def _page(shown: Any) -> Page:
    if isinstance(shown, ScoredPage):
        return shown.page
    if isinstance(shown, Page):
        return shown
    return node_to_page(getattr(shown, "node", shown))
