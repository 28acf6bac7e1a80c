"""The left column: adding documents, watching them being read, choosing and removing them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from visrag_integrations.errors import SettingError, VisRAGError
from visrag_integrations.readers.sources import SUFFIXES
from visrag_integrations.servers.demo import fragments, words
from visrag_integrations.servers.demo.base_state import BaseState
from visrag_integrations.servers.demo.examples import example_questions
from visrag_integrations.servers.demo.knowledge_bases import KnowledgeBases
from visrag_integrations.servers.demo.local_sources import add_sources
from visrag_integrations.servers.demo.local_visitors import is_local
from visrag_integrations.servers.demo.page_pieces import html
from visrag_integrations.servers.demo.shown_errors import in_words, shown, typed
from visrag_integrations.servers.demo.visitor_limits import in_words as size_in_words

EXAMPLES = 3
"""Questions that are offered; they stand in one row."""
# Seconds between two looks at how far indexing is. Each sends the whole status again; more often would be more traffic,
# and not easier to follow.
_LOOK_AGAIN = 0.7


@dataclass
class DocumentsPanel:
    """The components and their handlers.

    Attributes:
        bases: All knowledge bases.
        local: Whether the person at this machine is the only one who can open the page; then folders and addresses
            may be typed in. Never for visitors, who would read the server's disk.
        watching: Session -> the look that is up to date.
    """

    bases: KnowledgeBases
    local: bool = False
    watching: dict[str, object] = field(default_factory=dict)

    def build(self) -> None:
        """Lay the components out."""
        limits = self.bases.limits
        self.upload = gr.File(
            label="Add documents",
            file_count="multiple",
            file_types=list(SUFFIXES),
            height=140,
            elem_id="upload",
        )
        allowed = f"PDF, pictures, office files · {limits.files} at once · {size_in_words(limits.file_bytes)} each"
        html(f'<p class="vr-note">{allowed}</p>')
        if self.local:
            self._build_sources()
        self.status = html(elem_id="status")
        self.clear = gr.Button("Hide these messages", size="sm", visible=False, elem_id="clear")
        with gr.Group(visible=False, elem_id="locked") as self.locked:
            self.password = gr.Textbox(label="Password", type="password", max_lines=1, elem_id="document-password")
            self.unlock = gr.Button("Unlock", size="sm", variant="primary", elem_id="unlock")
        self.documents = gr.CheckboxGroup(
            [],
            label="Documents",
            info="Tick some to search only in them. With none ticked, all are searched.",
            visible=False,
            elem_id="documents",
        )
        self.remove = gr.Button("Remove ticked …", size="sm", visible=False, elem_id="remove")
        with gr.Group(visible=False, elem_classes="vr-confirm", elem_id="removing") as self.removing:
            self.warning = html()
            with gr.Row(elem_classes="vr-small"):
                self.confirm = gr.Button("Remove", variant="stop", size="sm", min_width=80, elem_id="confirm-remove")
                self.keep = gr.Button("Keep", size="sm", min_width=80, elem_id="keep-documents")

    def _build_sources(self) -> None:
        with gr.Accordion("From a folder or a web address", open=False, elem_id="sources"):
            self.source = gr.Textbox(
                label="Folder, file or web address",
                placeholder="/home/me/contracts or https://example.org/report.pdf",
                max_lines=1,
                elem_id="source",
            )
            self.add_source = gr.Button("Add", size="sm", elem_id="add-source")
            html('<p class="vr-note">Only you see this: the page is open to this computer alone. Files are copied.</p>')

    @property
    def seen(self) -> list[Any]:
        """What `watch` changes, beside the example questions."""
        return [self.status, self.documents, self.remove, self.locked, self.password, self.clear]

    # --- what happens -----------------------------------------------------------------------------------------------

    async def watch(self, name: str, request: gr.Request) -> AsyncIterator[list[Any]]:
        """How far indexing is, again and again until it ends or this session looks elsewhere."""
        look = object()  # a session that looks again has another one, and this look ends
        self.watching[request.session_hash] = look
        try:
            before: list[Any] = []
            running = True
            while running and self.watching.get(request.session_hash) is look:
                started = time.monotonic()
                running, news = await asyncio.to_thread(self._look, name)
                if news != before:
                    before = news
                    yield news
                if running:
                    # Counting a large knowledge base takes long: looking takes a fifth of the time at most, so that
                    # indexing goes on.
                    looked = time.monotonic() - started
                    await asyncio.sleep(max(_LOOK_AGAIN, 4 * looked))
        finally:
            if self.watching.get(request.session_hash) is look:
                del self.watching[request.session_hash]

    def _look(self, name: str) -> tuple[bool, list[Any]]:
        """Whether indexing goes on; what is shown, and the example questions."""
        try:
            base = self.bases.get(typed(name))
            state = base.state()
            examples: list[str] = []
            if not state.indexing.running:
                examples = example_questions(base.store.scroll(), EXAMPLES)
        except (VisRAGError, OSError) as err:
            hidden = gr.update(visible=False)
            return False, [fragments.problem(in_words(err)), *[hidden] * (5 + EXAMPLES)]
        examples += [""] * (EXAMPLES - len(examples))  # a button without a question is hidden
        buttons = [gr.update(value=text, visible=bool(text)) for text in examples]
        return state.indexing.running, [*_news(state), *buttons]

    def take(self, name: str, uploads: Any, answer: str | None) -> tuple[None, Any]:
        """Uploaded files go to the knowledge base; the field is empty again."""
        # Gradio sends a list of files, whatever else a request may hold.
        given = [upload for upload in uploads or () if isinstance(upload, dict)]  # what comes is not trusted
        try:
            taken = self.bases.upload(typed(name), given)
        except (VisRAGError, OSError) as err:
            raise shown(err) from err
        return None, self._welcome(len(taken), answer)

    def take_source(self, name: str, source: str, answer: str | None, request: gr.Request) -> tuple[str, Any]:
        """What the person at this machine typed goes to the knowledge base."""
        try:
            if not self.local or not is_local(request):
                raise SettingError("Folders and addresses can be added only by the person who runs the demo.")
            base = self.bases.get(typed(name))
            taken = add_sources(base, [typed(source)], self.bases.room())
        except (VisRAGError, OSError) as err:
            raise shown(err) from err
        if taken.left_out:
            left = fragments.count(len(taken.left_out), "file")
            gr.Warning(fragments.escaped(f"{left} of kinds that cannot be read were left out."))
        return "", self._welcome(len(taken.names), answer)

    def _welcome(self, taken: int, answer: str | None) -> Any:
        """An answer is left where it stands; only a welcome or a hint gives way to the next welcome."""
        first = any(kind in str(answer) for kind in (fragments.EMPTY, fragments.HINT))
        if taken and first:
            return fragments.welcome(taken, words.while_indexing(self.bases.models.embedder))
        return gr.skip()

    def try_password(self, name: str, password: str) -> str:
        """Read the locked documents again with what was typed; the field is empty again."""
        try:
            self.bases.get(typed(name)).unlock(typed(password))
        except (VisRAGError, OSError) as err:
            raise shown(err) from err
        return ""

    def hide(self, name: str) -> None:
        """What failed was read."""
        try:
            self.bases.get(typed(name)).dismiss()
        except (VisRAGError, OSError) as err:
            raise shown(err) from err

    def ask_first(self, documents: Any) -> tuple[Any, str]:
        """What would be removed."""
        names = _names(documents)
        if not names:
            raise shown(SettingError("Tick the documents that are to be removed first."))
        what = f"“{names[0]}”" if len(names) == 1 else f"these {len(names)} documents"
        text = f"Remove {what}? Everybody who uses this page loses it. This cannot be undone."
        return gr.update(visible=True), f'<p class="vr-ask-first">{fragments.escaped(text)}</p>'

    def remove_ticked(self, name: str, documents: Any) -> tuple[Any, Any]:
        """Those that are ticked are removed, and none is ticked."""
        try:
            self.bases.get(typed(name)).remove(_names(documents))
        except (VisRAGError, OSError) as err:
            raise shown(err) from err
        return gr.update(visible=False), gr.update(value=[])


def _names(documents: Any) -> list[str]:
    if not isinstance(documents, list):
        return []
    return [name for name in documents[: fragments.MOST_LISTED] if isinstance(name, str)]


def _news(state: BaseState) -> list[Any]:
    """What `watch` shows of a state."""
    # Without a value: what is ticked in the browser stays ticked while pages are read.
    listed = state.listed[: fragments.MOST_LISTED]
    choices = [(fragments.document_label(document), document.name) for document in listed]
    asked = "Password"
    if state.locked:
        more = f" and {len(state.locked) - 1} more" if len(state.locked) > 1 else ""
        asked = f"Password of {state.locked[0]}{more}"
    return [
        fragments.status(state),
        gr.update(choices=choices, visible=bool(choices)),
        gr.update(visible=bool(choices)),
        gr.update(visible=bool(state.locked) and not state.indexing.running),
        gr.update(label=asked),
        gr.update(visible=bool(state.indexing.failures or state.indexing.error) and not state.indexing.running),
    ]
