"""What a collection remembers of who filled it, and how that is checked."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError, StoreFormatError, StoreMismatchError

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

FORMAT_VERSION = 1


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
    format_version: int = FORMAT_VERSION
    created: str = ""
    complete: bool = True

    def as_dict(self) -> dict[str, Any]:
        """What is written down."""
        return asdict(self)


def info_of(embedder: PageEmbedder, *, quantization: str | None) -> CollectionInfo:
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
        quantization=quantization,
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
    asked = replace(info_of(embedder, quantization=info.quantization), created=info.created, complete=info.complete)
    same = (info.embedder, info.kind, info.dimension) == (asked.embedder, asked.kind, asked.dimension)
    for one, other in ((info.fingerprint, asked.fingerprint), (info.instruction, asked.instruction)):
        same = same and (one is None or other is None or one == other)
    if not same:
        raise StoreMismatchError(
            f"{where} holds {_describe(info)}; {_describe(asked, 'the embedder at hand makes')}. "
            "Search it with the embedder that filled it, use another collection, or index again with recreate=True."
        )


def _describe(info: CollectionInfo, makes: str = "") -> str:
    vectors = f"{info.dimension}-dim {info.kind}-vectors"
    extra = ", ".join(
        f"{name} {value!r}"
        for name, value in (("fingerprint", info.fingerprint), ("instruction", info.instruction))
        if value is not None
    )
    by = f"{info.embedder!r}" + (f" ({extra})" if extra else "")
    return f"{makes} {vectors}, named {by}" if makes else f"{vectors} of embedder {by}"
