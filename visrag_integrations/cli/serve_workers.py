"""`visrag serve --workers N`: several processes answer at one address, for an index on a Qdrant server."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import ending
from visrag_integrations.errors import SettingError

if TYPE_CHECKING:
    from visrag_integrations.servers.http import ServeSettings
    from visrag_integrations.servers.web.worker_process import WorkerLine
    from visrag_integrations.servers.web.workers import Ended


def check(arguments: argparse.Namespace) -> None:
    """Refuses what several processes cannot share.

    Raises:
        SettingError: The index is one process's own, or something is counted that is not counted together.
    """
    if arguments.workers == 1:
        return
    if "://" not in arguments.index:
        raise SettingError(
            f"--workers {arguments.workers} needs an index on a Qdrant server, such as --index http://localhost:6333; "
            f"{arguments.index!r} is a folder, which one process at a time may hold. Leave --workers out, or index the "
            "documents into a server."
        )
    if arguments.rate is not None:
        raise SettingError(
            f"--rate {arguments.rate:g} is counted in each process, and --workers {arguments.workers} would allow so "
            "many times as much. Leave one of them out, or limit the rate in the proxy in front."
        )


def run(
    answer: Callable[..., int],
    arguments: argparse.Namespace,
    settings: ServeSettings,
    listening: socket.socket,
    started: Callable[[], object],
) -> Ended:
    """Answer with so many processes until told to end.

    Args:
        answer: What each of them does with the arguments, the settings and the socket.
        arguments: Of the command line.
        settings: What the server allows.
        listening: Where clients connect.
        started: Called when all of them answer.
    """
    from visrag_integrations.servers.http.metrics import counted_together, process_is_over
    from visrag_integrations.servers.web.workers import Workers

    said = vars(arguments).copy()
    for name in ("run", "command_parser"):  # functions and parsers cannot be sent to another process
        said.pop(name, None)
    with counted_together():
        given = (answer, argparse.Namespace(**said), settings)
        return Workers(work, listening, arguments.workers, given, process_is_over).run(started)


def work(
    listening: socket.socket,
    line: WorkerLine,
    answer: Callable[..., int],
    arguments: argparse.Namespace,
    settings: ServeSettings,
) -> int:
    """One of the processes: how many requests it cut off when it was told to end."""
    from visrag_integrations.cli import set_logging

    set_logging(arguments)
    with ending.in_order():

        def begun(server: Any) -> None:
            line.ends(server)
            line.ready()

        return answer(arguments, settings, listening, begun)
