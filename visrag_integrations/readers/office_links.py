"""What an office document would load by itself, taken out of its XML: linked pictures, objects, templates, data links.

LibreOffice loads such things from any place that it can reach, so that a document could draw the server's own files on
its page. Here they are cut from the XML before LibreOffice sees it; ordinary hyperlinks, which a reader would have to
click, stay. Before and after:

    <draw:image xlink:href="file:///etc/secret.png"/>      <draw:image/>
    <text:a xlink:href="https://example.org/">             the same
    <f>WEBSERVICE("http://10.0.0.1/")</f><v>7</v>          <f></f><v>7</v>: the value of the last saving stays

Names are compared without their namespaces, which a hostile document may call as it likes.
"""

from __future__ import annotations

import re
import xml.sax
import xml.sax.handler
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast
from urllib.parse import unquote
from xml.sax.saxutils import XMLGenerator

from visrag_integrations.readers.office_notice import Notice
from visrag_integrations.readers.office_sheets import SheetEdits

_BLOCK = 1 << 20
# Elements that only lead somewhere when a reader clicks them: ODF, DrawingML, WordprocessingML, SpreadsheetML, VML.
_CLICKED = frozenset(
    [
        "a",
        "hyperlink",
        "hlinkclick",
        "hlinkhover",
        "hlinkmouseover",
        "area-rectangle",
        "area-circle",
        "area-polygon",
        "shape",
        "rect",
        "roundrect",
        "oval",
        "line",
        "polyline",
        "curve",
        "arc",
        "group",
    ]
)
# Attributes that name something to load: ODF, VML and HTML inside of them; web queries and text imports of Excel.
_LOADED = frozenset(
    ["href", "src", "background", "data", "image-data", "url", "sourcefile", "odcfile", "from-template"]
)
# Data sources: there is no innocent value of these.
_DATA_SOURCES = frozenset(
    [
        "dde-application",
        "dde-topic",
        "dde-item",
        "ddeservice",
        "ddetopic",
        "datasource",
        "connection",
        "connectstring",
        "connection-name",
    ]
)
# Elements and attributes that hold formulas. A value that was saved with the formula stays beside it.
_FORMULA_ELEMENTS = frozenset(["f", "formula", "formula1", "formula2", "definedname"])
_FORMULA_ATTRIBUTES = frozenset(["formula", "expression", "condition", "cell-range-address"])
_OUTSIDE_FORMULA = re.compile(
    r"WEBSERVICE|\bDDE\b|\bRTD\b|\bIMAGE\s*\(|://|\bfile:|'[^']*'\s*#|\[\d+\]|\\\\", re.IGNORECASE
)
# Fields of Word that bring something in. HYPERLINK, PAGE, REF and the like stay.
_FIELDS = re.compile(
    r"\s*(INCLUDE\w*|IMPORT|LINK|DDE\w*|RD|DATABASE|EMBED|AUTOTEXT\w*|GLOSSARY|MERGE\w*|MACROBUTTON)\b", re.IGNORECASE
)
_MACROS = frozenset({"macro-name", "onaction", "macro"})
_FIELD_ELEMENTS = frozenset({"instrtext", "delinstrtext"})
# A link that a reader clicks, also as a formula: only its address is passed over, not what stands inside of it.
_CLICKED_FORMULA = re.compile(r'HYPERLINK\s*\(\s*"[^"]*"', re.IGNORECASE)
_SCHEME = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]*:")
# Relationships that bring in programs or queries, even where their target lies inside the package.
_REFUSED_RELATIONS = ("/vbaproject", "/connections", "/querytable", "/wordvbadata", "/activexcontrol", "/xlmacrosheet")


@dataclass
class PartWatch:
    """What is done with a part beside cleaning it.

    Attributes:
        sheets: What is changed of sheets; counts the rows that were cut.
        notice: What is noticed.
    """

    sheets: SheetEdits = field(default_factory=SheetEdits)
    notice: Notice = field(default_factory=Notice)


def clean_xml(
    source: BinaryIO,
    target: BinaryIO,
    names: Collection[str] = (),
    refused: Collection[str] | None = (),
    watch: PartWatch | None = None,
) -> int:
    """Copy XML without what would be loaded; gives how many such things there were.

    Args:
        source: Of the XML, from its start.
        target: Takes UTF-8.
        names: Entries of the package it lies in: what a relative link may lead to.
        refused: Ids of hyperlinks that are taken out too; None for all.
        watch: What is changed of sheets besides, and what is noticed.

    Raises:
        xml.sax.SAXException: It is not well-formed.
    """
    writer = _Cleaner(target, frozenset(names), refused, watch or PartWatch())
    parser: Any = xml.sax.make_parser()
    parser.setFeature(xml.sax.handler.feature_external_ges, False)
    parser.setContentHandler(writer)
    while block := source.read(_BLOCK):
        parser.feed(block)
    parser.close()
    return writer.removed


def leads_outside(link: str, names: Collection[str] = ()) -> bool:
    """Whether a link leaves the package that it stands in.

    >>> names = ["Pictures/1.png", "Object 1"]
    >>> [leads_outside(link, names) for link in ("Pictures/1.png", "./Object 1", "#Sheet1.A1", "data:image/png,")]
    [False, False, False, False]
    >>> [leads_outside(link) for link in ("file:///a", "../a.png", "//host/a", "/a", "%66ile:a", "C:\\\\a", "a.png")]
    [True, True, True, True, True, True, True]
    """
    # Decoded twice: programs differ in how often they do.
    plain = unquote(unquote(link)).strip().strip("\x00")
    if plain.startswith(("#", "data:")) or not plain:
        return False
    if _SCHEME.match(plain) or plain.startswith(("/", "\\")) or "\\" in plain or ".." in plain.split("/"):
        return True
    inner = plain.removeprefix("./").rstrip("/")
    return inner not in names


class _Cleaner(XMLGenerator):
    """Writes what it is told by the parser, less what loads."""

    def __init__(
        self, target: BinaryIO, names: frozenset[str], refused: Collection[str] | None, watch: PartWatch
    ) -> None:
        super().__init__(cast("Any", target), "utf-8", True)  # binary files too, whatever its stubs say
        self.removed = 0
        self._sheets, self._notice = watch.sheets, watch.notice
        self._names, self._refused = names, refused
        self._shared: set[str] = set()  # shared formulas of Excel whose first one was taken out
        self._formula: list[str] | None = None
        self._field = ""  # what a field of Word says so far; it may be cut into several elements
        self._in_field = False
        self._shared_index: str | None = None

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802  the name that SAX gives it
        element = plain_name(name)
        kept: dict[str, str] = {}
        plain: dict[str, str] = {}
        for key, value in attrs.items():
            local = plain_name(key)
            if self._is_loaded(element, local, value):
                self.removed += local not in _MACROS
            else:
                kept[key] = plain[local] = value
        self._notice.element(element, plain)
        if element == "relationship" and _is_refused(plain, self._refused):
            # A macro that is taken out shows nothing, so nobody needs to be told.
            self.removed += _leads_away(plain)
            kept = {
                key: value for key, value in kept.items() if plain_name(key) not in {"target", "targetmode", "type"}
            }
        if element == "f" and kept.get("si") in self._shared and kept.get("t") == "shared":
            kept = {}
        elif element in _FORMULA_ELEMENTS:
            self._formula = []
            self._shared_index = kept.get("si")
        if element == "fldchar" and "begin" in kept.values():
            self._field = ""
        self._in_field = element in _FIELD_ELEMENTS
        kept = self._sheets.attributes(element, kept)
        if self._sheets.skipping or self._sheets.is_left_out(element):
            return
        self.ignorableWhitespace(self._sheets.before_start(name))
        super().startElement(name, cast("Any", kept))  # a dict has all that it uses

        self.ignorableWhitespace(self._sheets.after_start(name))

    def endElement(self, name: str) -> None:  # noqa: N802
        if self._formula is not None and plain_name(name) in _FORMULA_ELEMENTS:
            text, self._formula = "".join(self._formula), None
            if _reaches_outside(text):
                self.removed += 1
                if self._shared_index is not None:
                    self._shared.add(self._shared_index)
            else:
                super().characters(text)
        self._in_field = False
        if self._sheets.skipping:
            self._sheets.skipping = plain_name(name) != "row"
            return
        if self._sheets.is_left_out(plain_name(name)):
            return
        self.ignorableWhitespace(self._sheets.before_end(name))
        super().endElement(name)
        self.ignorableWhitespace(self._sheets.after_end(name))

    def characters(self, content: str) -> None:
        if self._sheets.skipping:
            return
        if self._formula is not None:
            self._formula.append(content)
            return
        if self._in_field:
            self._field += content
            if _FIELDS.match(self._field):
                self.removed += 1
                return
        super().characters(content)

    def processingInstruction(self, target: str, data: str) -> None:  # noqa: N802
        # A style sheet would be loaded; "mso-application" says which program a flat file is for.
        if target.lower() != "xml-stylesheet":
            super().processingInstruction(target, data)

    def _is_loaded(self, element: str, attribute: str, value: str) -> bool:
        if attribute in _LOADED:
            return element not in _CLICKED and leads_outside(value, self._names)
        if attribute in _DATA_SOURCES:
            return True
        if attribute in _FORMULA_ATTRIBUTES:
            return _reaches_outside(value)
        if attribute == "instr":
            return _FIELDS.match(value) is not None
        # A program that is started, or a macro: handlers of events have no other use.
        return attribute in _MACROS and bool(value)


def _reaches_outside(formula: str) -> bool:
    """Whether a formula brings something in from outside of its file.

    >>> _reaches_outside('WEBSERVICE("http://a/")'), _reaches_outside("[1]Sheet1!A1"), _reaches_outside("SUM(A1:B2)")
    (True, True, False)
    >>> _reaches_outside('HYPERLINK("https://example.org/","Home")')
    False
    """
    return _OUTSIDE_FORMULA.search(_CLICKED_FORMULA.sub("", formula)) is not None


def plain_name(name: str) -> str:
    """A name without its namespace, in small letters: "xlink:href" -> "href"."""
    return name.rpartition(":")[2].lower()


def _is_refused(attributes: dict[str, str], refused: Collection[str] | None) -> bool:
    """Whether a relationship of an Office Open XML package is taken out, by its attributes without namespaces."""
    kind = attributes.get("type", "").lower()
    if kind.endswith(_REFUSED_RELATIONS):
        return True
    if kind.endswith("/hyperlink"):
        return refused is None or attributes.get("id", "") in refused
    return _leads_away(attributes)


def _leads_away(relationship: dict[str, str]) -> bool:
    """Whether the target of a relationship lies outside of its package, whatever it says."""
    outside = relationship.get("targetmode", "").strip().lower() == "external"
    return outside or _SCHEME.match(unquote(relationship.get("target", ""))) is not None


def ids_used_by_others(source: BinaryIO) -> set[str]:
    """Attribute values of all elements but hyperlinks: which relationships are used for more than a click.

    A picture may name the relationship of a hyperlink as its source.
    """
    used: set[str] = set()

    class Collector(xml.sax.handler.ContentHandler):
        def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802
            if plain_name(name) not in _CLICKED:
                used.update(value for _, value in attrs.items() if len(value) < _LONGEST_ID)

    parser: Any = xml.sax.make_parser()
    parser.setFeature(xml.sax.handler.feature_external_ges, False)
    parser.setContentHandler(Collector())
    while block := source.read(_BLOCK):
        parser.feed(block)
    parser.close()
    return used


# Letters. Ids are short ("rId12"); long values are texts, and need no place in memory.
_LONGEST_ID = 256
