"""The embedder that asks a server, against a scripted server on this machine."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from embedding_server import Server, serving, vector_of
from PIL import Image

from visrag_integrations import Page, Query, load_embedder
from visrag_integrations.embedders.endpoint import EndpointEmbedder, read_vectors
from visrag_integrations.errors import EmbedderError, EndpointError, PictureError, SettingError

RED, BLUE = Image.new("RGB", (5, 6), "red"), Image.new("RGB", (9, 4), "blue")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def make(server: Server) -> Iterator[Callable[..., EndpointEmbedder]]:
    made: list[EndpointEmbedder] = []

    def build(**settings: Any) -> EndpointEmbedder:
        made.append(EndpointEmbedder("the/model", base_url=f"http://127.0.0.1:{server.server_port}/v1", **settings))
        made[-1]._http.first_wait = 0.01
        return made[-1]

    yield build
    for embedder in made:
        embedder.close()


def pages(*pictures: Image.Image) -> list[Page]:
    return [Page.from_image(picture, doc_id="d", number=number) for number, picture in enumerate(pictures, 1)]


def test_a_page_is_sent_as_vllm_takes_it(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    embedder = make(api_key="secret", page_text="Represent it.", system="Be brief.", extra_body={"dimensions": 4})
    (vector,) = embedder.embed_pages(pages(RED))
    (body,) = server.asked
    picture = body["messages"][1]["content"][0].pop("image_url")["url"]
    assert body == {
        "model": "the/model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Represent it."}]},
        ],
        "encoding_format": "float",
        "dimensions": 4,
    }
    head, _, data = picture.partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == RED.tobytes()
    assert server.paths == ["/v1/embeddings"]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert vector.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-6)


def test_queries_are_texts_pictures_or_both(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    queries = ["how?", Query("Grüße 世界"), Query(image=RED), Query("this", image=RED)]
    embedder = make(instruction="Find: ", concurrency=1)
    found = embedder.embed_queries(queries)
    kinds = [[part["type"] for part in body["messages"][0]["content"]] for body in server.asked]
    assert kinds == [["text"], ["text"], ["image_url"], ["image_url", "text"]]
    texts = [part["text"] for body in server.asked for part in body["messages"][0]["content"] if "text" in part]
    assert texts == ["Find: how?", "Find: Grüße 世界", "Find: this"]
    for query, vector in zip(queries, found, strict=True):
        np.testing.assert_array_equal(embedder.embed_queries([query])[0], vector)


def test_answers_come_in_the_order_of_the_pages_however_slow(
    server: Server, make: Callable[..., EndpointEmbedder]
) -> None:
    server.script = [0.2, 0.0, 0.1, 0.0]
    shades = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in range(12)]
    together = make(concurrency=4).embed_pages(page for page in pages(*shades))
    alone = [make().embed_pages([page])[0] for page in pages(*shades)]
    np.testing.assert_array_equal(together, alone)
    assert len({tuple(vector) for vector in together}) == 12


def test_texts_as_input_go_many_to_a_request(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    embedder = make(texts_as="input", batch_size=3, instruction="q: ", concurrency=2)
    found = embedder.embed_queries([f"{number}" for number in range(7)])
    assert sorted(len(body["input"]) for body in server.asked) == [1, 3, 3]
    expected = [np.array(vector_of(f"q: {number}")) for number in range(7)]
    np.testing.assert_allclose(found, [vector / np.linalg.norm(vector) for vector in expected], rtol=1e-6)
    server.asked.clear()
    mixed = embedder.embed_queries(["5", Query("x", image=RED)])
    np.testing.assert_array_equal(mixed[0], found[5])
    embedder.embed_texts(["5"])
    assert server.asked[-1]["input"] == ["5"]


def test_the_dimension_is_asked_once(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    embedder = make()
    assert (embedder.dimension, embedder.dimension) == (4, 4)
    assert len(server.asked) == 1
    assert make(dimension=9).dimension == 9
    assert embedder.embed_pages([]) == embedder.embed_queries([]) == embedder.embed_texts([]) == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("trouble", [503, 429, 500, {"Retry-After": "0"}])
def test_a_busy_server_is_asked_again(
    server: Server, make: Callable[..., EndpointEmbedder], trouble: int | dict[str, str]
) -> None:
    server.script = [trouble, trouble]
    assert make(retries=2).embed_queries(["a"])[0].shape == (4,)
    assert len(server.asked) == 3
    assert server.asked[0] == server.asked[2]


def test_a_server_that_stays_busy_is_named(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    server.script = [503] * 9
    with pytest.raises(EndpointError, match=rf"{server.server_port}/v1/embeddings.*3 tries.*503.*base_url"):
        make(retries=2).embed_queries(["a"])
    assert len(server.asked) == 3


def test_a_server_that_is_slow_is_given_up(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    never = threading.Event()
    try:
        server.script = [never, never]
        with pytest.raises(EndpointError, match=r"2 tries.*Timeout"):
            make(retries=1, timeout=0.1).embed_queries(["a"])
        server.script = [never]
        assert make(retries=1000, timeout=0.3).embed_queries(["a"])[0].shape == (4,)  # as often as this machine needs
    finally:
        never.set()


def test_a_server_that_is_not_there_is_named() -> None:
    said = r"127\.0\.0\.1:9/v1/embeddings.*ConnectError"
    with (
        EndpointEmbedder("m", base_url="http://127.0.0.1:9/v1", retries=0) as embedder,
        pytest.raises(ConnectionError, match=said),
    ):
        embedder.embed_queries(["a"])


def test_a_refusal_is_not_repeated_and_keeps_the_key_secret(
    server: Server, make: Callable[..., EndpointEmbedder]
) -> None:
    server.script, server.answer = [400], lambda things: {"error": "model \x1b[31mnot found"}
    with pytest.raises(EndpointError, match=r"status 400.*not found") as caught:
        make(api_key="secret").embed_pages(pages(RED))
    assert "\x1b" not in str(caught.value)
    assert "secret" not in repr(caught.value)
    assert len(server.asked) == 1


def test_redirects_are_not_followed(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    server.script = [307]
    with pytest.raises(EndpointError, match="status 307"):
        make().embed_queries(["a"])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"data": []}, "gave 0 embeddings for 1"),
        ({"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]}, "gave 2 embeddings for 1"),
        ({"object": "error"}, "gave no embeddings"),
        ([], "gave no embeddings"),
        ({"data": ["x"]}, "gave 1 embeddings"),
        ({"data": [{"embedding": "AAAA"}]}, "not made of numbers"),
        ({"data": [{"embedding": [[1.0], [1.0, 2.0]]}]}, "not made of numbers"),
        ({"data": [{"embedding": [[1.0, 2.0]]}]}, r"shape \(1, 2\).*kind="),
        ({"data": [{"embedding": []}]}, "shape"),
        ({"data": [{"embedding": [1.0, 2.0, 3.0]}]}, "4 numbers"),
        ({"data": [{"embedding": [0.0, 0.0, 0.0, 0.0]}]}, "zero throughout"),
        ({"data": [{"embedding": [1.0, None, 1.0, 1.0]}]}, "not finite"),
    ],
)
def test_answers_that_are_no_vectors_are_refused(answer: Any, said: str) -> None:
    with pytest.raises(EmbedderError, match=said):
        read_vectors(answer, 1, "single", 4)


def test_an_answer_that_is_not_json_is_shown(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    server.script = [b"<html>hello</html>"]
    with pytest.raises(EndpointError, match=r"not answer with JSON.*<html>hello"):
        make().embed_queries(["a"])


def test_many_vectors_from_another_path(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    server.answer = lambda things: {"data": [{"index": 0, "data": [[3.0, 4.0], [0.0, 2.0]]}]}
    embedder = make(kind="multi", path="/pooling")
    np.testing.assert_allclose(embedder.embed_pages(pages(BLUE))[0], [[0.6, 0.8], [0, 1]], rtol=1e-6)
    assert (embedder.dimension, embedder.kind) == (2, "multi")
    assert set(server.paths) == {"/pooling"}


def test_async_does_not_block_the_loop(server: Server, make: Callable[..., EndpointEmbedder]) -> None:
    embedder = make(timeout=600)
    let_go = threading.Event()
    server.script = [let_go]

    async def both() -> None:
        waiting = asyncio.ensure_future(embedder.aembed_queries(["a"]))
        while not server.asked:  # this loop goes on, while the server is silent
            await asyncio.sleep(0.01)
        assert not waiting.done()
        let_go.set()
        assert (await waiting)[0].shape == (await embedder.aembed_pages(pages(RED)))[0].shape == (4,)

    asyncio.run(both())


def test_one_bad_page_is_named_and_a_closed_embedder_says_so(make: Callable[..., EndpointEmbedder]) -> None:
    embedder = make()
    with pytest.raises(PictureError, match="has no picture"):
        embedder.embed_pages([*pages(RED), Page(doc_id="d", number=7)])
    embedder.close()
    for call in (embedder.embed_queries, embedder.embed_pages, embedder.embed_texts):
        with pytest.raises(EmbedderError, match="closed"):
            call([])


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "localhost:8000"},
        {"base_url": "file:///etc"},
        {"kind": "both"},
        {"texts_as": "x"},
        {"concurrency": 0},
        {"batch_size": 0},
        {"timeout": 0},
        {"retries": -1},
    ],
)
def test_settings_that_are_not_allowed(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        load_embedder("any", system="endpoint", **settings)


def test_no_torch_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys; import visrag_integrations.embedders.endpoint; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
