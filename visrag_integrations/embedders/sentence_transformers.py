"""Any multimodal model of the sentence-transformers library, one vector or many. See https://sbert.net."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visrag_integrations import images
from visrag_integrations.embedders.async_embedder import AsyncEmbedder
from visrag_integrations.embedders.checkpoints import fingerprint_of_all, resolve_checkpoint
from visrag_integrations.embedders.plain_text import marks_of, plain_text
from visrag_integrations.errors import CheckpointError, EmbedderError, MissingExtraError, SettingError
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding

    Input = dict[str, Any]

MULTI_VECTOR = {"MultiVectorEncoder", "ColBERT"}
CONFIG = "config_sentence_transformers.json"
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


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
            self._folder = resolve_checkpoint(model, revision=revision)
            self.name = name or (str(self._folder.resolve()) if Path(model).expanduser().is_dir() else str(model))
            if dtype is not None:
                settings["model_kwargs"] = {**settings.get("model_kwargs", {}), "dtype": dtype}
            model = load_model(self._folder, kind, device=device, **settings)
        else:
            self.name = name or _name_of(model)
        self.kind = "multi" if type(model).__name__ == "MultiVectorEncoder" else "single"
        self.dimension = _dimension_of(model, self.name)
        self.batch_size = batch_size
        self._model: Any = model
        self._lock = threading.Lock()
        super().__init__()

    @cached_property
    def fingerprint(self) -> str:
        """Tells checkpoints apart, wherever they lie; "" for a model that was loaded elsewhere."""
        return "" if self._folder is None else fingerprint_of_all(self._folder)

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises EmbedderError."""
        self._open_model()

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """Float32 unit vectors of each page, in order; the pages are read once, a batch at a time.

        Raises:
            PictureError: A page has no picture, or one that cannot be opened.
        """
        encode = self._open_model().encode_document
        made: list[Embedding] = []
        waiting = iter(pages)
        while batch := [{"image": _rgb(page.open_image())} for page in islice(waiting, self.batch_size)]:
            made += self._encode(batch, encode)
        return made

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """Float32 unit vectors of each query, in order; of a text, a picture, or both where the model takes both."""
        model = self._open_model()
        inputs = [self._input(query) for query in queries]
        together = model.supports(("image", "text")) or model.supports(("text", "image"))
        if together or not any(len(each) > 1 for each in inputs):
            return self._encode(inputs, model.encode_query)
        if self.kind == "single":
            raise EmbedderError(f"{self.name} takes a text or a picture, not both in one query. Give one of them.")
        parts = [[{kind: value} for kind, value in each.items()] for each in inputs]
        vectors = iter(self._encode([part for each in parts for part in each], model.encode_query))
        return [_joined([next(vectors) for _ in each]) for each in parts]

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
    def _marks(self) -> list[str]:
        tokenizer = getattr(self._model, "tokenizer", None)
        return marks_of(tokenizer) if hasattr(tokenizer, "get_added_vocab") else []

    def _input(self, query: str | Query) -> Input:
        text, picture = (query, None) if isinstance(query, str) else (query.text, query.image)
        shown = {} if picture is None else {"image": _rgb(images.open_picture(picture))}
        return {"text": plain_text(text, self._marks), **shown} if text.strip() or not shown else shown

    def _encode(self, inputs: list[Input], encode: Callable[..., Any]) -> list[Embedding]:
        """Inputs of one make-up together, as the library wants it; results in the order of the inputs."""
        import numpy as np

        made: dict[int, Embedding] = {}
        for kinds in dict.fromkeys(tuple(each) for each in inputs):
            indices = [index for index, each in enumerate(inputs) if tuple(each) == kinds]
            with self._lock:
                vectors = encode(
                    [inputs[index] for index in indices],
                    batch_size=self.batch_size,
                    convert_to_numpy=True,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
            made.update((i, np.asarray(each, dtype=np.float32)) for i, each in zip(indices, vectors, strict=True))
        return [made[index] for index in range(len(inputs))]


def load_model(folder: Path, kind: str | None, **settings: Any) -> Any:
    """The model in a folder, by the class that its configuration names.

    Raises:
        CheckpointError: It cannot be read, or only from pickled weights.
        MissingExtraError: sentence-transformers is not installed.
    """
    import json

    pickles = [path for path in folder.rglob("*") if path.suffix in PICKLES]
    unsafe = [str(path.relative_to(folder)) for path in pickles if not any(path.parent.glob("*.safetensors"))]
    if unsafe:
        raise CheckpointError(f"{str(folder)!r} has weights in {', '.join(unsafe)}; only safetensors files are read.")
    try:
        import sentence_transformers
    except ImportError as err:
        raise MissingExtraError("sentence-transformers", "sentence-transformers") from err
    if not hasattr(sentence_transformers, "MultiVectorEncoder"):  # before 6.0, code in a local folder was run unasked
        raise MissingExtraError("sentence-transformers 6.0 or later", "sentence-transformers")
    try:
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8")) if (folder / CONFIG).is_file() else {}
        many = kind == "multi" or (kind is None and said.get("model_type") in MULTI_VECTOR)
        model_class = getattr(sentence_transformers, "MultiVectorEncoder" if many else "SentenceTransformer")
        with _silent():
            return model_class(str(folder), local_files_only=True, **settings)
    except Exception as err:  # whatever the library finds wrong with it, the caller learns which checkpoint it was
        raise CheckpointError(f"sentence-transformers cannot read {str(folder)!r}: {err}") from err


def _silent() -> Any:
    from visrag_integrations.embedders.pretrained import silent

    return silent()


def _dimension_of(model: Any, name: str) -> int:
    if not model.supports("image"):
        raise CheckpointError(
            f"{name} takes {', '.join(map(str, model.modalities))}, not pictures. Take a multimodal model, "
            'or load_embedder("ocr") to search by the text of the pages.'
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


def _rgb(image: Any) -> Any:
    from visrag_integrations.embedders.minicpm_inputs import to_rgb

    return to_rgb(image)


def _joined(parts: list[Embedding]) -> Embedding:
    import numpy as np

    return parts[0] if len(parts) == 1 else np.concatenate(parts)
