"""What a collection remembers of who filled it, and how that is checked."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError, StoreFormatError, StoreMismatchError
from visrag_integrations.interfaces.embedders import (
    fingerprint_of,
    former_names_of,
    halves_of,
    instruction_of,
    pooling_of,
)
from visrag_integrations.scores import lexical
from visrag_integrations.store.engine import STORAGES, Schema
from visrag_integrations.store.pooling import METHODS

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

FORMAT_VERSION = 3
"""The newest there is."""
SERVER_FORMAT = 3
"""Of collections behind an alias, on a server: older versions of this library would delete an empty one of them."""
FIELD_KINDS = ("keyword", "integer", "float", "datetime", "bool")
"""What metadata keys can be indexed as."""
PICTURE_KINDS = ("", "server", "folder", "url", "none")
"""Where page pictures may be; "" where nobody has said."""
_MAX_DIMENSION = 65_536  # of a Qdrant vector
# Dimensions. Below this, one bit a number loses too much and the full search is fast anyway.
_BINARY_FROM = 1024


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

    @functools.cached_property
    def schema(self) -> Schema:
        """How the collection holds its vectors."""
        return Schema(
            kind=self.kind,
            dimension=self.dimension,
            binary=self.quantization == "binary",
            storage=self.storage,
            pooling=self.pooling,
            pooled=self.pooled,
        )


@dataclass(frozen=True)
class CollectionInfo(EmbedderInfo):
    """Who fills a collection, and how; its own fields are those of the first embedder.

    Attributes:
        reader: How the pages were read (`PageReader.describe()`); empty when it was not said.
        format_version: Of the collection's layout.
        created: When, in ISO format.
        complete: False while an import has not finished.
        also: The second embedder, where there is one.
        text_rules: By which rules the pages' words are indexed (`lexical.RULES`).
        indexed: The metadata keys that were declared (`indexed_fields`), and as what.
        pictures: The kind of place where the page pictures of a collection on a server are: "server", "folder", "url"
            or "none"; "" where nobody has said. Never the place itself.
    """

    reader: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = field(default=1, compare=False)  # who fills it is the same in whatever layout
    created: str = ""
    complete: bool = True
    also: tuple[EmbedderInfo, ...] = ()
    text_rules: int = 1
    indexed: Mapping[str, str] = field(default_factory=dict)
    pictures: str = field(default="", compare=False)  # who fills it is the same wherever they are

    @functools.cached_property
    def embedders(self) -> tuple[EmbedderInfo, ...]:
        """Everyone who fills the collection."""
        own_fields = {key: getattr(self, key) for key in EmbedderInfo.__dataclass_fields__}
        return EmbedderInfo(**own_fields), *self.also

    @functools.cached_property
    def schemas(self) -> tuple[Schema, ...]:
        """How the collection holds the vectors of each."""
        return tuple(embedder.schema for embedder in self.embedders)

    @functools.cached_property
    def mark(self) -> str:
        """What each page says of who made its vectors, and how they are kept: opaque, and the same in every process.

        What may change while a collection is in use (how pages are read, which keys are indexed) is left out of it.
        """
        described = [asdict(embedder) for embedder in self.embedders]
        text = json.dumps(described, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    def of(self, embedder: PageEmbedder) -> EmbedderInfo | None:
        """This embedder among those who fill the collection; None when it is another one."""
        asked = info_of(embedder)
        for name in (asked.embedder, *former_names_of(embedder)):
            for filled_by in self.embedders:
                if _same(filled_by, replace(asked, embedder=name)):
                    return filled_by
        return None

    def remembers(self, embedder: PageEmbedder) -> bool:
        """Whether this embedder fills the collection and is remembered whole: with what embeds its queries."""
        found, asked = self.of(embedder), info_of(embedder)
        if found is None:
            return False
        return len(halves_of(found.embedder, found.fingerprint)) == len(halves_of(asked.embedder, asked.fingerprint))

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
        infos = [self._applied(embedder) for embedder in embedders]
        first, *others = infos
        kinds = [info.kind for info in infos]
        if len(set(kinds)) < len(kinds):
            names = " and ".join(repr(info.embedder) for info in infos)
            raise SettingError(
                f"{names}: a collection holds the vectors of one embedder of "
                "kind 'single' and one of kind 'multi'. Use another collection for the others."
            )
        # A setting that would do nothing is refused, so that nobody waits for an effect it cannot have.
        if self.pooling not in ("auto", None) and "multi" not in kinds:
            raise SettingError(
                f"pooling={self.pooling!r} is for embedders of many vectors a page; {first.embedder!r} makes one. "
                "Leave it out."
            )
        return CollectionInfo(
            **asdict(first),
            reader=dict(reader),
            format_version=format_for(infos),
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            also=tuple(others),
            text_rules=lexical.RULES,
        )

    def _applied(self, embedder: PageEmbedder) -> EmbedderInfo:
        """How this embedder's vectors will be kept: "auto" decided, and what does not fit its kind left out."""
        info = info_of(embedder)
        if info.kind == "multi":
            return self._applied_to_multi(info, embedder)
        storage = self.storage
        if storage == "auto":
            storage = "float32"
        elif storage == "compact":
            storage = "8bit"  # a single vector has nothing to spare, and takes little
        large = info.dimension >= _BINARY_FROM
        binary = self.quantization == "binary" or (self.quantization == "auto" and large)
        return replace(info, quantization="binary" if binary else None, storage=storage)

    def _applied_to_multi(self, info: EmbedderInfo, embedder: PageEmbedder) -> EmbedderInfo:
        pooling = self.pooling
        if pooling == "auto":
            pooling = pooling_of(embedder)
        _allowed("the embedder's pooling", pooling, (*METHODS, None))
        storage = self.storage
        if storage == "auto":
            # All vectors are read for the candidates only, and float16 halves what is read (benchmarks/RESULTS.md).
            storage = "float16" if pooling else "float32"
        quantization = "binary" if self.quantization == "binary" else None
        pooled = self.pooled if pooling else 0
        return replace(info, quantization=quantization, storage=storage, pooling=pooling, pooled=pooled)


def _allowed(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}.")


def format_for(embedders: Sequence[EmbedderInfo]) -> int:
    """The lowest format version whose readers understand what these embedders fill, in a folder or a file."""
    # The first versions of this library know one embedder and no compact storage; they may read anything else.
    if len(embedders) > 1 or any(info.storage == "compact" for info in embedders):
        return 2
    return 1


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
        fingerprint=fingerprint_of(embedder),
        instruction=instruction_of(embedder),
    )


def read_info(stored: Mapping[str, Any], where: str) -> CollectionInfo:
    """The info as it was written down.

    Raises:
        StoreFormatError: It was written by a newer version, or is damaged.
    """
    if not isinstance(stored, Mapping):
        raise StoreFormatError(f"{where} is damaged: its description is no object. Index again.")
    version = stored.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreFormatError(
            f"{where} has format version {version}; this version reads up to {FORMAT_VERSION}. "
            "Update it: pip install --upgrade visrag-integrations"
        )
    try:
        also = tuple(EmbedderInfo(**_known(EmbedderInfo, other)) for other in stored.get("also") or ())
        info = CollectionInfo(**{**_known(CollectionInfo, stored), "also": also})
    except (TypeError, AttributeError) as err:
        raise StoreFormatError(f"{where} is damaged: its description lacks fields ({err}). Index again.") from err
    for embedder in (info, *info.also):
        _check_stored(embedder, where)
    if not isinstance(info.reader, Mapping) or not isinstance(info.indexed, Mapping):
        raise StoreFormatError(f"{where} is damaged: its description has fields of the wrong type. Index again.")
    if info.pictures not in PICTURE_KINDS:
        value = str(info.pictures)[:50]
        raise StoreFormatError(
            f"{where} keeps its pictures in {value!r}; this version knows {', '.join(PICTURE_KINDS[1:])}. Update it, "
            "or index again."
        )
    if not all(isinstance(key, str) and kind in FIELD_KINDS for key, kind in info.indexed.items()):
        raise StoreFormatError(f"{where} is damaged: its description has an unknown kind of metadata. Index again.")
    kinds = [embedder.kind for embedder in (info, *info.also)]
    if len(set(kinds)) < len(kinds):
        raise StoreFormatError(f"{where} is damaged: its description has two embedders of one kind. Index again.")
    return info


def _check_stored(info: EmbedderInfo, where: str) -> None:
    """Nothing when every field is of its type and one of its values."""
    allowed: dict[str, bool] = {
        "embedder": isinstance(info.embedder, str),
        "kind": info.kind in ("single", "multi"),
        "dimension": type(info.dimension) is int and 1 <= info.dimension <= _MAX_DIMENSION,
        "fingerprint": info.fingerprint is None or isinstance(info.fingerprint, str),
        "instruction": info.instruction is None or isinstance(info.instruction, str),
        "quantization": info.quantization in (None, "binary"),
        "storage": info.storage in STORAGES and not (info.storage == "compact" and info.kind == "single"),
        "pooling": info.pooling is None or (info.pooling in METHODS and info.kind == "multi"),
        "pooled": type(info.pooled) is int and info.pooled >= (1 if info.pooling else 0),
    }
    for name, fits in allowed.items():
        if not fits:
            value = str(getattr(info, name))[:50]
            raise StoreFormatError(f"{where} is damaged: its description has {name} = {value!r}. Index again.")


def _known(kind: type[EmbedderInfo], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this version knows: one that a later version added is no damage."""
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
    if asked.kind not in {filled.kind for filled in info.embedders}:  # one of each kind has room in a collection
        add = " To keep both: reindex(store, embedder=[the one that filled it, this one])."
    raise StoreMismatchError(
        f"{where} holds {describe_all(info)}; {_describe(asked, 'the embedder at hand makes')}. "
        f"Search it with the embedder that filled it, use another collection, or index again with recreate=True.{add}"
    )


def describe_all(info: CollectionInfo) -> str:
    """Everyone who fills the collection, in words."""
    return " and ".join(map(_describe, info.embedders))


def _same(info: EmbedderInfo, asked: EmbedderInfo) -> bool:
    if info.kind != asked.kind or info.dimension != asked.dimension:
        return False
    filled, at_hand = halves_of(info.embedder, info.fingerprint), halves_of(asked.embedder, asked.fingerprint)
    # Pages by the same model are the same, whatever embeds the queries. Two query models are compared; one beside none
    # was named by whoever asks, or is not used.
    for (name, fingerprint), (other_name, other_fingerprint) in zip(filled, at_hand, strict=False):
        if not _same_model(name, fingerprint, other_name, other_fingerprint):
            return False
    return len(filled) != len(at_hand) or _may_equal(info.instruction, asked.instruction)


def same_pages(info: EmbedderInfo, other: EmbedderInfo) -> bool:
    """Whether both embed pages by the same model, whatever embeds queries."""
    if info.kind != other.kind or info.dimension != other.dimension:
        return False
    (name, fingerprint), (other_name, other_fingerprint) = (
        halves_of(each.embedder, each.fingerprint)[0] for each in (info, other)
    )
    return _same_model(name, fingerprint, other_name, other_fingerprint)


def _may_equal(one: str | None, other: str | None) -> bool:
    """Where one of them is not known, nothing speaks against it."""
    return one is None or other is None or one == other


def _same_model(name: str, fingerprint: str | None, other: str, other_fingerprint: str | None) -> bool:
    """Whether both mean the same model: a checkpoint folder may have moved, then its fingerprint tells."""
    if not _may_equal(fingerprint, other_fingerprint):
        return False
    if name == other:
        return True
    both_folders = os.path.sep in name and os.path.sep in other
    return both_folders and fingerprint is not None and other_fingerprint is not None


def _describe(info: EmbedderInfo, makes: str = "") -> str:
    vectors = f"{info.dimension}-dim {info.kind}-vectors"
    details = []
    if info.fingerprint is not None:
        details.append(f"fingerprint {info.fingerprint!r}")
    if info.instruction is not None:
        details.append(f"instruction {info.instruction!r}")
    name = repr(info.embedder)
    if details:
        name += f" ({', '.join(details)})"
    if makes:
        return f"{makes} {vectors}, named {name}"
    return f"{vectors} of embedder {name}"
