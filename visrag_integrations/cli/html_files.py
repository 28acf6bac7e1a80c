"""`--html FILE` and `--open`: results as a page to look at."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from visrag_integrations.cli import options
from visrag_integrations.errors import SettingError
from visrag_integrations.files import write_whole


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add both."""
    parser.add_argument("--html", metavar="FILE", help=f"also write {what} as one HTML file")
    parser.add_argument("--open", action="store_true", help=f"show {what} in the browser")


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether a page is to be made at all; refuses, before any work, a file that cannot be written."""
    options.check_output("--html", arguments.html)
    return bool(arguments.html or arguments.open)


def write(arguments: argparse.Namespace, html: str) -> None:
    """Write the page where it was asked for, and show it where that was asked; both are said."""
    path = Path(arguments.html) if arguments.html else _new_file()
    try:
        write_whole(path, html.encode("utf-8"))
    except OSError as error:
        raise SettingError(
            f"The HTML page cannot be written to {str(path)!r} ({error.strerror or error}). Give --html another file."
        ) from error
    options.note(f"wrote {path}")
    if arguments.open and not _opened_in_browser(path):
        options.note("no browser was found here; open that file in one")


def _opened_in_browser(path: Path) -> bool:
    import webbrowser  # every command imports this file; few show a page

    return webbrowser.open(path.absolute().as_uri())


def _new_file() -> Path:
    """In a folder that only this user can read; it stays, for the browser reads it when this program has ended."""
    return Path(tempfile.mkdtemp(prefix="visrag-")) / "found.html"
