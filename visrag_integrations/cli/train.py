"""`visrag train`: a retriever, a reader and an agent of your own, by the published recipes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import options, train_agent, train_reader, train_stages
from visrag_integrations.errors import SettingError

if TYPE_CHECKING:
    from visrag_integrations.evaluation import EvaluationSet

_AFTER = "After training, index your documents again with the new checkpoint: visrag reindex."


def add_parser(subparsers: Any) -> None:
    """Add `visrag train` and its tasks."""
    parser = subparsers.add_parser("train", help="train a retriever, a reader or an agent on documents of your own")
    parser.set_defaults(when_ended="Whole checkpoints are kept; the same command goes on from the last one.")
    tasks = parser.add_subparsers(title="tasks", metavar="TASK", required=True)
    _add_retriever(tasks.add_parser("retriever", help="train a page retriever", epilog=_AFTER))
    train_reader.add_evidence(tasks.add_parser("evidence", help="train a reader that records evidence (EVisRAG)"))
    train_reader.add_examples(tasks.add_parser("examples", help="examples for a reader, from documents and questions"))
    train_agent.add_agent(
        tasks.add_parser("agent", help="train a model that searches, looks closer and answers (VRAG)")
    )
    train_agent.add_runs(tasks.add_parser("runs", help="runs of experts for an agent to learn from, from questions"))
    train_reader.add_export(tasks.add_parser("export", help="examples for LLaMA-Factory, ms-swift or EVisRAG's code"))
    _add_merge(tasks.add_parser("merge", help="a LoRA adapter and its base as one checkpoint"))


def _add_retriever(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help="a checkpoint to start from: a name on the hub, or a folder")
    parser.add_argument(
        "pairs",
        nargs="*",
        metavar="PAIRS",
        help="files, folders or names on the hub; rows have query, and image or text",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the run's folder; run again to go on")
    own = parser.add_argument_group("documents of your own, in place of PAIRS")
    own.add_argument("--documents", nargs="+", default=[], metavar="PATH", help="files and folders")
    own.add_argument("--queries", metavar="SET", help="questions about them, as `visrag eval queries` writes")
    own.add_argument("--held-out", type=float, default=0.1, metavar="SHARE", help="of the documents (default: 0.1)")
    own.add_argument("--negatives", type=int, default=0, metavar="N", help="hard negatives a query (default: 0)")
    parser.add_argument("--evaluate", metavar="SET", help="held-out questions with pages, searched at every checkpoint")
    _add_recipe(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_retriever)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    """The values of the recipe; the defaults are the published ones."""
    recipe = parser.add_argument_group("recipe (defaults: VisRAG-Ret's)")
    recipe.add_argument("--epochs", type=float, default=1.0, metavar="N", help="how often all pairs are seen")
    recipe.add_argument("--max-steps", type=options.positive, metavar="N", help="so many steps instead")
    recipe.add_argument("--lr", type=float, default=1e-5, metavar="RATE", help="highest learning rate (default: 1e-5)")
    recipe.add_argument(
        "--batch-size", type=options.positive, default=128, metavar="N", help="pairs a step, on all devices together"
    )
    recipe.add_argument(
        "--micro-batch", type=options.positive, default=2, metavar="N", help="pairs in a device's memory at once"
    )
    recipe.add_argument("--temperature", type=float, default=0.02, metavar="T", help="of the loss (default: 0.02)")
    recipe.add_argument("--seed", type=int, default=0, metavar="N", help="of the order of the pairs")
    recipe.add_argument(
        "--save-steps", type=options.positive, default=500, metavar="N", help="steps between checkpoints"
    )
    recipe.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of all weights")
    recipe.add_argument("--gradient-checkpointing", action="store_true", help="less memory, a third slower")
    fields = "any field of transformers.TrainingArguments, such as report_to=tensorboard; may be given several times"
    train_stages.add_pairs(recipe, "--argument", fields)


def _add_merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", help="a checkpoint of a run with --lora")
    parser.add_argument("output", metavar="DIR", help="a new folder")
    parser.set_defaults(run=run_merge)


def run_retriever(arguments: argparse.Namespace) -> int:
    """`visrag train retriever`."""
    from visrag_integrations.training import train_retriever

    pairs, held_out = _data(arguments)
    more = dict(arguments.argument)
    if arguments.gradient_checkpointing:
        more["gradient_checkpointing"] = True
    report = train_retriever(
        arguments.base,
        pairs,
        arguments.output,
        epochs=arguments.epochs,
        max_steps=arguments.max_steps,
        lr=arguments.lr,
        batch_size=arguments.batch_size,
        micro_batch=arguments.micro_batch,
        temperature=arguments.temperature,
        seed=arguments.seed,
        save_steps=arguments.save_steps,
        lora=arguments.lora,
        evaluate=held_out,
        arguments=more,
    )
    return train_stages.print_report(report, as_json=arguments.json)


def run_merge(arguments: argparse.Namespace) -> int:
    """`visrag train merge`."""
    from visrag_integrations.training import merge_adapter

    print(merge_adapter(arguments.adapter, arguments.output))
    return 0


def _data(arguments: argparse.Namespace) -> tuple[Any, EvaluationSet | None]:
    """What to train on, and what to measure with."""
    from visrag_integrations.evaluation import load_evaluation_set
    from visrag_integrations.training import build_pairs

    if bool(arguments.pairs) == bool(arguments.documents):
        raise SettingError("Give either PAIRS, or --documents with --queries.")
    if bool(arguments.documents) != bool(arguments.queries):
        raise SettingError(
            "--documents and --queries belong together. To write questions: visrag eval queries PATH... --out FILE"
        )
    pairs: Any = list(arguments.pairs)
    held_out: EvaluationSet | None = None
    if arguments.documents:
        pairs, held_out = build_pairs(
            arguments.documents,
            load_evaluation_set(arguments.queries),
            negatives=arguments.negatives,
            held_out=arguments.held_out,
            embedder=arguments.base,
            seed=arguments.seed,
        )
    if arguments.evaluate:
        held_out = load_evaluation_set(arguments.evaluate)
    return pairs, held_out
