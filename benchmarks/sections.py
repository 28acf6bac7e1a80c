"""Benchmarks one after the other, each a process with its own time limit: what one of them breaks stays its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import table

_QUICK_S = 600.0
_LOOK_S = 0.1  # between two looks at a process: a section takes seconds, so a tenth is not seen in its figures
_LEAST_S = 10.0  # with less than this a section would be killed while it still imports torch
_LISTEN_S = 10.0  # a process of its own that a section left behind may hold its output open for ever
_LINES_KEPT = 200


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


class Report:
    """What is known so far: lines of text, rows, and whether something failed.

    Args:
        head: Written before everything else.
        out: A file that holds the whole report after every line and row, so that a kill costs nothing that was
            measured; None: it is printed at the end.
    """

    def __init__(self, head: str = "", out: Path | None = None) -> None:
        self.head, self.out = head, out
        self.said: list[str] = []
        self.rows: list[table.Row] = []
        self.aims: dict[str, str] = {}
        self.failed = False

    def say(self, line: str, *, failed: bool = False) -> None:
        """A line above the table."""
        self.said.append(line)
        self.failed = self.failed or failed
        print(line, flush=True)
        self._write()

    def add(self, rows: Sequence[table.Row]) -> None:
        """Rows, as they come; where there is a file, they are printed at once too."""
        self.rows += rows
        if self.out is not None and rows:
            for row in rows:
                print(table.line_of(row, self.aims.get(row.name)), flush=True)
            self._write()

    def markdown(self) -> str:
        """All of it."""
        return "\n".join([self.head, *self.said, "", table.markdown(self.rows, self.aims), ""])

    def _write(self) -> None:
        if self.out is not None:
            unfinished = self.out.with_name(self.out.name + ".new")
            unfinished.write_text(self.markdown(), encoding="utf-8")
            unfinished.replace(self.out)


def run_all(
    sections: Sequence[Section],
    *,
    quick: bool,
    seconds: float | None = None,
    total: float | None = None,
    report: Report | None = None,
) -> int:
    """Run them and print the table; what they say themselves goes to standard error. 1: one of them failed.

    Args:
        sections: One after the other, the most important first.
        quick: In their quick form.
        seconds: For each, in place of its own limit.
        total: For all together; what is left of it is the last ones' limit, and what would begin after it is left out.
        report: Gets what is found.
    """
    report = report or Report()
    started = time.monotonic()
    for section in sections:
        absent = [package for package in section.needs.split() if importlib.util.find_spec(package) is None]
        if absent:
            report.say(f"- {section.name}: not run, {absent[0]} is not installed here")
            continue
        limit = seconds or (_QUICK_S if quick else section.seconds)
        if total is not None:
            left = total - (time.monotonic() - started)
            if left < _LEAST_S:
                report.say(f"- {section.name}: **not run, {total:g} s for all are over**", failed=True)
                continue
            limit = min(limit, left)
        report.aims.update(section.aims)
        before = len(report.rows)
        wrong = run(section, quick, limit, report)
        kept = report.rows[before:]
        if not wrong and not kept:
            wrong = "it kept no figures"
        missing = set(section.aims) - {row.name for row in kept}
        if not wrong and missing:
            wrong = f"no figures of {', '.join(sorted(missing))}"
        if wrong:
            report.say(f"- {section.name}: **{wrong}**", failed=True)
    if report.out is None:
        print("\n" + table.markdown(report.rows, report.aims))
    return 1 if report.failed else 0


def run(section: Section, quick: bool, seconds: float, report: Report) -> str:
    """A section, its figures into the report; what went wrong, "" where nothing did."""
    script, *arguments = section.quick if quick else section.command
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        environment = {**os.environ, table.ROWS: str(rows), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        if quick:
            environment["OMP_NUM_THREADS"] = "1"  # torch's threads wait for each other where others work too
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / script), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment,
            start_new_session=True,
        )  # fmt: skip
        said: list[str] = []
        listener = threading.Thread(target=_pass_on, args=(process.stdout, said), daemon=True)
        listener.start()
        late = not _watch(process, rows, started + seconds, report)
        if late:
            os.killpg(process.pid, 9)  # with what it has started itself: vLLM's engine is a process of its own
        process.wait()
        listener.join(timeout=_LISTEN_S)
        if process.stdout is not None and not listener.is_alive():
            process.stdout.close()
        report.say(f"- {section.name}: {time.perf_counter() - started:.0f} s")
    if late:
        return f"not finished within {seconds:.3g} s; the last it said: {last_line(said)}"
    return "" if process.returncode == 0 else f"failed: {last_line(said)}"


def _watch(process: subprocess.Popen[str], rows: Path, until: float, report: Report) -> bool:
    """Until the process ends, its rows into the report as it keeps them; False: the time is over first."""
    seen = 0
    while True:
        ended = process.poll() is not None  # before the rows are read, so that none comes between
        kept = table.read(rows)
        report.add(kept[seen:])
        seen = len(kept)
        if ended:
            return True
        if time.perf_counter() > until:
            return False
        time.sleep(_LOOK_S)


def _pass_on(stream: Iterable[str], said: list[str]) -> None:
    """What a process says, to standard error as it comes; the last lines are kept."""
    for line in stream:
        print(line, end="", file=sys.stderr, flush=True)
        said.append(line.rstrip("\n"))
        del said[:-_LINES_KEPT]


def last_line(said: Sequence[str]) -> str:
    for line in reversed(said):
        if line.strip():
            return line.strip()
    return "nothing"
