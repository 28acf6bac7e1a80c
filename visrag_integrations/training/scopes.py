"""Which tokens of a response a reward reaches: the part between two tags, found by characters.

RS-GRPO (https://arxiv.org/abs/2510.09733) gives each reward only to the tokens it judges: the answer to all from
`<think>` on, that of the evidence to all before. The published code looks for the *tokens* of a tag. A tokenizer may
join the last character of a tag with what follows (`>The` is one token of Qwen2.5): then the tag is not found, and both
rewards reach every token. Here a tag is found in the text, and a token belongs to where its first character stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from visrag_integrations.errors import SettingError
from visrag_integrations.training.rewards import RewardScope

Span = tuple[int, int]
"""First, and the one after the last: of tokens, or of characters."""

_BOUNDS: dict[str, tuple[str | None, str | None]] = {
    "all": (None, None),
    "from_think": ("<think>", None),
    "before_think": (None, "<think>"),
    "before_evidence": (None, "<evidence>"),
    "think": ("<think>", "<answer>"),
}
"""RewardScope -> the tag it begins with and the tag it ends before; None is the response's own beginning or end."""


def token_scope(response: str, offsets: Sequence[Span], scope: RewardScope) -> Span | None:
    """The tokens that a scope covers; None where it covers none.

    A scope whose first tag is missing begins with the response, one whose last tag is missing ends with it, as
    published: a response without tags is judged as a whole.

    Args:
        response: The text.
        offsets: For every token, the characters of `response` it stands for, in order.
        scope: Which part.

    >>> tokens = [(0, 9), (9, 16), (16, 17)]  # "<observe>", "<think>", "x"
    >>> token_scope("<observe><think>x", tokens, "from_think"), token_scope("<observe><think>x", tokens, "before_think")
    ((1, 3), (0, 1))
    """
    first_tag, last_tag = _BOUNDS[scope]
    start, end = 0, len(response)
    if first_tag is not None and first_tag in response:
        start = response.index(first_tag)
    if last_tag is not None and last_tag in response:
        end = response.index(last_tag)
    first = _first_token(offsets, start)
    last = len(offsets) if end == len(response) else _first_token(offsets, end)
    return (first, last) if first < last else None


def published_scope(
    tokens: Sequence[int], length: int, scope: RewardScope, tokens_of: Callable[[str], Sequence[int]]
) -> Span | None:
    """The same by the published search: a tag is there only where its own tokens stand in a row.

    Args:
        tokens: The response's token ids, with all that the engine wrote behind its end.
        length: How many of them are the response; tags are looked for behind it too, as published.
        scope: Which part.
        tokens_of: A tag to its token ids.
    """
    first_tag, last_tag = _BOUNDS[scope]
    start, end = 0, length
    if first_tag is not None:
        place = _find(tokens, tokens_of(first_tag))
        start = place if place is not None else 0
    if last_tag is not None:
        place = _find(tokens, tokens_of(last_tag))
        end = min(place, length) if place is not None else length
    return (start, end) if start < end else None


def tags_of(scope: object) -> list[str]:
    """The tags that bound a scope; none of one that is a function.

    Raises:
        SettingError: It is neither a function nor the name of a scope.

    >>> tags_of("think"), tags_of("all")
    (['<think>', '<answer>'], [])
    """
    if callable(scope):
        return []
    if scope not in _BOUNDS:
        raise SettingError(f"The scope {scope!r} is unknown; say {', '.join(_BOUNDS)}, or give a function.")
    return [tag for tag in _BOUNDS[str(scope)] if tag is not None]


def _first_token(offsets: Sequence[Span], character: int) -> int:
    """The first token that begins at this character or after it.

    A token that begins before it and reaches over it (`>The`, where the tag ends inside) belongs to what came before.
    """
    for index, (start, _) in enumerate(offsets):
        if start >= character:
            return index
    return len(offsets)


def _find(tokens: Sequence[int], tag: Sequence[int]) -> int | None:
    for place in range(len(tokens) - len(tag) + 1):
        if list(tokens[place : place + len(tag)]) == list(tag):
            return place
    return None
