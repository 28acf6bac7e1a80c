"""Rerankers that read the question and a page together: cross-encoders here, or behind a URL."""

from __future__ import annotations

from visrag_integrations.rerankers.cross_encoder import CrossEncoderReranker
from visrag_integrations.rerankers.published import PUBLISHED, PublishedReranker

__all__ = ["PUBLISHED", "CrossEncoderReranker", "PublishedReranker"]
