"""Qwen3-VL-Embedding in process: sentence-transformers' values, which are transformers' last token after the prompt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from visrag_integrations import Page, Query, load_embedder
from visrag_integrations.errors import CheckpointError, MissingExtraError

library = pytest.importorskip("sentence_transformers")
pytest.importorskip("torchvision")
from tiny_adapters import qwen3_vl_embedding  # noqa: E402

TEXTS = ["how many?", "Grüße, 世界", "a much longer question about the table on the second page"]
PICTURES = [Image.new("RGB", (80, 60), "red"), Image.new("RGB", (60, 170), "blue"), Image.new("RGB", (33, 40), "gold")]
PATCHES = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_vl_embedding(tmp_path_factory.mktemp("qwen3-vl"))


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Any:
    return load_embedder(folder, device="cpu")


def by_hand(folder: Path, instruction: str, text: str, picture: Image.Image | None) -> np.ndarray[Any, Any]:
    """The prompt written out, and the last token's state, by transformers alone."""
    model = transformers.Qwen3VLModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    shown = "" if picture is None else PATCHES
    prompt = f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{shown}{text}<|im_end|>\n"
    inputs = processor(text=[prompt], images=None if picture is None else [picture], return_tensors="pt")
    with torch.inference_mode():
        state = model(**inputs).last_hidden_state[0, -1]
    unit: np.ndarray[Any, Any] = (state / state.norm()).numpy()
    return unit


def test_pages_and_queries_are_the_last_token_after_their_prompts(folder: Path, embedder: Any) -> None:
    assert (embedder.kind, embedder.dimension) == ("single", 32)
    pages = [Page.from_image(picture, doc_id="d", number=number) for number, picture in enumerate(PICTURES, 1)]
    for found, picture in zip(embedder.embed_pages(pages), PICTURES, strict=True):
        np.testing.assert_allclose(found, by_hand(folder, "Represent the input.", "", picture), rtol=0, atol=1e-5)
    for found, text in zip(embedder.embed_queries(TEXTS), TEXTS, strict=True):
        np.testing.assert_allclose(found, by_hand(folder, "Retrieve pages.", text, None), rtol=0, atol=1e-5)


def test_values_are_the_librarys(folder: Path, embedder: Any) -> None:
    model = library.SentenceTransformer(str(folder), device="cpu")
    pages = [Page.from_image(picture, doc_id="d", number=number) for number, picture in enumerate(PICTURES, 1)]
    expected = model.encode_document([{"image": picture} for picture in PICTURES], normalize_embeddings=True)
    np.testing.assert_allclose(embedder.embed_pages(pages), expected, rtol=0, atol=1e-5)
    queries = [Query(text, image=picture) for text, picture in zip(TEXTS, PICTURES, strict=True)]
    both = [{"text": text, "image": picture} for text, picture in zip(TEXTS, PICTURES, strict=True)]
    expected = model.encode_query(both, normalize_embeddings=True)
    np.testing.assert_allclose(embedder.embed_queries(queries), expected, rtol=0, atol=1e-5)


def test_a_pooling_is_not_guessed(folder: Path, embedder: Any, tmp_path: Path) -> None:
    """Without modules.json the library would take the mean of all tokens; whoever wants that says it."""
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    (bare / "modules.json").unlink()
    with pytest.raises(CheckpointError, match=r"no modules\.json.*kind=\"single\""):
        load_embedder(bare, system="sentence-transformers", device="cpu")
    with load_embedder(bare, system="sentence-transformers", kind="single", device="cpu") as mean:
        assert np.abs(mean.embed_queries(TEXTS[:1])[0] - embedder.embed_queries(TEXTS[:1])[0]).max() > 1e-3


def test_without_torchvision_the_command_that_installs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **settings: Any) -> Any:
        # What transformers raises where torchvision is not installed.
        raise ImportError("Qwen3VLVideoProcessor requires the Torchvision library but it was not found.")

    monkeypatch.setattr(library, "SentenceTransformer", refuse)
    with pytest.raises(MissingExtraError, match=r"torchvision.*visrag-integrations\[sentence-transformers\]"):
        load_embedder(folder, device="cpu")
