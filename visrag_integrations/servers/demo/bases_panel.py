"""Choosing, making and deleting knowledge bases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from visrag_integrations.errors import VisRAGError
from visrag_integrations.servers.demo import fragments
from visrag_integrations.servers.demo.knowledge_bases import KnowledgeBases
from visrag_integrations.servers.demo.page_pieces import QUIET, html
from visrag_integrations.servers.demo.shown_errors import shown, typed


@dataclass
class BasesPanel:
    """The components and their handlers."""

    bases: KnowledgeBases

    def build(self) -> None:
        """Lay the components out."""
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
            self.warning = html()
            with gr.Row(elem_classes="vr-small"):
                self.confirm = gr.Button("Delete", variant="stop", size="sm", min_width=80, elem_id="confirm")
                self.keep = gr.Button("Keep", size="sm", min_width=80)

    def wire(self, shown_after: Sequence[dict[str, Any]]) -> None:
        """Making and deleting; then the one that is chosen is shown, by these events in turn."""
        self.new.click(lambda: gr.update(visible=True), None, self.creating, **QUIET)
        self.dismiss.click(lambda: gr.update(visible=False), None, self.creating, **QUIET)
        created = [self.base, self.creating, self.name]
        for begin in (self.create.click, self.name.submit):
            _then(begin(self.make, [self.name, self.base], created, **QUIET), shown_after)
        self.delete.click(self.ask_first, self.base, [self.deleting, self.warning], **QUIET)
        self.keep.click(lambda: gr.update(visible=False), None, self.deleting, **QUIET)
        _then(self.confirm.click(self.remove, self.base, [self.base, self.deleting], **QUIET), shown_after)

    def refresh(self, chosen: str | None) -> Any:
        """The knowledge bases there are now."""
        names = self.bases.names()
        if chosen not in names:  # another visitor deleted it
            chosen = next(iter(names), None)
        return gr.update(choices=names, value=chosen)

    def make(self, name: str, chosen: str) -> tuple[Any, Any, Any]:
        """A new knowledge base, chosen at once."""
        try:
            made = self.bases.create(typed(name))
        except (VisRAGError, OSError) as err:
            raise shown(err) from err
        return gr.update(choices=self.bases.names(), value=made.name), gr.update(visible=False), ""

    def ask_first(self, name: str) -> tuple[Any, str]:
        """What would be deleted."""
        try:
            base = self.bases.get(typed(name))
        except VisRAGError as err:
            raise shown(err) from err
        documents = fragments.count(len(base.files()), "document")
        text = f"Delete “{base.name}” with its {documents}? This cannot be undone."
        return gr.update(visible=True), f'<p class="vr-ask-first">{fragments.escaped(text)}</p>'

    def remove(self, name: str) -> tuple[Any, Any]:
        """One knowledge base less; there is always one."""
        try:
            self.bases.delete(typed(name))
            self.bases.keep_one()
        except (VisRAGError, OSError) as err:
            raise shown(err) from err
        return self.refresh(None), gr.update(visible=False)


def _then(event: Any, others: Sequence[dict[str, Any]]) -> None:
    first, *rest = others
    event = event.success(**first)
    for other in rest:
        event = event.then(**other)
