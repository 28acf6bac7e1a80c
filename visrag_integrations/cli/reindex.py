"""`visrag reindex`: what is indexed, embedded again, for example by a checkpoint that was just trained."""

from __future__ import annotations

import argparse
from typing import Any

from visrag_integrations.cli import index, options, output


def add_parser(subparsers: Any) -> None:
    """Add `visrag reindex` and its options."""
    parser = subparsers.add_parser(
        "reindex",
        help="embed an index again with another embedder",
        epilog="Searches see the old vectors until all new ones are there; run it again to go on where it stopped.",
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="read these files again (default: the pictures in the index)"
    )
    parser.add_argument("--embedder", required=True, metavar="NAME|FOLDER", help="what embeds the pages from now on")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options.add_store_options(parser)
    parser.set_defaults(
        run=run, when_ended="The index is as it was. What was embedded is kept: the same command goes on from there."
    )


def run(arguments: argparse.Namespace) -> int:
    """`visrag reindex`."""
    from visrag_integrations.embedders import load_embedder
    from visrag_integrations.ingestion import reindex
    from visrag_integrations.interfaces.closing import close

    progress = False if arguments.quiet else None
    with options.open_store(arguments, must_exist=True) as store:
        embedder = load_embedder(arguments.embedder)
        try:
            report = reindex(store, embedder=embedder, sources=arguments.paths or None, progress=progress)
        finally:
            close(embedder)
    for line in output.failure_lines(report.failed):
        options.note(line)
    if arguments.json:
        output.print_json(report.as_dict())
    else:
        print(output.report_line(report, arguments.index))
    return index.exit_code(report)
