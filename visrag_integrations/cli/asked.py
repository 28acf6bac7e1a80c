"""Which embedder the command line asks for, by three options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from visrag_integrations.cli.noting import note
from visrag_integrations.errors import SettingError

if TYPE_CHECKING:
    from visrag_integrations.store import QdrantPageStore


def add_embedder_options(parser: argparse.ArgumentParser, default: str = "the preset's") -> None:
    """What embeds pages, and what embeds queries."""
    parser.add_argument("--embedder", metavar="NAME|FOLDER", help=f"what embeds the pages (default: {default})")
    parser.add_argument(
        "--query-embedder",
        metavar="NAME|FOLDER",
        help="what embeds queries, where it is another model: a small one that was trained for the pages' vectors",
    )


def asked_embedder(arguments: argparse.Namespace) -> str | None:
    """The embedder that `--embedder` and `--text-model` name, for `load_embedder`; None where neither was given.

    Raises:
        SettingError: A text model for an embedder that takes none.
    """
    embedder: str | None = arguments.embedder
    model: str | None = getattr(arguments, "text_model", None)  # commands that only search remember it
    if model is None:
        return None if embedder is None else with_query_embedder(embedder, arguments)
    if embedder not in (None, "ocr"):
        raise SettingError(
            f"--text-model {model} is for the embedder 'ocr', and --embedder is {embedder!r}. Leave one of them out."
        )
    return with_query_embedder(f"ocr:{model}", arguments)


def with_query_embedder(name: str, arguments: argparse.Namespace) -> str:
    """An embedder's name with what `--query-embedder` says, in place of what the name says of queries.

    >>> with_query_embedder("large|small", argparse.Namespace(query_embedder="tiny"))
    'large|tiny'
    """
    from visrag_integrations.embedders import split_pair
    from visrag_integrations.interfaces.embedders import PAIR

    if arguments.query_embedder is None:
        return name
    return f"{split_pair(name)[0]}{PAIR}{arguments.query_embedder}"


def note_queries(arguments: argparse.Namespace, store: QdrantPageStore) -> None:
    """Say where an index that is filled further will not remember the query model that was named."""
    from visrag_integrations.embedders import split_pair

    if arguments.query_embedder is None or store.info is None or split_pair(store.info.embedder)[1] is not None:
        return
    given = f"--query-embedder {arguments.query_embedder}"
    note(
        f"the index remembers {store.info.embedder} alone: give {given} with each search too, or let it remember both: "
        f"visrag reindex {given}"
    )
