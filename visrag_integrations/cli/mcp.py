"""`visrag mcp`: an index for agents, over MCP."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from visrag_integrations.cli import options
from visrag_integrations.cli.serve import add_address_options, hosts_of, tokens_of


def add_parser(subparsers: Any) -> None:
    """Add `visrag mcp` and its options."""
    parser = subparsers.add_parser("mcp", help="serve an index to agents over MCP (standard input and output, or HTTP)")
    parser.add_argument("--http", action="store_true", help="serve over HTTP at /mcp instead of standard input/output")
    parser.add_argument("--search-only", action="store_true", help="load no generator; there is no tool ask then")
    add_address_options(parser, port=8001)
    options.add_search_options(parser)
    options.add_generator_options(parser)
    options.add_store_options(parser, json=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag mcp`."""
    from visrag_integrations.mcp import create_mcp_server
    from visrag_integrations.retrieval import PageRetriever

    with contextlib.ExitStack() as stack:
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the protocol
            store = stack.enter_context(options.open_store(arguments, must_exist=True))
            embedder = options.embedder_that_filled(store, arguments)
            only = options.filter_of(arguments)
            retriever = PageRetriever(embedder, store, mode=arguments.mode, filter=only)
            rag = None if arguments.search_only else options.build_rag(arguments, embedder, store)
            if rag is not None:
                rag.retriever = retriever  # with the filter
                stack.callback(getattr(rag.generator, "close", lambda: None))
            server = create_mcp_server(retriever, rag)
        if arguments.http:
            _run_http(server, arguments)
        else:
            options.note(f"serving {arguments.index} over standard input and output")
            server.run("stdio")
    return 0


def _run_http(server: Any, arguments: argparse.Namespace) -> None:
    from visrag_integrations.mcp import create_http_app
    from visrag_integrations.mcp.http import PATH
    from visrag_integrations.web.running import RunSettings, address_of, listen
    from visrag_integrations.web.running import run as run_server

    tokens = tokens_of(arguments)
    app = create_http_app(server, tokens, hosts_of(arguments, tokens))
    with listen(arguments.host, arguments.port) as listening:
        options.note(f"serving {arguments.index} at {address_of(listening)}{PATH} (Ctrl+C ends it)")
        run_server(app, listening, RunSettings(proxies=arguments.proxy))
