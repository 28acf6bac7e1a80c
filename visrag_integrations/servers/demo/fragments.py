"""The pieces of HTML that the page shows. Whatever comes from a model, a document or a person is escaped here."""

from __future__ import annotations

import html
from collections.abc import Sequence

from visrag_integrations.report.verdict_signs import VERDICTS
from visrag_integrations.servers.demo.answer_state import AnswerPage, AnswerState
from visrag_integrations.servers.demo.knowledge_base import BaseState, DocumentState
from visrag_integrations.types import Evidence, Failure

# Every look at the status sends the whole list again, so it must not grow without end.
MOST_ROWS = 100
"""Documents and failures that are listed; of the rest only the number is shown."""

EMPTY = "vr-empty"
"""The CSS class that only a welcome has: what an answer is told from."""
_WELCOME = f"""<div class="{EMPTY}"><h3>{{title}}</h3><ol>{{steps}}</ol></div>"""


def header(models: str) -> str:
    """The name of the page, and what works behind it."""
    return (
        '<header class="vr-header"><div><h1>visrag</h1><p>Ask your documents. See the evidence on the page.</p></div>'
        f'<p class="vr-models" title="What finds pages, and what writes answers">{escaped(models)}</p></header>'
    )


def welcome(documents: int) -> str:
    """What stands where the answer will be."""
    if documents:
        return _WELCOME.format(
            title="Ready when you are",
            steps="<li>Ask a question above, in your own words.</li><li>Read the answer and what it rests on.</li>"
            "<li>Check it: the evidence is outlined on the page it comes from.</li>",
        )
    return _WELCOME.format(
        title="Start with a document",
        steps="<li>Drop a PDF, a picture or an office file on the left.</li>"
        "<li>Watch it being indexed: pages are searched as pictures, nothing is cut up.</li>"
        "<li>Ask, and see the evidence outlined on its page.</li>",
    )


def status(state: BaseState) -> str:
    """How far indexing is, every document, and what failed."""
    indexing = state.indexing
    parts = []
    if indexing.running:
        parts.append(_progress(state))
    else:
        parts.append(_summary(state))
    if indexing.error:
        parts.append(f'<p class="vr-bad" role="alert">{escaped(indexing.error)}</p>')
    if state.documents:
        rows = "".join(map(_document, state.documents[:MOST_ROWS]))
        parts.append(f'<ul class="vr-documents">{rows}{_more(len(state.documents))}</ul>')
    if indexing.failures:
        rows = "".join(map(_failure, indexing.failures[:MOST_ROWS]))
        parts.append(f'<ul class="vr-failures">{rows}{_more(len(indexing.failures))}</ul>')
    return f'<div class="vr-status" aria-live="polite">{"".join(parts)}</div>'


def answer(state: AnswerState) -> str:
    """The answer as far as it is known, and the evidence."""
    done = state.answer
    kind, label = _kind_and_label(state)
    parts = [
        f'<p class="vr-question" dir="auto">{escaped(state.question)}</p>',
        f'<p class="vr-label">{escaped(label)}</p>',
        _text(state),
    ]
    found = [entry for entry in state.evidence if entry.relevant]
    if found:
        items = "".join(map(_evidence, found))
        parts.append(f'<p class="vr-label">Evidence</p><ul class="vr-evidence">{items}</ul>')
    # The rest is for who wants to know why; it is folded away.
    if done is not None:
        parts.append(_fold("Reasoning", done.thinking))
        parts.append(_fold("What the model saw", done.observation))
        parts.append(_fold("What was off", "\n".join(done.problems)))
    return f'<section class="vr-answer {kind}" aria-live="polite">{"".join(parts)}</section>'


def _kind_and_label(state: AnswerState) -> tuple[str, str]:
    """The CSS class of an answer, and what stands above its text."""
    if state.answer is None:
        return "vr-open", state.stage
    if state.answer.sufficient:
        return "vr-done", "Answer"
    return "vr-none", "No answer in these pages"


def _text(state: AnswerState) -> str:
    if state.text:
        return f'<p class="vr-text" dir="auto">{escaped(state.text)}</p>'
    if state.stage:
        return '<p class="vr-wait"></p>'
    return '<p class="vr-text" dir="auto">The model gave no answer.</p>'


def pages(shown: Sequence[AnswerPage]) -> str:
    """The pages that were read, as pictures to look closer at."""
    if not shown:
        return ""
    figures = "".join(map(_figure, shown))
    return f'<section class="vr-pages"><p class="vr-label">Pages that were read</p><div>{figures}</div></section>'


def problem(text: str) -> str:
    """Why there is nothing to show."""
    return f'<section class="vr-answer vr-none" role="alert"><p class="vr-text">{escaped(text)}</p></section>'


def escaped(text: str) -> str:
    """Text that can be put anywhere into HTML.

    >>> escaped('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    # Half a surrogate pair, which a model or a PDF may give, cannot be sent; it becomes a question mark.
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True)


def place(source: str, number: int) -> str:
    """Document and page as people say it.

    >>> place("/srv/bases/tax/documents/tax.pdf", 3)
    'tax.pdf, page 3'
    """
    name = source.replace("\\", "/").rpartition("/")[2] or "document"
    return f"{name}, page {number}"


def _progress(state: BaseState) -> str:
    done = sum(document.pages for document in state.documents)
    totals = [document.total for document in state.documents if document.total is not None]
    facts, share = [f"{count(done, 'page')} so far"], ""
    # How many pages there will be is known once every document was opened.
    if totals and len(totals) == len(state.documents):
        facts = [f"{done} of {sum(totals)} pages"]
        share = f' value="{done}" max="{max(1, sum(totals))}"'
    progress = state.indexing.progress
    if progress.added:
        facts.append(f"{progress.pages_per_second:.1f} pages/s")
    return (
        '<p class="vr-line"><b>Indexing</b> <span>' + " · ".join(facts) + "</span></p>"
        f'<progress class="vr-bar"{share} aria-label="Indexing"></progress>'
    )


def _summary(state: BaseState) -> str:
    if not state.documents:
        return '<p class="vr-line"><b>Empty</b> <span>No documents yet</span></p>'
    number = sum(document.pages for document in state.documents)
    facts = f"{count(len(state.documents), 'document')} · {count(number, 'page')}"
    return f'<p class="vr-line"><b>Ready</b> <span>{facts}</span></p>'


def _document(document: DocumentState) -> str:
    name = escaped(document.name)
    return (
        f'<li class="vr-{document.state}"><span class="vr-name" dir="auto" title="{name}">'
        f"{name}</span><span>{_pages_done(document)}</span></li>"
    )


def _pages_done(document: DocumentState) -> str:
    if document.state == "waiting":
        return "waiting"
    if document.state == "indexing" and not document.pages:
        return "reading …"
    # A document that is done may lack pages too: those that failed.
    if document.total is not None and document.pages < document.total:
        return f"{document.pages} of {document.total} pages"
    return count(document.pages, "page")


def _failure(failure: Failure) -> str:
    name = failure.source
    if failure.page is not None:
        name += f", page {failure.page}"
    return f'<li><span class="vr-name" dir="auto">{escaped(name)}</span><span>{escaped(failure.error)}</span></li>'


def _evidence(entry: Evidence) -> str:
    where = f"page {entry.page_index}"
    if entry.page is not None:
        where = place(entry.page.source, entry.page.number)
    return (
        f'<li><span class="vr-number">{entry.page_index}</span><div><p class="vr-place" dir="auto">{escaped(where)}</p>'
        f'<blockquote dir="auto">{escaped(entry.text)}</blockquote>{_verdict(entry)}</div></li>'
    )


def _verdict(entry: Evidence) -> str:
    """Whether it stands on its page; nothing while that is not known."""
    found = entry.grounding
    if found is None:  # evidence is checked when the answer is whole
        return ""
    kind, sign, words = VERDICTS[found.verdict]
    note = ""
    # The note lists what is missing; where nothing was found, that is the whole text, which stands there already.
    if found.note and found.verdict != "not found on the page":
        note = f" <span>{escaped(found.note)}</span>"
    return f'<p class="vr-verdict vr-{kind}"><b><span aria-hidden="true">{sign}</span> {words}</b>{note}</p>'


def _figure(shown: AnswerPage) -> str:
    where = description = escaped(place(shown.page.source, shown.page.number))
    kind = "vr-page"
    if shown.outlined:
        description += f", {count(shown.outlined, 'place')} outlined"
        kind += " vr-outlined"
    picture = '<span class="vr-missing">no picture</span>'
    if shown.uri:
        # A checkbox that CSS enlarges the picture by: the page needs no script of its own.
        picture = f'<input type="checkbox" aria-label="Enlarge {where}"><img src="{shown.uri}" alt="{description}">'
    return (
        f'<figure class="{kind}"><label>{picture}</label><figcaption><span class="vr-number">{shown.index}</span>'
        f'<span class="vr-name" dir="auto" title="{where}">{where}</span></figcaption></figure>'
    )


def _fold(title: str, text: str) -> str:
    if not text.strip():
        return ""
    return f'<details><summary>{title}</summary><p dir="auto">{escaped(text.strip())}</p></details>'


def _more(number: int) -> str:
    if number <= MOST_ROWS:
        return ""
    return f"<li><span>and {number - MOST_ROWS} more</span></li>"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "page"), count(2, "page")
    ('1 page', '2 pages')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}s"
