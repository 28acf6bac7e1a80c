"""What the routes work with: the index, what answers, the limits, and how pages look in answers."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request

from visrag_integrations.agent import Crop, Finish, SearchStep, Thought
from visrag_integrations.agent.steps import kind_of
from visrag_integrations.errors import VisRAGError
from visrag_integrations.grounding import grounding_dict
from visrag_integrations.retrieval import Search
from visrag_integrations.servers.http.batching import QueryBatcher
from visrag_integrations.servers.http.checks import check_text, check_top_k, query_picture
from visrag_integrations.servers.http.metrics import Metrics
from visrag_integrations.servers.http.picture_paths import PicturePaths
from visrag_integrations.servers.http.schemas import (
    AgentAnswer,
    AgentStep,
    AskAnswer,
    EvidenceItem,
    Hit,
    PageRef,
    SearchRequest,
    ShownRef,
)
from visrag_integrations.servers.web.filters import check_filter, filter_note
from visrag_integrations.servers.web.public import page_fields, public_metadata
from visrag_integrations.servers.web.stored import stored_page, within
from visrag_integrations.types import Answer, Evidence, Page, Query, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.agent import Step, Trace
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.servers.http.settings import ServeSettings

logger = logging.getLogger(__name__)

_NO_PAGE = "00000000-0000-0000-0000-000000000000"
# A store that needs longer than this to say that it has no such page cannot be searched within a request's time either.
_READY_SECONDS = 5.0
_READY_KEPT = 1.0  # seconds; however many ask for the health, the store is asked once in this time


@dataclass
class Service:
    """One index behind the routes."""

    retriever: PageRetriever
    settings: ServeSettings
    metrics: Metrics
    batcher: QueryBatcher
    paths: PicturePaths = field(default_factory=PicturePaths)
    _ready: tuple[float, bool] = field(default=(float("-inf"), False))
    _probe: Future[list[Page]] | None = None  # from the first question for the health on

    async def search(self, request: SearchRequest) -> list[ScoredPage]:
        """The pages that fit the request."""
        check_text(request.text, self.settings)
        check_top_k(request.top_k, self.settings)
        check_filter(request.filter)
        query: str | Query = request.text
        if request.image is not None:
            query = Query(request.text, await asyncio.to_thread(query_picture, request.image, self.settings))
        elif not request.text.strip():
            query = Query(request.text)  # refuses an empty query, and says so
        search = Search(query, request.top_k, within(request.filter), request.mode, request.score_threshold)
        return await self.batcher.find(search)

    async def filter_note(self, request: SearchRequest) -> str | None:
        """What the filter of a search that found nothing did; None where it did nothing."""
        if not request.filter:
            return None
        return await asyncio.to_thread(filter_note, self.retriever, request.filter) or None

    async def page(self, id_: str) -> Page | None:
        """The page with this id, if it is one that searches here can find."""
        return await asyncio.to_thread(stored_page, self.retriever, id_)

    async def ready(self) -> bool:
        """Whether the store answers; asked at most once a second, by a thread that requests cannot keep busy."""
        asked, ready = self._ready
        if time.monotonic() - asked <= _READY_KEPT:
            return ready
        # One probe at a time: a store that hangs holds one thread, not one for each that asks.
        if self._probe is None or self._probe.done():
            self._probe = _begin_probe(self.retriever)
        answer = asyncio.shield(asyncio.wrap_future(self._probe))  # others wait for the same
        try:
            await asyncio.wait_for(answer, _READY_SECONDS)
            ready = True
        except (VisRAGError, asyncio.TimeoutError, OSError) as err:
            logger.warning("the index does not answer: %r", err)
            ready = False
        self._ready = (time.monotonic(), ready)
        return ready

    def close(self) -> None:
        """End the threads and delete what was written; both are there again when they are needed."""
        self.batcher.close()
        self.paths.close()
        self._probe = None


def _begin_probe(retriever: PageRetriever) -> Future[list[Page]]:
    """Ask the store for a page, in a thread that ends with the answer.

    A daemon, not a pool's: Python waits for a pool's threads at its end, and a store that hangs would hold that up.
    """
    probe: Future[list[Page]] = Future()

    def ask() -> None:
        try:
            probe.set_result(retriever.store.get_pages([_NO_PAGE]))
        except BaseException as err:  # noqa: BLE001 (whoever waits for the probe gets it)
            probe.set_exception(err)

    probe.set_running_or_notify_cancel()
    threading.Thread(target=ask, name="visrag-health", daemon=True).start()
    return probe


@dataclass(frozen=True)
class Presenter:
    """Pages and answers as clients see them; `base` is where they reach the server."""

    base: str

    def image_url(self, page: Page) -> str | None:
        """The address of a page's picture; None where none is kept."""
        if page.picture is None:
            return None
        return self._image_of(page.id)

    def fields(self, page: Page) -> dict[str, Any]:
        """What every answer says of a page."""
        known = page_fields(page)
        # Not `image_url`: it would make the id a second time, and an id is a hash of the page's names.
        known["image"] = None if page.picture is None else self._image_of(known["id"])
        return known

    def hit(self, hit: ScoredPage) -> Hit:
        """A page that was found."""
        return Hit(**self.fields(hit.page), score=float(hit.score), score_type=hit.score_type)

    def found(self, hit: ScoredPage, *, details: bool = False) -> dict[str, Any]:
        """The same as plain values in the same order; with details, as a `DetailedHit`."""
        known = self.fields(hit.page)
        # As `Hit` has them, in its order: the bytes that are sent are those its model would write.
        known["score"], known["score_type"] = float(hit.score), hit.score_type
        if details:
            known["text"], known["metadata"] = hit.page.text, public_metadata(hit.page)
        return known

    def ranked_images(self, hits: Sequence[ScoredPage], paths: PicturePaths | None = None) -> list[dict[str, Any]]:
        """The pages that were found for one query, as VRAG's search engine gives them; with paths, by path.

        Each is a `RankedImage` as plain values.
        """
        ranked: list[dict[str, Any]] = []
        for rank, hit in enumerate(hits):
            place = self.image_url(hit.page) if paths is None else paths.path(hit.page)
            ranked.append({"idx": rank, "image_file": place, "score": float(hit.score), "id": hit.page.id})
        return ranked

    def _image_of(self, id_: str) -> str:
        return f"{self.base}/pages/{id_}/image"

    def evidence(self, evidence: Evidence) -> EvidenceItem:
        """What was found on a page."""
        page = PageRef(**self.fields(evidence.page)) if evidence.page else None
        return EvidenceItem(
            index=evidence.page_index,
            page=page,
            text=evidence.text,
            relevant=evidence.relevant,
            **grounding_dict(evidence),
        )

    def step(self, step: Step) -> AgentStep:
        """A step of the agent."""
        shown: list[ShownRef] = []
        for one in step.observation.shown:
            shown.append(ShownRef(**self.fields(one.page.page), region=list(one.region), size=list(one.size)))
        return AgentStep(
            turn=step.turn,
            kind=kind_of(step),
            text=_done(step),
            shown=shown,
            told=step.observation.text,
            problems=[problem.name for problem in step.observation.problems],
        )

    def agent_answer(self, trace: Trace, answer: Answer) -> AgentAnswer:
        """A whole answer of the agent."""
        known = self.answer(trace.question, answer)
        # The attributes, not `model_dump`: hits and pages stay what they are.
        return AgentAnswer(**vars(known), reason=trace.reason or "", steps=list(map(self.step, trace.steps)))

    def answer(self, question: str, answer: Answer) -> AskAnswer:
        """A whole answer."""
        return AskAnswer(
            question=question,
            answer=answer.text,
            sufficient=answer.sufficient,
            evidence=[self.evidence(evidence) for evidence in answer.evidence],
            thinking=answer.thinking,
            observation=answer.observation,
            pages=[self.hit(hit) for hit in answer.pages],
            problems=list(answer.problems),
        )


def _done(step: Step) -> str:
    match step:
        case Thought():
            return step.text
        case SearchStep():
            return step.query
        case Crop():
            return step.written
        case Finish():
            return step.reason


def presenter_for(request: Request, service: Service) -> Presenter:
    """How pages look in the answer to this request."""
    if service.settings.public_url:
        return Presenter(service.settings.public_url.rstrip("/"))
    scope = request.scope
    root = scope.get("root_path", "")
    outer = scope.get("app_root_path", root)
    server = scope.get("server")
    if server is not None:
        server = tuple(server)  # some servers give a list
    return Presenter(_reached_at(scope.get("scheme", "http"), request.headers.get("host"), server, root, outer))


# A server is called by a handful of names. Anybody can send other ones, so that only so many are kept.
@functools.lru_cache(maxsize=64)
def _reached_at(scheme: str, host: str | None, server: tuple[str, int | None] | None, root: str, outer: str) -> str:
    """Where a client reaches the server: Starlette's own `base_url`, which costs as much as writing the answer."""
    headers = []
    if host is not None:
        headers.append((b"host", host.encode("latin-1")))
    scope = {"type": "http", "scheme": scheme, "server": server, "headers": headers, "path": root}
    request = Request({**scope, "root_path": root, "app_root_path": outer, "query_string": b""})
    return str(request.base_url.replace(path=root)).rstrip("/")
