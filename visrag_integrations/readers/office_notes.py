"""Speaker notes of a deck, by slide: from the package itself, because a printed slide does not show them."""

from __future__ import annotations

import posixpath
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from visrag_integrations.readers.content import clean_text

# Letters of the notes of one slide: a talk's text has some thousand.
_LONGEST = 50_000
_MAX_PART = 64 << 20
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_PLACEHOLDER = "{http://schemas.openxmlformats.org/presentationml/2006/main}ph"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_PRESENTATION = "{urn:oasis:names:tc:opendocument:xmlns:presentation:1.0}notes"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_PAGE = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}page"


def speaker_notes(given: Path) -> dict[int, str]:
    """Notes by the number of their slide, from 1, of a deck that was cleaned; empty where there are none.

    Hidden slides count, because they are printed too.
    """
    try:
        with zipfile.ZipFile(given) as package:
            names = set(package.namelist())
            if "ppt/presentation.xml" in names:
                return _of_powerpoint(package, names)
            if "content.xml" in names:
                return _of_open_document(package)
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError):
        return {}
    return {}


def _of_powerpoint(package: zipfile.ZipFile, names: set[str]) -> dict[int, str]:
    slides = _relations(package, "ppt/presentation.xml")
    notes: dict[int, str] = {}
    number = 0
    for item in _root(package, "ppt/presentation.xml").iter():
        if not item.tag.endswith("}sldId"):
            continue
        number += 1
        slide = slides.get(item.get(_RELATION, ""), ("", ""))[1]
        for kind, target in _relations(package, slide).values():
            if kind.endswith("/notesSlide") and target in names:
                text = _note_text(_root(package, target))
                if text:
                    notes[number] = text
    return notes


def _relations(package: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """Kind and target of each relationship of a part, by id."""
    folder, name = posixpath.split(part)
    listed = f"{folder}/_rels/{name}.rels"
    if listed not in package.namelist():
        return {}
    found: dict[str, tuple[str, str]] = {}
    for item in _root(package, listed):
        target = item.get("Target", "")
        # "../notesSlides/notesSlide1.xml" leads from the folder of the part, "/ppt/slides/slide1.xml" from the top.
        place = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
        found[item.get("Id", "")] = (item.get("Type", ""), place)
    return found


def _root(package: zipfile.ZipFile, part: str) -> Any:
    with package.open(part) as file:
        return ElementTree.fromstring(file.read(_MAX_PART))


def _note_text(root: Any) -> str:
    """The text of the notes, without the number and the date that stand on the page too."""
    lines: list[str] = []
    for shape in root.iter():
        if not shape.tag.endswith("}sp"):
            continue
        placeholder = shape.find(f".//{_PLACEHOLDER}")
        if placeholder is None or placeholder.get("type") != "body":
            continue
        for paragraph in shape.iter(f"{_DRAWING}p"):
            lines.append("".join(run.text or "" for run in paragraph.iter(f"{_DRAWING}t")))
    return clean_text("\n".join(lines)).strip()[:_LONGEST]


def _of_open_document(package: zipfile.ZipFile) -> dict[int, str]:
    notes: dict[int, str] = {}
    for number, page in enumerate(_root(package, "content.xml").iter(_PAGE), 1):
        lines: list[str] = []
        for found in page.iter(_PRESENTATION):
            for paragraph in found.iter(f"{_TEXT}p"):
                lines.append("".join(paragraph.itertext()))
        text = clean_text("\n".join(lines)).strip()[:_LONGEST]
        if text:
            notes[number] = text
    return notes
