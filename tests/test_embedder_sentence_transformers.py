"""Models of the sentence-transformers library: what it gives, and what is never opened or run."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_retrievers import tiny, tiny_embedder

from visrag_integrations import Page, Query, load_embedder
from visrag_integrations.embedders.sentence_transformers import SentenceTransformersEmbedder
from visrag_integrations.errors import CheckpointError, EmbedderError, SettingError

library = pytest.importorskip("sentence_transformers")
RED, BLUE = Image.new("RGB", (50, 60), "red"), Image.new("RGB", (90, 40), "blue")


def pages(*pictures: Image.Image) -> list[Page]:
    return [Page.from_image(picture, doc_id="d", number=number) for number, picture in enumerate(pictures, 1)]


@pytest.fixture(scope="module")
def embedder() -> SentenceTransformersEmbedder:
    made: SentenceTransformersEmbedder = tiny_embedder("sentence-transformers")
    return made


def test_values_are_the_librarys(embedder: SentenceTransformersEmbedder) -> None:
    model = library.SentenceTransformer(str(tiny("sentence-transformers")), device="cpu")
    expected = model.encode_document([RED, BLUE], normalize_embeddings=True)
    np.testing.assert_allclose(np.stack(embedder.embed_pages(pages(RED, BLUE))), expected, atol=1e-6)
    mixed = embedder.embed_queries(["a", Query(image=RED), "ü 世界"])
    texts = model.encode_query(["a", "ü 世界"], normalize_embeddings=True)
    np.testing.assert_allclose(mixed, [texts[0], expected[0], texts[1]], atol=1e-6)
    np.testing.assert_allclose(embedder.embed_texts(["a"]), model.encode(["a"], normalize_embeddings=True), atol=1e-6)


def test_a_prompt_for_queries_is_used_for_queries_only() -> None:
    folder = tiny("sentence-transformers")
    with load_embedder(folder, device="cpu", prompts={"query": "find: ", "document": ""}) as prompted:
        plain = tiny_embedder("sentence-transformers")
        np.testing.assert_allclose(prompted.embed_queries(["a"]), plain.embed_queries(["find: a"]), atol=1e-6)
        np.testing.assert_allclose(prompted.embed_pages(pages(RED)), plain.embed_pages(pages(RED)), atol=1e-6)


def test_a_model_with_many_vectors() -> None:
    with load_embedder(tiny("colqwen2"), system="sentence-transformers", kind="multi", device="cpu") as embedder:
        assert (embedder.kind, embedder.dimension) == ("multi", 16)
        flat = load_embedder(tiny("colqwen2"), positions="flat", device="cpu")
        for ours, theirs in zip(
            flat.embed_pages(pages(RED, BLUE)), embedder.embed_pages(pages(RED, BLUE)), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        both, text, image = embedder.embed_queries([Query("a", image=RED), "a", Query(image=RED)])
        np.testing.assert_allclose(both, np.concatenate([text, image]), atol=1e-6)


def test_a_loaded_model_is_taken_and_needs_a_name() -> None:
    model = library.SentenceTransformer(str(tiny("sentence-transformers")), device="cpu")
    made = SentenceTransformersEmbedder(model, name="mine")
    assert (made.name, made.fingerprint, made.kind) == ("mine", "", "single")
    assert made.embed_pages(pages(RED))[0].shape == (24,)
    made.close()
    with pytest.raises(EmbedderError, match="closed"):
        made.embed_queries(["a"])


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_a_text_that_looks_like_a_picture_is_a_text(
    embedder: SentenceTransformersEmbedder, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = server
    RED.save(tmp_path / "red.png")
    for text in (f"{address}/secret.png", str(tmp_path / "red.png")):
        (vector,) = embedder.embed_queries([text])
        assert np.abs(vector - embedder.embed_pages(pages(RED))[0]).max() > 0.01
    assert asked == []


def test_text_and_picture_together_are_refused_where_the_model_cannot(embedder: SentenceTransformersEmbedder) -> None:
    with pytest.raises(EmbedderError, match="not both"):
        embedder.embed_queries([Query("a", image=RED)])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny("sentence-transformers"), tmp_path / "copy"))


def test_code_and_pickles_in_a_checkpoint_are_refused(copy: Path, tmp_path: Path) -> None:
    modules = json.loads((copy / "modules.json").read_text())
    (copy / "modules.json").write_text(json.dumps([{**modules[0], "type": "evil.Evil"}]))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(CheckpointError, match="copy"):
        load_embedder(copy, device="cpu")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(SettingError, match="not run"):
        load_embedder(copy, trust_remote_code=True)
    (copy / "1_Dense").mkdir()
    torch.save({}, copy / "1_Dense" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"1_Dense/pytorch_model\.bin.*safetensors"):
        load_embedder(copy, device="cpu")


def test_a_model_for_texts_only_is_refused() -> None:
    from sentence_transformers.sentence_transformer.modules import BoW

    words = library.SentenceTransformer(modules=[BoW(["one", "two"])], device="cpu")
    with pytest.raises(CheckpointError, match="takes text, not pictures"):
        SentenceTransformersEmbedder(words, name="words")


def test_a_fingerprint_tells_checkpoints_apart(copy: Path, embedder: SentenceTransformersEmbedder) -> None:
    with load_embedder(copy, device="cpu") as same:
        assert same.fingerprint == embedder.fingerprint
    config = json.loads((copy / "config_sentence_transformers.json").read_text())
    (copy / "config_sentence_transformers.json").write_text(json.dumps({**config, "prompts": {"query": "q: "}}))
    with load_embedder(copy, device="cpu") as other:
        assert other.fingerprint != embedder.fingerprint
