"""`visrag search`: the pages that fit a query."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import html_files, opening, options, output, reranking
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.stores import why_nothing

if TYPE_CHECKING:
    from visrag_integrations.types import ScoredPage


def add_parser(subparsers: Any) -> None:
    """Add `visrag search` and its options."""
    parser = subparsers.add_parser("search", help="find the pages that fit a query")
    parser.add_argument("query", help="what to search for; - reads it from standard input")
    parser.add_argument("-k", type=options.positive, default=5, help="how many pages (default: 5)")
    options.add_search_options(parser)
    html_files.add_options(parser, "the pages")
    reranking.add_rerank_options(parser)
    options.add_embedder_options(parser, default="what the index remembers")
    options.add_store_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag search`."""
    from visrag_integrations.generation.passages import best_passages
    from visrag_integrations.retrieval import PageRetriever

    query = options.text_or_stdin(arguments.query, 'visrag search "torque of the M8 bolts"')
    with_html = html_files.wanted(arguments)
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(opening.open_store(arguments, must_exist=True))
        embedder = opening.embedder_that_filled(store, arguments)
        opened.callback(close, embedder)
        settings = reranking.retriever_settings(arguments, opened)
        retriever = PageRetriever(embedder, store, mode=arguments.mode, **settings)
        asked = options.filter_of(arguments)
        hits = retriever.retrieve(query, top_k=arguments.k, filter=asked)
        note = "" if hits else why_nothing(store, asked)
        html = _html(query, hits) if with_html else ""  # while the store can give the pictures
    best = best_passages(query, [hit.page.text for hit in hits])
    passages = ["" if passage is None else passage.text for passage in best]
    if arguments.json:
        found: dict[str, Any] = {"query": query, "pages": output.found_json(hits, passages)}
        if note:
            found["note"] = note
        output.print_json(found)
    elif hits:
        print("\n".join(output.found_lines(hits, passages)))
    else:
        print(f"No page was found. {note}".strip())
    if html:
        html_files.write(arguments, html)
    return 0


def _html(query: str, hits: Sequence[ScoredPage]) -> str:
    from visrag_integrations.report import search_to_html  # slow to import, and seldom asked for

    return search_to_html(query, hits)
