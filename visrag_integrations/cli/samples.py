"""`visrag samples`: two small documents to try the other commands on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.files import write_whole


def add_parser(subparsers: Any) -> None:
    """Add `visrag samples` and its options."""
    parser = subparsers.add_parser("samples", help="put two small documents here, to try the other commands on")
    parser.add_argument("folder", nargs="?", default="samples", metavar="FOLDER", help="where to (default: samples)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag samples`."""
    from visrag_integrations.sample_documents import LICENCES, NAMES, QUESTIONS, folder, questions

    to = Path(arguments.folder)
    try:
        to.mkdir(parents=True, exist_ok=True)
        # The licences go under a name without ending: README.md would be indexed, and found, as a third document.
        names = {**{name: name for name in NAMES}, "LICENCES": LICENCES}
        for name, here in names.items():
            if not (to / name).exists():  # a file of that name may be somebody's own
                write_whole(to / name, (folder() / here).read_bytes())
        if not (to / QUESTIONS).exists():
            write_whole(to / QUESTIONS, questions().encode("utf-8"))
    except OSError as error:
        raise SettingError(f"The samples cannot be written to {str(to)!r} ({error.strerror or error}).") from error
    for name in (*NAMES, QUESTIONS):
        print(to / name)
    print(f"Next: visrag index {to}")
    return 0
