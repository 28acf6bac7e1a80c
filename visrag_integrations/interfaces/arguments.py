"""Arguments that nothing here knows: refused, with the nearest name that is known."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping

from visrag_integrations.errors import SettingError


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
