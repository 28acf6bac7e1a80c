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
    delete,
    demo,
    documents,
    ending,
    evaluate,
    index,
    info,
    mcp,
    models,
    options,
    presets,
    reindex,
    samples,
    search,
    serve,
    surroundings,
    train,
    ultrarag,
)
from visrag_integrations.cli.parser import CommandParser
from visrag_integrations.errors import MissingExtraError, VisRAGError

COMMANDS = (
    index,
    search,
    ask,
    info,
    documents,
    delete,
    reindex,
    samples,
    evaluate,
    demo,
    serve,
    mcp,
    ultrarag,
    train,
    models,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # Names of files may hold letters that the terminal cannot show; that must not end a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    set_logging(arguments)
    # What is said once of a new collection on a server is for whoever types, not for a log.
    logging.getLogger("visrag_integrations.store.new_collections").setLevel(logging.WARNING)
    # Nor is why a search takes long.
    logging.getLogger("visrag_integrations.store.unindexed").setLevel(logging.WARNING)
    try:
        with ending.in_order():
            surroundings.fill_in(arguments)
            return int(arguments.run(arguments))
    except MissingExtraError as error:
        print(f"visrag: {error}{presets.all_extras_of(arguments, error.extra)}", file=sys.stderr)
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
    parser = CommandParser(
        prog="visrag",
        description="Find pages of documents, by their text or as pictures, and answer from them.",
        epilog="A file name or question that starts with a dash goes after `--`: visrag index -- -notes.pdf",
    )
    parser.add_argument("--version", action="version", version=f"visrag {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    for of_command in _innermost(parser):
        options.add_talk_options(of_command)
        of_command.set_defaults(command_parser=of_command)
    return parser


def _innermost(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of the commands, and of the tasks that some have."""
    found: list[argparse.ArgumentParser] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += _innermost(inner)
    return found or [parser]


def set_logging(arguments: argparse.Namespace) -> None:
    """Errors only; with -v what is done, with -vv every step, of this library alone."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    # A server that is not there looks like one that thinks.
    told = logging.ERROR if arguments.quiet else logging.WARNING
    logging.getLogger("visrag_integrations.generation.openai_retries").setLevel(told)
    if arguments.verbose:
        level = logging.INFO if arguments.verbose == 1 else logging.DEBUG
        logging.getLogger("visrag_integrations").setLevel(level)
