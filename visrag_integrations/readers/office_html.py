"""Web pages under the names of office files, as many programs export them: only what is text and table is kept.

LibreOffice loads the pictures, frames and style sheets of a web page whatever its settings say. So the page is written
anew from a list of harmless tags and attributes; before and after:

    <td colspan=2 background="file:///a.png">North<img src="http://10.0.0.1/"></td>        <td colspan="2">North</td>
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

_TAGS = frozenset(
    [
        "html",
        "body",
        "table",
        "thead",
        "tbody",
        "tfoot",
        "tr",
        "td",
        "th",
        "caption",
        "colgroup",
        "col",
        "p",
        "br",
        "hr",
        "div",
        "span",
        "pre",
        "blockquote",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "b",
        "strong",
        "i",
        "em",
        "u",
        "s",
        "sub",
        "sup",
        "small",
        "big",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "center",
        "font",
        "a",
    ]
)
_ATTRIBUTES = frozenset(
    [
        "colspan",
        "rowspan",
        "align",
        "valign",
        "width",
        "height",
        "border",
        "cellpadding",
        "cellspacing",
        "color",
        "size",
        "face",
    ]
)
_SKIPPED = frozenset({"script", "style", "head", "object", "iframe", "noscript", "template", "svg", "math", "xml"})
# Flat files of office programs begin with one of these; anything else that begins with a tag is taken for a web page.
_NO_PAGE = re.compile(
    rb"(<\?xml[^>]*>|<\?mso[^>]*>|<!--.*?-->|\s)*<(?!html|!doctype\s+html|head|body|table)[\w.-]+(:| xmlns)",
    re.IGNORECASE | re.DOTALL,
)
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)


def is_web_page(head: bytes) -> bool:
    """Whether a file is a web page, by its first bytes.

    >>> [is_web_page(head) for head in (b"<html xmlns:o='urn'>", b"<TABLE border=1>", b"\\xff\\xfe<\\0b\\0>\\0")]
    [True, True, True]
    >>> [is_web_page(head) for head in (b"{\\\\rtf1", b"<?xml version='1.0'?><office:document xmlns:a='b'>")]
    [False, False]
    """
    plain = plain_head(head)
    return plain.startswith(b"<") and _NO_PAGE.match(plain) is None


def plain_head(head: bytes) -> bytes:
    """The first bytes of a text without byte order mark, the zeros of UTF-16, and white space in front."""
    for mark in (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"):
        head = head.removeprefix(mark)
    return head.replace(b"\x00", b"").lstrip()


def clean_page(data: bytes) -> bytes:
    """A web page with text and tables only, in UTF-8.

    >>> clean_page(b"<p onclick=a()>One<img src=x> <b>two</b><script>3</script>").decode().partition("<body>")[2]
    '<p>One <b>two</b></body></html>'
    """
    writer = _Writer()
    writer.feed(_decoded(data))
    writer.close()
    text = "".join(writer.kept)
    return f'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>{text}</body></html>'.encode()


class _Writer(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.kept: list[str] = []
        self._skipping: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipping is not None:
            # Heads and scripts that were never closed end where the body begins.
            if tag == "body":
                self._skipping = None
            return
        if tag in _SKIPPED:
            self._skipping = tag
            return
        if tag not in _TAGS or tag in {"html", "body"}:
            return
        kept = "".join(f' {name}="{html.escape(value)}"' for name, value in attrs if name in _ATTRIBUTES and value)
        self.kept.append(f"<{tag}{kept}>")

    def handle_endtag(self, tag: str) -> None:
        if self._skipping is not None:
            if tag == self._skipping:
                self._skipping = None
        elif tag in _TAGS and tag not in {"html", "body", "br", "hr", "col"}:
            self.kept.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self._skipping is None:
            self.kept.append(html.escape(data))


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        found = _CHARSET.search(data[:4096])
        try:
            return data.decode(found.group(1).decode() if found else "cp1252", errors="replace")
        except LookupError:
            return data.decode("cp1252", errors="replace")
