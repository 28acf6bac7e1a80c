"""`visrag train agent | runs`: an agent of your own, and the experts' runs that it learns from first."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import loading, opening, options, train_stages

if TYPE_CHECKING:
    from visrag_integrations.interfaces.retrievers import Retriever

MATCH = "match"
"""The judge without a model: exactly the words of a right answer."""


def add_agent(parser: argparse.ArgumentParser) -> None:
    """The options of `visrag train agent`."""
    parser.add_argument("base", metavar="BASE", help="a Qwen2.5-VL checkpoint, or the one of the stage before")
    parser.add_argument(
        "questions",
        metavar="DATA",
        help="sft: runs, as `visrag train runs` writes; rl: a set of questions with answers",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the run's folder; run again to go on")
    parser.add_argument(
        "--stage", choices=("sft", "rl"), default="sft", help="from experts' runs, or by its own (default: sft)"
    )
    _add_search(parser)
    parser.add_argument("--evaluate", metavar="SET", help="held-out questions with answers, asked at every checkpoint")
    step = "runs or questions a step (sft: 64; rl: 32)"
    recipe = train_stages.add_recipe(parser, "VRAG-RL's", "all runs or questions", step)
    recipe.add_argument("--published", action="store_true", help="rl: the padding picture is trained, as published")
    train_stages.add_other_values(recipe, "samples=8 or max_turns=3")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_agent)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """The options of `visrag train runs`."""
    parser.add_argument("questions", metavar="SET", help="questions with answers and the pages that hold them")
    parser.add_argument("--generator", required=True, metavar="NAME", help="the expert that reasons: a large model")
    parser.add_argument("--model", metavar="NAME", help="of the models at --generator URL (default: the only one)")
    parser.add_argument("--cropper", metavar="NAME", help="the expert that looks closer (default: the other does it)")
    parser.add_argument("--output", required=True, metavar="DIR", help="a folder for rows, pictures, traces; to go on")
    parser.add_argument("--turns", type=options.positive, default=10, metavar="N", help="of a run (default: 10)")
    _add_search(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_runs)


def _add_search(parser: argparse.ArgumentParser) -> None:
    search = parser.add_argument_group("what it searches, and who judges")
    search.add_argument("--search", metavar="URL", help="a `visrag serve`: one index for all devices")
    search.add_argument(
        "--judge",
        metavar="NAME|URL",
        default=MATCH,
        help="a generator that judges answers, or match: exactly the words of a right one (default: match)",
    )
    search.add_argument("--verdicts", metavar="FILE", help="keeps what was judged, so that nothing is asked twice")
    options.add_embedder_options(parser, default="what the index remembers")
    options.add_store_options(parser, json=False)


def run_agent(arguments: argparse.Namespace) -> int:
    """`visrag train agent`."""
    from visrag_integrations.training import train_agent

    needed = arguments.stage == "rl" or arguments.evaluate is not None
    asked = train_stages.recipe_asked(arguments)
    with contextlib.ExitStack() as opened:
        retriever = opened.enter_context(_retriever(arguments)) if needed else None
        judge = opened.enter_context(_judge(arguments)) if arguments.stage == "rl" else None
        report = train_agent(
            arguments.base, arguments.questions, arguments.output, retriever=retriever, judge=judge, **asked
        )
    return train_stages.print_report(report, as_json=arguments.json)


def run_runs(arguments: argparse.Namespace) -> int:
    """`visrag train runs`."""
    from visrag_integrations.evaluation import load_evaluation_set
    from visrag_integrations.training import build_runs

    left_out = train_stages.LeftOut()
    loading.refuse_several(arguments, arguments.generator, arguments.cropper or "", arguments.judge)
    questions = load_evaluation_set(arguments.questions)
    with contextlib.ExitStack() as opened:
        retriever = opened.enter_context(_retriever(arguments))
        judge = opened.enter_context(_judge(arguments))
        reasoner = opened.enter_context(_generator(arguments, arguments.generator))
        cropper = opened.enter_context(_other_generator(arguments, arguments.cropper)) if arguments.cropper else None
        runs = build_runs(
            questions,
            retriever,
            reasoner,
            cropper,
            arguments.output,
            judge=judge,
            max_turns=arguments.turns,
            on_dropped=left_out,
        )
    left_out.print_result(len(runs), "runs", arguments)
    return 0


@contextlib.contextmanager
def _retriever(arguments: argparse.Namespace) -> Iterator[Retriever]:
    """Of `--search`, else of the index."""
    if arguments.search:
        from visrag_integrations.remote import RemoteRetriever

        with RemoteRetriever(arguments.search, token=os.environ.get("VISRAG_TOKEN")) as remote:
            yield remote
        return
    from visrag_integrations.interfaces.closing import close
    from visrag_integrations.retrieval import PageRetriever

    with opening.open_store(arguments, must_exist=True) as store:
        embedder = opening.embedder_that_filled(store, arguments)
        try:
            yield PageRetriever(embedder, store)
        finally:
            close(embedder)


@contextlib.contextmanager
def _generator(arguments: argparse.Namespace, name: str) -> Iterator[Any]:
    from visrag_integrations.interfaces.closing import close

    generator = loading.load_generator(arguments, name)
    try:
        yield generator
    finally:
        close(generator)


def _other_generator(arguments: argparse.Namespace, name: str) -> contextlib.AbstractContextManager[Any]:
    """Another than the expert that reasons: `--model` is one of that one's server."""
    return _generator(argparse.Namespace(**{**vars(arguments), "model": None}), name)


@contextlib.contextmanager
def _judge(arguments: argparse.Namespace) -> Iterator[Any]:
    from visrag_integrations.training.judges import Judged, match_judge

    if arguments.judge == MATCH:
        yield Judged(match_judge, cache=arguments.verdicts)
        return
    with _other_generator(arguments, arguments.judge) as generator:
        yield Judged(generator, cache=arguments.verdicts)
