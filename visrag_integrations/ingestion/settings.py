"""`IndexSettings`: what `index_documents` and `index_documents_ray` are both told, checked and completed once."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Union

from visrag_integrations.indexing import check_batch_size
from visrag_integrations.ingestion.progress import IndexProgress
from visrag_integrations.ingestion.retry import Retry, RetryingStoreClient
from visrag_integrations.ingestion.sources import GivenSources
from visrag_integrations.readers import PageReader
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page

GivenSource = Union[str, "os.PathLike[str]", bytes]
GivenSourcesArgument = GivenSource | Iterable[GivenSource]


@dataclass(frozen=True)
class IndexSettings:
    """The arguments that both ways to index have; their docstrings say what each means.

    Raises:
        SettingError: `batch_size` is not a whole number from 1.
    """

    reader: PageReader | None
    page_timeout: float
    batch_size: int
    prune: bool
    retry: Retry | None
    progress: bool | None
    on_progress: Callable[[IndexProgress], None] | None
    on_failure: Callable[[Failure], None] | None
    complete: Callable[[Page], Page] | None = None
    stop: threading.Event = field(default_factory=threading.Event, repr=False)

    # Checked first of all: nothing is opened or started for settings that cannot work.
    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)

    @functools.cached_property
    def page_reader(self) -> PageReader:
        """The reader that was given, or a new one."""
        return self.reader or PageReader()

    @functools.cached_property
    def run_retry(self) -> Retry:
        """The retry that was given, stopped by this run and no other."""
        return replace(self.retry or Retry(), stop=self.stop)

    def measured(self, sources: GivenSourcesArgument) -> GivenSources:
        """The sources; their sizes are looked up where somebody is shown how much is left."""
        return GivenSources(sources, measure=self.progress is not False or self.on_progress is not None)

    def retrying(self, store: QdrantPageStore) -> AbstractContextManager[None]:
        """For as long as the block lasts, the store's requests are tried again as `retry` says."""
        return store.client_through(functools.partial(RetryingStoreClient, retry=self.run_retry))
