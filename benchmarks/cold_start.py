"""What one command from a shell takes, with nothing running before: `visrag search` and `visrag ask` on an index.

    python benchmarks/cold_start.py                 the documents of `visrag samples`, five times each
    python benchmarks/cold_start.py --runs 21
    python benchmarks/cold_start.py --quick         one line of text, once each: only whether it runs

The index and the working folder are temporary, outside of any project. The commands take turns; before the first turn
each runs once uncounted, so that modules are compiled and files are in the system's cache, as they are for a user from
the second command on. Printed are medians: seconds by the clock, and of the processor with all processes it started.
On a busy machine only those of the processor mean anything.

The samples have 32 pages; what of a command grows with the index is measured by `search.py` and `store_scale.py`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import table

QUESTION = "Which values may the textAnchor of a String have?"
# Seconds, by the clock on a machine that does nothing else, and of the processor.
AIMS = {"search": 0.8, "ask": 1.0}


def environment() -> dict[str, str]:
    """A user's: compiled modules are kept, and no setting names another index or another model."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VISRAG_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def visrag(folder: Path, *words: str) -> str:
    """What a command printed that ran in that folder; one that fails ends the benchmark with its words."""
    command = [sys.executable, "-m", "visrag_integrations.cli", *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    if done.returncode != 0 or not done.stdout.strip():
        raise SystemExit(f"visrag {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def make_index(folder: Path, quick: bool) -> None:
    """The index that the commands find in their folder."""
    if quick:
        (folder / "samples").mkdir()
        (folder / "samples" / "note.txt").write_text("The textAnchor of a String may be start, middle or end.\n")
    else:
        visrag(folder, "samples", "samples")
    # By name: where there is a GPU, the preset that is taken by itself would fetch models of gigabytes.
    visrag(folder, "index", "samples", "--index", ".visrag", "--preset", "cpu", "-q")


def measure(folder: Path, runs: int) -> dict[str, list[tuple[float, float]]]:
    """Of each command, for every run: seconds by the clock and of the processor."""
    commands = {
        "search": ("search", QUESTION, "--index", ".visrag"),
        "ask": ("ask", QUESTION, "--index", ".visrag", "--preset", "cpu"),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, words in commands.items():
            used, started = processor_seconds(), time.perf_counter()
            said = visrag(folder, *words)
            seconds = time.perf_counter() - started, processor_seconds() - used
            if "samples" not in said:
                raise SystemExit(f"visrag {name} found no page of the samples: {said}")
            if turn:  # the first one compiles modules
                taken[name].append(seconds)
    return taken


def processor_seconds() -> float:
    """Of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(taken: dict[str, list[tuple[float, float]]]) -> None:
    for name, runs in taken.items():
        clock, processor = (statistics.median(column) for column in zip(*runs, strict=True))
        table.keep(f"cold start: visrag {name}", clock, "s")
        table.keep(f"cold start: visrag {name}, processor", processor, "s")
        print(f"visrag {name:<7} {clock:.2f} s, {processor:.2f} s of the processor (aim: {AIMS[name]} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one line of text, once each")
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_index(folder, options.quick)
        report(measure(folder, 1 if options.quick else options.runs))


if __name__ == "__main__":
    main()
