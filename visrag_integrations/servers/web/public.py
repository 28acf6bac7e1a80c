"""What an answer may tell about a page, and about an error: nothing of the server's own files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from visrag_integrations.errors import (
    EndpointError,
    FilterError,
    GenerationError,
    MissingExtraError,
    RerankerEndpointError,
    RerankerError,
    SettingError,
    StoreError,
    StoreMismatchError,
    UnknownNameError,
)
from visrag_integrations.types import Page

# Also of other systems than this one: an index may have been filled elsewhere.
_ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|file:", re.IGNORECASE)
_URI = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class PublicError:
    """An error as the one who asked may read it.

    Attributes:
        status: Of HTTP.
        kind: For programs.
        message: For people.
    """

    status: int
    kind: str
    message: str


def public_error(error: BaseException) -> PublicError:
    """What of an error goes to the one who asked: all of it where the request was at fault, else only its kind."""
    match error:
        case SettingError() | FilterError() | UnknownNameError():
            return PublicError(422, "invalid_request", str(error))
        case MissingExtraError():
            return PublicError(501, "not_available", str(error))
        case StoreMismatchError():
            return PublicError(503, "index_changed", _filled_anew(error))
        case StoreError():
            return PublicError(503, "index_unavailable", "The index cannot be reached at the moment. Try again later.")
        case RerankerEndpointError():
            return PublicError(503, "reranker_unavailable", "What reranks pages cannot be reached. Try again later.")
        case RerankerError():
            return PublicError(502, "reranker_failed", "What reranks pages failed. The server's log says why.")
        case EndpointError():
            return PublicError(503, "embedder_unavailable", "What embeds queries cannot be reached. Try again later.")
        case GenerationError():
            return PublicError(502, "generator_failed", "The generator failed or cannot be reached. Try again later.")
        case _:
            return PublicError(500, "internal", "The server failed; its log says why.")


def _filled_anew(error: StoreMismatchError) -> str:
    """That the collection is another embedder's by now; why that one is not here, without paths of this machine."""
    said = str(error).partition("which cannot be used here: ")[2]
    if not said:
        return "The index was filled anew by another embedder than this server has. It must be started again."
    words = [public_source(word) if _ABSOLUTE.match(word.strip("'\"(")) else word for word in said.split()]
    return f"The index was filled anew by another embedder, which cannot be used here: {' '.join(words)}"


def page_fields(page: Page) -> dict[str, Any]:
    """What identifies a page in an answer."""
    return {"id": page.id, "doc_id": page.doc_id, "source": public_source(page.source), "page": page.number}


def public_metadata(page: Page) -> dict[str, Any]:
    """The page's metadata; of the paths of its document only what `public_source` leaves."""
    metadata = dict(page.metadata)
    if isinstance(metadata.get("sources"), (list, tuple)):
        metadata["sources"] = [public_source(str(source)) for source in metadata["sources"]]
    return metadata


def public_source(source: str) -> str:
    """A relative path as it is; of a URI what names the document, nothing that opens it; of an absolute path the name.

    A filter takes a source as it was indexed, or its file's name.

    >>> public_source("docs/a.pdf"), public_source("/home/ada/a.pdf"), public_source("C:\\\\docs\\\\a.pdf")
    ('docs/a.pdf', 'a.pdf', 'a.pdf')
    >>> public_source("https://example.com/a.pdf"), public_source("file:///home/ada/a.pdf")
    ('https://example.com/a.pdf', 'a.pdf')
    >>> public_source("https://ada:secret@example.com:8443/a.pdf?X-Amz-Signature=abc#token=def")
    'https://example.com:8443/a.pdf'
    """
    if _URI.match(source):
        # https://ada:secret@example.com/a.pdf?signature=abc#part -> https://example.com/a.pdf
        scheme, _, rest = re.split(r"[?#]", source, maxsplit=1)[0].partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    if not _ABSOLUTE.match(source):
        return source
    return re.split(r"[/\\]", source.rstrip("/\\"))[-1]
