"""A Qdrant server in this process: what a real one answers (1.18.3, word for word), and fails as when it is told to.

    with serving() as server:                        # HTTP
        QdrantPageStore(server.url)
    with serving(grpc=True) as server:               # both
        QdrantPageStore(server.url, **server.options)
    with serving(addresses=3) as server:             # three nodes of one cluster, each can be switched off
        server.addresses[0].switch_off()

Points lie in `QdrantClient(":memory:")`, which finds what a server finds; all that it takes and a server refuses is
refused here: `requests`, `strict_mode`, `keys` and `cluster` say how.
"""

from fake_qdrant.requests import Request
from fake_qdrant.server import FakeQdrant, Plan, serving
from fake_qdrant.state import CLOUD, Key

__all__ = ["CLOUD", "FakeQdrant", "Key", "Plan", "Request", "serving"]
