"""`GET /search` as the published VRAG client uses it: several queries in an address, pictures opened as files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from PIL import Image
from qdrant_client import QdrantClient
from web_server import library, running

from visrag_integrations import PageRetriever, QdrantPageStore, index_documents, load_embedder
from visrag_integrations.cli import main
from visrag_integrations.servers.http import ServeSettings, create_app
from visrag_integrations.servers.http.picture_paths import PicturePaths
from visrag_integrations.types import Page


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[PageRetriever]:
    with QdrantPageStore(tmp_path / "index") as store:
        yield library(store, PixelEmbedder())


def size_of(file: str | Path) -> tuple[int, int]:
    """Opened as the client does."""
    with Image.open(file) as image:
        image.load()
        return image.size


def test_pictures_are_files_that_open(retriever: PageRetriever, tmp_path: Path) -> None:
    app = create_app(retriever, settings=ServeSettings(search_paths=True))
    with running(app) as server:
        answer = httpx.get(f"{server.url}/search", params={"queries": ["harbour", "violin", "harbour"]})
        lists = answer.raise_for_status().json()
        assert len(lists) == 3
        assert lists[0] == lists[2]
        for found in lists:
            assert [page["idx"] for page in found] == list(range(len(found)))
            for page in found:
                assert set(page) == {"idx", "image_file", "score", "id"}
                file = Path(page["image_file"])
                assert file.is_absolute()
                assert file.is_relative_to(tmp_path / "index")
                assert size_of(file) == (160, 200)


def test_a_picture_that_is_no_file_is_written_once_and_goes_with_the_server() -> None:
    with QdrantPageStore(QdrantClient(":memory:")) as store:
        retriever = library(store, PixelEmbedder())
        with running(create_app(retriever, settings=ServeSettings(search_paths=True))) as server:
            ask = {"queries": ["harbour"], "top_k": 8}
            first = httpx.get(f"{server.url}/search", params=ask).json()[0]
            again = httpx.get(f"{server.url}/search", params=ask).json()[0]
            files = [Path(page["image_file"]) for page in first]
            assert [page["image_file"] for page in again] == [str(file) for file in files]
            assert len(set(files)) == 8
            assert set(map(size_of, files)) == {(160, 200)}
            assert os.stat(files[0].parent).st_mode & 0o077 == 0  # other users of the machine do not see them
        assert not files[0].parent.exists()


def test_without_the_setting_addresses_stay(retriever: PageRetriever) -> None:
    with running(create_app(retriever)) as server:
        (found,) = httpx.get(f"{server.url}/search", params={"queries": "harbour"}).json()
        assert all(page["image_file"].startswith(f"{server.url}/pages/") for page in found)
        assert httpx.get(found[0]["image_file"]).headers["content-type"].startswith("image/")


def test_paths_are_told_to_this_machine_only(retriever: PageRetriever) -> None:
    """Also where a proxy on this machine asks for somebody else."""
    with running(create_app(retriever, settings=ServeSettings(search_paths=True))) as server:
        for header in ("X-Forwarded-For", "Forwarded"):
            refused = httpx.get(f"{server.url}/search", params={"queries": "x"}, headers={header: "203.0.113.5"})
            assert refused.status_code == 422
            assert "programs on that machine only" in refused.json()["error"]["message"]
        # Everything else goes on giving addresses.
        posted = httpx.post(f"{server.url}/search", json={"text": "harbour"}).json()
        assert posted["pages"][0]["image"].startswith(server.url)


@pytest.mark.parametrize(
    "options",
    [
        ("--host", "0.0.0.0", "--token-file", "TOKENS"),
        ("--public-url", "https://search.example"),
        ("--proxy", "127.0.0.1"),
    ],
)
def test_the_command_refuses_paths_for_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-long-secret-of-many-letters\n")
    given = [str(tokens) if option == "TOKENS" else option for option in options]
    assert main(["serve", "--index", str(tmp_path / "none"), "--search-paths", *given]) == 2
    said = capsys.readouterr().err
    assert "--search-paths" in said
    assert options[0] in said


def test_a_page_without_a_picture_has_no_path(tmp_path: Path) -> None:
    paths = PicturePaths()
    assert paths.path(Page("d", 1, text="x")) is None
    assert paths.path(Page("d", 1, text="x", picture=tmp_path / "gone.png")) is None
    paths.close()


def test_pictures_of_a_real_index(tmp_path: Path) -> None:
    """Files as the index folder keeps them: the client opens them by their content, whatever their name."""
    pdf = draw_pdf(tmp_path / "a.pdf", ["The harbour holds forty boats.", "Bread takes an hour."])
    embedder = load_embedder("ocr")
    with QdrantPageStore(tmp_path / "index") as store:
        index_documents([pdf], store=store, embedder=embedder)
        retriever = PageRetriever(embedder, store)
        with running(create_app(retriever, settings=ServeSettings(search_paths=True))) as server:
            ((first, *_),) = httpx.get(f"{server.url}/search", params={"queries": "harbour boats"}).json()
            assert min(size_of(first["image_file"])) > 100
