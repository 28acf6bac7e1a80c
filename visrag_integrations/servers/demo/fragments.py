"""The pieces of HTML around answers: header, welcome, status. What comes from documents or people is escaped here."""

from __future__ import annotations

import html

from visrag_integrations.servers.demo.base_state import BaseState, DocumentState
from visrag_integrations.types import Failure

# Every look at the status sends the whole list again, so it must not grow without end.
MOST_ROWS = 100
"""Documents and failures that are listed; of the rest only the number is shown."""

MOST_LISTED = 1000
"""Documents that can be ticked; of more the page would become slow. All of them are searched where none is ticked."""

EMPTY = "vr-empty"
"""The CSS class that only a welcome has: what an answer is told from."""
HINT = "vr-hint"
"""The CSS class of what says what to do first."""
_WELCOME = f"""<div class="{EMPTY}"><h2>{{title}}</h2><ol>{{steps}}</ol></div>"""


def header(about: str, names: str) -> str:
    """The name of the page, and what works behind it.

    Args:
        about: How pages are found and answers made, in one sentence.
        names: Of the models.
    """
    return (
        '<header class="vr-header"><div><h1>visrag</h1><p>Ask your documents. See the evidence on the page.</p></div>'
        f'<p class="vr-models" title="{escaped(names)}">{escaped(about)}</p></header>'
    )


def welcome(documents: int, while_indexing: str) -> str:
    """What stands where the answer will be.

    Args:
        documents: How many there are.
        while_indexing: What happens to a document that is added.
    """
    if documents:
        return _WELCOME.format(
            title="Ready when you are",
            steps="<li>Ask a question above, in your own words.</li><li>Read the answer and what it rests on.</li>"
            "<li>Check it: the evidence is outlined on the page it comes from.</li>",
        )
    return _WELCOME.format(
        title="Start with a document",
        steps="<li>Add a PDF, a picture or an office file under “Add documents”.</li>"
        f"<li>{escaped(while_indexing)}</li>"
        "<li>Ask, and see the evidence outlined on its page.</li>",
    )


def status(state: BaseState) -> str:
    """How far indexing is, the documents that are not there yet, and what failed."""
    indexing = state.indexing
    parts = []
    if indexing.running:
        parts.append(_progress(state))
    else:
        parts.append(_summary(state))
    if indexing.error:
        parts.append(f'<p class="vr-bad" role="alert">{escaped(indexing.error)}</p>')
    # Those that are done stand in the list of documents below.
    open_ones = [document for document in state.documents if document.state != "done"]
    if open_ones:
        rows = "".join(map(_document, open_ones[:MOST_ROWS]))
        parts.append(f'<ul class="vr-documents">{rows}{_more(len(open_ones))}</ul>')
    unlisted = len(state.listed) - MOST_LISTED
    if unlisted > 0:
        parts.append(
            f'<p class="vr-note">Listed below are {MOST_LISTED} documents; there are {unlisted} more documents, '
            "which are searched too where none is ticked.</p>"
        )
    if indexing.failures:
        rows = "".join(map(_failure, indexing.failures[:MOST_ROWS]))
        parts.append(f'<ul class="vr-failures">{rows}{_more(len(indexing.failures))}</ul>')
    kind = "vr-status"
    if state.listed and not (indexing.running or indexing.error or indexing.failures or open_ones):
        kind += " vr-ready"  # nothing is to be done about documents: on a phone the question comes first
    return f'<div class="{kind}" aria-live="polite">{"".join(parts)}</div>'


def problem(text: str) -> str:
    """Why there is nothing to show."""
    return f'<section class="vr-answer vr-none" role="alert"><p class="vr-text">{escaped(text)}</p></section>'


def hint(text: str) -> str:
    """What to do first; nothing went wrong."""
    return f'<section class="vr-answer {HINT}" role="status"><p class="vr-text">{escaped(text)}</p></section>'


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
    name = source.replace("\\", "/").rstrip("/").rpartition("/")[2] or "document"
    return f"{name}, page {number}"


def document_label(document: DocumentState) -> str:
    """A document in the list of those that can be searched; plain text.

    >>> document_label(DocumentState("tax.pdf", 3, 3)), document_label(DocumentState("tax.pdf", 3, 5))
    ('tax.pdf · 3 pages', 'tax.pdf · 3 of 5 pages')
    """
    name = document.name.encode("utf-8", "replace").decode("utf-8")
    return f"{name} · {_pages_done(document)}"


def duration(seconds: float) -> str:
    """A time that is left, as people say it.

    >>> duration(4), duration(50), duration(100), duration(5400)
    ('a few seconds', 'less than a minute', 'about 2 minutes', 'about 1.5 hours')
    """
    if seconds < 10:
        return "a few seconds"
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {count(max(1, minutes), 'minute')}"
    hours = f"{seconds / 3600:.1f}".removesuffix(".0")
    return f"about {hours} {'hour' if hours == '1' else 'hours'}"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "page"), count(2, "page")
    ('1 page', '2 pages')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}s"


def _progress(state: BaseState) -> str:
    """A bar, and beside it documents, pages and the time that is left."""
    documents = [document for document in state.documents if document.state != "locked"]
    ended = sum(document.state == "done" for document in documents)
    done = sum(document.pages for document in documents)
    totals = [document.total for document in documents if document.total is not None]
    facts, share = [f"{count(done, 'page')} so far"], ""
    # How many pages there will be is known once every document was opened.
    if totals and len(totals) == len(documents):
        facts = [f"{done} of {sum(totals)} pages"]
        share = f' value="{done}" max="{max(1, sum(totals))}"'
    if len(documents) > 1:
        facts.insert(0, f"{ended} of {len(documents)} documents")
    left = _seconds_left(state, sum(totals) - done if share else None)
    if left is not None:
        facts.append(f"{duration(left)} left")
    return (
        '<p class="vr-line"><b>Reading</b> <span>' + " · ".join(facts) + "</span></p>"
        f'<progress class="vr-bar"{share} aria-label="Reading documents"></progress>'
    )


def _seconds_left(state: BaseState, pages_left: int | None) -> float | None:
    """None where it cannot be known yet."""
    progress = state.indexing.progress
    if pages_left is not None and progress.pages_per_second:
        return pages_left / progress.pages_per_second
    return progress.seconds_left


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
    if document.state == "locked":
        return "needs a password"
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


def _more(number: int) -> str:
    if number <= MOST_ROWS:
        return ""
    return f"<li><span>and {number - MOST_ROWS} more</span></li>"
