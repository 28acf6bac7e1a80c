"""What a model is shown: tokens shared among pictures, messages written out; and texts handed between threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visrag_integrations.errors import GenerationError, PictureError, SettingError
from visrag_integrations.generation.budget import LEAST, READABLE, PictureGrid, share_tokens
from visrag_integrations.generation.chat import check_image_count, merged_parts
from visrag_integrations.generation.defaults import PUBLISHED, with_defaults
from visrag_integrations.generation.loop import LoopGenerator
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Message, Page

SIDES = st.integers(1, 4000)


@settings(deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.integers(0, 40_000))
def test_shares_fit_and_the_better_ranked_get_more(wanted: list[int], budget: int) -> None:
    if sum(min(LEAST, want) for want in wanted) > budget:
        with pytest.raises(GenerationError, match=f"so {budget // LEAST} would fit"):
            share_tokens(wanted, budget)
        return
    shares = share_tokens(wanted, budget)
    assert sum(shares) == min(budget, sum(wanted))  # nothing is left over while somebody wants it
    assert all(min(LEAST, want) <= share <= want for share, want in zip(shares, wanted, strict=True))
    for i in range(len(wanted) - 1):
        assert shares[i] >= min(shares[i + 1], wanted[i])  # never less than a worse-ranked one has
    if budget >= READABLE * len(wanted):
        assert all(share >= min(READABLE, want) for share, want in zip(shares, wanted, strict=True))


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(1, 4000))
def test_a_fitted_picture_keeps_its_limit_and_about_its_shape(width: int, height: int, limit: int) -> None:
    grid = PictureGrid(28, 4, 16384)
    columns, rows = (side // 28 for side in grid.size(width, height, limit))
    assert 1 <= columns * rows <= limit
    if max(width, height) <= 3 * min(width, height) and columns * rows >= 64:
        assert (columns / rows) / (width / height) == pytest.approx(1, abs=0.35)


@settings(deadline=None)
@given(st.integers(28, 3000), st.integers(28, 3000))
def test_tokens_are_counted_as_the_model_counts_them(width: int, height: int) -> None:
    reference = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    grid = PictureGrid(28, 4, 1280)
    rows, columns = reference.smart_resize(height, width, 28, 4 * 28**2, 1280 * 28**2)
    assert grid.tokens(width, height) == rows * columns // 28**2


def test_a_fitted_picture_is_seen_as_it_is() -> None:
    grid = PictureGrid()
    fitted = grid.fit(Image.new("RGB", (1654, 2339)), 700)
    assert grid.tokens(*fitted.size) == fitted.width * fitted.height // 28**2 <= 700
    small = Image.new("RGB", (30, 30))
    assert grid.fit(small, 700) is small
    with pytest.raises(PictureError, match="200 times"):
        grid.fit(Image.new("RGB", (4000, 4)), 700)


def test_texts_are_joined_and_pages_counted() -> None:
    picture = Image.new("RGB", (9, 9))
    shown, read = Page("d", 1, picture=picture), Page("d", 2, "seven")
    turns = (Message(("a", "b", shown, picture, read, "c")), Message(("d", read), "assistant"))
    assert merged_parts(turns) == [["a\nb", None, None, "Page 3:\nseven\nc"], ["d\n\nPage 4:\nseven"]]
    with pytest.raises(GenerationError, match=r"top_k=2.*max_images=3"):
        check_image_count(3, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        GenerationSettings(max_tokens=0),
        GenerationSettings(temperature=-1.0),
        GenerationSettings(top_p=0.0),
        GenerationSettings(top_p=1.5),
        GenerationSettings(repetition_penalty=0.0),
        GenerationSettings(guided=True, json_schema={}),
    ],
)
def test_settings_outside_what_is_allowed(wrong: GenerationSettings) -> None:
    with pytest.raises(SettingError, match="it must be"):
        with_defaults(wrong, PUBLISHED)


def test_greedy_is_a_setting_of_its_own() -> None:
    assert with_defaults(GenerationSettings(temperature=0.0), PUBLISHED).temperature == 0.0
    assert with_defaults(None, PUBLISHED) is PUBLISHED


class Counting(LoopGenerator):
    """Writes the question's letters, a moment each, and knows how many texts it was writing at once."""

    def __init__(self, max_concurrency: int | None = None) -> None:
        super().__init__("counting", max_concurrency)
        self.writing = self.most = self.stopped = 0

    async def _write(
        self, conversation: Conversation, settings: GenerationSettings | None, *, whole: bool
    ) -> AsyncGenerator[Generation, None]:
        self.writing += 1
        self.most = max(self.most, self.writing)
        try:
            for letter in conversation[0].text:
                await asyncio.sleep(0.005)
                if letter == "!":
                    raise GenerationError("no")
                yield Generation(letter)
            yield Generation("", finish_reason="stop")
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped += 1
            raise
        finally:
            self.writing -= 1


def asking(*texts: str) -> list[Conversation]:
    return [(Message((text,)),) for text in texts]


def test_a_batch_is_written_at_once_and_in_order() -> None:
    generator = Counting(max_concurrency=3)
    assert [one.text for one in generator.generate(asking(*"abcde"))] == list("abcde")
    assert generator.most == 3
    generator.close()
    generator.close()


async def test_many_readers_need_no_threads() -> None:
    generator = Counting()

    async def read(letter: str) -> str:
        return "".join([piece.text async for piece in generator.astream(asking(letter * 40)[0])])

    before = threading.active_count()
    reading = [asyncio.create_task(read(letter)) for letter in "abcdefghijklmnopqrstuvwxyz" * 4]
    await asyncio.sleep(0.1)
    assert threading.active_count() <= before + 1  # the generator's own
    assert await asyncio.gather(*reading) == [letter * 40 for letter in "abcdefghijklmnopqrstuvwxyz" * 4]
    assert generator.most == 104
    generator.close()


def test_threads_share_the_engine() -> None:
    generator = Counting()
    found: dict[str, str] = {}

    def ask(text: str) -> None:
        found[text] = generator.generate(asking(text))[0].text

    threads = [threading.Thread(target=ask, args=(letter * 20,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(text == answer for text, answer in found.items())
    assert len(found) == generator.most == 4
    generator.close()


def test_the_first_failure_stops_the_others() -> None:
    generator = Counting()
    start = time.monotonic()
    with pytest.raises(GenerationError):
        generator.generate(asking("a" * 2000, "b!"))
    assert time.monotonic() - start < 5
    assert (generator.stopped, generator.writing) == (1, 0)
    assert generator.generate(asking("c"))[0].text == "c"
    generator.close()


def test_a_stream_raises_where_it_is_read_and_stops_when_closed() -> None:
    generator = Counting()
    failing = generator.stream(asking("ab!")[0])
    assert [next(failing).text, next(failing).text] == ["a", "b"]
    with pytest.raises(GenerationError):
        next(failing)
    long = generator.stream(asking("x" * 2000)[0])
    next(long)
    long.close()
    deadline = time.monotonic() + 3
    while generator.writing and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (generator.stopped, generator.writing) == (1, 0)
    generator.close()


async def test_the_callers_loop_is_never_blocked() -> None:
    generator = Counting()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    written = await generator.agenerate(asking("a" * 60))
    pieces = [piece.text async for piece in generator.astream(asking("b" * 20)[0])]
    ticking.cancel()
    assert (len(written[0].text), "".join(pieces)) == (60, "b" * 20)
    assert ticks > 5
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(generator.agenerate(asking("c" * 2000)), 0.1)
    for _ in range(100):
        if generator.stopped:
            break
        await asyncio.sleep(0.02)
    assert (generator.stopped, generator.writing) == (1, 0)
    generator.close()
