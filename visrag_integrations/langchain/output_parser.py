"""`EvidenceOutputParser`: what EVisRAG wrote, as an `Answer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import model_validator

from visrag_integrations.generation.evisrag import parse_evidence, prompt_template
from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.langchain.evidence import raw_text
from visrag_integrations.langchain.opening import check_fields
from visrag_integrations.types import Answer, Page, ScoredPage

_QUESTION = "Question: {query}"


class EvidenceOutputParser(BaseCumulativeTransformOutputParser[Answer]):
    """Reads messages or strings into an `Answer` with evidence by page; never raises on what a model wrote.

    While text streams in it gives ever more complete answers. What is off stands in `Answer.problems`.

    >>> EvidenceOutputParser().invoke("<answer>12</answer>").text
    '12'
    """

    pages: Any = None
    """The pages the model was shown, best first: `Page`, `ScoredPage` or Documents of this package; None if unknown."""

    @model_validator(mode="before")
    @classmethod
    def _knows_all(cls, fields: Any) -> Any:
        check_fields(cls, fields, {"documents": "the pages are pages, Documents too."})
        return fields

    def parse(self, text: str) -> Answer:
        """The answer that the text holds."""
        return parse_evidence(text, self._shown())

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Answer:
        """The answer that the first generation holds."""
        # A message of ChatEVisRAG has the tags beside its content; any other generation is what was written.
        first = result[0]
        if isinstance(first, ChatGeneration):
            return self.parse(raw_text(first.message))
        return self.parse(first.text)

    def get_format_instructions(self) -> str:
        """EVisRAG's published prompt without its question: the four sections a model shall write."""
        return prompt_template().replace(_QUESTION, "").strip()

    @property
    def _type(self) -> str:
        return "visrag_evidence"

    def _shown(self) -> Sequence[Page | ScoredPage] | None:
        if self.pages is None:
            return None
        shown: list[Page | ScoredPage] = []
        for page in self.pages:
            if isinstance(page, Document):
                page = document_to_page(page)
            shown.append(page)
        return shown
