"""`visrag serve`: one index for many programs, over HTTP."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import loading, opening, options, reranking, serve_workers
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder
    from visrag_integrations.servers.http import ServeSettings
    from visrag_integrations.store import QdrantPageStore


def add_parser(subparsers: Any) -> None:
    """Add `visrag serve` and its options."""
    parser = subparsers.add_parser("serve", help="serve an index over HTTP: search, answers, page pictures")
    add_address_options(parser, port=8000)
    parser.add_argument("--search-only", action="store_true", help="load no generator; there is no /ask then")
    parser.add_argument("--cors", nargs="+", default=[], metavar="ORIGIN", help="web pages of these origins may ask")
    parser.add_argument("--public-url", default="", metavar="URL", help="where clients reach it, if not here")
    parser.add_argument(
        "--search-paths",
        action="store_true",
        help="GET /search gives paths of picture files, as the published VRAG client needs; on this machine only",
    )
    parser.add_argument("--rate", type=float, metavar="N", help="requests a second for each token or address")
    parser.add_argument(
        "--workers",
        type=options.positive,
        default=1,
        metavar="N",
        help="processes that answer, each with its own models; for an index on a Qdrant server",
    )
    parser.add_argument("--max-batch", type=options.positive, default=32, metavar="N", help="queries embedded together")
    parser.add_argument("--max-concurrency", type=options.positive, default=128, metavar="N", help="requests at once")
    parser.add_argument("--access-log", action="store_true", help="a line for each request on standard error")
    options.add_search_options(parser)
    reranking.add_rerank_options(parser)
    options.add_embedder_options(parser, default="what the index remembers")
    options.add_generator_options(parser)
    options.add_store_options(parser, json=False)
    parser.set_defaults(run=run)


def add_address_options(parser: argparse.ArgumentParser, port: int) -> None:
    """Where a server listens, and who may ask it."""
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; others than this machine need a token")
    parser.add_argument("--port", type=int, default=port, help=f"0 takes any that is free (default: {port})")
    parser.add_argument("--token-file", metavar="FILE", help="tokens, one a line; else the variable VISRAG_TOKEN")
    parser.add_argument("--allow-host", nargs="+", default=[], metavar="NAME", help="names the server is called by")
    parser.add_argument("--proxy", default="", metavar="IP", help="believe X-Forwarded-For of this proxy")


def run(arguments: argparse.Namespace) -> int:
    """`visrag serve`."""
    from visrag_integrations.servers.web.running import address_of, listen

    settings = settings_of(arguments)
    serve_workers.check(arguments)
    # The address first: what is wrong with it is said before a model is loaded.
    with listen(arguments.host, arguments.port) as listening:

        def say_where() -> None:
            options.note(f"serving {arguments.index} at {address_of(listening)} (Ctrl+C ends it)")

        if arguments.workers > 1:
            ended = serve_workers.run(answer, arguments, settings, listening, say_where)
            cut_off, died = ended.cut_off, ended.died
        else:
            cut_off, died = answer(arguments, settings, listening, lambda _: say_where()), 0
    options.note(f"ended; {in_words(cut_off, died)}.")
    return 0


def in_words(cut_off: int, died: int = 0) -> str:
    """What became of the requests that were under way when the server was told to end.

    >>> in_words(0), in_words(2)
    ('every request was finished', 'requests cut off: 2')
    >>> in_words(0, died=1)
    'every request was finished, but for those of workers that died meanwhile: 1'
    """
    words = "every request was finished"
    if cut_off:
        words = f"requests cut off: {cut_off}"
    if died:
        words += f", but for those of workers that died meanwhile: {died}"
    return words


def settings_of(arguments: argparse.Namespace) -> ServeSettings:
    """What the server allows."""
    from visrag_integrations.servers.http import ServeSettings

    tokens = tokens_of(arguments)
    check_search_paths(arguments)
    return ServeSettings(
        tokens=tokens,
        hosts=hosts_of(arguments, tokens),
        cors_origins=tuple(arguments.cors),
        search_paths=arguments.search_paths,
        public_url=arguments.public_url,
        requests_per_second=arguments.rate,
        max_batch=arguments.max_batch,
        max_concurrency=arguments.max_concurrency,
    )


def answer(
    arguments: argparse.Namespace,
    settings: ServeSettings,
    listening: socket.socket,
    begun: Callable[[Any], object],
) -> int:
    """Load what answers, and answer until it is told to end: how many requests were cut off for that."""
    from visrag_integrations.servers.http import create_app
    from visrag_integrations.servers.web.running import RunSettings
    from visrag_integrations.servers.web.running import run as run_server

    say_access(arguments)
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(opening.open_store(arguments, must_exist=True))
        embedder = opening.embedder_that_filled(store, arguments)
        rag = None if arguments.search_only else opening.build_rag(arguments, embedder, store)
        retriever = following_retriever(embedder, store, arguments, opened)
        retriever.retrieve("warm up", 1)  # loads the model now, and says now what does not fit
        if rag is not None:
            rag.retriever = retriever  # the same, so that questions are embedded together with searches
        try:
            app = create_app(retriever, rag, settings)
            return run_server(app, listening, RunSettings(proxies=arguments.proxy), begun)
        finally:
            if rag is not None:
                close(rag.generator)
            retriever.close()


def following_retriever(
    embedder: PageEmbedder, store: QdrantPageStore, arguments: argparse.Namespace, opened: contextlib.ExitStack
) -> Any:
    """What searches the store, by whatever embedder fills it at the time; beginning with this one."""
    from visrag_integrations.servers.web.following import FollowingRetriever

    def load(name: str) -> PageEmbedder:
        return loading.load_embedder(arguments, name, store.read_info(), may_ask=False)

    only = options.filter_of(arguments)
    settings = reranking.retriever_settings(arguments, opened)
    return FollowingRetriever(embedder, store, load=load, mode=arguments.mode, filter=only, **settings)


def check_search_paths(arguments: argparse.Namespace) -> None:
    """Paths are for programs on this machine, so `--search-paths` goes with nothing that lets others in."""
    from visrag_integrations.servers.web.hosts import LOOPBACK

    if not arguments.search_paths:
        return
    for option, given in (("--public-url", arguments.public_url), ("--proxy", arguments.proxy)):
        if given:
            raise SettingError(f"--search-paths is for clients on this machine; leave {option} out.")
    if arguments.host not in LOOPBACK:
        raise SettingError(
            f"--search-paths gives paths of this machine, and --host {arguments.host} lets other machines ask. "
            "Leave one of them out."
        )


def tokens_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The tokens of `--token-file` or `VISRAG_TOKEN`; a server that others can reach must have one."""
    from visrag_integrations.servers.web.access import check_tokens, read_tokens
    from visrag_integrations.servers.web.hosts import LOOPBACK

    if arguments.token_file:
        return read_tokens(arguments.token_file)
    given = os.environ.get("VISRAG_TOKEN", "")  # not an option: other users of this machine can read those
    if given:
        return check_tokens((given,))
    if arguments.host not in LOOPBACK:
        raise SettingError(
            f"--host {arguments.host} lets other machines ask, and there is no token. Set the variable VISRAG_TOKEN, "
            "or give --token-file FILE; python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one."
        )
    return ()


def hosts_of(arguments: argparse.Namespace, tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The names the server may be called by: of this machine only, unless a token keeps strangers out."""
    from visrag_integrations.servers.web.hosts import LOOPBACK

    if arguments.allow_host:
        return (*arguments.allow_host, *LOOPBACK)
    if tokens:
        return ()
    return LOOPBACK


def say_access(arguments: argparse.Namespace) -> None:
    """With `--access-log`, a line for each request on standard error."""
    if arguments.access_log:
        logger = logging.getLogger("visrag_integrations.servers.http.access")
        logger.setLevel(logging.INFO)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        # Not passed on: the log of the whole program shows errors only, and each line would stand there twice.
        logger.handlers, logger.propagate = [handler], False
