"""The Qdrant server of these tests answers as Qdrant 1.18.3 was heard to answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fake_qdrant import CLOUD, FakeQdrant, Key, serving
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

A, B = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
VECTORS = {
    "page": {"size": 4, "distance": "Cosine"},
    "patches": {
        "size": 4,
        "distance": "Cosine",
        "multivector_config": {"comparator": "max_sim"},
        "hnsw_config": {"m": 0},
    },
}
PAGES = {"vectors": VECTORS, "sparse_vectors": {"text": {"modifier": "idf"}}}
Told = tuple[int, str]


class Asking:
    """Sends requests as they are written, and says status and sentence."""

    def __init__(self, server: FakeQdrant) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=30, trust_env=False)
        self.headers: dict[str, str] = {}

    def __call__(self, method: str, path: str, body: Any = None) -> Told:
        answer = self._http.request(method, path, json=body, headers=self.headers)
        if answer.headers["content-type"] == "text/plain":
            return answer.status_code, answer.text
        told = answer.json()
        if answer.status_code != 200:
            return answer.status_code, told["status"]["error"]
        return 200, told["result"]

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with serving() as fake:
        yield fake


@pytest.fixture
def ask(server: FakeQdrant) -> Iterator[Asking]:
    """Of a server with a collection `x`, its alias `also` and two points."""
    asking = Asking(server)
    assert asking("PUT", "/collections/x", PAGES) == (200, True)
    assert asking("POST", "/collections/aliases", aliased("also", "x")) == (200, True)
    points = [
        {"id": A, "vector": {"page": [1, 0, 0, 0]}, "payload": {"year": 2020.0, "org": "a"}},
        {"id": B, "vector": {}, "payload": {"year": 2020, "org": "b"}},
    ]
    assert asking("PUT", "/collections/x/points?wait=true", {"points": points})[0] == 200
    yield asking
    asking.close()


def aliased(alias: str, name: str) -> dict[str, Any]:
    return {"actions": [{"create_alias": {"alias_name": alias, "collection_name": name}}]}


def matching(key: str, value: Any) -> dict[str, Any]:
    return {"must": [{"key": key, "match": {"value": value}}]}


# --- one row of the table each --------------------------------------------------------------------------------------

MISSING = "Not found: Collection `y` doesn't exist!"
ROWS = [
    ("get a missing one", "GET", "/collections/y", None, 404, MISSING),
    ("count a missing one", "POST", "/collections/y/points/count", {}, 404, MISSING),
    ("a missing one exists not", "GET", "/collections/y/exists", None, 200, {"exists": False}),
    ("an alias exists", "GET", "/collections/also/exists", None, 200, {"exists": True}),
    ("create one that exists", "PUT", "/collections/x", PAGES, 409, "Wrong input: Collection `x` already exists!"),
    (
        "create under an alias's name",
        "PUT",
        "/collections/also",
        PAGES,
        400,
        "Can't create collection with name also. Alias with the same name already exists",
    ),
    (
        "alias with a collection's name",
        "POST",
        "/collections/aliases",
        aliased("x", "x"),
        409,
        "Wrong input: Collection `x` already exists!",
    ),
    ("alias to a missing one", "POST", "/collections/aliases", aliased("z", "y"), 404, MISSING),
    ("delete by an alias", "DELETE", "/collections/also", None, 200, False),
    ("delete a missing one", "DELETE", "/collections/y", None, 200, False),
    (
        "a point without vectors",
        "PUT",
        "/collections/x/points",
        {"points": [{"id": A, "vector": {}}]},
        200,
        {"operation_id": 0, "status": "completed"},
    ),
    (
        "unknown vectors",
        "POST",
        "/collections/x/points/query",
        {"query": [1, 0, 0, 0], "using": "other"},
        400,
        "Wrong input: Not existing vector name error: other",
    ),
    (
        "an id that is none",
        "POST",
        "/collections/x/points",
        {"ids": ["nope"]},
        400,
        "Format error in JSON body: value nope is not a valid point ID, ",
    ),
    (
        "an id that is none, in a filter",
        "POST",
        "/collections/x/points/count",
        {"filter": {"must": [{"has_id": ["nope"]}]}},
        400,
        "Format error in JSON body: value nope is not a valid point ID, ",
    ),
    (
        "match with a float",
        "POST",
        "/collections/x/points/count",
        {"filter": matching("year", 2020.0)},
        400,
        "data did not match any variant of untagged enum MatchInterface",
    ),
    (
        "match finds no float",
        "POST",
        "/collections/x/points/count",
        {"filter": matching("year", 2020)},
        200,
        {"count": 1},
    ),
    (
        "a range finds both",
        "POST",
        "/collections/x/points/count",
        {"filter": {"must": [{"key": "year", "range": {"gte": 2020, "lte": 2020}}]}},
        200,
        {"count": 2},
    ),
    (
        "facet without an index",
        "POST",
        "/collections/x/facet",
        {"key": "org"},
        400,
        "No appropriate index for faceting",
    ),
    (
        "a later datatype",
        "PUT",
        "/collections/y",
        {"vectors": {"page": {**VECTORS["page"], "datatype": "turbo8"}}},
        400,
        "did not match any variant of untagged enum VectorsConfig",
    ),
    (
        "a datatype that is read and not made",
        "PUT",
        "/collections/y",
        {"vectors": {"page": {**VECTORS["page"], "datatype": "turbo4"}}},
        500,
        "Segment DB create panickedwith: not implemented: turbo4 datatype storage not yet wired up",
    ),
    (
        "quantisation beside floats",
        "PUT",
        "/collections/y",
        {**PAGES, "quantization_config": {"turbo": {"bits": "bits4"}}},
        200,
        True,
    ),
    (
        "an empty vector",
        "PUT",
        "/collections/x/points",
        {"points": [{"id": A, "vector": {"patches": [[]]}}]},
        422,
        "dense vector must not be empty",
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"), [pytest.param(*row[1:], id=row[0]) for row in ROWS]
)
def test_what_it_says(ask: Asking, method: str, path: str, body: Any, status: int, said: Any) -> None:
    told = ask(method, path, body)
    assert told[0] == status
    if isinstance(said, str):
        assert said in told[1]
    else:
        assert told[1] == said


def test_metadata_come_with_the_creation_and_are_merged(ask: Asking) -> None:
    ask("PUT", "/collections/y", {**PAGES, "metadata": {"visrag": "{}", "theirs": 1}})
    assert ask("GET", "/collections/y")[1]["config"]["metadata"] == {"visrag": "{}", "theirs": 1}  # type: ignore[index]
    ask("PATCH", "/collections/y", {"metadata": {"theirs": None, "more": [2]}})
    assert ask("GET", "/collections/y")[1]["config"]["metadata"] == {"visrag": "{}", "more": [2]}  # type: ignore[index]


def test_an_older_server_has_no_metadata(server: FakeQdrant, ask: Asking) -> None:
    server.version = "1.15.5"
    ask("PUT", "/collections/y", {**PAGES, "metadata": {"visrag": "{}"}})
    assert ask("GET", "/collections/y")[1]["config"]["metadata"] is None  # type: ignore[index]


@pytest.mark.parametrize(("version", "datatype", "status"), [("1.19.0", "turbo4", 200), ("1.20.1", "turbo8", 200)])
def test_later_versions_have_the_datatypes(
    server: FakeQdrant, ask: Asking, version: str, datatype: str, status: int
) -> None:
    server.version = version
    assert ask("PUT", "/collections/y", {"vectors": {"page": {**VECTORS["page"], "datatype": datatype}}})[0] == status


def test_a_collection_goes_with_its_aliases(ask: Asking) -> None:
    assert ask("DELETE", "/collections/x") == (200, True)
    assert ask("GET", "/aliases") == (200, {"aliases": []})


@pytest.mark.parametrize(("rows", "status"), [(8191, 200), (8192, 422)])
def test_a_multi_vector_of_a_million_numbers(ask: Asking, rows: int, status: int) -> None:
    many = {"patches": {"size": 128, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}}}
    ask("PUT", "/collections/y", {"vectors": many})
    told = ask("PUT", "/collections/y/points", {"points": [{"id": A, "vector": {"patches": [[1] * 128] * rows}}]})
    assert told[0] == status
    assert status == 200 or "Total size of all vectors (1048576) must be less than 1048576" in told[1]


def test_a_body_that_is_too_large(server: FakeQdrant, ask: Asking) -> None:
    points = [{"id": A, "vector": {}, "payload": {"text": "x" * 33_554_432}}]
    status, said = ask("PUT", "/collections/x/points", {"points": points})
    assert status == 400
    assert said == f"JSON payload ({server.log[-1].sent} bytes) is larger than allowed (limit: 33554432 bytes)."


def test_an_index_makes_a_facet(ask: Asking) -> None:
    ask("PUT", "/collections/x/index", {"field_name": "org", "field_schema": "keyword"})
    assert ask("POST", "/collections/x/facet", {"key": "org"})[1]["hits"] == [  # type: ignore[index]
        {"value": "a", "count": 1},
        {"value": "b", "count": 1},
    ]
    assert ask("GET", "/collections/x")[1]["payload_schema"]["org"]["data_type"] == "keyword"  # type: ignore[index]


def test_custom_sharding_needs_a_key(ask: Asking) -> None:
    ask("PUT", "/collections/y", {**PAGES, "sharding_method": "custom"})
    told = ask("PUT", "/collections/y/points", {"points": [{"id": A, "vector": {}}]})
    assert told == (400, "Wrong input: Shard key not specified")


# --- strict mode ----------------------------------------------------------------------------------------------------

NO_INDEX = (
    'Bad request: Index required but not found for "metadata.org" of one of the following types: [{kinds}]. Help: '
    "Create an index for this key or use a different filter."
)


@pytest.mark.parametrize(
    ("path", "body", "kinds"),
    [
        ("points/count", {"filter": matching("metadata.org", "a"), "exact": False}, "keyword"),
        ("points/scroll", {"filter": {"must_not": [{"key": "metadata.org", "range": {"gt": 1}}]}}, "float, integer"),
        (
            "points/scroll",
            {"filter": {"should": {"key": "metadata.org", "range": {"gt": "2020-01-01T00:00:00Z"}}}},
            "datetime",
        ),
        ("points/delete", {"filter": matching("metadata.org", "a")}, "keyword"),
        ("points/query", {"query": [1, 0, 0, 0], "using": "page", "filter": matching("metadata.org", 3)}, "integer"),
        (
            "points/query",
            {"query": [1, 0, 0, 0], "using": "page", "prefetch": {"filter": matching("metadata.org", True)}},
            "bool",
        ),
    ],
)
def test_strict_mode_wants_indexes(server: FakeQdrant, path: str, body: Any, kinds: str) -> None:
    server.strict = CLOUD
    with contextlib.closing(Asking(server)) as ask:
        ask("PUT", "/collections/x", PAGES)
        assert ask("POST", f"/collections/x/{path}", body) == (400, NO_INDEX.format(kinds=kinds))
        kind = kinds.partition(",")[0]
        ask("PUT", "/collections/x/index", {"field_name": "metadata.org", "field_schema": kind})
        assert ask("POST", f"/collections/x/{path}", body)[0] == 200


def test_strict_mode_wants_an_index_for_is_empty(server: FakeQdrant) -> None:
    server.strict = CLOUD
    with contextlib.closing(Asking(server)) as ask:
        ask("PUT", "/collections/x", PAGES)
        status, said = ask("POST", "/collections/x/points/scroll", {"filter": {"must": [{"is_empty": {"key": "a"}}]}})
        assert status == 400
        assert 'Index required but not found for "a"' in said


SEARCH = {"query": [1, 0, 0, 0], "using": "page"}
LATE = {"query": [[1, 0, 0, 0]], "using": "patches"}
FULL_SCAN = "Request is forbidden on 'patches' because global vector indexing is disabled (hnsw_config.m = 0)"


@pytest.mark.parametrize(
    ("strict", "path", "body", "said"),
    [
        ({"search_allow_exact": False}, "count", {}, "Exact search disabled!. Help: Set exact=false."),
        (
            {"search_allow_exact": False},
            "count",
            {"filter": {"must": [{"has_id": [A]}]}, "exact": True},
            "Exact search disabled!. Help: Set exact=false.",
        ),
        ({"search_allow_exact": False}, "count", {"exact": False}, None),
        ({"search_allow_exact": False}, "query", {**SEARCH, "params": {"exact": True}}, "Exact search disabled!"),
        ({"search_allow_exact": False}, "query", SEARCH, None),
        ({"search_allow_exact": False}, "query", LATE, FULL_SCAN),
        ({"search_allow_exact": False}, "query", {**LATE, "filter": {"must": [{"has_id": [A]}]}}, FULL_SCAN),
        ({"search_allow_exact": False}, "query", {**LATE, "prefetch": SEARCH}, None),
        ({"search_allow_exact": False}, "query", {**LATE, "prefetch": {"filter": {"must": [{"has_id": [A]}]}}}, None),
        ({"search_allow_exact": False}, "query", {**SEARCH, "prefetch": LATE}, FULL_SCAN),
        (
            {"search_max_oversampling": 10},
            "query",
            {**SEARCH, "params": {"quantization": {"oversampling": 200.0}}},
            'Limit exceeded 200 > 10 for "oversampling"',
        ),
        ({"max_query_limit": 20}, "query", {**SEARCH, "limit": 21}, 'Limit exceeded 21 > 20 for "limit"'),
        (
            {"max_query_limit": 20},
            "query",
            {**LATE, "prefetch": {**SEARCH, "limit": 21}},
            'Limit exceeded 21 > 20 for "limit"',
        ),
        ({"max_query_limit": 20}, "scroll", {"limit": 21}, 'Limit exceeded 21 > 20 for "limit"'),
        (
            {"condition_max_size": 100},
            "scroll",
            {"filter": {"must": [{"has_id": [A] * 150}]}},
            "Condition size limit reached (150 > 100)",
        ),
        ({"max_timeout": 30}, "scroll?timeout=60", {}, 'Limit exceeded 60 > 30 for "timeout"'),
    ],
)
def test_strict_mode_has_limits(
    server: FakeQdrant, strict: dict[str, Any], path: str, body: Any, said: str | None
) -> None:
    server.strict = {"enabled": True, **strict}
    with contextlib.closing(Asking(server)) as ask:
        ask("PUT", "/collections/x", PAGES)
        assert ask("GET", "/collections/x")[1]["config"]["strict_mode_config"] == server.strict  # type: ignore[index]
        told = ask("POST", f"/collections/x/points/{path}", body)
        assert told[0] == (200 if said is None else 400)
        assert said is None or said in told[1]


def test_a_filter_for_one_tenant_needs_no_graph_over_all(server: FakeQdrant) -> None:
    server.strict = {"enabled": True, "search_allow_exact": False}
    with contextlib.closing(Asking(server)) as ask:
        ask("PUT", "/collections/x", PAGES)
        tenant = {"field_name": "tenant", "field_schema": {"type": "keyword", "is_tenant": True}}
        ask("PUT", "/collections/x/index", tenant)
        found = ask("POST", "/collections/x/points/query", {**LATE, "filter": matching("tenant", "ada")})
        assert found == (200, {"points": []})


# --- keys -----------------------------------------------------------------------------------------------------------

KEYS = {
    "all": Key(),
    "reads": Key("read"),
    "reads pages": Key("", {"pages": "r"}),
    "writes pages": Key("", {"pages": "rw"}),
}
NO_MANAGING = "Forbidden: Global manage access is required"
NO_WRITING = "Forbidden: Write access to collection pages is required"
NO_ACCESS = "Forbidden: Access to collection pages.next is required"


@pytest.mark.parametrize(
    ("key", "method", "path", "status", "said"),
    [
        (None, "GET", "/collections/pages", 401, "Must provide an API key or an Authorization bearer token"),
        ("wrong", "GET", "/collections/pages", 401, "Invalid API key or JWT"),
        ("reads", "GET", "/collections/pages", 200, None),
        ("reads", "PUT", "/collections/new", 403, NO_MANAGING),
        ("reads", "POST", "/collections/aliases", 403, NO_MANAGING),
        ("reads", "PUT", "/collections/pages/points", 403, NO_WRITING),
        ("reads pages", "GET", "/collections/pages", 200, None),
        (
            "reads pages",
            "GET",
            "/collections/pages.next",
            403,
            "Forbidden: Access to collection pages.next is required",
        ),
        (
            "reads pages",
            "PUT",
            "/collections/pages/points",
            403,
            "Forbidden: Write access to collection pages is required",
        ),
        ("reads pages", "POST", "/collections/pages/points/scroll", 200, None),
        ("writes pages", "PUT", "/collections/pages/points", 200, None),
        ("writes pages", "PUT", "/collections/pages/index", 200, None),
        ("writes pages", "PATCH", "/collections/pages", 403, NO_MANAGING),
        ("writes pages", "DELETE", "/collections/pages", 403, NO_MANAGING),
        ("all", "DELETE", "/collections/pages", 200, None),
    ],
)
def test_keys(server: FakeQdrant, key: str | None, method: str, path: str, status: int, said: str | None) -> None:
    with contextlib.closing(Asking(server)) as ask:
        ask("PUT", "/collections/pages", PAGES)
        server.keys = KEYS
        ask.headers = {} if key is None else {"api-key": key}
        body = {"points": [{"id": A, "vector": {}}], "field_name": "org", "field_schema": "keyword"}
        body = {} if path.endswith(("scroll", "aliases", "new")) else body
        told = ask(method, path, None if method == "GET" else body)
        assert told[0] == status
        assert said is None or told[1] == said


def test_a_key_for_one_collection_is_shown_no_other(server: FakeQdrant, ask: Asking) -> None:
    server.keys = KEYS
    ask.headers = {"api-key": "reads pages"}
    assert ask("GET", "/aliases") == (200, {"aliases": []})
    assert ask("GET", "/collections") == (200, {"collections": []})


# --- clusters -------------------------------------------------------------------------------------------------------

POINT = {"points": [{"id": A, "vector": {}}]}


def test_a_dead_node_and_one_copy() -> None:
    with serving(addresses=3) as server, contextlib.closing(Asking(server)) as ask:
        ask("PUT", "/collections/x", PAGES)
        server.cluster.dead = 1
        status, said = ask("POST", "/collections/x/points/query", SEARCH)
        assert (status, said[:35]) == (500, "1 of 1 read operations failed:\n  Se")
        assert "tcp connect error" in said
        status, said = ask("PUT", "/collections/x/points", POINT)
        assert status == 500
        assert said.startswith("1 out of 3 shards failed to apply operation. ")


def test_a_dead_node_and_two_copies() -> None:
    with serving(addresses=3) as server, contextlib.closing(Asking(server)) as ask:
        ask("PUT", "/collections/x", {**PAGES, "replication_factor": 2})
        ask("PUT", "/collections/both", {**PAGES, "replication_factor": 2, "write_consistency_factor": 2})
        server.cluster.dead = 1
        assert ask("POST", "/collections/x/points/query", SEARCH)[0] == 200
        assert ask("PUT", "/collections/x/points", POINT)[0] == 200
        for wanted in ("all", "majority"):
            assert ask("POST", f"/collections/x/points/query?consistency={wanted}", SEARCH)[0] == 500
        assert ask("PUT", "/collections/both/points", POINT)[0] == 500
        assert ask("POST", "/collections/both/points/count", {}) == (200, {"count": 1}), "what was written stays"


def test_a_creation_takes_its_time() -> None:
    with serving(addresses=3) as server, contextlib.closing(Asking(server)) as ask:
        server.cluster.creation_takes = 0.5
        started = time.monotonic()
        assert ask("PUT", "/collections/x?timeout=60", PAGES) == (200, True)
        assert time.monotonic() - started >= 0.5
        server.cluster.creation_takes = 1.2
        status, said = ask("PUT", "/collections/y?timeout=1", PAGES)
        assert (status, "Waiting for consensus operation commit failed. Timeout set at: 1 seconds" in said) == (
            500,
            True,
        )
        assert ask("PUT", "/collections/y", PAGES)[0] == 409, "it is made all the same"


def test_a_datatype_that_stops_a_cluster() -> None:
    with serving(addresses=3) as server, contextlib.closing(Asking(server)) as ask:
        assert ask("PUT", "/collections/x", {"vectors": {"page": {**VECTORS["page"], "datatype": "turbo4"}}})[0] == 500
        status, said = ask("PUT", "/collections/y", PAGES)
        assert status == 500
        assert "Waiting for consensus operation commit failed. Timeout set at: 10 seconds" in said
        assert ask("GET", "/cluster")[1]["consensus_thread_status"] == {  # type: ignore[index]
            "consensus_thread_status": "stopped_with_err",
            "err": "panicked",
        }


def test_a_full_disk(server: FakeQdrant, ask: Asking) -> None:
    server.cluster.disk_full_after = 1
    points = [{"id": id_, "vector": {}, "payload": {"new": 1}} for id_ in (A, B)]
    full = "Service internal error: No space left on device: WAL buffer size exceeds available disk space"
    assert ask("PUT", "/collections/x/points", {"points": points}) == (500, full)
    assert ask("POST", "/collections/x/points/count", {"filter": matching("new", 1)}) == (200, {"count": 1}), (
        "half of it"
    )
    assert ask("POST", "/collections/x/points/delete", {"points": [A]}) == (500, full)


def test_addresses_can_be_switched_off_and_on() -> None:
    with serving(addresses=2) as server:
        clients = [httpx.Client(base_url=url, trust_env=False) for url in server.urls]
        assert [client.get("/collections").status_code for client in clients] == [200, 200]
        server.addresses[0].switch_off()
        with pytest.raises(httpx.TransportError):
            clients[0].get("/collections")
        assert clients[1].get("/collections").status_code == 200
        server.addresses[0].switch_on()
        assert clients[0].get("/collections").status_code == 200
        for client in clients:
            client.close()


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "happened"), [("refused", False), ("503", False), ("dropped", True), ("lost", True)])
def test_what_happens_to_a_request_that_fails(server: FakeQdrant, ask: Asking, fault: str, happened: bool) -> None:
    server.plan = lambda _, method, path: fault if path.endswith("delete") else None
    with contextlib.suppress(httpx.TransportError):
        assert ask("POST", "/collections/x/points/delete", {"points": [A]})[0] == 503
    assert ask("POST", "/collections/x/points/count", {}) == (200, {"count": 1 if happened else 2})


def test_others_are_answered_while_one_waits(server: FakeQdrant, ask: Asking) -> None:
    server.plan = lambda number, method, path: "hung" if path.endswith("scroll") else None
    answers: list[Told] = []

    def scroll() -> None:
        with contextlib.closing(Asking(server)) as other:
            answers.append(other("POST", "/collections/x/points/scroll", {}))

    waiting = threading.Thread(target=scroll)
    waiting.start()
    assert ask("POST", "/collections/x/points/count", {}) == (200, {"count": 2})
    assert answers == []
    server.go_on.set()
    waiting.join()
    assert answers[0][0] == 200


# --- gRPC -----------------------------------------------------------------------------------------------------------


def by_grpc(server: FakeQdrant) -> QdrantClient:
    return QdrantClient(server.url, check_compatibility=False, **server.options)


def test_the_same_answers_over_grpc() -> None:
    with serving(grpc=True) as server:
        rest, grpc = QdrantClient(server.url, check_compatibility=False), by_grpc(server)
        vectors = {
            "page": models.VectorParams(size=4, distance=models.Distance.COSINE),
            "patches": models.VectorParams(
                size=4,
                distance=models.Distance.COSINE,
                datatype=models.Datatype.FLOAT16,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
        }
        grpc.create_collection("x", vectors, metadata={"visrag": "{}", "none": None}, replication_factor=2)
        grpc.create_payload_index("x", "n", field_schema="integer")
        payload = {"n": 1, "f": 1.0, "none": None, "list": [1, {"a": False}], "text": "ä"}
        point = models.PointStruct(id=A, vector={"page": [1, 0, 0, 0], "patches": [[1, 0, 0, 0]] * 2}, payload=payload)
        grpc.upsert("x", [point])
        assert grpc.info().version == "1.18.3"
        assert grpc.get_collection("x").config.params == rest.get_collection("x").config.params
        assert grpc.get_collection("x").payload_schema.keys() == {"n"}
        for client in (rest, grpc):
            (kept,) = client.retrieve("x", [A], with_vectors=True)
            assert kept.payload == payload
            assert kept.vector == {"page": [1, 0, 0, 0], "patches": [[1, 0, 0, 0]] * 2}
            found = client.query_points(
                "x",
                [[1, 0, 0, 0]],
                using="patches",
                query_filter=models.Filter(
                    must=[models.FieldCondition(key="n", range=models.Range(gte=1)), models.HasIdCondition(has_id=[A])]
                ),
            ).points
            assert [(hit.id, hit.score) for hit in found] == [(A, pytest.approx(1.0))]
            assert (
                client.count(
                    "x",
                    count_filter=models.Filter(
                        must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="none"))]
                    ),
                ).count
                == 1
            )
        assert server.requests.count("PUT /collections/x/points") == 1
        for client in (rest, grpc):
            client.close()


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
@pytest.mark.parametrize(
    ("code", "ask"),
    [
        ("NOT_FOUND", lambda client: client.count("y")),
        ("ALREADY_EXISTS", lambda client: client.create_collection("x", vectors_config={})),
        ("INVALID_ARGUMENT", lambda client: client.query_points("x", [1.0], using="other")),
        ("PERMISSION_DENIED", lambda client: client.delete_collection("x")),
        ("UNAUTHENTICATED", lambda client: client.count("x")),
        ("INTERNAL", lambda client: client.delete("x", [A])),
    ],
)
def test_refusals_over_grpc(code: str, ask: Any) -> None:
    import grpc

    with serving(grpc=True) as server:
        client = by_grpc(server)
        client.create_collection("x", vectors_config={})
        if code == "UNAUTHENTICATED":
            server.keys = KEYS
        elif code == "PERMISSION_DENIED":
            server.keys = KEYS
            client.close()
            client = QdrantClient(server.url, api_key="reads", check_compatibility=False, https=False, **server.options)
        server.cluster.disk_full = code == "INTERNAL"
        with pytest.raises(grpc.RpcError) as caught:
            ask(client)
        assert caught.value.code().name == code
        client.close()


def test_rest_says_it_as_the_client_raises_it(server: FakeQdrant, ask: Asking) -> None:
    client = QdrantClient(server.url, check_compatibility=False)
    with pytest.raises(UnexpectedResponse, match="Not existing vector name error: other"):
        client.query_points("x", [1.0], using="other")
    client.close()
