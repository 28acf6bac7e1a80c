"""Messages of reading processes: what is large goes behind them, and nothing is lost on the way."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest

from visrag_integrations.images import EncodedPixels, Pixels
from visrag_integrations.readers import messages
from visrag_integrations.types import Page, Word


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as one, Connection(theirs.detach()) as other:
        yield one, other


def passed(ends: tuple[Connection, Connection], *sent: Any) -> list[Any]:
    def send() -> None:
        for message in sent:
            messages.send(ends[0], message)

    sender = threading.Thread(target=send)
    sender.start()
    got = [messages.receive(ends[1]) for _ in sent]
    sender.join()
    return got


def page(pixels: Pixels) -> Page:
    return Page("d", 3, "Forty boats.", "a.pdf", {"total_pages": 7}, (Word("Forty", (0, 0, 1, 0.5)),), picture=pixels)


@pytest.mark.parametrize("each", [3, 4])
def test_a_page_with_more_pixels_than_a_socket_holds(ends: tuple[Connection, Connection], each: int) -> None:
    pixels = Pixels(1500, 1000, memoryview(bytes(range(250)) * (each * 6000)), bytes_each=each)
    stored = EncodedPixels.of(pixels, "JPEG", 85)
    ((kind, got, got_stored),) = passed(ends, ("page", page(pixels), stored))
    assert (kind, got, got_stored) == ("page", page(pixels), stored)
    assert got.picture == pixels
    assert got.picture.digest == pixels.digest


def test_messages_follow_one_another(ends: tuple[Connection, Connection]) -> None:
    pixels = [Pixels(4, 1, bytes([number] * 12)) for number in range(5)]
    sent = [("ready",), ("page", pixels[0]), ("pages", pixels), ("bad", "it is broken"), ("page", pixels[4], None)]
    assert passed(ends, *sent) == sent


def test_an_array_can_be_written_to_where_it_could_before(ends: tuple[Connection, Connection]) -> None:
    """A reader of one's own may give its pages arrays; they came read-only, while pickled alone they do not."""
    array = np.arange(6.0).reshape(2, 3)
    fixed = array.copy()
    fixed.flags.writeable = False
    pixels = Pixels(4, 1, bytes(12))
    ((got, got_fixed, got_pixels),) = passed(ends, (array, fixed, pixels))
    assert got.tolist() == got_fixed.tolist() == array.tolist()
    got[0, 0] = 7.0
    assert array[0, 0] == 0.0
    assert not got_fixed.flags.writeable
    assert memoryview(got_pixels.data).readonly


def test_nothing_large_and_nothing_at_all(ends: tuple[Connection, Connection]) -> None:
    empty = pickle.PickleBuffer(b"")
    assert passed(ends, None, (), {"a": [1]}, ("empty", empty)) == [None, (), {"a": [1]}, ("empty", b"")]


def test_an_end_in_the_middle_of_the_pixels_is_an_end(ends: tuple[Connection, Connection]) -> None:
    rest = pickle.dumps("page", 5)
    ends[0].send_bytes(pickle.dumps((rest, [1000])))
    with socket.socket(fileno=os.dup(ends[0].fileno())) as wire:
        wire.sendall(b"x" * 400)
    ends[0].close()
    with pytest.raises((EOFError, OSError)):
        messages.receive(ends[1])


def test_an_end_before_a_message_is_an_end(ends: tuple[Connection, Connection]) -> None:
    ends[0].close()
    with pytest.raises((EOFError, OSError)):
        messages.receive(ends[1])
