"""From "PAGES" and "QUERIES" to one embedder of both: how each is called, and what their files say."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.embedders.checkpoints import ADAPTER, resolve_checkpoint
from visrag_integrations.embedders.paired import Described, Half, PairedEmbedder
from visrag_integrations.embedders.served import SERVED
from visrag_integrations.embedders.systems import CHECKPOINTS, QUERY_MODELS, SYSTEMS, is_recognised, recognise
from visrag_integrations.embedders.unknown_names import unknown_embedder
from visrag_integrations.errors import CheckpointError, SettingError, UnknownNameError
from visrag_integrations.interfaces.embedders import PAIR

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

    Load = Callable[..., PageEmbedder]


def split_pair(name: str, taken: Collection[str] = ()) -> tuple[str, str | None]:
    """The two names in "PAGES|QUERIES", as collections remember them; any other name alone.

    >>> split_pair("large|small"), split_pair("large")
    (('large', 'small'), ('large', None))
    """
    if name.count(PAIR) != 1 or name in taken or os.path.exists(os.path.expanduser(name)):
        return name, None
    pages, queries = name.split(PAIR)
    return pages, queries


def pair(
    names: tuple[str, str],
    load: Load,
    taken: Collection[str],
    *,
    system: str | None,
    settings: Mapping[str, Any],
    query_settings: Mapping[str, Any],
) -> PairedEmbedder:
    """One embedder of both; neither is loaded yet.

    Args:
        names: What embeds pages, and what embeds queries, as `load_embedder` takes them.
        load: `load_embedder`.
        taken: Names that are no checkpoints.
        system: Of the pages' model, where its checkpoint does not say it.
        settings: Of the pages' model.
        query_settings: Of the queries' model.

    Raises:
        SettingError: A name cannot stand in a pair.
        UnknownNameError: There is no such model.
        CheckpointError: The folder of the query model is not there.
    """
    of_pages, of_queries = _full_name(names[0], system, taken), _full_name(names[1], None, taken)
    for name in (of_pages, of_queries):
        if PAIR in name or not name.strip():
            raise SettingError(
                f"A pair is called PAGES{PAIR}QUERIES, so that neither name may be empty or have a {PAIR!r} in it: "
                f"{name!r}. Give the folder another name."
            )
    if settings.get("url") is None and settings.get("backend") is None:  # a server may have any
        _check_known(of_pages, taken, may_be_elsewhere=True)
    _check_known(of_queries, taken)
    query_system, checkpoint = _system_of(of_queries, taken)
    own = dict(query_settings)
    if query_system == "sentence-transformers":
        own = {"texts_only": True, **own}
    if query_system is not None and checkpoint not in CHECKPOINTS:
        own["system"] = query_system
    made_from = {"queries": of_queries, "query_settings": dict(query_settings), **settings}
    return PairedEmbedder(
        Half(of_pages, lambda: load(of_pages, shared=True, **settings), lambda: _describe_pages(of_pages, taken)),
        Half(
            of_queries,
            lambda: load(checkpoint, shared=True, **own),
            lambda: _describe_queries(checkpoint, query_system, query_settings),
        ),
        (of_pages, made_from),
    )


def _full_name(name: str, system: str | None, taken: Collection[str]) -> str:
    """What the embedder will be called: a folder by its whole path, a system where nothing else says it."""
    if name in taken:
        return name
    before, _, after = name.partition(":")
    if system is None and before in SYSTEMS and after:
        system, name = before, after
    if os.path.isdir(os.path.expanduser(name)):
        name = str(Path(name).expanduser().resolve())
    if system is None or is_recognised(name, system):
        return name
    return f"{system}:{name}"


def _check_known(name: str, taken: Collection[str], *, may_be_elsewhere: bool = False) -> None:
    """Nothing, where a model of this name can be loaded, here or where pages are embedded."""
    system, checkpoint = _system_of(name, taken)
    if name in taken or system is not None:
        return
    if may_be_elsewhere and (name in SERVED or name.startswith("ocr:")):
        return
    if may_be_elsewhere and os.path.isabs(checkpoint):  # a folder of the machine with the GPU
        return
    if os.path.isabs(checkpoint) and not os.path.exists(checkpoint):
        raise CheckpointError(
            f"What embeds the queries, {checkpoint!r}, is not on this machine. Copy the folder, and say where it lies: "
            "--query-embedder FOLDER, or queries= in Python."
        )
    if os.path.exists(os.path.expanduser(checkpoint)):
        recognise(Path(checkpoint))  # says what is wrong with it
    raise unknown_embedder(name, sorted({*taken, *CHECKPOINTS, *QUERY_MODELS}))


def _system_of(name: str, taken: Collection[str]) -> tuple[str | None, str]:
    """(system, checkpoint) of a full name; no system where nothing here says it."""
    if name in taken:
        return None, name
    before, _, after = name.partition(":")
    if before in SYSTEMS and after:
        return before, after
    if name in CHECKPOINTS:
        return CHECKPOINTS[name], name
    if name in QUERY_MODELS:
        return QUERY_MODELS[name][0], name
    if os.path.isdir(name):
        try:
            return recognise(Path(name)), name
        except (CheckpointError, UnknownNameError):
            return None, name
    return None, name


def _describe_queries(checkpoint: str, system: str | None, settings: Mapping[str, Any]) -> Described:
    """What the files of the query model say; they are fetched now: a name that is wrong is said before any work."""
    if system is None or system == "endpoint":
        return Described()
    from visrag_integrations.embedders.described_files import describe_checkpoint

    described = describe_checkpoint(resolve_checkpoint(checkpoint, revision=settings.get("revision")), system)
    if settings.get("truncate_dim") is not None:
        return replace(described, dimension=int(settings["truncate_dim"]))
    return described


def _describe_pages(name: str, taken: Collection[str]) -> Described:
    """Of a model that lies here, its fingerprint; nothing is fetched, and whole models only are looked at."""
    system, checkpoint = _system_of(name, taken)
    if system is None or not os.path.isdir(checkpoint) or (Path(checkpoint) / ADAPTER).is_file():
        return Described()
    from visrag_integrations.embedders.described_files import describe_checkpoint

    return Described(describe_checkpoint(Path(checkpoint), system).fingerprint)
