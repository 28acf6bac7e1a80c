"""vLLM in this process as an embedder: late interaction whose network only vLLM has, or any model it can pool."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visrag_integrations import images
from visrag_integrations.embedders.async_embedder import AsyncEmbedder
from visrag_integrations.embedders.minicpm_inputs import to_rgb
from visrag_integrations.embedders.query_parts import plain_text, special_tokens_of, split_query
from visrag_integrations.errors import CheckpointError, EmbedderError, MissingExtraError, SettingError
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import Embedding

    Prompt = dict[str, Any]

# Pages in memory at once. vLLM computes as many as it can; more would only wait, with their pixels.
_BATCH = 16


class VLLMEmbedder(AsyncEmbedder):
    """What vLLM makes of pages and queries: a vector a token, or one vector, of unit length.

    Pages go through the model's chat template, as its server puts them; a query is its text, as vLLM's documentation
    asks these models.

    Attributes:
        name: The checkpoint.
        kind: "multi" or "single".
        dimension: Numbers of a vector.
    """

    name: str
    kind: Literal["single", "multi"]

    def __init__(
        self,
        model_name_or_path: str | Path,
        *,
        kind: Literal["single", "multi"] = "multi",
        page_text: str = "",
        instruction: str = "",
        batch_size: int = _BATCH,
        max_model_len: int | None = 4096,
        **engine: Any,
    ) -> None:
        """Start the engine.

        Args:
            model_name_or_path: A checkpoint folder, or a name that vLLM finds.
            kind: "multi" for a vector a token, "single" for one.
            page_text: After the picture of a page.
            instruction: Before the text of a query.
            batch_size: At most so many pages handed over at once.
            max_model_len: Tokens of a page, its picture's included; the model's own limit when None.
            **engine: vLLM's own engine arguments, such as `dtype` or `gpu_memory_utilization`.

        Raises:
            SettingError: A setting is not allowed; code from a checkpoint is never run.
            MissingExtraError: vLLM is not installed.
            CheckpointError: vLLM cannot load it.
        """
        if kind not in ("single", "multi") or batch_size < 1:
            raise SettingError(f'kind is {kind!r}, "single" or "multi"; batch_size is {batch_size}, at least 1.')
        if engine.get("trust_remote_code"):
            raise SettingError("Code from a checkpoint is not run in process. Serve the model, and give its url=.")
        folder = Path(model_name_or_path).expanduser()
        self.name = str(folder.resolve()) if folder.is_dir() else str(model_name_or_path)
        self.kind, self.page_text, self.instruction, self.batch_size = kind, page_text, instruction, batch_size
        self._llm: Any = _start(self.name, {"max_model_len": max_model_len, **engine})
        self._task = "token_embed" if kind == "multi" else "embed"
        self._tokenizer = self._llm.get_tokenizer()
        self._special_tokens = special_tokens_of(self._tokenizer)
        self._lock = threading.Lock()
        (vectors,) = self._embed([{"prompt": "dimension"}])
        self.dimension = int(vectors.shape[-1])
        super().__init__()

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises EmbedderError."""
        self._open_engine()

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """Float32 unit vectors of each page, in order; the pages are read once, a batch at a time.

        Raises:
            PictureError: A page has no picture, or one that cannot be opened.
            EmbedderError: vLLM refuses one, for example because its picture has more tokens than `max_model_len`.
        """
        self.check_open()
        made: list[Embedding] = []
        batch: list[Prompt] = []
        for page in pages:
            batch.append(self._conversation(self.page_text, to_rgb(page.open_image())))
            if len(batch) == self.batch_size:
                made += self._embed(batch)
                batch = []
        return made + self._embed(batch)

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """Float32 unit vectors of each query, in order: of a text, a picture, or a picture with a text."""
        self.check_open()
        prompts: list[Prompt] = []
        for text, picture in map(split_query, queries):
            if picture is None:
                prompts.append({"prompt": self.instruction + plain_text(text, self._special_tokens)})
            else:
                prompts.append(self._conversation(text or self.page_text, to_rgb(images.open_picture(picture))))
        return self._embed(prompts)

    def embed_texts(self, texts: Iterable[str]) -> list[Embedding]:
        """Float32 unit vectors of each text that is itself a document, in order: no instruction comes before it."""
        self.check_open()
        return self._embed([{"prompt": plain_text(text, self._special_tokens)} for text in texts])

    def close(self) -> None:
        """End the engine and free its memory; the embedder cannot be used after."""
        with self._lock:
            llm, self._llm = self._llm, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
        super().close()

    def _open_engine(self) -> Any:
        if self._llm is None:
            raise EmbedderError("This embedder was closed. Load it again with load_embedder(...).")
        return self._llm

    def _conversation(self, text: str, picture: Image) -> Prompt:
        """The prompt of a picture and the text after it, by the model's chat template, as its server writes it."""
        content: list[dict[str, str]] = [{"type": "image"}]
        if text:
            content.append({"type": "text", "text": plain_text(text, self._special_tokens)})
        message = {"role": "user", "content": content}
        written = self._writer.apply_chat_template([message], tokenize=False, add_generation_prompt=False)
        return {"prompt": written, "multi_modal_data": {"image": picture}}

    @property
    def _writer(self) -> Any:
        """What has the chat template: the tokenizer, or the processor around it."""
        if getattr(self._tokenizer, "chat_template", None):
            return self._tokenizer
        raise EmbedderError(
            f"{self.name} has no chat template, so it does not say how a page is written. Serve it with "
            "vllm serve --chat-template FILE, and give its url=."
        )

    def _embed(self, prompts: Sequence[Prompt]) -> list[Embedding]:
        import numpy as np

        if not prompts:
            return []
        with self._lock:
            llm = self._open_engine()
            try:
                outputs = llm.encode(list(prompts), pooling_task=self._task, use_tqdm=False)
            except (
                Exception
            ) as err:  # too long, nothing this model takes, or the engine died: vLLM has a class for each
                raise EmbedderError(f"vLLM cannot embed this with {self.name}: {err}") from err
        made: list[Embedding] = []
        for output in outputs:
            vectors = np.asarray(output.outputs.data.float().cpu().numpy(), dtype=np.float32)
            lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
            if not np.isfinite(lengths).all() or not lengths.all():
                raise EmbedderError(f"{self.name} gave vectors that are zero, or not finite. Try another dtype.")
            made.append(vectors / lengths)
        return made


def _start(name: str, engine: dict[str, Any]) -> Any:
    """The engine, loaded."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        import vllm
    except ImportError as err:
        raise MissingExtraError("vLLM", "vllm") from err
    limits = {"limit_mm_per_prompt": {"image": 1, "video": 0}, "runner": "pooling"}
    try:
        return vllm.LLM(model=name, **{**limits, **engine})
    except Exception as err:  # whatever vLLM finds wrong with it, the caller learns which checkpoint it was
        raise CheckpointError(f"vLLM cannot load {name!r}: {err}") from err
