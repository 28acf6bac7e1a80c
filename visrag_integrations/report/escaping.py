"""Foreign text made safe for HTML: whatever a model, a document or a person wrote goes through here."""

from __future__ import annotations

import html


def escaped(text: str) -> str:
    """Text that can be put anywhere into HTML, into attributes too.

    >>> escaped('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(text, quote=True)


def whole_characters(text: str) -> str:
    """The text without half characters (lone surrogates), which a model may write and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
