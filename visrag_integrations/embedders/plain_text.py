"""Texts of users, made harmless for a tokenizer that has special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def marks_of(tokenizer: Any) -> list[str]:
    """A tokenizer's special and added tokens, the longest first."""
    marks = {*map(str, tokenizer.all_special_tokens), *map(str, tokenizer.get_added_vocab())}
    return sorted((mark for mark in marks if len(mark) > 1 and not mark.isspace()), key=lambda mark: (-len(mark), mark))


def plain_text(text: str, marks: Sequence[str]) -> str:
    """A text in which nothing is taken for a token of the model's own, and that any tokenizer reads.

    >>> plain_text("what is <image>?", ["<image>"]), plain_text("half \\ud800", [])
    ('what is < image>?', 'half ?')
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
