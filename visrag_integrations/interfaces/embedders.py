"""What a page embedder may have beside the four members of `PageEmbedder`, and what is done where it has not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from visrag_integrations.types import Mode, Page, Query

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder


class HasFingerprint(Protocol):
    """Tells checkpoints of one name apart; a collection remembers it."""

    @property
    def fingerprint(self) -> str: ...


class HasFormerNames(Protocol):
    """Names it had before, under which collections may know it still."""

    @property
    def former_names(self) -> Sequence[str]: ...


class HasInstruction(Protocol):
    """What it puts before queries; a collection remembers it."""

    @property
    def instruction(self) -> str | None: ...


class HasDefaultMode(Protocol):
    """How its pages are searched when nobody says."""

    @property
    def default_mode(self) -> Mode: ...


class SaysWhatItReads(Protocol):
    """Says "text" where it does not look at pictures, so that they may be sent in a lossy format."""

    @property
    def reads(self) -> Literal["text", "pixels"]: ...


class EmbedsTexts(Protocol):
    """Embeds plain texts as documents, as it embeds pages."""

    def embed_texts(self, texts: Sequence[str]) -> Sequence[Embedding]: ...


class ReadsQueries(Protocol):
    """Turns a query with a picture into text, so that words can be searched."""

    def read_query(self, query: str | Query) -> str: ...


class HasPatches(Protocol):
    """Of late interaction: which of a page's vectors belongs to which patch, `(rows, columns)` of places."""

    def patch_grid(self, page: Page) -> Any: ...


class SaysPooling(Protocol):
    """Of late interaction: how a page's vectors are pooled best; None for not at all."""

    @property
    def pooling(self) -> Literal["rows", "hierarchical"] | None: ...


class OpensPages(Protocol):
    """Embeds pages by another model than queries: loads what embeds pages, before the first one."""

    def open_pages(self) -> PageEmbedder: ...


PAIR = "|"
"""Between the name of what embeds pages and of what embeds queries, and between their fingerprints."""


def halves_of(name: str, fingerprint: str | None) -> list[tuple[str, str | None]]:
    """Name and fingerprint of what embeds pages; and of what embeds queries, where that is another model.

    >>> halves_of("large|small", "12ab|"), halves_of("/odd|folder", "12ab")
    ([('large', '12ab'), ('small', None)], [('/odd|folder', '12ab')])
    """
    if fingerprint is None or name.count(PAIR) != 1 or fingerprint.count(PAIR) != 1:
        return [(name, fingerprint)]
    pages, queries = name.split(PAIR)
    of_pages, of_queries = fingerprint.split(PAIR)
    return [(pages, of_pages or None), (queries, of_queries or None)]


def open_pages(embedder: PageEmbedder) -> None:
    """Load what embeds pages, where it is another model than what embeds queries (`OpensPages`)."""
    opens = getattr(embedder, "open_pages", None)
    if opens is not None:
        opens()


def fingerprint_of(embedder: PageEmbedder) -> str | None:
    """Its fingerprint; None where it has none (`HasFingerprint`)."""
    return getattr(embedder, "fingerprint", None)


def former_names_of(embedder: PageEmbedder) -> tuple[str, ...]:
    """Names it had before; none where it says nothing (`HasFormerNames`)."""
    return tuple(getattr(embedder, "former_names", ()))


def instruction_of(embedder: PageEmbedder) -> str | None:
    """What it puts before queries; None where it says nothing (`HasInstruction`)."""
    return getattr(embedder, "instruction", None)


def default_mode_of(embedder: PageEmbedder) -> Mode:
    """How its pages are searched when nobody says; by vectors where it says nothing (`HasDefaultMode`)."""
    return getattr(embedder, "default_mode", None) or "dense"


def reads_pixels(embedder: PageEmbedder) -> bool:
    """Whether it looks at pictures; assumed where it says nothing (`SaysWhatItReads`)."""
    return getattr(embedder, "reads", "pixels") == "pixels"


def reads_pictures_alone(embedder: PageEmbedder) -> bool:
    """Whether it says that it looks at pictures and never at a page's text, so that equal pictures are one vector."""
    return getattr(embedder, "reads", None) == "pixels"


def read_query(embedder: PageEmbedder, query: Query) -> str | None:
    """The query as text, its picture read; None where the embedder cannot read pictures (`ReadsQueries`)."""
    read = getattr(embedder, "read_query", None)
    if read is None:
        return None
    text: str = read(query)
    return text


def patch_grid_of(embedder: PageEmbedder, page: Page) -> Any:
    """The places of the page's patches among its vectors; None where the embedder has no patches (`HasPatches`)."""
    patch_grid = getattr(embedder, "patch_grid", None)
    if patch_grid is None:
        return None
    return patch_grid(page)


def has_patches(embedder: PageEmbedder) -> bool:
    """Whether it can say where a page's patches are (`HasPatches`)."""
    return getattr(embedder, "patch_grid", None) is not None


def pooling_of(embedder: PageEmbedder) -> str | None:
    """How a page's vectors are pooled best; where it says nothing, by rows if it has patches (`SaysPooling`)."""
    default = None
    if has_patches(embedder):
        default = "rows"
    return getattr(embedder, "pooling", default)


def embed_mixed(embedder: PageEmbedder, pages: Sequence[Page]) -> list[Embedding]:
    """One vector a page, in order; pages without a picture are embedded as text where it can (`EmbedsTexts`)."""
    if not pages:
        return []
    embed_texts = getattr(embedder, "embed_texts", None)
    without_picture = [page for page in pages if page.picture is None]
    if embed_texts is None or not without_picture:
        return embedder.embed_pages(pages)
    with_picture = [page for page in pages if page.picture is not None]
    from_pictures = iter(embedder.embed_pages(with_picture)) if with_picture else iter(())
    from_texts = iter(embed_texts([page.text for page in without_picture]))
    # Back in the order of the pages: each takes the next vector of its own sort.
    return [next(from_texts if page.picture is None else from_pictures) for page in pages]
