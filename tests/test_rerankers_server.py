"""CrossEncoderReranker on a server: what is sent, answers in every wrong shape, failures, and nothing in silence."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from typing import Any

import pytest
from PIL import Image
from rerank_server import RerankServer, score_of, serving

from visrag_integrations import Page, Query, ScoredPage
from visrag_integrations.embedders import http_retries
from visrag_integrations.errors import EndpointError, RerankerEndpointError, RerankerError, SettingError
from visrag_integrations.rerankers import CrossEncoderReranker
from visrag_integrations.rerankers.answers import read_scores

TEXTS = ["many apples", "pears, Grüße 世界", "a text of some more words", "hm"]
Make = Callable[..., CrossEncoderReranker]


@pytest.fixture
def server() -> Iterator[RerankServer]:
    with serving() as running:
        yield running


@pytest.fixture
def make(server: RerankServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(http_retries, "FIRST_WAIT", 0.01)
    made: list[CrossEncoderReranker] = []

    def build(path: str = "", **settings: Any) -> CrossEncoderReranker:
        made.append(CrossEncoderReranker("the/model", url=server.url + path, **settings))
        return made[-1]

    yield build
    for reranker in made:
        reranker.close()


def hits(texts: list[str] = TEXTS) -> list[ScoredPage]:
    found = []
    for number, text in enumerate(texts, 1):
        picture = Image.new("RGB", (30 + 9 * number, 90), "red")
        found.append(ScoredPage(Page("d", number, text, picture=picture), 1 / number))
    return found


def expected(query: str = "how many?") -> list[tuple[int, float]]:
    scores = [(number, score_of(query, text)) for number, text in enumerate(TEXTS, 1)]
    return sorted(scores, key=lambda one: -one[1])


def numbers(scored: list[ScoredPage]) -> list[tuple[int, float]]:
    return [(hit.page.number, hit.score) for hit in scored]


@pytest.mark.parametrize("path", ["", "/", "/rerank", "/v1", "/v1/rerank", "/v2/rerank/"])
def test_texts_are_sent_as_jina_cohere_and_vllm_take_them(server: RerankServer, make: Make, path: str) -> None:
    scored = make(path, api_key="secret").rerank("how many?", hits())
    assert numbers(scored) == expected()
    assert server.asked == [{"model": "the/model", "query": "how many?", "documents": TEXTS, "top_n": 4}]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert server.paths[0].endswith("/rerank")


def test_a_url_alone_is_enough(server: RerankServer) -> None:
    with CrossEncoderReranker(server.url) as reranker:
        assert numbers(reranker.rerank("how many?", hits(), 2)) == expected()[:2]
        assert reranker.name == f"{server.url}/rerank"
    assert "model" not in server.asked[0]


def test_the_score_path_sends_pairs(server: RerankServer, make: Make) -> None:
    assert numbers(make("/score").rerank("how many?", hits())) == expected()
    assert server.asked == [{"model": "the/model", "queries": "how many?", "documents": TEXTS}]


def test_text_embeddings_inference_has_texts(server: RerankServer, make: Make) -> None:
    server.script = [lambda entries: [{"index": one["index"], "score": one["relevance_score"]} for one in entries]]
    assert numbers(make(api="tei").rerank("how many?", hits())) == expected()
    assert server.asked == [{"model": "the/model", "query": "how many?", "texts": TEXTS}]


@pytest.mark.parametrize("reads", ["image", "both"])
def test_pictures_are_sent_as_vllm_takes_them(server: RerankServer, make: Make, reads: Any) -> None:
    make(reads=reads, page_text="Describe the image.").rerank(Query("this", Image.new("RGB", (8, 9), "blue")), hits())
    (body,) = server.asked
    kinds = [[part["type"] for part in page["content"]] for page in body["documents"]]
    assert kinds == [["image_url", "text"]] * 4
    texts = [page["content"][1]["text"] for page in body["documents"]]
    assert texts == (["Describe the image."] * 4 if reads == "image" else TEXTS)
    for page, hit in zip(body["documents"], hits(), strict=True):
        head, _, data = page["content"][0]["image_url"]["url"].partition(",")
        assert head == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == hit.page.open_image().tobytes()
    assert [part["type"] for part in body["query"]["content"]] == ["image_url", "text"]


def test_pictures_are_sent_as_jina_takes_them(server: RerankServer, make: Make) -> None:
    make(api="jina", reads="image").rerank("how?", hits())
    (body,) = server.asked
    assert [list(page) for page in body["documents"]] == [["image"]] * 4
    assert body["documents"][0]["image"].startswith("data:image/png;base64,")
    assert body["return_documents"] is False
    with pytest.raises(SettingError, match="text or a picture"):
        make(api="jina", reads="both").rerank("how?", hits())


@pytest.mark.parametrize("api", ["cohere", "tei"])
def test_interfaces_without_pictures_say_so(make: Make, api: str) -> None:
    with pytest.raises(SettingError, match="reads text"):
        make(api=api, reads="image")


@pytest.mark.parametrize(
    ("name", "reads"),
    [("jinaai/jina-reranker-m0", "image"), ("Qwen/Qwen3-VL-Reranker-2B", "image"), ("BAAI/bge-reranker-v2-m3", "text")],
)
def test_known_names_read_what_they_were_made_for(server: RerankServer, name: str, reads: str) -> None:
    with CrossEncoderReranker(name, url=server.url) as reranker:
        assert reranker.reads == reads


def test_many_pages_go_in_several_requests_and_come_back_in_order(server: RerankServer, make: Make) -> None:
    texts = [f"{number} apples" for number in range(23)]
    scored = make(batch_size=4, concurrency=3).rerank("1 2 3", hits(texts))
    assert sorted(len(body["documents"]) for body in server.asked) == [3, 4, 4, 4, 4, 4]
    scores = {number: score_of("1 2 3", text) for number, text in enumerate(texts, 1)}
    assert numbers(scored) == sorted(scores.items(), key=lambda one: -one[1])


def test_long_texts_are_cut_and_that_is_said_once(server: RerankServer, make: Make) -> None:
    notes: list[str] = []
    reranker = make(on_note=notes.append)
    for _ in range(2):
        reranker.rerank("how?", hits(["x" * 9000, "short"]))
    assert [len(text) for text in server.asked[0]["documents"]] == [8000, 5]
    assert notes == [
        "1 of 2 page texts are longer than the reranker the/model is given (8000 characters); their ends were not read"
    ]


def test_without_a_listener_the_log_is_told(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make(max_chars=3).rerank("how?", hits())
    assert "3 of 4 page texts are longer" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entries: entries[:2], r"gave 2 scores for 4 pages; without one, counted from 0: \d"),
        (lambda entries: [], r"gave 0 scores for 4 pages"),
        (lambda entries: [*entries, entries[0]], r"two scores for page \d"),
        (lambda entries: [{**one, "index": one["index"] + 1} for one in entries], r"page 4; 4 were sent"),
        (lambda entries: [{**one, "index": -1} for one in entries], r"page -1; 4 were sent"),
        (lambda entries: [{"relevance_score": 1.0}] * 4, r"without the number of its page"),
        (lambda entries: [{**one, "index": str(one["index"])} for one in entries], r"without the number of its page"),
        (lambda entries: [{**one, "relevance_score": float("nan")} for one in entries], r"the score nan, which is no"),
        (lambda entries: [{**one, "relevance_score": float("inf")} for one in entries], r"the score inf, which is no"),
        (lambda entries: [{**one, "relevance_score": None} for one in entries], r"the score None, which is no finite"),
        (lambda entries: [{**one, "relevance_score": "0.4"} for one in entries], r"the score '0\.4', which is no"),
        (lambda entries: [{**one, "relevance_score": True} for one in entries], r"the score True, which is no finite"),
        (lambda entries: ["a", "b", "c", "d"], r"something else than scores: 'a'"),
        (lambda entries: {"error": "no"}, r"answered without scores.*Is it the address of a reranker"),
        (lambda entries: None, r"answered without scores"),
    ],
)
def test_wrong_answers_are_errors_and_never_the_old_order(
    server: RerankServer, make: Make, change: Callable[[Any], Any], said: str
) -> None:
    server.script = [change]
    with pytest.raises(RerankerError, match=said):
        make().rerank("how many?", hits())


@pytest.mark.parametrize("answer", [b"[]", b"null", b"3", b'"hello"', b'{"results": 3}', b'{"data": {}}'])
def test_json_of_something_else_is_an_error(server: RerankServer, make: Make, answer: bytes) -> None:
    server.script = [answer]
    with pytest.raises(RerankerError, match=r"without scores|0 scores for 4"):
        make().rerank("how many?", hits())


def test_html_is_shown_as_what_it_is(server: RerankServer, make: Make) -> None:
    server.script = [b"<html><body>Welcome</body></html>"]
    with pytest.raises(RerankerEndpointError, match=r"did not answer with JSON: '<html>"):
        make().rerank("how many?", hits())


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["0", "Fri, 01 Jan 2021 00:00:00 GMT", "soon", ""])
def test_a_busy_server_is_asked_again(server: RerankServer, make: Make, status: int, after: str) -> None:
    server.script = [(status, {"Retry-After": after}), (status, {})]
    assert numbers(make().rerank("how many?", hits())) == expected()
    assert len(server.asked) == 3


def test_retry_after_is_waited_for(server: RerankServer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    waited: list[float] = []
    monkeypatch.setattr(http_retries.time, "sleep", waited.append)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=20)
    server.script = [(429, {"Retry-After": "7"}), (503, {"Retry-After": format_datetime(soon, usegmt=True)})]
    make().rerank("how many?", hits())
    assert waited[0] == 7
    assert 0 <= waited[1] <= 20


def test_a_server_that_stays_busy_is_an_error_that_says_what_to_do(server: RerankServer, make: Make) -> None:
    server.script = [(503, {})] * 9
    with pytest.raises(EndpointError, match=r"/rerank did not answer after 3 tries.*503.*Nothing was reranked"):
        make(retries=2).rerank("how many?", hits())
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "VISRAG_RERANK_API_KEY"), (403, "api_key="), (404, "Is the path right"), (400, "max_chars="),
     (422, "max_chars="), (308, "another address"), (418, "status 418")],
)  # fmt: skip
def test_refusals_are_not_repeated_and_say_what_to_do(server: RerankServer, make: Make, status: int, said: str) -> None:
    server.script = [(status, {})]
    with pytest.raises(RerankerEndpointError, match=said):
        make().rerank("how many?", hits())
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("user", "key"), [("", "sk-secret"), ("user:sk-secret@", None), ("sk-secret@", None), ("user:sk%2Dsecret@", None)]
)
def test_keys_are_never_shown_even_where_the_server_repeats_them(
    server: RerankServer, user: str, key: str | None
) -> None:
    url = server.url.replace("http://", f"http://{user}") + "/rerank?key=hidden"
    with CrossEncoderReranker("m", url=url, api_key=key, retries=0) as reranker:
        for status in (401, 200, 503):
            server.script = []
            reranker.rerank("how?", hits())
            sent = server.headers[-1]["Authorization"].split()[1]
            server.script = [(status, {}, f"Incorrect key {sent}, sk-secret".encode())]
            with pytest.raises(EndpointError) as refused:
                reranker.rerank("how?", hits())
            for secret in ("sk-secret", "hidden", sent):
                assert secret not in str(refused.value)
                assert secret not in repr(reranker.__dict__)
            assert ("Incorrect key ***" in str(refused.value)) == (status != 503)


def test_a_key_and_a_password_are_too_much(server: RerankServer) -> None:
    with pytest.raises(SettingError, match="user and password in the URL, and an api_key"):
        CrossEncoderReranker("m", url=server.url.replace("http://", "http://user:word@"), api_key="key")


def test_a_server_that_is_not_there_is_named() -> None:
    with (
        CrossEncoderReranker("http://127.0.0.1:9", retries=0) as reranker,
        pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9/rerank.*ConnectError.*Is the server running"),
    ):
        reranker.rerank("how?", hits())


def test_async_does_not_block_and_a_closed_one_says_so(server: RerankServer, make: Make) -> None:
    reranker = make()
    assert numbers(asyncio.run(reranker.arerank("how many?", hits()))) == expected()
    reranker.close()
    with pytest.raises(RerankerError, match="was closed"):
        reranker.rerank("how many?", hits())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "ftp://host/rerank"}, "is no address"),
        ({"model": "http://"}, "is no address"),
        ({"model": "http://host:port"}, "is no address"),
        ({"model": "http://a", "url": "http://b"}, "Both model and url"),
        ({"model": 3, "url": "http://b"}, "model is a int"),
        ({"model": "m", "url": "http://b", "api": "bing"}, "api is 'bing'"),
        ({"model": "m", "url": "http://b", "concurrency": 0}, "concurrency is 0"),
        ({"model": "m", "url": "http://b", "timeout": 0}, "timeout is 0"),
        ({"model": "m", "url": "http://b", "device": "cuda"}, "for a model in this process"),
        ({"model": "m", "url": "http://b", "retires": 1}, "did you mean 'retries'"),
    ],
)
def test_settings_that_are_not_allowed(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        CrossEncoderReranker(**arguments)


def test_hosts_with_an_interface_of_their_own() -> None:
    for url, api in (
        ("https://api.jina.ai/v1", "jina"),
        ("https://api.cohere.com/v2", "cohere"),
        ("http://gpu", "vllm"),
    ):
        with CrossEncoderReranker("m", url=url) as reranker:
            assert reranker._scorer._api == api


def test_answers_are_read_from_all_four_shapes() -> None:
    entries = [{"index": 1, "score": 2}, {"index": 0, "score": 1}]
    for answer in ({"results": entries}, {"data": entries}, entries):
        assert read_scores(answer, 2, "it") == [1.0, 2.0]
    assert read_scores({"results": []}, 0, "it") == []


def test_no_torch_is_needed() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from visrag_integrations.rerankers import CrossEncoderReranker; "
        "CrossEncoderReranker('http://localhost:1').close(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
