"""`index_documents` on a Ray cluster: many readers and many embedders at once, one call, the same report.

    sources -> ReadDocuments -> EmbedPages -> WritePages -> this process: settles documents, counts
               actors, a core   actors, a GPU  actors, where the store is on a server; a folder is written here

Rows come back in any order, so a document is settled when the last of its pages has come. What runs where is Ray
Data's business: it bounds what waits between the stages, starts actors that died again and repeats what they did;
repeating is harmless, for a page always has the same id.
"""

from __future__ import annotations

import contextlib
import functools
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.indexing import prepare_store
from visrag_integrations.ingestion.cluster_state import Register, ServerStore
from visrag_integrations.ingestion.pipeline import in_thread
from visrag_integrations.ingestion.progress import IndexProgress
from visrag_integrations.ingestion.ray_cluster import RayCluster, connected, least_and_most, unwrapped
from visrag_integrations.ingestion.ray_questions import AnsweringThread, AskedStore, Questions
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.reporter import RunReporter
from visrag_integrations.ingestion.retry import Retry
from visrag_integrations.ingestion.settings import GivenSourcesArgument, IndexSettings
from visrag_integrations.ingestion.sources import EndedDocument, GivenSources, name_of
from visrag_integrations.ingestion.stages import (
    DescribedEmbedder,
    EmbedderSpec,
    EmbedPages,
    PageRow,
    ReadDocuments,
    WritePages,
    describe,
    unpack,
    write_rows,
)
from visrag_integrations.interfaces.embedders import reads_pixels
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.pool import DocumentFailed, ReaderPool
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure

# A reading task gets up to 32 sources, so that its start costs little beside its work; and each reader gets 8 tasks or
# more, so that one with long documents does not keep the others waiting at the end.
_MOST_SOURCES = 32
_TASKS_PER_READER = 8
# Ray plans with several blocks of output for every actor, and stalls where they do not fit into the object store: each
# actor is counted with 16. Blocks above 32 MB (about a hundred drawn pages, compressed) only fill memory; below 1 MB a
# block is not even one batch of pages.
_BLOCKS_PER_ACTOR = 16
_LARGEST_BLOCK, _SMALLEST_BLOCK = 32 << 20, 1 << 20


def index_documents_ray(
    sources: GivenSourcesArgument,
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
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        on_progress: Called in this thread after every batch; what it raises ends the run.
        on_failure: Called in this thread with every document and page that failed.

    Raises:
        MissingExtraError: Ray is not installed.
        StoreMismatchError: Another embedder filled this collection.
        StoreError: The store failed; what was added before is kept.
    """
    settings = IndexSettings(reader, page_timeout, batch_size, prune, retry, progress, on_progress, on_failure)
    if isinstance(embedder, Sequence) and not isinstance(embedder, str):
        raise SettingError("Ray fills collections of one embedder; give one, or use index_documents for a list.")
    started = time.monotonic()
    cluster = cluster or RayCluster()
    given = settings.measured(sources)
    with connected(cluster) as ray, settings.retrying(store):
        run = _RayRun(ray, cluster, store, embedder, settings)
        prepare_store(store, [run.described], settings.page_reader.describe())
        run.reporter = RunReporter(store, given, settings, replace_last=True)
        try:
            run.all(list(given))
            run.finish(given)
        finally:
            run.reporter.bar.close()
    return run.reporter.final_report(time.monotonic() - started, run.embedded)


async def aindex_documents_ray(sources: GivenSourcesArgument, **settings: Any) -> IndexReport:
    """`index_documents_ray` in a thread, so that the event loop goes on; takes the same arguments."""
    return await in_thread(functools.partial(index_documents_ray, sources), settings)


class _RayRun:
    """One run, seen from the process that started it."""

    reporter: RunReporter

    def __init__(
        self, ray: Any, cluster: RayCluster, store: QdrantPageStore, embedder: EmbedderSpec, settings: IndexSettings
    ) -> None:
        self._ray, self._store, self._embedder, self._settings = ray, store, embedder, settings
        self._actors = _ActorPlan.on(ray.cluster_resources(), cluster)
        self.described = self._described()
        self._documents: dict[tuple[str, str], _DocumentInPieces] = {}
        self._copies: list[EndedDocument] = []
        self._missing: set[str] = set()
        self.embedded = 0

    def _described(self) -> DescribedEmbedder:
        """What there is to know of the embedder, found out by a worker: this process may have no GPU for the model."""
        task = self._ray.remote(num_cpus=1, num_gpus=self._actors.gpus, max_calls=1)(describe)
        with unwrapped():
            described: DescribedEmbedder = self._ray.get(task.remote(self._embedder))
        return described

    def all(self, sources: list[Any]) -> None:
        """Send every source through the stages, and account for what comes back."""
        if not sources:
            return
        self._missing = {name_of(source) for source in sources}
        with contextlib.ExitStack() as ending:
            server: ServerStore | None = None
            if self._store.is_on_server:
                server = ServerStore(self._store, self._settings.run_retry)
            # What workers see of the store: a server each by itself, a folder by asking this process.
            seen: ServerStore | AskedStore = server or self._asked_store(ending)
            stages = self._stages(server, seen, _RemoteRegister(self._actor(ending, Register, seen)))
            with unwrapped():
                for batch in self._rows(sources, stages):
                    rows = unpack(batch)
                    # A folder belongs to one process: this one writes what all others embed.
                    if server is None:
                        rows = write_rows(self._store, rows)
                    self._take(rows)

    def _asked_store(self, ending: contextlib.ExitStack) -> AskedStore:
        questions = self._actor(ending, Questions)
        ending.enter_context(AnsweringThread(self._ray, questions, self._store))
        return AskedStore(questions)

    def _actor(self, ending: contextlib.ExitStack, kind: type, *arguments: Any) -> Any:
        """An actor that lives until the run ends; what its caller asked when it died is asked again."""
        actor = self._ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(kind).remote(*arguments)
        ending.callback(self._ray.kill, actor)
        return actor

    def _stages(
        self, server: ServerStore | None, seen: ServerStore | AskedStore, register: _RemoteRegister
    ) -> list[Any]:
        """(callable, its arguments, how Ray runs it) for each stage, in order."""
        pool = ReaderPool(
            self._settings.page_reader,
            1,
            self._settings.page_timeout,
            exact_pixels=reads_pixels(self.described),
            keep=self._store.picture_settings,
        )
        batch_size = self._settings.batch_size
        stages: list[Any] = [
            (ReadDocuments, (pool, register), {"batch_size": None, **self._actors.reading}),
            (EmbedPages, (self._embedder, seen, register), {"batch_size": batch_size, **self._actors.embedding}),
        ]
        if server is not None:
            stages.append((WritePages, (server,), {"batch_size": batch_size, **self._actors.writing}))
        return stages

    def _rows(self, sources: list[Any], stages: list[Any]) -> Iterator[Any]:
        data = self._ray.data
        tasks_wanted = _TASKS_PER_READER * self._actors.most_readers
        size = min(_MOST_SOURCES, math.ceil(len(sources) / tasks_wanted))
        items = [{"task": f"{place}", "source": pickle.dumps(source)} for place, source in enumerate(sources)]
        dataset = data.from_items(items, override_num_blocks=math.ceil(len(items) / size))
        dataset.context.target_max_block_size = self._actors.block_bytes
        for stage, arguments, settings in stages:
            pool = data.ActorPoolStrategy(**settings.pop("pool"))
            dataset = dataset.map_batches(stage, fn_constructor_args=arguments, compute=pool, **settings)
        yield from dataset.iter_batches(batch_size=None)

    def _take(self, rows: Iterable[PageRow]) -> None:
        for row in rows:
            if row.error is not None:
                raise row.error
            self.embedded += row.embedded
            if row.page is not None:
                self._page_came(row)
            for event in row.events:
                if isinstance(event, EndedDocument):
                    self._ended(event)
                    continue
                self.reporter.failed_reading(event)
                if isinstance(event, DocumentFailed):
                    self._missing.discard(event.failure.source)
        self.reporter.report_progress()

    def _page_came(self, row: PageRow) -> None:
        assert row.page is not None
        document = self._documents.setdefault((row.page.source, row.page.doc_id), _DocumentInPieces())
        document.numbers.add(row.page.number)
        if row.failure is not None:
            self.reporter.failed.append(row.failure)
        else:
            self.reporter.documents.added_pages([row.page])
        self._settle_whole(document)

    def _ended(self, ended: EndedDocument) -> None:
        self.reporter.ended(ended)
        self.reporter.documents.met_elsewhere(ended.done.doc_id, ended.before)
        if ended.copy:
            self._missing.discard(ended.done.source)
            self._copies.append(ended)
            return
        document = self._documents.setdefault((ended.done.source, ended.done.doc_id), _DocumentInPieces())
        document.ended = ended
        self._settle_whole(document)

    def _settle_whole(self, document: _DocumentInPieces) -> None:
        """Settle a document whose end and pages have all come, in whatever order."""
        ended = document.ended
        if ended is not None and len(document.numbers) >= ended.done.pages:
            self._missing.discard(ended.done.source)
            self._documents.pop((ended.done.source, ended.done.doc_id), None)
            self.reporter.settle(ended)

    def finish(self, given: GivenSources) -> None:
        """What can only be said when everything has come."""
        # Copies last: whether anything of their content could be indexed is known only now.
        for ended in self._copies:
            self.reporter.settle(ended)
        for name in sorted(self._missing):
            self.reporter.failed.append(
                Failure(name, "not all of its pages came back from the cluster; index it again.")
            )
        self.reporter.documents.finish(given if self._settings.prune else None)
        self.reporter.report_progress()


@dataclass
class _DocumentInPieces:
    """A document some of whose pages have come. They come in any order, and the end may come before the last page."""

    numbers: set[int] = field(default_factory=set)
    ended: EndedDocument | None = None


@dataclass(frozen=True)
class _ActorPlan:
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
    def on(cls, resources: dict[str, float], cluster: RayCluster) -> _ActorPlan:
        """The plan for a cluster that has these resources now.

        Raises:
            SettingError: It has too few cores for one actor of each stage, and Ray would wait without end.
        """
        cpus, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
        gpus_each = float(gpus > 0)
        if cluster.gpus is not None:
            gpus_each = cluster.gpus
        # Without GPUs one; whoever wants more says so by `embedders`.
        most_embedders = 1
        if gpus_each:
            most_embedders = int(gpus / gpus_each)
        embedders = _range(cluster.embedders, most_embedders)
        readers = _range(cluster.readers, cpus - embedders[1])
        if readers[0] + embedders[0] > cpus:
            raise SettingError(
                f"Ray has {cpus} cores; {readers[0]} readers and {embedders[0]} embedders need one each. "
                "Ask for fewer of them, or start Ray with more: ray.init(num_cpus=...)."
            )
        writers = least_and_most(cluster.writers)
        # A writer does not count: what comes out of it is names only.
        blocks = _BLOCKS_PER_ACTOR * (readers[1] + embedders[1])
        share = int(resources.get("object_store_memory", 0)) // blocks
        return cls(
            {"pool": _pool(readers), "num_cpus": 1},
            {"pool": _pool(embedders), "num_cpus": 1, "num_gpus": gpus_each},
            {"pool": _pool(writers), "num_cpus": 0},
            min(_LARGEST_BLOCK, max(_SMALLEST_BLOCK, share)),
        )


def _range(wanted: int | tuple[int, int] | None, most: int) -> tuple[int, int]:
    """(least, most) actors: as wanted, or from one to as many as there is room for."""
    if wanted is None:
        return 1, max(1, most)
    return least_and_most(wanted)


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
        import ray  # here, because this object also lives in workers

        return ray.get(reply)
