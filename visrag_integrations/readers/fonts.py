"""Which fonts this machine has: a letter that none of them has is drawn as an empty box, or not at all.

Asked of fontconfig (`fc-list`), which LibreOffice and Chromium ask too. Where there is none (macOS, Windows),
nothing is known, and nothing is said.
"""

from __future__ import annotations

import bisect
import functools
import shutil
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Iterable

# Seconds. With 160 fonts it takes a twentieth of one; with thousands, and a cache that must be made first, many.
_TIMEOUT = 60.0
# Code points that show nothing by themselves, or that every program takes from a font of its own.
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp")
_CHINESE = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")
_SYMBOLS = "symbols"
# Scripts that a message names; a page with more is a table of characters.
_MOST_NAMED = 4
# Fonts that have the widths of others, so that a line ends where its author saw it end.
_STAND_INS = {
    "arial": ("liberation sans", "arimo"),
    "helvetica": ("liberation sans", "arimo", "nimbus sans", "tex gyre heros"),
    "arial narrow": ("liberation sans narrow",),
    "times new roman": ("liberation serif", "tinos"),
    "times": ("liberation serif", "tinos", "nimbus roman", "tex gyre termes"),
    "courier new": ("liberation mono", "cousine"),
    "courier": ("liberation mono", "cousine", "nimbus mono ps", "tex gyre cursor"),
    "calibri": ("carlito",),
    "cambria": ("caladea",),
    "georgia": ("gelasio",),
}
_PACKAGE_OF_FONT = {
    **dict.fromkeys(("calibri", "calibri light"), "fonts-crosextra-carlito"),
    "cambria": "fonts-crosextra-caladea",
    **dict.fromkeys(("arial", "helvetica", "times new roman", "times", "courier new", "courier"), "fonts-liberation"),
}
# LibreOffice draws their signs with a font of its own, which comes with it.
_SIGN_FONTS = frozenset(["symbol", "wingdings", "wingdings 2", "wingdings 3", "webdings", "opensymbol", "starsymbol"])


def undrawable(text: str) -> Counter[str]:
    """How many of a text's letters no font of this machine has, by script; empty where nothing is known.

    Letters of private use (the signs of symbol fonts) and what shows nothing by itself are passed over.
    """
    if text.isascii():
        return Counter()
    starts, ends = _covered()
    found: Counter[str] = Counter()
    if not starts:
        return found
    for character, count in Counter(text).items():
        code = ord(character)
        place = bisect.bisect_right(starts, code) - 1
        if place >= 0 and code <= ends[place]:
            continue
        if unicodedata.category(character) in _INVISIBLE or 0xFE00 <= code <= 0xFE0F:  # selectors of a variant
            continue
        found[script_name(character)] += count
    return found


def script_name(character: str) -> str:
    """The script of a letter, from its name in Unicode; signs have none.

    >>> script_name("\u0e01"), script_name("\u5408"), script_name("\\u265e")
    ('Thai', 'Chinese, Japanese or Korean', 'symbols')
    """
    first = unicodedata.name(character, "").partition(" ")[0].partition("-")[0]
    if first in _CHINESE:
        return "Chinese, Japanese or Korean"
    if unicodedata.category(character)[0] not in "LMN" or not first:
        return _SYMBOLS
    return first.title()


def undrawable_warning(found: Counter[str], shown: str) -> str:
    """What to say about letters that no font has.

    Args:
        found: As `undrawable` gives it; not empty.
        shown: What is seen in their place.

    >>> undrawable_warning(Counter({"Thai": 12, "symbols": 1}), "are drawn as empty boxes")
    '13 characters are drawn as empty boxes: no font here has them (Thai, symbols). Install fonts-noto-core, or the \
fonts of its author.'
    """
    scripts = [name for name, _ in found.most_common(_MOST_NAMED)]
    packages = sorted({_package_of_script(name) for name in scripts})
    return (
        f"{found.total()} characters {shown}: no font here has them ({', '.join(scripts)}). Install "
        f"{' '.join(packages)}, or the fonts of its author."
    )


def _package_of_script(name: str) -> str:
    """The Debian package with a font for a script."""
    return "fonts-noto-cjk" if name.startswith("Chinese") else "fonts-noto-core"


def missing_families(named: Iterable[str], drawn: Iterable[str]) -> list[str]:
    """Fonts that a document names and this machine lacks, where others were drawn in their place.

    Args:
        named: Families, as the document calls them.
        drawn: Fonts in the PDF that was made of it: "BAAAAA+DejaVuSans-Bold".

    Programs name more fonts than a document uses. So nothing is missing where everything was drawn with fonts that it
    names, or that have their widths.
    """
    installed = _families()
    if not installed:
        return []
    drawn_names = {_plain(name.rpartition("+")[2]) for name in drawn}
    expected: set[str] = {_plain("OpenSymbol")}
    missing: list[str] = []
    for name in sorted(set(named)):
        small = name.lower()
        fitting = [family for family in (small, *_STAND_INS.get(small, ())) if family in installed]
        expected.update(map(_plain, fitting))
        embedded = any(font.startswith(_plain(name)) for font in drawn_names)  # it came with the document
        if embedded:
            expected.add(_plain(name))
        if not fitting and not embedded and small not in _SIGN_FONTS:
            missing.append(name)
    if all(any(font.startswith(name) for name in expected) for font in drawn_names):
        return []
    return missing


def families_warning(missing: list[str]) -> str:
    """What to say about fonts that others stand in for.

    >>> families_warning(["Calibri"])
    'the fonts Calibri are not installed; others stand in for them, so that text may be cut off or stand elsewhere. \
Install fonts-crosextra-carlito.'
    """
    packages = sorted({_PACKAGE_OF_FONT[name.lower()] for name in missing if name.lower() in _PACKAGE_OF_FONT})
    told = ", ".join(missing[:_MOST_FAMILIES])
    if len(missing) > _MOST_FAMILIES:
        told += f" and {len(missing) - _MOST_FAMILIES} more"
    advice = "Install them"
    if packages:
        advice = f"Install {' '.join(packages)}"
    return (
        f"the fonts {told} are not installed; others stand in for them, so that text may be cut off or stand elsewhere."
        f" {advice}."
    )


# Fonts that a message names; a deck from a template may name dozens.
_MOST_FAMILIES = 6


def _plain(name: str) -> str:
    """A font's name as PDF files and families have it in common: small, without blanks and signs."""
    return "".join(filter(str.isalnum, name)).lower()


@functools.lru_cache(maxsize=1)
def _families() -> frozenset[str]:
    """Names of all installed fonts, in small letters."""
    found: set[str] = set()
    for line in _listed("%{family}\n"):
        found.update(name.strip().lower() for name in line.split(","))
    return frozenset(found - {""})


@functools.lru_cache(maxsize=1)
def _covered() -> tuple[list[int], list[int]]:
    """First and last code points of all stretches that some font has, in order, none of them in another."""
    stretches: list[tuple[int, int]] = []
    for line in set(_listed("%{charset}\n")):
        for stretch in line.split():  # "20-7e a0-17f 192"
            low, _, high = stretch.partition("-")
            stretches.append((int(low, 16), int(high or low, 16)))
    starts: list[int] = []
    ends: list[int] = []
    for first, last in sorted(stretches):
        if ends and first <= ends[-1] + 1:
            ends[-1] = max(ends[-1], last)
        else:
            starts.append(first)
            ends.append(last)
    return starts, ends


def _listed(wanted: str) -> list[str]:
    """One line a font; none where fontconfig is not there or fails."""
    program = shutil.which("fc-list")
    if program is None:
        return []
    command = [program, "--format", wanted]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode("utf-8", errors="replace").splitlines()
