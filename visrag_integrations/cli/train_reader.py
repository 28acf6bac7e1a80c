"""`visrag train evidence | examples | export`: a reader of your own, and what it is trained on."""

from __future__ import annotations

import argparse

from visrag_integrations.cli import loading, options, train_stages


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """The options of `visrag train evidence`."""
    parser.add_argument("base", metavar="BASE", help="a Qwen2.5-VL checkpoint, or the one of the stage before")
    parser.add_argument("examples", nargs="+", metavar="EXAMPLES", help=".jsonl or .json files, or folders of them")
    parser.add_argument("--output", required=True, metavar="DIR", help="the run's folder; run again to go on")
    parser.add_argument(
        "--stage", choices=("sft", "rl"), default="sft", help="from written answers, or by rewards (default: sft)"
    )
    parser.add_argument("--evaluate", metavar="SET", help="held-out questions with pages, asked at every checkpoint")
    step = "examples or prompts a step (sft: 64; rl: 32)"
    recipe = train_stages.add_recipe(parser, "EVisRAG's", "all examples", step)
    recipe.add_argument("--support", action="store_true", help="rl: reward evidence that stands on its page, too")
    recipe.add_argument("--published", action="store_true", help="rl: exactly the published numbers, with their faults")
    train_stages.add_other_values(recipe, "samples=4 or max_response=512")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_evidence)


def add_examples(parser: argparse.ArgumentParser) -> None:
    """The options of `visrag train examples`."""
    parser.add_argument("documents", nargs="+", metavar="PATH", help="files and folders")
    parser.add_argument("--queries", required=True, metavar="SET", help="questions, as `visrag eval queries` writes")
    parser.add_argument("--generator", required=True, metavar="NAME", help="what answers: a large model's URL or name")
    parser.add_argument("--model", metavar="NAME", help="of the models at --generator URL (default: the only one)")
    loading.add_device_option(parser)
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
    from visrag_integrations.training import EVISRAG_REWARDS, SUPPORT_REWARD, train_evidence

    rewards = (*EVISRAG_REWARDS, SUPPORT_REWARD) if arguments.support else EVISRAG_REWARDS
    asked = train_stages.recipe_asked(arguments)
    report = train_evidence(arguments.base, list(arguments.examples), arguments.output, rewards=rewards, **asked)
    return train_stages.print_report(report, as_json=arguments.json)


def run_examples(arguments: argparse.Namespace) -> int:
    """`visrag train examples`."""
    from visrag_integrations.evaluation import load_evaluation_set
    from visrag_integrations.interfaces.closing import close
    from visrag_integrations.training import build_examples

    left_out = train_stages.LeftOut()
    questions = load_evaluation_set(arguments.queries)
    generator = loading.load_generator(arguments, arguments.generator)
    try:
        examples = build_examples(
            arguments.documents,
            questions,
            generator,
            arguments.output,
            pages=arguments.pages,
            min_support=arguments.min_support,
            seed=arguments.seed,
            on_dropped=left_out,
        )
    finally:
        close(generator)
    left_out.print_result(len(examples), "examples", arguments)
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """`visrag train export`."""
    from visrag_integrations.training import export_examples

    print(export_examples(list(arguments.examples), arguments.output, layout=arguments.layout))
    return 0
