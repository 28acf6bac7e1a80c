"""`visrag train evidence | examples | export`: a reader of your own, and what it is trained on."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from visrag_integrations.cli import options, output

if TYPE_CHECKING:
    from visrag_integrations.evaluation import Question
    from visrag_integrations.training import TrainingReport


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """The options of `visrag train evidence`."""
    parser.add_argument("base", metavar="BASE", help="a Qwen2.5-VL checkpoint, or the one of the stage before")
    parser.add_argument("examples", nargs="+", metavar="EXAMPLES", help=".jsonl or .json files, or folders of them")
    parser.add_argument("--output", required=True, metavar="DIR", help="the run's folder; run again to go on")
    parser.add_argument(
        "--stage", choices=("sft", "rl"), default="sft", help="from written answers, or by rewards (default: sft)"
    )
    parser.add_argument("--evaluate", metavar="SET", help="held-out questions with pages, asked at every checkpoint")
    recipe = parser.add_argument_group("recipe (defaults: EVisRAG's, of the stage)")
    recipe.add_argument("--epochs", type=float, metavar="N", help="how often all examples are seen")
    recipe.add_argument("--max-steps", type=options.positive, metavar="N", help="so many steps instead")
    recipe.add_argument("--lr", type=float, metavar="RATE", help="learning rate (sft: 5e-7 at its highest; rl: 1e-6)")
    recipe.add_argument(
        "--batch-size", type=options.positive, metavar="N", help="examples or prompts a step (sft: 64; rl: 32)"
    )
    recipe.add_argument("--micro-batch", type=options.positive, metavar="N", help="sequences in memory at once")
    recipe.add_argument("--save-steps", type=options.positive, metavar="N", help="steps between checkpoints")
    recipe.add_argument("--seed", type=int, metavar="N", help="of the order, and of what is drawn")
    recipe.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of all weights")
    recipe.add_argument("--support", action="store_true", help="rl: reward evidence that stands on its page, too")
    recipe.add_argument("--published", action="store_true", help="rl: exactly the published numbers, with their faults")
    recipe.add_argument(
        "--recipe",
        action="append",
        default=[],
        type=options.condition,
        metavar="NAME=VALUE",
        help="any other value of the recipe, such as samples=4 or max_response=512; may be given several times",
    )
    recipe.add_argument(
        "--argument",
        action="append",
        default=[],
        type=options.condition,
        metavar="NAME=VALUE",
        help="any field of transformers.TrainingArguments, for rl of trl.GRPOConfig, such as use_vllm=true",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_evidence)


def add_examples(parser: argparse.ArgumentParser) -> None:
    """The options of `visrag train examples`."""
    parser.add_argument("documents", nargs="+", metavar="PATH", help="files and folders")
    parser.add_argument("--queries", required=True, metavar="SET", help="questions, as `visrag eval queries` writes")
    parser.add_argument("--generator", required=True, metavar="NAME", help="what answers: a large model's URL or name")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="a folder for rows and pictures; run again to go on"
    )
    parser.add_argument("--pages", type=options.positive, default=3, metavar="N", help="pages a question (default: 3)")
    parser.add_argument(
        "--min-support", type=float, default=1.0, metavar="SHARE", help="of the evidence on its page (default: 1.0)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the order of pages, and of the other ones")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_examples)


def add_export(parser: argparse.ArgumentParser) -> None:
    """The options of `visrag train export`."""
    parser.add_argument("examples", nargs="+", metavar="EXAMPLES", help=".jsonl or .json files, or folders of them")
    parser.add_argument("output", metavar="DIR", help="a folder")
    parser.add_argument(
        "--layout", choices=("evisrag", "llama-factory", "ms-swift"), default="llama-factory", help="whose layout"
    )
    parser.set_defaults(run=run_export)


def run_evidence(arguments: argparse.Namespace) -> int:
    """`visrag train evidence`."""
    from visrag_integrations.evaluation import load_evaluation_set
    from visrag_integrations.training import EVISRAG_REWARDS, SUPPORT_REWARD, train_evidence

    rewards = (*EVISRAG_REWARDS, SUPPORT_REWARD) if arguments.support else EVISRAG_REWARDS
    report = train_evidence(
        arguments.base,
        list(arguments.examples),
        arguments.output,
        stage=arguments.stage,
        epochs=arguments.epochs,
        max_steps=arguments.max_steps,
        lr=arguments.lr,
        batch_size=arguments.batch_size,
        micro_batch=arguments.micro_batch,
        save_steps=arguments.save_steps,
        seed=arguments.seed,
        recipe=dict(arguments.recipe),
        rewards=rewards,
        published=arguments.published,
        lora=arguments.lora,
        evaluate=load_evaluation_set(arguments.evaluate) if arguments.evaluate else None,
        arguments=dict(arguments.argument),
    )
    if os.environ.get("RANK", "0") == "0":  # under torchrun every process comes here
        print_report(report, as_json=arguments.json)
    return 1 if report.skipped_pages else 0


def run_examples(arguments: argparse.Namespace) -> int:
    """`visrag train examples`."""
    from visrag_integrations.evaluation import load_evaluation_set
    from visrag_integrations.generation import load_generator
    from visrag_integrations.interfaces.closing import close
    from visrag_integrations.training import build_examples

    dropped: dict[str, str] = {}

    def note(question: Question, reason: str) -> None:
        dropped[question.id] = reason
        print(f"visrag: left out: {question.id}: {reason}", file=sys.stderr)

    generator = load_generator(arguments.generator)
    try:
        examples = build_examples(
            arguments.documents,
            load_evaluation_set(arguments.queries),
            generator,
            arguments.output,
            pages=arguments.pages,
            min_support=arguments.min_support,
            seed=arguments.seed,
            on_dropped=note,
        )
    finally:
        close(generator)
    if arguments.json:
        output.print_json({"examples": len(examples), "output": arguments.output, "dropped": dropped})
    else:
        print(f"{len(examples)} examples in {arguments.output}; {len(dropped)} questions left out")
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """`visrag train export`."""
    from visrag_integrations.training import export_examples

    print(export_examples(list(arguments.examples), arguments.output, layout=arguments.layout))
    return 0


def print_report(report: TrainingReport, *, as_json: bool) -> None:
    """What a run did, for people or as JSON."""
    for source, reason in report.skipped.items():
        print(f"visrag: left out: {source}: {reason}", file=sys.stderr)
    if as_json:
        output.print_json(report.as_dict() | {"checkpoint": report.checkpoint})
        return
    print(f"{report.checkpoint}  ({report.steps} steps, {report.pages} pages, {report.seconds:.0f} s)")
    if report.losses:
        print(f"loss {report.losses[0][1]:.3f} -> {report.losses[-1][1]:.3f}; {report.skipped_pages} rows left out")
    for step, scores in report.scores:
        print(f"step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
