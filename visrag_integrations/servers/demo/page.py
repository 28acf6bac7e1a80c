"""The components of the page, and what happens when people use them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from visrag_integrations.errors import SettingError, VisRAGError
from visrag_integrations.readers.sources import SUFFIXES
from visrag_integrations.servers.demo import fragments
from visrag_integrations.servers.demo.answer_state import AnswerState
from visrag_integrations.servers.demo.examples import example_questions
from visrag_integrations.servers.demo.knowledge_bases import KnowledgeBases
from visrag_integrations.servers.demo.visitor_limits import in_words

logger = logging.getLogger(__name__)

_EXAMPLES = 3  # questions that are offered; they stand in one row
# Seconds between two looks at how far indexing is, and between two versions of an answer that is being written. Each
# sends the whole status or answer again; more often would be more traffic, and not easier to follow.
_LOOK_AGAIN = 0.7
_SHOW_AGAIN = 0.15


@dataclass
class DemoPage:
    """One page; every visitor gets the same one, and handlers hold no state of theirs but `watching`."""

    bases: KnowledgeBases
    watching: dict[str, object] = field(default_factory=dict)  # session -> the look that is up to date

    def build(self) -> gr.Blocks:
        """Everything, laid out and wired."""
        with gr.Blocks(title="visrag", analytics_enabled=False, fill_width=True) as demo:
            models = self.bases.models
            _html(fragments.header(f"{models.embedder.name} + {models.generator.name}"))
            with gr.Row(elem_classes="vr-columns"):
                with gr.Column(scale=2, min_width=320, elem_classes="vr-left"):
                    self._documents_column()
                with gr.Column(scale=5, min_width=320, elem_classes="vr-right"):
                    self._answers_column()
            self._wire(demo)
        return demo

    def _documents_column(self) -> None:
        self.base = gr.Dropdown(self.bases.names(), label="Knowledge base", elem_id="base", filterable=False)
        with gr.Row(elem_classes="vr-small"):
            self.new = gr.Button("New …", size="sm", min_width=80, elem_id="new")
            self.delete = gr.Button("Delete …", size="sm", min_width=80, elem_id="delete")
        with gr.Group(visible=False) as self.creating:
            self.name = gr.Textbox(label="Name", placeholder="Contracts 2024", max_lines=1, elem_id="name")
            with gr.Row(elem_classes="vr-small"):
                self.create = gr.Button("Create", variant="primary", size="sm", min_width=80, elem_id="create")
                self.dismiss = gr.Button("Cancel", size="sm", min_width=80)
        with gr.Group(visible=False, elem_classes="vr-confirm") as self.deleting:
            self.warning = _html()
            with gr.Row(elem_classes="vr-small"):
                self.confirm = gr.Button("Delete", variant="stop", size="sm", min_width=80, elem_id="confirm")
                self.keep = gr.Button("Keep", size="sm", min_width=80)
        limits = self.bases.limits
        self.upload = gr.File(
            label="Add documents",
            file_count="multiple",
            file_types=list(SUFFIXES),
            height=140,
            elem_id="upload",
        )
        allowed = f"PDF, pictures, office files · {limits.files} at once · {in_words(limits.file_bytes)} each"
        _html(f'<p class="vr-note">{allowed}</p>')
        self.status = _html(elem_id="status")

    def _answers_column(self) -> None:
        with gr.Row(elem_classes="vr-ask"):
            self.question = gr.Textbox(
                show_label=False,
                placeholder="What do you want to know?",
                lines=1,
                max_lines=6,
                max_length=self.bases.limits.question,
                scale=8,
                container=False,
                elem_id="question",
            )
            self.send = gr.Button("Ask", variant="primary", scale=1, min_width=88, elem_id="ask")
        with gr.Row(elem_classes="vr-examples"):
            self.examples = [
                gr.Button("", size="sm", visible=False, min_width=120, elem_classes="vr-example")
                for _ in range(_EXAMPLES)
            ]
        self.answer = _html(elem_id="answer")
        self.pages = _html(elem_id="pages")

    def _wire(self, demo: gr.Blocks) -> None:
        """Which handler runs when, and what it reads and changes."""
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        hidden["preprocess"] = False  # what comes is checked here: other sessions make knowledge bases too
        seen = [self.status, *self.examples]
        watch = {"fn": self.watch, "inputs": self.base, "outputs": seen, "trigger_mode": "multiple", **hidden}
        # A look lasts as long as indexing does: visitors must not wait for each other.
        watch["concurrency_limit"] = None
        shown = [self.answer, self.pages]
        ask = {"fn": self.ask, "inputs": [self.base, self.question], "outputs": shown, **hidden}
        ask |= {"concurrency_limit": self.bases.limits.asking, "concurrency_id": "ask"}
        choose = {"fn": self.chosen, "inputs": self.base, "outputs": shown, **hidden}

        demo.load(self.refresh, self.base, self.base, **hidden).then(**choose).then(**watch)
        self.base.input(**choose).then(**watch)
        uploaded = {"inputs": [self.base, self.upload, self.answer], "outputs": [self.upload, self.answer]}
        self.upload.upload(self.take, **uploaded, concurrency_limit=4, **hidden).then(**watch)
        gr.on([self.send.click, self.question.submit], **ask)
        for example in self.examples:
            example.click(_typed, example, self.question, **hidden).then(**ask)
        self._wire_bases(hidden, choose, watch)

    def _wire_bases(self, hidden: dict[str, Any], choose: dict[str, Any], watch: dict[str, Any]) -> None:
        """Making and deleting knowledge bases; then the one that is chosen is shown and watched."""
        self.new.click(lambda: gr.update(visible=True), None, self.creating, **hidden)
        self.dismiss.click(lambda: gr.update(visible=False), None, self.creating, **hidden)
        created = [self.base, self.creating, self.name]
        for begin in (self.create.click, self.name.submit):
            begin(self.make, [self.name, self.base], created, **hidden).success(**choose).then(**watch)
        self.delete.click(self.ask_first, self.base, [self.deleting, self.warning], **hidden)
        self.keep.click(lambda: gr.update(visible=False), None, self.deleting, **hidden)
        self.confirm.click(self.remove, self.base, [self.base, self.deleting], **hidden).success(**choose).then(**watch)

    # --- what happens -----------------------------------------------------------------------------------------------

    def refresh(self, chosen: str | None) -> Any:
        """The knowledge bases there are now."""
        names = self.bases.names()
        if chosen not in names:  # another visitor deleted it
            chosen = next(iter(names), None)
        return gr.update(choices=names, value=chosen)

    def chosen(self, name: str) -> tuple[str, str]:
        """An answer belongs to the knowledge base it came from: another one starts empty."""
        try:
            return fragments.welcome(len(self.bases.get(_typed(name)).files())), ""
        except (VisRAGError, OSError) as err:
            return fragments.problem(_in_words(err)), ""

    async def watch(self, name: str, request: gr.Request) -> AsyncIterator[list[Any]]:
        """How far indexing is, again and again until it ends or this session looks elsewhere."""
        look = object()  # a session that looks again has another one, and this look ends
        self.watching[request.session_hash] = look
        try:
            shown: list[Any] = []
            running = True
            while running and self.watching.get(request.session_hash) is look:
                started = time.monotonic()
                running, news = await asyncio.to_thread(self._seen, name)
                if news != shown:
                    shown = news
                    yield [news[0], *(gr.update(value=text, visible=bool(text)) for text in news[1:])]
                if running:
                    # Counting a large knowledge base takes long: looking takes a fifth of the time at most, so that
                    # indexing goes on.
                    looked = time.monotonic() - started
                    await asyncio.sleep(max(_LOOK_AGAIN, 4 * looked))
        finally:
            if self.watching.get(request.session_hash) is look:
                del self.watching[request.session_hash]

    def _seen(self, name: str) -> tuple[bool, list[str]]:
        """Whether indexing goes on; the status, and the example questions."""
        try:
            base = self.bases.get(_typed(name))
            state = base.state()
            examples: list[str] = []
            if not state.indexing.running:
                examples = example_questions(base.store.scroll(), _EXAMPLES)
        except (VisRAGError, OSError) as err:
            return False, [fragments.problem(_in_words(err)), *[""] * _EXAMPLES]
        examples += [""] * (_EXAMPLES - len(examples))  # a button without a question is hidden
        return state.indexing.running, [fragments.status(state), *examples]

    def take(self, name: str, uploads: Any, answer: str | None) -> tuple[None, Any]:
        """Uploaded files go to the knowledge base; the field is empty again."""
        given = [upload for upload in uploads or () if isinstance(upload, dict)]  # what comes is not trusted
        try:
            taken = self.bases.upload(_typed(name), given)
        except (VisRAGError, OSError) as err:
            raise _shown(err) from err
        # An answer is left where it stands; only a welcome gives way to the next one.
        if taken and fragments.EMPTY in str(answer):
            return None, fragments.welcome(len(taken))
        return None, gr.skip()

    def ask(self, name: str, question: str) -> Iterator[tuple[Any, Any]]:
        """The answer as it comes, and the pages it rests on."""
        try:
            state = AnswerState(self._checked(question))
            yield fragments.answer(state), ""
            shown = time.monotonic()
            for event in self.bases.get(_typed(name)).ask(state.question):
                if state.take(event):
                    yield fragments.answer(state), fragments.pages(state.pages)
                elif time.monotonic() - shown > _SHOW_AGAIN:
                    shown = time.monotonic()
                    yield fragments.answer(state), gr.skip()  # pages are large; they are sent when they changed
        except (VisRAGError, OSError) as err:
            yield fragments.problem(_in_words(err)), ""
        except Exception:
            logger.exception("a question failed")
            yield fragments.problem("Something went wrong; the log of the server says what."), ""

    def _checked(self, question: str) -> str:
        question = _typed(question).strip()
        if not question:
            raise SettingError("Type a question first.")
        if len(question) > self.bases.limits.question:
            raise SettingError(f"The question is longer than {self.bases.limits.question} characters. Shorten it.")
        return question

    def make(self, name: str, chosen: str) -> tuple[Any, Any, Any]:
        """A new knowledge base, chosen at once."""
        try:
            made = self.bases.create(_typed(name))
        except (VisRAGError, OSError) as err:
            raise _shown(err) from err
        return gr.update(choices=self.bases.names(), value=made.name), gr.update(visible=False), ""

    def ask_first(self, name: str) -> tuple[Any, str]:
        """What would be deleted."""
        try:
            base = self.bases.get(_typed(name))
        except VisRAGError as err:
            raise _shown(err) from err
        documents = fragments.count(len(base.files()), "document")
        text = f"Delete “{base.name}” with its {documents}? This cannot be undone."
        return gr.update(visible=True), f'<p class="vr-ask-first">{fragments.escaped(text)}</p>'

    def remove(self, name: str) -> tuple[Any, Any]:
        """One knowledge base less; there is always one."""
        try:
            self.bases.delete(_typed(name))
            self.bases.keep_one()
        except (VisRAGError, OSError) as err:
            raise _shown(err) from err
        return self.refresh(None), gr.update(visible=False)


def _html(value: str = "", **settings: Any) -> Any:
    """A piece of the page whose look is all in demo.css."""
    return gr.HTML(value, apply_default_css=False, padding=False, **settings)


def _typed(value: Any) -> str:
    """What somebody typed or chose; "" for anything else: a file sent in its place would come back with its path."""
    return value if isinstance(value, str) else ""


def _shown(error: Exception) -> gr.Error:
    """What Gradio shows in a corner of the page."""
    return gr.Error(fragments.escaped(_in_words(error)), print_exception=False)


def _in_words(error: Exception) -> str:
    """What is wrong; of errors of the system, without the paths of this machine."""
    if isinstance(error, OSError):
        return error.strerror or "The file system failed."
    return str(error)
