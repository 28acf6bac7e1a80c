"""What the store needs of an engine: a dozen operations on points. `edge` and `client` are the two that have them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from visrag_integrations.errors import StoreError, VisRAGError
from visrag_integrations.store.conditions import Condition
from visrag_integrations.store.source_folders import FOLDERS

Vector = NDArray[np.float32]

TEXT_VECTOR = "text"
DENSE_VECTOR = {"single": "page", "multi": "patches"}
POOLED_VECTOR = "pooled"
# With 1000, 0.99 to 1.00 of the exact best five were found (benchmarks/store.py, store_scale.py). Fewer trust the
# one-bit scores more; each more is another comparison of all numbers.
RESCORED = 1000
"""Candidates of a quantised search that are scored again exactly."""

MAX_NUMBERS = 1_048_576
"""Numbers in one multi-vector, where no server says less."""
STORAGES = ("float32", "float16", "8bit", "compact")
# At four bits a number this is 1/8 of ColQwen2's some 750 vectors in float32. What more or fewer vectors cost and find
# stands in benchmarks/RESULTS.md, "Late interaction".
COMPACT_VECTORS = 576
"""Vectors of a page in a compact collection, at most."""
KEYWORDS = (
    "metadata.doc_id",
    "metadata.image",
    "metadata._node.ref_doc_id",
    "visrag.source_keys",
    FOLDERS,
    "visrag.content",
)
"""Payload fields with a keyword index."""
FOLDER_INDEXES: Mapping[str, str] = {
    **dict.fromkeys(KEYWORDS, "keyword"),
    # Where a filter on "doc_id" and "source" looks on pages that a host named, beside the indexed fields of others.
    "visrag.given.doc_id": "keyword",
    "visrag.given.source": "keyword",
    "metadata.number": "integer",
    # As floats, for a host may write any: an index of integers does not find 2.5.
    "visrag.given.number": "float",
}
"""Payload fields that every collection indexes, and how; `TENANT` besides."""
# A server in strict mode refuses to look where there is no index. A folder never does, and making one takes time there.
SERVER_INDEXES: Mapping[str, str] = {
    **FOLDER_INDEXES,
    "visrag.given_id": "keyword",
    "visrag.given.sources": "keyword",
    "visrag.given.page": "float",
    "visrag.given.image": "keyword",
    "metadata.page": "integer",
    "metadata.page_label": "keyword",
    "metadata.total_pages": "integer",
    "metadata.tenant": "keyword",
}
"""The same of a collection on a server."""
TENANT = "visrag.tenant"
"""Indexed too, so as to keep tenants apart."""


class SparseVector(NamedTuple):
    """Indices and their weights."""

    indices: list[int]
    values: list[float]


@dataclass(frozen=True)
class Point:
    """One page on its way into an engine."""

    id: str
    vectors: dict[str, Vector | SparseVector]
    payload: dict[str, Any]


class PayloadChange(NamedTuple):
    """Values that points get below one key of their payload; their others stay."""

    ids: Sequence[str]
    key: str
    values: Mapping[str, Any]


class SearchHit(NamedTuple):
    """A point that a search found."""

    id: str
    score: float
    payload: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Record:
    """A point as it is stored; only what was asked for is filled."""

    id: str
    payload: dict[str, Any]
    vectors: Mapping[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True)
class Schema:
    """How a collection holds the vectors of one embedder.

    Attributes:
        kind: "single" or "multi".
        dimension: Of every vector.
        binary: Whether searches run over one bit a number and score the best again exactly.
        storage: What the numbers of the vectors are kept as: one of `STORAGES`.
        pooling: How a page's vectors are pooled into few, or None where they are not.
        pooled: How many pooled vectors a page has at most.
    """

    kind: str
    dimension: int
    binary: bool
    storage: str = "float32"
    pooling: str | None = None
    pooled: int = 0

    @property
    def vector_name(self) -> str:
        """The dense vector's name in the collection."""
        return DENSE_VECTOR[self.kind]

    @property
    def kept(self) -> int | None:
        """How many vectors of a page are kept at most; the most alike are joined. None keeps all."""
        if self.storage != "compact":
            return None
        return COMPACT_VECTORS


class Candidates(NamedTuple):
    """A first search, over another vector, whose best the real search scores."""

    name: str
    limit: int


@dataclass(frozen=True, eq=False)
class VectorSearch:
    """One search by one vector.

    Attributes:
        name: Of the vectors it is compared with.
        vector: What is searched for.
        limit: How many points, at most.
        condition: What they must fulfil.
        with_payload: Whether hits come with their payload, or which fields of it.
        exact: Compare all numbers of all points, without a graph or quantised vectors.
        among: The first pass whose candidates are scored, where there is one.
    """

    name: str
    vector: Vector | SparseVector
    limit: int
    condition: Condition | None = None
    with_payload: bool | tuple[str, ...] = True
    exact: bool = False
    among: Candidates | None = None

    @property
    def payload(self) -> Any:
        """What of the payload hits come with, as engines want it said."""
        if isinstance(self.with_payload, bool):
            return self.with_payload
        return list(self.with_payload)

    @property
    def is_lexical(self) -> bool:
        """Whether it goes by words."""
        return self.name == TEXT_VECTOR


@dataclass(frozen=True, eq=False)
class FusedSearch:
    """Two searches whose scores become one: dense x its factor + (lexical x its factor) squared, see `lexical.fuse`.

    Every point that one of the two proposes gets both scores, however far down it is in the other; a dense score below
    0 counts as 0, as does one that a point has no vector for.

    Attributes:
        dense: By the query's vector.
        lexical: By its words.
        factors: By what the dense and the lexical score are multiplied.
        limit: How many points, at most.
        all_compared: Whether the dense search compares the vectors of all points, so that none that it does not find
            is nearer than the last one it does.
    """

    dense: VectorSearch
    lexical: VectorSearch
    factors: tuple[float, float]
    limit: int
    all_compared: bool = False


class Engine(Protocol):
    """One collection. `fields` are payload paths; None is the whole payload, () none of it."""

    where: str
    max_numbers: int
    """Numbers that the vectors of one page may have, those of one embedder."""
    is_shared: bool
    """Whether other processes may change the collection, or put another one in its place, while it is open."""
    is_staged: bool
    """Whether it is made to take another one's place."""

    @property
    def is_unfinished(self) -> bool:
        """Whether it says of itself that it is not whole yet; of one that `is_staged`."""

    def is_in_use(self) -> bool:
        """Whether the name means it by now; of one that `is_staged`."""

    def load_info(self) -> dict[str, Any] | None: ...
    def create(self, schemas: Sequence[Schema], info: Mapping[str, Any], *, anew: bool = False) -> bool:
        """Make the collection; False, and nothing is done, when another process has made it meanwhile.

        `anew` puts an empty one in the place of one that is there, whose pages are gone then.
        """

    def begin_again(self, info: Mapping[str, Any]) -> None:
        """Let a version that is whole, and is not in use, say that it is not: pages may have come since."""

    def migrate(self, info: Mapping[str, Any]) -> None:
        """Bring a collection of an older layout up to date, as far as that needs no new one."""

    def without_name(self) -> str:
        """Why there is no collection although its pages are there, and what to do; "" where that is not so."""

    def save_info(self, info: Mapping[str, Any]) -> None: ...
    def drop(self) -> None: ...
    def upsert(self, points: Sequence[Point]) -> None: ...
    def nearest(self, search: VectorSearch) -> list[SearchHit]: ...
    def fused(self, search: FusedSearch) -> list[SearchHit]:
        """The best of two searches, with their payload."""

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> list[Record]: ...
    def scroll(
        self, condition: Condition | None, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Record]: ...
    def count(self, condition: Condition | None) -> int: ...
    def counted_by(self, key: str, condition: Condition | None, most: int) -> dict[str, int] | None:
        """How many points have each text under an indexed key; None where it cannot say, or there are more texts."""

    def delete(self, ids: Sequence[str]) -> None: ...
    def set_payload(self, ids: Sequence[str], payload: Mapping[str, Any], key: str) -> None: ...
    def set_payloads(self, changes: Sequence[PayloadChange]) -> None:
        """Make the changes, in this order, and in one order with those of other writers."""

    def index_fields(self, fields: Mapping[str, str]) -> None:
        """Index those of these payload fields ("keyword", "integer", ...) and of the store's own that are not yet."""

    def optimize(self) -> bool: ...
    def close(self) -> None: ...


class ForeignErrors:
    """A `with` block whose foreign errors become one `StoreError` that says what was done, where, and what to do."""

    def __init__(
        self,
        doing: str,
        where: str,
        advice: Callable[[BaseException], str],
        words: Callable[[BaseException], str] = str,
    ) -> None:
        self.doing, self.where, self.advice, self.words = doing, where, advice, words

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err is None or isinstance(err, VisRAGError):
            return
        if isinstance(err, Exception) or type(err).__name__ == "PanicException":  # an engine's panic is no Exception
            said = self.words(err) or type(err).__name__
            if not said.endswith((".", "!", "?")):
                said += "."
            raise StoreError(f"{self.where}: {self.doing} failed: {said} {self.advice(err)}") from err


def rescoring(limit: int) -> float:
    """How many times `limit` a quantised search should fetch before it scores again exactly.

    >>> rescoring(5), rescoring(1000)
    (200.0, 2.0)
    """
    return max(2.0, RESCORED / max(1, limit))


def batches(ids: Collection[str], size: int = 256) -> Iterator[list[str]]:
    """The ids in lists of at most `size`.

    >>> list(batches(["a", "b", "c"], 2))
    [['a', 'b'], ['c']]
    """
    listed = list(ids)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


def payload_fields(fields: Sequence[str] | None) -> Any:
    """The fields as engines want them said."""
    if fields is None:
        return True
    return list(fields) or False


def to_record(record: Any) -> Record:
    """An engine's point as ours; sparse vectors are left out."""
    vectors: dict[str, Vector] = {}
    named = record.vector or {}
    if isinstance(named, list):
        named = {"": named}  # the unnamed vector of a collection that others made
    for name, vector in named.items():
        if isinstance(vector, list):
            vectors[name] = np.asarray(vector, dtype=np.float32)
    return Record(str(record.id), record.payload or {}, vectors)
