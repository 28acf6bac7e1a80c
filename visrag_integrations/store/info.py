"""What a collection remembers of who filled it, and how that is checked."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError, StoreFormatError, StoreMismatchError
from visrag_integrations.store.engine import STORAGES, Schema
from visrag_integrations.store.pooling import METHODS

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

FORMAT_VERSION = 2
"""The newest there is: of collections that the first versions of this library would misread."""
_BINARY_FROM = 1024  # below this, one bit a number loses too much and the full search is fast anyway


@dataclass(frozen=True)
class EmbedderInfo:
    """An embedder that fills a collection, and how its vectors are kept there.

    Attributes:
        embedder: Its name.
        kind: "single" or "multi".
        dimension: Of its vectors.
        fingerprint: Tells checkpoints of one name apart; None when the embedder does not say.
        instruction: What it puts before queries; None when it does not say.
        quantization: "binary" or None.
        storage: What the numbers of its vectors are kept as.
        pooling: How a page's vectors are pooled for the first pass of a search; None where they are not.
        pooled: How many pooled vectors a page has at most.
    """

    embedder: str
    kind: str
    dimension: int
    fingerprint: str | None = None
    instruction: str | None = None
    quantization: str | None = None
    storage: str = "float32"
    pooling: str | None = None
    pooled: int = 0

    @property
    def schema(self) -> Schema:
        """How the collection holds its vectors."""
        binary = self.quantization == "binary"
        return Schema(self.kind, self.dimension, binary, self.storage, self.pooling, self.pooled)


@dataclass(frozen=True)
class CollectionInfo(EmbedderInfo):
    """Who fills a collection, and how; its own fields are those of the first embedder.

    Attributes:
        reader: How the pages were read (`PageReader.describe()`); empty when it was not said.
        format_version: Of the collection's layout.
        created: When, in ISO format.
        complete: False while an import has not finished.
        also: The second embedder, where there is one.
    """

    reader: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = 1
    created: str = ""
    complete: bool = True
    also: tuple[EmbedderInfo, ...] = ()

    @property
    def embedders(self) -> tuple[EmbedderInfo, ...]:
        """Everyone who fills the collection."""
        return (EmbedderInfo(**{key: getattr(self, key) for key in EmbedderInfo.__dataclass_fields__}), *self.also)

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """How the collection holds the vectors of each."""
        return tuple(embedder.schema for embedder in self.embedders)

    def of(self, embedder: PageEmbedder) -> EmbedderInfo | None:
        """This embedder among those who fill the collection; None when it is another one."""
        asked = info_of(embedder)
        return next((filled for filled in self.embedders if _same(filled, asked)), None)

    def as_dict(self) -> dict[str, Any]:
        """What is written down."""
        return asdict(self)


@dataclass(frozen=True)
class Layout:
    """How a new collection keeps its vectors; see `QdrantPageStore`."""

    quantization: str | None = "auto"
    storage: str = "auto"
    pooling: str | None = "auto"
    pooled: int = 32

    def __post_init__(self) -> None:
        _allowed("quantization", self.quantization, ("auto", "binary", None))
        _allowed("storage", self.storage, ("auto", *STORAGES))
        _allowed("pooling", self.pooling, ("auto", *METHODS, None))
        if isinstance(self.pooled, bool) or not isinstance(self.pooled, int) or self.pooled < 1:
            raise SettingError(f"pooled_vectors is {self.pooled!r}; it is a number of vectors a page, 1 or more.")

    def describe(self, embedders: Sequence[PageEmbedder], reader: Mapping[str, Any]) -> CollectionInfo:
        """What a new collection with this layout, for these embedders, will remember."""
        first, *others = map(self._applied, embedders)
        kinds = [info.kind for info in (first, *others)]
        if len(set(kinds)) < len(kinds):
            raise SettingError(
                f"{' and '.join(repr(e.name) for e in embedders)}: a collection holds the vectors of one embedder of "
                "kind 'single' and one of kind 'multi'. Use another collection for the others."
            )
        if self.pooling not in ("auto", None) and "multi" not in kinds:
            raise SettingError(
                f"pooling={self.pooling!r} is for embedders of many vectors a page; {first.embedder!r} makes one. "
                "Leave it out."
            )
        return CollectionInfo(
            **asdict(first),
            reader=dict(reader),
            format_version=FORMAT_VERSION if others or "compact" in {info.storage for info in (first, *others)} else 1,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            also=tuple(others),
        )

    def _applied(self, embedder: PageEmbedder) -> EmbedderInfo:
        info = info_of(embedder)
        multi = info.kind == "multi"
        pooling = (_pooling_of(embedder) if self.pooling == "auto" else self.pooling) if multi else None
        _allowed("the embedder's pooling", pooling, (*METHODS, None))
        storage = self.storage if self.storage != "auto" else ("float16" if pooling else "float32")
        if storage == "compact" and not multi:
            storage = "8bit"  # a single vector has nothing to spare, and takes little
        large = not multi and info.dimension >= _BINARY_FROM
        binary = self.quantization == "binary" or (self.quantization == "auto" and large)
        return replace(
            info,
            quantization="binary" if binary else None,
            storage=storage,
            pooling=pooling,
            pooled=self.pooled if pooling else 0,
        )


def _pooling_of(embedder: PageEmbedder) -> str | None:
    """How the embedder's pages are pooled best, where it says or has patches."""
    said: str | None = getattr(embedder, "pooling", "rows" if hasattr(embedder, "patch_grid") else None)
    return said


def _allowed(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}.")


def info_of(embedder: PageEmbedder) -> EmbedderInfo:
    """What is known of this embedder."""
    if embedder.kind not in ("single", "multi"):
        raise SettingError(f"The embedder {embedder.name!r} is of kind {embedder.kind!r}; allowed: 'single', 'multi'.")
    if embedder.dimension < 1:
        raise SettingError(
            f"The embedder {embedder.name!r} has the dimension {embedder.dimension}; it must be positive."
        )
    return EmbedderInfo(
        embedder=embedder.name,
        kind=embedder.kind,
        dimension=int(embedder.dimension),
        fingerprint=getattr(embedder, "fingerprint", None),
        instruction=getattr(embedder, "instruction", None),
    )


def read_info(stored: Mapping[str, Any], where: str) -> CollectionInfo:
    """The info as it was written down.

    Raises:
        StoreFormatError: It was written by a newer version, or is damaged.
    """
    version = stored.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreFormatError(
            f"{where} has format version {version}; this version reads up to {FORMAT_VERSION}. "
            "Update it: pip install --upgrade visrag-integrations"
        )
    try:
        also = tuple(EmbedderInfo(**_known(EmbedderInfo, other)) for other in stored.get("also") or ())
        return CollectionInfo(**{**_known(CollectionInfo, stored), "also": also})
    except (TypeError, AttributeError) as err:
        raise StoreFormatError(f"{where} is damaged: its description lacks fields ({err}). Index again.") from err


def _known(kind: type[EmbedderInfo], stored: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stored.items() if key in kind.__dataclass_fields__}


def check_info(info: CollectionInfo, embedder: PageEmbedder, where: str) -> None:
    """Nothing when the embedder is one that fills the collection.

    Raises:
        StoreMismatchError: It is another one; the message names both.
    """
    asked = info_of(embedder)
    if info.of(embedder) is not None:
        return
    add = ""
    if asked.kind not in {filled.kind for filled in info.embedders}:
        add = " To keep both: reindex(store, embedder=[the one that filled it, this one])."
    raise StoreMismatchError(
        f"{where} holds {describe_all(info)}; {_describe(asked, 'the embedder at hand makes')}. "
        f"Search it with the embedder that filled it, use another collection, or index again with recreate=True.{add}"
    )


def describe_all(info: CollectionInfo) -> str:
    """Everyone who fills the collection, in words."""
    return " and ".join(map(_describe, info.embedders))


def _same(info: EmbedderInfo, asked: EmbedderInfo) -> bool:
    same = _same_name(info, asked) and (info.kind, info.dimension) == (asked.kind, asked.dimension)
    for one, other in ((info.fingerprint, asked.fingerprint), (info.instruction, asked.instruction)):
        same = same and (one is None or other is None or one == other)
    return same


def _same_name(info: EmbedderInfo, asked: EmbedderInfo) -> bool:
    """A checkpoint folder may have moved: then its fingerprint tells."""
    moved = info.fingerprint == asked.fingerprint is not None and os.path.sep in info.embedder
    return info.embedder == asked.embedder or (moved and os.path.sep in asked.embedder)


def _describe(info: EmbedderInfo, makes: str = "") -> str:
    vectors = f"{info.dimension}-dim {info.kind}-vectors"
    extra = ", ".join(
        f"{name} {value!r}"
        for name, value in (("fingerprint", info.fingerprint), ("instruction", info.instruction))
        if value is not None
    )
    by = f"{info.embedder!r}" + (f" ({extra})" if extra else "")
    return f"{makes} {vectors}, named {by}" if makes else f"{vectors} of embedder {by}"
