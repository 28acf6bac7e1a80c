"""What every embedder promises, the same test for each, and how `load_embedder` finds them."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from embedding_server import serving
from PIL import Image
from tiny_retrievers import BUILDERS, tiny, tiny_embedder
from visrag_ret_golden import CHECKPOINT

from visrag_integrations import Page, Query, load_embedder
from visrag_integrations import embedders as registry
from visrag_integrations.errors import CheckpointError, EmbedderError, SettingError, UnknownNameError
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.interfaces import embedders as plug
from visrag_integrations.interfaces.closing import Closes, close
from visrag_integrations.types import Mode


@cache
def golden_embedder(system: str) -> PageEmbedder:
    """The tiny checkpoint that comes with expected embeddings."""
    return load_embedder(CHECKPOINT, system=system, device="cpu")


CONTRACT: dict[str, Callable[[], PageEmbedder]] = {
    "ocr": lambda: load_embedder("ocr"),
    "endpoint": lambda: served_embedder(),
    **{system: partial(tiny_embedder, system) for system in BUILDERS},
    **{system: partial(golden_embedder, system) for system in ("visrag-ret", "minicpm-visual-embedding")},
}
"""Every embedder that can be made in a test, by name: add yours."""


@cache
def served_embedder() -> PageEmbedder:
    """One that asks a server on this machine, which runs as long as the tests."""
    stack = ExitStack()
    atexit.register(stack.close)
    server = stack.enter_context(serving())
    return load_embedder("a/model", system="endpoint", base_url=f"http://127.0.0.1:{server.server_port}/v1")


@pytest.fixture(params=sorted(CONTRACT))
def embedder(request: pytest.FixtureRequest) -> PageEmbedder:
    return CONTRACT[request.param]()


@pytest.fixture
def registered() -> Iterator[Callable[..., None]]:
    before = dict(registry._named)
    yield registry.register_embedder
    registry._named.clear()
    registry._named.update(before)


def pages() -> list[Page]:
    texts = ["A short page.", "Vectors of pages. " * 60, "中文页面", "Another one, with a table: 1 2 3"]
    picture = Image.new("RGB", (120, 160), "white")
    return [Page(doc_id="d", number=i, text=text, picture=picture) for i, text in enumerate(texts, 1)]


def test_members(embedder: PageEmbedder) -> None:
    assert isinstance(embedder, PageEmbedder)
    assert embedder.name
    assert embedder.kind in ("single", "multi")
    assert type(embedder.dimension) is int


OPTIONAL: dict[str, type] = {
    "fingerprint": plug.HasFingerprint,
    "instruction": plug.HasInstruction,
    "default_mode": plug.HasDefaultMode,
    "reads": plug.SaysWhatItReads,
    "embed_texts": plug.EmbedsTexts,
    "read_query": plug.ReadsQueries,
    "patch_grid": plug.HasPatches,
    "close": Closes,
}
"""Each optional member and the protocol that describes it."""
FROM_CHECKPOINT = {"fingerprint", "reads", "embed_texts", "close"}
LATE_INTERACTION = {"fingerprint", "reads", "patch_grid", "close"}
HAS: dict[str, set[str]] = {
    "ocr": {"fingerprint", "default_mode", "reads", "read_query"},
    "endpoint": {"instruction", "embed_texts", "close"},
    "visrag-ret": FROM_CHECKPOINT | {"instruction"},
    "minicpm-visual-embedding": FROM_CHECKPOINT | {"instruction"},
    "bge-vl-clip": FROM_CHECKPOINT,
    "bge-vl-mllm": FROM_CHECKPOINT | {"instruction"},
    "dse-qwen2": FROM_CHECKPOINT,
    "sentence-transformers": FROM_CHECKPOINT - {"reads"},
    "colqwen2": LATE_INTERACTION,
    "colpali": LATE_INTERACTION,
    "colmodernvbert": LATE_INTERACTION,
}
"""Which of them every embedder has, by what its model can do."""


@pytest.mark.parametrize("system", sorted(CONTRACT))
def test_optional_members_are_those_of_the_plug(system: str) -> None:
    """By their exact names: a member spelled otherwise would never be asked."""
    embedder = CONTRACT[system]()
    assert {name for name in OPTIONAL if hasattr(embedder, name)} == HAS[system]
    for name in HAS[system]:
        described = inspect.getattr_static(OPTIONAL[name], name)
        if isinstance(described, property):
            assert not callable(getattr(embedder, name))
        else:
            _, *wanted = inspect.signature(described).parameters
            assert list(inspect.signature(getattr(embedder, name)).parameters) == wanted


def test_optional_members_have_the_types_of_the_plug(embedder: PageEmbedder) -> None:
    fingerprint, instruction = plug.fingerprint_of(embedder), plug.instruction_of(embedder)
    assert type(fingerprint) is (str if hasattr(embedder, "fingerprint") else type(None))
    assert type(instruction) is (str if hasattr(embedder, "instruction") else type(None))
    assert plug.default_mode_of(embedder) in get_args(Mode)
    assert getattr(embedder, "reads", "pixels") in ("text", "pixels")
    assert plug.reads_pixels(embedder) is (embedder.name != "ocr")
    assert getattr(embedder, "pooling", None) in (None, "rows", "hierarchical")
    read = plug.read_query(embedder, Query("two words"))
    assert read == ("two words" if hasattr(embedder, "read_query") else None)


def test_patch_grids_lead_into_the_vectors_of_the_page(embedder: PageEmbedder) -> None:
    (page, *_) = pages()
    grid = plug.patch_grid_of(embedder, page)
    assert plug.has_patches(embedder) is (grid is not None)
    if grid is not None:
        (vectors,) = embedder.embed_pages([page])
        assert grid.indices.shape == (grid.rows, grid.columns)
        assert 0 <= grid.indices.min() <= grid.indices.max() < len(vectors)


def test_pages_without_a_picture_are_embedded_as_texts(embedder: PageEmbedder) -> None:
    """In the order of the pages, by whatever has `embed_texts`, and as it embeds the text by itself."""
    if not hasattr(embedder, "embed_texts"):
        pytest.skip("embeds pictures only, or reads the text of a page anyway")
    with_picture, without = pages()[0], Page(doc_id="d", number=9, text="Only a text.")
    first, middle, last = plug.embed_mixed(embedder, [without, with_picture, without])
    np.testing.assert_allclose(middle, embedder.embed_pages([with_picture])[0], atol=1e-5)
    (alone,) = embedder.embed_texts(["Only a text."])
    for vectors in (first, last):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, alone, atol=1e-5)


@pytest.mark.parametrize("system", sorted(set(CONTRACT) - {"ocr"}))
def test_a_closed_embedder_says_so_and_may_be_closed_again(system: str) -> None:
    if system == "endpoint":
        mine = load_embedder("a/model", system=system, base_url="http://127.0.0.1:9/v1")
    else:
        folder = CHECKPOINT if system in ("visrag-ret", "minicpm-visual-embedding") else tiny(system)
        mine = load_embedder(folder, system=system, device="cpu")
    close(mine)
    close(mine)
    for call in (mine.embed_pages, mine.embed_queries):
        with pytest.raises(EmbedderError, match="closed"):
            call([])


def test_shapes_and_types(embedder: PageEmbedder) -> None:
    made = [*embedder.embed_pages(pages()), *embedder.embed_queries(["one", Query("two")])]
    assert len(made) == 6
    for vectors in made:
        assert vectors.dtype == np.float32
        assert vectors.shape[-1] == embedder.dimension
        assert vectors.ndim == (1 if embedder.kind == "single" else 2)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-3)


def test_alone_is_the_same_as_in_a_batch(embedder: PageEmbedder) -> None:
    together = embedder.embed_pages(pages())
    for page, vectors in zip(pages(), together, strict=True):
        np.testing.assert_allclose(embedder.embed_pages([page])[0], vectors, atol=1e-5)
    for query, vectors in zip(["a", "b c"], embedder.embed_queries(["a", "b c"]), strict=True):
        np.testing.assert_allclose(embedder.embed_queries([query])[0], vectors, atol=1e-5)


def test_generators_are_read_once_and_nothing_gives_nothing(embedder: PageEmbedder) -> None:
    assert len(embedder.embed_pages(page for page in pages())) == 4
    assert len(embedder.embed_queries(text for text in ("x", "y"))) == 2
    assert embedder.embed_pages([]) == embedder.embed_queries([]) == []


def test_a_text_and_a_query_of_that_text_are_the_same(embedder: PageEmbedder) -> None:
    assert np.array_equal(*(embedder.embed_queries([query])[0] for query in ("what?", Query("what?"))))


def test_pictures_in_queries(embedder: PageEmbedder) -> None:
    """Alone and with a text; a model that cannot take both says so by name."""
    picture = Image.effect_noise((120, 90), 80).convert("RGB")
    alone = embedder.embed_queries([Query(image=picture), "a text between", Query(image=picture)])
    np.testing.assert_allclose(alone[0], alone[2], atol=1e-5)
    assert alone[0].shape[-1] == embedder.dimension
    if embedder is CONTRACT["sentence-transformers"]():
        with pytest.raises(EmbedderError, match=re.escape(embedder.name)):
            embedder.embed_queries([Query("a chart", picture)])
        return
    (composed,) = embedder.embed_queries([Query("a chart", picture)])
    assert composed.shape[-1] == embedder.dimension
    assert not np.array_equal(composed, alone[0])


def test_the_contract_is_held_by_every_system() -> None:
    # tests/test_vllm_embedders.py holds it for vLLM, with an engine; VDR and MCDSE are DSE's class with other prompts,
    # which tests/test_embedder_dse_qwen2.py holds.
    elsewhere = {"vllm", "vdr", "mcdse"}
    assert CONTRACT.keys() == registry.SYSTEMS.keys() - elsewhere | {"ocr"}


def test_threads_get_what_one_thread_gets(embedder: PageEmbedder) -> None:
    alone = [embedder.embed_queries([f"question {i}"])[0] for i in range(8)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda i: embedder.embed_queries([f"question {i}"])[0], range(8)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_async_gives_the_same(embedder: PageEmbedder) -> None:
    if not hasattr(embedder, "aembed_pages"):
        pytest.skip("has no async calls")

    async def both() -> list[list[np.ndarray]]:
        return await asyncio.gather(embedder.aembed_pages(pages()[:2]), embedder.aembed_queries(["x", Query("y")]))

    found = asyncio.run(both())
    for one, other in zip(found, (embedder.embed_pages(pages()[:2]), embedder.embed_queries(["x", "y"])), strict=True):
        for mine, its in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, its, atol=1e-5)


def test_pages_of_mixed_sizes_are_the_same_as_alone(embedder: PageEmbedder) -> None:
    pictures = [Image.effect_noise(size, 90).convert("RGB") for size in [(60, 140), (200, 90), (33, 33)]]
    mixed = [Page(doc_id="m", number=i, text=f"text {i}", picture=each) for i, each in enumerate(pictures, 1)]
    together = embedder.embed_pages(mixed)
    for page, vectors in zip(mixed, together, strict=True):
        np.testing.assert_allclose(embedder.embed_pages([page])[0], vectors, atol=1e-5)
    assert not any(np.array_equal(one, other) for one, other in pairwise(together))


def test_the_same_again_is_the_same(embedder: PageEmbedder) -> None:
    for one, other in zip(embedder.embed_pages(pages()), embedder.embed_pages(pages()), strict=True):
        assert np.array_equal(one, other)


def test_texts_of_any_writing(embedder: PageEmbedder) -> None:
    for vectors in embedder.embed_queries(["Ελληνικά عربى 한국어 🙂‍↔️", "\x00 \ufffd", "<image> <|endoftext|>"]):
        assert np.isfinite(vectors).all()


def test_a_query_of_100_kb_works(embedder: PageEmbedder) -> None:
    (vectors,) = embedder.embed_queries(["many words " * 9_000])
    assert np.isfinite(vectors).all()


def test_every_system_is_a_module_that_is_there() -> None:
    assert set(registry.CHECKPOINTS.values()) <= set(registry.SYSTEMS)
    assert set(registry.ARCHITECTURES.values()) <= set(registry.SYSTEMS)
    for target in [*registry.SYSTEMS.values(), *registry._named.values()]:
        assert isinstance(target, str)
        module, _, attribute = target.partition(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None, target
        assert spec.origin is not None
        assert f"class {attribute}" in Path(spec.origin).read_text(encoding="utf-8"), target


def test_settings_reach_the_embedder() -> None:
    assert vars(load_embedder("ocr", chunk_size=80, chunk_overlap=0))["chunk_size"] == 80


def test_a_missing_package_names_its_pip_command(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(torch=None); import visrag_integrations.embedders as e\n"
        "from visrag_integrations.errors import MissingExtraError\n"
        "for system in set(e.SYSTEMS) - {'endpoint', 'sentence-transformers', 'vllm'}:\n"
        "    try: e.load_embedder('x/y', system=system)\n"
        "    except MissingExtraError as err: print(system, err)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    assert set(lines) == set(registry.SYSTEMS) - {"endpoint", "sentence-transformers", "vllm"}, run.stderr
    assert all('pip install "visrag-integrations[torch]"' in line for line in lines.values())


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"'orc'.*There are:.*ocr.*openbmb/VisRAG-Ret"):
        load_embedder("orc")
    with pytest.raises(UnknownNameError, match=r"'visrag'.*There are:.*visrag-ret"):
        load_embedder("any/name", system="visrag")


def write_config(folder: Path, config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


class Recorder:
    """An embedder's class that only remembers how it was called."""

    name = "recorded"

    def __init__(self, *args: object, **settings: object) -> None:
        self.args, self.settings = args, settings


def test_a_folder_is_recognised_by_its_config_not_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SYSTEMS, "visrag-ret", "test_embedders:Recorder")
    folder = write_config(tmp_path / "ocr", {"architectures": ["VisRAG_Ret"]})
    made = vars(load_embedder(folder, device="cpu"))
    assert made == {"args": (str(folder),), "settings": {"device": "cpu"}}
    odd = write_config(tmp_path / "odd", {"architectures": ["MiniCPMV"]})
    assert vars(load_embedder(str(odd), system="visrag-ret"))["args"] == (str(odd),)


@pytest.mark.parametrize(
    "config", [{"architectures": ["Other"]}, {}, {"architectures": "VisRAG_Ret"}, [1], {"architectures": [3]}]
)
def test_a_folder_of_no_known_architecture_asks_for_its_system(tmp_path: Path, config: object) -> None:
    with pytest.raises(UnknownNameError, match=r"recognised: .*VisRAG_Ret.*system=.*minicpm-visual-embedding"):
        load_embedder(write_config(tmp_path / "model", config))


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_embedder(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_embedder(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        load_embedder(tmp_path / "config.json")


def test_a_registered_name_is_found_and_not_taken_twice(registered: Callable[..., None]) -> None:
    registered("mine", Recorder)
    assert vars(load_embedder("mine", size=3)) == {"args": (), "settings": {"size": 3}}
    assert "mine" in registry.embedder_names()
    for name in ("mine", "ocr", "openbmb/VisRAG-Ret"):
        with pytest.raises(SettingError, match="replace=True"):
            registered(name, Recorder)
    registered("mine", "test_embedders:Recorder", replace=True)
    assert type(load_embedder("mine")).__name__ == "Recorder"


@pytest.mark.parametrize(("name", "factory"), [(" ", Recorder), ("x", "no_colon"), ("x", "module:"), ("x", ":Class")])
def test_registering_nonsense_is_refused(registered: Callable[..., None], name: str, factory: object) -> None:
    with pytest.raises(SettingError):
        registered(name, factory)
