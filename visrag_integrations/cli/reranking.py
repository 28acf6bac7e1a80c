"""`--rerank`: what scores the pages again that a search has found, for every command that searches."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import loading, options
from visrag_integrations.errors import SettingError

if TYPE_CHECKING:
    from visrag_integrations.rerankers import CrossEncoderReranker

KEY = "VISRAG_RERANK_API_KEY"
"""The variable with a server's key: as an argument, other users of this machine could read it."""
_CANDIDATES = 50  # as `PageRetriever` has it


def add_rerank_options(parser: argparse.ArgumentParser) -> None:
    """What reranks, and how."""
    group = parser.add_argument_group("reranking", f"A server's key is taken from the variable {KEY}.")
    group.add_argument(
        "--rerank",
        metavar="NAME|FOLDER|URL",
        help="score what was found again with this cross-encoder: a model, or the URL of a /rerank server",
    )
    group.add_argument("--rerank-url", metavar="URL", help="the server that has the model which --rerank names")
    group.add_argument(
        "--rerank-reads",
        choices=["auto", "text", "image", "both"],
        default="auto",
        help="what the reranker is shown of a page (default: its text, or its picture where the model is known to see)",
    )
    group.add_argument(
        "--min-score", type=float, metavar="X", help="leave out pages that the reranker scores lower than this"
    )
    group.add_argument(
        "--candidates",
        type=options.positive,
        metavar="N",
        help=f"so many pages are given to the reranker (default: {_CANDIDATES})",
    )


def retriever_settings(arguments: argparse.Namespace, opened: contextlib.ExitStack) -> dict[str, Any]:
    """`reranker` and `candidates` of a `PageRetriever`; nothing without `--rerank`. Closed with what is opened.

    Raises:
        SettingError: Another of these options was given without it.
    """
    if arguments.rerank is None:
        _refuse_alone(arguments)
        return {}
    reranker = _reranker(arguments)
    opened.callback(reranker.close)
    return {"reranker": reranker, "candidates": arguments.candidates or _CANDIDATES}


def _refuse_alone(arguments: argparse.Namespace) -> None:
    given = {
        "--rerank-url": arguments.rerank_url is not None,
        "--rerank-reads": arguments.rerank_reads != "auto",
        "--min-score": arguments.min_score is not None,
        "--candidates": arguments.candidates is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise SettingError(f"{option} is for a reranker, and none is named. Say --rerank NAME|FOLDER|URL too.")


def _reranker(arguments: argparse.Namespace) -> CrossEncoderReranker:
    from visrag_integrations.rerankers import CrossEncoderReranker
    from visrag_integrations.rerankers.server import is_url

    settings: dict[str, Any] = {}
    if arguments.rerank_url is not None or is_url(arguments.rerank):
        settings["api_key"] = os.environ.get(KEY)
    else:
        loading.ask_before_loading(arguments, arguments.rerank)
        loading.say_what_is_fetched(arguments.rerank)
        if arguments.device is not None:
            settings["device"] = arguments.device
    return CrossEncoderReranker(
        arguments.rerank,
        url=arguments.rerank_url,
        reads=arguments.rerank_reads,
        min_score=arguments.min_score,
        on_note=options.note,
        **settings,
    )
