"""One piece of evidence: what was found, beside the page it was found on."""

from __future__ import annotations

from visrag_integrations.grounding.check import NOTES_PLACE
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.page_cards import zoomable
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.report.page_places import place_of
from visrag_integrations.report.verdict_signs import badge
from visrag_integrations.types import Evidence


def evidence_article(name: str, place: int, entry: Evidence, pictures: ReportPictures) -> str:
    """The quotation with its verdict and a close-up of where it stands, and beside it the whole page.

    Args:
        name: The id of what enlarges the page; the article's own is this and "a".
        place: Of the entry among those that are shown, from 1.
        entry: Relevant evidence, grounded.
        pictures: Of the file; the page's is added.
    """
    picture = ""
    close_up = ""
    if entry.page is not None:
        where = place_of(entry.page, entry.page_index)
        figure = pictures.figure(entry.page, where, entry.grounding)
        close_up = pictures.close_up(entry.page, where, entry.grounding)
        picture = f'<div class="picture">{zoomable(name, figure, words="Open the page")}</div>'
    return (
        f'<article id="{name}a">\n<div class="found">'
        f'<div class="head"><h3 class="label">Evidence {place}</h3>{badge(entry.grounding)}</div>'
        f'<p class="place"><b>{escaped(place_of(entry.page, entry.page_index))}</b></p>'
        f"<blockquote>{_quotation(entry)}</blockquote>{_explanation(entry)}{close_up}</div>\n{picture}\n</article>"
    )


def evidence_line(place: int, entry: Evidence) -> str:
    """The same in one line."""
    return f"Evidence {place}: {escaped(place_of(entry.page, entry.page_index))}"


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
