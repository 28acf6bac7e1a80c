"""Pixels as engines draw them: three or four bytes each, the same picture, file, digest and pickle."""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import random

import numpy as np
import pytest
from PIL import Image

from visrag_integrations import images
from visrag_integrations.images import EncodedPixels, Pixels
from visrag_integrations.readers.visibility import visible_words

SIZES = [(1, 1), (2, 3), (7, 5), (64, 48), (301, 17)]


def pair(width: int, height: int, seed: int = 5) -> tuple[Pixels, Pixels]:
    """The same pixels in three bytes and in four, of which the last ones are of no use."""
    numbers = random.Random(seed)
    colours = np.frombuffer(numbers.randbytes(width * height * 3), dtype=np.uint8).reshape(-1, 3)
    unused = np.frombuffer(numbers.randbytes(width * height), dtype=np.uint8).reshape(-1, 1)
    padded = np.hstack([colours, unused])
    return (
        Pixels(width, height, colours.tobytes()),
        Pixels(width, height, memoryview(bytearray(padded.tobytes())).toreadonly(), bytes_each=4),
    )


@pytest.mark.parametrize("size", SIZES)
def test_four_bytes_are_the_same_picture_as_three(size: tuple[int, int]) -> None:
    three, four = pair(*size)
    assert four.data == three.data
    assert four == three
    assert hash(four) == hash(three)
    assert four.digest == three.digest == f"{size[0]}x{size[1]}\n{hashlib.sha256(three.data).hexdigest()}"
    opened = four()
    assert (opened.mode, opened.size, opened.tobytes()) == ("RGB", size, bytes(three.data))
    assert three().tobytes() == bytes(three.data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", SIZES)
def test_files_are_the_same_to_the_byte(kind: str, size: tuple[int, int]) -> None:
    three, four = pair(*size)
    file = io.BytesIO()
    Image.frombytes("RGB", size, bytes(three.data)).save(file, kind, **({} if kind == "PNG" else {"quality": 85}))
    assert images.encode(four, kind) == images.encode(three, kind) == file.getvalue()
    assert EncodedPixels.of(four, kind, 85) == EncodedPixels.of(three, kind, 85)


def test_a_picture_that_was_opened_may_be_changed() -> None:
    _, four = pair(8, 8)
    before = four.digest
    opened = four()
    opened.paste("red", (0, 0, 8, 8))
    assert four().tobytes() != opened.tobytes()
    assert Pixels(8, 8, four.drawn, bytes_each=4).digest == before


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_of_three_bytes_and_know_their_digest(protocol: int) -> None:
    for pixels in pair(20, 10):
        loaded = pickle.loads(pickle.dumps(pixels, protocol))
        assert loaded == pixels
        assert loaded.bytes_each == 3
        assert isinstance(loaded.data, bytes)
        assert loaded.__dict__["digest"] == pixels.digest
    assert copy.deepcopy(pair(4, 4)[1]) == pair(4, 4)[0]


def test_whoever_can_takes_the_pixels_without_a_copy() -> None:
    for pixels in pair(20, 10):
        large: list[pickle.PickleBuffer] = []
        rest = pickle.dumps(pixels, 5, buffer_callback=large.append)
        assert len(rest) < 400
        assert [bytes(part.raw()) for part in large] == [bytes(pixels.data)]
        memory = memoryview(bytearray(large[0].raw())).toreadonly()
        loaded = pickle.loads(rest, buffers=[memory])
        assert loaded == pixels
        assert hash(loaded) == hash(pixels)
        assert images.encode(loaded) == images.encode(pixels)


def test_blank_is_one_colour_whatever_the_fourth_byte_says() -> None:
    unused = bytes(range(24))
    blank = b"".join(b"\x10\x20\x30" + unused[place : place + 1] for place in range(24))
    assert Pixels(6, 4, blank, bytes_each=4).blank
    for place in range(24):
        for colour in range(3):
            spotted = bytearray(blank)
            spotted[4 * place + colour] ^= 1
            assert not Pixels(6, 4, bytes(spotted), bytes_each=4).blank
    assert Pixels(6, 4, b"\x07\x08\x09" * 24).blank
    assert not Pixels(6, 4, b"\x07\x08\x09" * 23 + b"\x07\x08\x0a").blank


@pytest.mark.parametrize("seed", range(5))
def test_words_are_seen_alike_in_three_bytes_and_in_four(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    colours = np.full((120, 90, 3), 255, dtype=np.uint8)
    for _ in range(12):  # spots of all shades, some too pale to be seen
        top, left = numbers.integers(0, 110), numbers.integers(0, 80)
        colours[top : top + 6, left : left + 8] = 255 - numbers.integers(0, 30)
    padded = np.dstack([colours, numbers.integers(0, 256, (120, 90), dtype=np.uint8)])
    corner = numbers.uniform(0, 80, (40, 2))
    boxes = np.hstack([corner, corner + numbers.uniform(1, 12, (40, 2))])
    texts = [numbers.choice(["word", "-", ".", "a"]) for _ in boxes]
    edges = boxes / (90, 120, 90, 120)
    three = visible_words(texts, boxes, edges, Pixels(90, 120, colours.tobytes()))
    four = visible_words(texts, boxes, edges, Pixels(90, 120, padded.tobytes(), bytes_each=4))
    assert three.tolist() == four.tolist()
    assert 0 < np.count_nonzero(three) < len(texts)
