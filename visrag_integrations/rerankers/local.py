"""A reranker in this process: any `CrossEncoder` of the sentence-transformers library. See https://sbert.net."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from visrag_integrations.embedders.checkpoints import checkpoint_name, resolve_checkpoint
from visrag_integrations.embedders.library_folders import check_library
from visrag_integrations.embedders.query_parts import plain_text, special_tokens_of
from visrag_integrations.errors import CheckpointError, MissingExtraError, RerankerError, SettingError
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.rerankers.local_checks import check_checkpoint, check_loaded, refuse_code
from visrag_integrations.rerankers.page_inputs import OWN_SETTINGS, PageInput
from visrag_integrations.rerankers.published import PUBLISHED, Reads

# Pages in one step. Texts of 512 tokens take little memory; a page's picture is some 1,000 tokens and has its pixels.
_TEXTS, _PICTURES = 16, 4
# A model with a longer limit is never asked whether a text fits: a page has some thousands of tokens.
_LONG = 100_000


@dataclass(frozen=True)
class LocalSettings:
    """How a model in this process is loaded.

    Attributes:
        device: Where to compute; the first GPU when there is one.
        dtype: "float32", "bfloat16" or "float16"; the checkpoint's own by default.
        revision: Of a name on the hub.
        scores: "model": as the checkpoint says, which is "sigmoid" for most. "sigmoid": from 0 to 1. "raw": as the
            network gives them.
        name: Instead of the checkpoint's; a model that is loaded already needs one.
    """

    device: str | None = None
    dtype: str | None = None
    revision: str | None = None
    scores: Literal["model", "sigmoid", "raw"] = "model"
    name: str | None = None


class LocalScorer:
    """Scores pairs with a `CrossEncoder`, one call at a time."""

    at_once = 1

    def __init__(self, model: Any, max_chars: int | None, settings: dict[str, Any]) -> None:
        """Load the model, or take one that is loaded.

        Raises:
            SettingError: A setting is not known.
            CheckpointError: It cannot be read, needs code of its own, or is no reranker.
            MissingExtraError: sentence-transformers is not installed.
        """
        servers = dict.fromkeys(("api_key", "api", "timeout", "retries"), "it is for a server; say url= too.")
        known = [*OWN_SETTINGS, *(field.name for field in fields(LocalSettings))]
        check_arguments("CrossEncoderReranker", settings, known, elsewhere=servers)
        chosen = LocalSettings(**settings)
        if chosen.scores not in ("model", "sigmoid", "raw"):
            raise SettingError(f'scores is {chosen.scores!r}; allowed: "model", "sigmoid", "raw".')
        if isinstance(model, (str, Path)):
            refuse_code(str(model))
            check_library()  # before gigabytes are fetched for it
            folder = resolve_checkpoint(model, revision=chosen.revision)
            self.name = chosen.name or checkpoint_name(model, folder)
            model = _load(folder, chosen)
        else:
            self.name = chosen.name or _name_of(model)
        check_loaded(model, self.name)
        self._model: Any = model
        self._activation = _activation(chosen.scores)
        self._max_chars = max_chars
        self._lock = threading.Lock()
        self.sees: bool = model.supports("image")
        self.reads: Reads = "text"
        if self.name in PUBLISHED:
            self.reads = PUBLISHED[self.name].reads
        elif self.sees:
            self.reads = "image"

    def batch_size(self, reads: Reads) -> int:
        """So many pages in one step."""
        return _TEXTS if reads == "text" else _PICTURES

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises RerankerError."""
        self._open()

    def close(self) -> None:
        """Let go of the model."""
        with self._lock:
            self._model = None

    def fit(self, query: str, texts: Sequence[str]) -> tuple[str, list[str]]:
        """The query and the texts, cut to the tokens that the model reads of a pair.

        The library would cut too, without a word. A query gets half of the room at most, as there.
        """
        if self._max_chars is not None:
            texts = [text[: self._max_chars] for text in texts]
        model = self._open()
        limit = model.max_seq_length
        if limit is None or limit > _LONG or not getattr(model.tokenizer, "is_fast", False):
            return query, list(texts)
        # Everything around the two texts: the separators, or the words of a chat template.
        with self._lock:  # a tokenizer's padding and cutting are shared: `score` in another thread would lose its own
            around = int(model.preprocess([self._pair(PageInput(""), PageInput(""))])["input_ids"].shape[-1])
            # [CLS] how many? [SEP] the page's text [SEP]: 64 tokens less 3 leave 61, of which "how many?" takes 9.
            room = max(limit - around, 2)
            query, used = self._cut(query, room // 2)
            return query, [self._cut(text, room - used)[0] for text in texts]

    def score(self, query: PageInput, pages: Sequence[PageInput]) -> list[float]:
        """The model's scores, in the order of the pages."""
        model = self._open()
        pairs = [self._pair(query, page) for page in pages]
        with self._lock:
            try:
                scores = model.predict(
                    pairs, batch_size=len(pairs), activation_fn=self._activation, show_progress_bar=False
                )
            except ValueError as err:
                raise RerankerError(f"{self.name} cannot score these pages: {err}") from err
        return [float(score) for score in scores]

    def _open(self) -> Any:
        if self._model is None:
            raise RerankerError("This reranker was closed. Make it again with CrossEncoderReranker(...).")
        return self._model

    @cached_property
    def _special_tokens(self) -> list[str]:
        return special_tokens_of(self._open().tokenizer)

    def _pair(self, query: PageInput, page: PageInput) -> list[Any]:
        return [self._side(query), self._side(page)]

    def _side(self, given: PageInput) -> Any:
        """A text as it is where the model only reads text; else by its parts, so that no text is taken for a path."""
        text = plain_text(given.text, self._special_tokens)
        if not self.sees:
            return text
        parts: dict[str, Any] = {}
        if text.strip() or given.image is None:
            parts["text"] = text
        if given.image is not None:
            parts["image"] = given.image
        return parts

    def _cut(self, text: str, tokens: int) -> tuple[str, int]:
        """The text's first tokens, and how many there are."""
        encoded = self._open().tokenizer(
            plain_text(text, self._special_tokens),
            add_special_tokens=False,
            return_offsets_mapping=True,
            truncation=False,
            verbose=False,
        )
        count = len(encoded["input_ids"])
        if count <= tokens:
            return text, count
        end = encoded["offset_mapping"][tokens - 1][1]
        return text[:end], tokens


def _load(folder: Path, chosen: LocalSettings) -> Any:
    """The `CrossEncoder` in a folder."""
    check_checkpoint(folder)
    try:
        import sentence_transformers
    except ImportError as err:
        raise MissingExtraError("sentence-transformers", "sentence-transformers") from err
    if not hasattr(sentence_transformers, "MultiVectorEncoder"):  # before 6.0, code in a local folder was run unasked
        raise MissingExtraError("sentence-transformers 6.0 or later", "sentence-transformers")
    from visrag_integrations.embedders.pretrained import silent

    arguments: dict[str, Any] = {"device": chosen.device, "local_files_only": True}
    if chosen.dtype is not None:
        arguments["model_kwargs"] = {"dtype": chosen.dtype}
    try:
        with silent():
            return sentence_transformers.CrossEncoder(str(folder), **arguments)
    except ImportError as err:
        if "torchvision" not in str(err).lower():
            raise CheckpointError(f"sentence-transformers cannot read {str(folder)!r}: {err}") from err
        raise MissingExtraError("torchvision", "sentence-transformers") from err
    except Exception as err:  # whatever the library finds wrong with it, the caller learns which checkpoint it was
        raise CheckpointError(f"sentence-transformers cannot read {str(folder)!r}: {err}") from err


def _activation(scores: str) -> Any:
    """What is applied to the network's output; None leaves it to the model."""
    if scores == "model":
        return None
    from torch import nn

    return nn.Sigmoid() if scores == "sigmoid" else nn.Identity()


def _name_of(model: Any) -> str:
    if not hasattr(model, "predict") or not hasattr(model, "supports"):
        raise SettingError(
            f"A reranker's model is a name, a folder, a URL, or a sentence_transformers.CrossEncoder, not a "
            f"{type(model).__name__}."
        )
    name = getattr(getattr(model, "model_card_data", None), "base_model", None)
    if not name:
        raise SettingError("This model does not say its name. Set name=.")
    return str(name)
