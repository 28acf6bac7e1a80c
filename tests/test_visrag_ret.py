"""VisRAG-Ret as users meet it, against the expected embeddings."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from visrag_ret_golden import (
    CHECKPOINT,
    EXPECTED,
    FOLDER,
    IMAGES,
    ITEMS,
    MANIFEST,
    TEXTS,
    TOLERANCE,
    copy_checkpoint,
    tolerances,
)

from visrag_integrations import Page, Query, load_embedder
from visrag_integrations.embedders.minicpm_inputs import Item
from visrag_integrations.embedders.minicpm_runner import CPU_BUDGET, GPU_BUDGET
from visrag_integrations.embedders.minicpm_visual import MiniCPMVisualEmbedder
from visrag_integrations.embedders.visrag_ret import VisRAGRetEmbedder
from visrag_integrations.errors import CheckpointError, EmbedderError, PictureError, SettingError, UnknownNameError
from visrag_integrations.interfaces import PageEmbedder


@pytest.fixture(scope="module")
def embedder() -> Iterator[VisRAGRetEmbedder]:
    with VisRAGRetEmbedder(CHECKPOINT, device="cpu", instruction="") as made:
        yield made


def page_of(name: str) -> Page:
    return Page.from_image(FOLDER / ITEMS[name]["file"], doc_id=name)


def query_of(name: str) -> str | Query:
    item = ITEMS[name]
    return item["text"] if item["kind"] == "text" else Query(item.get("text", ""), image=FOLDER / item["file"])


def blank(width: int, height: int, mode: str = "RGB") -> Page:
    return Page.from_image(Image.new(mode, (width, height), 7), doc_id=f"{mode}-{width}x{height}")


def assert_close(found: np.ndarray, expected: np.ndarray, allowed: np.ndarray | float = TOLERANCE) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    off = np.abs(found.astype(np.float64) - expected)
    assert (off <= allowed).all(), f"off by {off.max():.2g}"


# -- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
def test_pages_have_the_expected_embeddings(embedder: VisRAGRetEmbedder, name: str) -> None:
    (found,) = embedder.embed_pages([page_of(name)])
    assert_close(found, EXPECTED[f"{name}.embedding"], tolerances(name))


@pytest.mark.parametrize("name", [*TEXTS, "caption_icon_small"])
def test_queries_have_the_expected_embeddings(embedder: VisRAGRetEmbedder, name: str) -> None:
    (found,) = embedder.embed_queries([query_of(name)])
    assert_close(found, EXPECTED[f"{name}.embedding"])


@pytest.mark.parametrize("batch", MANIFEST["batches"], ids=lambda batch: batch["id"])
def test_batches_have_the_expected_embeddings(embedder: VisRAGRetEmbedder, batch: dict[str, list[str]]) -> None:
    found = np.stack(embedder.embed_queries([query_of(name) for name in batch["items"]]))
    assert_close(found, EXPECTED[f"batch.{batch['id']}.embeddings"], tolerances(*batch["items"])[:, None])


def test_scores_are_the_expected_ones(embedder: VisRAGRetEmbedder) -> None:
    order = MANIFEST["arrays"]["order_of_scores"]
    queries = np.stack(embedder.embed_queries([query_of(name) for name in order["rows"]]))
    pages = np.stack(embedder.embed_pages(map(page_of, order["columns"])))
    assert_close(queries @ pages.T, EXPECTED["scores"], tolerances(*order["columns"]))


def test_default_instruction_is_the_published_one() -> None:
    with VisRAGRetEmbedder(CHECKPOINT, device="cpu") as embedder:
        assert embedder.instruction == MANIFEST["instruction"]
        question = ITEMS["query_en"]["text"].removeprefix(MANIFEST["instruction"])
        for query in (question, Query(question)):
            assert_close(embedder.embed_queries([query])[0], EXPECTED["query_en.embedding"])
        assert_close(embedder.embed_queries([""])[0], EXPECTED["query_empty.embedding"])


def test_max_tokens_cuts_where_expected() -> None:
    with VisRAGRetEmbedder(CHECKPOINT, device="cpu", instruction="", max_tokens=10) as embedder:
        assert_close(embedder.embed_queries([ITEMS["query_en"]["text"]])[0], EXPECTED["truncate10.embedding"])
        (cut_in_a_picture,) = embedder.embed_pages([page_of("icon_small")])
        assert np.isfinite(cut_in_a_picture).all()


def test_without_slicing_the_page_goes_in_as_it_is(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "whole", slice_mode=False)
    with VisRAGRetEmbedder(folder, device="cpu") as embedder:
        for case in MANIFEST["slice_mode_off"]:
            (found,) = embedder.embed_pages([page_of(case["item"])])
            assert_close(found, EXPECTED[f"{case['id']}.embedding"])


def test_bfloat16_points_the_same_way() -> None:
    with VisRAGRetEmbedder(CHECKPOINT, device="cpu", dtype="bfloat16", instruction="") as embedder:
        names = [*IMAGES, *TEXTS]
        found = [*embedder.embed_pages(map(page_of, IMAGES)), *embedder.embed_queries(map(query_of, TEXTS))]
    for name, vector in zip(names, found, strict=True):
        assert vector.dtype == np.float32
        assert vector @ EXPECTED[f"{name}.embedding"] >= MANIFEST["tolerances"]["bf16_min_cosine_to_fp32"], name


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_page_does_not_depend_on_its_neighbours_or_their_order(embedder: VisRAGRetEmbedder) -> None:
    names = ["grey_l", "icon_small", "grey_l", "wide_6x1", "tiny_rgba", "icon_small"]
    found = embedder.embed_pages(page_of(name) for name in names)  # a generator, read once
    for name, vector in zip(names, found, strict=True):
        assert_close(vector, EXPECTED[f"{name}.embedding"])


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 2}, {"token_budget": 1}, {"workers": 1}])
def test_batch_settings_change_no_number(settings: dict[str, int]) -> None:
    names = ["icon_small", "tiny_rgba", "grey_l"]
    with VisRAGRetEmbedder(CHECKPOINT, device="cpu", **settings) as embedder:  # type: ignore[arg-type]
        for name, vector in zip(names, embedder.embed_pages(map(page_of, names)), strict=True):
            assert_close(vector, EXPECTED[f"{name}.embedding"])


def test_nothing_in_nothing_out(embedder: VisRAGRetEmbedder) -> None:
    assert embedder.embed_pages([]) == []
    assert embedder.embed_queries(iter([])) == []


def test_odd_pages_alone_and_together(embedder: VisRAGRetEmbedder) -> None:
    pages = [blank(1, 900), blank(900, 1), blank(30, 20, "P"), blank(31, 20, "I;16")]
    together = embedder.embed_pages(pages)
    for page, vector in zip(pages, together, strict=True):
        assert_close(embedder.embed_pages([page])[0], vector)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "tag", ["<image>", "</image>", "<image></image>", "<image><unk></image>", "</slice>", "<slice>"]
)
def test_tags_in_a_text_neither_crash_nor_take_a_pictures_place(embedder: VisRAGRetEmbedder, tag: str) -> None:
    image = FOLDER / ITEMS["icon_small"]["file"]
    other = FOLDER / ITEMS["tiny_rgba"]["file"]
    queries = [f"what is {tag} here", Query(f"a {tag} b", image=image), Query(f"a {tag} b", image=other)]
    text, first, second = embedder.embed_queries(queries)
    assert_close(embedder.embed_queries(queries[:1])[0], text)
    assert_close(embedder.embed_queries(queries[1:2])[0], first)
    assert np.abs(first - second).max() > 1e-3  # each picture is still seen


def test_a_page_without_picture_is_named(embedder: VisRAGRetEmbedder) -> None:
    pages = [page_of("icon_small"), Page(doc_id="scan-7", number=3)]
    with pytest.raises(PictureError, match="scan-7"):
        embedder.embed_pages(pages)
    assert len(embedder.embed_pages(pages[:1])) == 1


def test_full_memory_halves_the_batch_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with VisRAGRetEmbedder(CHECKPOINT, device="cpu", token_budget=1_000_000) as small:
        launch, sizes = small._runner.launch, []

        def two_at_most(batch: list[Item]) -> list[torch.Tensor]:
            sizes.append(len(batch))
            if len(batch) > 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")
            return launch(batch)

        small._runner.launch = two_at_most  # type: ignore[method-assign]
        names = ["icon_small", "tiny_rgba"] * 4
        with caplog.at_level(logging.WARNING):
            found = small.embed_pages(map(page_of, names))
        for name, vector in zip(names, found, strict=True):
            assert_close(vector, EXPECTED[f"{name}.embedding"])
        assert sizes == [8, 4, 2, 2, 4, 2, 2]
        assert len(caplog.records) == 1
        assert "at most 4" in caplog.text
        sizes.clear()
        small.embed_pages(map(page_of, names))
        assert sizes == [2, 2, 2, 2]


def test_batches_are_as_large_as_is_usual_where_the_network_was_moved_to() -> None:
    """The meta device computes nothing, and is none of the processor's."""
    with (
        VisRAGRetEmbedder(CHECKPOINT, device="cpu") as embedder,
        VisRAGRetEmbedder(CHECKPOINT, device="cpu", token_budget=77) as asked,
    ):
        assert embedder._runner.token_budget == CPU_BUDGET
        assert embedder.to("meta")._runner.token_budget == GPU_BUDGET
        assert asked.to("meta")._runner.token_budget == 77


def test_other_errors_of_the_device_are_not_swallowed() -> None:
    with VisRAGRetEmbedder(CHECKPOINT, device="cpu") as broken:

        def fail(batch: list[Item]) -> list[torch.Tensor]:
            raise RuntimeError("CUDA error: device-side assert triggered")

        broken._runner.launch = fail  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="device-side"):
            broken.embed_queries(["a", "b"])


# -- threads and life -------------------------------------------------------------------------------------------------


def test_many_threads_get_their_own_pages(embedder: VisRAGRetEmbedder) -> None:
    names = ["icon_small", "tiny_rgba", "grey_l"] * 3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: embedder.embed_pages([page_of(name)])[0], names))
    for name, vector in zip(names, found, strict=True):
        assert_close(vector, EXPECTED[f"{name}.embedding"])


def test_async_leaves_the_event_loop_free(embedder: VisRAGRetEmbedder) -> None:
    looked, let_go = threading.Event(), threading.Event()

    def waits() -> Image.Image:
        """A picture that is only there when the event loop has gone on."""
        looked.set()
        assert let_go.wait(120), "the event loop was blocked"
        return page_of("icon_small").open_image()

    async def both() -> tuple[list[np.ndarray], list[np.ndarray]]:
        pages = asyncio.ensure_future(embedder.aembed_pages([page_of("grey_l"), Page("d", 1, picture=waits)]))
        queries = asyncio.ensure_future(embedder.aembed_queries([ITEMS["query_en"]["text"]]))
        while not looked.is_set():
            await asyncio.sleep(0.005)
        let_go.set()
        return await pages, await queries

    pages, queries = asyncio.run(both())
    assert_close(pages[1], EXPECTED["icon_small.embedding"])
    assert_close(queries[0], EXPECTED["query_en.embedding"])


def test_to_and_close() -> None:
    embedder = VisRAGRetEmbedder(CHECKPOINT, instruction="")
    assert embedder.to("cpu") is embedder
    assert_close(embedder.embed_queries([query_of("query_en")])[0], EXPECTED["query_en.embedding"])
    embedder.close()
    embedder.close()
    for embed in (lambda: embedder.embed_pages([page_of("icon_small")]), lambda: embedder.embed_queries(["a"])):
        with pytest.raises(EmbedderError, match="closed"):
            embed()


# -- settings and checkpoints -----------------------------------------------------------------------------------------


def test_load_embedder_knows_the_folder(tmp_path: Path) -> None:
    loaded = load_embedder(CHECKPOINT, device="cpu")
    assert isinstance(loaded, VisRAGRetEmbedder)
    assert isinstance(loaded, PageEmbedder)
    assert (loaded.kind, loaded.dimension, loaded.name) == ("single", 256, str(CHECKPOINT.resolve()))
    again = load_embedder(loaded.name)
    assert isinstance(again, VisRAGRetEmbedder)
    assert again.fingerprint == loaded.fingerprint


def test_minicpm_visual_embedding_has_its_own_instruction(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "other", architectures=["SomethingElse"])
    with pytest.raises(CheckpointError, match=r"SomethingElse.*VisRAG_Ret"):
        VisRAGRetEmbedder(folder)
    other = load_embedder(folder, system="minicpm-visual-embedding")
    assert isinstance(other, MiniCPMVisualEmbedder)
    assert other.instruction == "Represent this query for retrieving relavant document: "
    with VisRAGRetEmbedder(CHECKPOINT, instruction=other.instruction) as same:
        assert_close(other.embed_queries(["x"])[0], same.embed_queries(["x"])[0])
    assert_close(other.embed_pages([page_of("tiny_rgba")])[0], EXPECTED["tiny_rgba.embedding"])
    other.close()


def test_fingerprint_tells_weights_apart_but_not_folders(tmp_path: Path) -> None:
    with VisRAGRetEmbedder(CHECKPOINT) as embedder:
        expected = embedder.fingerprint
    moved = copy_checkpoint(tmp_path / "moved", _name_or_path="elsewhere")
    with VisRAGRetEmbedder(moved) as embedder:
        assert embedder.fingerprint == expected
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4] = b"\0\0\0\0"
    weights.write_bytes(content)
    with VisRAGRetEmbedder(moved) as embedder:
        assert embedder.fingerprint != expected


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"device": "cuda:99"}, SettingError, "cuda:99"),
        ({"device": "nonsense"}, SettingError, "nonsense"),
        ({"dtype": "int8"}, UnknownNameError, "bfloat16, float16, float32"),
        ({"resize": "best"}, UnknownNameError, "exact, fast"),
        ({"attn_implementation": "flash"}, UnknownNameError, "eager, sdpa"),
        ({"batch_size": 0}, SettingError, "batch_size is 0"),
        ({"max_tokens": 0}, SettingError, "max_tokens is 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        VisRAGRetEmbedder(CHECKPOINT, **settings)  # type: ignore[arg-type]


def test_a_folder_that_is_not_there() -> None:
    for name in ("./no/such/folder", "nowhere", "/no/such/folder"):
        with pytest.raises(CheckpointError, match="no folder"):
            VisRAGRetEmbedder(name)


def test_without_torch_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from visrag_integrations import load_embedder\n"
        "from visrag_integrations.errors import MissingExtraError\n"
        "try: load_embedder('openbmb/VisRAG-Ret')\n"
        "except MissingExtraError as err: print(err)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "visrag-integrations[torch]"' in said


def test_fast_resize_and_eager_attention_stay_close() -> None:
    with VisRAGRetEmbedder(CHECKPOINT, resize="fast", attn_implementation="eager") as embedder:
        (found,) = embedder.embed_pages([page_of("slide_16x9")])
    assert found @ EXPECTED["slide_16x9.embedding"] > 0.9999
