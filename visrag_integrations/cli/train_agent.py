"""`visrag train agent | runs`: an agent of your own, and the experts' runs that it learns from first."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import options, output
from visrag_integrations.cli.train_reader import print_report

if TYPE_CHECKING:
    from visrag_integrations.evaluation import Question
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
    recipe = parser.add_argument_group("recipe (defaults: VRAG-RL's, of the stage)")
    recipe.add_argument("--epochs", type=float, metavar="N", help="how often all runs or questions are seen")
    recipe.add_argument("--max-steps", type=options.positive, metavar="N", help="so many steps instead")
    recipe.add_argument("--lr", type=float, metavar="RATE", help="learning rate (sft: 5e-7 at its highest; rl: 1e-6)")
    recipe.add_argument(
        "--batch-size", type=options.positive, metavar="N", help="runs or questions a step (sft: 64; rl: 32)"
    )
    recipe.add_argument("--micro-batch", type=options.positive, metavar="N", help="sequences in memory at once")
    recipe.add_argument("--save-steps", type=options.positive, metavar="N", help="steps between checkpoints")
    recipe.add_argument("--seed", type=int, metavar="N", help="of the order, and of what is drawn")
    recipe.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of all weights")
    recipe.add_argument("--published", action="store_true", help="rl: the padding picture is trained, as published")
    _add_pairs(recipe, "--recipe", "any other value of the recipe, such as samples=8 or max_turns=3")
    fields = "any field of transformers.TrainingArguments, for rl of trl.GRPOConfig, such as use_vllm=true"
    _add_pairs(recipe, "--argument", fields)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_agent)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """The options of `visrag train runs`."""
    parser.add_argument("questions", metavar="SET", help="questions with answers and the pages that hold them")
    parser.add_argument("--generator", required=True, metavar="NAME", help="the expert that reasons: a large model")
    parser.add_argument("--cropper", metavar="NAME", help="the expert that looks closer (default: the other does it)")
    parser.add_argument("--output", required=True, metavar="DIR", help="a folder for rows, pictures, traces; to go on")
    parser.add_argument("--turns", type=options.positive, default=10, metavar="N", help="of a run (default: 10)")
    _add_search(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_runs)


def _add_pairs(group: Any, name: str, what: str) -> None:
    group.add_argument(
        name,
        action="append",
        default=[],
        type=options.condition,
        metavar="NAME=VALUE",
        help=f"{what}; may be given several times",
    )


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
    options.add_store_options(parser, json=False)


def run_agent(arguments: argparse.Namespace) -> int:
    """`visrag train agent`."""
    from visrag_integrations.evaluation import load_evaluation_set
    from visrag_integrations.training import train_agent

    needed = arguments.stage == "rl" or arguments.evaluate is not None
    with contextlib.ExitStack() as opened:
        retriever = opened.enter_context(_retriever(arguments)) if needed else None
        judge = opened.enter_context(_judge(arguments)) if arguments.stage == "rl" else None
        report = train_agent(
            arguments.base,
            arguments.questions,
            arguments.output,
            retriever=retriever,
            judge=judge,
            stage=arguments.stage,
            epochs=arguments.epochs,
            max_steps=arguments.max_steps,
            lr=arguments.lr,
            batch_size=arguments.batch_size,
            micro_batch=arguments.micro_batch,
            save_steps=arguments.save_steps,
            seed=arguments.seed,
            recipe=dict(arguments.recipe),
            published=arguments.published,
            lora=arguments.lora,
            evaluate=load_evaluation_set(arguments.evaluate) if arguments.evaluate else None,
            arguments=dict(arguments.argument),
        )
    if os.environ.get("RANK", "0") == "0":  # under torchrun every process comes here
        print_report(report, as_json=arguments.json)
    return 1 if report.skipped_pages else 0


def run_runs(arguments: argparse.Namespace) -> int:
    """`visrag train runs`."""
    from visrag_integrations.evaluation import load_evaluation_set
    from visrag_integrations.training import build_runs

    dropped: dict[str, str] = {}

    def note(question: Question, reason: str) -> None:
        dropped[question.id] = reason
        print(f"visrag: left out: {question.id}: {reason}", file=sys.stderr)

    questions = load_evaluation_set(arguments.questions)
    with contextlib.ExitStack() as opened:
        retriever = opened.enter_context(_retriever(arguments))
        judge = opened.enter_context(_judge(arguments))
        reasoner = opened.enter_context(_generator(arguments.generator))
        cropper = opened.enter_context(_generator(arguments.cropper)) if arguments.cropper else None
        runs = build_runs(
            questions,
            retriever,
            reasoner,
            cropper,
            arguments.output,
            judge=judge,
            max_turns=arguments.turns,
            on_dropped=note,
        )
    if arguments.json:
        output.print_json({"runs": len(runs), "output": arguments.output, "dropped": dropped})
    else:
        print(f"{len(runs)} runs in {arguments.output}; {len(dropped)} questions left out")
    return 0


@contextlib.contextmanager
def _retriever(arguments: argparse.Namespace) -> Iterator[Retriever]:
    """Of `--search`, else of the index."""
    if arguments.search:
        from visrag_integrations.remote import RemoteRetriever

        yield RemoteRetriever(arguments.search, token=os.environ.get("VISRAG_TOKEN"))
        return
    from visrag_integrations.interfaces.closing import close
    from visrag_integrations.retrieval import PageRetriever

    with options.open_store(arguments, must_exist=True) as store:
        embedder = options.embedder_that_filled(store, arguments)
        try:
            yield PageRetriever(embedder, store)
        finally:
            close(embedder)


@contextlib.contextmanager
def _generator(name: str) -> Iterator[Any]:
    from visrag_integrations.generation import load_generator
    from visrag_integrations.interfaces.closing import close

    generator = load_generator(name)
    try:
        yield generator
    finally:
        close(generator)


@contextlib.contextmanager
def _judge(arguments: argparse.Namespace) -> Iterator[Any]:
    from visrag_integrations.training.judges import Judged, match_judge

    if arguments.judge == MATCH:
        yield Judged(match_judge, cache=arguments.verdicts)
        return
    with _generator(arguments.judge) as generator:
        yield Judged(generator, cache=arguments.verdicts)
