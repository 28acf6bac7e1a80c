"""`visrag demo`: a web page to upload documents, ask, and see the evidence."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import logging
import os
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import asked, ending, loading, opening, options, presets, reranking
from visrag_integrations.errors import SettingError, printable
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.servers.demo import KnowledgeBases

_MOST_NAMES = 5  # of files that are left out; a folder of photographs may hold thousands of others
PASSWORD = "VISRAG_DEMO_PASSWORD"


def add_parser(subparsers: Any) -> None:
    """Add `visrag demo` and its options."""
    parser = subparsers.add_parser(
        "demo",
        help="a web page: upload documents, ask, see the pages with the evidence outlined",
        epilog=f"The password is taken from the environment variable {PASSWORD}, or asked for with --ask-password; "
        "as an argument every user of this machine could read it.",
    )
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="PATH|URL",
        help="documents to begin with: files, folders and web addresses, put into the first knowledge base",
    )
    parser.add_argument("--folder", default="visrag-bases", metavar="DIR", help="where knowledge bases are kept")
    options.add_model_options(parser)
    options.add_embedder_options(parser)
    parser.add_argument("-k", type=options.positive, default=3, help="how many pages to read (default: 3)")
    options.add_generator_options(parser)
    reranking.add_rerank_options(parser)
    parser.add_argument(
        "--agent",
        action="store_true",
        help="let the model search by itself in several steps, shown as they happen; visitors may switch it off",
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME|FOLDER|URL",
        help="another --generator that visitors may choose to answer; may be given several times",
    )
    server = parser.add_argument_group("server")
    server.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="who may connect: 0.0.0.0 is everybody")
    server.add_argument("--port", type=options.port, metavar="N", help="default: the first free one from 7860")
    server.add_argument("--ask-password", action="store_true", help="ask for the password that visitors have to type")
    server.add_argument("--share", action="store_true", help="a public address through Gradio's servers; with password")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-upload-mb", type=options.positive, default=100, metavar="N", help="of one file")
    limits.add_argument("--max-files", type=options.positive, default=20, metavar="N", help="in one upload")
    limits.add_argument("--max-total-mb", type=options.positive, default=10240, metavar="N", help="of the whole folder")
    parser.set_defaults(run=run, when_ended=ending.KEPT)


def run(arguments: argparse.Namespace) -> int:
    """`visrag demo`."""
    password = _password(arguments)
    logging.getLogger("visrag_integrations.servers.demo").setLevel(logging.WARNING)  # what goes wrong for a visitor
    with contextlib.ExitStack() as opened:
        bases = _open(arguments, opened)
        opened.callback(close, bases.models.embedder)
        for other in bases.models.others:
            opened.callback(close, other)
        with bases:
            _add_sources(arguments.sources, bases)
            _serve(arguments, bases, password)
    return 0


def _password(arguments: argparse.Namespace) -> str | None:
    from visrag_integrations.servers.web.hosts import LOOPBACK

    password = os.environ.pop(PASSWORD, None)  # not handed on to other processes
    if arguments.ask_password:
        password = getpass.getpass("Password for the demo: ")
    if password is not None and not password.strip():
        raise SettingError(f"The password is empty. Type one, or leave {PASSWORD} unset for none.")
    if password is None and arguments.share:
        raise SettingError("--share lets the whole world in. Set a password for it: visrag demo --share --ask-password")
    if password is None and arguments.host not in LOOPBACK:
        options.note(f"everybody who can reach {arguments.host} sees all documents; --ask-password sets a password.")
    return password


def _open(arguments: argparse.Namespace, opened: contextlib.ExitStack) -> KnowledgeBases:
    from visrag_integrations.interfaces.generators import only_quotes
    from visrag_integrations.servers.demo import KnowledgeBases, Limits, build_demo
    from visrag_integrations.types import GenerationSettings

    _ = build_demo  # a missing Gradio is said before models are loaded
    embedder, generator = arguments.embedder, arguments.generator
    if embedder is None or generator is None:
        preset = options.preset_models(arguments)
        embedder, generator = embedder or preset[0], generator or preset[1]
    loading.check_model(arguments, generator)
    embedder = asked.with_query_embedder(embedder, arguments)
    loading.ask_for_embedder(arguments, embedder, fills=True)
    loading.ask_before_loading(arguments, generator)
    loading.refuse_several(arguments, generator, *arguments.also)
    writer = loading.load_generator(arguments, generator, beside=embedder, fills=True)
    opened.callback(close, writer)
    if arguments.agent and only_quotes(writer):
        raise SettingError(
            f"--agent needs a model that writes, and {generator!r} only quotes passages. Name one: "
            "visrag demo --agent --generator http://localhost:11434/v1 (any OpenAI-compatible server, a folder, or a "
            "checkpoint's name)."
        )
    limits = Limits(
        file_bytes=arguments.max_upload_mb << 20,
        files=arguments.max_files,
        total_bytes=arguments.max_total_mb << 20,
        pages=max(arguments.k, Limits().pages),
    )
    return KnowledgeBases(
        arguments.folder,
        embedder=loading.load_embedder(arguments, embedder, fills=True),
        generator=writer,
        others=[loading.load_another(arguments, name, beside=embedder, fills=True) for name in arguments.also],
        limits=limits,
        load=lambda info: loading.load_embedder(arguments, info.embedder, info, may_ask=False),
        searching=reranking.retriever_settings(arguments, opened),
        top_k=arguments.k,
        strategy=opening.strategy_of(arguments),
        prompt=presets.prompt_of(arguments),
        settings=GenerationSettings(max_tokens=arguments.max_tokens, guided=arguments.guided),
    )


def _add_sources(sources: Sequence[str], bases: KnowledgeBases) -> None:
    """What the person who starts the demo names on the command line; it is read while the page is open already."""
    from visrag_integrations.servers.demo.knowledge_bases import FIRST_BASE
    from visrag_integrations.servers.demo.local_sources import add_sources

    if not sources:
        return
    names = bases.names()
    base = bases.get(FIRST_BASE if FIRST_BASE in names else names[0])
    taken = add_sources(base, sources, bases.room())
    options.note(f"going into the knowledge base {base.name!r}: {len(taken.names)}; the page shows how far it is.")
    if taken.left_out:
        names_left_out = ", ".join(map(printable, taken.left_out[:_MOST_NAMES]))
        if len(taken.left_out) > _MOST_NAMES:
            names_left_out += ", ..."
        options.note(f"of kinds that cannot be read, and left out: {len(taken.left_out)} ({names_left_out})")


def _serve(arguments: argparse.Namespace, bases: KnowledgeBases, password: str | None) -> None:
    """Serve until Ctrl-C or a termination signal, then close in order."""
    from visrag_integrations.servers.demo import build_demo
    from visrag_integrations.servers.web.hosts import LOOPBACK

    # A password keeps strangers out; without one, only names that no web site can take (`LOOPBACK`).
    only_here = arguments.host in LOOPBACK and not arguments.share and password is None
    demo = build_demo(
        bases,
        password=password,
        hosts=LOOPBACK if only_here else None,
        local=only_here,
        agent=arguments.agent,
    )
    # Noted only: the loop below sees it, and everything is closed in order.
    signals: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        _, local, public = demo.launch(
            server_name=arguments.host,
            server_port=arguments.port,
            share=arguments.share,
            prevent_thread_lock=True,
            quiet=True,
        )
        print(f"The demo is at {public or local}  (Ctrl-C stops it)", flush=True)
        while not signals:
            time.sleep(0.2)
        options.note("stopping; what was indexed is kept.")
    except OSError as err:
        raise SettingError(
            f"The demo cannot listen on {arguments.host}: {err} Choose another --port or --host."
        ) from err
    finally:
        demo.close(verbose=False)
        for number, handler in before.items():
            signal.signal(number, handler)
