"""What the commands print: text for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import printable

if TYPE_CHECKING:
    from visrag_integrations.ingestion import IndexReport
    from visrag_integrations.types import Answer, Evidence, Failure, Page, ScoredPage


def print_json(value: Any) -> None:
    """One JSON object on standard output; characters that its encoding may not have are escaped as JSON does."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not plain))


def failure_lines(failed: Sequence[Failure]) -> list[str]:
    """One line per document or page that failed."""
    return [f"failed: {printable(f.source)}{'' if f.page is None else f', page {f.page}'}: {f.error}" for f in failed]


def report_line(report: IndexReport, index: str) -> str:
    """The outcome of an indexing run, in one line."""
    counts = f"{report.added} added, {report.unchanged} unchanged, {report.removed} removed"
    return (
        f"{_count(report.pages, 'page')} of {_count(report.documents, 'document')} in {index} "
        f"({counts}, {len(report.failed)} failed; {report.seconds:.1f} s)"
    )


def hit_lines(hits: Sequence[ScoredPage]) -> list[str]:
    """One line per page that was found, best first."""
    return [f"{rank}. {_place(hit.page)}  ({hit.score_type} {hit.score:.3f})" for rank, hit in enumerate(hits, 1)]


def answer_text(answer: Answer) -> str:
    """The answer, its evidence, the pages it was read from, and what was off."""
    lines = [answer.text or "(no answer)"]
    relevant = [evidence for evidence in answer.evidence if evidence.relevant]
    if relevant:
        lines += ["", "Evidence", *map(_evidence_line, relevant)]
    if answer.pages:
        lines += ["", "Pages read", *(f"  {line}" for line in hit_lines(answer.pages))]
    if answer.problems:
        lines += ["", "Problems", *(f"  {problem}" for problem in answer.problems)]
    return "\n".join(lines)


def pages_json(hits: Sequence[ScoredPage]) -> list[dict[str, Any]]:
    """The pages that were found, as `search --json` and `ask --json` print them."""
    return [
        {
            "source": hit.page.source,
            "page": hit.page.number,
            "score": float(hit.score),
            "doc_id": hit.page.doc_id,
            "id": hit.page.id,
            "image": str(hit.page.picture) if isinstance(hit.page.picture, Path) else None,
        }
        for hit in hits
    ]


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

    return {
        "index": evidence.page_index,
        "source": evidence.page.source if evidence.page else None,
        "page": evidence.page.number if evidence.page else None,
        "text": evidence.text,
        "relevant": evidence.relevant,
        **grounding_dict(evidence),
    }


def _evidence_line(evidence: Evidence) -> str:
    place = f" {_place(evidence.page)}:" if evidence.page else ""
    found = evidence.grounding
    verdict = f"\n      {found.verdict}{f' ({found.note})' if found.note else ''}" if found else ""
    return f"  [{evidence.page_index}]{place} {evidence.text}{verdict}"


def _place(page: Page) -> str:
    return f"{printable(page.source or page.doc_id)}, page {page.number}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
