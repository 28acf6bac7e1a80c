"""Index a folder of broken and hostile documents: does it end, what comes of each file, and how much memory it takes.

    python benchmarks/hostile.py FOLDER [--backend pdfium]

`visrag index` runs as a process of its own. Twenty times a second the resident memory of it and of its reading
processes is looked at (Linux). Shared memory counts once for each process, so sums are on the high side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backend", default=None, help="of PDFs: pymupdf or pdfium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as index:
        command = [sys.executable, "-m", "visrag_integrations.cli", "index", str(options.folder), "--index", index]
        command += ["--json"]
        if options.backend:
            command += ["--backend", options.backend]
        started = time.perf_counter()
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        peaks = Watch(running)
        said, _ = running.communicate()
        seconds = time.perf_counter() - started
        peaks.stop()
    report = json.loads(said)
    print(f"{seconds:.0f} s, exit code {running.returncode}")
    for name, value in report.items():
        if isinstance(value, int):
            print(f"  {name}: {value}")
        elif isinstance(value, list):
            print(f"  {name}: {len(value)}")
    for failure in report["failed"]:
        print(f"    {failure['source']}: {failure['error'][:100]}")
    print(f"at most: main process {peaks.main >> 20} MiB, one reading process {peaks.child >> 20} MiB,")
    print(f"  all together {peaks.all >> 20} MiB")


class Watch:
    """Looks at the memory of a process and of those it starts until told to stop."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self.main = self.child = self.all = 0
        self._pid, self._ended = running.pid, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            main = resident(self._pid)
            children = [resident(pid) for pid in below(self._pid)]
            self.main = max(self.main, main)
            self.child = max(self.child, *children, 0)
            self.all = max(self.all, main + sum(children))


def resident(pid: int) -> int:
    """Bytes in memory; 0 for a process that has ended."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * 4096


def below(pid: int) -> list[int]:
    """All processes that it has started, and those that these have."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            started = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in started:
            found += [child, *below(child)]
    return found


if __name__ == "__main__":
    main()
