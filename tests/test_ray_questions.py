"""What workers of a cluster ask the process that has a folder open, without a cluster."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CountingEmbedder

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import StoreError
from visrag_integrations.ingestion.ray_questions import (
    Answered,
    AnsweringThread,
    AskedStore,
    ContentsAmong,
    PagesOf,
    Questions,
)
from visrag_integrations.store import content_key


class _Remote:
    """A method of an actor that lives on an event loop in another thread."""

    def __init__(self, method: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._method, self._loop = method, loop

    def remote(self, *arguments: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(self._method(*arguments), self._loop)


class FakeRay:
    """The handle of `Questions`, and the module's `get`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        questions = Questions()
        self.failures: list[Exception] = []
        self.ask = _Remote(questions.ask, loop)
        self.open = _Remote(questions.open, loop)
        self.answer = _Remote(questions.answer, loop)

    def get(self, reply: Any) -> Any:
        if self.failures:
            reply.result()
            raise self.failures.pop()
        return reply.result()


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield FakeRay(loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QdrantPageStore]:
    with QdrantPageStore(tmp_path / "index", pictures=False) as opened:
        opened.prepare(CountingEmbedder())
        yield opened


def _page(doc_id: str, number: int, total: int, picture: bytes | None = None) -> Page:
    return Page(doc_id, number, text="x", source=f"{doc_id}.pdf", metadata={"total_pages": total}, picture=picture)


def test_a_worker_is_told_what_is_stored(ray: FakeRay, store: QdrantPageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = _page("whole", 1, 1, b"one"), _page("elsewhere", 1, 1, b"other")
    store.add_pages([one, _page("part", 2, 3)], np.ones((2, 4)))
    monkeypatch.setitem(sys.modules, "ray", ray)
    asked = AskedStore(ray)
    with AnsweringThread(ray, ray, store):
        assert asked("whole") == (1, None)
        assert asked("part") == (1, frozenset({2}))
        assert asked("unknown") == (0, frozenset())
        assert asked.embeddings_of_equals([one, other]) == {content_key(one): None}
        assert asked.embeddings_of_equals([_page("x", 1, 1)]) == {}, "pages without pictures are asked for by nobody"


def test_an_error_of_the_store_reaches_who_asked(
    ray: FakeRay, store: QdrantPageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray)
    store.close()
    with AnsweringThread(ray, ray, store), pytest.raises(StoreError, match="is closed"):
        AskedStore(ray)("whole")


def test_answering_goes_on_after_the_cluster_failed_once(
    ray: FakeRay, store: QdrantPageStore, caplog: pytest.LogCaptureFixture
) -> None:
    ray.failures.append(ConnectionError("away"))
    with AnsweringThread(ray, ray, store):
        waiting = ray.ask.remote(PagesOf("unknown"))
        assert waiting.result() == (0, frozenset())
    assert "workers cannot be answered" in caplog.text
    assert not ray.failures


def test_an_answer_that_nobody_waits_for_is_dropped(ray: FakeRay) -> None:
    waiting = ray.ask.remote(ContentsAmong(("k",)))
    ((name, question),) = ray.get(ray.open.remote())
    assert question == ContentsAmong(("k",))
    ray.get(ray.answer.remote([Answered("of an actor that died", 1), Answered(name, {"k"}), Answered(name, set())]))
    assert ray.get(waiting) == {"k"}
    assert ray.get(ray.open.remote()) == []
