"""Pages as pictures on a processor: the embedder in each precision, and `--preset cpu-visual`."""

from __future__ import annotations

import json
import subprocess
import sys
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
from visrag_integrations.cli import loading, main, model_names, pace, presets
from visrag_integrations.embedders import cpu_visual, fast_cpu, int8_linear
from visrag_integrations.embedders.colmodernvbert import ColModernVBertEmbedder
from visrag_integrations.embedders.cpu_visual import CPUVisualEmbedder
from visrag_integrations.embedders.fast_vision import FastEncoder
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


def test_float32_is_the_network_as_it_is() -> None:
    """The oracle: the same checkpoint as `colmodernvbert` reads it, on pictures of the same size."""
    plain = ColModernVBertEmbedder(tiny("colmodernvbert"), device="cpu")
    plain._processor.image_processor.size = {"longest_edge": 112}
    with plain, made(precision="float32") as exact:
        for found, expected in zip(exact.embed_pages(PAGES), plain.embed_pages(PAGES), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        for found, expected in zip(exact.embed_queries(["how many?"]), plain.embed_queries(["how many?"]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", ["int8", "bfloat16", "int8 without oneDNN", "int8 without bfloat16"])
def test_the_fast_ways_are_near_it(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "int8 without oneDNN":
        monkeypatch.setattr(int8_linear, "has_fused_int8", lambda: False)
    if way == "int8 without bfloat16":
        monkeypatch.setattr(fast_cpu, "has_bfloat16", lambda: False)
    precision: Any = way.split()[0]
    with made(precision="float32") as exact, made(precision=precision) as fast:
        for found, expected in zip(fast.embed_pages(PAGES), exact.embed_pages(PAGES), strict=True):
            cosines = (np.asarray(found) * np.asarray(expected)).sum(-1)
            assert cosines.min() >= 0.995
            assert np.abs(np.asarray(found) - np.asarray(expected)).max() > 0
            np.testing.assert_allclose(np.linalg.norm(np.asarray(found), axis=-1), 1, atol=1e-5)


def test_vectors_of_int8_and_float32_are_of_one_index() -> None:
    """Pages in one and queries in the other: the same name, and the order of float32 wherever scores differ."""
    pages = [*PAGES, drawn(4), drawn(5, (280, 100)), drawn(6, (60, 300))]
    queries = ["how many?", "the anchor of the ship", "1996"]
    with made(precision="float32") as exact, made(precision="int8") as fast:
        assert exact.fingerprint == fast.fingerprint
        asked = exact.embed_queries(queries)
        float_pages, fast_pages = exact.embed_pages(pages), fast.embed_pages(pages)
    for query in asked:
        expected = [max_similarity(query, page) for page in float_pages]
        found = [max_similarity(query, page) for page in fast_pages]
        # Weights are random, and pages are much alike: the order holds for those a tenth of all differences apart.
        least = (max(expected) - min(expected)) / 10
        for one in range(len(pages)):
            for other in range(len(pages)):
                if expected[one] - expected[other] > least:
                    assert found[one] > found[other]


def max_similarity(query: Any, page: Any) -> float:
    return float((np.asarray(query) @ np.asarray(page).T).max(axis=1).sum())


def test_int8_is_in_both_towers() -> None:
    with made(precision="int8") as embedder:
        kinds = [type(module).__name__ for module in embedder.module.modules()]
        tower = embedder.module.vlm.vision_model  # type: ignore[union-attr]
        assert isinstance(tower.encoder, FastEncoder)
    assert kinds.count("FusedInt8Linear") + kinds.count("PlainInt8Linear") > 10
    assert kinds.count("Linear") <= 1  # the last one


def test_another_tower_keeps_its_layers_with_int8_in_them() -> None:
    with made(precision="float32") as exact:
        network: Any = exact.module
        tower = network.vlm.vision_model
        kept = type("AnotherEncoder", (torch.nn.Module,), {"forward": type(tower.encoder).forward})()
        kept.layers, kept.config = tower.encoder.layers, tower.encoder.config
        tower.encoder = kept
        expected = exact.embed_pages(PAGES[:1])[0]
        fast_cpu.make_fast(network, "int8")
        assert tower.encoder is kept
        found = exact.embed_pages(PAGES[:1])[0]
    assert (np.asarray(found) * np.asarray(expected)).sum(-1).min() >= 0.995
    assert np.abs(np.asarray(found) - np.asarray(expected)).max() > 0


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


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "cpu_visual.py"
    command = [sys.executable, str(script), "--quick", "--ways", "float32", "int8"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[2] for line in lines[:2]] == ["float32", "int8"]
    cosine = float(lines[1][lines[1].index("least") + 1])
    assert 0.99 < cosine < 1
    memory = [json.loads(line) for line in done.stdout.splitlines()[2:]]
    assert [found["way"] for found in memory] == ["float32", "int8"]
    assert all(found["after_a_page_mb"] > 50 for found in memory)


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
    assert model_names.checkpoint_of("cpu-visual") == cpu_visual.CHECKPOINT


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
