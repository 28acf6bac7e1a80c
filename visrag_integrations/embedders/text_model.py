"""A text model of sentence-transformers for the embedder `ocr`: one vector a text. See https://sbert.net."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.embedders.checkpoints import checkpoint_name, fingerprint_of_all, resolve_checkpoint
from visrag_integrations.embedders.library_folders import check_library
from visrag_integrations.embedders.query_parts import plain_text, special_tokens_of
from visrag_integrations.embedders.sentence_transformers import load_model
from visrag_integrations.errors import CheckpointError

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding

# Texts of 800 characters, some 200 tokens each: more at once need more memory and are no faster on a processor.
_BATCH_SIZE = 32


class TextModel:
    """What a `SentenceTransformer` makes of texts, with the model's own prompts for documents and for queries.

    Args:
        model: A folder with `modules.json`, or a name on the hub, fetched once.
        device: Where to compute; the first GPU when there is one.

    Attributes:
        name: The name on the hub, or the folder's whole path.
        dimension: Numbers of a vector.

    Raises:
        CheckpointError: It cannot be read, makes many vectors of a text, or reads nothing after its prompt.
        MissingExtraError: sentence-transformers is not installed.
    """

    def __init__(self, model: str | Path, *, device: str | None = None) -> None:
        check_library()  # before anything is fetched for it
        self._lock = threading.Lock()  # of the model and its tokenizer: whether that cuts texts off is a state of it
        self._folder = resolve_checkpoint(model)
        self.name = checkpoint_name(model, self._folder)
        self._model: Any = load_model(self._folder, None, device=device)
        if type(self._model).__name__ == "MultiVectorEncoder":
            raise CheckpointError(
                f"{self.name} makes a vector of every token; text_model= takes models that make one of a text, such as "
                "all-MiniLM-L6-v2. Take one of those, or load this one by itself, if it reads pictures: "
                f'load_embedder({self.name!r}, system="sentence-transformers").'
            )
        if not self._model.supports("text"):
            raise CheckpointError(f"{self.name} takes {', '.join(map(str, self._model.modalities))}, not texts.")
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            raise CheckpointError(f"{self.name} does not say how many numbers a vector has. Take another text model.")
        self.dimension = int(dimension)
        if not self.reads_whole("a"):
            raise CheckpointError(
                f"{self.name} reads {self._model.max_seq_length} tokens, and its prompt for documents, "
                f"{self._document_prompt!r}, takes them all: every text would get the same vector. Set another "
                '"max_seq_length" in its sentence_bert_config.json, or take another text model.'
            )

    @cached_property
    def fingerprint(self) -> str:
        """Tells checkpoints apart, wherever they lie."""
        return fingerprint_of_all(self._folder)

    def embed_documents(self, texts: Sequence[str]) -> Embedding:
        """(texts, dimension), float32, unit length."""
        return self._embed(texts, self._model.encode_document)

    def embed_queries(self, texts: Sequence[str]) -> Embedding:
        """The same for queries; zeros for one without anything to read."""
        vectors = self._embed(texts, self._model.encode_query)
        for row, text in enumerate(texts):
            if not text.strip():
                vectors[row] = 0.0  # a model makes some vector of nothing, too
        return vectors

    def reads_whole(self, text: str) -> bool:
        """Whether the model reads a document to its end; it leaves out what is after, and says nothing."""
        longest: float | None = self._model.max_seq_length
        tokenizer = self._model.tokenizer
        # Models that have no longest input (word vectors) bring a tokenizer of another kind.
        if longest is None or not callable(tokenizer):
            return True
        given = self._document_prompt + plain_text(text, self._special_tokens)
        with self._lock:
            ids = tokenizer(given, truncation=False, verbose=False)["input_ids"]
        return len(ids) <= longest

    @cached_property
    def _document_prompt(self) -> str:
        """What sentence-transformers puts before a document."""
        prompts: dict[str, str] = self._model.prompts
        for name in ("document", "passage", "corpus"):
            if prompts.get(name):
                return prompts[name]
        return prompts.get(self._model.default_prompt_name or "", "")

    @cached_property
    def _special_tokens(self) -> list[str]:
        return special_tokens_of(self._model.tokenizer)

    def _embed(self, texts: Sequence[str], encode: Callable[..., Any]) -> Embedding:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        plain = [plain_text(text, self._special_tokens) for text in texts]
        with self._lock:
            vectors = encode(
                plain,
                batch_size=_BATCH_SIZE,
                convert_to_numpy=True,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return np.array(vectors, dtype=np.float32)
