"""The word vectors that lie in wordllama's wheel, read without importing wordllama.

Its files are all that is used of it: 32,000 word pieces of 256 numbers, and the tokenizer that cuts text into them.
To import it loads an HTTP client and a settings library as well, only to find these two files, and takes longer than
everything else of a search on the command line.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding

DIMENSION = 256
"""Numbers of a vector."""
# The weights that lie in the wheel; all others would be downloaded.
_CONFIG = "l2_supercat"
_TENSOR = "embedding.weight"
_REINSTALL = "Install it again: pip install --force-reinstall --no-deps wordllama"
_model: WordVectors | None = None
_model_lock = threading.Lock()


@dataclass(frozen=True)
class WordVectors:
    """A vector for each word piece.

    Attributes:
        tokenizer: Cuts text into word pieces, without padding and without cutting long texts off.
        numbers: (word pieces, 256), as they are in the file: half precision, half the memory.
    """

    tokenizer: Any
    numbers: Any

    def mean(self, pieces: Sequence[int]) -> Embedding:
        """The direction of the mean of these word pieces' vectors: (256,), unit length; zeros where they cancel."""
        total = self.numbers[pieces].astype(np.float32).sum(axis=0, dtype=np.float32)
        unit: Embedding = total / max(float(np.linalg.norm(total)), 1e-12)
        return unit


def load() -> WordVectors:
    """The word vectors, loaded once a process; nothing is downloaded.

    Raises:
        MissingExtraError: wordllama is not installed.
        CheckpointError: Its files cannot be read.
    """
    global _model
    with _model_lock:
        if _model is None:
            try:
                _model = _from_files() or from_wordllama()
            except MissingExtraError:
                raise
            except Exception as err:  # tokenizers and safetensors raise classes of their own
                raise CheckpointError(f"wordllama's own weights cannot be loaded: {err}. {_REINSTALL}") from err
    return _model


_hash = ""


def fingerprint() -> str:
    """Tells these weights from others."""
    global _hash
    if not _hash:
        try:
            _hash = hashlib.sha256(_weights_file().read_bytes()).hexdigest()[:12]
        except OSError as err:
            raise CheckpointError(f"wordllama's own weights cannot be read: {err}. {_REINSTALL}") from err
    return f"{_CONFIG}-{DIMENSION}:{_hash}"


def _from_files() -> WordVectors | None:
    """What the files of the installed package hold; None where they are not where they have been so far."""
    weights = _weights_file()
    words = _folder() / "tokenizers" / f"{_CONFIG}_tokenizer_config.json"
    if not weights.is_file() or not words.is_file():
        return None
    try:
        from safetensors import safe_open
        from tokenizers import Tokenizer
    except ImportError:  # wordllama may come to do without them
        return None
    with safe_open(weights, framework="np") as file:
        if _TENSOR not in file.keys():  # noqa: SIM118  (no dict)
            return None
        numbers = file.get_tensor(_TENSOR)
    tokenizer = Tokenizer.from_file(str(words))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return WordVectors(tokenizer, numbers)


def from_wordllama() -> WordVectors:
    """The same as wordllama itself loads it."""
    folder = _folder()
    # To import wordllama sets up the host program's root logger; that is put back as it was.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        from wordllama import WordLlama
    finally:
        root.handlers[:], root.level = handlers, level
    model = WordLlama.load(_CONFIG, cache_dir=folder, dim=DIMENSION, disable_download=True)
    model.tokenizer.no_padding()
    return WordVectors(model.tokenizer, model.embedding)


def _folder() -> Path:
    """Where wordllama is installed."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise MissingExtraError("wordllama", "cpu")
    return Path(spec.origin).parent


def _weights_file() -> Path:
    return _folder() / "weights" / f"{_CONFIG}_{DIMENSION}.safetensors"
