"""Two searches side by side: of two ways to search, or of two knowledge bases that different models filled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from visrag_integrations.errors import SettingError, VisRAGError
from visrag_integrations.servers.demo import answer_fragments, fragments, words
from visrag_integrations.servers.demo.asking import Asking
from visrag_integrations.servers.demo.knowledge_base import KnowledgeBase
from visrag_integrations.servers.demo.page_pieces import QUIET, html
from visrag_integrations.servers.demo.picture_uri import picture_uri
from visrag_integrations.servers.demo.shown_errors import UNFORESEEN, in_words, typed
from visrag_integrations.servers.demo.visitor_choices import MODE_WORDS, Choices, read_count, read_mode
from visrag_integrations.types import ScoredPage

logger = logging.getLogger(__name__)

# Two rows of pages beside each other; each picture is a large message.
_MOST_PAGES = 5
_WHAT_FOR = (
    "One question, two searches: see which finds the better pages. Each side has its way to search and its knowledge "
    "base; a knowledge base is searched with the model that filled it."
)


@dataclass
class Comparison:
    """The components and their handler.

    Attributes:
        asking: Says how many may be answered at a time; searches count too.
    """

    asking: Asking

    def build(self) -> None:
        """Lay the components out."""
        limits = self.asking.bases.limits
        html(f'<p class="vr-note">{_WHAT_FOR}</p>')
        self.question = gr.Textbox(
            label="Question to compare with", max_lines=3, max_length=limits.question, elem_id="compare-question"
        )
        ways = [(text, mode) for mode, text in MODE_WORDS.items()]
        with gr.Row():
            side: dict[str, Any] = {"filterable": False, "min_width": 220}
            self.left = gr.Dropdown(ways, value="dense", label="Left", elem_id="compare-left", **side)
            self.right = gr.Dropdown(ways, value="lexical", label="Right", elem_id="compare-right", **side)
            self.count = gr.Number(3, label="Pages", minimum=1, maximum=_MOST_PAGES, precision=0, min_width=80)
        with gr.Row():
            # What there is to choose is filled in when the tab is opened.
            self.left_base = gr.Dropdown([], label="Left knowledge base", elem_id="compare-left-base", **side)
            self.right_base = gr.Dropdown([], label="Right knowledge base", elem_id="compare-right-base", **side)
        self.bases = [self.left_base, self.right_base]
        self.begin = gr.Button("Compare", variant="primary", elem_id="compare")
        self.result = html(elem_id="compared")
        asked = [self.question, self.left, self.right, self.count, *self.bases]
        limit = {"concurrency_limit": limits.asking, "concurrency_id": "ask"}
        gr.on([self.begin.click, self.question.submit], self.compare, asked, self.result, **limit, **QUIET)

    def refresh(self, chosen: Any, left: Any, right: Any) -> tuple[Any, Any]:
        """The knowledge bases there are now; both sides follow the one that is open until they were set apart."""
        names = self.asking.bases.names()
        if left == right or left not in names or right not in names:
            left = right = chosen
        return gr.update(choices=names, value=left), gr.update(choices=names, value=right)

    def compare(self, question: str, left: Any, right: Any, count: Any, left_base: Any, right_base: Any) -> str:
        """What both find, as HTML."""
        try:
            asked = self.asking.checked(question)
            bases = [self.asking.bases.get(typed(given)) for given in (left_base, right_base)]
            for base in bases:
                if not base.store.count():
                    raise SettingError(_empty(base, bases))
            top_k = read_count(count, _MOST_PAGES) or 3
            sides: list[tuple[str, list[ScoredPage]]] = []
            # One slot for both sides: they are searched one after the other.
            with self.asking.slot():
                for base, given in zip(bases, (left, right), strict=True):
                    mode = read_mode(given)
                    found = base.find(asked, Choices(top_k=top_k, mode=mode))
                    sides.append((_title(base, MODE_WORDS[mode or ""], alone=bases[0] is bases[1]), found))
            return compared(sides)
        except (VisRAGError, OSError) as err:
            return fragments.hint(in_words(err))
        except Exception:
            logger.exception("a comparison failed")
            return fragments.problem(UNFORESEEN)


def _empty(base: KnowledgeBase, bases: Sequence[KnowledgeBase]) -> str:
    if bases[0] is bases[1]:
        return words.NOTHING_YET
    return f"There is nothing to search yet in “{base.name}”: choose that knowledge base, and add a document."


def _title(base: KnowledgeBase, way: str, *, alone: bool) -> str:
    """What stands above a side: how it was searched; of two knowledge bases also which, and what filled it."""
    if alone:
        return way
    info = base.store.info
    filled = f", filled by {words.shown_name(info.embedder)}" if info is not None else ""
    return f"{base.name}{filled}: {way}"


def compared(sides: Sequence[tuple[str, Sequence[ScoredPage]]]) -> str:
    """Both lists of pages, each page with its place in the other list."""
    columns = []
    for side, (title, hits) in enumerate(sides):
        _, others = sides[1 - side]
        places = {hit.page.id: place for place, hit in enumerate(others, start=1)}
        figures = ""
        for place, hit in enumerate(hits, start=1):
            figures += _figure(place, hit, places.get(hit.page.id), "right" if side == 0 else "left")
        found = figures or '<p class="vr-note">No page was found.</p>'
        columns.append(f'<section><h3 class="vr-label">{fragments.escaped(title)}</h3>{found}</section>')
    return f'<div class="vr-compared vr-pages">{"".join(columns)}</div>'


def _figure(place: int, hit: ScoredPage, elsewhere: int | None, side: str) -> str:
    title = fragments.place(hit.page.source, hit.page.number)
    named = fragments.escaped(title)
    picture = '<span class="vr-missing">no picture</span>'
    uri = picture_uri(hit.page)
    if uri:
        picture = answer_fragments.opener(f'<img src="{uri}" alt="{named}">', title)
    other = f"also on the {side}, in place {elsewhere}" if elsewhere else f"not on the {side}"
    return (
        f'<figure class="vr-page">{picture}<figcaption><span class="vr-number">{place}</span>'
        f'<span class="vr-name" dir="auto" title="{named}">{named}</span></figcaption>'
        f'<p class="vr-note">{other}</p></figure>'
    )
