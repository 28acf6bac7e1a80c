"""What is common to the queries of all embedders: taken apart, made harmless for a tokenizer, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.types import Query

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource
    from visrag_integrations.interfaces import Embedding


def split_query(query: str | Query) -> tuple[str, PictureSource | None]:
    """A query's text and its picture; "" and None where it has none."""
    if isinstance(query, str):
        return query, None
    return query.text, query.image


def join_parts(vectors: Sequence[Embedding], counts: Sequence[int]) -> list[Embedding]:
    """One embedding a query, from those of its parts: its vectors one below the other.

    Args:
        vectors: Those of all parts of all queries, in order.
        counts: How many parts each query has.
    """
    import numpy as np

    joined = []
    start = 0
    for count in counts:
        parts = vectors[start : start + count]
        joined.append(parts[0] if count == 1 else np.concatenate(parts))
        start += count
    return joined


def special_tokens_of(tokenizer: Any) -> list[str]:
    """A tokenizer's special and added tokens, the longest first.

    Single characters and white space are left out: to change them would change every text.
    """
    found = []
    for token in {*map(str, tokenizer.all_special_tokens), *map(str, tokenizer.get_added_vocab())}:
        if len(token) > 1 and not token.isspace():
            found.append(token)
    return sorted(found, key=lambda token: (-len(token), token))


def plain_text(text: str, special_tokens: Sequence[str]) -> str:
    """A text in which nothing is taken for a special token, and that any tokenizer reads.

    >>> plain_text("what is <image>?", ["<image>"]), plain_text("half \\ud800", [])
    ('what is < image>?', 'half ?')
    """
    text = text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair becomes "?"
    for token in special_tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
