"""Models that only a server has, by name: what is sent, what a collection remembers, and what is said without one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_server import Server, serving, vector_of
from PIL import Image

from visrag_integrations import Page, load_embedder
from visrag_integrations.cli import main
from visrag_integrations.embedders import embedder_names, served
from visrag_integrations.embedders.served import SERVED, server_of
from visrag_integrations.errors import SettingError, UnknownNameError

NAME = "TomoroAI/tomoro-colqwen3-embed-8b"
PAGE = Page.from_image(Image.new("RGB", (9, 4), "blue"), doc_id="d")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.answer = lambda things: {
            "data": [{"index": place, "data": [vector_of(thing)] * 3} for place, thing in enumerate(things)]
        }
        yield running


@pytest.fixture
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "find_spec", lambda name: None)
    monkeypatch.delenv("VISRAG_EMBEDDER_URL", raising=False)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/pooling", "/v1/embeddings"])
def test_pages_are_messages_and_queries_plain_texts(server: Server, path: str) -> None:
    with load_embedder(NAME, url=f"http://127.0.0.1:{server.server_port}{path}", api_key="secret") as embedder:
        assert (embedder.name, embedder.kind) == (NAME, "multi")
        (vectors,) = embedder.embed_pages([PAGE])
        embedder.embed_queries(["how?", "why?"])
        assert embedder.dimension == 4
    assert set(server.paths) == {"/pooling"}
    page, queries = server.asked[:2]
    assert [part["type"] for part in page["messages"][0]["content"]] == ["image_url", "text"]
    assert page["messages"][0]["content"][1]["text"] == "Describe the image."
    assert (queries["input"], queries["model"]) == (["how?", "why?"], NAME)
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert vectors.shape == (3, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(SERVED))
def test_every_name_loads_and_is_known(server: Server, name: str) -> None:
    assert name in embedder_names()
    with load_embedder(name, url=f"http://127.0.0.1:{server.server_port}", dimension=4) as embedder:
        assert embedder.name == name
        assert embedder.embed_queries(["how?"])[0].shape == (3, 4)


def test_settings_win_over_the_table(server: Server) -> None:
    with load_embedder(
        NAME, url=f"http://127.0.0.1:{server.server_port}", page_text="", instruction="Query: ", dimension=4
    ) as embedder:
        embedder.embed_pages([PAGE])
        embedder.embed_queries(["how?"])
    assert [part["type"] for part in server.asked[0]["messages"][0]["content"]] == ["image_url"]
    assert server.asked[1]["input"] == ["Query: how?"]


def test_another_name_behind_a_url_is_remembered_as_one_that_needs_it(server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    with load_embedder("my/model", url=url, kind="multi") as embedder:
        assert (embedder.name, embedder.kind) == ("endpoint:my/model", "multi")
        embedder.embed_pages([PAGE])
    with load_embedder("endpoint:my/model", url=url, kind="multi") as embedder:
        assert embedder.name == "endpoint:my/model"
        embedder.embed_pages([PAGE])
    assert [body["model"] for body in server.asked] == ["my/model"] * 2
    assert set(server.paths) == {"/pooling"}
    with load_embedder("my/model", system="endpoint", base_url=f"{url}/v1", kind="multi") as embedder:
        embedder.embed_pages([PAGE])
    assert server.asked.pop()["model"] == "my/model"
    server.answer = lambda things: {"data": [{"index": 0, "embedding": vector_of(things[0])}]}
    with load_embedder("Qwen/Qwen3-VL-Embedding-2B", url=url) as embedder:
        assert embedder.embed_pages([PAGE])[0].shape == (4,)
    assert server.paths[-1] == "/v1/embeddings"


@pytest.mark.usefixtures("without_vllm")
def test_without_a_server_it_is_said_what_to_type(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said = rf"{NAME} is read by vLLM alone.*vllm serve {NAME} --runner pooling.*--embedder-url.*\[vllm\]"
    with pytest.raises(UnknownNameError, match=said):
        load_embedder(NAME)
    monkeypatch.setenv("VISRAG_EMBEDDER_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("VISRAG_EMBEDDER_API_KEY", "secret")
    with load_embedder(NAME, shared=True) as embedder:
        assert embedder.embed_queries(["how?"])[0].shape == (3, 4)
    assert server.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.usefixtures("without_vllm")
@pytest.mark.parametrize("architecture", ["ColQwen3", "ColQwen3_5", "OpsColQwen3Model", "Qwen3VLNemotronEmbedModel"])
def test_a_folder_of_such_a_model_says_the_same(tmp_path: Path, architecture: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    with pytest.raises(UnknownNameError, match=rf"is a {architecture}, which vLLM alone reads.*backend=\"vllm\""):
        load_embedder(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"url": "localhost:8000"}, "give an address"),
        ({"url": "file:///etc"}, "give an address"),
        ({"url": "http://h:port"}, "give an address"),
        ({"url": "http://h", "backend": "vllm"}, "leave backend= and system= out"),
        ({"url": "http://h", "system": "colpali"}, "leave backend= and system= out"),
        ({"backend": "onnx"}, "backend is 'onnx'"),
        ({"backend": "vllm", "system": "colpali"}, "leave system='colpali' out"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        load_embedder("a/b", **arguments)


@pytest.mark.parametrize("arguments", [{"url": "http://h"}, {"backend": "vllm"}])
def test_the_ocr_embedder_has_no_server(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="'ocr' works in this process"):
        load_embedder("ocr", **arguments)


def test_addresses_keep_the_path_of_a_gateway() -> None:
    assert server_of("https://gateway/models/vllm/v1/") == "https://gateway/models/vllm"


def test_the_command_line_indexes_and_searches_through_a_server(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    for number, colour in enumerate(["red", "blue"]):
        Image.new("RGB", (60, 80), colour).save(tmp_path / f"{number}.png")
    index = str(tmp_path / "index")
    monkeypatch.setenv("VISRAG_EMBEDDER_API_KEY", "secret")
    arguments = ["index", str(tmp_path), "--index", index, "--ocr", "never", "--embedder", NAME, "--embedder-url", url]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 2
    asked = ["search", "how?", "--index", index, "--json", "--mode", "dense"]
    assert main([*asked, "--embedder-url", url]) == 0
    found = json.loads(capsys.readouterr().out)["pages"]
    assert len(found) == 2
    monkeypatch.setenv("VISRAG_EMBEDDER_URL", url)
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["pages"] == found
    monkeypatch.delenv("VISRAG_EMBEDDER_URL")
    monkeypatch.setattr(served, "find_spec", lambda name: None)
    assert main(asked) == 2
    assert "--embedder-url" in capsys.readouterr().err
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}


def test_a_collection_of_any_served_model_is_opened_with_its_kind(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from visrag_integrations import QdrantPageStore

    url = f"http://127.0.0.1:{server.server_port}"
    with load_embedder("my/model", url=url, kind="multi") as embedder, QdrantPageStore(tmp_path / "index") as store:
        store.prepare(embedder)
        store.add_pages([PAGE], embedder.embed_pages([PAGE]))
    asked = ["search", "how?", "--index", str(tmp_path / "index"), "--json", "--mode", "dense"]
    assert main([*asked, "--embedder-url", url]) == 0
    assert len(json.loads(capsys.readouterr().out)["pages"]) == 1


def test_without_vllm_its_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(vllm=None); from visrag_integrations import load_embedder\n"
        "from visrag_integrations.errors import MissingExtraError\n"
        "try: load_embedder('x/y', backend='vllm')\n"
        "except MissingExtraError as err: print(err)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert 'pip install "visrag-integrations[vllm]"' in run.stdout
