"""What is said outside the command line: environment variables, and the table [tool.visrag] of a pyproject.toml.

The command line counts before the environment, the environment before the table, the table before what is built in.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from visrag_integrations.cli.parser import did_you_mean
from visrag_integrations.errors import SettingError, printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETTINGS = ("index", "collection", "generator", "model")
"""What may be said there, as options of the command line are named; the variables are VISRAG_INDEX and so on."""
_FILE = "pyproject.toml"
# Nobody writes a longer one by hand, and a folder that is not one's own may hold any file.
_MAX_BYTES = 1 << 20


class Said(NamedTuple):
    """A setting, and where it was said."""

    value: str
    where: str


def fill_in(arguments: argparse.Namespace) -> None:
    """Set what the command line did not say, where the command has such an option.

    Raises:
        SettingError: The table is no table, or holds something that is no setting; or it names a URL and nobody
            confirms it: whoever wrote the file would be sent the pages.
    """
    if not getattr(arguments, "takes_surroundings", False):
        return
    wanted = [name for name in SETTINGS if getattr(arguments, name, "") is None]
    typed = getattr(arguments, "generator", None)
    table: Mapping[str, Said] | None = None
    for name in wanted:
        if name == "model" and not _is_url(arguments.generator):
            continue  # it is one of the models of a server, and what answers is none
        if name == "model" and _names_model(typed):
            continue  # URL#NAME on the command line counts before what is said elsewhere
        variable = f"VISRAG_{name.upper()}"
        value = os.environ.get(variable, "").strip()
        if value:
            _set(arguments, name, value)
            continue
        if table is None:  # read once, and only where it counts
            table = _table()
        if name == "model" and "generator" in wanted and _names_model(os.environ.get("VISRAG_GENERATOR")):
            continue  # URL#NAME of the environment counts before the table
        if name in table:
            _set(arguments, name, _agreed(name, table[name]))
        elif name not in getattr(arguments, "own_defaults", ()):
            setattr(arguments, name, _built_in(name))


def _set(arguments: argparse.Namespace, name: str, value: str) -> None:
    # What a command chooses by itself where nobody says it with the command is only told: `said_collection`.
    own = name in getattr(arguments, "own_defaults", ())
    setattr(arguments, f"said_{name}" if own else name, value)


def _is_url(generator: str | None) -> bool:
    return generator is not None and "://" in generator


def _names_model(generator: str | None) -> bool:
    """Whether it is URL#NAME.

    >>> _names_model("http://localhost:8000/v1#gpt-4o"), _names_model("http://localhost:8000/v1#"), _names_model(None)
    (True, False, False)
    """
    return _is_url(generator) and bool((generator or "").partition("#")[2].strip())


def _built_in(name: str) -> str | None:
    """What holds where nothing is said."""
    if name == "index":
        from visrag_integrations.store.folder import DEFAULT_FOLDER

        return DEFAULT_FOLDER
    return {"collection": "pages"}.get(name)


def _table() -> dict[str, Said]:
    """The settings of the nearest pyproject.toml, here or in a folder above, that has such a table."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / _FILE
        table = _read(path)
        if table is not None:
            return _settings(table, path)
    return {}


def _read(path: Path) -> Any:
    """The table [tool.visrag] of a file; None where there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError:
        return None
    if b"visrag" not in content or len(content) > _MAX_BYTES:
        return None
    try:
        return tomllib.loads(content.decode("utf-8")).get("tool", {}).get("visrag")
    except (ValueError, AttributeError, RecursionError) as error:
        raise SettingError(f"{printable(str(path))} cannot be read: {error}. Mend it, or say the options.") from error


def _settings(table: Any, path: Path) -> dict[str, Said]:
    if not isinstance(table, dict):
        raise SettingError(
            f"{printable(str(path))}: tool.visrag is no table. Write [tool.visrag], then lines such as "
            'index = "my_index".'
        )
    where = f"[tool.visrag] in {printable(str(path))}"
    settings: dict[str, Said] = {}
    for name, value in table.items():
        if name not in SETTINGS:
            hint = did_you_mean(name, SETTINGS)
            raise SettingError(f"{where}: {name!r} is no setting{hint or '.'} There are {', '.join(SETTINGS)}.")
        if not isinstance(value, str) or not value.strip():
            raise SettingError(f"{where}: {name} is {value!r}; it is a text in quotes.")
        settings[name] = Said(value.strip(), where)
    return settings


def _agreed(name: str, said: Said) -> str:
    """The value, printed with where it comes from; a URL only where somebody says yes to it.

    A folder that was downloaded may hold such a file, and what it names would be sent the pages.
    """
    value = printable(said.value)
    if "://" not in said.value:
        print(f"visrag: {name} {value}, from {said.where}", file=sys.stderr)
        return said.value
    if not sys.stdin.isatty():
        raise SettingError(
            f"{said.where} names {name} = {value}: pages would be sent there, and nobody is here to say yes. Say it "
            f"yourself: --{name} {value}, or VISRAG_{name.upper()}={value}."
        )
    print(f"visrag: {said.where} names {name} = {value}. Pages are sent there.", file=sys.stderr)
    print("Use it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SettingError(f"{name} {value} was not used. Say another with --{name}.")
    return said.value
