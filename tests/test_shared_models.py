"""One model for all who ask for the same one: `load_embedder(name, shared=True)` and `load_generator` alike."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from visrag_integrations import load_embedder, load_generator
from visrag_integrations.embedders import _named, register_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces import Generator, PageEmbedder
from visrag_integrations.types import Page, Query


class Counted:
    name, kind = "counted", "single"
    made = 0
    closed = 0

    def __init__(self, size: int = 8) -> None:
        self.dimension = size
        type(self).made += 1

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        return [np.ones(self.dimension, np.float32) for _ in pages]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Any]:
        return [np.ones(self.dimension, np.float32) for _ in queries]

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture(autouse=True)
def name() -> Iterator[str]:
    Counted.made = Counted.closed = 0
    register_embedder("counted", Counted, replace=True)
    yield "counted"
    del _named["counted"]


def test_same_name_and_settings_are_one_model() -> None:
    one, other = load_embedder("counted", shared=True), load_embedder("counted", shared=True)
    small = load_embedder("counted", shared=True, size=4)
    assert Counted.made == 2
    assert (one.dimension, other.dimension, small.dimension) == (8, 8, 4)
    for handle in (one, other, small):
        handle.close()
    assert Counted.closed == 2


def test_closing_one_handle_leaves_the_model_to_the_others() -> None:
    one, other = load_embedder("counted", shared=True), load_embedder("counted", shared=True)
    one.close()
    one.close()  # twice is as good as once
    assert Counted.closed == 0
    assert len(other.embed_pages([Page("d", 1, "text")])) == 1
    with pytest.raises(SettingError, match="'counted' was closed"):
        one.embed_queries(["q"])
    other.close()
    assert Counted.closed == 1


def test_a_freed_model_is_loaded_again_for_the_next_who_asks() -> None:
    load_embedder("counted", shared=True).close()
    with load_embedder("counted", shared=True) as again:
        assert len(again.embed_queries(["q"])) == 1
    assert (Counted.made, Counted.closed) == (2, 2)


def test_a_dropped_handle_leaves_the_model_loaded_and_is_no_user() -> None:
    handle = load_embedder("counted", shared=True)
    del handle
    gc.collect()
    with load_embedder("counted", shared=True):
        assert Counted.made == 1
    assert Counted.closed == 1


def test_many_threads_load_it_once() -> None:
    handles: list[PageEmbedder] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        handles.append(load_embedder("counted", shared=True))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counted.made == 1
    for handle in handles:
        assert Counted.closed == 0
        handle.close()
    assert Counted.closed == 1


def test_a_model_that_failed_to_load_is_tried_again() -> None:
    for _ in range(2):
        with pytest.raises(TypeError):
            load_embedder("counted", shared=True, unknown=1)
    load_embedder("counted", shared=True).close()
    assert Counted.closed == 1


def test_a_handle_is_a_plug_and_passes_on_what_else_the_model_has() -> None:
    with load_embedder("ocr", shared=True) as embedder, load_generator("extractive", shared=True) as generator:
        assert isinstance(embedder, PageEmbedder)
        assert isinstance(generator, Generator)
        assert embedder.default_mode == load_embedder("ocr").default_mode
        assert not hasattr(generator, "agenerate_everything")


def test_a_handle_travels_as_its_name() -> None:
    with load_embedder("counted", shared=True) as handle:
        again = pickle.loads(pickle.dumps(handle))
        again.close()
        assert (Counted.made, Counted.closed) == (1, 0)
    assert Counted.closed == 1
