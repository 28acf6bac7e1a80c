"""`visrag models`: which models are known, how to get each, and what runs on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from visrag_integrations.cli import output
from visrag_integrations.cli.machine import Machine, install_command, look_at_machine
from visrag_integrations.errors import UnknownNameError
from visrag_integrations.known_models import MODELS, TITLES, KnownModel, Way, find_model, markdown_table, nearest_names

_COLUMNS = ("model", "parameters", "in bfloat16", "vectors", "published score", "here")


def add_parser(subparsers: Any) -> None:
    """Add `visrag models` and its options."""
    parser = subparsers.add_parser(
        "models",
        help="which models are known, and which of them run here",
        epilog="Any other checkpoint works too: a folder, or a name with its system; see docs/embedders.md.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="tell all that is known of this one")
    parser.add_argument("--role", choices=list(TITLES), help="only models for this")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/models.md")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag models`."""
    models = _chosen(arguments)
    if arguments.markdown:
        print(markdown_tables(models))
        return 0
    machine = look_at_machine()
    if arguments.json:
        rows = [{**model.as_dict(), "here": runs_here(model, machine)} for model in models]
        output.print_json({"machine": machine.as_dict(), "models": rows})
    elif arguments.name is not None:
        print(_details(models[0], machine))
    else:
        print("\n\n".join([*_tables(models, machine), machine_text(machine)]))
    return 0


def markdown_tables(models: Sequence[KnownModel]) -> str:
    """The tables of docs/models.md, each under its heading."""
    parts = []
    for role, title in TITLES.items():
        of_role = [model for model in models if model.role == role]
        if of_role:
            parts += [f"## {title}", markdown_table(of_role)]
    return "\n\n".join(parts)


def runs_here(model: KnownModel, machine: Machine) -> str:
    """Whether it runs on this machine, or what is missing for it, in a few words."""
    own = [way for way in model.ways if way.name != "vLLM"]
    if not own:
        return "on a vLLM server"
    ready = [way for way in own if way.extra not in machine.missing]
    if not ready:
        return f"needs the extra {own[0].extra}"
    if model.needs_gpu and not machine.has_gpu:
        return "slow: there is no GPU"
    return "yes"


def machine_text(machine: Machine) -> str:
    """What this machine has, and what installs the rest."""
    lines = ["This machine: no NVIDIA GPU was found"]
    if machine.gpus:
        lines = [f"This machine: {'; '.join(machine.gpus)}"]
    if machine.torch:
        lines[0] += f"; torch {machine.torch}"
    if machine.gpus and machine.torch_without_gpu:
        lines.append("The torch that is installed was built without GPUs: https://pytorch.org/get-started/locally/")
    for extra, packages in machine.missing.items():
        lines.append(f"Not installed: {', '.join(packages)}. {install_command(extra)}")
    return "\n".join(lines)


def _chosen(arguments: argparse.Namespace) -> list[KnownModel]:
    models = [model for model in MODELS if arguments.role in (None, model.role)]
    if arguments.name is None:
        return models
    found = find_model(arguments.name, models)
    if found is not None:
        return [found]
    near = nearest_names(arguments.name, [model.name for model in models])
    hint = f" Nearest: {', '.join(near)}." if near else ""
    raise UnknownNameError(
        f"No model {arguments.name!r} is known.{hint} `visrag models` lists all; other checkpoints work too, by their "
        "folder or system."
    )


def _tables(models: Sequence[KnownModel], machine: Machine) -> list[str]:
    tables = []
    for role, title in TITLES.items():
        rows = []
        for model in models:
            if model.role == role:
                rows.append((model.name, model.size, model.memory, model.kind, model.score, runs_here(model, machine)))
        if rows:
            tables.append(f"{title}\n{_aligned([_COLUMNS, *rows])}")
    return tables


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def _details(model: KnownModel, machine: Machine) -> str:
    lines = [f"{model.name} ({model.role})"]
    told = {
        "parameters": model.size,
        "weights in bfloat16": model.memory,
        "licence": model.licence,
        "languages": model.languages,
        "vectors": model.kind,
        "published score": model.score,
        "speed measured here": model.speed,
        "note": model.note,
        "here": runs_here(model, machine),
    }
    lines += [f"  {what}: {value}" for what, value in told.items() if value]
    for way in model.ways:
        lines += ["", *_way_lines(way)]
    return "\n".join(lines)


def _way_lines(way: Way) -> list[str]:
    head = f"  {way.name}"
    if way.extra:
        head += f", {install_command(way.extra)}"
    lines = [f"{head}:"]
    return [*lines, *(f"    {line}" for line in way.code.splitlines())]
