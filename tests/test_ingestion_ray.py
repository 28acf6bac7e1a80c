"""index_documents_ray on a local cluster of two readers and two embedders: the same collection, whatever dies."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
import ray
from crashing_reader import CrashingReader
from drawing import draw_pdf
from fake_qdrant import serving
from fakes import PixelEmbedder
from noting_embedder import NotingEmbedder, noted

from visrag_integrations import PageReader, QdrantPageStore, index_documents
from visrag_integrations.errors import MissingExtraError, SettingError, StoreError, StoreMismatchError
from visrag_integrations.ingestion import RayCluster, Retry, aindex_documents_ray, index_documents_ray

TESTS = Path(__file__).parent
READER = PageReader(backend="pdfium", ocr="never", max_pixels=200_000)
ONE, TWO = RayCluster(readers=1, embedders=1), RayCluster(readers=2, embedders=2)
QUICK = Retry(limit=6, first_wait=0.01)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),  # it is started once
    pytest.mark.timeout(900),
    # Ray's own code uses settings of its own that it has deprecated, whenever its context is made.
    pytest.mark.filterwarnings("ignore:`use_.*is deprecated:DeprecationWarning"),
    # It leaves log files and sockets of its processes to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # It says that it will leave the visible devices alone where none were asked for, from a version on.
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Four cores on paper, so that two readers and two embedders run at once; no nicer than the tests beside them."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        patch.setenv("PYTHONPATH", path, prepend=os.pathsep)
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=200 << 20,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four documents of five pages, a copy, one page that two share, a broken and an encrypted one."""
    made = tmp_path_factory.mktemp("drawn")
    for n in range(4):
        draw_pdf(made / f"{n}.pdf", [f"alpha {n} {page}" for page in range(4)] + ["the same everywhere"])
    shutil.copy(made / "3.pdf", made / "copy of 3.pdf")
    (made / "broken.pdf").write_bytes(b"%PDF-1.7 this is all there is")
    with pymupdf.open(made / "0.pdf") as document:
        document.save(made / "encrypted.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="secret")
    return made


@pytest.fixture(scope="module")
def plain(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """What the plain pipeline reports, and makes of them."""
    with QdrantPageStore(tmp_path_factory.mktemp("plain") / "index") as store:
        report = index_documents([drawn], store=store, embedder=PixelEmbedder(), reader=READER, workers=1)
        return report, contents(store)


@pytest.fixture
def folder(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "documents")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    made = tmp_path / "notes"
    made.mkdir()
    return made


def index(sources: Any, store: QdrantPageStore, embedder: Any = PixelEmbedder, **settings: Any) -> Any:
    settings = {"reader": READER, "cluster": ONE, "batch_size": 4, "retry": QUICK} | settings
    return index_documents_ray(sources, store=store, embedder=embedder, **settings)


def contents(store: QdrantPageStore) -> dict[str, Any]:
    """Everything that a collection holds of its pages: payloads, vectors, and the bytes of the pictures."""
    pages = {page.id: page for page in store.scroll()}
    vectors = store.get_embeddings(list(pages))
    return {
        id_: (
            page.text,
            sorted(Path(source).name for source in page.metadata.get("sources", [page.source])),
            {key: value for key, value in page.metadata.items() if key != "sources"},
            list(page.words),
            page.picture.read_bytes() if isinstance(page.picture, Path) else None,
            vectors[id_],
        )
        for id_, page in pages.items()
    }


def assert_same(found: dict[str, Any], wanted: dict[str, Any], *, pictures: bool = True) -> None:
    assert found.keys() == wanted.keys()
    for id_, (*payload, picture, vector) in found.items():
        assert tuple(payload) == wanted[id_][:-2]
        assert not pictures or picture == wanted[id_][-2]
        np.testing.assert_allclose(vector, wanted[id_][-1], rtol=0, atol=1e-6)


def counts(report: Any) -> tuple[Any, ...]:
    failed = sorted((Path(failure.source).name, failure.error, failure.page) for failure in report.failed)
    return report.documents, report.pages, report.added, report.unchanged, report.removed, failed, set(report.doc_ids)


def test_the_collection_equals_that_of_the_plain_pipeline(
    drawn: Path, tmp_path: Path, notes: Path, plain: tuple[Any, dict[str, Any]]
) -> None:
    reported: list[Any] = []
    with QdrantPageStore(tmp_path / "index") as store:
        report = index(
            [drawn], store, functools.partial(NotingEmbedder, notes), cluster=TWO, on_failure=reported.append
        )
        assert counts(report) == counts(plain[0])
        assert {Path(failure.source).name for failure in reported} == {"broken.pdf", "encrypted.pdf"}
        assert_same(contents(store), plain[1])
        assert 1 <= len({pid for pid, _ in noted(notes)}) <= 2
        assert 17 <= report.embedded <= 20, "of the four equal pages at least one, of the copy none"

        again = index([drawn], store, functools.partial(NotingEmbedder, notes / "nowhere"))
        assert (again.added, again.unchanged, again.embedded) == (0, 20, 0)
        assert len(again.failed) == 2

        other = PixelEmbedder()
        other.name = "other"
        with pytest.raises(StoreMismatchError, match="pixels"):
            index([drawn], store, other)


def test_changed_and_vanished_files(folder: Path, tmp_path: Path, notes: Path) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        index_documents([folder], store=store, embedder=PixelEmbedder(), reader=READER, workers=1)
        draw_pdf(folder / "0.pdf", ["alpha 0 0", "gamma", "alpha 0 2"])
        (folder / "1.pdf").unlink()
        report = index([folder], store, functools.partial(NotingEmbedder, notes), prune=True)
        assert (report.added, report.unchanged, report.removed) == (1, 12, 3 + 5)
        assert len(noted(notes)) == report.embedded == 1, "the other pages of the changed file took their vectors"
        found = contents(store)
    with QdrantPageStore(tmp_path / "fresh") as store:
        index_documents([folder], store=store, embedder=PixelEmbedder(), reader=READER, workers=1)
        assert_same(found, contents(store))


def test_a_worker_is_killed_and_the_run_ends_right(
    drawn: Path, tmp_path: Path, notes: Path, plain: tuple[Any, dict[str, Any]]
) -> None:
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            killed.extend(pid for pid, _ in noted(notes)[:1])
            time.sleep(0.01)
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with QdrantPageStore(tmp_path / "index") as store:
        report = index([drawn], store, functools.partial(NotingEmbedder, notes, seconds=0.1), cluster=TWO)
        killer.join()
        assert counts(report) == counts(plain[0])
        assert_same(contents(store), plain[1])
    assert any(pid not in killed for pid, _ in noted(notes))


def test_pages_that_kill_their_workers_are_reported(folder: Path, tmp_path: Path, notes: Path) -> None:
    draw_pdf(folder / "poison.pdf", ["first", "poison", "third"])
    draw_pdf(folder / "crash-1.pdf", ["kills its reader", "second"])
    reader = CrashingReader(backend="pdfium", ocr="never", max_pixels=200_000)
    with QdrantPageStore(tmp_path / "index") as store:
        report = index(
            [folder / "poison.pdf", folder / "crash-1.pdf"],
            store,
            functools.partial(NotingEmbedder, notes),
            reader=reader,
        )
        assert (report.documents, report.pages) == (2, 3)
        failed = {(Path(failure.source).name, failure.page): failure.error for failure in report.failed}
        assert failed.keys() == {("poison.pdf", 2), ("crash-1.pdf", 1)}
        assert "ended the embedding process 2 times" in failed["poison.pdf", 2]
        assert "crashed the reading process" in failed["crash-1.pdf", 1]


def test_what_an_embedder_raises_ends_the_run_and_any_run_goes_on_later(
    folder: Path, tmp_path: Path, notes: Path, plain: tuple[Any, dict[str, Any]]
) -> None:
    bad = draw_pdf(tmp_path / "bad.pdf", [f"broken {page}" for page in range(6)])
    with QdrantPageStore(tmp_path / "index") as store:
        with pytest.raises(ConnectionResetError, match="the device is gone"):
            index([folder, bad], store, functools.partial(NotingEmbedder, notes))
        assert_goes_on(store, folder, plain[1])


def assert_goes_on(store: QdrantPageStore, folder: Path, whole: dict[str, Any], *, pictures: bool = True) -> None:
    """The plain pipeline finishes what a run on the cluster began, and embeds nothing that was durable."""
    kept, embedder = store.count(), PixelEmbedder()
    report = index_documents([folder], store=store, embedder=embedder, reader=READER, workers=1)
    assert (report.pages, report.unchanged) == (20, kept)
    assert embedder.embedded <= 20 - kept
    assert_same(contents(store), whole, pictures=pictures)


async def test_progress_may_stop_a_run(drawn: Path, tmp_path: Path) -> None:
    def stop(progress: Any) -> None:
        raise InterruptedError(progress.pages)

    settings: dict[str, Any] = {"embedder": PixelEmbedder(), "reader": READER, "cluster": ONE, "on_progress": stop}
    with QdrantPageStore(tmp_path / "index") as store, pytest.raises(InterruptedError):
        await aindex_documents_ray([drawn], store=store, **settings)
    assert ray.is_initialized(), "a cluster that was joined before is not left"


def test_urls_into_a_server_with_shards_that_refuses_every_third_request(
    drawn: Path, tmp_path: Path, plain: tuple[Any, dict[str, Any]]
) -> None:
    faults = ("refused", "503", "429", "cut", "lost", "twice")
    asked = {"shard_number": 6, "replication_factor": 2, "write_consistency_factor": 1}
    settings: dict[str, Any] = {"pictures": tmp_path / "pictures", "server_options": asked, "timeout": 60}
    missing = (tmp_path / "nothing.pdf").as_uri()
    with serving() as server, QdrantPageStore(server.url, **settings) as store:
        server.plan = lambda number, method, path: faults[number // 3 % len(faults)] if number % 3 == 0 else None
        report = index([f"file://{drawn}", missing], store, cluster=RayCluster(readers=1, embedders=1, writers=2))
        server.plan = lambda *_: None
        failed = {failure.source.rpartition("/")[2]: failure.error for failure in report.failed}
        assert failed.keys() == {"broken.pdf", "encrypted.pdf", "nothing.pdf"}
        assert "there is no such file" in failed["nothing.pdf"]
        assert counts(report)[:5] == counts(plain[0])[:5]
        assert_same(contents(store), plain[1])
        assert all(source.startswith("file:///") for found in store.documents() for source in found.sources)
        assert {name: server.created["pages.v1"][name] for name in asked} == asked
        assert all(server.faults[fault] for fault in faults)


def test_a_server_that_goes_away_ends_the_run_and_any_run_goes_on_later(
    drawn: Path, plain: tuple[Any, dict[str, Any]]
) -> None:
    def writes(method: str, path: str) -> bool:
        return (method, path) == ("PUT", "/collections/pages/points")

    with serving() as server, QdrantPageStore(server.url, timeout=60) as store:
        server.plan = lambda _, method, path: (
            "503" if writes(method, path) and server.requests.count(f"{method} {path}") > 3 else None
        )
        with pytest.raises(StoreError, match="run the same again"):
            index([drawn], store, retry=Retry(limit=2, first_wait=0.01))
        server.plan = lambda *_: None
        assert 0 < store.count() < 20
        assert_goes_on(store, drawn, plain[1], pictures=False)


def test_settings_are_checked(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        with pytest.raises(SettingError, match="Ray has 4 cores; 9 readers and 1 embedders need one each"):
            index([drawn], store, cluster=RayCluster(readers=9))
        with pytest.raises(SettingError, match="batch_size is 0"):
            index([drawn], store, batch_size=0)
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingExtraError, match=r'pip install "visrag-integrations\[ray\]"'):
            index([drawn], store)
    with pytest.raises(SettingError, match=r"readers=\(2, 1\)"):
        RayCluster(readers=(2, 1))
    with pytest.raises(SettingError, match=r"server_options has shards; allowed: .*shard_number"):
        QdrantPageStore(":memory:", server_options={"shards": 6})
    with pytest.raises(SettingError, match="is a folder"):
        QdrantPageStore(tmp_path / "folder", server_options={"shard_number": 6})


def test_the_command_line_starts_ray_and_is_silent(drawn: Path, tmp_path: Path) -> None:
    paths = [str(drawn / "1.pdf"), str(drawn / "broken.pdf")]
    options = ["--index", str(tmp_path / "index"), "--embedder", "ocr", "--ocr", "never", "--ray", "local", "--json"]
    command = [sys.executable, "-m", "visrag_integrations.cli", "index", *paths, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"visrag: failed: {paths[1]}: ")
    assert done.stderr.count("\n") == 1, "Ray says nothing"
    printed = json.loads(done.stdout)
    assert (printed["documents"], printed["added"], len(printed["failed"])) == (1, 5, 1)
