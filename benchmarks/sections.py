"""Benchmarks one after the other, each a process with its own time limit: what one of them breaks stays its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import table

_QUICK_S = 600.0


@dataclass(frozen=True)
class Section:
    """One process.

    Attributes:
        name: What it is called.
        command: A script of this folder and its arguments.
        quick: The same where it only has to run.
        seconds: It may take at most so many; quick ones ten minutes.
        needs: Packages, with spaces between them, without which it is left out, and that is said.
        aims: By the name of a row, as `table.met` reads it.
        gigabytes: What it takes of the disk at most, and gives back.
    """

    name: str
    command: tuple[str, ...]
    quick: tuple[str, ...]
    seconds: float
    needs: str = ""
    aims: Mapping[str, str] = field(default_factory=dict)
    gigabytes: float = 0.0


def run_all(sections: Sequence[Section], *, quick: bool, seconds: float | None = None) -> int:
    """Run them and print the table; what they say themselves goes to standard error. 1: one of them failed."""
    failed = False
    rows: list[table.Row] = []
    aims: dict[str, str] = {}
    for section in sections:
        absent = [package for package in section.needs.split() if importlib.util.find_spec(package) is None]
        if absent:
            print(f"- {section.name}: not run, {absent[0]} is not installed here", flush=True)
            continue
        limit = seconds or (_QUICK_S if quick else section.seconds)
        kept, wrong = run(section, quick, limit)
        rows += kept
        aims.update(section.aims)
        if not wrong and not kept:
            wrong = "it kept no figures"
        missing = set(section.aims) - {row.name for row in kept}
        if not wrong and missing:
            wrong = f"no figures of {', '.join(sorted(missing))}"
        if wrong:
            failed = True
            print(f"- {section.name}: **{wrong}**", flush=True)
    print("\n" + table.markdown(rows, aims))
    return 1 if failed else 0


def run(section: Section, quick: bool, seconds: float) -> tuple[list[table.Row], str]:
    """A section's figures, and what went wrong; "" where nothing did."""
    script, *arguments = section.quick if quick else section.command
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        environment = {**os.environ, table.ROWS: str(rows), "HF_HUB_OFFLINE": "1"}
        if quick:
            environment["OMP_NUM_THREADS"] = "1"  # torch's threads wait for each other where others work too
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / script), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=seconds)
            wrong = "" if process.returncode == 0 else f"failed: {last_line(said)}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with what it has started itself: vLLM's engine is a process of its own
            said, _ = process.communicate()
            wrong = f"not finished within {seconds:g} s; the last it said: {last_line(said)}"
        print(f"- {section.name}: {time.perf_counter() - started:.0f} s", flush=True)
        print(said, file=sys.stderr)
        return table.read(rows), wrong


def last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else "nothing"
