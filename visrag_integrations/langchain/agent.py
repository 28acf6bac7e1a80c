"""`create_vrag_agent`: a question in; every step, the pages and the answer out, streamed as they happen."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import AddableDict, Runnable, RunnableGenerator
from langchain_core.runnables.config import run_in_executor

from visrag_integrations import images
from visrag_integrations.agent import PictureRules, Search, Step
from visrag_integrations.agent.budget import ANSWER_TOKENS, Rules, capacity_of
from visrag_integrations.agent.episode import Episode, Find, Look, Request, Write
from visrag_integrations.agent.rounds import next_round
from visrag_integrations.agent.steps import step_dict
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.vrag import STOP, TEMPLATE
from visrag_integrations.langchain.chat_model import ChatEVisRAG
from visrag_integrations.langchain.convert import document_to_page, hit_to_document, is_page
from visrag_integrations.langchain.evidence import raw_text
from visrag_integrations.langchain.messages import page_to_block
from visrag_integrations.langchain.retriever import VisRAGRetriever
from visrag_integrations.types import Conversation, Generation, Page, Part, ScoredPage, Usage

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

EVENT = "vrag_step"
"""Name of the custom event that each step is, for those who listen with `astream_events` or a callback handler."""
_CUT_OFF = frozenset({"length", "max_tokens", "MAX_TOKENS"})


def create_vrag_agent(
    retriever: Any,
    llm: Any,
    max_turns: int = 10,
    *,
    token_budget: int | None = None,
    template: str = TEMPLATE,
    pictures: PictureRules | None = None,
    question_key: str = "question",
    stop: Sequence[str] = STOP,
) -> Runnable[Any, dict[str, Any]]:
    """A Runnable that answers by searching several times and looking closer, as VRAG-RL's models are trained to.

    It takes a question (a text, or a dict with it under `question_key`) and gives `question`, `steps` (`Thought`,
    `Search`, `Crop`, `Finish`), `context` (the Documents that were shown), `answer` (the text), `sufficient`, `reason`
    (why it ended), `result` (the whole `Answer`) and `trace`. `stream` gives each step when it has happened, and
    `batch` sends the turns of all questions to the model together. Each step is also a custom event, `vrag_step`.

    Args:
        retriever: Any retriever, or one of the core such as `PageRetriever`. Of a `VisRAGRetriever` as many pages are
            asked for as are needed to find a new one; another gives no new page when all it finds have been shown.
        llm: `ChatEVisRAG`, any chat model that reads images, or a generator of the core.
        max_turns: At most so many; before the last one the model is asked to answer.
        token_budget: At most about so many tokens read and written in all turns of a question together.
        template: The prompt; `{question}` in it is replaced.
        pictures: How large pages and crops are shown.
        question_key: Where the question is when the input is a dict.
        stop: Strings that end a turn; () for models that refuse them.
    """
    if callable(getattr(retriever, "retrieve", None)) and not isinstance(retriever, Runnable):
        retriever = VisRAGRetriever(retriever=retriever)
    if callable(getattr(llm, "generate", None)) and not isinstance(llm, Runnable):
        llm = ChatEVisRAG(generator=llm)
    if not isinstance(retriever, Runnable) or not isinstance(llm, Runnable):
        raise SettingError(
            f"retriever is {type(retriever).__name__} and llm is {type(llm).__name__}; give VisRAGRetriever(...) or "
            "another retriever, and ChatEVisRAG(...) or another chat model."
        )
    if isinstance(llm, ChatEVisRAG):
        llm = llm.model_copy(update={"prompt": "plain", "max_tokens": llm.max_tokens or ANSWER_TOKENS})
    answer_tokens = getattr(llm, "max_tokens", None) or ANSWER_TOKENS
    rules = Rules(max_turns, token_budget, answer_tokens, template, pictures or PictureRules())
    asked = {"stop": list(stop)} if stop and isinstance(llm, BaseChatModel) else {}
    return VRAGRunnable(_Host(retriever, llm, rules, question_key, asked))


class VRAGRunnable(RunnableGenerator[Any, dict[str, Any]]):
    """What `create_vrag_agent` gives."""

    def __init__(self, host: _Host) -> None:
        transform, atransform = cast("tuple[Any, Any]", (host.transform, host.atransform))  # both take the config, too
        super().__init__(transform, atransform, name="vrag_agent")
        self._host = host

    def batch(
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """The results in order; in each round the turns of all questions go to the model as one batch."""
        return self._batch_with_config(
            cast("Any", self._host.batch), inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    async def abatch(
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """`batch`, without blocking the event loop."""
        return await self._abatch_with_config(
            cast("Any", self._host.abatch), inputs, config, return_exceptions=return_exceptions, **kwargs
        )


@dataclasses.dataclass(frozen=True)
class _Host:
    """Does what episodes ask for by LangChain's retriever and model, under the config of each question."""

    retriever: Runnable[Any, list[Document]]
    llm: Runnable[Any, Any]
    rules: Rules
    question_key: str
    asked: dict[str, Any]

    # --- one question -----------------------------------------------------------------------------------------------

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        for given in inputs:
            episode = self._begin(given)
            yield _first(episode)
            while episode.waiting is not None:
                new = _tell(episode, self._done([episode.waiting], [config])[0])
                for step in new:
                    dispatch_custom_event(EVENT, step_dict(step), config=config)
                    yield _piece(step)
            yield _last(episode)

    async def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        async for given in inputs:
            episode = await run_in_executor(config, self._begin, given)
            yield _first(episode)
            while episode.waiting is not None:
                new = _tell(episode, (await self._adone([episode.waiting], [config]))[0])
                for step in new:
                    await adispatch_custom_event(EVENT, step_dict(step), config=config)
                    yield _piece(step)
            yield _last(episode)

    # --- many -------------------------------------------------------------------------------------------------------

    def batch(self, inputs: list[Any], config: list[RunnableConfig]) -> list[dict[str, Any]]:
        episodes = [self._begin(given) for given in inputs]
        known = {id(episode): one for episode, one in zip(episodes, config, strict=True)}
        while waiting := next_round(episodes):
            configs = [known[id(episode)] for episode in waiting]
            results = self._done([episode.waiting for episode in waiting], configs)
            for episode, one, result in zip(waiting, configs, results, strict=True):
                for step in _tell(episode, result):
                    dispatch_custom_event(EVENT, step_dict(step), config=one)
        return [_whole(episode) for episode in episodes]

    async def abatch(self, inputs: list[Any], config: list[RunnableConfig]) -> list[dict[str, Any]]:
        episodes = [await run_in_executor(None, self._begin, given) for given in inputs]
        known = {id(episode): one for episode, one in zip(episodes, config, strict=True)}
        while waiting := next_round(episodes):
            configs = [known[id(episode)] for episode in waiting]
            results = await self._adone([episode.waiting for episode in waiting], configs)
            for episode, one, result in zip(waiting, configs, results, strict=True):
                for step in _tell(episode, result):
                    await adispatch_custom_event(EVENT, step_dict(step), config=one)
        return [_whole(episode) for episode in episodes]

    # --- what episodes ask for; all requests of one call are of one kind ----------------------------------------------

    def _done(self, requests: Sequence[Request | None], configs: list[RunnableConfig]) -> list[Any]:
        if isinstance(requests[0], Look):
            return [request.work() for request in requests if isinstance(request, Look)]
        runnable, inputs, asked = self._call(requests)
        if len(inputs) == 1:
            return [self._result(requests[0], runnable.invoke(inputs[0], configs[0], **asked))]
        given = runnable.batch(inputs, cast("Any", configs), **asked)
        return [self._result(request, one) for request, one in zip(requests, given, strict=True)]

    async def _adone(self, requests: Sequence[Request | None], configs: list[RunnableConfig]) -> list[Any]:
        if isinstance(requests[0], Look):
            return await run_in_executor(None, self._done, requests, configs)
        runnable, inputs, asked = await run_in_executor(None, self._call, requests)
        if len(inputs) == 1:
            return [self._result(requests[0], await runnable.ainvoke(inputs[0], configs[0], **asked))]
        given = await runnable.abatch(inputs, cast("Any", configs), **asked)
        return [self._result(request, one) for request, one in zip(requests, given, strict=True)]

    def _call(self, requests: Sequence[Request | None]) -> tuple[Runnable[Any, Any], list[Any], dict[str, Any]]:
        """Whom to ask, what, and with which settings."""
        talks = [to_messages(request.conversation) for request in requests if isinstance(request, Write)]
        if talks:
            return self.llm, talks, self.asked
        finds = [request for request in requests if isinstance(request, Find)]
        most = max(request.count for request in finds)
        asked = {"k": most} if isinstance(self.retriever, VisRAGRetriever) else {}
        return self.retriever, [request.query for request in finds], asked

    @staticmethod
    def _result(request: Request | None, given: Any) -> Any:
        return _generation(given) if isinstance(request, Write) else [_hit(document) for document in given]

    def _begin(self, given: Any) -> Episode:
        question = given.get(self.question_key) if isinstance(given, dict) else given
        if not isinstance(question, str) or not question.strip():
            raise SettingError(
                f"The question is {question!r}. Give a text, or a dict such as {{{self.question_key!r}: 'How many?'}}."
            )
        if isinstance(self.llm, ChatEVisRAG):
            generator = self.llm._generator
            return Episode(question, self.rules, lambda: capacity_of(generator()))
        return Episode(question, self.rules)


def to_messages(conversation: Conversation) -> list[BaseMessage]:
    """A conversation of the core as LangChain's messages; pages and pictures become image blocks.

    >>> from visrag_integrations.types import Message
    >>> [message.type for message in to_messages((Message(("Hi",)), Message(("Hello",), "assistant")))]
    ['human', 'ai']
    """
    return [
        AIMessage(turn.text) if turn.role == "assistant" else HumanMessage([_block(part) for part in turn.content])
        for turn in conversation
    ]


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    page = part if isinstance(part, Page) else Page("crop", 1, picture=part)
    if page.picture is None:
        return page_to_block(page)
    return page_to_block(dataclasses.replace(page, picture=images.encode(page.picture, "PNG")))  # small print stays


def _generation(message: Any) -> Generation:
    if not isinstance(message, BaseMessage):
        return Generation(str(message))
    reason = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    used = getattr(message, "usage_metadata", None)
    usage = Usage(used["input_tokens"], used["output_tokens"]) if used else None
    return Generation(raw_text(message), usage=usage, finish_reason="length" if reason in _CUT_OFF else "stop")


def _hit(document: Document) -> ScoredPage:
    """The Document as a page; one without an id gets one from its content, so that it is not shown twice."""
    known = document.id
    if not known and not is_page(document.metadata):
        said = repr((document.page_content, sorted(document.metadata.items(), key=lambda item: item[0])))
        known = hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()
    score, score_type = document.metadata.get("score"), document.metadata.get("score_type")
    page = document_to_page(document, known)
    return ScoredPage(page, float(score) if isinstance(score, (int, float)) else 0.0, str(score_type or "none"))


def _tell(episode: Episode, result: Any) -> list[Step]:
    """The steps that this result brings."""
    before = len(episode.steps)
    episode.tell(result)
    return episode.steps[before:]


def _first(episode: Episode) -> AddableDict:
    return AddableDict(question=episode.question, steps=[], context=[])


def _piece(step: Step) -> AddableDict:
    found = step.observation.shown if isinstance(step, Search) else ()
    context = {"context": [hit_to_document(shown.page) for shown in found]} if found else {}
    return AddableDict(steps=[step], **context)


def _last(episode: Episode) -> AddableDict:
    trace = episode.trace
    answer = trace.answer
    return AddableDict(
        answer=answer.text, sufficient=answer.sufficient, reason=trace.reason, result=answer, trace=trace
    )


def _whole(episode: Episode) -> dict[str, Any]:
    whole = _first(episode)
    for step in episode.steps:
        whole = whole + _piece(step)
    return whole + _last(episode)
