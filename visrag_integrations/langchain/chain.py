"""`create_visrag_chain`: a question in; the pages, the evidence and the answer out, streamed in that order."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import AddableDict, Runnable, RunnableGenerator
from langchain_core.runnables.config import run_in_executor

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.events import AnswerReady, Event, EvidenceFound, SectionStarted, SectionText
from visrag_integrations.generation.evisrag import INSUFFICIENT, EvidenceStream, build_prompt
from visrag_integrations.generation.refusals import says_insufficient
from visrag_integrations.generation.strategies import Prompt
from visrag_integrations.grounding import ground, ground_evidence
from visrag_integrations.interfaces.retrievers import nothing_found
from visrag_integrations.langchain.chat_model import ChatEVisRAG
from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.langchain.evidence import Trimmed, raw_text, untagged
from visrag_integrations.langchain.messages import page_to_block, text_page_to_block
from visrag_integrations.types import Answer, Page, Query

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


def create_visrag_chain(
    retriever: Runnable[Any, list[Document]],
    llm: Runnable[Any, Any],
    *,
    prompt: Prompt | None = None,
    question_key: str = "question",
    as_text: bool = False,
) -> Runnable[Any, dict[str, Any]]:
    """A Runnable that answers questions from pages.

    It takes a question (a text, or a dict with it under `question_key`) and gives `question`, `context` (the
    Documents), `evidence` (a list of `Evidence`, each with its `grounding`: verdict, support, boxes), `thinking`,
    `observation`, `answer` (the text), `sufficient` and `result` (the whole `Answer`). `stream` gives the context
    first, then the evidence entry by entry, then the answer piece by piece; adding the pieces up gives what `invoke`
    gives.

    Args:
        retriever: Any retriever; Documents without a picture are shown as text.
        llm: `ChatEVisRAG`, or any chat model that reads images.
        prompt: "evisrag" asks for observation, evidence and reasoning in EVisRAG's words, "plain" only asks the
            question. What `llm` has when it is a ChatEVisRAG, else "evisrag".
        question_key: Where the question is when the input is a dict.
        as_text: Show all pages as their text: for models that see no images.
    """
    if prompt not in (None, "evisrag", "plain"):
        raise SettingError(f'prompt is {prompt!r}; it is "evisrag" or "plain".')
    if isinstance(llm, ChatEVisRAG):
        prompt = prompt or llm.prompt
        if llm.prompt != prompt:
            llm = llm.model_copy(update={"prompt": prompt})
    steps = _Steps(retriever, llm, prompt or "evisrag", question_key, as_text)
    # LangChain's types know functions of the input only; it hands the config to those that take it.
    transform, atransform = cast("tuple[Any, Any]", (steps.transform, steps.atransform))
    return RunnableGenerator(transform, atransform, name="visrag_chain")


@dataclasses.dataclass(frozen=True)
class _Steps:
    retriever: Runnable[Any, list[Document]]
    llm: Runnable[Any, Any]
    prompt: Prompt
    question_key: str
    as_text: bool

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        for given in inputs:
            question = self._question(given)
            documents = self.retriever.invoke(question, config)
            yield AddableDict(question=question, context=documents)
            if not documents:  # without a page, a model would answer from memory
                yield _nothing_found()
                continue
            pages, messages = self._messages(question, documents)
            reader = _ChainAnswerReader(pages, self.prompt)
            for chunk in self.llm.stream(messages, config):
                for piece in reader.feed(_text(chunk)):
                    yield _grounded(piece)
            for piece in reader.finish():
                yield _grounded(piece)

    async def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        async for given in inputs:
            question = self._question(given)
            documents = await self.retriever.ainvoke(question, config)
            yield AddableDict(question=question, context=documents)
            if not documents:
                yield _nothing_found()
                continue
            # In a thread: pictures are opened and become base64.
            pages, messages = await run_in_executor(None, self._messages, question, documents)
            reader = _ChainAnswerReader(pages, self.prompt)
            async for chunk in self.llm.astream(messages, config):
                for piece in reader.feed(_text(chunk)):
                    yield await _agrounded(piece)
            for piece in reader.finish():
                yield await _agrounded(piece)

    def _question(self, given: Any) -> Any:
        question = given.get(self.question_key) if isinstance(given, dict) else given
        if isinstance(question, Query) or (isinstance(question, str) and question.strip()):
            return question
        raise SettingError(
            f"The question is {question!r}. Give a text, or a dict such as {{{self.question_key!r}: 'How many?'}}."
        )

    def _messages(self, question: Any, documents: Sequence[Document]) -> tuple[list[Page], list[BaseMessage]]:
        """The pages in the order they are shown, and what shows them."""
        text = question.text if isinstance(question, Query) else question
        if self.prompt == "evisrag":
            text = build_prompt(text)
        pages = [document_to_page(document) for document in documents]
        if self.as_text:
            pages = [dataclasses.replace(page, picture=None) for page in pages]
        content: list[Any] = [{"type": "text", "text": text}]
        for page in pages:
            if page.picture is None and isinstance(self.llm, ChatEVisRAG):
                content.append(text_page_to_block(page))
            else:
                content.append(page_to_block(page))
        return pages, [HumanMessage(content=content)]


class _ChainAnswerReader:
    """What the model writes, as pieces of the chain's output."""

    def __init__(self, pages: Sequence[Page], prompt: Prompt) -> None:
        # Of a plain prompt, all text is the answer.
        self._stream = EvidenceStream(pages) if prompt == "evisrag" else None
        self._written: list[str] = []
        self._trimmed = Trimmed()
        self._answered = False

    def feed(self, text: str) -> Iterator[AddableDict]:
        self._written.append(text)
        if self._stream is None:
            yield from self._answer(text)
        else:
            for event in self._stream.feed(text):
                yield from self._piece(event)

    def finish(self) -> Iterator[AddableDict]:
        """What is known only at the end, and the answer's text where it was not streamed."""
        if self._stream is None:
            raw = "".join(self._written)
            text = raw.strip()
            answer = Answer(text, bool(text) and not says_insufficient(text), raw=raw)
        else:
            *events, last = self._stream.finish()
            for event in events:
                yield from self._piece(event)
            assert isinstance(last, AnswerReady)
            answer = untagged(last.answer)
        rest = AddableDict(thinking=answer.thinking, observation=answer.observation, sufficient=answer.sufficient)
        if not self._answered:  # without its tag, the answer is known only now
            rest["answer"] = answer.text
        yield AddableDict(rest, evidence=[], result=answer)

    def _piece(self, event: Event) -> Iterator[AddableDict]:
        if isinstance(event, EvidenceFound):
            yield AddableDict(evidence=[event.evidence])
        elif isinstance(event, SectionStarted) and event.section == "answer":
            # Every answer, should there be several, is streamed without the white space around it.
            self._trimmed = Trimmed()
        elif isinstance(event, SectionText) and event.section == "answer":
            yield from self._answer(event.text)

    def _answer(self, text: str) -> Iterator[AddableDict]:
        certain = self._trimmed.feed(text)
        if certain:
            self._answered = True
            yield AddableDict(answer=certain)


def _nothing_found() -> AddableDict:
    answer = Answer(INSUFFICIENT, sufficient=False, problems=(nothing_found(),))
    return AddableDict(evidence=[], answer=answer.text, thinking="", observation="", sufficient=False, result=answer)


def _grounded(piece: AddableDict) -> AddableDict:
    """The piece with its evidence checked against the pages."""
    if piece.get("evidence"):
        piece["evidence"] = [ground_evidence(entry) for entry in piece["evidence"]]
    if "result" in piece:
        piece["result"] = ground(piece["result"])
    return piece


async def _agrounded(piece: AddableDict) -> AddableDict:
    """`_grounded` in a thread, where there is evidence to check: it reads pages."""
    if piece.get("evidence") or "result" in piece:
        return await run_in_executor(None, _grounded, piece)
    return piece


def _text(chunk: Any) -> str:
    return raw_text(chunk) if isinstance(chunk, BaseMessage) else str(chunk)
