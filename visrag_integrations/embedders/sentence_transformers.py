"""Any multimodal model of the sentence-transformers library, one vector or many. See https://sbert.net."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visrag_integrations import images
from visrag_integrations.embedders.async_embedder import AsyncEmbedder
from visrag_integrations.embedders.checkpoints import (
    ADAPTER,
    adapter_base,
    base_revision,
    checkpoint_name,
    fingerprint_of_all,
    resolve_checkpoint,
)
from visrag_integrations.embedders.library_folders import (
    check_library,
    kind_of,
    refuse_cut_off,
    refuse_guessed_pooling,
    refuse_pickles,
    refuse_random_projection,
    refuse_without_tokenizer,
)
from visrag_integrations.embedders.minicpm_inputs import to_rgb
from visrag_integrations.embedders.query_parts import join_parts, plain_text, special_tokens_of, split_query
from visrag_integrations.errors import CheckpointError, EmbedderError, MissingExtraError, SettingError
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding

    Input = dict[str, Any]


class SentenceTransformersEmbedder(AsyncEmbedder):
    """What a `SentenceTransformer` or a `MultiVectorEncoder` makes of pages and queries, with the model's own prompts.

    Texts and pictures are handed over as what they are: a text that looks like an address or a path is never opened.

    Attributes:
        name: The checkpoint, as `load_embedder` takes it.
        kind: "single" or "multi", by the model's class.
        dimension: Numbers of a vector.
    """

    name: str
    kind: Literal["single", "multi"]
    dimension: int

    def __init__(
        self,
        model: Any,
        *,
        kind: Literal["single", "multi"] | None = None,
        name: str | None = None,
        batch_size: int = 8,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        texts_only: bool = False,
        **settings: Any,
    ) -> None:
        """Load a checkpoint, or take a model that is loaded already.

        Args:
            model: A folder, a name on the hub, or a `SentenceTransformer` or `MultiVectorEncoder`.
            kind: Which class reads a checkpoint that does not say it: "single" or "multi".
            name: Instead of the checkpoint's; a model that is loaded already needs one.
            batch_size: At most so many pages or queries at once.
            device: Where to compute; the first GPU when there is one.
            dtype: "float32", "bfloat16" or "float16"; the checkpoint's own by default.
            revision: Of a name on the hub.
            texts_only: Take a model that reads no pictures: for queries, beside another model for the pages.
            **settings: Handed to the model's class, for example `prompts={"query": "..."}` or `truncate_dim=512`.

        Raises:
            CheckpointError: The checkpoint cannot be read, or the model does not take pictures.
            SettingError: A setting is not allowed; code from a checkpoint is never run, whatever is set.
            MissingExtraError: sentence-transformers is not installed.
        """
        if batch_size < 1:
            raise SettingError(f"batch_size is {batch_size}; it must be at least 1.")
        if settings.get("trust_remote_code"):
            raise SettingError("Code from a checkpoint is not run. Load the model yourself and hand it over instead.")
        self._folder: Path | None = None
        if isinstance(model, (str, Path)):
            check_library()  # before gigabytes are fetched for it
            self._folder = resolve_checkpoint(model, revision=revision)
            self.name = name or checkpoint_name(model, self._folder)
            if dtype is not None:
                settings["model_kwargs"] = {**settings.get("model_kwargs", {}), "dtype": dtype}
            model = load_model(self._folder, kind, device=device, **settings)
        else:
            self.name = name or _name_of(model)
        # By its name: the class is of a library that may not be installed, and is not imported here.
        self.kind = "multi" if type(model).__name__ == "MultiVectorEncoder" else "single"
        self.dimension = _dimension_of(model, self.name, texts_only)
        self.batch_size = batch_size
        self._model: Any = model
        self._lock = threading.Lock()
        super().__init__()

    @cached_property
    def fingerprint(self) -> str:
        """Tells checkpoints apart, wherever they lie; "" for a model that was loaded elsewhere."""
        if self._folder is None:
            return ""
        return fingerprint_of_folder(self._folder)

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises EmbedderError."""
        self._open_model()

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """Float32 unit vectors of each page, in order; the pages are read once, a batch at a time.

        Raises:
            PictureError: A page has no picture, or one that cannot be opened.
        """
        model = self._open_model()
        if not model.supports("image"):
            raise EmbedderError(f"{self.name} reads text only; it embeds queries, beside another model for the pages.")
        encode = model.encode_document
        made: list[Embedding] = []
        batch: list[Input] = []
        for page in pages:
            batch.append({"image": to_rgb(page.open_image())})
            if len(batch) == self.batch_size:
                made += self._encode(batch, encode)
                batch = []
        return made + self._encode(batch, encode)

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """Float32 unit vectors of each query, in order; of a text, a picture, or both where the model takes both."""
        model = self._open_model()
        inputs = [self._input(query) for query in queries]
        takes_both = model.supports(("image", "text")) or model.supports(("text", "image"))
        if takes_both or not [each for each in inputs if len(each) > 1]:
            return self._encode(inputs, model.encode_query)
        if self.kind == "single":
            raise EmbedderError(f"{self.name} takes a text or a picture, not both in one query. Give one of them.")
        # Text and picture apart, as {"text": ...} and {"image": ...}; a query then has the vectors of both.
        parts: list[Input] = []
        for each in inputs:
            for modality, value in each.items():
                parts.append({modality: value})
        vectors = self._encode(parts, model.encode_query)
        return join_parts(vectors, list(map(len, inputs)))

    def embed_texts(self, texts: Iterable[str]) -> list[Embedding]:
        """Float32 unit vectors of each text that is itself a document, in order."""
        encode = self._open_model().encode_document
        return self._encode([self._input(text) for text in texts], encode)

    def close(self) -> None:
        """Let go of the model; the embedder cannot be used after."""
        with self._lock:
            self._model = None
        super().close()

    def _open_model(self) -> Any:
        if self._model is None:
            raise EmbedderError("This embedder was closed. Load it again with load_embedder(...).")
        return self._model

    @cached_property
    def _special_tokens(self) -> list[str]:
        tokenizer = getattr(self._model, "tokenizer", None)
        if not hasattr(tokenizer, "get_added_vocab"):
            return []
        return special_tokens_of(tokenizer)

    def _input(self, query: str | Query) -> Input:
        text, picture = split_query(query)
        made: Input = {}
        if text.strip() or picture is None:
            made["text"] = plain_text(text, self._special_tokens)
        if picture is None:
            return made
        if not self._model.supports("image"):
            raise EmbedderError(f"{self.name} reads text only, and this query has a picture. Ask with a text.")
        made["image"] = to_rgb(images.open_picture(picture))
        return made

    def _encode(self, inputs: list[Input], encode: Callable[..., Any]) -> list[Embedding]:
        """Inputs of one make-up together, as the library wants it; results in the order of the inputs."""
        import numpy as np

        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)  # which modalities -> places among the inputs
        for index, each in enumerate(inputs):
            groups[tuple(each)].append(index)
        made: dict[int, Embedding] = {}
        for indices in groups.values():
            with self._lock:
                vectors = encode(
                    [inputs[index] for index in indices],
                    batch_size=self.batch_size,
                    convert_to_numpy=True,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
            for index, vector in zip(indices, vectors, strict=True):
                made[index] = np.asarray(vector, dtype=np.float32)
        return [made[index] for index in range(len(inputs))]


def fingerprint_of_folder(folder: Path) -> str:
    """Tells checkpoints apart; of an adapter, with its base."""
    own = fingerprint_of_all(folder)
    if not (folder / ADAPTER).is_file() or (folder / "config.json").is_file():
        return own
    # An adapter on another base, or on one that was trained further, gives other vectors.
    base = fingerprint_of_all(resolve_checkpoint(adapter_base(folder), revision=base_revision(folder)))
    return hashlib.sha256(f"{own} {base}".encode()).hexdigest()[:16]


def load_model(folder: Path, kind: str | None, **settings: Any) -> Any:
    """The model in a folder, by the class that its configuration names; an adapter is merged into its base.

    Raises:
        CheckpointError: It cannot be read, or only from pickled weights, or a part of it would be random.
        MissingExtraError: sentence-transformers is not installed, or PEFT, which an adapter needs.
    """
    refuse_pickles(folder)
    try:
        import sentence_transformers
    except ImportError as err:
        raise MissingExtraError("sentence-transformers", "sentence-transformers") from err
    if not hasattr(sentence_transformers, "MultiVectorEncoder"):  # before 6.0, code in a local folder was run unasked
        raise MissingExtraError("sentence-transformers 6.0 or later", "sentence-transformers")
    # These import torch, as the library has by now.
    from visrag_integrations.embedders.adapted_models import (
        base_by_folder,
        check_weights,
        fetch_base,
        merge_adapter_into,
    )
    from visrag_integrations.embedders.pretrained import silent

    base: Path | None = None
    if (folder / ADAPTER).is_file():
        refuse_random_projection(folder)
        base = fetch_base(folder)
        refuse_pickles(base)
    try:
        read_as = _check_folder(folder, base, kind)
        model_class: Any = sentence_transformers.SentenceTransformer
        if read_as == "multi":
            model_class = sentence_transformers.MultiVectorEncoder
            refuse_random_projection(folder)
        with silent(), base_by_folder(folder, base) as place:
            model = model_class(str(place), local_files_only=True, **settings)
        if kind is None:
            refuse_guessed_pooling(model, folder)
        if base is None or base == folder:
            check_weights(model, folder)
        else:
            merge_adapter_into(model, folder, base)
    except (CheckpointError, SettingError):
        raise
    except ImportError as err:
        if "torchvision" not in str(err).lower():
            raise CheckpointError(f"sentence-transformers cannot read {str(folder)!r}: {err}") from err
        # Processors of Qwen-VL read films too, with torchvision, and do not load without it.
        raise MissingExtraError("torchvision", "sentence-transformers") from err
    except Exception as err:  # whatever the library finds wrong with it, the caller learns which checkpoint it was
        raise CheckpointError(f"sentence-transformers cannot read {str(folder)!r}: {_reason(err)}") from err
    return model


def _check_folder(folder: Path, base: Path | None, kind: str | None) -> str | None:
    """What reads the folder, "multi" or "single", once its files are looked at."""
    refuse_cut_off(folder)
    if base is not None:
        refuse_cut_off(base)
    refuse_without_tokenizer(folder)
    return kind_of(folder, kind)


def _reason(err: Exception) -> str:
    """What the library says is wrong; of shapes it says it in a report that is switched off here."""
    if "ignore_mismatched_sizes" in str(err):
        return "weights have other shapes than their configuration says. Do its files belong together?"
    return str(err)


def _dimension_of(model: Any, name: str, texts_only: bool) -> int:
    if not texts_only and not model.supports("image"):
        raise CheckpointError(
            f"{name} takes {', '.join(map(str, model.modalities))}, not pictures. Take a multimodal model, "
            'or load_embedder("ocr") to search by the text of the pages. If it was trained for queries on the pages of '
            f'another model: load_embedder("THAT MODEL", queries="{name}").'
        )
    dimension = model.get_embedding_dimension()
    if dimension is None:
        raise CheckpointError(f"{name} does not say how many numbers a vector has. Set truncate_dim.")
    return int(dimension)


def _name_of(model: Any) -> str:
    name = getattr(getattr(model, "model_card_data", None), "base_model", None)
    if not name:
        raise SettingError("This model does not say its name, which the collection remembers. Set name=.")
    return str(name)
