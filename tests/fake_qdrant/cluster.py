"""What nodes that are away, a consensus that stopped and a full disk do to a request."""

from __future__ import annotations

from fake_qdrant.requests import Refusal, Request
from fake_qdrant.state import Cluster, FakeCollection

NO_SPACE = "Service internal error: No space left on device: WAL buffer size exceeds available disk space"
_AWAY = "Service internal error: Tonic status error: status: 'The service is currently unavailable', tcp connect error"


def check_disk(request: Request, cluster: Cluster) -> None:
    """Refuse to write where the disk is full."""
    if cluster.disk_full and request.is_write:
        raise Refusal(500, NO_SPACE)


def check_nodes(request: Request, collection: FakeCollection, cluster: Cluster) -> None:
    """Refuse what needs a node that is away.

    With one copy of each shard, some shards are gone; with two, only what asks for all copies, or a majority of two,
    needs the node.
    """
    if not cluster.dead:
        return
    left = collection.copies - cluster.dead
    if not request.is_write:
        wanted = {
            "all": collection.copies,
            "majority": collection.copies // 2 + 1,
            "quorum": collection.copies // 2 + 1,
        }
        asked = request.query.get("consistency", "1")
        needed = wanted.get(asked) or int(asked)
        if left < needed:
            raise Refusal(500, f"{needed} of {needed} read operations failed:\n  {_AWAY}")
    elif left < 1:
        raise Refusal(500, _write_failed(collection))


def check_copies_written(collection: FakeCollection, cluster: Cluster) -> None:
    """After a write: too few copies took it, though those that did keep it."""
    factor = int(collection.created.get("write_consistency_factor") or 1)
    if cluster.dead and collection.copies - cluster.dead < factor:
        raise Refusal(500, _write_failed(collection))


def _write_failed(collection: FakeCollection) -> str:
    return f"1 out of {collection.shards} shards failed to apply operation. First error captured: {_AWAY}"


def check_consensus(cluster: Cluster, timeout: str | None) -> None:
    """Refuse to make collections, aliases and indexes where nodes agree on nothing any more."""
    if cluster.consensus_stopped:
        raise Refusal(500, consensus_failed(timeout or "10"))


def consensus_failed(seconds: str) -> str:
    """The sentence after so many seconds."""
    return f"Service internal error: Waiting for consensus operation commit failed. Timeout set at: {seconds} seconds"


def described(cluster: Cluster) -> dict[str, object]:
    """What `GET /cluster` says."""
    if cluster.nodes < 2:
        return {"status": "disabled"}
    peers = {str(number): {"uri": f"http://127.0.0.{number}:6335/"} for number in range(1, cluster.nodes + 1)}
    thread: dict[str, object] = {"consensus_thread_status": "working", "last_update": "2026-01-01T00:00:00Z"}
    if cluster.consensus_stopped:
        thread = {"consensus_thread_status": "stopped_with_err", "err": "panicked"}
    raft = {"term": 1, "commit": 1, "pending_operations": 0, "leader": 1, "role": "Leader", "is_voter": True}
    return {
        "status": "enabled",
        "peer_id": 1,
        "peers": peers,
        "raft_info": raft,
        "consensus_thread_status": thread,
        "message_send_failures": {},
    }
