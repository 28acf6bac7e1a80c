"""The embedded engine's log is cut while an index is filled: it stays short, and nothing that was added is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import PixelEmbedder

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import StoreError
from visrag_integrations.store import edge_log

EMBEDDER = PixelEmbedder()
# Pages whose metadata take a megabyte each: few of them fill files of the log, which are 32 MB long.
LETTERS = "x" * 1_000_000
PAGES = 150
ONE_FILE = 32 << 20


def write(index: Path, pages: int) -> QdrantPageStore:
    """An index that is left open; only the last pages are taken again, so that its own files stay small."""
    store = QdrantPageStore(index, pictures=False)
    store.prepare(EMBEDDER)
    for number in range(pages):
        page = Page("document", number % 10 + 1, f"page {number}", metadata={"letters": LETTERS, "turn": number})
        store.add_pages([page], EMBEDDER.embed_pages([page]))
    return store


def logged(index: Path) -> int:
    """Bytes of the files of the log."""
    return sum(path.stat().st_size for path in (index / "pages" / "shard" / "wal").iterdir() if path.is_file())


def turns(store: QdrantPageStore) -> list[int]:
    """Which of the writes can be read, by page."""
    found = store.get_pages([Page("document", number).id for number in range(1, 11)])
    assert {page.metadata["letters"] for page in found} == {LETTERS}
    return sorted(page.metadata["turn"] for page in found)


@pytest.mark.slow
def test_the_log_stays_short_while_an_index_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_log, "LONGEST", 10**6)
    with write(tmp_path / "never cut", PAGES):
        assert logged(tmp_path / "never cut") > 4 * ONE_FILE, "all that was added"
    monkeypatch.setattr(edge_log, "LONGEST", 1)
    with write(tmp_path / "cut", PAGES) as store:
        # The engine keeps the last file or two, fills one, and makes one ready.
        assert logged(tmp_path / "cut") <= 4 * ONE_FILE
        assert turns(store) == list(range(PAGES - 10, PAGES))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_kill_after_the_log_was_cut_loses_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; import test_store_log; "
        "test_store_log.edge_log.LONGEST = 1; test_store_log.write(Path(sys.argv[1]), 75); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "index")], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    with QdrantPageStore(tmp_path / "index", pictures=False) as store:
        assert turns(store) == list(range(65, 75))


def test_an_index_without_a_log_is_never_cut(tmp_path: Path) -> None:
    log = edge_log.UpdateLog()
    assert not log.is_long(tmp_path)
    log.was_cut(tmp_path)
    assert not log.is_long(tmp_path)


def test_what_the_engine_keeps_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    for number in range(edge_log.LONGEST):
        (tmp_path / "wal" / f"closed-{number}").touch()
    log = edge_log.UpdateLog()
    assert log.is_long(tmp_path)
    log.was_cut(tmp_path)  # it kept them all: not again before as many are there once more
    assert not log.is_long(tmp_path)
    for number in range(edge_log.LONGEST):
        assert not log.is_long(tmp_path)
        (tmp_path / "wal" / f"closed-more-{number}").touch()
    assert log.is_long(tmp_path)


def test_a_version_that_took_over_has_a_log_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    for number in range(edge_log.LONGEST):
        (tmp_path / "wal" / f"closed-{number}").touch()
    with write(tmp_path / "index", 1) as store:
        engine: Any = store._engine
        engine._log.was_cut(tmp_path)  # the engine kept as many files of the old one
        with store.next_version() as staged:
            staged.prepare(EMBEDDER)
            assert store.take_over(staged)
        assert engine._log.is_long(tmp_path), "nothing is known of what it keeps of the new one"


class Unflushed:
    """A shard whose files cannot be written through."""

    def __init__(self, shard: Any, said: str) -> None:
        self._shard, self._said = shard, said
        self.tried = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shard, name)

    def flush(self) -> None:
        self.tried += 1
        raise RuntimeError(self._said)


def test_a_disk_that_is_full_when_the_log_is_cut_fails_nothing_that_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(edge_log, "LONGEST", 0)  # is long at once
    with write(tmp_path / "index", 3) as store:
        engine: Any = store._engine
        real, engine._shard = engine._shard, Unflushed(engine._shard, "IO Error: No space left on device (os error 28)")
        assert store.delete(doc_id="document") == 3
        assert engine._shard.tried
        assert "the disk is full, so that its log stays" in caplog.text
        assert store.count() == 0
        engine._shard = real
    with write(tmp_path / "index", 2) as store:
        assert store.count() == 2


def test_files_that_cannot_be_written_for_another_reason_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_log, "LONGEST", 0)
    with write(tmp_path / "index", 3) as store:
        engine: Any = store._engine
        real, engine._shard = engine._shard, Unflushed(engine._shard, "IO Error: Input/output error (os error 5)")
        with pytest.raises(StoreError, match="removing pages failed: IO Error: Input/output error"):
            store.delete(doc_id="document")
        engine._shard = real
