"""Pages are prepared while the device computes: seen with a device that waits for events, not for seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_retrievers import tiny, tiny_embedder

from visrag_integrations import Page, load_embedder
from visrag_integrations.errors import EmbedderError, PictureError

SYSTEMS = ["bge-vl-clip", "bge-vl-mllm", "colqwen2", "colpali", "colmodernvbert", "dse-qwen2"]
LONG = 60  # seconds after which what never happens is an error; nothing here takes so long


def page(number: int) -> Page:
    """Each another picture, of one shape."""
    rng = np.random.default_rng(number)
    drawn = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    return Page.from_image(drawn, doc_id="d", number=number)


class SlowDevice:
    """Stands before an embedder's network: each batch waits there until it may go on.

    Args:
        embedder: Whose network it is.
        until: Called with the number of the batch, the first being 1, before the batch is computed.
    """

    def __init__(self, embedder: Any, until: Any) -> None:
        self.batches = 0
        self._until = until
        self._launch = embedder._runner.launch
        embedder._runner.launch = self

    def __call__(self, batch: list[Any]) -> Any:
        self.batches += 1
        self._until(self.batches)
        return self._launch(batch)


class Prepared:
    """Counts the pages that an embedder has prepared, and lets others wait for a number of them."""

    def __init__(self, embedder: Any) -> None:
        self.count = 0
        self.threads: set[str] = set()
        self._changed = threading.Condition()
        self._prepare = embedder._prepare_page
        embedder._prepare_page = self

    def __call__(self, image: Image.Image) -> Any:
        made = self._prepare(image)
        with self._changed:
            self.count += 1
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()
        return made

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, LONG), f"only {self.count} of {count} prepared"


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_next_batch_is_prepared_while_one_is_computed(system: str) -> None:
    pages = [page(number) for number in range(1, 9)]
    expected = tiny_embedder(system).embed_pages(pages)
    with load_embedder(tiny(system), device="cpu", batch_size=2, workers=2) as embedder:
        prepared = Prepared(embedder)
        # Batch n ends only once batch n + 1 is prepared: without overlap this never goes on.
        device = SlowDevice(embedder, lambda number: prepared.wait_for(min(8, 2 * number + 2)))
        found = embedder.embed_pages(pages)
    assert device.batches == 4
    assert all(name.startswith("pages") for name in prepared.threads)
    for one, other in zip(found, expected, strict=True):  # in the order of the pages
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_pages_of_one_batch_are_prepared_in_several_threads(system: str) -> None:
    together = threading.Barrier(3)
    with load_embedder(tiny(system), device="cpu", workers=3) as embedder:
        prepare = embedder._prepare_page

        def meets_two_others(image: Image.Image) -> Any:
            together.wait(LONG)  # goes on only when three threads are here
            return prepare(image)

        embedder._prepare_page = meets_two_others
        assert len(embedder.embed_pages([page(number) for number in range(1, 7)])) == 6


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_endless_book_is_read_a_few_batches_ahead(system: str) -> None:
    taken = 0

    def endless() -> Iterator[Page]:
        nonlocal taken
        while True:
            taken += 1
            yield page(taken)

    class Enough(Exception):
        pass

    def stops(number: int) -> None:
        if number == 3:
            raise Enough

    with load_embedder(tiny(system), device="cpu", batch_size=2, workers=2) as embedder:
        SlowDevice(embedder, stops)
        with pytest.raises(Enough):
            embedder.embed_pages(endless())
        # Three batches, one page that did not fit in the third, and four pages a thread.
        assert taken <= 3 * 2 + 1 + 4 * 2 + 1
        threads = set(embedder._pool._threads)
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


@pytest.mark.parametrize("system", SYSTEMS)
def test_where_the_network_fails_no_more_pages_are_begun(system: str) -> None:
    third_begun, failed = threading.Event(), threading.Event()

    def fails(_: int) -> None:
        assert third_begun.wait(LONG)
        raise RuntimeError("the device is gone")

    with load_embedder(tiny(system), device="cpu", batch_size=1, workers=1) as embedder:
        prepare = embedder._prepare_page
        begun = 0

        def third_waits(image: Image.Image) -> Any:
            nonlocal begun
            begun += 1
            if begun == 3:  # the first is a batch once the second is there
                third_begun.set()
                assert failed.wait(LONG)
            return prepare(image)

        embedder._prepare_page = third_waits
        SlowDevice(embedder, fails)
        with pytest.raises(RuntimeError, match="gone") as kept:
            embedder.embed_pages([page(number) for number in range(1, 20)])
        failed.set()
        embedder._pool.submit(int).result(LONG)  # one thread: its turn comes after all that was not given up
        assert begun == 3
        assert kept.value.__traceback__ is not None  # the error is still held, as by whoever logs it


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_stop_in_the_middle_leaves_an_embedder_that_works(system: str) -> None:
    with load_embedder(tiny(system), device="cpu", batch_size=2, workers=2) as embedder:
        before = embedder.embed_pages([page(1)])

        def breaks_off() -> Iterator[Page]:
            yield from (page(number) for number in range(1, 6))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            embedder.embed_pages(breaks_off())
        assert np.array_equal(embedder.embed_pages([page(1)])[0], before[0])
    with pytest.raises(EmbedderError, match="closed"):
        embedder.embed_pages([page(1)])


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_first_page_that_fails_is_the_one_that_is_named(system: str) -> None:
    without = Page(doc_id="third", number=3)
    cut_off = Page(doc_id="fourth", number=4, picture=b"\x89PNG\r\n\x1a\n")
    with (
        load_embedder(tiny(system), device="cpu", batch_size=1, workers=4) as embedder,
        pytest.raises(PictureError, match=r"Page 3 of 'third' has no picture"),
    ):
        embedder.embed_pages([page(1), page(2), without, cut_off])
