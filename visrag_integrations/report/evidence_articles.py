"""One piece of evidence: what was found, beside the page it was found on."""

from __future__ import annotations

from visrag_integrations.grounding.check import NOTES_PLACE
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.page_cards import zoomable
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.report.page_places import place_of, score_html
from visrag_integrations.report.verdict_signs import badge
from visrag_integrations.types import Answer, Evidence


def evidence_article(name: str, entry: Evidence, answer: Answer, pictures: ReportPictures) -> str:
    """The page at the left, and at the right the quotation with its verdict and a close-up.

    Args:
        name: The id of what enlarges the page.
        entry: Relevant evidence, grounded.
        answer: Of which it is; its pages have the scores.
        pictures: Of the file; the page's is added.
    """
    picture = ""
    close_up = ""
    if entry.page is not None:
        place = place_of(entry.page, entry.page_index)
        picture = zoomable(name, pictures.figure(entry.page, place, entry.grounding))
        close_up = pictures.close_up(entry.page, place, entry.grounding)
    return (
        f'<article>\n<div class="picture">{picture}</div>\n<div class="found">'
        f'<div class="head"><p class="label">Evidence {entry.page_index}</p>{badge(entry.grounding)}</div>'
        f'<p class="place">{_source(entry, answer)}</p>'
        f"<blockquote>{_quotation(entry)}</blockquote>{_explanation(entry)}{close_up}</div>\n</article>"
    )


def _source(entry: Evidence, answer: Answer) -> str:
    """Document, page and score."""
    score = ""
    # A model may name an image that it was not shown.
    if entry.page is not None and 1 <= entry.page_index <= len(answer.pages):
        score = score_html(answer.pages[entry.page_index - 1])
    return f"<b>{escaped(place_of(entry.page, entry.page_index))}</b> {score}"


def _quotation(entry: Evidence) -> str:
    """The evidence's words; those that are not on the page are marked, where others are."""
    found = entry.grounding
    if found is None or found.verdict != "partly":
        return escaped(entry.text)
    parts: list[str] = []
    last = 0
    for start, end in found.missing:
        absent = escaped(entry.text[start:end])
        parts.append(escaped(entry.text[last:start]))
        parts.append(f'<span class="absent" title="not there on the page">{absent}</span>')
        last = end
    parts.append(escaped(entry.text[last:]))
    return "".join(parts)


def _explanation(entry: Evidence) -> str:
    """What a reader needs beside the verdict."""
    found = entry.grounding
    if found is None or found.verdict == "not found on the page":  # the badge says it all
        return ""
    reasons: list[str] = []
    if found.note:
        reasons.append(found.note)
    in_notes = found.note.startswith(NOTES_PLACE)
    if not found.boxes and found.verdict != "unchecked" and not in_notes:
        reasons.append("not outlined: the page came without word positions")
    if not reasons:
        return ""
    sentence = "; ".join(reasons)
    return f'<p class="note">{escaped(sentence[:1].upper() + sentence[1:])}.</p>'
