"""A reranker behind a URL: `/rerank` as Jina, Cohere and vLLM have it, vLLM's `/score`, text-embeddings-inference."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlsplit, urlunsplit

from visrag_integrations import images
from visrag_integrations.embedders.http_retries import JSONClient
from visrag_integrations.embedders.served import SERVED
from visrag_integrations.errors import RerankerEndpointError, RerankerError, SettingError, VisRAGError, storable
from visrag_integrations.fetching import http_address, without_credentials
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.rerankers.answers import read_scores
from visrag_integrations.rerankers.page_inputs import OWN_SETTINGS, PageInput
from visrag_integrations.rerankers.published import PUBLISHED, Reads

if TYPE_CHECKING:
    from PIL.Image import Image

API = Literal["vllm", "jina", "cohere", "tei"]

# Pages in one request. All 50 candidates of a search go in one, as texts; a picture has up to some megabytes as base64.
_TEXTS, _PICTURES = 64, 8
# About 2,000 tokens of English: half of the 4,096 that servers are often started with, and more than most pages have.
_MAX_CHARS = 8_000
# The address ends in one of these, or is meant to.
_PATHS = ("/rerank", "/score")
# Hosts whose interface is known.
_HOSTS: dict[str, API] = {"jina.ai": "jina", "cohere.com": "cohere", "cohere.ai": "cohere"}


@dataclass(frozen=True)
class ServerSettings:
    """How a server is asked.

    Attributes:
        api_key: Sent as a bearer token, and never shown.
        api: How pictures and texts are written: "vllm", "jina", "cohere" or "tei" (text-embeddings-inference); by
            default as the host is known for, else "vllm", which takes what Jina and Cohere take.
        page_text: Sent after a page's picture, where the model was trained with such a text.
        image_format: Of the pictures sent: "PNG" keeps every pixel, "JPEG" and "WEBP" send less.
        concurrency: At most so many requests at once.
        timeout: Seconds until an answer is given up.
        retries: How often a request is sent again when the server is busy, failing, or cannot be reached. Few: somebody
            waits for the search.
        extra_body: More keys of each request, for example `{"truncate_prompt_tokens": -1}` for vLLM.
    """

    api_key: str | None = field(default=None, repr=False)
    api: API | None = None
    page_text: str | None = None
    image_format: Literal["PNG", "JPEG", "WEBP"] = "PNG"
    concurrency: int = 4
    timeout: float = 120.0
    retries: int = 3
    extra_body: Mapping[str, Any] = field(default_factory=dict)


class RerankClient(JSONClient):
    """The client of a reranker: what its errors say."""

    failed = RerankerEndpointError
    hint = "Is the server running, and is the URL right? Nothing was reranked; without a reranker the search works."

    def closed(self) -> VisRAGError:
        """What is raised once it was closed."""
        return RerankerError("This reranker was closed. Make it again with CrossEncoderReranker(...).")

    def advice(self, status: int) -> str:
        """What to do about a refusal."""
        if status in (401, 403):
            return "Is the key right? It is api_key=, on the command line the variable VISRAG_RERANK_API_KEY."
        if status in (301, 302, 303, 307, 308):
            return "It sends requests to another address; give that one."
        if status in (404, 405):
            return "Is the path right? It ends in /rerank or /score; vLLM has them for models served to score or embed."
        if status in (400, 413, 422):
            return "Where the texts are too long for the model, say max_chars=; where it wants a model, name one."
        return ""


class ServerScorer:
    """Scores pages through a server, several requests at once."""

    def __init__(self, model: str, url: str, max_chars: int | None, settings: dict[str, Any]) -> None:
        """Say where the server is; nothing is sent yet.

        Args:
            model: As the server calls it; "" where it has only one and needs no name.
            url: With or without the path.
            max_chars: Longer texts are cut there.
            settings: `ServerSettings`, by name.

        Raises:
            SettingError: A setting is not allowed.
        """
        here = dict.fromkeys(("device", "dtype", "revision", "scores"), "it is for a model in this process.")
        known = [*OWN_SETTINGS, *(each.name for each in fields(ServerSettings))]
        check_arguments("CrossEncoderReranker with a URL", settings, known, elsewhere=here)
        chosen = ServerSettings(**settings)
        if chosen.api is not None and chosen.api not in get_args(API):
            raise SettingError(f"api is {chosen.api!r}; allowed: {', '.join(get_args(API))}.")
        if chosen.concurrency < 1:
            raise SettingError(f"concurrency is {chosen.concurrency}; it must be at least 1.")
        address = address_of(url)
        self._settings, self._model = chosen, model
        self._api: API = chosen.api or _api_of(address)
        self._scores_pairs = urlsplit(address).path.endswith("/score")
        self.name = model or without_credentials(address.partition("?")[0])
        self.at_once = chosen.concurrency
        self._max_chars = max_chars or _MAX_CHARS
        self.sees = self._api in ("vllm", "jina")
        self.reads, self._page_text = _published(model)
        if chosen.page_text is not None:
            self._page_text = chosen.page_text
        if not self.sees:
            self.reads = "text"
        self._http = RerankClient(
            address,
            chosen.api_key,
            timeout=chosen.timeout,
            retries=chosen.retries,
            connections=chosen.concurrency,
        )

    def batch_size(self, reads: Reads) -> int:
        """So many pages in one request."""
        return _TEXTS if reads == "text" else _PICTURES

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises RerankerError."""
        self._http.check_open()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def fit(self, query: str, texts: Sequence[str]) -> tuple[str, list[str]]:
        """The query and the texts, cut at a number of characters: the server's tokens are not known here."""
        return query[: self._max_chars], [text[: self._max_chars] for text in texts]

    def score(self, query: PageInput, pages: Sequence[PageInput]) -> list[float]:
        """The server's scores, in the order of the pages.

        Raises:
            RerankerEndpointError: It cannot be reached, refuses, or fails.
            RerankerError: It answers with something else than a score for each page.
        """
        answer = self._http.post(self._body(query, pages))
        return read_scores(answer, len(pages), self._http.shown_url)

    def _body(self, query: PageInput, pages: Sequence[PageInput]) -> dict[str, Any]:
        asked = self._written(query)
        documents = [self._written(page, self._page_text) for page in pages]
        body: dict[str, Any] = {}
        # A vLLM server has one model and does not ask for its name; Jina and Cohere do.
        if self._model:
            body["model"] = self._model
        if self._api == "tei":
            body |= {"query": asked, "texts": documents}
        elif self._scores_pairs:
            body |= {"queries": asked, "documents": documents}
        else:
            body |= {"query": asked, "documents": documents, "top_n": len(documents)}
        if self._api == "jina":
            body["return_documents"] = False  # else every picture comes back
        return {**body, **self._settings.extra_body}

    def _written(self, given: PageInput, page_text: str = "") -> Any:
        """A text as it is; a picture as this interface takes it."""
        said = storable(given.text)  # half a surrogate cannot be sent
        if given.image is None:
            return said
        url = picture_url(given.image, self._settings.image_format)
        text = said or page_text  # with a text of its own the page needs no stand-in
        if self._api == "jina":
            if text:
                raise SettingError('This interface takes a text or a picture of a page; say reads="text" or "image".')
            return {"image": url}
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
        if text:
            content.append({"type": "text", "text": text})
        return {"content": content}


def is_url(value: Any) -> bool:
    """Whether it is the address of a server, and no name or folder.

    >>> is_url("http://localhost:8000"), is_url("BAAI/bge-reranker-v2-m3")
    (True, False)
    """
    return isinstance(value, str) and "://" in value


def address_of(url: str) -> str:
    """The address that is asked: as given where it names the path, else with `/rerank` added.

    >>> address_of("http://localhost:8000/"), address_of("https://api.jina.ai/v1"), address_of("http://gpu/score")
    ('http://localhost:8000/rerank', 'https://api.jina.ai/v1/rerank', 'http://gpu/score')

    Raises:
        SettingError: It is no address.
    """
    parts = http_address(url)
    if parts is None:
        raise SettingError(
            f"{without_credentials(url)!r} is no address of a reranker; give one such as http://localhost:8000/rerank."
        )
    path = parts.path.rstrip("/")
    if not path.endswith(_PATHS):
        path += _PATHS[0]
    return urlunsplit(parts._replace(path=path))


def picture_url(image: Image, image_format: str) -> str:
    """The picture in a data URL."""
    encoded = images.encode(image, image_format)
    return f"data:image/{image_format.lower()};base64,{base64.b64encode(encoded).decode('ascii')}"


def _api_of(address: str) -> API:
    host = urlsplit(address).hostname or ""
    for known, api in _HOSTS.items():
        if host == known or host.endswith(f".{known}"):
            return api
    return "vllm"


def _published(model: str) -> tuple[Reads, str]:
    """What a known model reads of a page, and the text it is sent with; text alone where the name is not known."""
    if model in PUBLISHED:
        return PUBLISHED[model].reads, PUBLISHED[model].page_text
    if model in SERVED:
        return "image", SERVED[model].page_text
    return "text", ""
