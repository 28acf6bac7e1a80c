"""What a collection remembers of who filled it, and how that is checked."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError, StoreFormatError, StoreMismatchError
from visrag_integrations.store.engine import STORAGES, Schema
from visrag_integrations.store.pooling import METHODS

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

FORMAT_VERSION = 1
_BINARY_FROM = 1024  # below this, one bit a number loses too much and the full search is fast anyway


@dataclass(frozen=True)
class CollectionInfo:
    """Who filled a collection, and how.

    Attributes:
        embedder: The embedder's name.
        kind: "single" or "multi".
        dimension: Of its vectors.
        fingerprint: Tells checkpoints of one name apart; None when the embedder does not say.
        instruction: What it puts before queries; None when it does not say.
        reader: How the pages were read (`PageReader.describe()`); empty when it was not said.
        quantization: "binary" or None.
        storage: What the numbers of its vectors are kept as.
        pooling: How a page's vectors are pooled for the first pass of a search; None where they are not.
        pooled: How many pooled vectors a page has at most.
        format_version: Of the collection's layout.
        created: When, in ISO format.
        complete: False while an import has not finished.
    """

    embedder: str
    kind: str
    dimension: int
    fingerprint: str | None = None
    instruction: str | None = None
    reader: Mapping[str, Any] = field(default_factory=dict)
    quantization: str | None = None
    storage: str = "float32"
    pooling: str | None = None
    pooled: int = 0
    format_version: int = FORMAT_VERSION
    created: str = ""
    complete: bool = True

    @property
    def schema(self) -> Schema:
        """What vectors the collection holds."""
        binary = self.quantization == "binary"
        return Schema(self.kind, self.dimension, binary, self.storage, self.pooling, self.pooled)

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

    def applied(self, info: CollectionInfo, wish: str | None = None) -> CollectionInfo:
        """The info of a new collection with this layout; `wish` is the pooling that the embedder asks for."""
        multi = info.kind == "multi"
        pooling = self.pooling if self.pooling != "auto" else (wish if multi else None)
        _allowed("the embedder's pooling", pooling, (*METHODS, None))
        if pooling and not multi:
            raise SettingError(
                f"pooling={pooling!r} is for embedders of many vectors a page; {info.embedder!r} makes one. "
                "Leave it out."
            )
        binary = self.quantization == "binary" or (
            self.quantization == "auto" and not multi and info.dimension >= _BINARY_FROM
        )
        storage = self.storage if self.storage != "auto" else ("float16" if pooling else "float32")
        return replace(
            info,
            quantization="binary" if binary else None,
            storage=storage,
            pooling=pooling,
            pooled=self.pooled if pooling else 0,
        )


def _allowed(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}.")


def info_of(embedder: PageEmbedder) -> CollectionInfo:
    """What a new collection for this embedder will remember."""
    if embedder.kind not in ("single", "multi"):
        raise SettingError(f"The embedder {embedder.name!r} is of kind {embedder.kind!r}; allowed: 'single', 'multi'.")
    if embedder.dimension < 1:
        raise SettingError(
            f"The embedder {embedder.name!r} has the dimension {embedder.dimension}; it must be positive."
        )
    return CollectionInfo(
        embedder=embedder.name,
        kind=embedder.kind,
        dimension=int(embedder.dimension),
        fingerprint=getattr(embedder, "fingerprint", None),
        instruction=getattr(embedder, "instruction", None),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
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
    known = {key: value for key, value in stored.items() if key in CollectionInfo.__dataclass_fields__}
    try:
        return CollectionInfo(**known)
    except TypeError as err:
        raise StoreFormatError(f"{where} is damaged: its description lacks fields ({err}). Index again.") from err


def check_info(info: CollectionInfo, embedder: PageEmbedder, where: str) -> None:
    """Nothing when the embedder is the one that filled the collection.

    Raises:
        StoreMismatchError: It is another one; the message names both.
    """
    asked = info_of(embedder)
    same = _same_name(info, asked) and (info.kind, info.dimension) == (asked.kind, asked.dimension)
    for one, other in ((info.fingerprint, asked.fingerprint), (info.instruction, asked.instruction)):
        same = same and (one is None or other is None or one == other)
    if not same:
        raise StoreMismatchError(
            f"{where} holds {_describe(info)}; {_describe(asked, 'the embedder at hand makes')}. "
            "Search it with the embedder that filled it, use another collection, or index again with recreate=True."
        )


def _same_name(info: CollectionInfo, asked: CollectionInfo) -> bool:
    """A checkpoint folder may have moved: then its fingerprint tells."""
    moved = info.fingerprint == asked.fingerprint is not None and os.path.sep in info.embedder
    return info.embedder == asked.embedder or (moved and os.path.sep in asked.embedder)


def _describe(info: CollectionInfo, makes: str = "") -> str:
    vectors = f"{info.dimension}-dim {info.kind}-vectors"
    extra = ", ".join(
        f"{name} {value!r}"
        for name, value in (("fingerprint", info.fingerprint), ("instruction", info.instruction))
        if value is not None
    )
    by = f"{info.embedder!r}" + (f" ({extra})" if extra else "")
    return f"{makes} {vectors}, named {by}" if makes else f"{vectors} of embedder {by}"
