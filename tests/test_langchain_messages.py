"""LangChain messages as conversations and requests: every shape of image block, and what is refused."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image

from visrag_integrations import Page
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.images.urls import data_url
from visrag_integrations.langchain.completions import to_openai_messages
from visrag_integrations.langchain.messages import (
    block_to_page,
    page_to_block,
    text_page_to_block,
    to_conversation,
)
from visrag_integrations.types import Message


def red_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()


PNG = red_png()
BASE64 = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{BASE64}"
SHAPES: list[dict[str, Any]] = [
    {"type": "image", "base64": BASE64, "mime_type": "image/png"},
    {"type": "image", "url": URL},
    {"type": "image", "source_type": "base64", "data": BASE64, "mime_type": "image/png"},
    {"type": "image", "source_type": "url", "url": URL},
    {"type": "image_url", "image_url": {"url": URL, "detail": "high"}},
    {"type": "image_url", "image_url": URL},
    {"type": "input_image", "image_url": URL},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
    {"type": "image", "source": {"type": "url", "url": URL}},
]


@pytest.mark.parametrize("block", SHAPES, ids=lambda block: "-".join(block))
def test_every_shape_of_image(block: dict[str, Any]) -> None:
    (turn,) = to_conversation([HumanMessage(["What is this?", block])])
    text, page = turn.content
    assert text == "What is this?"
    assert isinstance(page, Page)
    assert page.open_image().getpixel((0, 0)) == (255, 0, 0)
    (request,) = to_openai_messages([HumanMessage(["What is this?", block])])
    assert request["content"][1] == {"type": "image_url", "image_url": {"url": URL}}


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "image", "file_id": "file-1"}, "'file-1', which only its provider knows"),
        ({"type": "image", "source_type": "id", "id": "abc"}, "'abc', which only its provider knows"),
        ({"type": "image"}, "no image"),
        ({"type": "image", "url": "/etc/passwd"}, "not opened from messages"),
        ({"type": "image", "url": "file:///etc/passwd"}, "not opened from messages"),
        ({"type": "image", "url": "visrag:some-page"}, "not opened from messages"),
        ({"type": "audio", "base64": "aaaa"}, "reads text and images"),
        ({"type": "file", "base64": "aaaa", "mime_type": "application/pdf"}, "VisRAGLoader"),
    ],
)
def test_what_is_no_image_is_refused(block: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        to_conversation([HumanMessage([block])])


def test_damaged_and_remote_images_are_refused() -> None:
    for block, words in (
        ({"type": "image", "base64": "!!"}, "base64"),
        ({"type": "image", "url": "https://example.com/a.png"}, "fetch_urls=True"),
    ):
        with pytest.raises(PictureError, match=words):
            to_conversation([HumanMessage([block])])
    (turn,) = to_conversation([HumanMessage([{"type": "image", "base64": BASE64[:40]}])])
    with pytest.raises(PictureError):
        turn.pages[0].open_image()


def test_a_page_comes_back_from_its_block() -> None:
    page = Page("d1", 3, "Hi", "a.pdf", picture=PNG, given_id="x")
    block = page_to_block(page)
    assert (block["type"], block["mime_type"], block["base64"]) == ("image", "image/png", BASE64)
    assert block_to_page(block) == page
    textual = Page("d1", 4, "Only text", "a.pdf")
    assert page_to_block(textual) == {"type": "text", "text": "Only text"}
    (turn,) = to_conversation([HumanMessage([text_page_to_block(textual)])])
    assert turn.content == (textual,)
    (request,) = to_openai_messages([HumanMessage([page_to_block(textual)])])
    assert request["content"] == "Only text"


def test_roles_and_neighbours() -> None:
    conversation = to_conversation(
        [
            SystemMessage("a"),
            SystemMessage("b"),
            HumanMessage("c", name="ada"),
            AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "d"}]),
            ChatMessage(role="developer", content="e"),
            ToolMessage("f", tool_call_id="1", name="search"),
        ]
    )
    assert conversation == (
        Message(("a", "b"), "system"),
        Message(("c",), "user"),
        Message(("d",), "assistant"),
        Message(("e",), "system"),
        Message(("Result of the tool search:", "f"), "user"),
    )


def test_tool_calls_as_requests() -> None:
    call = {"name": "search", "args": {"query": "你好"}, "id": "1", "type": "tool_call"}
    requests = to_openai_messages(
        [
            HumanMessage("q", name="ada"),
            AIMessage("", tool_calls=[call]),
            ToolMessage([{"type": "text", "text": "found"}, SHAPES[0]], tool_call_id="1"),
        ]
    )
    assert requests[0] == {"role": "user", "content": "q", "name": "ada"}
    assert requests[1]["tool_calls"][0]["function"] == {"name": "search", "arguments": '{"query": "你好"}'}
    assert requests[2] == {"role": "tool", "tool_call_id": "1", "content": "found"}
    assert requests[3]["content"] == [{"type": "image_url", "image_url": {"url": URL}}]


def test_pictures_as_data_urls() -> None:
    assert data_url(PNG) == data_url(lambda: PNG) == URL
    assert data_url(Image.new("RGB", (3, 3))).startswith("data:image/jpeg;base64,")
