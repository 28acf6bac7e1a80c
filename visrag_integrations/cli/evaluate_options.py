"""What the tasks of `visrag eval` have in common: which questions, where results go, how they are shown."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import options, reranking

if TYPE_CHECKING:
    from visrag_integrations.evaluation import EvaluationSet


def add_which_questions(parser: argparse.ArgumentParser) -> None:
    """The set, and which of its questions."""
    parser.add_argument("set", metavar="SET", help="a file, a folder, or the name of a data set on the hub")
    parser.add_argument("--split", default="test", help="which part of it, where it has several (default: test)")
    parser.add_argument("--language", metavar="NAME", help='only its questions in this language ("fr", "french")')
    parser.add_argument("--subset", metavar="NAME", help="only this part of it, where it is divided into parts")
    parser.add_argument(
        "--group-by", metavar="NAME", help="a row for each group: language, subset, or a column such as query_type"
    )
    parser.add_argument(
        "--no-text", action="store_true", help="leave out the text that the set has of pages with a picture"
    )
    parser.add_argument("--limit", type=options.positive, metavar="N", help="only its first N questions")


def add_set_options(parser: argparse.ArgumentParser, metrics: str) -> None:
    """What is asked, of which pages, and what is done with the results."""
    add_which_questions(parser)
    parser.add_argument(
        "--shard",
        type=share,
        metavar="I/N",
        help="only the I-th of N shares of them; `visrag eval merge` joins results",
    )
    parser.add_argument("--documents", nargs="+", default=[], metavar="PATH", help="index these first")
    parser.add_argument("-k", type=options.positive, help="how many pages (default: as many as are needed)")
    parser.add_argument("--metrics", default=metrics, metavar="NAMES", help=f"separated by commas (default: {metrics})")
    parser.add_argument("--record", metavar="FILE", help="keep every result there; a run that was stopped goes on")
    parser.add_argument("--per-query", metavar="FILE", help="write each question's values, one JSON object a line")
    parser.add_argument("--html", metavar="FILE", help="also write the scores and the failed questions as an HTML file")
    parser.add_argument("--batch-size", type=options.positive, default=16, metavar="N", help="questions asked together")
    add_progress(parser)
    options.add_search_options(parser)
    reranking.add_rerank_options(parser)
    options.add_store_options(parser)
    options.add_reading_options(parser)
    parser.set_defaults(own_defaults=("collection",))  # of the set's name, where its pages are indexed


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Whether a progress bar with the time that is left is shown."""
    parser.add_argument("--progress", action="store_true", help="a progress bar also where it goes to a file")


def share(text: str) -> tuple[int, int]:
    """A share as people write it: "2/4" is (2, 4)."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no share; it must be I/N with I from 1 to N, for example 2/4")
    return int(number), int(count)


def dataset_of(arguments: argparse.Namespace) -> EvaluationSet:
    """The questions that are asked: those of `whole_set`, limited and shared out."""
    dataset = whole_set(arguments)
    if arguments.limit:
        dataset = dataset.first(arguments.limit)
    if getattr(arguments, "shard", None):  # merging takes them all
        dataset = dataset.shard(*arguments.shard)
    return dataset


def whole_set(arguments: argparse.Namespace) -> EvaluationSet:
    """The set that is named, with the questions of the language and part that are wanted."""
    from visrag_integrations.evaluation import load_evaluation_set

    dataset = load_evaluation_set(
        arguments.set,
        split=arguments.split,
        language=arguments.language,
        subset=arguments.subset,
        text=not arguments.no_text,
    )
    if arguments.group_by:
        dataset = dataset.grouped_by(arguments.group_by)
    return dataset


def metrics_of(arguments: argparse.Namespace) -> list[str]:
    """The names that --metrics lists."""
    return list(filter(None, map(str.strip, arguments.metrics.split(","))))


def running(arguments: argparse.Namespace) -> dict[str, Any]:
    """How a run goes on, for `evaluate_retrieval` and `evaluate_answers`."""
    return {"record": arguments.record, "batch_size": arguments.batch_size, "progress": progress_of(arguments)}


def check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be written now, and not at the end of the work."""
    # Each task has some of these options.
    for option in ("run_out", "per_query", "record", "judge_record", "html", "out"):
        options.check_output(f"--{option.replace('_', '-')}", getattr(arguments, option, None))


def progress_of(arguments: argparse.Namespace) -> bool | None:
    """None leaves it to the terminal: a bar where somebody looks."""
    if getattr(arguments, "progress", False):  # `visrag eval queries` has --quiet only
        return True
    return False if arguments.quiet else None
