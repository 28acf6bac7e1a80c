"""The folder of an embedded index: locks, kills, other people's files, quantised search."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fakes import PixelEmbedder
from PIL import Image

from visrag_integrations.errors import SettingError, StoreError, StoreFormatError, StoreLockedError
from visrag_integrations.scores.exact import cosine
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page


@dataclass
class Filler:
    name: str = "filler"
    kind: str = "single"
    dimension: int = 8


CHILD = """
import sys, numpy as np
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page
class Filler: name, kind, dimension = "filler", "single", 8
Filler.kind = sys.argv[2]
store = QdrantPageStore(sys.argv[1], pooling="rows" if Filler.kind == "multi" else None, pooled_vectors=2)
store.prepare(Filler())
print("ready", flush=True)
first = 1
while True:
    pages = [Page("d", n, text=f"word{n}", source="a.pdf") for n in range(first, first + 7)]
    shape = (7, 8) if Filler.kind == "single" else (7, 5, 8)
    store.add_pages(pages, np.random.default_rng(first).standard_normal(shape))
    first += 7
    print(first - 1, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def kind() -> str:
    return "single"


@pytest.fixture
def writer(folder: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that adds pages and says how many are in."""
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), kind], stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def filled(folder: Path, pages: int = 3) -> QdrantPageStore:
    store = QdrantPageStore(folder)
    store.prepare(Filler())
    add(store, pages)
    return store


def add(store: QdrantPageStore, pages: int) -> None:
    store.add_pages([Page("d", n, source="a.pdf") for n in range(1, pages + 1)], np.eye(8)[:pages])


def test_reopening_finds_everything(folder: Path) -> None:
    filled(folder).close()
    with QdrantPageStore(str(folder)) as store:
        assert store.folder == folder
        assert store.count() == 3
        assert store.search(np.eye(8)[1], top_k=1)[0].page.number == 2


def test_opening_touches_nothing(folder: Path) -> None:
    with QdrantPageStore(folder) as store:
        assert store.count() == 0
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_kill_loses_no_page_that_was_added(folder: Path, kind: str, writer: subprocess.Popen[str]) -> None:
    assert writer.stdout is not None
    acknowledged = 0
    until = time.monotonic() + 1.0
    for line in writer.stdout:
        acknowledged = 0 if line == "ready\n" else int(line)
        if acknowledged >= 70 and time.monotonic() > until:
            break
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    with QdrantPageStore(folder) as store:
        assert store.count() in (acknowledged, acknowledged + 7)  # a batch is in, or it is not
        assert store.page_numbers("d") == frozenset(range(1, store.count() + 1))
        given = np.random.default_rng(1).standard_normal((7, 8) if kind == "single" else (7, 5, 8))
        for mode in ("dense", "hybrid"):
            assert store.search(given[3], text="word4", mode=mode, top_k=1)[0].page.number == 4
        assert len(store.get_embeddings([page.id for page in store.scroll()])) == store.count()
        store.add_pages([Page("e", 1)], np.ones((1, 8)))
        assert next(store.documents()).doc_id == "e"


def test_another_process_is_told_who_has_the_folder(folder: Path, writer: subprocess.Popen[str]) -> None:
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    with pytest.raises(StoreLockedError, match=f"process {writer.pid}.*server"):
        QdrantPageStore(folder)
    with QdrantPageStore(folder, "another") as store:  # collections are locked one by one
        store.prepare(Filler())
    writer.kill()
    writer.wait()
    with QdrantPageStore(folder) as store:
        assert store.info is not None


def test_one_process_may_open_a_folder_twice(folder: Path) -> None:
    with filled(folder) as one:
        with QdrantPageStore(folder) as two:
            two.add_pages([Page("e", 1)], np.ones((1, 8)))
            assert one.count() == 4
        assert one.count() == 4  # closing one leaves the other


def test_a_store_that_is_forgotten_lets_go(folder: Path) -> None:
    store = filled(folder)
    del store
    code = "import sys; from visrag_integrations.store import QdrantPageStore as S; print(S(sys.argv[1]).count())"
    told = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert told.stdout == "3\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_told_to_open_its_own(folder: Path) -> None:
    with filled(folder) as store:
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=_count, args=(store, there))
        process.start()
        message = here.recv()
        process.join()
        assert "forked" in message
        assert store.count() == 3


def _count(store: QdrantPageStore, pipe: multiprocessing.connection.Connection) -> None:
    try:
        pipe.send(str(store.count()))
    except StoreError as err:
        pipe.send(str(err))


def test_a_collection_that_was_half_made_is_made_again(folder: Path) -> None:
    filled(folder).close()
    (folder / "pages" / "visrag.json").unlink()  # it is written last
    (folder / "pages" / "shard" / "edge_config.json").write_text("{")
    with QdrantPageStore(folder) as store:
        assert store.info is None
    with filled(folder) as store:
        assert store.count() == 3


@pytest.mark.parametrize("recreate", [False, True])
def test_a_kill_right_after_a_new_version_took_over_is_in_nobodys_way(folder: Path, recreate: bool) -> None:
    def switch(store: QdrantPageStore) -> None:
        with store.next_version() as staged:
            staged.prepare(Filler())
            staged.add_pages([Page("e", 1)], np.eye(8)[:1])
            store.take_over(staged)

    with filled(folder) as store:
        shutil.copytree(folder / "pages" / "shard", folder.parent / "old")
        switch(store)
    shutil.copytree(folder.parent / "old", folder / "pages" / "shard")  # such a kill leaves the old vectors
    shutil.copy(folder / "pages" / "visrag.json", folder / "pages.next")  # and the new version's own marker
    with QdrantPageStore(folder) as store:
        assert store.count() == 1
        if recreate:
            store.prepare(Filler(), recreate=True)
        for _ in range(3):
            switch(store)
            assert store.count() == 1
    assert len(list(folder.glob("*/shard"))) == len(list(folder.glob("*/visrag.json"))) == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreFormatError, match="Nothing was changed"):
        QdrantPageStore(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(StoreFormatError, match="is a file"):
        QdrantPageStore(tmp_path / "thesis.tex")


def test_folders_of_a_newer_or_damaged_format(folder: Path) -> None:
    filled(folder).close()
    marker = folder / "visrag.json"
    marker.write_text('{"format_version": 2}')
    with pytest.raises(StoreFormatError, match="upgrade"):
        QdrantPageStore(folder)
    marker.write_text("{")
    with pytest.raises(StoreFormatError, match="damaged"):
        QdrantPageStore(folder)


def test_a_damaged_shard_is_a_named_error_and_lets_go(folder: Path) -> None:
    filled(folder).close()
    config = folder / "pages" / "shard" / "edge_config.json"
    whole = config.read_bytes()
    config.write_text("{")
    with pytest.raises(StoreError, match="opening the index failed"):
        QdrantPageStore(folder)
    config.write_bytes(whole)
    with QdrantPageStore(folder) as store:
        assert store.count() == 3


def test_a_collection_name_never_leaves_the_folder(folder: Path) -> None:
    for name in ("../other", "a/b", "", ".hidden", "pictures", "x" * 200):
        with pytest.raises(SettingError, match="collection name"):
            QdrantPageStore(folder, name)


def test_pictures_lie_in_the_index_folder_by_a_relative_reference(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    with QdrantPageStore(folder) as store:
        store.prepare(Filler())
        store.add_pages([Page("d", 1, picture=Image.new("RGB", (4, 4)))], np.ones((1, 8)))
    moved = folder.rename(tmp_path / "moved")
    with QdrantPageStore(moved) as store:
        page = store.get_pages([Page("d", 1).id])[0]
        assert page.open_image().size == (4, 4)
        assert isinstance(page.picture, Path)
        assert page.picture.is_relative_to(moved / "pictures" / "pages")


def test_binary_search_gives_what_the_exact_search_gives(folder: Path) -> None:
    """2,000 vectors about 40 centres: neighbours are close together, as pages of one document are."""
    rng = np.random.default_rng(11)
    centres = rng.standard_normal((40, 1024))
    given = (centres[np.arange(2000) % 40] + rng.standard_normal((2000, 1024))).astype(np.float32)
    with QdrantPageStore(folder) as store:
        store.prepare(Filler(dimension=1024))
        assert store.info is not None
        assert store.info.quantization == "binary"
        store.add_pages([Page("d", n) for n in range(1, 2001)], given)
        for query in centres[:10] + rng.standard_normal((10, 1024)):
            expected = cosine(query, given)
            best = np.argsort(expected)[::-1][:5]
            found = store.search(query, top_k=5)
            assert [hit.page.number for hit in found] == [int(i) + 1 for i in best]
            assert [hit.score for hit in found] == pytest.approx([expected[i] for i in best], abs=1e-3)


def test_optimize_changes_no_result(folder: Path) -> None:
    rng = np.random.default_rng(5)
    given = rng.standard_normal((300, 8)).astype(np.float32)
    with QdrantPageStore(folder) as store:
        store.prepare(Filler())
        store.add_pages([Page("d", n, text=f"word{n}") for n in range(1, 301)], given)
        before = [hit.page.id for hit in store.search(given[5], top_k=10)]
        store.optimize()
        assert [hit.page.id for hit in store.search(given[5], top_k=10)] == before
        assert store.search(None, text="word7", mode="lexical")[0].page.number == 7
        assert store.count() == 300


def test_quantization_is_a_setting(folder: Path) -> None:
    for collection, wanted, expected in (("a", "binary", "binary"), ("b", None, None), ("c", "auto", None)):
        with QdrantPageStore(folder, collection, quantization=wanted) as store:
            store.prepare(Filler())
            assert store.info is not None
            assert store.info.quantization == expected


@pytest.mark.parametrize("damage", [b"", b"\x00" * 200, b"{"])
def test_a_damaged_index_is_not_to_be_run_again(folder: Path, damage: bytes) -> None:
    with QdrantPageStore(folder) as store:
        store.prepare(PixelEmbedder())
    (folder / "pages" / "shard" / "edge_config.json").write_bytes(damage)
    with pytest.raises(StoreError, match=r"opening the index failed.*Its files are damaged") as found:
        QdrantPageStore(folder)
    assert "again in a new folder" in str(found.value)
    assert "Run it again" not in str(found.value)


def test_an_index_that_was_removed_while_it_is_open_is_an_error_when_pages_are_added(folder: Path) -> None:
    with QdrantPageStore(folder) as store:
        store.prepare(PixelEmbedder())
        shutil.rmtree(folder)
        page = Page("d", 1, "text", picture=Image.new("RGB", (9, 9)))
        with pytest.raises(StoreError, match="Is the index folder still there"):
            store.add_pages([page], PixelEmbedder().embed_pages([page]))


def test_a_kill_in_the_first_moment_of_a_new_index_is_in_nobodys_way(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / ".visrag.json.unfinished").write_bytes(b'{"format')
    with QdrantPageStore(folder) as store:
        store.prepare(PixelEmbedder())
    assert not (folder / ".visrag.json.unfinished").exists()


# --- when a program goes to another folder ----------------------------------------------------------------------------


def test_a_version_that_takes_over_is_made_beside_an_index_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with filled(Path("index")) as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        for pages in (4, 5):  # two names take turns
            with store.next_version() as staged:
                staged.prepare(Filler())
                add(staged, pages)
                assert store.take_over(staged)
            assert store.count() == pages
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with QdrantPageStore(tmp_path / "index") as store:
        assert store.count() == 5


def test_a_version_in_another_folder_does_not_take_over(folder: Path, tmp_path: Path) -> None:
    with filled(folder) as store, QdrantPageStore(tmp_path / "other", "pages.next") as other:
        other.prepare(Filler())
        add(other, 5)
        with pytest.raises(StoreError, match=r"another folder.*next_version\(\)"):
            store.take_over(other)
        assert (store.count(), other.count()) == (3, 5)
    with QdrantPageStore(folder) as store:
        assert store.count() == 3
