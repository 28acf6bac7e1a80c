"""Kill it anywhere, run it again: no picture is left that no page shows, and none is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from PIL import Image

from visrag_integrations import Page, PageReader, QdrantPageStore, index_documents
from visrag_integrations.ingestion import reindex
from visrag_integrations.store.due_pictures import DuePictures

EMBEDDER = PixelEmbedder()
MOMENTS = {
    "before the picture is saved": "PictureFolder.save = lambda *_: os._exit(9)",
    "while the picture is saved": "os.replace = lambda a, b: os._exit(9) if b.suffix == '.jpg' else rename(a, b)",
    "before pages are added": "EdgeEngine.upsert = lambda *_: os._exit(9)",
    "after pages were added": "PagePictures.shown = lambda *_: os._exit(9)",
    "before pages are removed": "EdgeEngine.delete = lambda *_: os._exit(9)",
    "before pictures are removed": "PictureFolder.delete = lambda *_: os._exit(9)",
    "before the collection is dropped": "EdgeEngine.drop = lambda *_: os._exit(9)",
    "before the new version takes over": "EdgeEngine.take_over = lambda *_: os._exit(9)",
}
ACTIONS = {
    "add": "store.add_pages(*made('new'))",
    "overwrite": "store.add_pages(*made('a', red=200))",
    "delete": "store.delete(doc_id='a')",
    "recreate": "store.prepare(EMBEDDER, recreate=True)",
    "read again": "reindex(store, embedder=EMBEDDER, sources=[given], progress=False, workers=1, reader=READER)",
}
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[2])
from test_store_due_pictures import *
from visrag_integrations.store.edge import EdgeEngine
from visrag_integrations.store.picture_files import PagePictures, PictureFolder
given, rename = sys.argv[3], os.replace
with QdrantPageStore(sys.argv[1]) as store:
    store.prepare(EMBEDDER)
    {moment}
    {action}
"""
READER = PageReader(ocr="never", max_pixels=60_000)


def made(doc_id: str, red: int = 0) -> tuple[list[Page], list[object]]:
    pages = [
        Page(doc_id, number, f"page {number} of {doc_id}", picture=Image.new("RGB", (40, 40), (red, 50 * number, 0)))
        for number in range(1, 5)
    ]
    return pages, EMBEDDER.embed_pages(pages)


def pictures(index: Path) -> list[Path]:
    return sorted(path for path in index.glob("pictures/**/*") if path.is_file())


def shown(store: QdrantPageStore) -> set[str]:
    return {str(page.picture) for page in store.scroll() if page.picture is not None}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(EMBEDDER)
        store.add_pages(*made("a"))
        store.add_pages(*made("b", red=90))
    return tmp_path / "index"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    draw_pdf(folder / "c.pdf", ["one", "two"])
    return folder


def test_no_picture_is_left_after_a_kill_between_two_steps(index: Path, given: Path) -> None:
    check("delete", "before pictures are removed", index, given)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_no_picture_is_left_after_the_next_run(action: str, moment: str, index: Path, given: Path) -> None:
    check(action, moment, index, given)


def check(action: str, moment: str, index: Path, given: Path) -> None:
    """The action, killed at that moment; then the next run."""
    program = PROGRAM.format(moment=MOMENTS[moment], action=ACTIONS[action])
    done = subprocess.run(
        [sys.executable, "-c", program, str(index), str(Path(__file__).parent), str(given)],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    assert done.returncode in (0, 9)  # 0: this action has no such moment
    with QdrantPageStore(index) as store:
        index_documents([given], store=store, embedder=EMBEDDER, prune=True, progress=False, workers=1, reader=READER)
        if action == "read again":  # what a run that was cut off has made belongs to the run that goes on
            reindex(store, embedder=EMBEDDER, sources=[given], progress=False, workers=1, reader=READER)
        assert shown(store) == {str(path) for path in pictures(index)}
        assert all(page.open_image() for page in store.scroll())
        others = store.page_numbers("b")
        if action == "read again":
            assert others == set()
        elif action == "recreate":  # killed before the old collection was dropped, or after
            assert others in (set(), {1, 2, 3, 4})
        else:
            assert others == {1, 2, 3, 4}
    assert not list(index.rglob("due_pictures"))
    assert not list(index.rglob("*.unfinished"))


def test_reading_files_again_removes_the_pictures_of_those_that_are_gone(index: Path, given: Path) -> None:
    with QdrantPageStore(index) as store:
        reindex(store, embedder=EMBEDDER, sources=[given], progress=False, workers=1, reader=READER)
        assert store.count() == 2
        assert shown(store) == {str(path) for path in pictures(index)}


def test_a_picture_that_a_page_shows_again_stays(index: Path) -> None:
    """A page was removed, the process was killed, and the same picture came back with another page."""
    due = DuePictures(index / "pages" / "due_pictures")
    references = [str(path.relative_to(index / "pictures")) for path in pictures(index)]
    due.note(references)
    with QdrantPageStore(index) as store:
        store.prepare(EMBEDDER)
        assert len(shown(store)) == 8
        assert len(pictures(index)) == 8
    assert not list(index.rglob("due_pictures"))


def test_a_search_leaves_the_list_to_who_writes(index: Path) -> None:
    due = DuePictures(index / "pages" / "due_pictures")
    due.note(["pages/aa/bb.jpg"])
    with QdrantPageStore(index) as store:
        assert store.search(EMBEDDER.embed_queries(["page"])[0], top_k=1)
    assert due.all() == {"pages/aa/bb.jpg"}


def test_a_line_that_a_kill_cut_off_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "due_pictures"
    path.write_bytes(b"pages/aa/bb.jpg\npages/cc/d")
    assert DuePictures(path).left() == {"pages/aa/bb.jpg"}


def test_lines_that_lead_elsewhere_remove_nothing(index: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"x")
    (index / "pages" / "due_pictures").write_text("../../kept\n/etc/passwd\n" + "x" * 5000 + "\n\xff\n", "latin-1")
    with QdrantPageStore(index) as store:
        store.prepare(EMBEDDER)
        assert len(shown(store)) == len(pictures(index)) == 8
    assert (tmp_path / "kept").exists()


def test_two_stores_of_one_process_share_the_list(index: Path) -> None:
    with QdrantPageStore(index) as one, QdrantPageStore(index) as other:
        one.prepare(EMBEDDER)
        other.prepare(EMBEDDER)
        one.add_pages(*made("c", red=150))
        other.delete(doc_id="a")
        assert shown(one) == {str(path) for path in pictures(index)}
    assert not list(index.rglob("due_pictures"))
