"""The word vectors of wordllama's wheel, read without it: the same to the bit, and what is said where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visrag_integrations.embedders import ocr, word_vectors
from visrag_integrations.errors import CheckpointError

TEXTS = [
    "torque of the M8 bolts",
    "Wie viel kostet die Miete im März 2024?",
    "設定を確認してください。 한국어 문장입니다",
    "word " * 700,  # more than a tokenizer that cuts off would read
    "naïve café — “quoted” … ½ €5.00 \u200b\ufffd",
]


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was loaded yet."""
    monkeypatch.setattr(word_vectors, "_model", None)
    monkeypatch.setattr(word_vectors, "_hash", "")


def test_numbers_and_word_pieces_are_wordllamas_own() -> None:
    word_vectors.from_wordllama()  # to import it sets up logging, which this puts back
    wordllama = pytest.importorskip("wordllama")
    folder = Path(wordllama.__file__).parent
    theirs = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    ours = word_vectors.load()
    assert ours.numbers.shape == (32_000, 256)
    assert np.array_equal(ours.numbers.astype(np.float32), theirs.embedding)
    theirs.tokenizer.no_padding()
    for text in TEXTS:
        pieces = theirs.tokenizer.encode(text, add_special_tokens=False).ids
        assert ours.tokenizer.encode(text, add_special_tokens=False).ids == pieces
        assert pieces


@pytest.mark.usefixtures("forgotten")
def test_vectors_are_the_same_to_the_bit_by_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    by_files = ocr.embed_texts(TEXTS)
    monkeypatch.setattr(word_vectors, "_model", None)
    monkeypatch.setattr(word_vectors, "_from_files", lambda: None)
    by_wordllama = ocr.embed_texts(TEXTS)
    assert by_files.tobytes() == by_wordllama.tobytes()
    assert by_files.any(axis=1).all()


@pytest.mark.usefixtures("forgotten")
def test_files_that_lie_elsewhere_are_found_by_wordllama(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = word_vectors.from_wordllama, []
    monkeypatch.setattr(word_vectors, "from_wordllama", lambda: asked.append(1) or real())
    monkeypatch.setattr(word_vectors, "_TENSOR", "a name of a later version")
    assert ocr.embed_texts(["rent"]).any()
    assert asked == [1]


@pytest.mark.usefixtures("forgotten")
def test_damaged_files_are_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"):
        file = tmp_path / name
        file.parent.mkdir()
        file.write_bytes(b"damaged")
    monkeypatch.setattr(word_vectors, "_folder", lambda: tmp_path)
    with pytest.raises(CheckpointError, match="pip install --force-reinstall --no-deps wordllama"):
        ocr.embed_texts(["rent"])


@pytest.mark.usefixtures("forgotten")
def test_missing_weights_have_no_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(word_vectors, "_folder", lambda: tmp_path)
    with pytest.raises(CheckpointError, match="pip install --force-reinstall"):
        word_vectors.fingerprint()
