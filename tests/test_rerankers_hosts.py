"""The cross-encoder reranker inside LangChain and LlamaIndex, and on the command line, against a scripted server."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rerank_server import RerankServer, score_of, serving

from visrag_integrations import Page, QdrantPageStore, load_embedder
from visrag_integrations.cli import main
from visrag_integrations.errors import EndpointError, SettingError
from visrag_integrations.rerankers import CrossEncoderReranker

TEXTS = ["many apples", "pears and cherries", "a text of some more words", "hm"]


@pytest.fixture
def server() -> Iterator[RerankServer]:
    with serving() as running:
        yield running


def best(query: str) -> list[str]:
    return sorted(TEXTS, key=lambda text: -score_of(query, text))


def test_langchain_documents_are_compressed(server: RerankServer) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.documents import Document

    from visrag_integrations.langchain import VisRAGCrossEncoderReranker

    documents = [Document(text, metadata={"n": number}) for number, text in enumerate(TEXTS)]
    compressor = VisRAGCrossEncoderReranker(model="m", url=server.url, api_key="secret", top_n=2)
    assert "secret" not in repr(compressor)
    found = compressor.compress_documents(documents, "how many?")
    assert [document.page_content for document in found] == best("how many?")[:2]
    assert found[0].metadata["relevance_score"] == score_of("how many?", found[0].page_content)
    assert all("relevance_score" not in document.metadata for document in documents)
    assert asyncio.run(compressor.acompress_documents(documents, "how many?")) == found
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert compressor.compress_documents([], "how many?") == []
    strict = VisRAGCrossEncoderReranker(model=server.url, top_n=None, min_score=found[1].metadata["relevance_score"])
    assert strict.compress_documents(documents, "how many?") == found
    same = [Document("pears", id="7"), Document("pears", id="7")]
    assert len(strict.model_copy(update={"min_score": None}).compress_documents(same, "how?")) == 2
    server.script = [(503, {})] * 4
    broken = VisRAGCrossEncoderReranker(model=server.url, settings={"retries": 0})
    with pytest.raises(EndpointError):
        broken.compress_documents(documents, "how many?")
    for wrong in ({"top_k": 3}, {"device": "cpu"}, {"embedder": "x"}):
        with pytest.raises(ValueError, match=r"top_n|settings|VisRAGReranker"):
            VisRAGCrossEncoderReranker(model="m", **wrong)
    copied = pickle.loads(pickle.dumps(compressor))
    assert copied == compressor
    assert copied.compress_documents(documents, "how many?") == found
    for each in (compressor, strict, broken, copied):
        each.close()
    assert compressor.compress_documents(documents, "how many?") == found  # loaded again
    compressor.close()


def test_llamaindex_nodes_are_postprocessed(server: RerankServer) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import NodeWithScore, TextNode

    from visrag_integrations.llamaindex import VisRAGCrossEncoderRerank

    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    rerank = VisRAGCrossEncoderRerank("m", url=server.url, top_n=2)
    found = rerank.postprocess_nodes(nodes, query_str="how many?")
    assert [one.node.get_content() for one in found] == best("how many?")[:2]
    assert found[0].score == score_of("how many?", best("how many?")[0])
    assert [one.score for one in nodes] == [0.5] * 4
    again = asyncio.run(rerank.apostprocess_nodes(nodes, query_str="how many?"))
    assert [one.node.node_id for one in again] == [one.node.node_id for one in found]
    assert rerank.postprocess_nodes([], query_str="how many?") == []
    copied = pickle.loads(pickle.dumps(rerank))
    assert [one.score for one in copied.postprocess_nodes(nodes, query_str="how many?")] == [one.score for one in found]
    copied.close()
    with CrossEncoderReranker(server.url) as given:
        shared = VisRAGCrossEncoderRerank(given, top_n=1)
        shared.close()  # what was given stays open
        assert len(shared.postprocess_nodes(nodes, query_str="how many?")) == 1
        with pytest.raises(SettingError, match="has its own settings"):
            VisRAGCrossEncoderRerank(given, min_score=1.0)
    with pytest.raises(SettingError, match="top_n"):
        VisRAGCrossEncoderRerank("m", top_k=3)
    with pytest.raises(SettingError, match="query_str"):
        rerank.postprocess_nodes(nodes)
    rerank.close()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    embedder = load_embedder("ocr")
    pages = [Page("d", number, text, source="d.pdf") for number, text in enumerate(TEXTS, 1)]
    with QdrantPageStore(folder) as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_search_reranks(
    server: RerankServer, index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISRAG_RERANK_API_KEY", "secret")
    asked = ("search", "how many?", "--index", index, "-k", 2, "--json")
    code, out, _ = run(capsys, *asked, "--rerank", "m", "--rerank-url", server.url, "--candidates", 4)
    assert code == 0
    pages = json.loads(out)["pages"]
    assert [TEXTS[page["page"] - 1] for page in pages] == best("how many?")[:2]
    assert [page["score"] for page in pages] == [score_of("how many?", text) for text in best("how many?")[:2]]
    assert server.asked[0]["model"] == "m"
    assert server.headers[0]["Authorization"] == "Bearer secret"
    code, out, err = run(capsys, *asked, "--rerank", server.url, "--min-score", 2)
    assert (code, json.loads(out)["pages"]) == (0, [])
    assert "scored none of the 4 pages 2.0 or higher" in err
    server.script = [(401, {})]
    code, out, err = run(capsys, *asked, "--rerank", server.url)
    assert (code, out) == (2, "")
    assert "VISRAG_RERANK_API_KEY" in err
    assert "secret" not in err


@pytest.mark.parametrize("option", ["--rerank-url=http://a", "--rerank-reads=text", "--min-score=1", "--candidates=3"])
def test_options_of_a_reranker_need_one(index: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    code, _, err = run(capsys, "search", "how?", "--index", index, option)
    assert code == 2
    assert f"{option.partition('=')[0]} is for a reranker, and none is named. Say --rerank" in err


def test_ask_and_eval_rerank(
    server: RerankServer, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--index", index, "--rerank", server.url)
    code, out, _ = run(capsys, "ask", "how many?", "--preset", "cpu", "-k", 2, "--json", *common)
    assert code == 0
    assert [TEXTS[page["page"] - 1] for page in json.loads(out)["pages"]] == best("how many?")[:2]
    questions = tmp_path / "questions.jsonl"
    wanted = TEXTS.index(best("how many?")[0]) + 1
    questions.write_text(json.dumps({"query": "how many?", "source": "d.pdf", "page": wanted}) + "\n")
    code, out, err = run(
        capsys, "eval", "retrieval", questions, "--json", "--quiet", "--metrics", "mrr@10",
        "--record", tmp_path / "record", *common,
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["metrics"]["mrr@10"] == 1.0
    assert f"{server.url}/rerank, reads=text, candidates=50" in (tmp_path / "record").read_text()


@pytest.mark.parametrize("command", ["search", "ask", "serve", "mcp", "demo", "eval retrieval", "eval answers"])
def test_every_command_that_searches_has_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert "--rerank NAME|FOLDER|URL" in capsys.readouterr().out


def test_a_served_index_reranks(server: RerankServer, index: Path) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from visrag_integrations.servers.http import create_app
    from visrag_integrations.servers.web.following import FollowingRetriever

    with QdrantPageStore(index) as store, CrossEncoderReranker(server.url, retries=0) as reranker:
        retriever = FollowingRetriever(load_embedder("ocr"), store, load=load_embedder, reranker=reranker)
        with TestClient(create_app(retriever), base_url="http://127.0.0.1:8000") as client:
            answer = client.post("/search", json={"text": "how many?", "top_k": 2})
            assert answer.status_code == 200, answer.text
            assert [TEXTS[hit["page"] - 1] for hit in answer.json()["pages"]] == best("how many?")[:2]
            assert answer.json()["pages"][0]["score_type"] == "rerank"
            server.script = [(500, {})]
            answer = client.post("/search", json={"text": "how many?", "top_k": 2})
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "reranker_unavailable")
            assert server.url not in answer.text
            server.script = [lambda entries: []]
            assert client.post("/search", json={"text": "how?"}).status_code == 502


def test_a_demo_reranks(server: RerankServer, index: Path) -> None:
    from visrag_integrations import load_generator
    from visrag_integrations.servers.demo.knowledge_base import Models

    with QdrantPageStore(index) as store, CrossEncoderReranker(server.url) as reranker:
        models = Models(load_embedder("ocr"), load_generator("extractive"), searching={"reranker": reranker})
        answer = models.rag(store).ask("how many?", top_k=2)
    assert [hit.page.text for hit in answer.pages] == best("how many?")[:2]
