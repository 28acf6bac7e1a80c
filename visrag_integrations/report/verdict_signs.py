"""How a verdict is shown: by a word and a sign, never by its colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from visrag_integrations.types import Evidence, Grounding, Verdict


class VerdictSign(NamedTuple):
    """CSS class, sign and words of a verdict."""

    css_class: str
    sign: str
    words: str


VERDICTS: dict[Verdict, VerdictSign] = {
    "supported": VerdictSign("supported", "\u2713", "Quoted from this page"),
    "in the speaker notes": VerdictSign("notes", "\u270e", "In the speaker notes, not on the slide"),
    "partly": VerdictSign("partly", "\u25d0", "Partly on this page"),
    "not found on the page": VerdictSign("unfound", "\u2715", "Not on this page"),
    "unchecked": VerdictSign("unchecked", "\u2013", "Not checked"),
}
"""How each verdict is shown, best first."""


def badge(found: Grounding | None) -> str:
    """The verdict on one piece of evidence, with its support where it was checked."""
    if found is None:
        return ""
    shown = VERDICTS[found.verdict]
    share = ""
    if found.verdict != "unchecked":
        share = f'<span class="share">{found.support:.0%}</span>'
    return f'<p class="badge {shown.css_class}"><span aria-hidden="true">{shown.sign}</span> {shown.words}{share}</p>'


def tally(evidence: Sequence[Evidence]) -> str:
    """How many pieces of evidence have each verdict; "" where none was checked."""
    verdicts = [entry.grounding.verdict for entry in evidence if entry.grounding is not None]
    counts: list[str] = []
    for verdict, shown in VERDICTS.items():
        count = verdicts.count(verdict)
        if count:
            sign = f'<span aria-hidden="true">{shown.sign}</span>'
            counts.append(f'<li class="{shown.css_class}">{sign} {count} {verdict}</li>')
    if not counts:
        return ""
    return f'<ul class="tally" aria-label="Evidence">{"".join(counts)}</ul>'
