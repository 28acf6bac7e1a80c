"""`FakeQdrant`: the collections, the rules, the faults, and the addresses at which all that is reached."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from qdrant_client import QdrantClient

from fake_qdrant import cluster as nodes
from fake_qdrant import collection_requests, point_requests
from fake_qdrant.keys import check_key
from fake_qdrant.over_http import Address
from fake_qdrant.requests import Refusal, Request
from fake_qdrant.state import Cluster, FakeCollection, Key

Fault = str | tuple[int, str] | None
Plan = Callable[[int, str, str], Fault]
"""(number of the request, method, path) -> what goes wrong with it, or None.

- "400", "429", "503" and the like, or (status, sentence): refused, and nothing happens
- "refused": the connection is closed at once, and nothing happens
- "dropped": it happens, then the connection is closed without an answer; "lost": it happens, then 503 is answered
- "slow": the answer takes `FakeQdrant.slow` seconds; "hung": it waits until `FakeQdrant.go_on` is set
- "cut": half of the answer; "twice": it happens two times
"""

# Requests whose bodies are kept: what a test looks at, never what large vectors take.
_BODY_KEPT = 1_000_000


class FakeQdrant:
    """One server, or one cluster behind several addresses.

    Attributes:
        memory: Where the points are.
        plan: Which request fails how.
        requests: "METHOD /path" of each request but those for the version.
        log: The same requests with their queries, bytes and small bodies.
        created: The body each collection was created with.
        faults: How often what went wrong.
        broken: Errors of this fake itself; `serving` raises them at its end.
        version: What it says of itself; None answers a page of somebody else.
        keys: Which keys there are; without any, everybody may do everything.
        strict: Strict mode of each new collection: `CLOUD`, or more.
        cluster: Its nodes, and what is wrong with them.
    """

    def __init__(self, plan: Plan | None = None, port: int = 0, addresses: int = 1, *, grpc: bool = False) -> None:
        self.plan: Plan = plan or (lambda *_: None)
        self.memory = QdrantClient(":memory:")
        self.guard = threading.RLock()
        self.requests: list[str] = []
        self.log: list[Request] = []
        self.created: dict[str, dict[str, Any]] = {}
        self.made: dict[str, FakeCollection] = {}
        self.faults: Counter[str] = Counter()
        self.broken: list[Exception] = []
        self.slow = 3.0
        self.go_on = threading.Event()
        self.version: str | None = "1.18.3"
        self.versions_asked = 0
        self.keys: dict[str, Key] = {}
        self.strict: dict[str, Any] = {}
        self.cluster = Cluster(nodes=addresses)
        self.addresses = [Address(self, port if number == 0 else 0) for number in range(addresses)]
        self.grpc: Any = None
        if grpc:
            from fake_qdrant.over_grpc import GrpcAddress

            self.grpc = GrpcAddress(self)

    @property
    def url(self) -> str:
        """Of the first address."""
        return self.addresses[0].url

    @property
    def urls(self) -> list[str]:
        """Of all addresses."""
        return [address.url for address in self.addresses]

    @property
    def options(self) -> dict[str, Any]:
        """What a client needs besides the URL so as to ask by gRPC."""
        return {"prefer_grpc": True, "grpc_port": self.grpc.port}

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """Major and minor; one that hides its version is as new as the newest."""
        found = re.match(r"v?(\d+)\.(\d+)", self.version or "")
        if found is None:
            return (9, 9)
        return int(found[1]), int(found[2])

    def close(self) -> None:
        """Answer nobody any more."""
        self.go_on.set()
        for address in self.addresses:
            address.switch_off()
        if self.grpc is not None:
            self.grpc.stop()
        self.memory.close()

    # --- one request ------------------------------------------------------------------------------------------------

    def fault_for(self, request: Request) -> Fault:
        """Note the request, and say what goes wrong with it."""
        with self.guard:
            self.requests.append(str(request))
            self.log.append(request)
            fault = self.plan(len(self.requests), request.method, request.path)
            self.faults[fault if isinstance(fault, str) else str((fault or ("",))[0])] += 1
        return fault

    def result(self, request: Request) -> Any:
        """What the server answers.

        Raises:
            Refusal: As a server refuses it.
        """
        with self.guard:
            key = check_key(request, self.keys)
            nodes.check_disk(request, self.cluster)
            try:
                answered = collection_requests.answer(self, request, key)
                if answered is None:
                    answered = point_requests.answer(self, request)
            except Refusal:
                raise
            except ValueError as err:  # of the memory's own checks
                raise Refusal(400, f"Wrong input: {err}") from err
            except Exception as err:
                self.broken.append(err)
                raise Refusal(500, f"Service internal error: the fake is broken: {err!r}") from err
            finally:
                if request.sent > _BODY_KEPT:
                    request.body = None
        self._wait(request)
        return answered

    def agree(self, request: Request) -> None:
        """Nodes take their time to agree on what is made; a request that does not wait so long is told so."""
        request.takes = self.cluster.creation_takes

    def _wait(self, request: Request) -> None:
        """Outside of the guard: others are answered meanwhile."""
        if not request.takes:
            return
        patience = float(request.query.get("timeout") or 10)
        time.sleep(min(request.takes, patience))
        if patience < request.takes:
            raise Refusal(500, nodes.consensus_failed(f"{patience:g}"))

    # --- names ------------------------------------------------------------------------------------------------------

    def is_alias(self, name: str) -> bool:
        """Whether it is the name of an alias."""
        return any(each.alias_name == name for each in self.memory.get_aliases().aliases)

    def real_name(self, name: str) -> str | None:
        """The collection that a name means; None where there is none."""
        for each in self.memory.get_aliases().aliases:
            if each.alias_name == name:
                return each.collection_name
        return name if self.memory.collection_exists(name) else None

    def collection(self, name: str) -> FakeCollection:
        """What is known of the collection that a name means.

        Raises:
            Refusal: There is none.
        """
        real = self.real_name(name)
        if real is None:
            raise Refusal(404, f"Not found: Collection `{name}` doesn't exist!")
        if real not in self.made:  # made by a test, past the server
            params = self.memory.get_collection(real).config.params.model_dump(mode="json", exclude_none=True)
            self.made[real] = FakeCollection(real, params)
        return self.made[real]


@contextlib.contextmanager
def serving(plan: Plan | None = None, *, port: int = 0, addresses: int = 1, grpc: bool = False) -> Iterator[FakeQdrant]:
    """A server that answers for the length of a `with` block."""
    server = FakeQdrant(plan, port, addresses, grpc=grpc)
    try:
        yield server
    finally:
        server.close()
    if server.broken:
        raise server.broken[0]
