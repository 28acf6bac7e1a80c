"""`visrag list`: the documents in an index."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import opening, options, output
from visrag_integrations.errors import printable
from visrag_integrations.interfaces.stores import why_nothing

if TYPE_CHECKING:
    from visrag_integrations.types import StoredDocument


def add_parser(subparsers: Any) -> None:
    """Add `visrag list` and its options."""
    parser = subparsers.add_parser("list", help="list the documents in an index")
    options.add_filter_option(parser)
    options.add_store_options(parser, preset=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag list`."""
    with opening.open_store(arguments, must_exist=True) as store:
        asked = options.filter_of(arguments)
        documents = sorted(store.documents(asked), key=lambda document: (document.sources, document.doc_id))
        note = ""
        if not documents and asked:
            note = why_nothing(store, asked)
    if arguments.json:
        found: dict[str, Any] = {"documents": [_json(document) for document in documents]}
        if note:
            found["note"] = note
        output.print_json(found)
    elif documents:
        print("\n".join(map(_line, documents)))
    else:
        print(f"There is no document here. {note or 'visrag index PATH... adds some.'}")
    return 0


def _line(document: StoredDocument) -> str:
    pages = output.counted(document.pages, "page")
    if document.total_pages is not None and document.total_pages != document.pages:
        pages = f"{document.pages} of its {output.counted(document.total_pages, 'page')}"
    line = f"{printable(name_of(document))}  ({pages})"
    if len(document.sources) > 1:
        line += f"  also {', '.join(map(printable, document.sources[1:]))}"
    return line


def name_of(document: StoredDocument) -> str:
    """Where it was found first; its id where it came from memory."""
    return document.sources[0] if document.sources else document.doc_id


def _json(document: StoredDocument) -> dict[str, Any]:
    return {
        "doc_id": document.doc_id,
        "sources": list(document.sources),
        "pages": document.pages,
        "total_pages": document.total_pages,
    }
