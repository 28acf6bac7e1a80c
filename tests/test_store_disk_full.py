"""An embedded index on a disk that is full: an error that says so, or a search that works, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import PixelEmbedder
from PIL import Image

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import DiskFullError, StoreError
from visrag_integrations.store import edge_room
from visrag_integrations.store.engine import Point, SparseVector

EMBEDDER = PixelEmbedder()


def pages(doc_id: str, count: int = 5) -> list[Page]:
    return [
        Page(doc_id, number, f"page {number} of {doc_id}", picture=Image.new("RGB", (30, 30), (40 * number, 9, 9)))
        for number in range(1, count + 1)
    ]


def add(store: QdrantPageStore, doc_id: str) -> None:
    made = pages(doc_id)
    store.add_pages(made, EMBEDDER.embed_pages(made))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(EMBEDDER)
        add(store, "a")
    return tmp_path / "index"


def fill(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """So many bytes are free, and that on a disk, wherever tests have their folders."""
    monkeypatch.setattr(edge_room, "_free", lambda home: free)
    monkeypatch.setattr(edge_room, "_is_in_memory", lambda home: False)


# --- what is said, on a disk that says it is full -------------------------------------------------------------------


def test_what_writes_is_refused_and_what_reads_works(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, 1_000_000)
    with QdrantPageStore(index) as store:
        with pytest.raises(
            DiskFullError, match=r"adding pages needs up to 33\.6 MB .* and 1\.0 MB are free. Make room"
        ):
            add(store, "b")
        with pytest.raises(DiskFullError, match="removing pages needs"):
            store.delete(doc_id="a")
        with pytest.raises(DiskFullError, match="changing pages needs"):
            store.add_source("a", "elsewhere.pdf")
        assert len(store.search(EMBEDDER.embed_queries(["page 1"])[0], top_k=3)) == 3
        assert store.count() == len(list(store.scroll())) == 5
        assert store.page_numbers("a") == {1, 2, 3, 4, 5}
    monkeypatch.undo()
    with QdrantPageStore(index) as store:
        store.prepare(EMBEDDER)
        add(store, "b")
        assert store.count() == 10
    left = [path for path in index.glob("pictures/**/*") if path.is_file()]
    assert len(left) == 5, "both documents show the same five pictures"


def test_pictures_of_pages_that_were_refused_do_not_stay(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantPageStore(index) as store:
        fill(monkeypatch, 0)
        other = [Page("b", 1, "text", picture=Image.new("RGB", (30, 30), "yellow"))]
        with pytest.raises(DiskFullError):
            store.add_pages(other, EMBEDDER.embed_pages(other))
        monkeypatch.undo()
    with QdrantPageStore(index) as store:
        store.prepare(EMBEDDER)
    assert len([path for path in index.glob("pictures/**/*") if path.is_file()]) == 5


def test_little_room_is_enough_to_remove_pages(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is how people make room."""
    fill(monkeypatch, 3_000_000)
    with QdrantPageStore(index) as store:
        assert store.delete(doc_id="a") == 5
    assert not [path for path in index.glob("pictures/**/*") if path.is_file()]


def test_a_new_collection_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, 1_000_000)
    with (
        QdrantPageStore(tmp_path / "index") as store,
        pytest.raises(DiskFullError, match="making a collection") as found,
    ):
        store.prepare(EMBEDDER)
    assert isinstance(found.value, StoreError)
    assert isinstance(found.value, OSError)
    assert found.value.errno == 28
    monkeypatch.undo()
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(EMBEDDER)
        add(store, "a")
        assert store.count() == 5


def test_a_memory_file_system_takes_room_for_reading_too(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantPageStore(index) as store:
        fill(monkeypatch, 1_000_000)
        monkeypatch.setattr(edge_room, "_is_in_memory", lambda home: True)
        with pytest.raises(DiskFullError, match="reading from a memory file system"):
            store.count()
        monkeypatch.undo()


def test_an_engine_that_dies_in_the_trial_is_not_loaded(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, 1_000_000)
    monkeypatch.setattr(edge_room, "_TRIAL", "import os, signal; os.kill(os.getpid(), signal.SIGBUS)")
    with pytest.raises(DiskFullError, match="opening the index needs up to"):
        QdrantPageStore(index)
    monkeypatch.undo()
    with QdrantPageStore(index) as store:
        assert store.count() == 5


def test_what_is_reckoned_is_more_than_what_is_taken() -> None:
    """2.3 bytes for a byte of vectors were measured; here 3, and all else on top."""
    asked: list[int] = []
    room = edge_room.DiskRoom(Path("nowhere"))
    room._check = lambda needed, doing, kept=0: asked.append(needed)  # type: ignore[method-assign,assignment,misc]
    vector = np.zeros((700, 128), np.float32)
    words = SparseVector(list(range(200)), [1.0] * 200)
    room.check_adding([Point("1", {"patches": vector, "text": words}, {"page_content": "x" * 1000})])
    assert asked[0] > 3 * vector.nbytes + 6 * 1000 + 48 * 200


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc of Linux")
def test_memory_file_systems_are_known() -> None:
    assert edge_room._is_in_memory(Path("/dev/shm"))
    assert not edge_room._is_in_memory(Path("/proc"))
    assert not edge_room._is_in_memory(Path("/nowhere"))


# --- and on disks that are full ------------------------------------------------------------------------------------

WORK = """
import os, sys
sys.path.insert(0, sys.argv[3])
from test_store_disk_full import EMBEDDER, add
from visrag_integrations import QdrantPageStore
from visrag_integrations.errors import StoreError
action = sys.argv[2]
try:
    with QdrantPageStore(sys.argv[1]) as store:
        if action == "search":
            print(len(store.search(EMBEDDER.embed_queries(["page 1"])[0], top_k=3)), store.count())
        else:
            store.prepare(EMBEDDER)
            add(store, action)
            print("added")
        if action == "killed":
            os._exit(9)
except StoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(params=["ext4", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A disk of its own, of 200 MB; skipped where this user may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    commands = {"tmpfs": [["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)]]}
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 200 << 20)
    commands["ext4"] = [["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(place)]]
    for command in commands[request.param]:
        if shutil.which(command[0]) is None:
            pytest.skip(f"there is no {command[0]}")
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a disk")
    yield SimpleNamespace(path=place, kind=request.param)
    subprocess.run(["umount", "-l", str(place)], check=True)


def run(index: Path, action: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(index), action, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (9 if action == "killed" and "added" in done.stdout else 0), (
        done.returncode,
        done.stderr,
    )
    return done.stdout


def take(path: Path, leave: int) -> None:
    """Fill the disk until so many bytes are free."""
    with path.open("ab", buffering=0) as file:
        while (left := shutil.disk_usage(path).free - leave) > 0:
            try:
                if file.write(b"x" * min(left, 1 << 20)) == 0:
                    return
            except OSError:
                return


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts of Linux")
def test_no_signal_ends_the_process(disk: SimpleNamespace) -> None:
    """Also where the last run was killed, and the engine has to write again what it only has in its log."""
    index = disk.path / "index"
    assert run(index, "a") == "added\n"
    assert run(index, "killed") == "added\n"
    taken, whole = disk.path / "taken", "3 10\n"
    for leave in (40_000_000, 20_000_000, 2_000_000, 200_000, 20_000, 0):
        take(taken, leave)
        found = run(index, "search")
        assert found == whole or "DiskFullError" in found or "No space left" in found, found
        if disk.kind == "ext4" and leave > 0:
            assert found == whole
        added = run(index, "b")
        if added == "added\n":
            assert leave > 32_000_000
            whole = "3 15\n"
        else:
            assert "DiskFullError" in added or "No space left" in added
    taken.unlink()
    assert run(index, "search") == whole
    assert run(index, "b") == "added\n"
    assert run(index, "search") == "3 15\n"


AGAIN = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_store_disk_full import EMBEDDER, take
from visrag_integrations import QdrantPageStore
from visrag_integrations.errors import VisRAGError
from visrag_integrations.ingestion import reindex
class Other(type(EMBEDDER)):
    name = "another"
    def embed_pages(self, pages):
        if sys.argv[3] == "full":  # the disk fills up while the first pages of the new index are embedded
            take(Path(sys.argv[1]).parent / "taken", 0)
        return super().embed_pages(pages)
try:
    with QdrantPageStore(sys.argv[1]) as store:
        report = reindex(store, embedder=Other(), batch_size=2, progress=False)
        print("done", store.info.embedder, store.count(), len(report.failed))
except (VisRAGError, OSError) as error:
    print("error", type(error).__name__, error)
"""


def embed_again(index: Path, how: str) -> str:
    command = [sys.executable, "-c", AGAIN, str(index), str(Path(__file__).parent), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts of Linux")
def test_a_disk_that_fills_up_while_an_index_is_embedded_again(disk: SimpleNamespace) -> None:
    """The old index stays, an error says what is missing, and the same call goes on when there is room."""
    index = disk.path / "index"
    assert run(index, "a") == "added\n"
    failed = embed_again(index, "full")
    assert failed.startswith("error"), failed
    assert "DiskFullError" in failed or "No space left" in failed
    (disk.path / "taken").unlink()
    if disk.kind == "tmpfs":  # two collections of 64 MB, and reading takes memory there: 200 MB are too few to end it
        subprocess.run(["mount", "-o", "remount,size=400m", str(disk.path)], check=True)
    assert run(index, "search") == "3 5\n"
    assert embed_again(index, "with room") == "done another 5 0\n"
