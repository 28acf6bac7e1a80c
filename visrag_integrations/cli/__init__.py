"""The `visrag` command: one file a command, each with `add_parser` and `run`.

Results go to standard output (with `--json`, one JSON object and nothing else); progress, notes and errors go to
standard error. Exit code 0: all done; 1: some inputs failed; 2: wrong usage, or nothing could be done.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from visrag_integrations import __version__
from visrag_integrations.cli import (
    ask,
    demo,
    ending,
    evaluate,
    index,
    mcp,
    models,
    reindex,
    search,
    serve,
    train,
    ultrarag,
)
from visrag_integrations.errors import VisRAGError

COMMANDS = (index, reindex, search, ask, evaluate, demo, serve, mcp, ultrarag, train, models)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # Names of files may hold letters that the terminal cannot show; that must not end a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    # What is said once of a new collection on a server is for whoever types, not for a log.
    logging.getLogger("visrag_integrations.store.new_collections").setLevel(logging.WARNING)
    try:
        with ending.in_order():
            return int(arguments.run(arguments))
    except VisRAGError as error:
        print(f"visrag: {error}", file=sys.stderr)
    except BrokenPipeError:  # `visrag search ... | head -1`: Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        print(f"visrag: {ending.message(error, arguments)}", file=sys.stderr)
        return ending.code(error)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="visrag",
        description="Search documents as page images and answer from them.",
        epilog="A file name or question that starts with a dash goes after `--`: visrag index -- -notes.pdf",
    )
    parser.add_argument("--version", action="version", version=f"visrag {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
