"""`index_documents` on a Ray cluster: many readers and many embedders at once, one call, the same report.

    sources -> ReadDocuments -> EmbedPages -> WritePages -> this process: settles documents, counts
               actors, a core   actors, a GPU  actors, where the store is on a server; a folder is written here

Rows come back in any order, so a document is settled when the last of its pages has come. What runs where is Ray
Data's business: it bounds what waits between the stages, starts actors that died again and repeats what they did;
repeating is harmless, for a page always has the same id.
"""

from __future__ import annotations

import functools
import math
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.ingestion.account import Account
from visrag_integrations.ingestion.pipeline import Source, in_thread
from visrag_integrations.ingestion.progress import IndexProgress
from visrag_integrations.ingestion.ray_cluster import RayCluster, connected, unwrapped
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.retry import Retry, RetryingClient
from visrag_integrations.ingestion.shared import ListedContents, ListedDocuments, Register, ServerStore
from visrag_integrations.ingestion.sources import Ended, GivenSources, name_of
from visrag_integrations.ingestion.stages import (
    DescribedEmbedder,
    EmbedderSpec,
    EmbedPages,
    ReadDocuments,
    Row,
    WritePages,
    describe,
    unpack,
    write_rows,
)
from visrag_integrations.ingestion.together import filling
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.pool import DocumentFailed, ReaderPool
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure

_MOST_SOURCES = 32
_TASKS_PER_READER = 8
_LARGEST_BLOCK, _SMALLEST_BLOCK = 32 << 20, 1 << 20
_BLOCKS_PER_ACTOR = 16  # Ray plans with several blocks of output for every actor, and stalls where they do not fit


def index_documents_ray(
    sources: Source | Iterable[Source],
    *,
    store: QdrantPageStore,
    embedder: EmbedderSpec,
    cluster: RayCluster | None = None,
    reader: PageReader | None = None,
    page_timeout: float = 60.0,
    batch_size: int = 16,
    prune: bool = False,
    retry: Retry | None = None,
    progress: bool | None = None,
    on_progress: Callable[[IndexProgress], None] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
) -> IndexReport:
    """`index_documents` on a Ray cluster; the same arguments, the same report, and a run goes on after a kill alike.

    What differs: documents are settled in the order in which they are done. A document is read by one actor. Pages that
    are equal to a stored one take its vector; pages that are equal to another page of this run only where one actor
    embeds both soon after each other. Every path must mean the same file on every machine; URLs do.

    Args:
        sources: Files, folders and URLs of both (`s3://...`, through fsspec).
        store: On a server, every writing actor opens its own connection; into a folder this process writes.
        embedder: A name for `load_embedder`, a function that makes one, or one that can be pickled.
        cluster: Where and how wide; `RayCluster()` when not given.
        reader: How documents are read; `PageReader()` when not given.
        page_timeout: Seconds one page may take before its process is killed and the page reported.
        batch_size: Pages embedded and added together.
        prune: Also remove documents whose files are gone. See `index_documents`; of URLs nothing is removed.
        retry: How requests to a server are tried again.
        progress: A progress bar; by default only where standard error is a terminal.
        on_progress: Called in this thread after every batch; what it raises ends the run.
        on_failure: Called in this thread with every document and page that failed.

    Raises:
        MissingExtraError: Ray is not installed.
        StoreMismatchError: Another embedder filled this collection.
        StoreError: The store failed; what was added before is kept.
    """
    if batch_size < 1:
        raise SettingError(f"batch_size is {batch_size}; it must be 1 or more.")
    if isinstance(embedder, Sequence) and not isinstance(embedder, str):
        raise SettingError("Ray fills collections of one embedder; give one, or use index_documents for a list.")
    started = time.monotonic()
    reader, retry = reader or PageReader(), replace(retry or Retry(), stop=threading.Event())
    given = GivenSources(sources, measure=progress is not False or on_progress is not None)
    with (
        connected(cluster or RayCluster()) as ray,
        store.client_through(functools.partial(RetryingClient, retry=retry)),
    ):
        run = _Run(ray, cluster or RayCluster(), store, embedder, retry)
        filling(store, [run.described], reader.describe())
        run.account = Account(store, given, progress, on_progress, on_failure, replace_last=True)
        try:
            run.all(list(given), reader, page_timeout, batch_size)
            run.finish(given.gone if prune else None)
        finally:
            run.account.bar.close()
    return run.account.report(time.monotonic() - started, run.embedded)


async def aindex_documents_ray(sources: Source | Iterable[Source], **settings: Any) -> IndexReport:
    """`index_documents_ray` in a thread, so that the event loop goes on; takes the same arguments."""
    return await in_thread(functools.partial(index_documents_ray, sources), settings)


class _Run:
    """One run, seen from the process that started it."""

    account: Account

    def __init__(
        self, ray: Any, cluster: RayCluster, store: QdrantPageStore, embedder: EmbedderSpec, retry: Retry
    ) -> None:
        self._ray, self._store, self._embedder, self._retry = ray, store, embedder, retry
        self._plan = _Plan.on(ray.cluster_resources(), cluster)
        self.described = self._described()
        self._documents: dict[tuple[str, str], _Document] = {}
        self._copies: list[Ended] = []
        self._missing: set[str] = set()
        self.embedded = 0

    def _described(self) -> DescribedEmbedder:
        task = self._ray.remote(num_cpus=1, num_gpus=self._plan.gpus, max_calls=1)(describe)
        with unwrapped():
            described: DescribedEmbedder = self._ray.get(task.remote(self._embedder))
        return described

    def all(self, sources: list[Any], reader: PageReader, page_timeout: float, batch_size: int) -> None:
        """Send every source through the stages, and account for what comes back."""
        if not sources:
            return
        self._missing = {name_of(source) for source in sources}
        server = ServerStore(self._store, self._retry) if self._store.is_on_server else None
        actor = self._ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Register).remote(
            server or ListedDocuments.of(self._store)
        )
        register = _RemoteRegister(actor)
        exact_pixels, keep = self.described.reads == "pixels", self._store.picture_settings
        read = (ReaderPool(reader, 1, page_timeout, exact_pixels=exact_pixels, keep=keep), register)
        stages: list[Any] = [
            (ReadDocuments, read, {"batch_size": None, **self._plan.reading}),
            (
                EmbedPages,
                (self._embedder, server or ListedContents(frozenset(self._store.contents())), register),
                {"batch_size": batch_size, **self._plan.embedding},
            ),
        ]
        if server is not None:
            stages.append((WritePages, (server,), {"batch_size": batch_size, **self._plan.writing}))
        try:
            with unwrapped():
                for batch in self._rows(sources, stages):
                    rows = unpack(batch)
                    self._take(rows if server is not None else write_rows(self._store, rows))
        finally:
            self._ray.kill(actor)

    def _rows(self, sources: list[Any], stages: list[Any]) -> Iterator[Any]:
        data = self._ray.data
        size = min(_MOST_SOURCES, math.ceil(len(sources) / (_TASKS_PER_READER * self._plan.most_readers)))
        items = [{"task": f"{place}", "source": pickle.dumps(source)} for place, source in enumerate(sources)]
        dataset = data.from_items(items, override_num_blocks=math.ceil(len(items) / size))
        dataset.context.target_max_block_size = self._plan.block_bytes
        for stage, arguments, settings in stages:
            pool = data.ActorPoolStrategy(**settings.pop("pool"))
            dataset = dataset.map_batches(stage, fn_constructor_args=arguments, compute=pool, **settings)
        yield from dataset.iter_batches(batch_size=None)

    def _take(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.error is not None:
                raise row.error
            self.embedded += row.embedded
            if row.page is not None:
                document = self._documents.setdefault((row.page.source, row.page.doc_id), _Document())
                document.numbers.add(row.page.number)
                if row.failure is not None:
                    self.account.failed.append(row.failure)
                else:
                    self.account.documents.added_pages([row.page])
                self._settle_whole(document)
            for event in row.events:
                if isinstance(event, Ended):
                    self._ended(event)
                else:
                    self.account.failed_reading(event)
                    if isinstance(event, DocumentFailed):
                        self._missing.discard(event.failure.source)
        self.account.tell()

    def _ended(self, ended: Ended) -> None:
        self.account.ended(ended)
        self.account.documents.met_elsewhere(ended.done.doc_id, ended.before)
        if ended.copy:
            self._missing.discard(ended.done.source)
            self._copies.append(ended)
            return
        document = self._documents.setdefault((ended.done.source, ended.done.doc_id), _Document())
        document.ended = ended
        self._settle_whole(document)

    def _settle_whole(self, document: _Document) -> None:
        """Settle a document whose end and pages have all come, in whatever order."""
        ended = document.ended
        if ended is not None and len(document.numbers) >= ended.done.pages:
            self._missing.discard(ended.done.source)
            self._documents.pop((ended.done.source, ended.done.doc_id), None)
            self.account.settle(ended)

    def finish(self, gone: Callable[[str], bool] | None) -> None:
        """What can only be said when everything has come."""
        for ended in self._copies:
            self.account.settle(ended)
        for name in sorted(self._missing):
            self.account.failed.append(
                Failure(name, "not all of its pages came back from the cluster; index it again.")
            )
        self.account.documents.finish(gone)
        self.account.tell()


@dataclass
class _Document:
    """A document some of whose pages have come."""

    numbers: set[int] = field(default_factory=set)
    ended: Ended | None = None


@dataclass(frozen=True)
class _Plan:
    """What Ray is asked for, for each stage."""

    reading: dict[str, Any]
    embedding: dict[str, Any]
    writing: dict[str, Any]
    block_bytes: int

    @property
    def gpus(self) -> float:
        return float(self.embedding["num_gpus"])

    @property
    def most_readers(self) -> int:
        return int(self.reading["pool"]["max_size"])

    @classmethod
    def on(cls, resources: dict[str, float], cluster: RayCluster) -> _Plan:
        """The plan for a cluster that has these resources now.

        Raises:
            SettingError: It has too few cores for one actor of each stage, and Ray would wait for ever.
        """
        cpus, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
        each = cluster.gpus if cluster.gpus is not None else float(gpus > 0)
        embedders = _range(cluster.embedders, most=int(gpus / each) if each else 1)
        readers = _range(cluster.readers, most=cpus - embedders[1])
        if readers[0] + embedders[0] > cpus:
            raise SettingError(
                f"Ray has {cpus} cores; {readers[0]} readers and {embedders[0]} embedders need one each. "
                "Ask for fewer of them, or start Ray with more: ray.init(num_cpus=...)."
            )
        writers = _range(cluster.writers, most=1)
        share = int(resources.get("object_store_memory", 0)) // (_BLOCKS_PER_ACTOR * (readers[1] + embedders[1]))
        return cls(
            {"pool": _pool(readers), "num_cpus": 1},
            {"pool": _pool(embedders), "num_cpus": 1, "num_gpus": each},
            {"pool": _pool(writers), "num_cpus": 0},
            min(_LARGEST_BLOCK, max(_SMALLEST_BLOCK, share)),
        )


def _range(wanted: int | tuple[int, int] | None, most: int) -> tuple[int, int]:
    if wanted is None:
        return 1, max(1, most)
    return wanted if isinstance(wanted, tuple) else (wanted, wanted)


def _pool(size: tuple[int, int]) -> dict[str, int]:
    return {"min_size": size[0], "max_size": size[1]}


class _RemoteRegister:
    """The run's `Register`, from any worker."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def ask(self, doc_id: str, task: str) -> Any:
        return self._now(self._actor.ask.remote(doc_id, task))

    def begin(self, work: str) -> Any:
        return self._now(self._actor.begin.remote(work))

    def end(self, work: str) -> None:
        self._now(self._actor.end.remote(work))

    @staticmethod
    def _now(reply: Any) -> Any:
        import ray

        return ray.get(reply)
