"""`visrag mcp`: an index for agents, over MCP."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from typing import Any

from visrag_integrations.cli import ending, opening, options
from visrag_integrations.cli.reranking import add_rerank_options
from visrag_integrations.cli.serve import add_address_options, following_retriever, hosts_of, tokens_of
from visrag_integrations.interfaces.closing import close

_PORT = 8001  # beside `visrag serve`, which takes 8000


def add_parser(subparsers: Any) -> None:
    """Add `visrag mcp` and its options."""
    parser = subparsers.add_parser("mcp", help="serve an index to agents over MCP (standard input and output, or HTTP)")
    parser.add_argument("--http", action="store_true", help="serve over HTTP at /mcp instead of standard input/output")
    parser.add_argument("--search-only", action="store_true", help="load no generator; there is no tool ask then")
    add_address_options(parser, port=_PORT)
    options.add_search_options(parser)
    add_rerank_options(parser)
    options.add_embedder_options(parser, default="what the index remembers")
    options.add_generator_options(parser)
    options.add_store_options(parser, json=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag mcp`."""
    from visrag_integrations.servers.web.running import listen

    with contextlib.ExitStack() as stack:
        if arguments.http:
            tokens = tokens_of(arguments)  # what is wrong with these is said before anything is loaded
            listening = stack.enter_context(listen(arguments.host, arguments.port))
            _run_http(_load(arguments, stack), arguments, tokens, listening)
        else:
            _say_unused(arguments)
            server = _load(arguments, stack)
            options.note(f"serving {arguments.index} over standard input and output")
            with ending.at_once(stack.close):
                server.run("stdio")
    return 0


def _load(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> Any:
    """The server over the index; what it uses is closed with the stack."""
    from visrag_integrations.servers.mcp import create_mcp_server

    with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the protocol
        store = stack.enter_context(opening.open_store(arguments, must_exist=True))
        embedder = opening.embedder_that_filled(store, arguments)
        retriever = following_retriever(embedder, store, arguments, stack)
        stack.callback(retriever.close)
        rag = None if arguments.search_only else opening.build_rag(arguments, embedder, store)
        if rag is not None:
            rag.retriever = retriever  # with the filter
            stack.callback(close, rag.generator)
        return create_mcp_server(retriever, rag)


def _run_http(server: Any, arguments: argparse.Namespace, tokens: tuple[str, ...], listening: socket.socket) -> None:
    from visrag_integrations.servers.mcp import create_http_app
    from visrag_integrations.servers.mcp.http_app import PATH
    from visrag_integrations.servers.web.running import RunSettings, address_of
    from visrag_integrations.servers.web.running import run as run_server

    app = create_http_app(server, tokens, hosts_of(arguments, tokens))
    options.note(f"serving {arguments.index} at {address_of(listening)}{PATH} (Ctrl+C ends it)")
    run_server(app, listening, RunSettings(proxies=arguments.proxy))


def _say_unused(arguments: argparse.Namespace) -> None:
    """Without `--http` there is no address; say which of its options were given."""
    address = argparse.ArgumentParser(add_help=False)
    add_address_options(address, port=_PORT)
    unused: list[str] = []
    for name, default in vars(address.parse_args([])).items():
        if getattr(arguments, name) != default:
            unused.append(f"--{name.replace('_', '-')}")
    if unused:
        options.note(
            f"{', '.join(unused)}: no effect on standard input and output; give --http as well to serve over HTTP."
        )
