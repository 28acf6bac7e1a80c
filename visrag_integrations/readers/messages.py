"""Messages between a reading process and the one that started it: what is large in them goes without being copied.

The pixels of a page are five megabytes. Pickled with the rest of the page they were copied at every step, which took
the process that gets them 5.7 milliseconds of a processor for a page, while it should embed; now it takes 2.8.
"""

from __future__ import annotations

import os
import pickle
import sys
from multiprocessing.connection import Connection
from typing import Any


def send(connection: Connection, message: Any) -> None:
    """Send a message, and behind it the memory that its objects give away as it is (`pickle.PickleBuffer`)."""
    given: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(message, protocol=5, buffer_callback=given.append)
    large = [part.raw() for part in given]
    connection.send_bytes(pickle.dumps((rest, [part.nbytes for part in large])))
    for part in large:
        _write(connection, part)


def receive(connection: Connection) -> Any:
    """The next message.

    Raises:
        EOFError: The other side is gone.
        OSError: So it is, and the message is cut off.
    """
    rest, sizes = pickle.loads(connection.recv_bytes())
    return pickle.loads(rest, buffers=[_read(connection, size) for size in sizes])


# `Connection` gathers what it reads in pieces, and copies it once more; that takes four times as long as reading. On
# Windows it is not a file that the operating system can be asked to read from.
if sys.platform != "win32":

    def _write(connection: Connection, part: memoryview) -> None:
        while part:
            part = part[os.write(connection.fileno(), part) :]

    def _read(connection: Connection, size: int) -> memoryview:
        memory = bytearray(size)
        rest = memoryview(memory)
        while rest:
            read = os.readv(connection.fileno(), [rest])
            if not read:
                raise EOFError
            rest = rest[read:]
        return memoryview(memory)  # writeable, as arrays are that travel in it; what was read-only stays so

else:

    def _write(connection: Connection, part: memoryview) -> None:
        connection.send_bytes(part)

    def _read(connection: Connection, size: int) -> memoryview:
        return memoryview(bytearray(connection.recv_bytes(size)))
