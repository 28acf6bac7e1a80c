"""The server over gRPC: each call is put into REST's words, answered as such, and the answer put back.

The servicers and the words of both sides are those that qdrant-client ships.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from qdrant_client import grpc as messages
from qdrant_client.grpc import (
    collections_service_pb2_grpc,
    points_service_pb2_grpc,
    qdrant_pb2_grpc,
)

from fake_qdrant import grpc_requests
from fake_qdrant.requests import CODES, Refusal, Request

if TYPE_CHECKING:
    from fake_qdrant.server import FakeQdrant

_LARGEST = 64 * 1024 * 1024
_OF_POINTS = {
    "Upsert": grpc_requests.upsert,
    "Delete": grpc_requests.delete,
    "Get": grpc_requests.retrieve,
    "UpdateVectors": grpc_requests.update_vectors,
    "DeleteVectors": grpc_requests.delete_vectors,
    "SetPayload": grpc_requests.set_payload,
    "OverwritePayload": grpc_requests.overwrite_payload,
    "DeletePayload": grpc_requests.delete_payload,
    "ClearPayload": grpc_requests.clear_payload,
    "CreateFieldIndex": grpc_requests.create_index,
    "DeleteFieldIndex": grpc_requests.delete_index,
    "Scroll": grpc_requests.scroll,
    "UpdateBatch": grpc_requests.update_batch,
    "Query": grpc_requests.query,
    "QueryBatch": grpc_requests.query_batch,
    "Count": grpc_requests.count,
    "Facet": grpc_requests.facet,
}
_OF_COLLECTIONS = {
    "Get": grpc_requests.get_collection,
    "List": grpc_requests.list_collections,
    "Create": grpc_requests.create_collection,
    "Update": grpc_requests.update_collection,
    "Delete": grpc_requests.delete_collection,
    "UpdateAliases": grpc_requests.update_aliases,
    "ListCollectionAliases": grpc_requests.list_collection_aliases,
    "ListAliases": grpc_requests.list_aliases,
    "CollectionExists": grpc_requests.collection_exists,
}


class GrpcAddress:
    """The gRPC port of a server."""

    def __init__(self, fake: FakeQdrant) -> None:
        limits = [("grpc.max_receive_message_length", _LARGEST), ("grpc.max_send_message_length", _LARGEST)]
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=limits)
        points = _servicer(points_service_pb2_grpc.PointsServicer, _OF_POINTS, fake)
        collections = _servicer(collections_service_pb2_grpc.CollectionsServicer, _OF_COLLECTIONS, fake)
        points_service_pb2_grpc.add_PointsServicer_to_server(points, self._server)
        collections_service_pb2_grpc.add_CollectionsServicer_to_server(collections, self._server)
        qdrant_pb2_grpc.add_QdrantServicer_to_server(_Health(fake), self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.stop(0).wait()


class _Health(qdrant_pb2_grpc.QdrantServicer):
    def __init__(self, fake: FakeQdrant) -> None:
        self._fake = fake

    def HealthCheck(self, request: Any, context: Any) -> Any:
        self._fake.versions_asked += 1
        if self._fake.version is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")
        return messages.HealthCheckReply(title="qdrant - vector search engine", version=self._fake.version)


def _servicer(kind: type, methods: dict[str, grpc_requests.Method], fake: FakeQdrant) -> Any:
    """A servicer of this kind whose methods put calls into REST's words."""
    made = kind()
    for name, method in methods.items():
        setattr(made, name, _answering(method, fake))
    return made


def _answering(method: grpc_requests.Method, fake: FakeQdrant) -> Callable[[Any, Any], Any]:
    def answer(call: Any, context: Any) -> Any:
        key = dict(context.invocation_metadata()).get("api-key")
        request = method.request(call)
        request.sent, request.key = call.ByteSize(), key
        try:
            result = _result(fake, request)
        except Refusal as refusal:
            context.abort(getattr(grpc.StatusCode, CODES[refusal.status]), refusal.sentence)
        try:
            reply = method.reply(result)
        except Exception as err:
            fake.broken.append(err)
            raise
        request.answered = reply.ByteSize()
        return reply

    return answer


def _result(fake: FakeQdrant, request: Request) -> Any:
    """The result, or what goes wrong with this request, in gRPC's words."""
    fault = fake.fault_for(request)
    if isinstance(fault, tuple):
        raise Refusal(*fault)
    if fault and fault.isdecimal():
        raise Refusal(int(fault), "told to fail")
    if fault == "refused":
        raise Refusal(503, "failed to connect to all addresses; Connection refused")
    result = fake.result(request)
    match fault:
        case "twice":
            result = fake.result(request)
        case "slow":
            time.sleep(fake.slow)
        case "hung":
            fake.go_on.wait()
        case "dropped" | "cut":
            raise Refusal(503, "Socket closed")
        case "lost":
            raise Refusal(503, "told to fail")
    return result
