"""`--embedder-url`: the server that has the embedder of an index."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visrag_integrations.store.info import EmbedderInfo


_IN_THIS_PROCESS = ("ocr", "cpu-visual")
"""Embedders that no server has."""


def add_server_option(parser: argparse.ArgumentParser) -> None:
    """Where the embedder is served, if it is."""
    from visrag_integrations.embedders.served import KEY_VARIABLE, URL_VARIABLE

    parser.add_argument(
        "--embedder-url",
        metavar="URL",
        help=f"the server, for example vLLM, that has the embedder (default: ${URL_VARIABLE}, for models that need "
        f"one; its key: ${KEY_VARIABLE})",
    )


def server_settings(name: str, arguments: argparse.Namespace, info: EmbedderInfo | None = None) -> dict[str, Any]:
    """`url` and what belongs to it; nothing for an embedder in this process."""
    from visrag_integrations.embedders.served import KEY_VARIABLE, SERVED, URL_VARIABLE

    if info is not None and name.partition(":")[0] in _IN_THIS_PROCESS:
        return {}  # the other one of an index that two fill
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


def has_served(name: str) -> bool:
    """Whether it is a model that a server has, which the variable names."""
    from visrag_integrations.embedders.served import SERVED, URL_VARIABLE

    return name in SERVED and bool(os.environ.get(URL_VARIABLE))
