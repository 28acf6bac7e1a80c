"""Keys, names of arguments, schemas, files in messages, follow-up questions: what users of other chat models expect."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image
from pydantic import BaseModel, ConfigDict, SecretStr
from scripted_server import serving

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.evisrag import build_prompt
from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.langchain import ChatEVisRAG
from visrag_integrations.langchain.messages import page_to_block
from visrag_integrations.types import Conversation, Generation, GenerationSettings

PAGES = [Page("d1", n, f"page {n}", "sales.pdf", picture=Image.new("RGB", (4, 4), "red")) for n in (7, 8)]
QUESTION = [HumanMessage([{"type": "text", "text": "How many?"}, *(page_to_block(page) for page in PAGES)])]


class Total(BaseModel):
    """What a report says."""

    units: int


class Echo:
    """Writes back the last turn's text; keeps what it was asked, and how."""

    name = "echo"

    def __init__(self) -> None:
        self.conversations: list[Conversation] = []
        self.settings: list[GenerationSettings | None] = []

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        self.conversations += conversations
        self.settings.append(settings)
        return [Generation(conversation[-1].text, finish_reason="stop") for conversation in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        yield from self.generate([conversation], settings)


KEY = "sk-very-secret"


def test_no_key_is_written_down() -> None:
    for model in (
        ChatEVisRAG("http://localhost:1/v1", api_key=KEY),
        ChatEVisRAG(base_url="http://localhost:1/v1", api_key=SecretStr(KEY)),
        ChatEVisRAG("http://localhost:1/v1", model_kwargs={"api_key": KEY, "kind": "other"}),
    ):
        assert model.api_key is not None
        assert model.api_key.get_secret_value() == KEY
        traced = [model._get_ls_params(), model._get_llm_string(), model._get_invocation_params()]
        written = [
            repr(model),
            str(model),
            dumps(model),
            model.model_dump(),
            model.to_json(),
            model._identifying_params,
        ]
        assert KEY not in repr([*traced, *written])
        assert KEY not in repr(model.with_retry()) + repr(model.bind(stop=["x"]))
    with pytest.raises(SettingError, match="field of the model"):
        model.invoke("Hello", api_key=KEY)


def test_a_server_by_its_url_its_key_and_one_of_its_models() -> None:
    with serving() as (url, seen):
        model = ChatEVisRAG("another-model", base_url=url, api_key=KEY, timeout=9, max_retries=1)
        assert model.invoke("Hello").response_metadata["model_name"]
        assert seen[-1]["model"] == "another-model"
        model.close()
        first = ChatEVisRAG(base_url=url, api_key=KEY)
        first.invoke("Hello")
        assert seen[-1]["model"] != "another-model"
        first.close()
    with pytest.raises(SettingError, match="two servers"):
        ChatEVisRAG("http://a/v1", base_url="http://b/v1")
    with pytest.raises(SettingError, match="Give one"):
        ChatEVisRAG(generator=Echo(), base_url="http://b/v1")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("temprature", "did you mean 'temperature'"),
        ("max_token", "did you mean 'max_tokens'"),
        ("openai_api_key", "the key is api_key"),
        ("openai_api_base", "base_url"),
        ("model_name", "the model is model"),
        ("something", "There are: api_key, base_url"),
    ],
)
def test_unknown_fields_are_refused_with_the_nearest(field: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        ChatEVisRAG("extractive", **{field: 1})


def test_unknown_fields_of_the_other_classes_too() -> None:
    from visrag_integrations.langchain import EvidenceOutputParser, VisRAGReranker, VisRAGRetriever, VisRAGVectorStore

    retriever = type("Mine", (), {"retrieve": lambda self, query, top_k=5: []})()
    for made, words in (
        (lambda: VisRAGRetriever(retriever=retriever, top_k=3), "so many pages are k"),
        (lambda: VisRAGRetriever(retriever=retriever, filters={}), "did you mean 'filter'"),
        (lambda: VisRAGReranker(embedder="ocr", topn=3), "did you mean 'top_n'"),
        (lambda: EvidenceOutputParser(page=[]), "did you mean 'pages'"),
        (lambda: VisRAGVectorStore.from_texts(["a"], "ocr", colection_name="x"), "did you mean 'collection_name'"),
        (lambda: VisRAGVectorStore.from_texts(["a"], "ocr", path="a", url="http://b"), "mean the same"),
        (lambda: VisRAGVectorStore.from_texts(["a"], "ocr", retrieval_mode="hybrid"), "each search has mode="),
    ):
        with pytest.raises(ValueError, match=words):  # pydantic puts its own error around ours
            made()
    store = VisRAGVectorStore.from_texts([], "ocr")
    for call, words in (
        (lambda: store.similarity_search("a", filters={}), "did you mean 'filter'"),
        (lambda: store.similarity_search_with_score("a", scorethreshold=1), "did you mean 'score_threshold'"),
        (lambda: store.add_texts(["a"], batchsize=3), "did you mean 'batch_size'"),
        (lambda: store.delete(filters={"a": 1}), "did you mean 'filter'"),
    ):
        with pytest.raises(SettingError, match=words):
            call()
    with pytest.raises(SettingError, match=r"'colection'; did you mean 'collection'\?, nor 'storge'"):
        QdrantPageStore("nowhere", colection="typo", storge="8bit")
    with pytest.raises(SettingError, match="the place is location="):
        QdrantPageStore(":memory:", path="x")
    assert not Path("nowhere").exists()


class Loose(BaseModel):
    """Some of it may be left out."""

    units: int
    where: str | None = None
    extra: dict[str, str] = {}


class Exact(BaseModel):
    """All of it must be there, and nothing else."""

    model_config = ConfigDict(extra="forbid")
    units: int
    parts: list[Total]


def test_a_schema_goes_strictly_only_where_strict_mode_takes_it() -> None:
    listed = {"type": "array", "items": {"type": "object", "properties": {}, "additionalProperties": False}}
    closed: dict[str, Any] = {"title": "C", "type": "object", "properties": {"a": listed}, "required": ["a"]}
    closed["additionalProperties"] = False
    with serving() as (url, seen), contextlib.closing(OpenAIGenerator(url)) as generator:
        model = ChatEVisRAG(generator=generator)
        cases: list[tuple[Any, dict[str, Any], bool]] = [
            (Loose, {}, False),
            (Exact, {}, False),  # its parts may have more than they name
            (Total, {}, False),
            (closed, {}, True),
            (closed, {"strict": False}, False),
            (Total, {"strict": True}, True),
            ({**closed, "required": []}, {}, False),
            ({**closed, "properties": {"a": {**listed, "uniqueItems": True}}}, {}, False),
        ]
        for schema, settings, strict in cases:
            model.with_structured_output(schema, include_raw=True, **settings).invoke("a")
            assert seen[-1]["response_format"]["json_schema"]["strict"] is strict, (schema, settings)
        model.with_structured_output(Total, strict=True).invoke("a")
        sent = seen[-1]["response_format"]["json_schema"]["schema"]
        assert sent == {**Total.model_json_schema(), "additionalProperties": False}
        model.with_structured_output(Total, method="function_calling", strict=True).invoke("a")
        assert seen[-1]["tools"][0]["function"]["strict"] is True


def test_a_pdf_in_a_message_is_read(tmp_path: Path) -> None:
    data = draw_pdf(tmp_path / "a.pdf", ["one", "two"]).read_bytes()
    encoded = base64.b64encode(data).decode()
    url = f"data:application/pdf;base64,{encoded}"
    blocks: list[dict[str, Any]] = [
        {"type": "file", "base64": encoded, "mime_type": "application/pdf"},
        {"type": "file", "source_type": "base64", "data": encoded, "mime_type": "application/pdf"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": url}},
        {"type": "input_file", "filename": "a.pdf", "file_data": url},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": encoded}},
        {"type": "file", "url": url, "mime_type": "application/pdf"},
    ]
    for block in blocks:
        engine = Echo()
        ChatEVisRAG(generator=engine).invoke([HumanMessage([{"type": "text", "text": "What?"}, block])])
        (turn,) = engine.conversations[-1]
        assert [page.number for page in turn.pages] == [1, 2]
        assert turn.pages[1].open_image().width > 10
    for block, words in (
        ({"type": "file", "file_id": "f-1"}, "'f-1', which only its provider knows"),
        ({"type": "file", "url": "file:///etc/passwd"}, "http and https are read"),
        ({"type": "file", "base64": "aGVsbG8=", "mime_type": "text/csv"}, "text/csv; PDF files are read"),
    ):
        with pytest.raises(SettingError, match=words):
            ChatEVisRAG(generator=Echo()).invoke([HumanMessage([block])])


def test_a_follow_up_without_pictures_gets_an_ordinary_answer() -> None:
    engine = Echo()
    model = ChatEVisRAG(generator=engine, guided=True)
    history = [*QUESTION, AIMessage("12 units"), HumanMessage("And in which town?")]
    for said in (model.invoke(history), sum(list(model.stream(history))[1:], next(model.stream(history)))):
        assert isinstance(said.content, str)
        assert not said.additional_kwargs.get("evisrag")
    first, _, last = engine.conversations[-1]
    # The model sees its first question as it was put to it then, and the second one as it is.
    assert first.text == build_prompt("How many?")
    assert last.text == "And in which town?"
    assert engine.settings[-1].guided is False  # type: ignore[union-attr]
    model.invoke([*history, AIMessage("Paris"), *QUESTION])
    assert engine.conversations[-1][-1].text == build_prompt("How many?")


async def test_streaming_without_threads_of_langchain() -> None:
    """A generator that streams from the event loop is asked there."""

    class Native(Echo):
        streamed_async = 0

        async def astream(self, conversation: Any, settings: Any = None) -> Any:
            Native.streamed_async += 1
            yield Generation("<answer>1")
            yield Generation("2</answer>")
            yield Generation("", finish_reason="stop")

    pieces = [piece async for piece in ChatEVisRAG(generator=Native()).astream(QUESTION)]
    whole = sum(pieces[1:], pieces[0])
    assert (whole.text, Native.streamed_async) == ("12", 1)
    with serving() as (url, seen), contextlib.closing(OpenAIGenerator(url)) as generator:
        bound = ChatEVisRAG(generator=generator).bind_tools([Total], tool_choice="Total")
        pieces = [piece async for piece in bound.astream("a")]
        assert sum(pieces[1:], pieces[0]).tool_calls[0]["name"] == "Total"
        assert seen[-1]["stream"] is True
