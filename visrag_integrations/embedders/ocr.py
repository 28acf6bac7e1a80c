"""Embedder `ocr`: word vectors of what can be read on a page, and the store's BM25 beside them. Needs no GPU, no torch.

A page's text is cut into overlapping chunks, so that every part of a long page can be found, and each chunk becomes
the mean of its word pieces' vectors (wordllama, whose weights ship in its wheel). The reader fills `Page.text`, by OCR
where a page has no text layer; a page that comes without text but with a picture is read here. What this module reads
itself is seen by the dense half only: the store's lexical half knows `Page.text`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from visrag_integrations import images, ocr
from visrag_integrations.errors import CheckpointError, MissingExtraError, SettingError
from visrag_integrations.ocr import TextAssembly
from visrag_integrations.types import Mode, Page, Query

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import Embedding

MAX_QUERY_CHARACTERS = 8_000
"""Of a longer query only the beginning is embedded."""
# The weights that lie in wordllama's wheel; all others would be downloaded.
_CONFIG = "l2_supercat"
_DIMENSION = 256
_BATCH_CHARACTERS = 200_000  # tokenized at once: bounds the memory, whatever the number of pages
_REINSTALL = "Install it again: pip install --force-reinstall --no-deps wordllama"
_model: Any = None
_model_lock = threading.Lock()


class OCREmbedder:
    """Word vectors of a page's text, one per chunk: shape (chunks, 256), unit length; (0, 256) for a page without text.

    Args:
        chunk_size: Characters of a chunk.
        chunk_overlap: Characters a chunk shares with the one before it.
        text_assembly: How boxes that OCR found become text, where this embedder runs OCR itself.
    """

    name = "ocr"
    kind: Literal["single", "multi"] = "multi"
    dimension = _DIMENSION
    default_mode: Mode = "hybrid"
    reads: Literal["text", "pixels"] = "text"

    def __init__(
        self, *, chunk_size: int = 200, chunk_overlap: int = 60, text_assembly: TextAssembly = "adjacent_merging"
    ) -> None:
        if chunk_size < 20:
            raise SettingError(f"chunk_size is {chunk_size}; it counts characters, 20 or more (200 is the default).")
        if not 0 <= chunk_overlap <= chunk_size // 2:
            raise SettingError(
                f"chunk_overlap is {chunk_overlap}; allowed is 0 to {chunk_size // 2}, half of chunk_size={chunk_size}."
            )
        if text_assembly not in ("adjacent_merging", "layout_preserving"):
            raise SettingError(f"text_assembly is {text_assembly!r}; allowed: adjacent_merging, layout_preserving.")
        self.chunk_size, self.chunk_overlap, self.text_assembly = chunk_size, chunk_overlap, text_assembly

    @property
    def fingerprint(self) -> str:
        """Tells weights apart. Chunk settings are not in it: chunks of any size can be searched with one query."""
        return f"{_CONFIG}-{_DIMENSION}:{_weights_hash()}"

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """One array (chunks, 256) per page, in order."""
        chunks: list[str] = []
        counts: list[int] = []  # chunks of each page
        for page in pages:
            of_page = split(self._text(page), self.chunk_size, self.chunk_overlap)
            chunks += of_page
            counts.append(len(of_page))
        return np.split(embed_texts(chunks), np.cumsum(counts)[:-1]) if counts else []

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """One array (1, 256) per query, in order; a picture is read by OCR; zeros when there is nothing to read."""
        vectors = embed_texts([self.read_query(query)[:MAX_QUERY_CHARACTERS] for query in queries])
        return [vector[None, :] for vector in vectors]

    def _text(self, page: Page) -> str:
        tried = page.metadata.get("text_source") in ("ocr", "none")
        if page.text.strip() or page.picture is None or tried:
            return page.text
        with page.open_image() as image:
            return self._read(image)

    def read_query(self, query: str | Query) -> str:
        """The query's text, followed by what OCR reads in its picture."""
        if isinstance(query, str):
            return query
        if query.image is None:
            return query.text
        with images.open_picture(query.image) as image:
            return f"{query.text}\n{self._read(image)}".strip()

    def _read(self, image: Image) -> str:
        return ocr.assemble(ocr.read_words(image), self.text_assembly)


def split(text: str, size: int, overlap: int) -> list[str]:
    """The text in pieces of at most `size` characters, cut between words where there is white space.

    >>> split("one two three four five six", 20, 8)
    ['one two three four', 'four five six']
    """
    text = re.sub(r"\s+", " ", text).strip()
    pieces, start = [], 0
    while start < len(text):
        end = start + size
        if end < len(text):
            # Cut at a space in the last quarter; a piece that has none there (Chinese, a long number) is cut anywhere.
            space = text.rfind(" ", end - size // 4, end + 1)
            if space > 0:
                end = space
        pieces.append(text[start:end].strip())
        if end >= len(text):
            break
        # The next piece starts so far before the end of this one, at a word where there is one.
        earliest = max(end - overlap, start + 1)
        space = text.find(" ", earliest - 1, end)
        start = earliest
        if space >= 0:
            start = space + 1
    return pieces


def embed_texts(texts: list[str]) -> Embedding:
    """(texts, 256), unit length; a text's vector does not depend on the others. Zeros for a text without tokens."""
    vectors = np.zeros((len(texts), _DIMENSION), np.float32)
    if not texts:
        return vectors
    model = _load()
    for first, last in _batches(texts):
        # Half a surrogate pair, which damaged files hold, is nothing a tokenizer takes.
        readable = [text.encode("utf-8", "replace").decode() for text in texts[first:last]]
        encodings = model.tokenizer.encode_batch(readable, add_special_tokens=False)
        for row, encoding in enumerate(encodings, first):
            if encoding.ids:
                total = model.embedding[encoding.ids].sum(axis=0, dtype=np.float32)  # (256,)
                vectors[row] = total / max(float(np.linalg.norm(total)), 1e-12)
    return vectors


def _batches(texts: list[str]) -> Iterable[tuple[int, int]]:
    """Ranges of texts of bounded length together, so that memory stays bounded."""
    first = characters = 0
    for last, text in enumerate(texts, start=1):
        characters += len(text)
        if characters >= _BATCH_CHARACTERS or last == len(texts):
            yield first, last
            first, characters = last, 0


def _folder() -> Path:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise MissingExtraError("wordllama", "cpu")
    return Path(spec.origin).parent


def _load() -> Any:
    """The word vectors, loaded once a process from wordllama's own folder; nothing is downloaded."""
    global _model
    with _model_lock:
        if _model is None:
            folder = _folder()
            # To import wordllama sets up the host program's root logger; that is put back as it was.
            root = logging.getLogger()
            handlers, level = root.handlers[:], root.level
            try:
                from wordllama import WordLlama
            finally:
                root.handlers[:], root.level = handlers, level
            try:
                model = WordLlama.load(_CONFIG, cache_dir=folder, dim=_DIMENSION, disable_download=True)
            except (OSError, ValueError) as err:
                raise CheckpointError(f"wordllama's own weights cannot be loaded: {err}. {_REINSTALL}") from err
            model.tokenizer.no_padding()
            _model = model
    return _model


_hash = ""


def _weights_hash() -> str:
    global _hash
    if not _hash:
        path = _folder() / "weights" / f"{_CONFIG}_{_DIMENSION}.safetensors"
        try:
            _hash = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        except OSError as err:
            raise CheckpointError(f"wordllama's own weights cannot be read: {err}. {_REINSTALL}") from err
    return _hash
