"""The `visrag` command: index, search, ask.

Results go to standard output (with `--json`, one JSON object and nothing else); progress, notes and errors go to
standard error. Exit code 0: all done; 1: some inputs failed; 2: wrong usage, or nothing could be done.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from visrag_integrations import __version__
from visrag_integrations.cli import commands
from visrag_integrations.errors import VisRAGError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    try:
        return int(arguments.run(arguments))
    except VisRAGError as error:
        print(f"visrag: {error}", file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("visrag: interrupted. What was indexed is kept; run the same command again to go on.", file=sys.stderr)
        return 130
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="visrag",
        description="Search documents as page images and answer from them.",
        epilog="A file name or question that starts with a dash goes after `--`: visrag index -- -notes.pdf",
    )
    parser.add_argument("--version", action="version", version=f"visrag {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _index_parser(subparsers)
    _search_parser(subparsers)
    _ask_parser(subparsers)
    return parser


def _index_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("index", help="read documents and add their pages to an index")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files and folders (PDF, images, office files)")
    parser.add_argument("--prune", action="store_true", help="also remove documents whose files are gone from there")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_store_options(parser)
    _add_reading_options(parser)
    parser.set_defaults(run=commands.run_index)


def _search_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("search", help="find the pages that fit a query")
    parser.add_argument("query", help="what to search for; - reads it from standard input")
    parser.add_argument("-k", type=_positive, default=5, help="how many pages (default: 5)")
    _add_store_options(parser)
    parser.set_defaults(run=commands.run_search)


def _ask_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("ask", help="answer a question from the pages that fit it, with evidence")
    parser.add_argument("question", help="the question; - reads it from standard input")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="index these first, and search only them")
    parser.add_argument("-k", type=_positive, default=3, help="how many pages to read (default: 3)")
    parser.add_argument("--generator", metavar="NAME|FOLDER|URL", help="what answers (default: the preset's)")
    parser.add_argument("--strategy", default="multi_image", metavar="NAME", help="how the pages are shown to it")
    parser.add_argument("--prompt", default="evisrag", choices=["evisrag", "plain"], help="plain: for general models")
    parser.add_argument("--guided", action="store_true", help="hold the model to EVisRAG's form (vLLM)")
    parser.add_argument("--max-tokens", type=_positive, metavar="N", help="at most so many tokens of answer")
    parser.add_argument("--html", metavar="FILE", help="also write the answer with its pages as one HTML file")
    _add_store_options(parser)
    _add_reading_options(parser)
    parser.set_defaults(run=commands.run_ask)


def _add_store_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--index", default=".visrag", metavar="DIR|URL", help="the index: a folder, or a Qdrant server")
    parser.add_argument("--collection", default="pages", metavar="NAME", help="the collection in it (default: pages)")
    parser.add_argument("--preset", choices=["auto", *commands.PRESETS], default="auto", help="which models to use")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--embedder", metavar="NAME|FOLDER", help="what embeds the pages (default: the preset's)")
    reading = parser.add_argument_group("reading documents")
    reading.add_argument("--backend", choices=["pymupdf", "pdfium"], default="pymupdf", help="PDF engine to try first")
    reading.add_argument("--ocr", choices=["auto", "always", "never"], default="auto", help="read text from pixels")
    reading.add_argument("--password", help="of encrypted documents")
    reading.add_argument("--max-pages", type=_positive, metavar="N", help="at most the first N pages of a document")
    reading.add_argument("--page-timeout", type=float, default=60.0, metavar="SECONDS", help="time limit per page")
    reading.add_argument("--workers", type=_positive, metavar="N", help="reading processes (default: one per core)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
