"""Pages as pictures on a processor: int8 layers, bfloat16 attention, the embedder, and `--preset cpu-visual`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawing import draw_pdf
from PIL import Image, ImageDraw
from scripted_server import serving
from tiny_retrievers import tiny

from visrag_integrations import Page, load_embedder
from visrag_integrations.cli import loading, main, pace, presets
from visrag_integrations.embedders import cpu_visual, fast_cpu
from visrag_integrations.embedders.colmodernvbert import ColModernVBertEmbedder
from visrag_integrations.embedders.cpu_visual import CPUVisualEmbedder
from visrag_integrations.embedders.fast_cpu import Int8Linear, bfloat16_attention
from visrag_integrations.errors import SettingError
from visrag_integrations.ingestion import IndexProgress


def drawn(number: int, size: tuple[int, int] = (200, 280)) -> Page:
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).text((20, 20 * number), f"page {number}", "black", font_size=30)
    return Page.from_image(picture, doc_id="d", number=number)


PAGES = [drawn(1), drawn(2, (280, 200)), drawn(3, (90, 90))]


def made(**settings: Any) -> CPUVisualEmbedder:
    return CPUVisualEmbedder(tiny("colmodernvbert"), **{"longest_edge": 112, **settings})


# --- what makes it fast -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 40), (2, 5, 40), (1, 40)])
def test_an_int8_layer_is_the_layer_within_its_steps(bias: bool, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    linear = torch.nn.Linear(40, 24, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(24, 40, generator=generator))
        linear.weight[3] = 0
    inputs = torch.randn(*shape, generator=generator)
    with torch.no_grad():
        expected = linear(inputs)
        found = Int8Linear(linear)(inputs)
    # Half a step of each weight, times what it is multiplied with, and half a step of each input, times its weight.
    step = (linear.weight.abs().amax(1) / 127).detach()
    of_inputs = (inputs.max().clamp(min=0) - inputs.min().clamp(max=0)) / (255 if fast_cpu.has_vnni() else 127)
    bound = step / 2 * inputs.abs().sum(-1, keepdim=True) + of_inputs * linear.weight.detach().abs().sum(1) + 1e-4
    assert found.dtype == torch.float32
    assert ((found - expected).abs() <= bound).all()
    assert (found - expected).abs().max() > 0  # it is int8


def test_attention_in_bfloat16_is_torchs_own() -> None:
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(2, 3, 50, 16, generator=generator) for _ in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    found, weights = bfloat16_attention(torch.nn.Identity(), query, key, value, None, scaling=0.25)
    assert weights is None
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)


def test_float32_is_the_network_as_it_is() -> None:
    """The oracle: the same checkpoint as `colmodernvbert` reads it, on pictures of the same size."""
    plain = ColModernVBertEmbedder(tiny("colmodernvbert"), device="cpu")
    plain._processor.image_processor.size = {"longest_edge": 112}
    with plain, made(precision="float32") as exact:
        for found, expected in zip(exact.embed_pages(PAGES), plain.embed_pages(PAGES), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        for found, expected in zip(exact.embed_queries(["how many?"]), plain.embed_queries(["how many?"]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_the_fast_ways_are_near_it(precision: Any) -> None:
    with made(precision="float32") as exact, made(precision=precision) as fast:
        for found, expected in zip(fast.embed_pages(PAGES), exact.embed_pages(PAGES), strict=True):
            cosines = (np.asarray(found) * np.asarray(expected)).sum(-1)
            assert cosines.min() > 0.99
            assert np.abs(np.asarray(found) - np.asarray(expected)).max() > 0
            np.testing.assert_allclose(np.linalg.norm(np.asarray(found), axis=-1), 1, atol=1e-5)


def test_int8_is_in_both_towers_and_attention_where_the_processor_has_it() -> None:
    with made(precision="int8") as embedder:
        kinds = [type(module).__name__ for module in embedder.module.modules()]
        tower = embedder.module.vlm.vision_model.config._attn_implementation  # type: ignore[union-attr]
    assert kinds.count("Int8Linear") > 10
    assert kinds.count("Linear") <= 1  # the last one
    assert (tower == fast_cpu.ATTENTION) == fast_cpu.has_bfloat16()


def test_a_page_is_the_same_alone_and_among_others() -> None:
    with made(precision="int8") as embedder:
        together = embedder.embed_pages(PAGES)
        for page, expected in zip(PAGES, together, strict=True):
            np.testing.assert_array_equal(embedder.embed_pages([page])[0], expected)
        queries = ["how many?", "a longer question about the second page"]
        both = embedder.embed_queries(queries)
        for query, expected in zip(queries, both, strict=True):
            np.testing.assert_array_equal(embedder.embed_queries([query])[0], expected)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="precision is 'int4'; it is one of: int8, bfloat16, float32"):
        made(precision="int4")
    with pytest.raises(SettingError, match="longest_edge is 0"):
        made(longest_edge=0)


@pytest.mark.parametrize(
    ("int8", "bfloat16", "best"),
    [(True, True, "int8"), (True, False, "int8"), (False, True, "bfloat16"), (False, False, "float32")],
)
def test_the_best_that_is_there_is_taken(
    int8: bool, bfloat16: bool, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_cpu, "has_int8", lambda: int8)
    monkeypatch.setattr(fast_cpu, "has_bfloat16", lambda: bfloat16)
    assert fast_cpu.best_precision() == best


# --- the embedder -----------------------------------------------------------------------------------------------------


def test_the_size_of_pictures_decides_how_many_vectors_there_are() -> None:
    with made(longest_edge=56) as small, made(longest_edge=112) as large:
        assert len(small.embed_pages(PAGES[:1])[0]) < len(large.embed_pages(PAGES[:1])[0])
        assert small.fingerprint != large.fingerprint
        assert small.fingerprint.endswith("-56px")


def test_it_is_searched_with_the_words_too() -> None:
    with made() as embedder:
        assert (embedder.name, embedder.kind, embedder.default_mode) == ("cpu-visual", "multi", "hybrid")
        grid = embedder.patch_grid(PAGES[0])
        assert grid.rows * grid.columns > 4


def test_it_has_a_name() -> None:
    with load_embedder("cpu-visual", model_name_or_path=tiny("colmodernvbert"), longest_edge=56) as embedder:
        assert embedder.name == "cpu-visual"
    assert loading.checkpoint_of("cpu-visual") == cpu_visual.CHECKPOINT


# --- how long it takes ------------------------------------------------------------------------------------------------


class Slow:
    """Counts calls; the clock of `pace` runs as it says."""

    name, default_mode = "slow", "hybrid"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def embed_pages(self, pages: Any) -> list[Any]:
        found = list(pages)
        self.calls.append(len(found))
        return [page.number for page in found]


@pytest.mark.parametrize(("seconds", "said"), [(3.1, "about 3.1 s on this machine (5 min for a hundred)"), (0.1, "")])
def test_the_first_page_is_measured(
    seconds: float, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([10.0, 10.0 + seconds])
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(clock))
    slow = Slow()
    paced = pace.Paced(slow)
    assert paced.embed_pages(iter(PAGES)) == [1, 2, 3]
    assert paced.embed_pages(PAGES[:2]) == [1, 2]
    assert slow.calls == [1, 2, 2]
    assert (said in capsys.readouterr().err) if said else (capsys.readouterr().err == "")
    assert paced.default_mode == "hybrid"
    assert paced.embed_pages([]) == []


def test_what_is_left_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    estimate = pace.Estimate()
    for second, left in ((30, 300.0), (61, None), (62, 420.0), (70, 400.0), (130, 60.0)):
        now[0] = float(second)
        estimate(IndexProgress(pages=second, seconds=float(second), seconds_left=left))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "visrag: 62 pages are indexed; about 7 min to go.", "visrag: 130 pages are indexed; about 60 s to go.",
    ]  # fmt: skip


# --- the preset -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    draw_pdf(folder / "boats.pdf", ["The harbour holds forty sailing boats.", "Anchors weigh two hundred pounds."])
    return folder


@pytest.fixture
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset on a tiny checkpoint with random weights."""
    monkeypatch.setattr(cpu_visual, "CHECKPOINT", tiny("colmodernvbert"))
    monkeypatch.setattr(pace, "WORTH_SAYING", 0.0)


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with serving() as (url, requests):
        yield url, requests


@pytest.mark.usefixtures("tiny_preset")
def test_index_search_and_ask(place: Path, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url, requests = server
    at = ["--index", str(place / "index")]
    began = time.monotonic()
    assert main(["index", str(place / "boats.pdf"), "--preset", "cpu-visual", *at]) == 0
    assert "a page takes about" in capsys.readouterr().err
    assert time.monotonic() > began
    assert main(["search", "anchors weigh pounds", "--json", *at]) == 0
    found = json.loads(capsys.readouterr().out)["pages"]
    assert found[0]["page"] == 2  # the words decide where weights are random
    words = ["--preset", "cpu-visual", "--generator", url, "--model", "a-vlm", "-k", "1", *at]
    assert main(["ask", "How many sailing boats?", *words]) == 0
    assert requests[-1]["model"] == "a-vlm"
    content = requests[-1]["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[0]["text"] == "How many sailing boats?"  # the prompt for general models
    assert main(["index", str(place / "boats.pdf"), "--preset", "cpu", *at]) == 2
    assert "was filled by 'cpu-visual'" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny_preset")
def test_the_presets_own_generator_runs_on_the_processor(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visrag_integrations import generation

    class Stop(Exception):
        pass

    def stop(name: str, **settings: Any) -> Any:
        raise Stop(name, settings)

    monkeypatch.setattr(generation, "load_generator", stop)
    at = ["--index", str(place / "of-ask")]
    assert main(["index", str(place / "boats.pdf"), "--preset", "cpu-visual", *at]) == 0
    with pytest.raises(Stop) as raised:
        main(["ask", "How many?", "--preset", "cpu-visual", *at])
    expected = ("Qwen/Qwen2.5-VL-3B-Instruct", {"engine": "transformers", "device": "cpu"})
    assert raised.value.args == expected
    assert presets.PRESETS["cpu-visual"] == ("cpu-visual", expected[0])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ModernVBERT/colmodernvbert-merged", "fetching ModernVBERT/colmodernvbert-merged from the hub, about 500 MB"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "fetching Qwen/Qwen2.5-VL-3B-Instruct from the hub, about 7.6 GB"),
        ("my-org/mine", "fetching my-org/mine from the hub; it is kept"),
        ("visrag-ret:my-org/mine-3B", "fetching my-org/mine-3B from the hub, about 6.0 GB"),
        ("ocr", ""),
        ("http://localhost:8000/v1", ""),
        ("./mine/model", ""),
    ],
)
def test_what_is_fetched_is_said_with_its_size(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "is_offline", lambda: False)
    monkeypatch.setattr(loading, "is_cached", lambda name: False)
    monkeypatch.setattr(loading, "bytes_on_hub", lambda name: None)
    loading.say_what_is_fetched(name)
    err = capsys.readouterr().err
    assert said in err
    assert bool(err) == bool(said)
    # The hub's own list of files is more exact than what is known here.
    if said:
        monkeypatch.setattr(loading, "bytes_on_hub", lambda name: 1_234_000_000)
        loading.say_what_is_fetched(name)
        assert "about 1.2 GB" in capsys.readouterr().err
    monkeypatch.setattr(loading, "is_cached", lambda name: True)
    loading.say_what_is_fetched(name)
    assert capsys.readouterr().err == ""
