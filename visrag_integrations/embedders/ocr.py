"""Embedder `ocr`: word vectors of what can be read on a page, and the store's BM25 beside them. Needs no GPU, no torch.

A page's text is cut into overlapping chunks, so that every part of a long page can be found, and each chunk becomes
the mean of its word pieces' vectors (wordllama, whose weights ship in its wheel), turned a little towards its page; or
what another text model makes of it (`text_model`). The reader fills `Page.text`, by OCR
where a page has no text layer; a page that comes without text but with a picture is read here. What this module reads
itself is seen by the dense half only: the store's lexical half knows `Page.text`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from visrag_integrations import images, ocr
from visrag_integrations.embedders import word_vectors
from visrag_integrations.embedders.text_chunks import checked_chunks, cut_to_fit, split
from visrag_integrations.errors import SettingError
from visrag_integrations.ocr import TextAssembly
from visrag_integrations.types import Mode, Page, Query

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.embedders.text_model import TextModel
    from visrag_integrations.interfaces import Embedding

MAX_QUERY_CHARACTERS = 8_000
"""Of a longer query only the beginning is embedded."""
NAME = "ocr"
"""Of this embedder; with a text model, "ocr:" and the model's name."""
# Judged by benchmarks/quality.py (benchmarks/RESULTS.md, "Questions in people's own words"). Longer chunks are about
# several things, and a question about one of them is far from all. Shorter ones, or a longer overlap: more vectors
# to keep, and nothing more is found.
WORD_VECTOR_CHUNKS = (120, 20)
# A text model reads a sentence with what stands around it: longer chunks, and fewer of its slow calls.
TEXT_MODEL_CHUNKS = (800, 0)
"""Characters of a chunk, and those it shares with the one before it."""
# Tried on the same questions: 0.2 to 0.8 find the same to 0.01; 0 finds less, as a chunk does not say what it is about.
PAGE_SHARE = 0.5
"""What the direction of the whole page weighs in a chunk's vector, beside the chunk's own 1.0."""
_BATCH_CHARACTERS = 200_000  # tokenized at once: bounds the memory, whatever the number of pages


class OCREmbedder:
    """Vectors of a page's text, one per chunk: shape (chunks, dimension), unit length; no rows for a page without text.

    Args:
        chunk_size: Characters of a chunk; 120, and 800 with a text model, when None.
        chunk_overlap: Characters a chunk shares with the one before it; 20, and 0 with a text model, when None.
        text_assembly: How boxes that OCR found become text, where this embedder runs OCR itself.
        text_model: A text model of sentence-transformers, by its folder or its name on the hub, in place of the word
            vectors: it reads sentences, needs torch, and takes some hundred times as long a page.
        device: Where the text model computes; the first GPU when there is one.

    Raises:
        SettingError: A setting is not allowed.
        CheckpointError: The text model cannot be read, or is none that makes one vector of a text.
        MissingExtraError: sentence-transformers is not installed, which a text model needs.
    """

    kind: Literal["single", "multi"] = "multi"
    default_mode: Mode = "hybrid"
    reads: Literal["text", "pixels"] = "text"

    def __init__(
        self,
        *,
        chunk_size: int | None = None,
        chunk_overlap: int | None = None,
        text_assembly: TextAssembly = "adjacent_merging",
        text_model: str | Path | None = None,
        device: str | None = None,
    ) -> None:
        usual = WORD_VECTOR_CHUNKS if text_model is None else TEXT_MODEL_CHUNKS
        self.chunk_size, self.chunk_overlap = checked_chunks(chunk_size, chunk_overlap, usual)
        if text_assembly not in ("adjacent_merging", "layout_preserving"):
            raise SettingError(f"text_assembly is {text_assembly!r}; allowed: adjacent_merging, layout_preserving.")
        if device is not None and text_model is None:
            raise SettingError(f"device={device!r} is for a text_model, and there is none. Leave it out.")
        self.text_assembly = text_assembly
        self.name = NAME
        self.dimension = word_vectors.DIMENSION
        self._text_model: TextModel | None = None
        if text_model is not None:
            # Only here: it needs sentence-transformers, which comes with torch.
            from visrag_integrations.embedders.text_model import TextModel

            self._text_model = TextModel(text_model, device=device)
            self.name = f"{NAME}:{self._text_model.name}"
            self.dimension = self._text_model.dimension

    @property
    def fingerprint(self) -> str:
        """Tells weights apart. Chunk settings are not in it: chunks of any size can be searched with one query."""
        if self._text_model is not None:
            return self._text_model.fingerprint
        return word_vectors.fingerprint()

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """One array (chunks, dimension) per page, in order."""
        chunks: list[str] = []
        counts: list[int] = []  # chunks of each page
        for page in pages:
            of_page = self._chunks(self._text(page))
            chunks += of_page
            counts.append(len(of_page))
        if not counts:
            return []
        vectors = self._embed_chunks(chunks)
        return [towards_page(of_page) for of_page in np.split(vectors, np.cumsum(counts)[:-1])]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """One array (1, dimension) per query, in order; a picture is read by OCR; zeros where nothing can be read."""
        texts = [self.read_query(query)[:MAX_QUERY_CHARACTERS] for query in queries]
        if self._text_model is None:
            vectors = embed_texts(texts)
        else:
            vectors = self._text_model.embed_queries(texts)
        return [vector[None, :] for vector in vectors]

    def _chunks(self, text: str) -> list[str]:
        """A page's text in pieces of at most `chunk_size` characters, each short enough for the text model."""
        chunks = split(text, self.chunk_size, self.chunk_overlap)
        if self._text_model is None:
            return chunks
        fitting: list[str] = []
        for chunk in chunks:
            fitting += cut_to_fit(chunk, self._text_model.reads_whole)
        return fitting

    def _embed_chunks(self, chunks: list[str]) -> Embedding:
        if self._text_model is None:
            return embed_texts(chunks)
        return self._text_model.embed_documents(chunks)

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


def towards_page(chunks: Embedding) -> Embedding:
    """The vectors of a page's chunks, each turned towards the mean of all; `(chunks, dimension)`, unit length.

    A chunk such as "Set it to 0 to switch this off" says little by itself; its page says what it is about.

    >>> print(towards_page(np.eye(2, dtype=np.float32)).round(2))
    [[0.97 0.25]
     [0.25 0.97]]
    """
    mean = _unit(chunks.sum(axis=0, keepdims=True))
    return _unit(chunks + PAGE_SHARE * mean)


def _unit(vectors: Embedding) -> Embedding:
    """Each row at length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Embedding = vectors / np.maximum(lengths, 1e-12)
    return unit


def embed_texts(texts: list[str]) -> Embedding:
    """(texts, 256), unit length; a text's vector does not depend on the others. Zeros for a text without tokens."""
    vectors = np.zeros((len(texts), word_vectors.DIMENSION), np.float32)
    if not texts:
        return vectors
    model = word_vectors.load()
    for first, last in _batches(texts):
        # Half a surrogate pair, which damaged files hold, is nothing a tokenizer takes.
        readable = [text.encode("utf-8", "replace").decode() for text in texts[first:last]]
        encodings = model.tokenizer.encode_batch(readable, add_special_tokens=False)
        for row, encoding in enumerate(encodings, first):
            if encoding.ids:
                vectors[row] = model.mean(encoding.ids)
    return vectors


def _batches(texts: list[str]) -> Iterable[tuple[int, int]]:
    """Ranges of texts of bounded length together, so that memory stays bounded."""
    first = characters = 0
    for last, text in enumerate(texts, start=1):
        characters += len(text)
        if characters >= _BATCH_CHARACTERS or last == len(texts):
            yield first, last
            first, characters = last, 0
