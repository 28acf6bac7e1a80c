"""What the server counts, for Prometheus."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from visrag_integrations.files.scratch import ScratchFolder

# Upper ends of the buckets: from a search of a small index to the longest `/ask` that is allowed by default.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# Prometheus' own variable: the folder where several processes count together. It is read when that package is imported.
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
# Powers of two around the default `max_batch` of 32.
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The numbers of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "visrag_requests", "Requests that were answered", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "visrag_request_seconds", "From a request to its last byte", ["route"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        # "livesum": of a worker that died, nothing is under way any more. What it counted elsewhere stays.
        self.in_flight = Gauge(
            "visrag_requests_in_flight", "Requests that are worked on", registry=self.registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.overloaded = Counter(
            "visrag_requests_overloaded", "Requests beyond the limit of concurrency", registry=self.registry
        )
        self.batch_queries = Histogram(
            "visrag_batch_queries", "Queries that were embedded together", buckets=_SIZES, registry=self.registry
        )
        self.embed_seconds = Histogram(
            "visrag_embed_seconds", "Embedding one batch of queries", buckets=_SECONDS, registry=self.registry
        )

    def batch(self, queries: int, seconds: float) -> None:
        """One batch of queries was embedded."""
        self.batch_queries.observe(queries)
        self.embed_seconds.observe(seconds)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format; of all processes together where several count together."""
        if not os.environ.get(_SHARED):
            return generate_latest(self.registry)
        # This process's own numbers are in the folder too, beside those of the others.
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


@contextlib.contextmanager
def counted_together() -> Iterator[None]:
    """Meanwhile processes that are started count together: each of them shows the numbers of all."""
    before = os.environ.get(_SHARED)
    with ScratchFolder("metrics") as folder:
        os.environ[_SHARED] = str(folder)
        try:
            yield
        finally:
            if before is None:
                del os.environ[_SHARED]
            else:
                os.environ[_SHARED] = before


def process_is_over(process: int) -> None:
    """What this process has counted stays; what it was doing does not."""
    mark_process_dead(process)  # type: ignore[no-untyped-call]
