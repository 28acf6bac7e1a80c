"""`visrag ultrarag init`: this library as the servers of UltraRAG's pipelines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from visrag_integrations.cli import asked, options, presets


def add_parser(subparsers: Any) -> None:
    """Add `visrag ultrarag` and its task."""
    parser = subparsers.add_parser("ultrarag", help="run UltraRAG's pipelines on this library")
    tasks = parser.add_subparsers(title="tasks", metavar="TASK", required=True)
    init = tasks.add_parser(
        "init", help="write the folders of the servers retriever, generation, corpus and custom, which pipelines name"
    )
    init.add_argument("folder", metavar="DIR", help="where; parameter files that are there already stay as they are")
    presets.add_preset_option(init)
    options.add_embedder_options(init)
    init.add_argument(
        "--generator",
        metavar="NAME|FOLDER|URL[#MODEL]",
        help="what answers; MODEL is one of a server's (default: the preset's)",
    )
    init.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag ultrarag init`."""
    from visrag_integrations.servers.ultrarag import write_folders

    embedder, generator = arguments.embedder, arguments.generator
    if embedder is None or generator is None:
        named = presets.preset_models(arguments)
        embedder, generator = embedder or named[0], generator or named[1]
    embedder = asked.with_query_embedder(embedder, arguments)
    written = write_folders(Path(arguments.folder), embedder=embedder, generator=generator)
    for kept in written.kept:
        options.note(f"{kept} was there and stays as it is.")
    print("Name these folders under `servers:` of a pipeline, for example of examples/experiments/evisrag.yaml,")
    print("then run `ultrarag build` and `ultrarag run` on it:\n")
    print(written.yaml_lines())
    return 0
