"""What the options of a command turn into: the store, the embedder that fills or searches it, and what answers."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import loading
from visrag_integrations.cli.asked import asked_embedder, note_queries, with_query_embedder
from visrag_integrations.cli.noting import note
from visrag_integrations.cli.presets import note_other_preset, preset_models, prompt_of, refuse_to_mix
from visrag_integrations.errors import SettingError, StoreError

if TYPE_CHECKING:
    from visrag_integrations.generation.strategies import Strategy
    from visrag_integrations.interfaces import PageEmbedder
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.store import QdrantPageStore


def open_store(
    arguments: argparse.Namespace, *, must_exist: bool = False, server_options: Mapping[str, int] | None = None
) -> QdrantPageStore:
    """The store that `--index` and `--collection` name; `must_exist` refuses a folder that is not there."""
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.store.connect import folder_of

    folder_of(arguments.index)  # refuses a server's address without http://
    api_key: str | None = None  # never an option: other users of this machine can read those
    if "://" in arguments.index:
        api_key = os.environ.get("QDRANT_API_KEY")
    elif must_exist and not Path(arguments.index).is_dir():  # opening it would make it
        raise StoreError(
            f"There is no index at {arguments.index!r}. Make one first: visrag index PATH... --index {arguments.index}"
        )
    return QdrantPageStore(
        arguments.index,
        collection=arguments.collection,
        pictures=pictures_of(arguments),
        api_key=api_key,
        timeout=getattr(arguments, "timeout", None),
        pooling=pooling_of(arguments),
        server_options=server_options,
    )


def pooling_of(arguments: argparse.Namespace) -> str | None:
    """What `--pooling` says, as the store takes it; commands that make no collection do not have it."""
    said: str = getattr(arguments, "pooling", "auto")
    return None if said == "none" else said


def pictures_of(arguments: argparse.Namespace) -> str | bool | None:
    """Where `--pictures` says that page pictures are, as the store takes it."""
    place: str | None = arguments.pictures
    if place == "none":
        return False
    if place != "server":
        return place
    if "://" not in arguments.index:
        raise SettingError(
            f"--pictures server is for an index on a server, and {arguments.index!r} is a folder. Leave it out; a "
            "folder of that name is ./server."
        )
    return True


def embedder_to_fill(arguments: argparse.Namespace, store: QdrantPageStore) -> PageEmbedder:
    """The embedder that was asked for; else the one that filled the collection; else the preset's.

    Shared, as the others here: `visrag eval` fills and searches, with one model in memory. Close it.
    """
    note_outdated(arguments, store)
    note_queries(arguments, store)
    return loading.load_embedder(arguments, name_of_embedder_to_fill(arguments, store), store.info, fills=True)


def name_of_embedder_to_fill(arguments: argparse.Namespace, store: QdrantPageStore) -> str:
    """Its name, for `load_embedder`.

    Raises:
        StoreMismatchError: What was asked for is not what fills the index.
    """
    refuse_to_mix(arguments, store)
    # Vectors of two embedders cannot be compared, so the index decides before the preset does.
    asked = asked_embedder(arguments)
    if asked is not None:
        return asked
    if store.info is not None:
        return with_query_embedder(store.info.embedder, arguments)
    return with_query_embedder(preset_models(arguments)[0], arguments)


def second_embedder(arguments: argparse.Namespace, store: QdrantPageStore) -> list[PageEmbedder]:
    """The other one of a collection that two fill; none where an embedder was asked for."""
    if store.info is None or asked_embedder(arguments) is not None:
        return []
    return [loading.load_embedder(arguments, info.embedder, info, fills=True) for info in store.info.also]


def embedder_that_filled(store: QdrantPageStore, arguments: argparse.Namespace) -> PageEmbedder:
    """The embedder the collection remembers, or the one that was asked for, which the store then checks."""
    if store.info is None:
        store.check_alias()
        raise StoreError(
            f"Collection {arguments.collection!r} in {arguments.index!r} is empty. "
            f"Fill it first: visrag index PATH... --index {arguments.index} --collection {arguments.collection}"
        )
    note_outdated(arguments, store)
    note_other_preset(arguments, store)
    name = asked_embedder(arguments) or with_query_embedder(store.info.embedder, arguments)
    return loading.load_embedder(arguments, name, store.info)


def note_outdated(arguments: argparse.Namespace, store: QdrantPageStore) -> None:
    """Say where the pages were read by an older version: the log, which says it too, is silent on the command line."""
    if store.outdated:
        note(f"{arguments.index}: {store.outdated}")


def build_rag(
    arguments: argparse.Namespace,
    embedder: PageEmbedder,
    store: QdrantPageStore,
    searching: Mapping[str, Any] | None = None,
    *,
    fills: bool = False,
) -> VisRAG:
    """What answers from this store, as the generator options say.

    Args:
        arguments: With the generator options.
        embedder: Of the questions.
        store: Of the pages.
        searching: More settings of the retriever.
        fills: Whether the embedder was used for pages before, and is in memory with all that it has.
    """
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.types import GenerationSettings

    settings = GenerationSettings(max_tokens=arguments.max_tokens, guided=arguments.guided)
    strategy, prompt = strategy_of(arguments), prompt_of(arguments)  # what does not fit is refused before loading
    writer = loading.load_generator(arguments, generator_name(arguments), beside=embedder.name, fills=fills)
    retriever = PageRetriever(embedder, store, mode=getattr(arguments, "mode", None), **(searching or {}))
    return VisRAG(retriever, writer, strategy=strategy, prompt=prompt, settings=settings)


def strategy_of(arguments: argparse.Namespace) -> Strategy:
    """How the pages are shown.

    Raises:
        SettingError: `--text-budget` is given with a strategy that has none.
        UnknownNameError: There is no such strategy.
    """
    from visrag_integrations.generation.strategies import find_strategy, with_text_budget

    named = find_strategy(arguments.strategy)
    if arguments.text_budget is None:
        return named
    if arguments.strategy != "image_and_text":
        raise SettingError(f"--text-budget is for --strategy image_and_text, and this is {arguments.strategy}.")
    return with_text_budget(arguments.text_budget)


def generator_name(arguments: argparse.Namespace) -> str:
    """What answers: what was asked for, else the preset's.

    Raises:
        SettingError: `--model` is given, and what answers is no server.
    """
    name = str(arguments.generator or preset_models(arguments)[1])
    loading.check_model(arguments, name)
    return name


def server_options(arguments: argparse.Namespace) -> dict[str, int]:
    """What a new collection on a server gets besides."""
    # Without them the server decides; an embedded folder, which has neither, refuses them.
    asked: dict[str, int] = {}
    if arguments.shards is not None:
        asked["shard_number"] = arguments.shards
    if arguments.replicas is not None:
        asked["replication_factor"] = arguments.replicas
    return asked
