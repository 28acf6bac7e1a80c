"""Where the stores of tests are: folders, memory, a Qdrant server in this process, and a real one.

With VISRAG_TEST_QDRANT_URL set, everything that uses `places` runs on that server too, in collections of its own that
are removed afterwards; VISRAG_TEST_QDRANT_API_KEY is its key, and VISRAG_TEST_QDRANT_GRPC=1 asks it by gRPC.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_qdrant import CLOUD, serving
from qdrant_client import QdrantClient

from visrag_integrations import QdrantPageStore
from visrag_integrations.errors import SettingError

URL = os.environ.get("VISRAG_TEST_QDRANT_URL", "")
STRICT = {
    **CLOUD,
    "search_allow_exact": False,
    "search_max_oversampling": 10.0,
    "max_query_limit": 300,
    "condition_max_size": 280,
    "max_timeout": 30,
    "upsert_max_batchsize": 50,
}
"""Everything that strict mode may forbid, and limits that are met."""


def places(*kinds: str) -> list[str]:
    """The parameters of a fixture: these places, and the real server where there is one."""
    return [*kinds, "qdrant"] if URL else list(kinds)


@contextlib.contextmanager
def opened(kind: str, folder: Path) -> Iterator[Any]:
    """What `QdrantPageStore` takes as its location, for the length of a `with` block."""
    if kind == "folder":
        yield folder / "index"
    elif kind == "memory":
        client = QdrantClient(":memory:")
        yield client
        client.close()
    elif kind == "qdrant":
        with _real_server() as client:
            yield client
    else:
        with serving() as server:
            server.version = "1.20.0"  # it has every storage there is
            server.strict = STRICT if kind == "strict" else {}
            yield server.url


@contextlib.contextmanager
def _real_server() -> Iterator[QdrantClient]:
    """A client of the real server; stores that are given no name use one that nobody else has."""
    name = f"visrag-test-{uuid.uuid4().hex[:12]}"
    client = real_client()
    defaults = QdrantPageStore.__init__.__defaults__
    assert len(defaults or ()) == 1, "the default name of a collection is all that is replaced"
    QdrantPageStore.__init__.__defaults__ = (name,)
    try:
        yield client
    finally:
        QdrantPageStore.__init__.__defaults__ = defaults
        for collection in client.get_collections().collections:
            if collection.name.startswith(name):
                client.delete_collection(collection.name, timeout=60)
        client.close()


@contextlib.contextmanager
def within_the_server() -> Iterator[None]:
    """A block whose test is left out where a real server is too old for what it needs."""
    try:
        yield
    except SettingError as err:
        if URL and "needs Qdrant" in str(err):
            pytest.skip(str(err))
        raise


def real_client() -> QdrantClient:
    """A client of the server that the environment names."""
    options: dict[str, Any] = {"api_key": os.environ.get("VISRAG_TEST_QDRANT_API_KEY") or None}
    if os.environ.get("VISRAG_TEST_QDRANT_GRPC") == "1":
        options |= {"prefer_grpc": True, "grpc_port": int(os.environ.get("VISRAG_TEST_QDRANT_GRPC_PORT", "6334"))}
    with warnings.catch_warnings():  # a server for tests has no https
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return QdrantClient(URL, timeout=60, check_compatibility=False, **options)
