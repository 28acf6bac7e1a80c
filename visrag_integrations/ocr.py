"""Pixels in, words and text out, by RapidOCR."""

from __future__ import annotations

from typing import Any

from visrag_integrations.types import Word


def is_installed() -> bool:
    return False


def warn_missing() -> None: ...


def read_words(image: Any) -> tuple[Word, ...]:
    return ()


def assemble(words: tuple[Word, ...], how: str) -> str:
    return ""
