"""The parts of LibreOffice that distributions pack one by one: what a document needs, and whether it is there.

Debian and Ubuntu have libreoffice-writer, -calc, -impress, -draw and -math; without the one that a document needs,
LibreOffice says that the file cannot be loaded, and without Math it leaves out formulas without a word.
"""

from __future__ import annotations

from pathlib import Path

# The library of each, as every Linux build calls it, and the program that starts it, where libraries are merged.
_LIBRARIES = {
    "writer": ("libswlo.so", "swriter"),
    "calc": ("libsclo.so", "scalc"),
    "impress": ("libsdlo.so", "simpress"),
    "draw": ("libsdlo.so", "sdraw"),
    "math": ("libsmlo.so", "smath"),
}
_SHEETS = frozenset([".xlsx", ".xls", ".xlsm", ".xltx", ".xltm", ".ods", ".ots", ".fods", ".csv", ".tsv"])
_DECKS = frozenset([".pptx", ".ppt", ".pptm", ".ppsx", ".ppsm", ".potx", ".potm", ".odp", ".otp", ".fodp"])
_DRAWINGS = frozenset([".odg"])


def component_for(suffix: str) -> str:
    """The part of LibreOffice that opens a kind of file.

    >>> component_for(".docx"), component_for(".ods"), component_for(".pptx")
    ('writer', 'calc', 'impress')
    """
    if suffix in _SHEETS:
        return "calc"
    if suffix in _DECKS:
        return "impress"
    if suffix in _DRAWINGS:
        return "draw"
    return "writer"


def is_missing(component: str, program: str) -> bool:
    """Whether a part is certainly not installed; False where this build has its files elsewhere (macOS, snap)."""
    folder = Path(program).resolve().parent
    if not (folder / "soffice.bin").exists():
        return False
    return not any((folder / name).exists() for name in _LIBRARIES[component])


def advice(component: str) -> str:
    """What to type to have it."""
    return f"LibreOffice's {component.title()} is not installed. Install it: apt-get install libreoffice-{component}"
