"""Every benchmark in its shortest honest form, in one table: ours, the raw path in the same run, the aim, met or not.

    make bench             under ten minutes on a machine that does nothing else
    make bench-scale       those of a million pages (late interaction: 100,000): about an hour on a quiet machine of two
                           cores, 13 GB of the disk at a time, in the temporary folder (TMPDIR names another)
    python benchmarks/all.py --only HTTP search
    python benchmarks/all.py --quick       tiny inputs: only whether all of them run; their figures mean nothing

On a busy machine trust the ratios, not the figures. What the scripts say themselves goes to standard error. Exit code
1: a script failed, or gave no figure for one of its aims; an aim that is not met does not fail, it says NO. Where the
disk has too little room for the largest of them, nothing is begun.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from room import Room
from sections import Section, run_all

SAMPLES = str(Path(__file__).parent.parent / "samples")

# A new benchmark: keep its rows by `table.keep`, give it a `--quick`, and list it here. All seconds together stay below
# 600, so that the promise above holds whatever hangs. Not listed: what needs a file or a server (`quality.py`,
# `store_multi.py`, `server.py`), what proves and does not time (`kills.py`, `hostile.py`, `parser.py`), and
# `rendering.py`, whose raw way encodes nothing: `reading.py` draws the same pages beside a raw way that encodes them.
BENCH = (
    Section(
        "import",
        ("import_time.py", "--runs", "7"),
        ("import_time.py", "--runs", "1"),
        20,
        aims={"import visrag_integrations": "difference <= 30"},
    ),
    Section(
        "HTTP",
        ("serve.py", "--seconds", "8"),
        ("serve.py", "--quick"),
        80,
        aims={
            "HTTP: answers a second": "ours >= 250",
            "HTTP: processor an answer": "ours <= 4",
            "HTTP: wrong answers": "ours <= 0",
        },
    ),
    Section(
        "reading",
        # Without PNG, which nothing aims at and which takes four times as long as JPEG.
        ("reading.py", SAMPLES, "--pages", "10", "--rounds", "3", "--kinds", "JPEG", "pixels"),
        ("reading.py", SAMPLES, "--quick"),
        60,
        needs="pymupdf pypdfium2",
        # Three quarters of the raw way's pages a second.
        aims={"reading: pymupdf, JPEG": "ratio <= 1.33", "reading: pdfium, JPEG": "ratio <= 1.33"},
    ),
    Section(
        "search",
        ("search.py", "--pages", "2000"),
        ("search.py", "--quick"),
        45,
        needs="langchain_core llama_index",
        aims={
            "search: core, dense": "difference <= 0.3",
            "search: core, hybrid": "ratio <= 1.5",
            "search: LangChain over core, dense": "difference <= 0.3",
            "search: LangChain over core, hybrid": "difference <= 0.3",
            "search: LlamaIndex over core, dense": "difference <= 0.3",
            "search: LlamaIndex over core, hybrid": "difference <= 0.3",
        },
    ),
    Section(
        "cold start",
        ("cold_start.py",),
        ("cold_start.py", "--quick"),
        45,
        aims={
            "cold start: visrag search": "ours <= 0.8",
            "cold start: visrag search, processor": "ours <= 0.8",
            "cold start: visrag ask": "ours <= 1.0",
            "cold start: visrag ask, processor": "ours <= 1.0",
        },
    ),
    Section(
        "store",
        ("store.py", "--pages", "2000", "--words", "300", "--reopen", "0", "--repeats", "50"),
        ("store.py", "--pages", "64", "--words", "20", "--reopen", "0", "--repeats", "3", "--dimension", "8"),
        45,
        aims={"store: a dense search": "difference <= 0.3"},
    ),
    Section(
        "LangChain",
        ("langchain.py", "--pages", "1000", "--rounds", "100"),
        ("langchain.py", "--pages", "50", "--rounds", "3", "--dimension", "8"),
        30,
        needs="langchain_core",
        aims={"LangChain: invoke over core": "difference <= 0.3"},
    ),
    Section(
        "LlamaIndex",
        ("llamaindex.py", "--pages", "1000", "--rounds", "100"),
        ("llamaindex.py", "--pages", "50", "--rounds", "3", "--dimension", "8"),
        40,
        needs="llama_index",
        aims={"LlamaIndex: retrieve over core": "difference <= 0.3"},
    ),
    Section(
        "indexing",
        ("indexing.py", "--pages", "200", "--runs", "1"),
        ("indexing.py", "--pages", "4", "--runs", "1", "--workers", "1"),
        65,
        aims={"indexing: a second run with nothing to do, times faster": "ours >= 200"},
    ),
    Section(
        "VisRAG-Ret",
        ("visrag_ret.py", "--size", "small", "--pages", "2", "--queries", "16", "--repeats", "1"),
        ("visrag_ret.py", "--size", "tiny", "--pages", "1", "--queries", "2", "--repeats", "1", "--threads", "1"),
        75,
        needs="torch",
    ),
    Section(
        "cpu-visual",
        # Half of its time goes into making the network and reading it twice; the memory of each way is left out.
        ("cpu_visual.py", "--size", "512", "--repeats", "2", "--ways", "int8", "--no-memory"),
        ("cpu_visual.py", "--quick", "--ways", "int8", "--no-memory"),
        90,
        needs="torch transformers",
        # float32 takes at least 2.5 times as long.
        aims={"cpu-visual: int8, 512 px": "ratio <= 0.4"},
    ),
)

SCALE = (
    Section(
        "store",
        # What is there after 80 minutes is searched, so that a slow machine gives figures too.
        ("store_scale.py", "--pages", "1000000", "--minutes", "80"),
        ("store_scale.py", "--pages", "100", "--repeats", "2"),
        7200,
        gigabytes=13,
    ),
    Section(
        "second run",
        ("store_rerun.py", "--pages", "1000000"),
        ("store_rerun.py", "--quick"),
        7200,
        gigabytes=2,
    ),
    Section(
        "late interaction",
        ("store_multi_scale.py", "--pages", "100000"),
        ("store_multi_scale.py", "--quick"),
        7200,
        gigabytes=5,
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", action="store_true", help="those of a million pages")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of what is listed in this file")
    parser.add_argument("--quick", action="store_true", help="tiny inputs")
    options = parser.parse_args()
    listed = SCALE if options.scale else BENCH
    names = [section.name for section in listed]
    wrong = set(options.only or ()) - set(names)
    if wrong:
        parser.error(f"there is no {', '.join(sorted(wrong))}; there are: {', '.join(names)}")
    wanted = [section for section in listed if not options.only or section.name in options.only]
    largest = max(wanted, key=lambda section: section.gigabytes)
    if largest.gigabytes and not options.quick:
        Room(None).check(largest.gigabytes * 1e9, f"The benchmark {largest.name!r} and its files")
    return run_all(wanted, quick=options.quick)


if __name__ == "__main__":
    raise SystemExit(main())
