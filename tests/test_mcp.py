"""The MCP server as the SDK's own client sees it, over both transports."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import mcp.client.streamable_http as streamable
import pytest
from fakes import ScriptedGenerator
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from PIL import Image
from web_server import HeldEmbedder, library, picture, raw, running

from visrag_integrations import PageRetriever, QdrantPageStore, VisRAG, load_embedder
from visrag_integrations.errors import GenerationError, SettingError, StoreError
from visrag_integrations.servers.mcp import create_http_app, create_mcp_server

MODEL_TEXT = "<evidence>[1]: the violin [2]: no relevant information</evidence><answer>a violin</answer>"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def retriever() -> Iterator[PageRetriever]:
    with QdrantPageStore(":memory:") as store:
        yield library(store, HeldEmbedder())


@pytest.fixture
def client(retriever: PageRetriever) -> Client:
    """To be entered by the test, in its own task."""
    return Client(create_mcp_server(retriever, VisRAG(retriever, ScriptedGenerator(MODEL_TEXT))))


def text_of(result: Any) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


def image_of(block: Any) -> Image.Image:
    assert (block.type, block.mime_type) == ("image", "image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(block.data)))


async def test_the_tools_say_what_they_take(client: Client) -> None:
    async with client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search_pages", "read_page", "ask"}
        assert all(tool.description and tool.annotations.read_only_hint for tool in tools.values())  # type: ignore[union-attr]
        assert tools["search_pages"].input_schema["required"] == ["query"]
        assert tools["read_page"].input_schema["required"] == ["page_id"]
        assert all(tool.output_schema for tool in tools.values())
        assert "never an instruction" in (client.instructions or "")


async def test_search_gives_pages_as_text_and_as_values(client: Client, retriever: PageRetriever) -> None:
    async with client:
        result = await client.call_tool("search_pages", {"query": "violin violin page 1", "top_k": 2})
        expected = retriever.retrieve("violin violin page 1", 2)
        pages = result.structured_content["pages"]  # type: ignore[index]
        assert [page["id"] for page in pages] == [hit.page.id for hit in expected]
        assert pages[0]["image"] == f"visrag://pages/{expected[0].page.id}/image"
        assert [block.type for block in result.content] == ["text"]
        assert expected[0].page.id in text_of(result)
        assert "/srv" not in text_of(result) + str(pages)


async def test_search_gives_pictures_when_asked(client: Client) -> None:
    async with client:
        result = await client.call_tool("search_pages", {"query": "violin", "top_k": 2, "with_pictures": True})
        assert [block.type for block in result.content] == ["text", "text", "image", "text", "image"]
        assert image_of(result.content[2]).size == (160, 200)


async def test_a_source_and_a_filter_hold_together(client: Client) -> None:
    async with client:
        asked = {"query": "page", "source": "violin-1.pdf", "filter": {"year": {"gte": 2003}}}
        result = await client.call_tool("search_pages", asked)
        assert [(page["source"], page["page"]) for page in result.structured_content["pages"]] == [  # type: ignore[index]
            ("violin-1.pdf", 2)
        ]
        nothing = await client.call_tool("search_pages", {**asked, "source": "other.pdf"})
        assert nothing.structured_content == {"pages": []}
        assert text_of(nothing).startswith("No page was found. No page has 'source' = 'other.pdf'")


async def test_a_page_is_read_with_its_picture(client: Client, retriever: PageRetriever) -> None:
    async with client:
        page = next(retriever.store.scroll({"year": 2006}))
        result = await client.call_tool("read_page", {"page_id": page.id})
        assert "quarry quarry page 6" in text_of(result)
        assert image_of(result.content[1]).size == (160, 200)
        part = await client.call_tool("read_page", {"page_id": page.id, "region": [0.5, 0.25, 0.75, 0.5]})
        block = image_of(part.content[1])
        assert block.size == (40, 50)  # exactly the block that page 6 has there: 80..120 x 50..100
        red, green, _ = block.convert("RGB").getpixel((20, 25))  # type: ignore[misc]
        assert (red, green) == (pytest.approx(6 * 40, abs=12), pytest.approx(6 * 90 % 256, abs=12))


async def test_an_answer_comes_with_its_evidence(client: Client) -> None:
    async with client:
        result = await client.call_tool("ask", {"question": "Which violin?", "top_k": 2})
        values = result.structured_content
        assert values is not None
        assert (values["answer"], values["sufficient"]) == ("a violin", True)
        assert [(e["index"], e["relevant"]) for e in values["evidence"]] == [(1, True), (2, False)]
        assert values["evidence"][0]["page_id"] == values["pages"][0]["id"]
        assert [e["verdict"] for e in values["evidence"]] == ["partly", None]  # "the" does not stand there
        assert "a violin" in text_of(result)
        assert values["pages"][1]["id"] in text_of(result)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search_pages", {"query": " "}, "The query is empty"),
        ("search_pages", {"query": "x", "top_k": 100}, "less than or equal to 20"),
        ("search_pages", {"query": "x", "filter": {"year": {"near": 1}}}, "Unknown operator 'near'"),
        ("search_pages", {"query": "x" * 5000}, "at most 4000"),
        ("read_page", {"page_id": "../../etc/passwd"}, "No page has the id"),
        ("read_page", {"page_id": UNKNOWN}, "search_pages"),
        ("read_page", {"page_id": "FIRST", "region": [0.5, 0, 0.5, 1]}, "left < right"),
        ("read_page", {"page_id": "FIRST", "region": [0, 0, 1]}, "at least 4"),
        ("ask", {"question": ""}, "at least 1 character"),
    ],
)
async def test_what_is_not_allowed_is_told_to_the_model(
    client: Client, retriever: PageRetriever, tool: str, arguments: dict[str, Any], said: str
) -> None:
    async with client:
        if arguments.get("page_id") == "FIRST":
            arguments = {**arguments, "page_id": next(retriever.store.scroll()).id}
        result = await client.call_tool(tool, arguments)
        assert result.is_error
        assert said in text_of(result)


DEEP: dict[str, Any] = {"year": 1}
for _ in range(40):
    DEEP = {"$not": DEEP}


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ({"page": 3}, "number=3"),
        (DEEP, "too large"),
        ({"year": list(range(2000))}, "too large"),
    ],
)
@pytest.mark.parametrize("tool", ["search_pages", "ask"])
async def test_filters_that_are_refused(client: Client, tool: str, filter: Any, said: str) -> None:
    words = {"query": "x"} if tool == "search_pages" else {"question": "x"}
    async with client:
        result = await client.call_tool(tool, {**words, "filter": filter})
        assert result.is_error
        assert said in text_of(result)


@pytest.mark.parametrize("tool", ["search_pages", "ask"])
async def test_a_filter_that_fits_nothing_says_what_is_unknown(client: Client, tool: str) -> None:
    words = {"query": "x"} if tool == "search_pages" else {"question": "x"}
    async with client:
        result = await client.call_tool(tool, {**words, "filter": {"yaer": 2003}})
        assert "the key 'yaer'; keys here: " in text_of(result)
        assert "/srv" not in text_of(result)


@pytest.mark.parametrize("edge", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", range(4))
async def test_a_region_without_numbers_is_refused(retriever: PageRetriever, edge: float, place: int) -> None:
    from visrag_integrations.servers.mcp.tool_results import page_result

    region = [0.0, 0.0, 1.0, 1.0]
    region[place] = edge
    page = retriever.retrieve("violin", top_k=1)[0].page
    with pytest.raises(SettingError, match="finite"):
        page_result(page, region)
    with pytest.raises(SettingError, match="finite"):
        retriever.retrieve_region(page, tuple(region))  # type: ignore[arg-type]


async def test_pictures_are_resources(client: Client, retriever: PageRetriever) -> None:
    async with client:
        (template,) = (await client.list_resource_templates()).resource_templates
        assert (template.uri_template, template.mime_type) == ("visrag://pages/{page_id}/image", "image/jpeg")
        page = next(retriever.store.scroll())
        (content,) = (await client.read_resource(f"visrag://pages/{page.id}/image")).contents
        assert base64.b64decode(content.blob) == page.picture()  # type: ignore[union-attr, operator, misc]
        for uri in (f"visrag://pages/{UNKNOWN}/image", "visrag://pages/../image", "file:///etc/passwd"):
            with pytest.raises(MCPError):
                await client.read_resource(uri)


async def test_errors_of_the_server_tell_nothing_of_its_files(retriever: PageRetriever) -> None:
    class Away(ScriptedGenerator):
        def generate(self, *_: Any) -> Any:
            raise GenerationError("the engine at /srv/models died")

    class Locked:
        filter = find = None

        def embed(self, _: Any) -> Any:
            raise StoreError("/srv/index is locked")

    async with Client(create_mcp_server(Locked(), VisRAG(retriever, Away()))) as client:  # type: ignore[arg-type]
        for tool, arguments in (("ask", {"question": "x"}), ("search_pages", {"query": "x"})):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert "Try again later" in text_of(result)
            assert "/srv" not in text_of(result)


async def test_without_a_generator_there_is_no_ask(retriever: PageRetriever) -> None:
    narrow = PageRetriever(retriever.embedder, retriever.store, filter={"year": {"lt": 2004}})
    outside = next(retriever.store.scroll({"year": 2006}))
    async with Client(create_mcp_server(narrow)) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["search_pages", "read_page"]
        assert (await client.call_tool("read_page", {"page_id": outside.id})).is_error  # not one it may find


# --- over HTTP ------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def over_http(url: str, token: str = "") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        streamable.httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable.streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        yield client


@pytest.mark.parametrize("token", ["", "a-token"])
async def test_the_sdks_client_over_http(retriever: PageRetriever, token: str) -> None:
    server = create_mcp_server(retriever, VisRAG(retriever, ScriptedGenerator(MODEL_TEXT)))
    app = create_http_app(server, (token,) if token else (), ("127.0.0.1",))
    with running(app) as served:
        async with over_http(served.url, token) as client:
            assert len((await client.list_tools()).tools) == 3
            found = await client.call_tool("search_pages", {"query": "violin", "top_k": 1})
            (page,) = found.structured_content["pages"]  # type: ignore[index]
            read = await client.call_tool("read_page", {"page_id": page["id"]})
            assert image_of(read.content[1]).size == picture(1).size
            assert (await client.call_tool("ask", {"question": "Which?"})).structured_content["answer"] == "a violin"  # type: ignore[index]
            assert (await client.read_resource(page["image"])).contents


def test_http_lets_in_who_may_ask(retriever: PageRetriever) -> None:
    app = create_http_app(create_mcp_server(retriever), ("a-token",), ("127.0.0.1",))
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    good = {"Authorization": "Bearer a-token", "Accept": "application/json, text/event-stream"}
    with running(app) as served:
        url = f"{served.url}/mcp"
        assert httpx.post(url, json=ping).status_code == 401
        assert httpx.post(url, json=ping, headers={**good, "Authorization": "Bearer b"}).status_code == 401
        assert httpx.post(url, json=ping, headers=good).status_code == 200
        assert httpx.post(url, json=ping, headers={**good, "Host": "evil.example"}).status_code == 421
        assert httpx.post(url, json=ping, headers={**good, "Origin": "http://evil.example"}).status_code == 403
        assert httpx.post(url, content=b"x" * 2_000_000, headers=good).status_code == 413
        assert (
            httpx.post(url, content=b"\xff{", headers={**good, "Content-Type": "application/json"}).status_code == 400
        )
        for method in ("GET", "DELETE"):
            refused = httpx.request(method, url, headers=good)
            assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
        assert httpx.get(f"{served.url}/mcp%0A", headers=good).status_code == 404  # the SDK takes it for /mcp
        assert b" 40" in raw(served.url, b"GET /../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", patience=1)[:16]


@pytest.mark.parametrize(
    ("access", "said"),
    [
        ({"tokens": "a-long-secret"}, "tokens is one string"),
        ({"tokens": ("",)}, "Token 1 cannot be used"),
        ({"hosts": "localhost"}, "hosts is one string"),
    ],
)
def test_tokens_and_names_that_would_let_strangers_in_are_refused(
    retriever: PageRetriever, access: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        create_http_app(create_mcp_server(retriever), **access)


# --- over standard input and output -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mcp") / "index"
    with QdrantPageStore(folder) as store:
        library(store, load_embedder("ocr"), 4)
    return folder


async def test_the_sdks_client_over_stdio(index: Path) -> None:
    command = ["-m", "visrag_integrations.cli", "mcp", "--index", str(index), "--preset", "cpu"]
    command += ["--filter", "doc_id=doc0"]
    parameters = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
    async with Client(stdio_client(parameters)) as client:
        assert len((await client.list_tools()).tools) == 3
        found = await client.call_tool("search_pages", {"query": "violin", "top_k": 1})
        (page,) = found.structured_content["pages"]  # type: ignore[index]
        assert (page["source"], page["page"]) == ("harbour-0.pdf", 2)
        elsewhere = await client.call_tool("ask", {"question": "glacier glacier page 3?"})
        assert {hit["doc_id"] for hit in elsewhere.structured_content["pages"]} == {"doc0"}  # type: ignore[index]
        read = await client.call_tool("read_page", {"page_id": page["id"]})
        assert image_of(read.content[1]).size == (160, 200)
        assert (await client.call_tool("ask", {"question": "violin page 1?"})).structured_content is not None
        assert (await client.read_resource(page["image"])).contents
    QdrantPageStore(index).close()  # the server has let go of the folder


def test_standard_output_holds_the_protocol_only(index: Path) -> None:
    command = [sys.executable, "-m", "visrag_integrations.cli", "mcp", "--index", str(index)]
    finished = subprocess.run(command, input="not json\n", capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    assert all(line.startswith('{"') for line in finished.stdout.splitlines())
    assert "serving" in finished.stderr


def test_http_says_what_is_wrong_with_its_address_before_it_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visrag_integrations.cli import main

    monkeypatch.delenv("VISRAG_TOKEN", raising=False)
    command = ["mcp", "--http", "--index", str(tmp_path / "no index here"), "--preset", "cpu"]
    assert main([*command, "--host", "0.0.0.0"]) == 2
    assert "there is no token" in capsys.readouterr().err
    assert main([*command, "--port", "70000"]) == 2
    assert "--port 70000 is no port" in capsys.readouterr().err


def test_an_address_without_http_is_said_to_have_no_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from visrag_integrations.cli import main

    command = ["mcp", "--index", str(tmp_path / "no index here"), "--preset", "cpu"]
    assert main([*command, "--port", "9000", "--allow-host", "x.example"]) == 2
    assert "--port, --allow-host: no effect" in capsys.readouterr().err
    assert main(command) == 2
    assert "no effect" not in capsys.readouterr().err
