"""`visrag eval queries`: questions for documents of your own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from visrag_integrations.cli import loading, options, output
from visrag_integrations.cli.evaluate_options import check_outputs, progress_of
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.types import Failure, Page


def add_queries(parser: argparse.ArgumentParser) -> None:
    """Add its options."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files and folders (PDF, images, office files)")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the questions go; `visrag eval` takes it")
    parser.add_argument(
        "--generator", required=True, metavar="NAME|FOLDER|URL", help="what writes; it must see pictures"
    )
    parser.add_argument("--model", metavar="NAME", help="of the models at --generator URL (default: the only one)")
    loading.add_device_option(parser)
    parser.add_argument(
        "--per-page", type=options.positive, default=6, metavar="N", help="at most N a page (default: 6)"
    )
    parser.add_argument("--record", metavar="FILE", help="keep what was written there; a run that was stopped goes on")
    parser.add_argument(
        "--max-pages", type=options.positive, metavar="N", help="at most the first N pages of a document"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_queries)


def run_queries(arguments: argparse.Namespace) -> int:
    """`visrag eval queries`."""
    from visrag_integrations.evaluation import make_queries
    from visrag_integrations.readers import PageReader

    check_outputs(arguments)
    generator = loading.load_generator(arguments, arguments.generator)
    if generator.name == "extractive":  # it takes sentences from pages, as they are
        raise SettingError(
            "The extractive generator quotes; it cannot write questions. Name a model or a server's URL."
        )
    failed: list[Failure] = []
    dropped: list[tuple[Page, tuple[str, str], str]] = []
    try:
        made = make_queries(
            PageReader(max_pages=arguments.max_pages).read(arguments.paths, on_error=failed.append),
            generator,
            per_page=arguments.per_page,
            name=Path(arguments.out).stem,
            record=arguments.record,
            progress=progress_of(arguments),
            on_dropped=lambda page, pair, reason: dropped.append((page, pair, reason)),
            on_failure=failed.append,
        )
    finally:
        close(generator)
    for line in output.failure_lines(failed):
        options.note(line)
    made.save(arguments.out)
    if arguments.json:
        counts = {"questions": len(made.questions), "left_out": len(dropped), "out": arguments.out}
        failures = [{"source": failure.source, "page": failure.page, "error": failure.error} for failure in failed]
        output.print_json({**counts, "failed": failures})
    else:
        print(f"{len(made.questions)} questions in {arguments.out}; {len(dropped)} were left out.")
    if not made.questions:
        return 2
    return 1 if failed else 0
