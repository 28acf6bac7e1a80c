"""`visrag eval merge`: the records of all shards of a run as one result."""

from __future__ import annotations

import argparse

from visrag_integrations.cli.evaluate_options import add_which_questions, check_outputs, dataset_of, metrics_of
from visrag_integrations.cli.evaluate_report import report_result, write_html


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Add its options."""
    add_which_questions(parser)
    parser.add_argument("records", nargs="+", metavar="RECORD", help="the --record of each --shard, in any order")
    parser.add_argument("--metrics", metavar="NAMES", help="separated by commas (default: those of the task)")
    parser.add_argument("--record", metavar="FILE", help="also write the record that one process would have written")
    parser.add_argument("--run-out", metavar="FILE", help="write what was found as a TREC run")
    parser.add_argument("--per-query", metavar="FILE", help="write each question's values, one JSON object a line")
    parser.add_argument("--html", metavar="FILE", help="also write the scores and the failed questions as an HTML file")
    parser.add_argument(
        "--unfinished", action="store_true", help="report questions without a result as failed, and score the others"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_merge, compare=None)


def run_merge(arguments: argparse.Namespace) -> int:
    """`visrag eval merge`."""
    from visrag_integrations.evaluation import merge_records, write_run

    check_outputs(arguments)
    dataset = dataset_of(arguments)
    metrics: list[str] | None = None
    if arguments.metrics:
        metrics = metrics_of(arguments)
    result = merge_records(
        dataset, arguments.records, metrics, record=arguments.record, unfinished=arguments.unfinished
    )
    # The numbers first, as in the run itself.
    code = report_result(arguments, dataset, result, None, 0)
    if arguments.run_out:
        write_run(result.run, arguments.run_out)
    write_html(arguments, dataset, result, None, None)
    return code
