"""Other ways to write the same evidence: money with its sign on the other side of the number, x for ×."""

from __future__ import annotations

import re

from visrag_integrations.grounding.signs import CURRENCIES, CURRENCY_CODES
from visrag_integrations.scores.numbers import NUMBER

_MONEY = rf"(?P<money>[{CURRENCIES}]|\b(?:{CURRENCY_CODES})\b\.?)"
_SPACE = "[ \u00a0\u202f]?"
_FIRST = re.compile(rf"{_MONEY}{_SPACE}(?P<sign>[-−(▲△▼]?){_SPACE}(?P<number>{NUMBER})")
_LAST = re.compile(rf"(?P<number>{NUMBER})(?P<sign>[-−)]?){_SPACE}{_MONEY}")

# A cross between two numbers, as it is typed: "6.02 x 10^23", "3 x 4 m".
_TIMES = re.compile(r"(?<=\d) ?[xX] ?(?=\d)")


def other_spellings(text: str) -> list[str]:
    """The text with all signs of money behind their numbers, with all before them, and with another cross.

    Only what differs from it.

    >>> other_spellings("a loss of -€1,234 in May"), other_spellings("5 kg")
    (['a loss of -1,234 € in May'], [])
    >>> other_spellings("1 234,50 EUR")
    ['EUR 1 234,50']
    """
    found: list[str] = []
    for pattern, moved in ((_FIRST, r"\g<sign>\g<number> \g<money>"), (_LAST, r"\g<money> \g<number>\g<sign>")):
        spelled = pattern.sub(moved, text)
        if spelled != text:
            found.append(spelled)
    times = _TIMES.sub("×", text)
    if times != text:
        found.append(times)
    elif "×" in text:
        found.append(text.replace("×", "x"))
    return found
