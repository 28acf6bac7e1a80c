"""`python -m visrag_integrations.servers.ultrarag SERVER DIR`: one of the servers, over standard input and output."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from visrag_integrations.errors import SettingError, VisRAGError, printable

if TYPE_CHECKING:
    from visrag_integrations.servers.ultrarag.server import Tools

USAGE = "python -m visrag_integrations.servers.ultrarag retriever|generation|corpus|custom DIR"


def main(arguments: Sequence[str]) -> int:
    """Serve until the client closes standard input; what cannot start says why in one line of standard error."""
    # The client only says "Unknown tool" of a server that did not start, so this line is all that its user learns.
    wire = _keep_standard_output()
    logging.basicConfig(level=logging.WARNING, format="visrag: %(message)s", stream=sys.stderr)
    try:
        if len(arguments) != 2:
            raise SettingError(f"Say which server, and the folder that `visrag ultrarag init` made: {USAGE}")
        from visrag_integrations.servers.ultrarag import create_server

        server, tools = create_server(arguments[0], Path(arguments[1]))
    except VisRAGError as err:
        return _refuse(str(err))
    except Exception as err:  # noqa: BLE001  packages that do not go together raise anything when they are imported
        return _refuse(f"{type(err).__name__}: {err}")
    _end_at_signals(tools)
    # From here on the SDK keeps the protocol's output to itself and sends what others write to standard error.
    os.dup2(wire, 1)
    os.close(wire)
    try:
        server.run("stdio")
    finally:
        tools.close()
    return 0


def _refuse(why: str) -> int:
    """Say in one line why the server does not start; gives the exit code."""
    print(f"visrag: {printable(why)}", file=sys.stderr)  # noqa: T201
    return 2


def _keep_standard_output() -> int:
    """Standard output for later; meanwhile what is written there (by imports, by C code) goes to standard error."""
    sys.stdout.flush()
    wire = os.dup(1)
    os.dup2(2, 1)
    return wire


def _end_at_signals(tools: Tools) -> None:
    """SIGTERM and Ctrl-C close what is open and end the process: its loop waits for a line, and nothing wakes that."""

    def end(number: int, frame: FrameType | None) -> None:
        tools.close()
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
