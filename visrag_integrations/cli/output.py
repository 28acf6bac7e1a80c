"""What the commands print: text for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import printable, printable_lines

if TYPE_CHECKING:
    from visrag_integrations.ingestion import IndexReport
    from visrag_integrations.types import Answer, Evidence, Failure, Page, ScoredPage


# Names of files that were left out, in a terminal: about as many as fit on one screen.
_MOST_NAMES = 20
# Characters of a passage under a page that was found: two lines of a terminal of 80.
_SNIPPET = 150


def print_json(value: Any) -> None:
    """One JSON object on standard output; characters that its encoding may not have are escaped as JSON does."""
    # A pipe on Windows may be cp1252; "\u00e9" is é for every reader of JSON.
    plain = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not plain))


def failure_lines(failed: Sequence[Failure]) -> list[str]:
    """One line per document or page that failed."""
    lines: list[str] = []
    for failure in failed:
        where = printable(failure.source)
        if failure.page is not None:
            where += f", page {failure.page}"
        # Of a hostile document the reason may quote what stands in it: no commands for the terminal.
        lines.append(f"failed: {where}: {printable_lines(failure.error)}")
    return lines


def warning_lines(report: IndexReport) -> list[str]:
    """What must be said about documents that were read, and the files that were left out, by ending and name."""
    lines: list[str] = []
    for warning in report.warnings:
        where = printable(warning.source)
        if warning.page is not None:
            where += f", page {warning.page}"
        lines.append(f"warning: {where}: {printable_lines(warning.text)}")
    if report.left_out:
        endings = Counter(Path(name).suffix.lower() or "no ending" for name in report.left_out)
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
        names = ", ".join(printable(name) for name in report.left_out[:_MOST_NAMES])
        if len(report.left_out) > _MOST_NAMES:
            names += f" and {len(report.left_out) - _MOST_NAMES} more (--json names all of them)"
        lines.append(f"left out: {counted(len(report.left_out), 'file')} of kinds that are not read ({kinds}): {names}")
    return lines


def report_line(report: IndexReport, index: str) -> str:
    """The outcome of an indexing run, in one line."""
    counts = f"{report.added} added, {report.unchanged} unchanged, {report.removed} removed"
    return (
        f"{counted(report.pages, 'page')} of {counted(report.documents, 'document')} in {index} "
        f"({counts}, {len(report.failed)} failed; {report.seconds:.1f} s)"
    )


def hit_lines(hits: Sequence[ScoredPage]) -> list[str]:
    """One line per page that was found, best first."""
    from visrag_integrations.scores.shown import shown_score

    return [f"{rank}. {_place(hit.page)}  (score {shown_score(hit.score)})" for rank, hit in enumerate(hits, 1)]


def found_lines(hits: Sequence[ScoredPage], passages: Sequence[str]) -> list[str]:
    """What a search found, best first: each page, and below it the passage that fits the query best."""
    lines: list[str] = []
    for rank, (hit, passage) in enumerate(zip(hits, passages, strict=True), start=1):
        lines.append(f"{rank}. {_place(hit.page)}")
        if passage:
            lines.append(f"   {printable(shortened(passage))}")
    return lines


def shortened(text: str) -> str:
    """A text of at most two lines of a terminal, cut between words.

    >>> shortened("a b")
    'a b'
    >>> shortened("word " * 50)[-10:]
    'word word…'
    """
    if len(text) <= _SNIPPET:
        return text
    return f"{text[:_SNIPPET].rsplit(' ', 1)[0].rstrip()}…"


def answer_text(answer: Answer) -> str:
    """The answer, its evidence, the pages it was read from, and what was off."""
    return "\n".join([answer_words(answer), *answer_details(answer)])


def answer_words(answer: Answer) -> str:
    """The answer itself; in plain words where it is only the mark for "none"."""
    from visrag_integrations.generation.evisrag import INSUFFICIENT

    if not answer.sufficient and answer.text.strip().lower() == INSUFFICIENT:
        return "No answer was found."
    return printable_lines(answer.text) or "(no answer)"


def no_answer_advice(answer: Answer, *, quotes: bool) -> str:
    """What to do where the pages that were read gave no answer; "" where they did, or where there was none.

    Args:
        answer: What was found.
        quotes: Whether what answers only quotes.
    """
    if answer.sufficient or not answer.pages:
        return ""
    nearest = f"The nearest page is {_place(answer.pages[0].page)}."
    if quotes:
        return (
            f"no passage fits well enough. {nearest} Quoting needs the words of the page: ask in its language and "
            "words, or add --generator URL for answers that are written."
        )
    return f"the pages that were read do not hold it. {nearest} Ask in other words, or read more pages: -k 10."


def answer_details(answer: Answer) -> list[str]:
    """What stands below an answer: its evidence, the pages it was read from, and what was off."""
    lines: list[str] = []
    relevant = [evidence for evidence in answer.evidence if evidence.relevant]
    if relevant:
        lines += ["", "Evidence", *map(_evidence_line, relevant)]
    if answer.pages:
        lines += ["", "Pages read", *(f"  {line}" for line in hit_lines(answer.pages))]
    if answer.problems:
        lines += ["", "Problems", *(f"  {problem}" for problem in answer.problems)]
    return lines


def pages_json(hits: Sequence[ScoredPage]) -> list[dict[str, Any]]:
    """The pages that were found, as `search --json` and `ask --json` print them."""
    return [_page_json(hit) for hit in hits]


def found_json(hits: Sequence[ScoredPage], passages: Sequence[str]) -> list[dict[str, Any]]:
    """The pages that were found, each with its best passage, as `search --json` prints them."""
    found: list[dict[str, Any]] = []
    for page, passage in zip(pages_json(hits), passages, strict=True):
        found.append({**page, "passage": passage})
    return found


def _page_json(hit: ScoredPage) -> dict[str, Any]:
    image: str | None = None
    if isinstance(hit.page.picture, Path):  # else it is in memory, or on a server
        image = str(hit.page.picture)
    return {
        "source": hit.page.source,
        "page": hit.page.number,
        "score": float(hit.score),
        "doc_id": hit.page.doc_id,
        "id": hit.page.id,
        "image": image,
    }


def answer_json(question: str, answer: Answer) -> dict[str, Any]:
    """The answer, as `ask --json` prints it."""
    return {
        "question": question,
        "answer": answer.text,
        "sufficient": answer.sufficient,
        "evidence": [_evidence_json(evidence) for evidence in answer.evidence],
        "thinking": answer.thinking,
        "observation": answer.observation,
        "pages": pages_json(answer.pages),
        "problems": list(answer.problems),
    }


def _evidence_json(evidence: Evidence) -> dict[str, Any]:
    from visrag_integrations.grounding import grounding_dict

    source, number = None, None
    if evidence.page is not None:  # None where the model named a page that it was not shown
        source, number = evidence.page.source, evidence.page.number
    return {
        "index": evidence.page_index,
        "source": source,
        "page": number,
        "text": evidence.text,
        "relevant": evidence.relevant,
        **grounding_dict(evidence),
    }


def _evidence_line(evidence: Evidence) -> str:
    line = f"  [{evidence.page_index}]"
    if evidence.page is not None:
        line += f" {_place(evidence.page)}:"
    line += f" {printable(evidence.text)}"
    if evidence.grounding is not None:
        line += f"\n      {evidence.grounding.verdict}"
        if evidence.grounding.note:
            line += f" ({evidence.grounding.note})"
    return line


def _place(page: Page) -> str:
    return f"{printable(page.source or page.doc_id)}, page {page.number}"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "page"), counted(2, "page")
    ('1 page', '2 pages')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}s"


def size(number: int) -> str:
    """A number of bytes, as people write it.

    >>> size(900), size(1_900_000), size(2_540_000_000)
    ('0.0 MB', '1.9 MB', '2.5 GB')
    """
    if number < 1_000_000_000:
        return f"{number / 1e6:.1f} MB"
    return f"{number / 1e9:.1f} GB"
