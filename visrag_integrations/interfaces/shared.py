"""One model for all who ask for the same one: handles that are counted, and the model freed when the last closes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.closing import close
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page, Query

if TYPE_CHECKING:
    from typing_extensions import Self

    from visrag_integrations.interfaces import Embedding, Generator, PageEmbedder

Model = TypeVar("Model")


class SharedModel(Generic[Model]):
    """A model and how many handles on it are open."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings  # kept, so that the identity of an object in it is not given to another one
        self.model: Model | None = None
        self.users = 0
        self.loading = threading.Lock()


class SharedModels(Generic[Model]):
    """The models that are shared in this process, by name and settings."""

    def __init__(self) -> None:
        self._entries: dict[str, SharedModel[Model]] = {}
        self._lock = threading.Lock()

    def join(self, name: str, settings: Mapping[str, Any], load: Callable[[], Model]) -> tuple[str, Model]:
        """One more user of this model, which is loaded if it is not there; its key, and the model.

        A model that fails to load is not remembered: the next call tries again.
        """
        key = _key(name, settings)
        with self._lock:
            entry = self._entries.setdefault(key, SharedModel(settings))
            entry.users += 1
        try:
            # Held by this model only: others can be loaded meanwhile.
            with entry.loading:
                if entry.model is None:
                    entry.model = load()
                return key, entry.model
        except BaseException:
            self.leave(key, entry.model, free=True)
            raise

    def leave(self, key: str, model: Model | None, *, free: bool) -> None:
        """One user less; with `free` the model is closed and forgotten when it was the last."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.model is not model:
                return
            entry.users -= 1
            if entry.users > 0 or not free:
                return
            del self._entries[key]
        close(entry.model)


class Handle(Generic[Model]):
    """One user's hold on a shared model: its members are the model's, but `close` ends only this hold.

    A handle that is dropped without `close` leaves the model loaded, for whoever asks for it next.
    """

    def __init__(
        self, models: SharedModels[Model], name: str, settings: Mapping[str, Any], load: Callable[[], Model]
    ) -> None:
        self._made_from = (name, dict(settings))
        self._key, self._model = models.join(name, settings, load)
        self._models = models
        self._closed = False
        self._dropped = weakref.finalize(self, models.leave, self._key, self._model, free=False)
        self._dropped.atexit = False

    def _open(self) -> Model:
        if self._closed:
            raise SettingError(f"This handle on {self._made_from[0]!r} was closed. Load the model again.")
        return self._model

    def close(self) -> None:
        """End this hold on the model; the last one that ends frees the model. Twice is as good as once."""
        if self._dropped.detach() is not None:
            self._closed = True
            self._models.leave(self._key, self._model, free=True)

    def __getattr__(self, name: str) -> Any:
        # Asked only for what the handle itself has not. Names with an underscore are asked for by copy and pickle,
        # before there is a model.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._open(), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<shared {self._made_from[0]!r}{', closed' * self._closed}>"


class SharedEmbedder(Handle["PageEmbedder"]):
    """A hold on an embedder that others use too: `load_embedder(name, shared=True)`."""

    @property
    def name(self) -> str:
        """The embedder's name."""
        return self._open().name

    @property
    def kind(self) -> Literal["single", "multi"]:
        """The embedder's kind."""
        return self._open().kind

    @property
    def dimension(self) -> int:
        """The embedder's dimension."""
        return self._open().dimension

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """As the embedder's own."""
        return self._open().embed_pages(pages)

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """As the embedder's own."""
        return self._open().embed_queries(queries)

    def __reduce__(self) -> tuple[Any, ...]:
        return _embedder_again, self._made_from


class SharedGenerator(Handle["Generator"]):
    """A hold on a generator that others use too: `load_generator(name, shared=True)`."""

    @property
    def name(self) -> str:
        """The generator's name."""
        return self._open().name

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """As the generator's own."""
        return self._open().generate(conversations, settings)

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """As the generator's own."""
        return self._open().stream(conversation, settings)

    def __reduce__(self) -> tuple[Any, ...]:
        return _generator_again, self._made_from


SHARED_EMBEDDERS: SharedModels[PageEmbedder] = SharedModels()
SHARED_GENERATORS: SharedModels[Generator] = SharedModels()


def _key(name: str, settings: Mapping[str, Any]) -> str:
    """The same for settings that are equal; a checkpoint folder is the same by whatever path.

    >>> _key("ocr", {"b": 1, "a": [2]}) == _key("ocr", {"a": [2], "b": 1})
    True
    """
    folder = Path(name).expanduser()
    try:
        if folder.exists():
            name = str(folder.resolve())
    except OSError:  # a name that is too long to be a path
        pass
    parts = [f"{key}={_setting(value)}" for key, value in sorted(settings.items())]
    return "\n".join([name, *parts])


def _setting(value: Any) -> str:
    """A plain value by what it is; any other object by which one it is."""
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_setting, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_setting(each)}' for key, each in sorted(value.items()))}}}"
    return f"{type(value).__name__} {id(value)}"


def _embedder_again(name: str, settings: dict[str, Any]) -> SharedEmbedder:
    """A handle that was sent to another process opens the model there."""
    from importlib import import_module

    found: SharedEmbedder = import_module("visrag_integrations").load_embedder(name, shared=True, **settings)
    return found


def _generator_again(name: str, settings: dict[str, Any]) -> SharedGenerator:
    from importlib import import_module

    found: SharedGenerator = import_module("visrag_integrations").load_generator(name, shared=True, **settings)
    return found
