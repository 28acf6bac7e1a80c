"""Arguments that nothing here knows: refused, with the nearest name that is known."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Mapping

from visrag_integrations.errors import SettingError, printable


def check_arguments(
    what: str, given: Iterable[str], known: Collection[str], *, elsewhere: Mapping[str, str] | None = None
) -> None:
    """Nothing, where every name is known.

    >>> check_arguments("Store", ["colection"], ["collection", "location"])
    Traceback (most recent call last):
    visrag_integrations.errors.SettingError: Store has no argument 'colection'; did you mean 'collection'? ...

    Args:
        what: Whose arguments they are.
        given: The names that were given.
        known: The names there are.
        elsewhere: Names that other libraries use, and what to write here.

    Raises:
        SettingError: A name is not known; the message has the nearest one, and all that there are.
    """
    told = []
    for name in given:
        if name in known:
            continue
        nearest = difflib.get_close_matches(name, known, n=1)
        if elsewhere is not None and name in elsewhere:
            told.append(f"{name!r}; {elsewhere[name]}")
        elif nearest:
            told.append(f"{name!r}; did you mean {nearest[0]!r}?")
        else:
            told.append(f"{name!r}")
    if told:
        refused = ", nor ".join(told)
        end = "" if refused.endswith(("?", ".")) else "."
        raise SettingError(f"{what} has no argument {refused}{end} There are: {', '.join(sorted(known))}.")


def refuse_name(argument: str, given: object, how: str) -> None:
    """Nothing, unless a name stands where what it names is wanted.

    >>> refuse_name("embedder", "ocr", "load_embedder")
    Traceback (most recent call last):
    visrag_integrations.errors.SettingError: embedder is 'ocr', a name. Load it first: embedder=load_embedder('ocr').

    Raises:
        SettingError: It does.
    """
    if isinstance(given, (str, os.PathLike)):
        raise SettingError(f"{argument} is {given!r}, a name. Load it first: {argument}={how}({os.fspath(given)!r}).")


def refuse_text(argument: str, given: object, one: str) -> None:
    """Nothing, unless one text stands where several are wanted: it would be taken for a list of letters.

    >>> refuse_text("questions", "Who?", "ask")
    Traceback (most recent call last):
    visrag_integrations.errors.SettingError: questions is one text, 'Who?'. Give a list, ['Who?'], or call ask.

    Raises:
        SettingError: It does.
    """
    if isinstance(given, str):
        shown = printable(given[:60])
        raise SettingError(f"{argument} is one text, {shown!r}. Give a list, [{shown!r}], or call {one}.")


def check_nearly(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Nothing, unless a name that may be anything is nearly one that is known.

    >>> check_nearly("Embedding", ["device"], ["embed_batch_size"])
    >>> check_nearly("Embedding", ["embed_batchsize"], ["embed_batch_size"])
    Traceback (most recent call last):
    visrag_integrations.errors.SettingError: Embedding has no argument 'embed_batchsize'; did you mean ...

    Args:
        what: Whose arguments they are.
        given: The names; those that are not known belong to something else, which looks at them later.
        known: The names there are.

    Raises:
        SettingError: A name is a slip.
    """
    for name in given:
        # 0.9: two letters off in a name of twenty. Less would take a model's own setting for a slip.
        if name not in known and difflib.get_close_matches(name, known, n=1, cutoff=0.9):
            check_arguments(what, [name], known)
