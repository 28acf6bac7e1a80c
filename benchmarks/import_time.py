"""What `import visrag_integrations` costs over a bare interpreter, in milliseconds: median of interleaved runs."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import table


def milliseconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    pairs = [(milliseconds("pass"), milliseconds("import visrag_integrations")) for _ in range(runs)]
    bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    table.keep("import visrag_integrations", ours, "ms", bare)
    print(f"bare {bare:.1f} ms, with the import {ours:.1f} ms, difference {ours - bare:.1f} ms (aim: at most 30)")


if __name__ == "__main__":
    main()
