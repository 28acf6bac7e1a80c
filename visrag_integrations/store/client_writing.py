"""Points on their way to a server: written to JSON directly, or as the client's models where that is not the way.

The models check every number of every vector one by one. Pages of 700 x 128 numbers took them 20 ms each, orjson 5 ms
and 0.6 of the bytes, for it writes a float32 as the shortest text that is that float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from visrag_integrations.store.client_models import to_vector
from visrag_integrations.store.engine import Point, SparseVector
from visrag_integrations.store.request_size import in_requests

# Bytes of JSON that a point takes as a model, at most: of a number, and of an index and its weight.
_BYTES_OF_A_NUMBER = 22
_BYTES_OF_A_TERM = 36


class EncodedPoints:
    """The body of a request that writes points; the client sends it as it is."""

    def __init__(self, points: Sequence[bytes]) -> None:
        self._points = points

    def model_dump_json(self, **_: Any) -> bytes:
        """The JSON, as the client asks its models for it."""
        return b'{"points":[' + b",".join(self._points) + b"]}"


def sends_json(client: Any) -> bool:
    """Whether its requests are JSON over HTTP: not in local mode, and not where the user asked for gRPC."""
    if getattr(client, "init_options", {}).get("prefer_grpc"):
        return False
    try:
        return client.http is not None
    except (AttributeError, NotImplementedError):
        return False


def encoded_requests(points: Sequence[Point]) -> Iterator[EncodedPoints]:
    """The points in requests that a server takes.

    Raises:
        PageError: One of them is too large for any.
    """
    encode = find_encoder()

    def each() -> Iterator[tuple[Point, bytes, int]]:
        for point in points:
            encoded = encode({"id": point.id, "vector": _plain(point), "payload": point.payload})
            yield point, encoded, len(encoded)

    for batch in in_requests(each()):
        yield EncodedPoints(batch)


def model_requests(points: Sequence[Point]) -> Iterator[list[Any]]:
    """The same as the client's own models, for local mode, gRPC, and clients of somebody's own making."""
    from qdrant_client import models

    def each() -> Iterator[tuple[Point, Any, int]]:
        for point in points:
            vector = {name: to_vector(each_vector) for name, each_vector in point.vectors.items()}
            takes = size_of(point)
            yield point, models.PointStruct(id=point.id, vector=vector, payload=point.payload), takes

    yield from in_requests(each())


def size_of(point: Point) -> int:
    """Bytes of JSON that it takes as a model, at most."""
    size = len(find_encoder()(point.payload))
    for vector in point.vectors.values():
        if isinstance(vector, SparseVector):
            size += len(vector.indices) * _BYTES_OF_A_TERM
        else:
            size += vector.size * _BYTES_OF_A_NUMBER
    return size


def _plain(point: Point) -> dict[str, Any]:
    """Its vectors, of what JSON knows and numpy's arrays."""
    vectors: dict[str, Any] = {}
    for name, vector in point.vectors.items():
        if isinstance(vector, SparseVector):
            vectors[name] = {"indices": vector.indices, "values": vector.values}
        else:
            vectors[name] = vector
    return vectors


def find_encoder() -> Callable[[Any], bytes]:
    """What writes JSON here: orjson where it is installed, else the encoder of pydantic, which the client needs."""
    try:
        import orjson
    except ImportError:
        return _encode_by_pydantic
    options = orjson.OPT_SERIALIZE_NUMPY

    def encode(value: Any) -> bytes:
        try:
            return orjson.dumps(value, option=options)
        except TypeError:  # it is stricter: halves of letters, whole numbers of more than 64 bits
            return _encode_by_json(value)

    return encode


def _encode_by_pydantic(value: Any) -> bytes:
    try:
        from pydantic_core import to_json
    except ImportError:  # pydantic 1
        return _encode_by_json(value)
    try:
        return to_json(value, fallback=_as_list)
    except ValueError:
        return _encode_by_json(value)


def _encode_by_json(value: Any) -> bytes:
    return json.dumps(value, default=_as_list, separators=(",", ":")).encode("ascii")


def _as_list(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
