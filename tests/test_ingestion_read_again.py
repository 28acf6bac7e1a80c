"""`visrag reindex --read-again`: a collection that an older version of the reader filled, read again from its files."""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from fake_qdrant import serving
from fakes import CountingEmbedder

from visrag_integrations import Page, PageReader, PageRetriever, QdrantPageStore, index_documents, load_embedder
from visrag_integrations.cli import main
from visrag_integrations.errors import SettingError
from visrag_integrations.ingestion import reindex
from visrag_integrations.interfaces.reader_versions import READER_VERSION, version_of
from visrag_integrations.store import outdated

OLDER = Path(__file__).parent / "data" / "older_index" / "at_reader_version_1.tar.xz"
READER = PageReader(backend="pdfium", ocr="never", max_pixels=100_000)


@pytest.fixture(autouse=True)
def nothing_was_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outdated, "_told", set())


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents in `docs`, and the `index` that the code of an older version made of them."""
    with tarfile.open(OLDER) as packed:
        packed.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(index: Path | str = "index") -> dict[str, str]:
    with QdrantPageStore(index) as store:
        return {Path(page.source).name: page.text for page in store.scroll()}


def test_an_index_of_the_older_code_is_searched_with_a_warning(older: Path, caplog: pytest.LogCaptureFixture) -> None:
    with QdrantPageStore("index") as store:
        retriever = PageRetriever(load_embedder("ocr"), store)
        assert "swordfish" in retriever.retrieve("secret password", top_k=1)[0].page.text
        assert caplog.text.count("reindex --read-again") == 1
        retriever.retrieve("again")
        assert caplog.text.count("reindex --read-again") == 1, "said once"


def test_the_command_line_says_it_and_mends_it(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "swordfish" in texts()["minutes.pdf"], "the older code took what nobody can see"
    assert main(["search", "secret password", "--index", "index"]) == 0
    assert capsys.readouterr().err.count("visrag reindex --read-again") == 1

    assert main(["reindex", "--read-again", "--index", "index", "--quiet", "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["documents"], report["pages"], report["failed"]) == (2, 2, [])
    mended = texts()
    assert "Lisbon" in mended["minutes.pdf"]
    assert "swordfish" not in mended["minutes.pdf"]
    assert "secret" not in mended["invoice.pdf"]
    assert mended["invoice.pdf"].index("Invoice date:") < mended["invoice.pdf"].index("20-10-2031")

    assert main(["search", "total", "--index", "index"]) == 0
    assert "read-again" not in capsys.readouterr().err


def test_new_documents_do_not_hide_that_others_are_old(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_pdf(older / "docs" / "new.pdf", ["fresh words"])
    assert main(["index", "docs", "--index", "index", "--quiet"]) == 0
    assert "read-again" in capsys.readouterr().err, "unchanged files are not read again, and that is said"
    assert "swordfish" in texts()["minutes.pdf"]
    assert main(["search", "fresh", "--index", "index"]) == 0
    assert "read-again" in capsys.readouterr().err


def test_what_is_gone_is_named_and_stays(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (older / "docs" / "minutes.pdf").unlink()
    assert main(["reindex", "--read-again", "--index", "index", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "minutes.pdf" in said
    assert "gone" in said
    now = texts()
    assert "secret" not in now["invoice.pdf"], "what could be read again was"
    assert "Lisbon" in now["minutes.pdf"]
    assert main(["search", "secret", "--index", "index"]) == 0
    assert "read-again" in capsys.readouterr().err, "an old page is there still"
    with QdrantPageStore("index") as store:
        (page,) = store.scroll({"source": "minutes.pdf"})
        assert page.open_image().size[0] > 100

    assert main(["reindex", "--read-again", "--prune", "--index", "index", "--quiet"]) == 0
    assert list(texts()) == ["invoice.pdf"]
    capsys.readouterr()
    assert main(["search", "secret", "--index", "index"]) == 0
    assert "read-again" not in capsys.readouterr().err


def test_a_folder_that_is_not_there_proves_nothing(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(older / "docs", older / "elsewhere")
    assert main(["reindex", "--read-again", "--prune", "--index", "index", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "minutes.pdf" in said
    assert "invoice.pdf" in said
    assert "nothing could be read again" in said
    assert set(texts()) == {"invoice.pdf", "minutes.pdf"}


def test_a_run_that_was_cut_off_goes_on(filled: QdrantPageStore, tmp_path: Path) -> None:
    class CutOff(CountingEmbedder):
        def embed_pages(self, pages: Any) -> Any:
            pages = list(pages)
            if any("beta" in page.text for page in pages):
                raise KeyboardInterrupt
            return super().embed_pages(pages)

    settings: dict[str, Any] = {"read_again": True, "workers": 1, "progress": False, "batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        reindex(filled, embedder=CutOff(), **settings)
    assert "alpha first hidden" in {page.text for page in filled.scroll()}, "the old one is searched still"
    embedder = CountingEmbedder()
    reindex(filled, embedder=embedder, **settings)
    found = {page.text.strip() for page in filled.scroll()}
    assert {"alpha first", "beta second", "gamma of ada"} <= found
    # Once for the owner's own note, which has that place too; the page itself was embedded in the first run.
    assert embedder.embedded.count(("one.pdf", 1)) == 1


def test_other_pages_of_a_run_that_was_cut_off_are_read_again(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain `reindex` copies stored text; when it was cut off, its copies are no pages that were read again."""
    embedder = load_embedder("ocr")
    with QdrantPageStore("index") as store:
        assert reindex(store, embedder=_Breaking()).failed
        report = reindex(store, embedder=embedder, read_again=True, workers=1, progress=False)
        assert report.added == 2
    assert "swordfish" not in texts()["minutes.pdf"]


class _Breaking(CountingEmbedder):
    """Of the `ocr` embedder's kind; the second page fails."""

    name, kind, dimension = "ocr", "multi", 256  # type: ignore[assignment]

    @property
    def fingerprint(self) -> Any:
        return load_embedder("ocr").fingerprint

    def embed_pages(self, pages: Any) -> Any:
        pages = list(pages)
        if any("Lisbon" in page.text for page in pages):
            raise ValueError("broken")
        return load_embedder("ocr").embed_pages(pages)


# --- what the store holds beside documents of a reader ---------------------------------------------------------------


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantPageStore]:
    """A store whose pages an older version is said to have read, with two tenants and pages of the owner's own."""
    monkeypatch.chdir(tmp_path)
    draw_pdf(tmp_path / "one.pdf", ["alpha first", "beta second"])
    draw_pdf(tmp_path / "two.pdf", ["gamma of ada"])
    embedder = CountingEmbedder()
    with QdrantPageStore(tmp_path / "index") as store:
        settings: dict[str, Any] = {"embedder": embedder, "reader": READER, "workers": 1, "progress": False}
        settings["complete"] = _as_an_older_version
        index_documents("one.pdf", store=store, **settings)
        index_documents("two.pdf", store=store.of_tenant("ada"), **settings)
        index_documents(draw_pdf(tmp_path / "gone.pdf", ["delta"]).read_bytes(), store=store, **settings)
        own = Page("my-note", 1, text="delta of mine hidden", source="one.pdf")
        store.add_pages([own], embedder.embed_pages([own]))
        _make_old(store)
        yield store


def _as_an_older_version(page: Page) -> Page:
    return replace(page, text=f"{page.text.strip()} hidden", metadata={**page.metadata, "owner": "lee"})


def _make_old(store: QdrantPageStore) -> None:
    """Without the reader's version, as an older version left it."""
    described = dict(READER.describe())
    del described["reader_version"]
    assert store.info is not None
    store._info = replace(store.info, reader=described)
    store._engine.save_info(store._info.as_dict())


def by_id(store: QdrantPageStore) -> dict[str, Page]:
    return {page.id: page for page in store.scroll()}


def test_tenants_metadata_and_own_pages_stay(filled: QdrantPageStore) -> None:
    before = by_id(filled)
    report = reindex(filled, embedder=CountingEmbedder(), read_again=True, workers=1, progress=False)
    after = by_id(filled)
    assert after.keys() == before.keys(), "no page is lost, none has another owner"
    assert [failure.source.split(":")[0] for failure in report.failed] == ["bytes"]
    assert "bytes" in report.failed[0].error
    read = {page.text.strip(): page for page in after.values()}
    assert {"alpha first", "beta second", "gamma of ada", "delta of mine hidden"} <= set(read)
    assert read["alpha first"].metadata["owner"] == "lee"
    assert read["gamma of ada"].tenant == "ada"
    assert (report.documents, report.pages, report.added) == (4, 5, 3)
    assert filled.info is not None
    assert version_of(filled.info.reader) == 1, "the page that came as bytes is as it was"


def test_a_changed_file_takes_the_place_of_the_old_one(filled: QdrantPageStore, tmp_path: Path) -> None:
    draw_pdf(tmp_path / "one.pdf", ["epsilon now"])
    report = reindex(filled, embedder=CountingEmbedder(), read_again=True, workers=1, progress=False)
    found = sorted(page.text.strip() for page in filled.scroll())
    assert found == ["delta hidden", "delta of mine hidden", "epsilon now", "gamma of ada"]
    assert report.removed == 2


def test_only_the_given_files_are_read(filled: QdrantPageStore, tmp_path: Path) -> None:
    report = reindex(
        filled, embedder=CountingEmbedder(), sources=["one.pdf"], read_again=True, workers=1, progress=False
    )
    found = {page.text.strip() for page in filled.scroll()}
    assert "alpha first" in found
    assert "gamma of ada hidden" in found
    assert [warning.source for warning in report.warnings if "given" in warning.text] == ["two.pdf"]


def test_a_file_that_cannot_be_read_any_more_keeps_its_pages(filled: QdrantPageStore, tmp_path: Path) -> None:
    (tmp_path / "two.pdf").write_bytes(b"no document")
    report = reindex(filled, embedder=CountingEmbedder(), read_again=True, workers=1, progress=False)
    assert [failure.source for failure in report.failed if "two" in failure.source] == ["two.pdf"]
    assert "gamma of ada hidden" in {page.text.strip() for page in filled.scroll()}


def test_sources_on_a_server_are_not_read_unasked(tmp_path: Path) -> None:
    """Others may have written them: a source must not choose which file of this machine is read."""
    draw_pdf(tmp_path / "one.pdf", ["alpha first"])
    draw_pdf(tmp_path / "private.pdf", ["beta private"])
    with serving() as server, QdrantPageStore(server.url, pictures=tmp_path / "pictures") as store:
        settings: dict[str, Any] = {"embedder": CountingEmbedder(), "reader": READER, "workers": 1, "progress": False}
        index_documents([tmp_path / "one.pdf", tmp_path / "private.pdf"], store=store, **settings)
        with pytest.raises(SettingError, match="Name the files"):
            reindex(store, embedder=CountingEmbedder(), read_again=True)
        report = reindex(
            store, embedder=CountingEmbedder(), sources=tmp_path / "one.pdf", read_again=True, workers=1, progress=False
        )
        assert report.added == 1
        assert store.count() == 2


def test_pages_of_no_reader_are_never_called_old(caplog: pytest.LogCaptureFixture) -> None:
    embedder = CountingEmbedder()
    with caplog.at_level(logging.WARNING), QdrantPageStore(":memory:") as store:
        store.prepare(embedder)
        page = Page("d", 1, text="alpha", source="d.pdf")
        store.add_pages([page], embedder.embed_pages([page]))
        store.search(embedder.embed_queries(["alpha"])[0])
        store.prepare(embedder, {"mine": "reader"})
        store.search(embedder.embed_queries(["alpha"])[0])
    assert "older version" not in caplog.text


def test_the_reader_says_its_version() -> None:
    assert READER.describe()["reader_version"] == READER_VERSION
