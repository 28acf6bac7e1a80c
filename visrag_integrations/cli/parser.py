"""The parser of the command line: what was mistyped is told with what was probably meant."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

# "argument COMMAND: invalid choice: 'indx' (choose from index, search)"; Python 3.11 puts quotes around each choice.
_CHOICE = re.compile(r"invalid choice: '(?P<typed>.*?)' \(choose from (?P<choices>.*)\)", re.DOTALL)
# How alike two words must be, from 0 to 1: "indx" and "index" are 0.89; "--embeder" and "--mode", which are not meant
# for each other, 0.62.
_ALIKE = 0.7


class CommandParser(argparse.ArgumentParser):
    """Says "did you mean" for commands, choices and options, and which help to read."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2; the message, and what was probably meant."""
        found = _CHOICE.search(message)
        if found is not None:
            choices = found["choices"].replace("'", "").split(", ")
            message += did_you_mean(found["typed"], choices)
        self.exit(2, f"{self.format_usage()}{self.prog}: error: {message}\nAll of it: {self.prog} --help\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, with a hint for what it does not know."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            # The command's own parser knows which options there are.
            command = getattr(known, "command_parser", self)
            command.error(f"unrecognized arguments: {' '.join(unknown)}{_hint(command, unknown)}")
        return known


def did_you_mean(typed: str, choices: Iterable[str]) -> str:
    """A hint at the choice that is most alike; "" where none is.

    >>> did_you_mean("indx", ["index", "search"])
    ". Did you mean 'index'?"
    >>> did_you_mean("xyz", ["index", "search"])
    ''
    """
    # By what it is called without case, so that OCR finds ocr.
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(typed.lower(), by_lower, n=1, cutoff=_ALIKE)
    if not near:
        return ""
    return f". Did you mean {by_lower[near[0]]!r}?"


def _hint(command: argparse.ArgumentParser, unknown: Sequence[str]) -> str:
    """What may have been meant by arguments that no option takes."""
    options: list[str] = []
    for action in command._actions:
        options += action.option_strings
    for typed in unknown:
        if typed.startswith("-"):
            return did_you_mean(typed.split("=")[0], options)
    if all(os.path.exists(typed) for typed in unknown):
        # argparse takes what has no dash in one piece: after an option in between, nobody waits for more of it.
        return ". Put files and folders straight after the first words, and options behind them"
    return ". Put a question or a name of several words in quotes"
