"""Small pages side by side; a click enlarges one."""

from __future__ import annotations

from collections.abc import Sequence


def zoomable(name: str, figure: str, words: str = "") -> str:
    """A figure that a click enlarges and another makes small again: a check box, for the page holds no script.

    Args:
        name: The id of the check box.
        figure: HTML.
        words: What stands below it and is clicked too, where it is not plain that something can be.
    """
    below = f'<span class="open">{words}</span>' if words else ""
    box = f'<input type="checkbox" id="{name}" aria-label="Enlarge the page">'
    return f'{box}<label for="{name}">{figure}{below}</label>'


def page_card(name: str, figure: str, place: str, note: str = "") -> str:
    """A small page with words below it; all of it is HTML already."""
    below = f'<p class="place">{place}</p>'
    if note:
        below += f'<p class="note">{note}</p>'
    return f"<li>{zoomable(name, figure)}{below}</li>"


def card_row(cards: Sequence[str], css_class: str = "others", heading: str = "") -> str:
    """Cards in a row, with HTML above them."""
    return f'<div class="{css_class}">{heading}<ul>{"".join(cards)}</ul></div>'
