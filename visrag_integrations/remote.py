"""A retriever behind a URL: pages found by `visrag serve`, or by a server that answers as VRAG's search engine does."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urljoin, urlsplit

from visrag_integrations import images
from visrag_integrations.errors import EndpointError, PictureError, SettingError, printable
from visrag_integrations.fetching import without_credentials
from visrag_integrations.images.sending import load
from visrag_integrations.types import Page, Query, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter

RemoteLayout = Literal["visrag", "vrag"]

# Bytes of one answer. Fifty pages with their text have some 200 kB, a page's picture less than a megabyte.
_MAX_BYTES = 64 << 20
# Queries under way at once: a server embeds those together that come while it is busy, 32 at most by default.
_AT_ONCE = 16
# VRAG names a page's picture after its document and its number: "report_12.jpg".
_VRAG_FILE = re.compile(r"(?P<document>.+)_(?P<number>[1-9]\d{0,6})")


class RemoteRetriever:
    """Finds pages through a search server, with the pages, ids and scores that the server's own retriever gives.

    One index serves many programs so: rollouts of a training run, agents, notebooks. It is safe to call from many
    threads. Pages come with their text and metadata, without the boxes of their words, and their pictures are fetched
    when they are opened.

    >>> retriever = RemoteRetriever("http://127.0.0.1:8000")  # doctest: +SKIP
    >>> retriever.retrieve("torque of the M8 bolts", 3)[0].page.number  # doctest: +SKIP
    12

    Args:
        url: Where `visrag serve` is reached; with layout "vrag", the address of the search itself.
        token: What the server asks for, if it does.
        layout: "visrag" for `visrag serve`; "vrag" for the published VRAG search engine, whose answers name picture
            files: a page's document and number are those in the file's name, and it has no text.
        pictures: With layout "vrag": the folder of the picture files. Files outside of it are not opened.
        timeout: Seconds that an answer may take.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        layout: RemoteLayout = "visrag",
        pictures: str | Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise SettingError(f"{without_credentials(url)!r} is no address; give one such as http://127.0.0.1:8000.")
        if layout not in ("visrag", "vrag"):
            raise SettingError(f'layout is {layout!r}; "visrag" and "vrag" are known.')
        if not timeout > 0:
            raise SettingError(f"timeout is {timeout!r}; it must be above 0.")
        import httpx

        self.url, self.layout, self.pictures = url.rstrip("/"), layout, pictures
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(headers=headers, timeout=timeout)
        self._pool = ThreadPoolExecutor(_AT_ONCE, "visrag-remote")

    def retrieve(self, query: str | Query, top_k: int = 5, *, filter: Filter | None = None) -> list[ScoredPage]:
        """The best pages, best first.

        Args:
            query: A text; with layout "visrag" also a `Query` with a picture.
            top_k: At most so many pages; servers have a limit of their own.
            filter: Metadata the pages must have; layout "visrag" only.

        Raises:
            EndpointError: The server cannot be reached, refuses, or answers with something else.
            SettingError: The layout has no such search.
        """
        return self.retrieve_many([query], top_k, filter=filter)[0]

    def retrieve_many(
        self, queries: Sequence[str | Query], top_k: int = 5, *, filter: Filter | None = None
    ) -> list[list[ScoredPage]]:
        """The pages of every query, in order."""
        if top_k < 1:
            raise SettingError(f"top_k is {top_k}; ask for at least one page.")
        if self.layout == "vrag":
            return self._vrag(queries, top_k, filter)
        bodies: list[dict[str, Any]] = []
        for query in queries:
            bodies.append({**_query_fields(query), "top_k": top_k, "filter": filter, "details": True})
        return list(self._pool.map(self._search, bodies))

    def close(self) -> None:
        """End the connections; pictures that were not opened yet cannot be any more."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def __enter__(self) -> RemoteRetriever:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- visrag serve -------------------------------------------------------------------------------------------------

    def _search(self, body: dict[str, Any]) -> list[ScoredPage]:
        said = self._json("POST", f"{self.url}/search", json=body)
        try:
            return [self._scored(hit) for hit in said["pages"]]
        except (KeyError, TypeError, ValueError, SettingError) as err:
            raise self._other_layout(said) from err

    def _scored(self, hit: dict[str, Any]) -> ScoredPage:
        fields: dict[str, Any] = {
            "text": str(hit["text"] or ""),
            "source": str(hit["source"]),
            "metadata": dict(hit["metadata"] or {}),
        }
        if hit["image"] is not None:
            # By the id and not by the address in the answer: behind a proxy that may be another than ours.
            fields["picture"] = _RemotePicture(f"{self.url}/pages/{hit['id']}/image", self._bytes)
        page = Page(str(hit["doc_id"]), int(hit["page"]), **fields)
        if page.id != hit["id"]:  # a page that a host framework or a tenant named
            page = Page(str(hit["doc_id"]), int(hit["page"]), **fields, given_id=str(hit["id"]))
        return ScoredPage(page, float(hit["score"]), str(hit["score_type"]))

    # --- VRAG's search engine -----------------------------------------------------------------------------------------

    def _vrag(self, queries: Sequence[str | Query], top_k: int, filter: Filter | None) -> list[list[ScoredPage]]:
        if filter:
            raise SettingError('VRAG\'s search engine has no filters. Leave filter out, or use layout "visrag".')
        texts: list[str] = []
        for query in queries:
            if isinstance(query, Query) and query.image is not None:
                raise SettingError('VRAG\'s search engine takes no pictures. Use layout "visrag" with `visrag serve`.')
            texts.append(query.text if isinstance(query, Query) else query)
        said = self._json("GET", self.url, params={"queries": texts})
        lists: list[list[ScoredPage]] = []
        try:
            for found in said:
                lists.append([self._from_file(rank, page) for rank, page in enumerate(found[:top_k])])
        except SettingError:
            raise  # a file that may not be opened
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise self._other_layout(said) from err
        if len(lists) != len(texts):
            raise self._other_layout(said)
        return lists

    def _from_file(self, rank: int, found: dict[str, Any]) -> ScoredPage:
        place = str(found["image_file"])
        name = re.split(r"[/\\]", urlsplit(place).path if "://" in place else place)[-1]
        stem = name.rpartition(".")[0] or name
        written = _VRAG_FILE.fullmatch(stem)
        document, number = (written["document"], int(written["number"])) if written else (stem, 1)
        picture: Callable[[], bytes] | Path
        if "://" in place:
            picture = _RemotePicture(urljoin(self.url, place), self._bytes)
        else:
            picture = self._file(place)
        page = Page(document, number, source=name, picture=picture)
        # It gives no scores of its own; the order is what counts.
        return ScoredPage(page, float(found.get("score", 1.0 / (rank + 1))), "fused")

    def _file(self, place: str) -> Path:
        """A picture file on this machine; what a server says must not open any other file."""
        if self.pictures is None:
            raise SettingError(
                f"The server at {without_credentials(self.url)} names picture files of this machine. Say in which "
                'folder they are: RemoteRetriever(url, layout="vrag", pictures="FOLDER").'
            )
        folder = Path(self.pictures).resolve()
        file = (folder / place).resolve()
        if not file.is_relative_to(folder):
            raise SettingError(
                f"The server names the picture file {printable(place)!r}, which is not in {str(folder)!r}. "
                "Give pictures= the folder that holds them."
            )
        return file

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def _json(self, method: str, url: str, **request: Any) -> Any:
        answer = self._answer(method, url, **request)
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as err:
            raise self._other_layout(_text(answer)) from err

    def _bytes(self, url: str) -> bytes:
        if urlsplit(url).netloc != urlsplit(self.url).netloc:
            shown = without_credentials(self.url)
            # The token is for that server, and an answer must not send this program anywhere else.
            raise EndpointError(f"{shown} names a picture on another server, which is not fetched.")
        return self._answer("GET", url)

    def _answer(self, method: str, url: str, **request: Any) -> bytes:
        import httpx

        shown = without_credentials(url)
        try:
            with self._client.stream(method, url, **request) as answer:
                parts, size = [], 0
                for part in answer.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > _MAX_BYTES:
                        raise EndpointError(f"{shown} answers with more than {_MAX_BYTES >> 20} MiB.")
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as err:  # RuntimeError: the client was closed
            raise EndpointError(
                f"{shown} does not answer ({type(err).__name__}: {printable(str(err))}). Is the server running there? "
                "`visrag serve` says its address when it starts."
            ) from err
        whole = b"".join(parts)
        if answer.status_code == 401:
            raise EndpointError(f"{shown} asks for a token. Give token=..., the one that the server was started with.")
        if answer.status_code != 200:
            raise EndpointError(f"{shown} answers with status {answer.status_code}: {printable(_text(whole)[:300])}")
        return whole

    def _other_layout(self, said: Any) -> EndpointError:
        other = "vrag" if self.layout == "visrag" else "visrag"
        return EndpointError(
            f"{without_credentials(self.url)} does not answer as layout {self.layout!r} does, but with "
            f"{printable(str(said)[:120])!r}. Is the address right? layout={other!r} is the other one."
        )


class _RemotePicture:
    """A picture that is fetched when it is opened. Sent to another process, it is fetched there without a token."""

    def __init__(self, url: str, read: Callable[[str], bytes] | None = None) -> None:
        self._url, self._read = url, read

    def __call__(self) -> bytes:
        try:
            if self._read is not None:
                return self._read(self._url)
            parts = urlsplit(self._url)
            with RemoteRetriever(f"{parts.scheme}://{parts.netloc}") as retriever:
                return retriever._bytes(self._url)
        except EndpointError as err:
            raise PictureError(f"The picture cannot be fetched: {err}") from err

    def __repr__(self) -> str:
        return f"<picture at {without_credentials(self._url)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _RemotePicture, (self._url,)


def _query_fields(query: str | Query) -> dict[str, Any]:
    if isinstance(query, str):
        return {"text": query}
    fields: dict[str, Any] = {"text": query.text}
    if query.image is not None:
        loaded = load(query.image)
        # Pixels go as PNG, which loses nothing: the server then finds what its own retriever would.
        file = loaded if isinstance(loaded, bytes) else images.encode(loaded, "PNG")
        fields["image"] = base64.b64encode(file).decode("ascii")
    return fields


def _text(answer: bytes) -> str:
    """What a server said, to be shown; whatever it is."""
    return answer.decode("utf-8", "replace")
