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
from visrag_integrations.generation.page_texts import TEXT_BUDGET, check_budget, limited_texts, page_text
from visrag_integrations.generation.refusals import says_insufficient
from visrag_integrations.generation.strategies import Prompt
from visrag_integrations.grounding import ground, ground_evidence
from visrag_integrations.interfaces.retrievers import nothing_found
from visrag_integrations.langchain.chat_model import ChatEVisRAG
from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.langchain.evidence import Trimmed, raw_text, untagged
from visrag_integrations.langchain.messages import page_text_to_block, page_to_block, text_page_to_block
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
    with_text: bool | int = False,
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
        with_text: Show each page's text beside its picture, 12,000 characters in all; a number is another limit. What
            is cut stands in `result.problems`.
    """
    if as_text and with_text is not False:
        raise SettingError("as_text=True shows no pictures, so with_text= has nothing to stand beside. Leave one out.")
    if prompt not in (None, "evisrag", "plain"):
        raise SettingError(f'prompt is {prompt!r}; it is "evisrag" or "plain".')
    if isinstance(llm, ChatEVisRAG):
        prompt = prompt or llm.prompt
        if llm.prompt != prompt:
            llm = llm.model_copy(update={"prompt": prompt})
    characters = TEXT_BUDGET if with_text is True else int(with_text)
    if with_text is not False:
        check_budget(characters)
    steps = _Steps(retriever, llm, prompt or "evisrag", question_key, as_text, characters)
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
    characters: int  # of the pages' texts beside their pictures; 0 for none

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        for given in inputs:
            question = self._question(given)
            documents = self.retriever.invoke(question, config)
            yield AddableDict(question=question, context=documents)
            if not documents:  # without a page, a model would answer from memory
                yield _nothing_found()
                continue
            pages, messages, cut = self._messages(question, documents)
            reader = _ChainAnswerReader(pages, self.prompt, cut)
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
            pages, messages, cut = await run_in_executor(None, self._messages, question, documents)
            reader = _ChainAnswerReader(pages, self.prompt, cut)
            async for chunk in self.llm.astream(messages, config):
                for piece in reader.feed(_text(chunk)):
                    yield await _agrounded(piece)
            for piece in reader.finish():
                yield await _agrounded(piece)

    def _question(self, given: Any) -> Any:
        question = given.get(self.question_key) if isinstance(given, dict) else given
        if isinstance(question, Query) or (isinstance(question, str) and question.strip()):
            return question
        if isinstance(given, dict) and self.question_key not in given:
            keys = ", ".join(map(repr, given)) or "none"
            raise SettingError(
                f"The question stands under {self.question_key!r}, and the keys given are: {keys}. Give "
                f"{{{self.question_key!r}: 'How many?'}}, or create_visrag_chain(..., question_key=...)."
            )
        raise SettingError(
            f"The question is {question!r}. Give a text, or a dict such as {{{self.question_key!r}: 'How many?'}}."
        )

    def _messages(
        self, question: Any, documents: Sequence[Document]
    ) -> tuple[list[Page], list[BaseMessage], list[str]]:
        """The pages in the order they are shown, what shows them, and which texts were cut."""
        text = question.text if isinstance(question, Query) else question
        if self.prompt == "evisrag":
            text = build_prompt(text)
        pages = [document_to_page(document) for document in documents]
        if self.as_text:
            pages = [dataclasses.replace(page, picture=None) for page in pages]
        content: list[Any] = [{"type": "text", "text": text}]
        cut: list[str] = []
        if self.characters:
            limited = limited_texts(pages, self.characters)
            cut = [text.problem for text in limited if text.problem]
            for place, page in enumerate(pages, start=1):
                content += self._both(place, page, limited[place - 1].text)
        else:
            content += map(self._block, pages)
        return pages, [HumanMessage(content=content)], cut

    def _block(self, page: Page) -> dict[str, Any]:
        if page.picture is None and isinstance(self.llm, ChatEVisRAG):
            return text_page_to_block(page)
        return page_to_block(page)

    def _both(self, place: int, page: Page, text: str) -> list[dict[str, Any]]:
        """The blocks of a page's text and of its picture."""
        if page.picture is None:
            return [self._block(dataclasses.replace(page, text=text))]
        blocks = [page_to_block(page)]
        if text and isinstance(self.llm, ChatEVisRAG):
            blocks.insert(0, page_text_to_block(page_text(place, text)))
        elif text:
            blocks.insert(0, {"type": "text", "text": str(page_text(place, text))})
        return blocks


class _ChainAnswerReader:
    """What the model writes, as pieces of the chain's output."""

    def __init__(self, pages: Sequence[Page], prompt: Prompt, cut: Sequence[str]) -> None:
        self._cut = tuple(cut)
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
        answer = dataclasses.replace(answer, problems=(*answer.problems, *self._cut))
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
