"""The HTTP server's routes, as a client of a running server sees them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
from fakes import PixelEmbedder, ScriptedGenerator
from pydantic import TypeAdapter
from web_server import library, picture, running, wait_until

from visrag_integrations import Page, PageRetriever, QdrantPageStore, VisRAG
from visrag_integrations.errors import SettingError
from visrag_integrations.servers.http import ServeSettings, create_app
from visrag_integrations.servers.http.schemas import DetailedHit, Hit, RankedImage, SearchAnswer
from visrag_integrations.servers.http.search import json_answer
from visrag_integrations.servers.http.service import Presenter
from visrag_integrations.types import Generation, ScoredPage

MODEL_TEXT = (
    "<observe>A page.</observe><evidence>[1]: the violin [2]: no relevant information</evidence>"
    "<think>It is said there.</think><answer>a violin</answer>"
)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def store() -> Iterator[QdrantPageStore]:
    with QdrantPageStore(":memory:") as store:
        yield store


@pytest.fixture(scope="module")
def retriever(store: QdrantPageStore) -> PageRetriever:
    return library(store, PixelEmbedder())


@pytest.fixture(scope="module")
def generator() -> ScriptedGenerator:
    return ScriptedGenerator()


@pytest.fixture(scope="module")
def client(retriever: PageRetriever, generator: ScriptedGenerator) -> Iterator[httpx.Client]:
    rag = VisRAG(retriever, generator, top_k=2)
    settings = ServeSettings(max_queries=3, max_top_k=20, max_query_characters=100, max_pixels=100_000)
    with running(create_app(retriever, rag, settings)) as server, httpx.Client(base_url=server.url) as client:
        yield client


def as_base64(image: Any, format: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return base64.b64encode(buffer.getvalue()).decode()


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    assert set(answer.json()) == {"error"}, answer.text
    assert set(answer.json()["error"]) == {"type", "message"}
    return answer.status_code, answer.json()["error"]["type"], answer.json()["error"]["message"]


def test_get_search_answers_as_vrags_engine(client: httpx.Client, retriever: PageRetriever) -> None:
    answer = client.get("/search", params={"queries": ["violin violin page 1", "glacier"], "top_k": 3})
    first, second = answer.json()
    assert [item["idx"] for item in first] == [item["idx"] for item in second] == [0, 1, 2]
    expected = [[hit.page.id for hit in retriever.retrieve(query, 3)] for query in ("violin violin page 1", "glacier")]
    assert [[item["id"] for item in items] for items in (first, second)] == expected
    address = first[0]["image_file"]
    assert address == f"{client.base_url}/pages/{first[0]['id']}/image".replace("//pages", "/pages")
    assert client.get(address).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    "asked",
    [
        {"text": "violin"},
        {"text": "violin", "top_k": 20, "details": True},
        {"text": "violin", "mode": "lexical"},
        {"text": "violin", "filter": {"colour": "red"}},
    ],
)
def test_searches_are_answered_with_the_bytes_their_model_writes(client: httpx.Client, asked: Any) -> None:
    """The answer is written without making models; the model that OpenAPI shows must still be what is sent."""
    answer = client.post("/search", json=asked)
    assert answer.headers["content-type"] == "application/json"
    sent = SearchAnswer.model_validate_json(answer.content, strict=True)
    assert sent.model_dump_json() == answer.text
    kinds = {type(page) for page in sent.pages}
    if "filter" in asked:
        assert (kinds, bool(sent.note)) == (set(), True)
    else:
        assert kinds == {DetailedHit if asked.get("details") else Hit}


def test_get_searches_are_answered_with_the_bytes_their_model_writes(client: httpx.Client) -> None:
    answer = client.get("/search", params={"queries": ["violin", "glacier"], "top_k": 3})
    model = TypeAdapter(list[list[RankedImage]])
    sent = model.validate_json(answer.content, strict=True)
    assert [len(ranked) for ranked in sent] == [3, 3]
    assert model.dump_json(sent).decode() == answer.text


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_json_does_not_have_is_null(score: float) -> None:
    hit = ScoredPage(Page("d", 1), score)
    answer = json_answer({"pages": [Presenter("http://x").found(hit)], "note": None})
    (page,) = json.loads(answer.body)["pages"]
    assert page["score"] is None


@pytest.mark.parametrize("host", ["127.0.0.1:9", "a.example", "[::1]:80", "a.example:443"])
def test_addresses_begin_with_the_name_the_client_used(client: httpx.Client, host: str) -> None:
    for _ in range(2):  # the second time the name is remembered
        answer = client.post("/search", json={"text": "violin"}, headers={"Host": host})
        assert answer.json()["pages"][0]["image"].startswith(f"http://{host}/pages/")


def test_get_search_gives_ten_pages_unless_it_is_told(client: httpx.Client) -> None:
    (found,) = client.get("/search", params={"queries": "lantern"}).json()
    assert len(found) == 8  # all there are


@pytest.mark.parametrize(
    "asked",
    [
        {"text": "orchard"},
        {"text": "orchard", "top_k": 2, "filter": {"year": {"gte": 2003}}},
        {"text": "quarry", "mode": "lexical"},
        {"text": "quarry", "mode": "hybrid", "top_k": 3},
        {"text": "violin", "filter": {"source": "harbour-0.pdf"}},
        {"text": "violin", "mode": "dense", "score_threshold": 0.03},
    ],
)
def test_post_search_finds_what_the_retriever_finds(
    client: httpx.Client, retriever: PageRetriever, asked: dict[str, Any]
) -> None:
    options = {key: value for key, value in asked.items() if key != "text"}
    expected = retriever.retrieve(asked["text"], **options)
    found = client.post("/search", json=asked).json()["pages"]
    assert [(hit["id"], hit["page"], hit["score_type"]) for hit in found] == [
        (hit.page.id, hit.page.number, hit.score_type) for hit in expected
    ]
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert expected


@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_a_picture_finds_its_page(client: httpx.Client, head: str) -> None:
    asked = {"image": head + as_base64(picture(5)), "top_k": 1}
    (hit,) = client.post("/search", json=asked).json()["pages"]
    assert (hit["doc_id"], hit["page"]) == ("doc2", 2)


def test_ask_gives_what_the_core_gives(client: httpx.Client, generator: ScriptedGenerator) -> None:
    generator.queue.append(Generation(MODEL_TEXT))
    answer = client.post("/ask", json={"question": "Which violin?", "top_k": 2}).json()
    assert (answer["answer"], answer["sufficient"], answer["problems"]) == ("a violin", True, [])
    assert [(e["index"], e["relevant"]) for e in answer["evidence"]] == [(1, True), (2, False)]
    assert answer["evidence"][0]["page"]["id"] == answer["pages"][0]["id"]
    assert [(e["verdict"], e["missing"]) for e in answer["evidence"]] == [("partly", ["the"]), (None, [])]
    assert len(answer["pages"]) == 2
    assert answer["pages"][0]["image"].startswith("http://127.0.0.1:")


def test_a_stream_tells_pages_first_and_the_whole_answer_last(
    client: httpx.Client, generator: ScriptedGenerator
) -> None:
    generator.queue += [Generation(MODEL_TEXT), Generation(MODEL_TEXT)]
    whole = client.post("/ask", json={"question": "Which violin?"}).json()
    streamed = client.post("/ask", json={"question": "Which violin?", "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = [event.split("\n") for event in streamed.text.strip().split("\n\n")]
    names = [lines[0].removeprefix("event: ") for lines in events]
    values = [json.loads(lines[1].removeprefix("data: ")) for lines in events]
    assert names[0] == "pages"
    assert names[-1] == "answer"
    assert values[0]["pages"] == whole["pages"]
    assert values[-1] == whole
    sections = [value["section"] for name, value in zip(names, values, strict=True) if name == "section"]
    assert sections == ["observe", "evidence", "think", "answer"]
    said = [v["text"] for n, v in zip(names, values, strict=True) if n == "text" and v["section"] == "answer"]
    assert "".join(said) == "a violin"
    assert [value["index"] for name, value in zip(names, values, strict=True) if name == "evidence"] == [1, 2]


def test_a_page_tells_its_text_and_nothing_of_the_servers_folders(client: httpx.Client, store: QdrantPageStore) -> None:
    (page,) = store.scroll({"year": 2003})
    told = client.get(f"/pages/{page.id}").json()
    assert told["text"] == "glacier glacier page 3"
    assert told["source"] == "violin-1.pdf"
    assert told["metadata"] == {"year": 2003}
    assert "/srv" not in json.dumps(told)


def test_a_picture_is_the_stored_file_and_is_sent_once(client: httpx.Client, store: QdrantPageStore) -> None:
    (page,) = store.scroll({"year": 2004})
    address = f"/pages/{page.id}/image"
    answer = client.get(address)
    assert answer.content == page.picture()  # type: ignore[operator, misc]
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-cache"
    again = client.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_picture_that_is_gone_is_not_found_and_its_path_is_not_told(tmp_path: Path) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        retriever = library(store, PixelEmbedder(), 2)
        page = next(store.scroll())
        for file in (tmp_path / "index" / "pictures").rglob("*.jpg"):
            file.unlink()
        with running(create_app(retriever)) as server:
            status, _, message = error_of(httpx.get(f"{server.url}/pages/{page.id}/image"))
    assert status == 404
    assert str(tmp_path) not in message


def test_only_pages_that_the_retriever_may_find_can_be_had(store: QdrantPageStore, retriever: PageRetriever) -> None:
    narrow = PageRetriever(retriever.embedder, store, filter={"year": {"lt": 2004}})
    inside, outside = next(store.scroll({"year": 2001})), next(store.scroll({"year": 2006}))
    with running(create_app(narrow)) as server, httpx.Client(base_url=server.url) as client:
        for what in ("", "/image"):
            assert client.get(f"/pages/{inside.id}{what}").status_code == 200
            assert client.get(f"/pages/{outside.id}{what}").status_code == 404
        (found,) = client.get("/search", params={"queries": "quarry"}).json()
        assert len(found) == 4
        for wider in ({"year": {"lt": 2008}}, {"$or": [{"year": 2006}, {"year": 2001}]}, {"year": 2006}):
            answer = client.post("/search", json={"text": "quarry", "filter": wider, "top_k": 20})
            assert {hit["id"] for hit in answer.json()["pages"]}.isdisjoint({outside.id})
            assert "2004" not in answer.text  # nothing of the server's own filter is told


def test_a_page_without_a_picture_says_so() -> None:
    with QdrantPageStore(":memory:") as store:
        page = Page("d", 1, text="words")
        store.prepare(PixelEmbedder())
        store.add_pages([page], PixelEmbedder().embed_pages([page]))
        with running(create_app(PageRetriever(PixelEmbedder(), store))) as server:
            (hit,) = httpx.post(f"{server.url}/search", json={"text": "words"}).json()["pages"]
            assert hit["image"] is None
            assert "without a picture" in error_of(httpx.get(f"{server.url}/pages/{hit['id']}/image"))[2]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "The query is empty"),
        ({"text": " "}, "The query is empty"),
        ({"text": "x" * 101}, "101 characters; at most 100"),
        ({"text": "x", "top_k": 21}, "top_k is 21; at most 20"),
        ({"text": "x", "top_k": 10**400}, "top_k"),
        ({"text": "x", "top_k": 0}, "top_k"),
        ({"text": "x", "mode": "fuzzy"}, "mode"),
        ({"text": "x", "limit": 3}, "limit"),
        ({"text": "x", "filter": {"year": {"near": 3}}}, "Unknown operator 'near'"),
        ({"text": "x", "filter": {"$ids": ["nonsense"]}}, "no page id"),
        ({"text": "x", "mode": "hybrid", "score_threshold": 0.5}, "score_threshold"),
        ({"image": "*not base64*"}, "not valid base64"),
        ({"image": base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0").decode()}, "no JPEG, PNG"),
        ({"image": base64.b64encode(b"\x89PNG\r\n\x1a\n broken").decode()}, "not a picture"),
        ({"image": "file:///etc/passwd"}, "fetches nothing"),
        ({"image": "/etc/passwd"}, "image cannot be used"),
        ([], "body"),
    ],
)
def test_what_is_not_allowed_is_said(client: httpx.Client, asked: Any, said: str) -> None:
    status, kind, message = error_of(client.post("/search", json=asked))
    assert (status, kind) == (422, "invalid_request")
    assert said in message


def test_a_filter_that_is_nested_without_end_is_refused(client: httpx.Client) -> None:
    nested: dict[str, Any] = {"year": 1}
    for _ in range(100):
        nested = {"$not": nested}
    assert "16 levels" in error_of(client.post("/search", json={"text": "x", "filter": nested}))[2]
    body = b'{"text": "x", "filter": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}"
    answer = client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    many = {"text": "x", "filter": {"year": list(range(2000))}}
    assert "1000 values" in error_of(client.post("/search", json=many))[2]


def test_a_picture_of_too_many_pixels_is_refused(client: httpx.Client) -> None:
    large = as_base64(picture(1).resize((400, 400)))
    assert "at most 100000 are allowed" in error_of(client.post("/search", json={"image": large}))[2]


def test_remote_pictures_are_never_fetched(client: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/page.png"
        assert "fetches nothing" in error_of(client.post("/search", json={"image": address}))[2]
        with pytest.raises(TimeoutError):
            trap.accept()


def test_too_many_queries_at_once(client: httpx.Client) -> None:
    assert "4 queries were given; at most 3" in error_of(client.get("/search", params={"queries": list("abcd")}))[2]
    assert error_of(client.get("/search"))[:2] == (422, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", f"/pages/{UNKNOWN}", 404),
        ("GET", f"/pages/{UNKNOWN}/image", 404),
        ("GET", "/pages/seven/image", 422),
        ("DELETE", "/search", 405),
        ("GET", "/docs", 404),
    ],
)
def test_addresses_that_are_none(client: httpx.Client, method: str, path: str, status: int) -> None:
    assert error_of(client.request(method, path))[0] == status


def test_without_a_generator_there_is_no_ask(retriever: PageRetriever) -> None:
    with running(create_app(retriever)) as server:
        assert httpx.post(f"{server.url}/ask", json={"question": "?"}).status_code == 404
        assert "/ask" not in httpx.get(f"{server.url}/openapi.json").json()["paths"]


def test_a_store_that_is_away_is_503_and_its_place_is_not_told(tmp_path: Path) -> None:
    store = QdrantPageStore(tmp_path / "index")
    retriever = library(store, PixelEmbedder(), 2)
    page = next(store.scroll())
    with running(create_app(retriever)) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/health").json() == {"status": "ok"}
        store.close()
        for answer in (client.post("/search", json={"text": "x"}), client.get(f"/pages/{page.id}")):
            status, kind, message = error_of(answer)
            assert (status, kind) == (503, "index_unavailable")
            assert answer.headers["retry-after"] == "5"
            assert str(tmp_path) not in message
        assert client.get("/health/live").status_code == 200
        wait_until(lambda: client.get("/health/ready").status_code == 503)


def test_the_thread_that_asks_for_the_health_ends_with_the_server(retriever: PageRetriever) -> None:
    def probing() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("visrag-health")]

    before = len(probing())
    app = create_app(retriever)
    for _ in range(2):  # an app that is started again asks again
        with running(app) as server:
            assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
        wait_until(lambda: len(probing()) <= before)


# A server whose store never answers, which ends as every Python does.
HANGS = """
import asyncio, threading
from visrag_integrations.servers.http import service

service._READY_SECONDS = 0.1

class Hanging:
    asked = threading.Event()

    def get_pages(self, ids):
        self.asked.set()
        threading.Event().wait()

class Around:
    store = Hanging()
    filter = None
    def close(self): pass

served = service.Service(Around(), None, None, Around(), Around())
assert asyncio.run(served.ready()) is False
assert Hanging.asked.is_set()
served.close()
print("ended")
"""


def test_a_store_that_hangs_does_not_hold_up_the_end() -> None:
    finished = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=120, check=False)
    assert (finished.returncode, finished.stdout) == (0, "ended\n"), finished.stderr


async def test_health_asks_once_for_all_while_every_thread_is_busy() -> None:
    class Waiting:
        filter = None

        def __init__(self) -> None:
            self.store, self.asked, self.go = self, 0, threading.Event()

        def get_pages(self, _: Any) -> list[Page]:
            self.asked += 1
            assert self.go.wait(30)
            return []

    with ThreadPoolExecutor(1) as busy:
        asyncio.get_running_loop().set_default_executor(busy)
        retriever = Waiting()
        busy.submit(retriever.go.wait, 30)
        transport = httpx.ASGITransport(create_app(retriever))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            asking = [asyncio.create_task(client.get("/health")) for _ in range(3)]
            while not retriever.asked and not asking[0].done():
                await asyncio.sleep(0.01)
            retriever.go.set()
            assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200, 200, 200]
    assert retriever.asked == 1


def test_what_crashes_tells_nothing() -> None:
    class Crashing:
        filter = None

        def retrieve(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("/srv/secret/key.pem")

    with running(create_app(Crashing())) as server:  # type: ignore[arg-type]
        answer = httpx.post(f"{server.url}/search", json={"text": "x"})
        assert error_of(answer) == (500, "internal", "The server failed; its log says why.")


def test_metrics_count_by_route(retriever: PageRetriever) -> None:
    with running(create_app(retriever)) as server, httpx.Client(base_url=server.url) as client:
        client.post("/search", json={"text": "x"})
        client.post("/search", json={})
        client.get(f"/pages/{UNKNOWN}")
        client.get("/../../etc/passwd")
        text = client.get("/metrics").text
    assert 'visrag_requests_total{method="POST",route="/search",status="200"} 1.0' in text
    assert 'visrag_requests_total{method="POST",route="/search",status="422"} 1.0' in text
    assert 'visrag_requests_total{method="GET",route="/pages/{id}",status="404"} 1.0' in text
    assert 'visrag_requests_total{method="GET",route="other",status="404"} 1.0' in text
    assert "visrag_batch_queries_count 1.0" in text


def test_openapi_has_examples_and_error_models(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) >= {"/search", "/ask", "/pages/{page_id}", "/pages/{page_id}/image", "/health"}
    for path in described["paths"].values():
        for operation in path.values():
            for status in ("401", "413", "422", "429", "503"):
                if not (status == "503" and operation["tags"] == ["operations"]):
                    schema = operation["responses"][status]["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}
    schemas = described["components"]["schemas"]
    assert all(schemas[name].get("examples") for name in ("SearchRequest", "SearchAnswer", "AskRequest", "AskAnswer"))


def test_addresses_begin_with_the_public_url(retriever: PageRetriever) -> None:
    settings = ServeSettings(public_url="https://search.example/visrag/")
    with running(create_app(retriever, settings=settings)) as server:
        ((hit,),) = httpx.get(f"{server.url}/search", params={"queries": "violin", "top_k": 1}).json()
    assert hit["image_file"] == f"https://search.example/visrag/pages/{hit['id']}/image"


@pytest.mark.parametrize(
    "settings",
    [{"max_top_k": 0}, {"request_seconds": -1.0}, {"tokens": ("",)}, {"tokens": ("a b",)}, {"public_url": "ftp://x"},
     {"cors_origins": ("*",)}, {"tokens": "a-long-secret"}, {"hosts": "localhost"},
     {"cors_origins": "https://app.example"}],
)  # fmt: skip
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        ServeSettings(**settings)


def test_the_app_is_a_fastapi_app(retriever: PageRetriever) -> None:
    assert isinstance(create_app(retriever), fastapi.FastAPI)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"yaer": 2001}, "the key 'yaer'; keys here: "),
        ({"source": "viola-1.pdf"}, "'source' = 'viola-1.pdf'; the nearest is "),
        ({"year": {"gt": 9999}}, "'year' in that range"),
    ],
)
def test_a_filter_that_fits_nothing_says_what_is_unknown(client: httpx.Client, asked: Any, said: str) -> None:
    found = client.post("/search", json={"text": "violin", "filter": asked}).json()
    assert found["pages"] == []
    assert said in found["note"]
    assert "/srv" not in found["note"]
    answer = client.post("/ask", json={"question": "violin?", "filter": asked}).json()
    assert answer["pages"] == []
    assert any(said in problem for problem in answer["problems"])
    with client.stream("POST", "/ask", json={"question": "violin?", "filter": asked, "stream": True}) as stream:
        assert said in json.loads(stream.read().decode().rpartition("data: ")[2])["problems"][-1]
    assert client.post("/search", json={"text": "violin"}).json()["note"] is None


@pytest.mark.parametrize("door", ["/search", "/ask"])
def test_a_filter_on_page_is_refused(client: httpx.Client, door: str) -> None:
    body = {"text": "x"} if door == "/search" else {"question": "x"}
    status, kind, message = error_of(client.post(door, json={**body, "filter": {"page": 6}}))
    assert (status, kind) == (422, "invalid_request")
    assert "number=6" in message
