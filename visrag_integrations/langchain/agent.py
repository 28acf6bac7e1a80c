"""`create_vrag_agent`: a question in; every step, the pages and the answer out, streamed as they happen."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import AddableDict, Runnable, RunnableGenerator
from langchain_core.runnables.config import run_in_executor

from visrag_integrations.agent import PictureRules, Search, Step
from visrag_integrations.agent.budget import ANSWER_TOKENS, Rules, capacity_of
from visrag_integrations.agent.episode import Episode, Find, Look, Request, Write
from visrag_integrations.agent.remembered import rules_for
from visrag_integrations.agent.rounds import arun_rounds, requests_of, run_rounds
from visrag_integrations.agent.steps import step_dict
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.vrag import STOP
from visrag_integrations.images.sending import picture_file
from visrag_integrations.interfaces.retrievers import is_retriever
from visrag_integrations.langchain.chat_model import ChatEVisRAG
from visrag_integrations.langchain.convert import document_to_page, found_page_to_document
from visrag_integrations.langchain.evidence import raw_text
from visrag_integrations.langchain.messages import page_to_block, text_page_to_block
from visrag_integrations.langchain.retriever import VisRAGRetriever
from visrag_integrations.types import Conversation, Generation, Page, Part, ScoredPage, Usage

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

EVENT = "vrag_step"
"""Name of the custom event that each step is, for those who listen with `astream_events` or a callback handler."""
_CUT_OFF = frozenset({"length", "max_tokens", "MAX_TOKENS"})
"""How the finish reason of a turn that was cut off is called by OpenAI, Anthropic and Google."""


def create_vrag_agent(
    retriever: Any,
    llm: Any,
    max_turns: int | None = None,
    *,
    token_budget: int | None = None,
    template: str | None = None,
    pictures: PictureRules | None = None,
    question_key: str = "question",
    stop: Sequence[str] = STOP,
    trained: str | Path | None = None,
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
        max_turns: At most so many; before the last one the model is asked to answer. None: what the checkpoint of the
            model was trained with (`train_agent` writes it there), else 10.
        token_budget: At most about so many tokens read and written in all turns of a question together.
        template: The prompt; `{question}` in it is replaced. None: as above, else that of the core.
        pictures: How large pages and crops are shown. None: as above, else `PictureRules()`.
        question_key: Where the question is when the input is a dict.
        stop: Strings that end a turn; () for models that refuse them.
        trained: The folder of the trained checkpoint, where the model is behind a server.
    """
    if is_retriever(retriever) and not isinstance(retriever, Runnable):
        retriever = VisRAGRetriever(retriever=retriever)
    if callable(getattr(llm, "generate", None)) and not isinstance(llm, Runnable):
        llm = ChatEVisRAG(generator=llm)
    if not isinstance(retriever, Runnable) or not isinstance(llm, Runnable):
        raise SettingError(
            f"retriever is {type(retriever).__name__} and llm is {type(llm).__name__}; give VisRAGRetriever(...) or "
            "another retriever, and ChatEVisRAG(...) or another chat model."
        )
    if isinstance(llm, ChatEVisRAG):
        # The agent has its own prompt. The copy leaves the caller's model as it is, and shares what it has loaded.
        llm = llm.model_copy(update={"prompt": "plain", "max_tokens": llm.max_tokens or ANSWER_TOKENS})
    rules = rules_for(
        trained or (llm.model if isinstance(llm, ChatEVisRAG) else ""),
        max_turns=max_turns,
        template=template,
        pictures=pictures,
        token_budget=token_budget,
        answer_tokens=getattr(llm, "max_tokens", None) or ANSWER_TOKENS,
    )
    llm_settings: dict[str, Any] = {}
    if stop and isinstance(llm, BaseChatModel):  # a chain that stands for the model may not know `stop`
        llm_settings["stop"] = list(stop)
    return VRAGRunnable(_AgentRuns(retriever, llm, rules, question_key, llm_settings))


class VRAGRunnable(RunnableGenerator[Any, dict[str, Any]]):
    """What `create_vrag_agent` gives."""

    def __init__(self, runs: _AgentRuns) -> None:
        # LangChain's types know functions of the input only; it hands the config to those that take it.
        transform, atransform = cast("tuple[Any, Any]", (runs.transform, runs.atransform))
        super().__init__(transform, atransform, name="vrag_agent")
        self._runs = runs

    def batch(
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """The results in order; in each round the turns of all questions go to the model as one batch."""
        return self._batch_with_config(
            cast("Any", self._runs.batch), inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    async def abatch(
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """`batch`, without blocking the event loop."""
        return await self._abatch_with_config(
            cast("Any", self._runs.abatch), inputs, config, return_exceptions=return_exceptions, **kwargs
        )


@dataclasses.dataclass(frozen=True)
class _AgentRuns:
    """Does what episodes ask for by LangChain's retriever and model, under the config of each question."""

    retriever: Runnable[Any, list[Document]]
    llm: Runnable[Any, Any]
    rules: Rules
    question_key: str
    llm_settings: dict[str, Any]

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        for given in inputs:
            episode = self._begin(given)
            yield _first(episode)
            for step in self._steps([episode], [config]):
                yield _piece(step)
            yield _last(episode)

    async def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        async for given in inputs:
            episode = await run_in_executor(config, self._begin, given)
            yield _first(episode)
            async for step in self._asteps([episode], [config]):
                yield _piece(step)
            yield _last(episode)

    def batch(self, inputs: list[Any], config: list[RunnableConfig]) -> list[dict[str, Any]]:
        episodes = list(map(self._begin, inputs))
        for _ in self._steps(episodes, config):
            pass  # each step stays in its episode
        return list(map(_whole, episodes))

    async def abatch(self, inputs: list[Any], config: list[RunnableConfig]) -> list[dict[str, Any]]:
        episodes = [await run_in_executor(None, self._begin, given) for given in inputs]
        async for _ in self._asteps(episodes, config):
            pass
        return list(map(_whole, episodes))

    def _steps(self, episodes: Sequence[Episode], configs: Sequence[RunnableConfig]) -> Iterator[Step]:
        """Every step as soon as it has happened and its custom event has been sent."""
        config_of = _by_episode(episodes, configs)
        for episode, steps in run_rounds(episodes, functools.partial(self._perform, config_of)):
            for step in steps:
                dispatch_custom_event(EVENT, step_dict(step), config=config_of[id(episode)])
                yield step

    async def _asteps(self, episodes: Sequence[Episode], configs: Sequence[RunnableConfig]) -> AsyncIterator[Step]:
        config_of = _by_episode(episodes, configs)
        async for episode, steps in arun_rounds(episodes, functools.partial(self._aperform, config_of)):
            for step in steps:
                await adispatch_custom_event(EVENT, step_dict(step), config=config_of[id(episode)])
                yield step

    # --- what episodes ask for; all requests of one call are of one kind ----------------------------------------------

    def _perform(self, config_of: Mapping[int, RunnableConfig], waiting: list[Episode]) -> list[Any]:
        requests = requests_of(waiting)
        if isinstance(requests[0], Look):
            return [look.work() for look in cast("Sequence[Look]", requests)]
        runnable, inputs, settings = self._call(requests)
        configs: Any = [config_of[id(episode)] for episode in waiting]
        if len(inputs) == 1:
            return _results(requests, [runnable.invoke(inputs[0], configs[0], **settings)])
        return _results(requests, runnable.batch(inputs, configs, **settings))

    async def _aperform(self, config_of: Mapping[int, RunnableConfig], waiting: list[Episode]) -> list[Any]:
        requests = requests_of(waiting)
        if isinstance(requests[0], Look):
            return await run_in_executor(None, self._perform, config_of, waiting)
        # In a thread: pictures become base64 here.
        runnable, inputs, settings = await run_in_executor(None, self._call, requests)
        configs: Any = [config_of[id(episode)] for episode in waiting]
        if len(inputs) == 1:
            return _results(requests, [await runnable.ainvoke(inputs[0], configs[0], **settings)])
        return _results(requests, await runnable.abatch(inputs, configs, **settings))

    def _call(self, requests: Sequence[Request]) -> tuple[Runnable[Any, Any], list[Any], dict[str, Any]]:
        """What to call for these requests, with which inputs, and with which settings."""
        if isinstance(requests[0], Write):
            writes = cast("Sequence[Write]", requests)
            cites = isinstance(self.llm, ChatEVisRAG)
            messages = [to_messages(write.conversation, remember_pages=cites) for write in writes]
            return self.llm, messages, self.llm_settings
        finds = cast("Sequence[Find]", requests)
        settings: dict[str, Any] = {}
        # Other retrievers give as many as they give: LangChain has no common argument for it.
        if isinstance(self.retriever, VisRAGRetriever):
            settings["k"] = max(find.count for find in finds)
            settings["with_scores"] = True  # they stand in the trace
        return self.retriever, [find.query for find in finds], settings

    def _begin(self, given: Any) -> Episode:
        question = given.get(self.question_key) if isinstance(given, dict) else given
        if not isinstance(question, str) or not question.strip():
            raise SettingError(
                f"The question is {question!r}. Give a text, or a dict such as {{{self.question_key!r}: 'How many?'}}."
            )
        if isinstance(self.llm, ChatEVisRAG):
            generator = self.llm._generator
            # Asked when it is needed: it loads the model.
            return Episode(question, self.rules, lambda: capacity_of(generator()))
        return Episode(question, self.rules)


def _by_episode(episodes: Sequence[Episode], configs: Sequence[RunnableConfig]) -> dict[int, RunnableConfig]:
    # By identity: two questions of a batch may be equal.
    return dict(zip(map(id, episodes), configs, strict=True))


def _results(requests: Sequence[Request], outputs: Sequence[Any]) -> list[Any]:
    """What LangChain gave, as episodes take it."""
    if isinstance(requests[0], Write):
        return list(map(_generation, outputs))
    return [list(map(_hit, documents)) for documents in outputs]


def to_messages(conversation: Conversation, *, remember_pages: bool = True) -> list[BaseMessage]:
    """A conversation of the core as LangChain's messages; pages and pictures become image blocks.

    Args:
        conversation: What was said.
        remember_pages: A text that is a page's says so, for ChatEVisRAG; other models' servers may refuse that.

    >>> from visrag_integrations.types import Message
    >>> [message.type for message in to_messages((Message(("Hi",)), Message(("Hello",), "assistant")))]
    ['human', 'ai']
    """
    messages: list[BaseMessage] = []
    for turn in conversation:
        if turn.role == "assistant":
            messages.append(AIMessage(turn.text))
        else:
            messages.append(HumanMessage([_block(part, remember_pages) for part in turn.content]))
    return messages


def _block(part: Part, remember_pages: bool) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    page = part if isinstance(part, Page) else Page("crop", 1, picture=part)
    if page.picture is not None:
        # Where it has to be encoded, as PNG: small print does not survive being encoded as JPEG once more.
        page = dataclasses.replace(page, picture=picture_file(page.picture, format="PNG").data)
    elif remember_pages:
        return text_page_to_block(page)
    return page_to_block(page)


def _generation(message: Any) -> Generation:
    if not isinstance(message, BaseMessage):  # of a chain that stands for the model
        return Generation(str(message))
    reason = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    finish_reason = "length" if reason in _CUT_OFF else "stop"
    used = getattr(message, "usage_metadata", None)
    usage = Usage(used["input_tokens"], used["output_tokens"]) if used else None
    return Generation(raw_text(message), usage=usage, finish_reason=finish_reason)


def _hit(document: Document) -> ScoredPage:
    """The Document as a page; one without an id gets one from its content, so that it is not shown twice."""
    id_ = document.id
    if not id_:
        content = repr((document.page_content, sorted(document.metadata.items(), key=lambda item: item[0])))
        id_ = hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()
    page = document_to_page(document, id_)
    score = document.metadata.get("score")
    if not isinstance(score, (int, float)):
        score = 0.0
    return ScoredPage(page, float(score), str(document.metadata.get("score_type") or "none"))


def _first(episode: Episode) -> AddableDict:
    return AddableDict(question=episode.question, steps=[], context=[])


def _piece(step: Step) -> AddableDict:
    piece = AddableDict(steps=[step])
    if isinstance(step, Search) and step.observation.shown:
        piece["context"] = [found_page_to_document(shown.page.page) for shown in step.observation.shown]
    return piece


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
