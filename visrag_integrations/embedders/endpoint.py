"""A server that embeds: the OpenAI-compatible `/v1/embeddings` that takes pictures in messages, as vLLM serves it."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

from visrag_integrations import images
from visrag_integrations.embedders.async_embedder import AsyncEmbedder
from visrag_integrations.embedders.http_retries import JSONClient
from visrag_integrations.embedders.prefetch import prefetch
from visrag_integrations.embedders.query_parts import split_query
from visrag_integrations.errors import EmbedderError, SettingError
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource
    from visrag_integrations.interfaces import Embedding

logger = logging.getLogger(__name__)

In = TypeVar("In")
EmbeddingRequest = dict[str, Any]


def user_message(text: str = "", picture: PictureSource | None = None, image_format: str = "PNG") -> dict[str, Any]:
    """A turn with a picture, a text, or both, as OpenAI-compatible servers take it.

    >>> user_message("how many?")
    {'role': 'user', 'content': [{'type': 'text', 'text': 'how many?'}]}
    """
    content: list[dict[str, Any]] = []
    if picture is not None:
        encoded = images.encode(images.open_picture(picture), image_format)
        url = f"data:image/{image_format.lower()};base64,{base64.b64encode(encoded).decode('ascii')}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    if text or picture is None:
        content.append({"type": "text", "text": text})
    return {"role": "user", "content": content}


class EndpointEmbedder(AsyncEmbedder):
    """Pages and queries embedded by a server; several requests are on their way at once, failed ones are tried again.

    Vectors get unit length here. The collection remembers the model's name, not the server's address.

    Attributes:
        name: The model.
        kind: "single" or "multi".
        instruction: Put before the text of a query.
    """

    kind: Literal["single", "multi"]

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "http://localhost:8000/v1",
        kind: Literal["single", "multi"] = "single",
        dimension: int | None = None,
        api_key: str | None = None,
        instruction: str = "",
        page_text: str = "",
        system: str = "",
        texts_as: Literal["messages", "input"] = "messages",
        image_format: Literal["PNG", "JPEG", "WEBP"] = "PNG",
        path: str = "embeddings",
        batch_size: int = 32,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Say where the server is and what its model wants to read; nothing is sent yet.

        Args:
            model: As the server calls it.
            base_url: Up to and with `/v1`.
            kind: "multi" where the server gives a vector a token.
            dimension: Numbers of a vector; without it, the server is asked once.
            api_key: Sent as a bearer token.
            instruction: Put before the text of a query.
            page_text: Sent beside the picture of a page, where the model was trained with such a text.
            system: A system message in front of every conversation.
            texts_as: "messages" sends a text as a conversation, through the model's chat template; "input" sends many
                texts in one request, without a template.
            image_format: Of the pictures sent: "PNG" keeps every pixel, "JPEG" and "WEBP" send less.
            path: Relative to `base_url`; one that begins with a slash, like vLLM's "/pooling", to the server.
            batch_size: At most so many texts in one request, where they are sent as "input".
            concurrency: At most so many requests at once.
            timeout: Seconds until an answer is given up.
            retries: How often a request is sent again when the server is busy, failing, or cannot be reached.
            extra_body: More keys of each request, for example `{"dimensions": 512}`.

        Raises:
            SettingError: A setting is not allowed.
        """
        if urlsplit(base_url).scheme not in ("http", "https"):
            raise SettingError(f'base_url is {base_url!r}; give an address such as "http://localhost:8000/v1".')
        if kind not in ("single", "multi") or texts_as not in ("messages", "input"):
            raise SettingError(
                f"kind is {kind!r} and texts_as {texts_as!r}; "
                'allowed are "single" or "multi", and "messages" or "input".'
            )
        if min(batch_size, concurrency) < 1:
            raise SettingError(f"batch_size is {batch_size}, concurrency {concurrency}; both must be at least 1.")
        self.name, self.kind, self.instruction = model, kind, instruction
        self._model = model  # as the server calls it; a collection may know the embedder as "endpoint:" and that
        self.page_text, self.system, self.texts_as = page_text, system, texts_as
        self.image_format, self.batch_size, self.concurrency = image_format, batch_size, concurrency
        self._given_dimension = dimension
        self._extra = dict(extra_body or {})
        self._http = JSONClient(
            urljoin(base_url.rstrip("/") + "/", path),
            api_key,
            timeout=timeout,
            retries=retries,
            connections=concurrency,
        )
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="endpoint")
        super().__init__()

    @cached_property
    def dimension(self) -> int:
        """Numbers of a vector: as given, else as the server answers a first text."""
        if self._given_dimension:
            return self._given_dimension
        (vector,) = self._vectors(1, self._conversation("dimension"))  # any text: only its vector's length counts
        return int(vector.shape[-1])

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises EmbedderError."""
        self._http.check_open()

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """Float32 unit vectors of each page, in order; the pages are read once, a few ahead of the server.

        Raises:
            PictureError: A page has no picture, or one that cannot be opened.
            EndpointError: The server cannot be reached, refuses, or fails.
            EmbedderError: It answers with something else than vectors of one dimension.
        """
        self.check_open()
        return self._embed_each(pages, self._embed_page)

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """Float32 unit vectors of each query, in order: of a text, a picture, or a picture with a text."""
        self.check_open()
        asked = list(map(split_query, queries))
        pictures = [picture for _, picture in asked if picture is not None]
        if self.texts_as == "input" and not pictures:  # many texts go into one request
            return self._embed_inputs([self.instruction + text for text, _ in asked])
        return self._embed_each(asked, self._embed_query)

    def embed_texts(self, texts: Iterable[str]) -> list[Embedding]:
        """Float32 unit vectors of each text that is itself a document, in order: no instruction comes before it."""
        self.check_open()
        if self.texts_as == "input":
            return self._embed_inputs(list(texts))
        return self._embed_each(texts, lambda text: self._vectors(1, self._conversation(text)))

    def close(self) -> None:
        """End the connections and threads; the embedder cannot be used after."""
        self._http.close()
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def _embed_page(self, page: Page) -> list[Embedding]:
        return self._vectors(1, self._conversation(self.page_text, page.open_image()))

    def _embed_each(self, things: Iterable[In], embed: Callable[[In], list[Embedding]]) -> list[Embedding]:
        """A request for each thing; twice as many are prepared as are on their way, so that no connection waits."""
        vectors = []
        for (vector,) in prefetch(things, embed, self._pool, ahead=2 * self.concurrency):
            vectors.append(vector)
        return vectors

    def _embed_query(self, query: tuple[str, PictureSource | None]) -> list[Embedding]:
        text, picture = query
        if picture is None or text.strip():  # a picture alone has no text that the instruction could introduce
            text = self.instruction + text
        else:
            text = ""
        if picture is None and self.texts_as == "input":
            return self._vectors(1, {"input": [text]})
        return self._vectors(1, self._conversation(text, picture))

    def _embed_inputs(self, texts: list[str]) -> list[Embedding]:
        def embed(start: int) -> list[Embedding]:
            batch = texts[start : start + self.batch_size]
            return self._vectors(len(batch), {"input": batch})

        embeddings: list[Embedding] = []
        for vectors in prefetch(range(0, len(texts), self.batch_size), embed, self._pool, self.concurrency):
            embeddings += vectors
        return embeddings

    def _conversation(self, text: str, picture: PictureSource | None = None) -> EmbeddingRequest:
        messages = [user_message(text, picture, self.image_format)]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return {"messages": messages}

    def _vectors(self, count: int, request: EmbeddingRequest) -> list[Embedding]:
        answer = self._http.post({"model": self._model, **request, "encoding_format": "float", **self._extra})
        # Not `self.dimension`, which may ask the server, and so come here again; what it found lies in __dict__.
        known = self._given_dimension or self.__dict__.get("dimension")
        return read_vectors(answer, count, self.kind, known)


def read_vectors(answer: Any, count: int, kind: str, dimension: int | None = None) -> list[Embedding]:
    """The unit vectors in a server's answer, in the order of what was asked.

    >>> [vector.tolist() for vector in read_vectors({"data": [{"index": 0, "embedding": [0, 2]}]}, 1, "single")]
    [[0.0, 1.0]]

    Raises:
        EmbedderError: There are more or fewer than `count`, or they have another shape, or are no numbers.
    """
    import numpy as np

    made: list[Embedding] = []
    for entry in _entries(answer, count):
        try:
            # "embedding" is OpenAI's key; vLLM's "/pooling" says "data".
            vectors = np.asarray(entry.get("embedding", entry.get("data")), dtype=np.float32)
        except (TypeError, ValueError) as err:
            raise EmbedderError(f"The server's embedding is not made of numbers: {err}.") from err
        axes = 1 if kind == "single" else 2
        if vectors.ndim != axes or not vectors.size or (dimension or vectors.shape[-1]) != vectors.shape[-1]:
            expected = f'{axes} axes (kind="{kind}")'
            if dimension:
                expected += f" and {dimension} numbers"
            raise EmbedderError(
                f"The server gave an embedding of shape {vectors.shape}, expected {expected}. "
                "Set kind= and dimension= as the model has them."
            )
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise EmbedderError("The server gave an embedding with values that are zero throughout, or not finite.")
        made.append(vectors / lengths)
    return made


def _entries(answer: Any, count: int) -> list[dict[str, Any]]:
    """The answer's entries, in the order of what was asked; a server may give them in another."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    found: int | str = "no"
    if isinstance(entries, list):
        found = len(entries)
        if found == count and all(isinstance(entry, dict) for entry in entries):
            return sorted(entries, key=lambda entry: entry.get("index") or 0)
    raise EmbedderError(f"The server gave {found} embeddings for {count} inputs. Is this its embeddings address?")
