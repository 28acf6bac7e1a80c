"""`visrag reindex`: what is indexed, embedded again by another checkpoint, or read again from its files."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import asked, index, loading, opening, options, output
from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder
    from visrag_integrations.store import QdrantPageStore

_OF_READING = ("backend", "ocr", "password", "max_pages")


def add_parser(subparsers: Any) -> None:
    """Add `visrag reindex` and its options."""
    parser = subparsers.add_parser(
        "reindex",
        help="embed an index again, or read its documents again",
        epilog="Searches see the old vectors until all new ones are there; run it again to go on where it stopped.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="make the index of these files instead (default: of the pictures in it); with --read-again: only these "
        "may be read",
    )
    parser.add_argument(
        "--read-again",
        action="store_true",
        help="read the indexed documents again from their files, as an index of an older version needs; what cannot be "
        "read again stays as it was, and is named",
    )
    parser.add_argument("--prune", action="store_true", help="with --read-again: remove documents whose files are gone")
    options.add_store_options(parser)
    options.add_reading_options(parser)
    # Where nothing is said, documents are read as the index remembers, not as `visrag index` does by itself.
    parser.set_defaults(
        run=run,
        backend=None,
        ocr=None,
        when_ended="The index is as it was. What was embedded is kept: the same command goes on from there.",
    )


def run(arguments: argparse.Namespace) -> int:
    """`visrag reindex`."""
    from visrag_integrations.ingestion import reindex

    with contextlib.ExitStack() as opened:
        store = opened.enter_context(opening.open_store(arguments, must_exist=True))
        embedders = _embedders(arguments, store)
        for embedder in embedders:
            opened.callback(close, embedder)
        report = reindex(
            store,
            embedder=embedders,
            sources=arguments.paths or None,
            read_again=arguments.read_again,
            prune=arguments.prune,
            progress=False if arguments.quiet else None,
            **_reading(arguments, store),
        )
    for line in (*output.failure_lines(report.failed), *output.warning_lines(report)):
        options.note(line)
    if report.failed and not arguments.read_again:
        options.note("the index is still the old one. Run it again to try what failed.")
    elif arguments.read_again and not report.documents:
        options.note("nothing could be read again; the index is as it was.")
    if arguments.json:
        output.print_json(report.as_dict())
    else:
        print(output.report_line(report, arguments.index))
    return index.exit_code(report)


def _embedders(arguments: argparse.Namespace, store: QdrantPageStore) -> list[PageEmbedder]:
    """What was asked for, else everyone who fills the index."""
    wanted = asked.asked_embedder(arguments)
    if wanted is None and arguments.preset != "auto":
        wanted = asked.with_query_embedder(options.preset_models(arguments)[0], arguments)
    if wanted is not None:
        return [loading.load_embedder(arguments, wanted, fills=True)]
    if store.info is None:
        raise StoreError(f"Collection {arguments.collection!r} in {arguments.index!r} is empty: visrag index fills it.")
    first, *others = store.info.embedders
    own = asked.with_query_embedder(first.embedder, arguments)
    found = [loading.load_embedder(arguments, own, first, fills=True)]
    for info in others:
        found.append(loading.load_embedder(arguments, info.embedder, info, fills=True))
    return found


def _reading(arguments: argparse.Namespace, store: QdrantPageStore) -> dict[str, Any]:
    """How documents are read; nothing where none is."""
    if not arguments.paths and not arguments.read_again:
        if arguments.prune:
            raise SettingError("--prune goes with --read-again: visrag reindex --read-again --prune")
        return {}
    from visrag_integrations.ingestion.reindex import reader_like

    remembered = {} if store.info is None else dict(store.info.reader)
    for name in _OF_READING:
        value = getattr(arguments, name)
        if value is not None:
            remembered[name] = value
    reading: dict[str, Any] = {"reader": reader_like(remembered), "page_timeout": arguments.page_timeout}
    if arguments.workers is not None:
        reading["workers"] = arguments.workers
    return reading
