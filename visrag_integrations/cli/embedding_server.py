"""`--embedder-url`: the server that has the embedder of an index."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder
    from visrag_integrations.store.info import EmbedderInfo


def add_server_option(parser: argparse.ArgumentParser) -> None:
    """Where the embedder is served, if it is."""
    from visrag_integrations.embedders.served import KEY_VARIABLE, URL_VARIABLE

    parser.add_argument(
        "--embedder-url",
        metavar="URL",
        help=f"the server, for example vLLM, that has the embedder (default: ${URL_VARIABLE}, for models that need "
        f"one; its key: ${KEY_VARIABLE})",
    )


def load(name: str, arguments: argparse.Namespace, info: EmbedderInfo | None = None) -> PageEmbedder:
    """The embedder of that name, shared; from the server where one is named, or the name needs one.

    Args:
        name: For `load_embedder`.
        arguments: Those with `embedder_url`.
        info: What a collection that it filled remembers.
    """
    from visrag_integrations.embedders import load_embedder

    return load_embedder(name, shared=True, **server_settings(name, arguments, info))


def server_settings(name: str, arguments: argparse.Namespace, info: EmbedderInfo | None = None) -> dict[str, Any]:
    """`url` and what belongs to it; nothing for an embedder in this process."""
    from visrag_integrations.embedders.served import KEY_VARIABLE, SERVED, URL_VARIABLE

    url = arguments.embedder_url
    by_server_alone = name.startswith("endpoint:")
    if url is None and by_server_alone:
        url = os.environ.get(URL_VARIABLE)
    if url is None:
        return {}  # models of the table look at the variable themselves
    settings: dict[str, Any] = {"url": url}
    if os.environ.get(KEY_VARIABLE):
        settings["api_key"] = os.environ[KEY_VARIABLE]
    if info is not None and name not in SERVED and by_server_alone:
        settings["kind"] = info.kind
    return settings
