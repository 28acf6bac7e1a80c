"""What the tasks of `visrag train` share: the options of a recipe, what of them was asked, and what is printed."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import options, output

if TYPE_CHECKING:
    from visrag_integrations.evaluation import Question
    from visrag_integrations.training import TrainingReport


def add_recipe(parser: argparse.ArgumentParser, whose: str, seen: str, step: str) -> Any:
    """The values of a recipe of two stages; None leaves the published one.

    Args:
        parser: Of the task.
        whose: The recipe.
        seen: What `--epochs` counts.
        step: What `--batch-size` counts, and the published sizes.
    """
    recipe = parser.add_argument_group(f"recipe (defaults: {whose}, of the stage)")
    recipe.add_argument("--epochs", type=float, metavar="N", help=f"how often {seen} are seen")
    recipe.add_argument("--max-steps", type=options.positive, metavar="N", help="so many steps instead")
    recipe.add_argument("--lr", type=float, metavar="RATE", help="learning rate (sft: 5e-7 at its highest; rl: 1e-6)")
    recipe.add_argument("--batch-size", type=options.positive, metavar="N", help=step)
    recipe.add_argument("--micro-batch", type=options.positive, metavar="N", help="sequences in memory at once")
    recipe.add_argument("--save-steps", type=options.positive, metavar="N", help="steps between checkpoints")
    recipe.add_argument("--seed", type=int, metavar="N", help="of the order, and of what is drawn")
    recipe.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of all weights")
    return recipe


def add_other_values(recipe: Any, examples: str) -> None:
    """`--recipe` and `--argument`, for what has no option of its own."""
    add_pairs(recipe, "--recipe", f"any other value of the recipe, such as {examples}; may be given several times")
    fields = "any field of transformers.TrainingArguments, for rl of trl.GRPOConfig, such as use_vllm=true"
    add_pairs(recipe, "--argument", fields)


def add_pairs(group: Any, name: str, what: str) -> None:
    """An option that takes NAME=VALUE, several times."""
    group.add_argument(name, action="append", default=[], type=options.condition, metavar="NAME=VALUE", help=what)


def recipe_asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `train_evidence` and `train_agent` take of these options."""
    from visrag_integrations.evaluation import load_evaluation_set

    return {
        "stage": arguments.stage,
        "epochs": arguments.epochs,
        "max_steps": arguments.max_steps,
        "lr": arguments.lr,
        "batch_size": arguments.batch_size,
        "micro_batch": arguments.micro_batch,
        "save_steps": arguments.save_steps,
        "seed": arguments.seed,
        "recipe": dict(arguments.recipe),
        "published": arguments.published,
        "lora": arguments.lora,
        "evaluate": load_evaluation_set(arguments.evaluate) if arguments.evaluate else None,
        "arguments": dict(arguments.argument),
    }


def print_report(report: TrainingReport, *, as_json: bool) -> int:
    """What a run did, for people or as JSON; the exit code."""
    if os.environ.get("RANK", "0") == "0":  # under torchrun every process comes here
        _print(report, as_json)
    return 1 if report.skipped_pages else 0


def _print(report: TrainingReport, as_json: bool) -> None:
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


class LeftOut:
    """Questions that nothing is learned from, said as they come; called with each."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def __call__(self, question: Question, reason: str) -> None:
        self.reasons[question.id] = reason
        print(f"visrag: left out: {question.id}: {reason}", file=sys.stderr)

    def print_result(self, made: int, what: str, arguments: argparse.Namespace) -> None:
        """How many were made, and what was left out."""
        if arguments.json:
            output.print_json({what: made, "output": arguments.output, "dropped": self.reasons})
        else:
            print(f"{made} {what} in {arguments.output}; {len(self.reasons)} questions left out")
