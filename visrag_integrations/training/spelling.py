"""What tokens read as, and which characters of the text each of them stands for: any tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from visrag_integrations.training.scopes import Span

_UNFINISHED = "\ufffd"
_WINDOW = 16
"""Tokens that are decoded together: all of them would take quadratic time, one alone may be half a character."""

Decode = Callable[[Sequence[int]], str]
"""Token ids in, their text out."""


def spell(tokens: Sequence[int], decode: Decode) -> tuple[str, list[Span]]:
    """The text of the tokens, and for every token the characters of the text that it stands for.

    A token that ends inside a character stands for no character, and the one that completes it for the whole character;
    one that is not shown (the end of a turn) stands for none.

    >>> words = {1: "<think>", 2: "The", 3: ""}
    >>> spell([1, 2, 3], lambda ids: "".join(words[i] for i in ids))
    ('<think>The', [(0, 7), (7, 10), (10, 10)])
    """
    text = decode(tokens)
    ends = _ends_read_forward(tokens, decode, text)
    if ends is None:
        ends = _ends_read_anew(tokens, decode, text)
    offsets: list[Span] = []
    start = 0
    for end in ends:
        offsets.append((start, end))
        start = end
    return text, offsets


def _ends_read_forward(tokens: Sequence[int], decode: Decode, text: str) -> list[int] | None:
    """Where each token ends, read token by token; None where the pieces do not add up to the text."""
    ends: list[int] = []
    start, base = 0, 0  # the first token that is decoded again each time, and the characters before it
    for place in range(len(tokens)):
        piece = decode(tokens[start : place + 1])
        # Bytes of an unfinished character read as this sign, until the rest of them is there.
        whole = piece.rstrip(_UNFINISHED)
        if not text.startswith(whole, base):
            return None
        reached = base + len(whole)
        if ends and reached > ends[-1]:
            # Bytes that never became a character: the sign for them stands in the text, and belongs to those tokens.
            lost = len(text[ends[-1] : reached]) - len(text[ends[-1] : reached].lstrip(_UNFINISHED))
            ends[-1] += lost
        ends.append(max(reached, ends[-1]) if ends else reached)
        if whole == piece and place + 1 - start >= _WINDOW:
            start, base = place + 1, reached
    if ends:
        ends[-1] = len(text)
    return ends


def _ends_read_anew(tokens: Sequence[int], decode: Decode, text: str) -> list[int]:
    """The same by decoding every beginning of the tokens, for decoders whose pieces depend on all that comes before.

    It takes quadratic time, so only where reading forward fails.
    """
    ends: list[int] = []
    reached = 0
    for count in range(1, len(tokens) + 1):
        beginning = decode(tokens[:count])
        # As far as both agree: the end of a beginning may be half a character, which reads otherwise in the whole text.
        common = 0
        for ours, theirs in zip(beginning, text, strict=False):
            if ours != theirs:
                break
            common += 1
        reached = max(reached, common)
        ends.append(reached)
    if ends:
        ends[-1] = len(text)
    return ends
