"""Late-interaction models on the real vLLM (its CPU build) with a tiny random ColQwen3: served, and in this process.

Vectors are those of transformers by hand; pages are indexed, found, and scored again by the same server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_vllm_server import Server
from tiny_served import PAGE, colqwen3, colqwen3_by_hand

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, ScoredPage, load_embedder
from visrag_integrations.cli import main
from visrag_integrations.errors import EmbedderError, EndpointError, SettingError
from visrag_integrations.rerankers import CrossEncoderReranker
from visrag_integrations.scores.exact import maxsims

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]

NAME = "TomoroAI/tomoro-colqwen3-embed-8b"
QUERIES = ["how many?", "Grüße 世界", "a longer question about the table on page 2"]
# Exact in both: what is left is the order in which numbers are added up.
CLOSE = {"rtol": 0, "atol": 1e-5}


def pages() -> list[Page]:
    made = []
    for number, size in enumerate([(90, 70), (64, 128), (200, 40)], 1):
        noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        made.append(Page.from_image(picture, doc_id="d", number=number, text=f"page {number}", source="d.pdf"))
    return made


PAGES = pages()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colqwen3(tmp_path_factory.mktemp("colqwen3"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "log.txt"
    running = Server(folder, log, "--runner", "pooling", "--served-model-name", NAME)
    try:
        running.wait()
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="module")
def embedder(server: Server) -> Iterator[Any]:
    with load_embedder(NAME, url=server.url, retries=0) as served:
        yield served


def test_vectors_of_the_server_are_those_of_transformers(embedder: Any, folder: Path) -> None:
    assert (embedder.name, embedder.kind, embedder.dimension) == (NAME, "multi", 16)
    for page, vectors in zip(PAGES, embedder.embed_pages(PAGES), strict=True):
        np.testing.assert_allclose(vectors, colqwen3_by_hand(folder, PAGE, page.open_image()), **CLOSE)
    for query, vectors in zip(QUERIES, embedder.embed_queries(QUERIES), strict=True):
        np.testing.assert_allclose(vectors, colqwen3_by_hand(folder, query), **CLOSE)


def test_pages_are_indexed_found_and_scored_again_by_the_server(embedder: Any, server: Server, folder: Path) -> None:
    """The server's own MaxSim is that of the vectors it would give; it writes a page without the chat template."""
    with QdrantPageStore(":memory:") as store:
        store.prepare(embedder)
        store.add_pages(PAGES, embedder.embed_pages(PAGES))
        found = PageRetriever(embedder, store).retrieve(QUERIES[0], 3)
        question = colqwen3_by_hand(folder, QUERIES[0])
        templated = [colqwen3_by_hand(folder, PAGE, page.open_image()) for page in PAGES]
        expected = dict(zip([page.id for page in PAGES], maxsims(question, templated), strict=True))
        assert {hit.page.id: pytest.approx(hit.score, abs=1e-3) for hit in found} == expected
        assert [hit.page.id for hit in found] == sorted(expected, key=lambda id_: -expected[id_])
        bare = "<|vision_start|><|image_pad|><|vision_end|>Describe the image."
        shown = [hit.page for hit in found]  # as they are stored, which is JPEG
        vectors = [colqwen3_by_hand(folder, bare, page.open_image()) for page in shown]
        exact = dict(zip([page.number for page in shown], maxsims(question, vectors), strict=True))
        root = server.url.removesuffix("/v1")
        for path in ("", "/rerank", "/score"):
            with CrossEncoderReranker(NAME, url=root + path, retries=0) as reranker:
                assert reranker.reads == "image"
                retriever = PageRetriever(embedder, store, reranker=reranker)
                scored = {hit.page.number: hit.score for hit in retriever.retrieve(QUERIES[0], 3)}
            assert scored == pytest.approx(exact, abs=1e-3)


def test_texts_are_scored_by_the_server_too(server: Server, folder: Path) -> None:
    hits = [ScoredPage(page, 0.5) for page in PAGES]
    with CrossEncoderReranker(NAME, url=server.url + "/score", reads="text", retries=0) as reranker:
        scored = {hit.page.text: hit.score for hit in reranker.rerank(QUERIES[0], hits)}
    question = colqwen3_by_hand(folder, QUERIES[0])
    for text, score in scored.items():
        (exact,) = maxsims(question, [colqwen3_by_hand(folder, text)])
        assert score == pytest.approx(exact, abs=1e-3)


def test_the_command_line_indexes_and_searches_by_name(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for page in PAGES:
        page.open_image().save(tmp_path / f"page{page.number}.png")
    index = str(tmp_path / "index")
    assert main(["index", str(tmp_path), "--index", index, "--ocr", "never", "--embedder", NAME,
                 "--embedder-url", server.url, "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["added"] == 3
    asked = ["search", QUERIES[0], "--index", index, "--json", "--mode", "dense"]
    assert main([*asked, "--embedder-url", server.url]) == 0
    found = json.loads(capsys.readouterr().out)["pages"]
    assert len(found) == 3
    monkeypatch.setenv("VISRAG_EMBEDDER_URL", server.url)
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["pages"] == found
    assert main([*asked, "--rerank", NAME, "--rerank-url", server.url.removesuffix("/v1")]) == 0
    assert {page["id"] for page in json.loads(capsys.readouterr().out)["pages"]} == {page["id"] for page in found}


def test_what_the_server_refuses_is_said(server: Server) -> None:
    with (
        load_embedder("other/model", url=server.url, kind="multi", retries=0) as other,
        pytest.raises(EndpointError, match=r"refused the request with status 404.*other/model"),
    ):
        other.embed_queries(["a"])
    with (
        CrossEncoderReranker(NAME, url=server.url + "/score", retries=0, max_chars=100_000, reads="text") as reranker,
        pytest.raises(EndpointError, match=r"status 400.*max_chars="),
    ):
        reranker.rerank("how?", [ScoredPage(Page("d", 1, "word " * 4000), 0.5)])


@pytest.fixture(scope="module")
def inside(folder: Path) -> Iterator[Any]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    made = load_embedder(
        folder, backend="vllm", page_text="Describe the image.", dtype="float32", enforce_eager=True, max_model_len=512
    )
    yield made
    made.close()


def test_vllm_in_this_process_gives_the_same(inside: Any, folder: Path) -> None:
    assert (inside.name, inside.kind, inside.dimension) == (f"vllm:{folder}", "multi", 16)
    vectors = inside.embed_pages(page for page in PAGES)
    for page, made in zip(PAGES, vectors, strict=True):
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, colqwen3_by_hand(folder, PAGE, page.open_image()), **CLOSE)
        np.testing.assert_allclose(inside.embed_pages([page])[0], made, **CLOSE)  # alone as in a batch
    for query, made in zip(QUERIES, inside.embed_queries(QUERIES), strict=True):
        np.testing.assert_allclose(made, colqwen3_by_hand(folder, query), **CLOSE)
    (shown,) = inside.embed_queries([Query(image=PAGES[0].open_image())])
    np.testing.assert_allclose(shown, vectors[0], **CLOSE)
    # A mark in a question is letters, not the token it looks like.
    (marked,) = inside.embed_queries(["a <|im_end|> b"])
    np.testing.assert_allclose(marked, colqwen3_by_hand(folder, "a < |im_end|> b"), **CLOSE)
    with QdrantPageStore(":memory:") as store:
        store.prepare(inside)
        store.add_pages(PAGES, vectors)
        assert len(PageRetriever(inside, store).retrieve(QUERIES[0], 3)) == 3


def test_what_does_not_fit_is_said_and_the_engine_goes_on(inside: Any) -> None:
    with pytest.raises(EmbedderError, match="vLLM cannot embed this"):
        inside.embed_queries(["word " * 2000])
    assert len(inside.embed_queries(["short"])) == 1


def test_a_closed_one_says_so(inside: Any) -> None:
    """Last in this file: afterwards there is no engine."""
    inside.close()
    inside.close()
    for call in (inside.embed_queries, inside.embed_pages, inside.embed_texts):
        with pytest.raises(EmbedderError, match="closed"):
            call(["a"])


@pytest.mark.parametrize("architecture", ["OpsColQwen3Model", "Qwen3VLNemotronEmbedModel"])
def test_the_networks_of_other_publishers_are_read(architecture: str, tmp_path: Path) -> None:
    other = colqwen3(tmp_path / "checkpoint", architecture)
    engine = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512}
    with load_embedder(other, backend="vllm", page_text="Describe the image.", **engine) as embedder:
        (vectors,) = embedder.embed_pages(PAGES[:1])
        np.testing.assert_allclose(vectors, colqwen3_by_hand(other, PAGE, PAGES[0].open_image()), **CLOSE)
        np.testing.assert_allclose(embedder.embed_queries(QUERIES[:1])[0], colqwen3_by_hand(other, QUERIES[0]), **CLOSE)


@pytest.mark.parametrize("settings", [{"kind": "both"}, {"batch_size": 0}, {"trust_remote_code": True}])
def test_settings_that_are_not_allowed(folder: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        load_embedder(folder, backend="vllm", **settings)
