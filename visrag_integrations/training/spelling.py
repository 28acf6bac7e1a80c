"""What tokens read as, and which characters of the text each of them stands for: any tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from visrag_integrations.generation.streaming import TokenReader
from visrag_integrations.training.scopes import Span

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
    reader = TokenReader(decode)
    pieces: list[str] = []
    ends: list[int] = []
    length = 0
    for token in tokens:
        piece = reader.feed(token)
        pieces.append(piece)
        length += len(piece)
        ends.append(length)
    rest = reader.finish()
    if "".join(pieces) + rest != text:
        return None
    # What the reader held back is the text of the last tokens: bytes that never became a character.
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
