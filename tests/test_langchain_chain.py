"""The chain, the evidence parser, the reranker and the tool, from question to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import PixelEmbedder, ScriptedGenerator
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from PIL import Image
from pydantic import ValidationError

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.evisrag import build_prompt, parse_evidence
from visrag_integrations.langchain import (
    ChatEVisRAG,
    EvidenceOutputParser,
    VisRAGReranker,
    VisRAGRetriever,
    VisRAGVectorStore,
    create_visrag_chain,
    create_visrag_tool,
)
from visrag_integrations.langchain.messages import page_to_block, to_conversation
from visrag_integrations.types import Word

WRITTEN = (
    "<observe>two pages</observe><evidence>\n[1]: 12 violins\n[2]: no relevant information\n</evidence>"
    "<think>so 12</think><answer> 12 violins </answer>"
)
TEXTS = ("We own 12 violins.", "Taxes are due in April.", "A cello is large.")


@pytest.fixture(scope="module")
def core() -> Iterator[PageRetriever]:
    embedder = PixelEmbedder()
    with QdrantPageStore(":memory:", picture_format="PNG") as store:
        store.prepare(embedder)
        pages = [Page("d", n, t, "d.pdf", picture=Image.new("RGB", (8, 8), "red")) for n, t in enumerate(TEXTS, 1)]
        store.add_pages(pages, embedder.embed_pages([Page("d", p.number, p.text) for p in pages]))
        yield PageRetriever(embedder, store)


@pytest.fixture
def retriever(core: PageRetriever) -> VisRAGRetriever:
    return VisRAGRetriever(retriever=core, k=2)


class Recorder(GenericFakeChatModel):
    """A chat model of the host's, which remembers what it was asked."""

    asked: list[Any] = []  # noqa: RUF012  (pydantic copies it)

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(messages)
        return super()._generate(messages, *args, **kwargs)


def evidence_of(found: dict[str, Any]) -> list[tuple[int, str, bool, int]]:
    return [(e.page_index, e.text, e.relevant, e.page.number) for e in found["evidence"]]


# --- the chain


def test_a_question_in_and_everything_out(retriever: VisRAGRetriever) -> None:
    chain = create_visrag_chain(retriever, ChatEVisRAG(generator=ScriptedGenerator(WRITTEN)))
    found = chain.invoke("How many violins?")
    assert next(d.metadata["number"] for d in found["context"]) == 1
    assert evidence_of(found)[0] == (1, "12 violins", True, 1)
    assert (found["question"], found["answer"]) == ("How many violins?", "12 violins")
    assert (found["observation"], found["thinking"], found["sufficient"]) == ("two pages", "so 12", True)
    assert found["result"].raw == WRITTEN
    assert found["result"].evidence == tuple(found["evidence"])


@pytest.mark.parametrize("own", [True, False], ids=["ChatEVisRAG", "another chat model"])
async def test_streams_context_then_evidence_then_answer(retriever: VisRAGRetriever, own: bool) -> None:
    def model() -> Any:
        fake = GenericFakeChatModel(messages=iter([AIMessage(WRITTEN)]))
        return ChatEVisRAG(generator=ScriptedGenerator(WRITTEN)) if own else fake

    pieces = list(create_visrag_chain(retriever, model()).stream({"question": "How many violins?"}))
    order = [key for piece in pieces for key in piece if key in ("context", "evidence", "answer") and piece[key]]
    assert list(dict.fromkeys(order)) == ["context", "evidence", "answer"]
    assert order.count("evidence") == 2
    assert "".join(piece.get("answer", "") for piece in pieces) == "12 violins"
    whole = create_visrag_chain(retriever, model()).invoke("How many violins?")
    again = await create_visrag_chain(retriever, model()).ainvoke("How many violins?")
    streamed = [piece async for piece in create_visrag_chain(retriever, model()).astream("How many violins?")]
    for other in (again, sum(streamed[1:], streamed[0]), sum(pieces[1:], pieces[0])):
        assert {k: v for k, v in other.items() if k != "context"} == {k: v for k, v in whole.items() if k != "context"}
        assert [d.id for d in other["context"]] == [d.id for d in whole["context"]]


async def test_evidence_is_found_on_its_page() -> None:
    embedder = PixelEmbedder()
    words = tuple(Word(text, (0.1 * i, 0.2, 0.1 * i + 0.08, 0.3)) for i, text in enumerate(TEXTS[0].split(), 1))
    page = Page("w", 1, TEXTS[0], "w.pdf", words=words, picture=Image.new("RGB", (8, 8), "red"))
    with QdrantPageStore(":memory:", picture_format="PNG") as store:
        store.prepare(embedder)
        store.add_pages([page], embedder.embed_pages([page]))
        found = VisRAGVectorStore(store=store, embedding=embedder).as_retriever(search_kwargs={"k": 1})
        for retriever in (VisRAGRetriever(retriever=PageRetriever(embedder, store), k=1), found):
            model = ChatEVisRAG(generator=ScriptedGenerator(WRITTEN, WRITTEN))
            chain = create_visrag_chain(retriever, model)
            for given in (chain.invoke("How many?"), await chain.ainvoke("How many?")):
                grounding = given["evidence"][0].grounding
                assert grounding.verdict == "supported"
                assert grounding.boxes == (pytest.approx((0.3, 0.2, 0.48, 0.3)),)
                assert given["result"].evidence[0].grounding == grounding
        block = page_to_block(store.get_pages([page.id])[0])
        message = ChatEVisRAG(generator=ScriptedGenerator(WRITTEN)).invoke([HumanMessage(["How many?", block])])
    extras = message.content[-1]["annotations"][0]["extras"]
    assert (extras["verdict"], extras["support"], extras["missing"]) == ("supported", 1.0, [])
    assert len(extras["boxes"]) == 1


def test_another_chat_model_is_asked_the_same(retriever: VisRAGRetriever) -> None:
    recorder = Recorder(messages=iter([AIMessage(WRITTEN)]))
    found = create_visrag_chain(retriever, recorder).invoke("How many violins?")
    assert found["answer"] == "12 violins"
    (messages,) = recorder.asked
    text, *images = messages[0].content
    assert text["text"] == build_prompt("How many violins?")
    assert [block["type"] for block in images] == ["image", "image"]
    assert all(len(block["base64"]) > 50 for block in images)


def test_plain_prompt_and_untagged_answers(retriever: VisRAGRetriever) -> None:
    generator = ScriptedGenerator(" 12. ", "no tags")
    found = create_visrag_chain(retriever, ChatEVisRAG(generator=generator), prompt="plain").invoke("How many?")
    assert (found["answer"], found["evidence"], found["result"].raw) == ("12.", [], " 12. ")
    assert generator.batches[0][0][-1].text == "How many?"
    untagged = create_visrag_chain(retriever, ChatEVisRAG(generator=generator)).invoke("How many?")
    assert (untagged["answer"], untagged["sufficient"]) == ("no tags", True)
    with pytest.raises(SettingError, match="plain"):
        create_visrag_chain(retriever, ChatEVisRAG(generator=generator), prompt="other")  # type: ignore[arg-type]


def test_pages_as_text_for_models_without_eyes(retriever: VisRAGRetriever) -> None:
    recorder = Recorder(messages=iter([AIMessage(WRITTEN)]))
    create_visrag_chain(retriever, recorder, as_text=True).invoke("How many violins?")
    assert [block["type"] for block in recorder.asked[-1][0].content] == ["text"] * 3
    assert recorder.asked[-1][0].content[1]["text"] == TEXTS[0]


def test_nothing_found_and_no_question(core: PageRetriever) -> None:
    nothing = VisRAGRetriever(retriever=core, filter={"source": "none.pdf"})
    generator = ScriptedGenerator()
    found = create_visrag_chain(nothing, ChatEVisRAG(generator=generator)).invoke("How many?")
    assert (found["context"], found["sufficient"], generator.batches) == ([], False, [])
    assert "no page was found" in found["result"].problems[0]
    for question in ("", " ", {"query": "x"}, None):
        with pytest.raises(SettingError, match="question"):
            create_visrag_chain(nothing, ChatEVisRAG(generator=generator)).invoke(question)


def test_a_picture_as_the_question_and_foreign_documents(retriever: VisRAGRetriever) -> None:
    chain = create_visrag_chain(retriever, ChatEVisRAG(generator=ScriptedGenerator(WRITTEN)))
    asked = Query("How many?", Image.new("RGB", (4, 4), "red"))
    assert chain.invoke(asked)["answer"] == "12 violins"
    texts: Any = RunnableLambda(lambda _: [Document("12 violins", metadata={"source": "x.txt"})])
    generator = ScriptedGenerator(WRITTEN)
    found = create_visrag_chain(texts, ChatEVisRAG(generator=generator, prompt="evisrag")).invoke("How many?")
    assert found["evidence"][0].page.source == "x.txt"
    assert generator.batches[0][0][-1].pages[0].text == "12 violins"


async def test_inside_other_chains_with_callbacks_and_batches(retriever: VisRAGRetriever) -> None:
    runs: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, *_: Any, **kwargs: Any) -> None:
            runs.append("retriever")

        def on_chat_model_start(self, *_: Any, **kwargs: Any) -> None:
            runs.append("model")

        def on_llm_error(self, *_: Any, **kwargs: Any) -> None:
            runs.append("error")

    generator = ScriptedGenerator(*[WRITTEN] * 6)
    chain = create_visrag_chain(retriever, ChatEVisRAG(generator=generator))
    both = RunnableParallel(found=chain, question=RunnableLambda(str.upper))
    assert both.invoke("q?", {"callbacks": [Handler()]})["found"]["answer"] == "12 violins"
    assert runs == ["retriever", "model"]
    assert [found["answer"] for found in chain.batch(["a", "b"])] == ["12 violins"] * 2
    assert [found["answer"] for found in await chain.abatch(["a", "b"])] == ["12 violins"] * 2
    answer_only = chain | RunnableLambda(lambda found: found["answer"])
    assert await asyncio.wait_for(answer_only.ainvoke("a"), 20) == "12 violins"


def test_the_extractive_generator_answers_from_the_text_of_the_pages(retriever: VisRAGRetriever) -> None:
    found = create_visrag_chain(retriever, ChatEVisRAG("extractive")).invoke("When are taxes due?")
    assert "April" in found["answer"]
    assert any(entry.relevant and entry.page.number == 2 for entry in found["evidence"])


# --- the parser


def test_the_parser_reads_messages_and_strings() -> None:
    pages = [Page("d", 1), Page("d", 2)]
    parser = EvidenceOutputParser(pages=pages)
    expected = parse_evidence(WRITTEN, pages)
    assert parser.invoke(WRITTEN) == parser.invoke(AIMessage(WRITTEN)) == parser.parse(WRITTEN) == expected
    assert (GenericFakeChatModel(messages=iter([AIMessage(WRITTEN)])) | parser).invoke("q") == expected
    instructions = parser.get_format_instructions()
    assert all(f"<{tag}>" in instructions for tag in ("observe", "evidence", "think", "answer"))
    assert "{query}" not in instructions


def test_partial_answers_grow() -> None:
    chain = ChatEVisRAG(generator=ScriptedGenerator(WRITTEN)) | EvidenceOutputParser()
    image = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
    answers = list(chain.stream([HumanMessage(["How many?", image])]))
    assert len(answers) > 5
    assert answers[-1] == parse_evidence(WRITTEN)
    assert [len(a.evidence) for a in answers] == sorted(len(a.evidence) for a in answers)
    assert answers[0].text == ""


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["<answer>", "</answer>", "<evidence>", "[1]: a", "</evidence>", "x", " ", "<thi", "nk>"]))
)
def test_any_text_in_any_pieces_parses_as_the_whole(pieces: list[str]) -> None:
    text = "".join(pieces)
    parser = EvidenceOutputParser()
    streamed = list(parser.transform(iter([AIMessageChunk(piece) for piece in pieces])))
    if pieces:
        assert streamed[-1] == parse_evidence(text) == parser.invoke(text)


# --- reranker and tool


def test_the_reranker_orders_by_the_exact_score(core: PageRetriever) -> None:
    embedder = PixelEmbedder()
    documents = [Document(text, metadata={"n": n}) for n, text in enumerate(TEXTS)]
    ranked = VisRAGReranker(embedder=embedder, top_n=2).compress_documents(documents, TEXTS[1])
    assert next(d.metadata["n"] for d in ranked) == 1
    assert len(ranked) == 2
    assert ranked[0].metadata["relevance_score"] == pytest.approx(1.0, abs=1e-4)
    assert "relevance_score" not in documents[1].metadata
    assert VisRAGReranker(embedder=embedder).compress_documents([], "a") == []
    assert len(VisRAGReranker(embedder=embedder, top_n=None).compress_documents(documents, "a")) == 3


async def test_the_reranker_in_a_compression_retriever(core: PageRetriever) -> None:
    embedder = PixelEmbedder()
    base = VisRAGRetriever(retriever=core, k=3)
    reranker = VisRAGReranker(embedder=embedder, store=core.store, top_n=1)
    chain = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)
    assert chain.invoke(TEXTS[2])[0].metadata["number"] == 3
    assert (await chain.ainvoke(TEXTS[2]))[0].metadata["number"] == 3
    assert embedder.embedded == 0  # the vectors came from the store


@pytest.mark.parametrize("query", ["", "  ", "\n"])
def test_an_empty_query_of_a_model_is_an_error_of_its_arguments(retriever: VisRAGRetriever, query: str) -> None:
    """Which agents tell the model, as test_langchain_stack.py shows; an error of the search would end their run."""
    tool = create_visrag_tool(retriever)
    call = {"name": "search_pages", "args": {"query": query}, "id": "1", "type": "tool_call"}
    with pytest.raises(ValidationError, match="say what to look for, in words"):
        tool.invoke(call)


async def test_the_tool_shows_pages_to_an_agent(retriever: VisRAGRetriever) -> None:
    tool = create_visrag_tool(retriever)
    assert tool.args == {"query": {"description": "What to look for, in words.", "title": "Query", "type": "string"}}
    call = {"name": tool.name, "args": {"query": "violins"}, "id": "1", "type": "tool_call"}
    for message in (tool.invoke(call), await tool.ainvoke(call)):
        assert isinstance(message, ToolMessage)
        assert [block["type"] for block in message.content] == ["text", "image"] * 2  # type: ignore[index]
        assert message.content[0] == {"type": "text", "text": "[1] d.pdf, page 1:"}
        assert next(d.metadata["number"] for d in message.artifact) == 1
        (turn,) = to_conversation([message])
        assert next(page.number for page in turn.pages) == 1
    nothing = create_visrag_tool(RunnableLambda(lambda _: []), name="find", description="Finds.")
    assert nothing.invoke({**call, "name": "find"}).content == [{"type": "text", "text": "No page fits this query."}]
