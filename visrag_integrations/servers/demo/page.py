"""The components of the page, and which handler runs when."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import gradio as gr

from visrag_integrations.errors import VisRAGError
from visrag_integrations.interfaces.generators import only_quotes
from visrag_integrations.servers.demo import fragments, words
from visrag_integrations.servers.demo.asking import Asking
from visrag_integrations.servers.demo.bases_panel import BasesPanel
from visrag_integrations.servers.demo.comparison import Comparison
from visrag_integrations.servers.demo.conversation import kept_conversation, read_conversation
from visrag_integrations.servers.demo.documents_panel import EXAMPLES, DocumentsPanel
from visrag_integrations.servers.demo.knowledge_bases import KnowledgeBases
from visrag_integrations.servers.demo.page_pieces import QUIET, html
from visrag_integrations.servers.demo.shown_errors import shown, typed
from visrag_integrations.servers.demo.visitor_choices import MODE_WORDS

# What is kept by a browser can be read by whoever uses that browser; Gradio scrambles it with a key that its page
# holds. A key of our own only makes it readable again after a restart.
_SCRAMBLE = "visrag-conversation"
_SAVE = """(html) => {
  if (!html) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([html], {type: "text/html"}));
  link.download = "visrag-report.html";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}"""


@dataclass
class DemoPage:
    """One page; every visitor gets the same one, and conversations are kept by their browsers.

    Attributes:
        bases: What it shows.
        local: Whether the person at this machine is the only one who can open it.
        agent: Whether the model searches in several steps unless a visitor unticks it.
    """

    bases: KnowledgeBases
    local: bool = False
    agent: bool = False

    def __post_init__(self) -> None:
        self.asking = Asking(self.bases)
        self.panel = DocumentsPanel(self.bases, self.local)
        self.bases_panel = BasesPanel(self.bases)
        self.comparison = Comparison(self.asking)

    def build(self) -> gr.Blocks:
        """Everything, laid out and wired."""
        models = self.bases.models
        names = f"{words.shown_name(models.embedder.name)} + {words.shown_name(models.generator.name)}"
        with gr.Blocks(title="visrag", analytics_enabled=False, fill_width=True) as demo:
            html(fragments.header(words.about(models.embedder, models.generator), names))
            # By folder: two demos on one machine have the same address at different times.
            digest = hashlib.sha256(str(self.bases.folder).encode("utf-8", "replace")).hexdigest()[:12]
            self.kept = gr.BrowserState(kept_conversation([]), storage_key=f"visrag-{digest}", secret=_SCRAMBLE)
            with gr.Row(elem_classes="vr-columns"):
                with gr.Column(scale=2, min_width=320, elem_classes="vr-left"):
                    self.bases_panel.build()
                    self.panel.build()
                with gr.Column(scale=5, min_width=320, elem_classes="vr-right"), gr.Tabs(elem_id="tabs"):
                    with gr.Tab("Ask", id="ask-tab"):
                        self._build_question()
                        self._build_settings()
                        self._build_answer()
                    with gr.Tab("Compare searches", id="compare-tab") as self.compare_tab:
                        self.comparison.build()
            self._wire(demo)
        return demo

    def _build_question(self) -> None:
        with gr.Row(elem_classes="vr-ask"):
            self.question = gr.Textbox(
                label="Your question",
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
            self.stop = gr.Button("Stop", variant="stop", scale=1, min_width=88, visible=False, elem_id="stop")
        with gr.Row(elem_classes="vr-examples"):
            self.examples = [
                gr.Button("", size="sm", visible=False, min_width=120, elem_classes="vr-example")
                for _ in range(EXAMPLES)
            ]

    def _build_settings(self) -> None:
        models, limits = self.bases.models, self.bases.limits
        names = list(models.generators)
        usual = models.answering.get("top_k", 3)
        writes = not all(map(only_quotes, models.generators.values()))
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            with gr.Row():
                self.model = gr.Dropdown(
                    names,
                    value=names[0],
                    label="Who answers",
                    filterable=False,
                    visible=len(names) > 1,
                    elem_id="model",
                )
                self.top_k = gr.Number(
                    min(usual, limits.pages),
                    label="Pages to read",
                    minimum=1,
                    maximum=limits.pages,
                    precision=0,
                    elem_id="top-k",
                )
                self.mode = gr.Dropdown(
                    [(text, mode) for mode, text in MODE_WORDS.items()],
                    value="",
                    label="How pages are found",
                    filterable=False,
                    elem_id="mode",
                )
            # Shown also where it cannot be ticked: who looks for it is told what it needs.
            self.in_steps = gr.Checkbox(
                self.agent and writes,
                label="Let the model search by itself, in several steps",
                info=words.STEPS_HELP if writes else words.NEEDS_A_WRITER,
                interactive=writes,
                elem_id="in-steps",
            )
            if not writes:
                html(f'<p class="vr-note">{words.NO_FOLLOW_UPS}</p>')

    def _build_answer(self) -> None:
        self.answer = html(elem_id="answer")
        self.steps = html(elem_id="steps")
        self.pages = html(elem_id="pages")
        with gr.Row(elem_classes="vr-after vr-small"):
            self.download = gr.Button("Download report", size="sm", min_width=120, elem_id="download")
            self.forget = gr.Button("New conversation", size="sm", min_width=120, elem_id="forget")
        self.earlier = html(elem_id="earlier")
        # Where the server leaves the file for the browser to save; no route serves files.
        self.report = gr.Textbox(visible=False, elem_id="report")

    # --- which handler runs when ------------------------------------------------------------------------------------

    def _wire(self, demo: gr.Blocks) -> None:
        base = self.bases_panel.base
        self.view = [self.answer, self.steps, self.pages, self.earlier, self.kept, self.question, self.send, self.stop]
        seen = [*self.panel.seen, *self.examples]
        watch = {"fn": self.panel.watch, "inputs": base, "outputs": seen, "trigger_mode": "multiple", **QUIET}
        # A look lasts as long as indexing does: visitors must not wait for each other.
        watch["concurrency_limit"] = None
        restore = {"fn": self.asking.restored, "inputs": [base, self.kept], "outputs": self.view, **QUIET}
        # Each draws the pages of an answer again: visitors who reload must not slow down those who ask.
        restore |= {"concurrency_limit": 2, "concurrency_id": "restore"}
        # Ticks are for documents of the base that was chosen before.
        untick = {"fn": lambda: gr.update(value=[]), "inputs": None, "outputs": self.panel.documents, **QUIET}

        demo.load(self._first_base, [base, self.kept], base, **QUIET).then(**restore).then(**watch)
        leave = {"fn": self.asking.leave, "inputs": self.kept, "outputs": self.kept, **QUIET}
        base.input(**leave).then(**untick).then(**restore).then(**watch)
        self.bases_panel.wire([leave, untick, restore, watch])
        self._wire_documents(watch)
        self._wire_questions()
        sides = self.comparison.bases
        self.compare_tab.select(self.comparison.refresh, [base, *sides], sides, **QUIET)

    def _wire_documents(self, watch: dict[str, Any]) -> None:
        """Adding, removing and opening documents; then how far that is, is watched."""
        base, panel = self.bases_panel.base, self.panel
        uploaded = {"inputs": [base, panel.upload, self.answer], "outputs": [panel.upload, self.answer]}
        panel.upload.upload(panel.take, **uploaded, concurrency_limit=4, **QUIET).then(**watch)
        for begin in (panel.unlock.click, panel.password.submit):
            begin(panel.try_password, [base, panel.password], panel.password, **QUIET).then(**watch)
        panel.clear.click(panel.hide, base, None, **QUIET).then(**watch)
        panel.remove.click(panel.ask_first, panel.documents, [panel.removing, panel.warning], **QUIET)
        panel.keep.click(lambda: gr.update(visible=False), None, panel.removing, **QUIET)
        removed = {"inputs": [base, panel.documents], "outputs": [panel.removing, panel.documents]}
        panel.confirm.click(panel.remove_ticked, **removed, **QUIET).then(**watch)
        # Not wired at all for visitors: there is no handler that they could call.
        if panel.local:
            for begin in (panel.add_source.click, panel.source.submit):
                given = [base, panel.source, self.answer]
                begin(panel.take_source, given, [panel.source, self.answer], **QUIET).then(**watch)

    def _wire_questions(self) -> None:
        base = self.bases_panel.base
        asked = [base, self.question, self.kept, self.panel.documents, self.top_k, self.mode, self.model, self.in_steps]
        ask = {"fn": self.asking.ask, "inputs": asked, "outputs": self.view, **QUIET}
        ask |= {"concurrency_limit": self.bases.limits.asking, "concurrency_id": "ask"}
        asks = [gr.on([self.send.click, self.question.submit], **ask)]
        for example in self.examples:
            asks.append(example.click(typed, example, self.question, **QUIET).then(**ask))
        # Not one of the few that may be answered at a time: it has to get through when all of them are.
        kept = [base, self.kept]
        self.stop.click(self.asking.stop, self.kept, self.view, cancels=asks, concurrency_limit=None, **QUIET)
        again = {"concurrency_limit": 2, "concurrency_id": "restore"}
        self.forget.click(self.asking.forget, kept, self.view, **again, **QUIET)
        self.download.click(self._report, kept, self.report, concurrency_limit=1, **QUIET).success(
            None, self.report, None, js=_SAVE
        )

    def _first_base(self, chosen: Any, kept: Any) -> Any:
        """The knowledge base that this browser asked about last; a page that is loaded anew begins there."""
        for turn in read_conversation(kept)[-1:]:
            chosen = turn.base
        return self.bases_panel.refresh(typed(chosen))

    def _report(self, name: str, kept: Any) -> str:
        try:
            html_file, left_out = self.asking.report(name, kept)
        except (VisRAGError, OSError) as err:
            raise shown(err) from err
        if left_out:
            gr.Warning(f"The report is full: the {fragments.count(left_out, 'oldest question')} did not fit.")
        return html_file
