"""`--preset`, `--embedder`, `--device`: an index that another model filled, and large models where there is no GPU."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from fakes import ScriptedGenerator

from visrag_integrations import cli, embedders, generation, load_embedder
from visrag_integrations.cli import gpu_memory, loading, machine, main, model_sizes, presets
from visrag_integrations.embedders import devices
from visrag_integrations.interfaces.closing import close

ROOT = Path(__file__).parent.parent


class NothingIsLoaded(Exception):
    """A model would have been fetched."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a document and an index that OCR's words filled."""
    folder = tmp_path_factory.mktemp("filled")
    draw_pdf(folder / "boats.pdf", ["The harbour holds forty sailing boats."])
    held = load_embedder("ocr", shared=True)
    assert main(["index", str(folder / "boats.pdf"), "--index", str(folder / "index"), "--preset", "cpu"]) == 0
    yield folder
    close(held)


@pytest.fixture
def place(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(filled)
    return filled


@pytest.fixture(autouse=True)
def no_model_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever gets as far as making a model of the hub raises, which no command expects."""

    def refuse(*arguments: Any, **settings: Any) -> Any:
        raise NothingIsLoaded(arguments, settings)

    for system in embedders.SYSTEMS:
        monkeypatch.setitem(embedders.SYSTEMS, system, refuse)
    monkeypatch.setattr(embedders, "_resolve", _resolved(embedders._resolve))
    monkeypatch.setattr(generation, "_engine", refuse)
    monkeypatch.setattr(generation, "_named_engine", refuse)
    monkeypatch.setattr(model_sizes, "bytes_on_hub", lambda name: None)
    monkeypatch.setattr(loading, "bytes_on_hub", lambda name: None)


def _resolved(resolve: Any) -> Any:
    return lambda factory: factory if callable(factory) else resolve(factory)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)


class Terminal(io.StringIO):
    """Standard input with somebody at it."""

    def isatty(self) -> bool:
        return True


def somebody_types(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(text))
    monkeypatch.setattr(loading, "somebody_is_there", lambda: True)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


# --- an index that another model filled -----------------------------------------------------------------------------

ANOTHER = [
    (["--preset", "gpu"], "--preset gpu"),
    (["--embedder", "openbmb/VisRAG-Ret"], "--embedder openbmb/VisRAG-Ret"),
    (["--embedder", "BAAI/BGE-VL-base"], "--embedder BAAI/BGE-VL-base"),
    (["--embedder", "nomic-ai/colnomic-embed-multimodal-7b"], "--embedder nomic-ai/colnomic-embed-multimodal-7b"),
    (["--embedder", "sentence-transformers:my-org/my-model"], "--embedder sentence-transformers:my-org/my-model"),
    (["--embedder", "endpoint:my-org/my-model"], "--embedder endpoint:my-org/my-model"),
    (["--preset", "gpu", "--embedder", "BAAI/BGE-VL-base"], "--embedder BAAI/BGE-VL-base"),
]


@pytest.mark.usefixtures("place", "a_gpu")
@pytest.mark.parametrize(("options", "said"), ANOTHER)
@pytest.mark.parametrize("command", ["index", "ask"])
def test_pages_are_not_added_to_an_index_of_another_model(
    capsys: pytest.CaptureFixture[str], command: str, options: list[str], said: str
) -> None:
    words = {
        "index": ["index", "boats.pdf"],
        "ask": ["ask", "How many boats?", "boats.pdf", "--generator", "extractive"],
    }
    code, out, err = run(capsys, *words[command], "--index", "index", *options)
    assert code == 2
    assert out == ""
    assert "'ocr'" in err
    assert f"visrag reindex {said} --index index" in err
    assert "another --index" in err


@pytest.mark.usefixtures("a_gpu")
def test_eval_does_not_mix_either(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "q.jsonl").write_text('{"id": "1", "query": "boats?", "answer": "forty", "relevant": ["boats.pdf:1"]}\n')
    words = [
        "eval",
        "retrieval",
        "q.jsonl",
        "--documents",
        "boats.pdf",
        "--quiet",
        "--index",
        "index",
        "--collection",
        "pages",
    ]
    code, _, err = run(capsys, *words, "--preset", "gpu")
    assert code == 2
    assert "visrag reindex --preset gpu --index index" in err


@pytest.mark.usefixtures("place", "no_gpu")
@pytest.mark.parametrize("options", [["--preset", "cpu"], ["--preset", "auto"], [], ["--embedder", "ocr"]])
def test_the_model_that_filled_it_goes_on(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    code, out, _ = run(capsys, "index", "boats.pdf", "--index", "index", *options)
    assert code == 0
    assert "0 added, 1 unchanged" in out


@pytest.mark.usefixtures("place", "a_gpu")
def test_a_search_of_another_preset_says_how_pages_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "search", "boats", "--index", "index", "--preset", "gpu")
    assert code == 0
    assert "boats.pdf, page 1" in out
    (line,) = err.splitlines()
    assert "searching by text with the embedder 'ocr': this index was not made with the gpu preset" in line
    assert "visrag reindex --preset gpu --index index" in line
    for fitting in ("cpu", "auto"):
        assert run(capsys, "search", "boats", "--index", "index", "--preset", fitting)[2] == ""


@pytest.mark.usefixtures("place", "a_gpu")
def test_what_answers_may_be_of_another_preset_but_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ask", "How many sailing boats?", "--index", "index", "--preset", "gpu", "--generator", "extractive"]
    code, out, err = run(capsys, *words)
    assert code == 0
    assert "forty" in out
    assert "searching by text with the embedder 'ocr'" in err


@pytest.mark.usefixtures("place", "a_gpu")
def test_reindex_takes_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NothingIsLoaded, match="openbmb/VisRAG-Ret"):
        main(["reindex", "--preset", "gpu", "--index", "index"])


def test_the_collection_is_named_where_it_is_not_the_usual_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ["--index", "in dex", "--collection", "mine"]
    assert run(capsys, "index", "boats.pdf", "--preset", "cpu", *other)[0] == 0
    err = run(capsys, "index", "boats.pdf", "--preset", "gpu", *other)[2]
    assert "visrag reindex --preset gpu --index 'in dex' --collection mine" in err


# --- large models where there is no GPU -----------------------------------------------------------------------------

LARGE_ONES = [
    (["ask", "foo?", "--index", "index", "--preset", "gpu"], "openbmb/EVisRAG-7B needs about 16 GB"),
    (["ask", "foo?", "boats.pdf", "--index", "new", "--preset", "gpu"], "openbmb/EVisRAG-7B needs about 16 GB"),
    (["ask", "foo?", "--index", "index", "--generator", "autumncc/Qwen2.5-VL-7B-VRAG"], "VRAG needs about 16 GB"),
    (["index", "boats.pdf", "--index", "new", "--preset", "gpu"], "openbmb/VisRAG-Ret needs about 6.8 GB"),
    (["index", "boats.pdf", "--index", "new", "--embedder", "vidore/colpali-v1.3"], "needs about 5.8 GB"),
    (["index", "boats.pdf", "--index", "new", "--embedder", "visrag-ret:openbmb/VisRAG-Ret"], "needs about 6.8 GB"),
    (["reindex", "--index", "index", "--preset", "gpu"], "openbmb/VisRAG-Ret needs about 6.8 GB"),
    (["reindex", "--index", "index", "--embedder", "Qwen/Qwen3-VL-Embedding-8B"], "needs about 16 GB"),
    (["serve", "--index", "index", "--preset", "gpu", "--port", "0"], "openbmb/EVisRAG-7B needs about 16 GB"),
    (["mcp", "--index", "index", "--preset", "gpu"], "openbmb/EVisRAG-7B needs about 16 GB"),
    (["demo", "--folder", "bases", "--preset", "gpu"], "openbmb/VisRAG-Ret needs about 6.8 GB"),
    (["demo", "--folder", "bases", "--embedder", "ocr", "--generator", "openbmb/EVisRAG-3B"], "needs about 7.6 GB"),
    (["eval", "queries", "boats.pdf", "--out", "q.jsonl", "--generator", "openbmb/EVisRAG-7B"], "needs about 16 GB"),
]


@pytest.mark.usefixtures("place", "no_gpu")
@pytest.mark.parametrize(("words", "said"), LARGE_ONES)
def test_a_large_model_is_not_fetched_for_a_processor(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert "No GPU was found" in err
    assert said in err
    assert "--device cpu" in err
    assert "--preset cpu" in err or "--generator URL" in err


@pytest.mark.usefixtures("no_gpu")
def test_answers_of_a_set_are_refused_before_anything_is_indexed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "q.jsonl").write_text('{"id": "1", "query": "boats?", "answer": "forty", "relevant": ["boats.pdf:1"]}\n')
    words = ["eval", "answers", "q.jsonl", "--documents", "boats.pdf", "--index", "of-the-set", "--preset", "gpu"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "openbmb/EVisRAG-7B needs about 16 GB" in err
    assert not (place / "of-the-set").exists()


@pytest.mark.usefixtures("place", "no_gpu")
@pytest.mark.parametrize("words", [words for words, _ in LARGE_ONES if words[0] not in ("demo", "mcp")])
def test_with_device_cpu_it_is(words: list[str]) -> None:
    with pytest.raises(NothingIsLoaded):
        main([*words, "--device", "cpu"])


@pytest.mark.usefixtures("place", "no_gpu")
def test_the_device_goes_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NothingIsLoaded) as raised:
        main(["index", "boats.pdf", "--index", "new", "--preset", "gpu", "--device", "cpu"])
    assert raised.value.args == (("openbmb/VisRAG-Ret",), {"device": "cpu"})
    taken: dict[str, Any] = {}
    monkeypatch.setattr(generation, "load_generator", lambda name, **settings: taken.update(settings) or _stop(name))
    with pytest.raises(NothingIsLoaded):
        main(["ask", "foo?", "--index", "index", "--preset", "gpu", "--device", "cpu"])
    assert taken == {"engine": "transformers", "device": "cpu"}


@pytest.fixture
def gpu(place: Path, a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A GPU of 80 GiB with vLLM, as far as the command line looks; the sizes that the driver says can be changed."""
    sizes = ["NVIDIA A100, 81920 MiB"]
    monkeypatch.setattr(machine, "_gpus", lambda: tuple(sizes))
    for module in (loading, gpu_memory):
        monkeypatch.setattr(module, "find_spec", lambda name: name)
    return sizes


SHARES = [
    (["--preset", "gpu"], {"gpu_memory_utilization": 0.78}),
    (["--preset", "gpu", "--device", "cuda"], {"gpu_memory_utilization": 0.78}),
    (["--preset", "gpu", "--gpu-memory", "0.5"], {"gpu_memory_utilization": 0.5}),
    (["--preset", "gpu", "--embedder", "visrag-ret:openbmb/VisRAG-Ret"], {"gpu_memory_utilization": 0.78}),
    (["--preset", "gpu", "--embedder", "cpu-visual"], {}),
    (["--preset", "gpu", "--embedder", "ocr"], {}),
    (["--preset", "gpu", "--embedder", "ocr", "--gpu-memory", "0.7"], {"gpu_memory_utilization": 0.7}),
    (["--preset", "gpu", "--device", "cpu"], {"engine": "transformers", "device": "cpu"}),
]


@pytest.mark.parametrize(("words", "settings"), SHARES)
def test_vllm_leaves_room_for_an_embedder_on_the_same_gpu(
    gpu: list[str], words: list[str], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[str, Any] = {}
    monkeypatch.setattr(generation, "load_generator", lambda name, **given: taken.update(given) or _stop(name))
    arguments = cli._parser().parse_args(["ask", "foo?", *words])
    embedder = arguments.embedder or "openbmb/VisRAG-Ret"
    with pytest.raises(NothingIsLoaded):
        loading.load_generator(arguments, "openbmb/EVisRAG-7B", beside=embedder)
    assert taken == settings


PAIR = "openbmb/VisRAG-Ret|my-org/small-1b"


def share_of(words: list[str], monkeypatch: pytest.MonkeyPatch, **beside: Any) -> Any:
    """What vLLM is told to take for the generator of the gpu preset."""
    taken: dict[str, Any] = {}
    monkeypatch.setattr(generation, "load_generator", lambda name, **given: taken.update(given) or _stop(name))
    arguments = cli._parser().parse_args(["ask", "foo?", "--preset", "gpu", *words])
    with pytest.raises(NothingIsLoaded):
        loading.load_generator(arguments, "openbmb/EVisRAG-7B", **beside)
    return taken.get("gpu_memory_utilization")


def room(*weights: float) -> float:
    """What is left of 0.9 of 80 GiB beside one and a half times these weights."""
    return math.floor((0.9 - 1.5 * sum(weights) / (80 * 2**30)) * 100) / 100


def test_of_a_pair_both_models_have_room_where_pages_are_embedded(
    gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for fills, weights in ((True, (6.8e9, 2e9)), (False, (2e9,))):
        assert share_of([], monkeypatch, beside=PAIR, fills=fills) == room(*weights)
    served = ["--embedder-url", "http://127.0.0.1:9/v1"]  # the half that embeds pages
    assert share_of(served, monkeypatch, beside=PAIR, fills=True) == room(2e9)


def test_a_reranker_on_the_same_gpu_has_room_too(gpu: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--rerank", "my-org/reranker-4b"]
    assert share_of(words, monkeypatch, beside="openbmb/VisRAG-Ret") == room(6.8e9, 8e9)
    assert share_of(words, monkeypatch, beside="ocr") == room(8e9)
    for elsewhere in (["--rerank-url", "http://127.0.0.1:9"], ["--rerank", "http://127.0.0.1:9/rerank"]):
        assert share_of([*words, *elsewhere], monkeypatch, beside="openbmb/VisRAG-Ret") == room(6.8e9)


def write_weights(folder: Path, size: int, name: str = "model.safetensors") -> str:
    """A file of so many bytes, all of them a hole."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("wb") as file:
        file.truncate(size)
    return str(folder)


def test_a_folder_with_a_checkpoint_has_the_room_of_its_files(
    gpu: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = write_weights(tmp_path / "own", 3 * 2**30, "model-00001-of-00002.safetensors")
    write_weights(tmp_path / "own", 2**30, "model-00002-of-00002.safetensors")
    write_weights(tmp_path / "own" / "checkpoint-50", 2**33)  # of the run that made it
    assert share_of([], monkeypatch, beside=own) == room(4 * 2**30)

    library = write_weights(tmp_path / "library", 2**30)
    write_weights(tmp_path / "library" / "2_Dense", 2**29)
    (tmp_path / "library" / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]')
    assert share_of([], monkeypatch, beside=f"sentence-transformers:{library}") == room(1.5 * 2**30)

    for base, weights in (("openbmb/VisRAG-Ret", 6.8e9), (own, 4 * 2**30)):
        adapter = write_weights(tmp_path / "adapter", 2**28, "adapter_model.safetensors")
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        assert share_of([], monkeypatch, beside=adapter) == room(2**28, weights)


def test_a_model_of_an_unknown_size_is_said(
    gpu: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    adapter = write_weights(tmp_path / "adapter", 2**28, "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "my-org/mine"}')
    for name in ("my-org/mine", str(tmp_path / "empty"), adapter):
        assert share_of([], monkeypatch, beside=name) is None
        said = capsys.readouterr().err
        assert f"how much of the GPU {name} needs is not known" in said
        assert "--gpu-memory 0.6" in said


def test_the_driver_is_asked_only_for_a_neighbour(gpu: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_gpus", lambda: _stop("nvidia-smi"))
    taken: dict[str, Any] = {}
    monkeypatch.setattr(generation, "load_generator", lambda name, **given: taken.update(given, name=name))
    arguments = cli._parser().parse_args(["ask", "foo?", "--preset", "gpu"])
    for beside in ("", "ocr", "cpu-visual", "endpoint:my-org/served"):
        loading.load_generator(arguments, "openbmb/EVisRAG-7B", beside=beside)
    assert taken == {"name": "openbmb/EVisRAG-7B"}
    with pytest.raises(NothingIsLoaded, match="nvidia-smi"):
        loading.load_generator(arguments, "openbmb/EVisRAG-7B", beside="openbmb/VisRAG-Ret")


# --- two generators in one process ------------------------------------------------------------------------------------

QUESTIONS = '{"id": "1", "query": "boats?", "answer": "forty", "relevant": ["boats.pdf:1"]}\n'


def two(command: str) -> list[str]:
    """A command with the generator of the gpu preset and another."""
    if command == "demo":
        return ["demo", "--preset", "gpu", "--embedder", "ocr", "--also", "my-org/judge-1b"]
    return ["eval", "answers", "q.jsonl", "--documents", "boats.pdf", "--preset", "gpu", "--judge", "my-org/judge-1b"]


@pytest.fixture
def loaded(gpu: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The generators that were loaded, and how; the second one ends it."""
    (place / "q.jsonl").write_text(QUESTIONS)
    taken: dict[str, dict[str, Any]] = {}

    def take(name: str, **settings: Any) -> Any:
        taken[name] = settings
        return _stop(name) if "judge" in name else ScriptedGenerator("forty")

    monkeypatch.setattr(generation, "load_generator", take)
    return taken


@pytest.mark.parametrize("command", ["demo", "eval"])
@pytest.mark.parametrize("share", [[], ["--gpu-memory", "0.6"]])
def test_a_second_generator_on_the_gpu_is_refused(
    loaded: dict[str, Any], command: str, share: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """VLLM would take minutes to load the first, and then say that there is no memory."""
    code, _, err = run(capsys, *two(command), *share)
    assert code == 2
    assert "vLLM would run openbmb/EVisRAG-7B and my-org/judge-1b on one GPU" in err
    assert "vllm serve my-org/judge-1b" in err
    assert "--gpu-memory 0.45" in err
    assert loaded == {}


def test_experts_of_a_training_are_refused_too(loaded: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "runs", "q.jsonl", "--output", "runs", "--search", "http://127.0.0.1:9", "--judge", "match"]
    code, _, err = run(capsys, *words, "--generator", "my-org/expert-1b", "--cropper", "my-org/cropper-1b")
    assert code == 2
    assert "vLLM would run my-org/expert-1b and my-org/cropper-1b on one GPU" in err
    assert "--gpu-memory" not in err  # which this command does not have


@pytest.mark.parametrize("command", ["demo", "eval"])
def test_two_generators_that_have_room_both_get_their_share(loaded: dict[str, Any], command: str) -> None:
    with pytest.raises(NothingIsLoaded, match="my-org/judge-1b"):
        main([*two(command), "--gpu-memory", "0.4"])
    assert loaded["my-org/judge-1b"] == {"gpu_memory_utilization": 0.4}
    if command == "demo":  # the judge is loaded first
        assert loaded["openbmb/EVisRAG-7B"] == {"gpu_memory_utilization": 0.4}


@pytest.mark.parametrize("generator", ["extractive", "http://127.0.0.1:9/v1#some"])
def test_a_judge_beside_a_generator_elsewhere_is_not_refused(loaded: dict[str, Any], generator: str) -> None:
    words = ["eval", "answers", "q.jsonl", "--documents", "boats.pdf", "--generator", generator]
    with pytest.raises(NothingIsLoaded, match="my-org/judge-1b"):
        main([*words, "--judge", "my-org/judge-1b"])
    assert loaded["my-org/judge-1b"] == {}


# --- what commands say is beside the generator ------------------------------------------------------------------------


@pytest.fixture
def said_beside(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command says when it loads its generator, which ends it."""
    said: dict[str, Any] = {}
    monkeypatch.setattr(loading, "load_generator", lambda arguments, name, **given: said.update(given) or _stop(name))
    return said


@pytest.mark.parametrize(("paths", "fills"), [([], False), (["boats.pdf"], True)])
def test_ask_says_what_is_beside(said_beside: dict[str, Any], paths: list[str], fills: bool) -> None:
    with pytest.raises(NothingIsLoaded):
        main(["ask", "How many?", *paths, "--index", "index", "--generator", "extractive"])
    assert said_beside == {"beside": "ocr", "fills": fills}


def test_demo_says_what_is_beside(said_beside: dict[str, Any]) -> None:
    with pytest.raises(NothingIsLoaded):
        main(["demo", "--embedder", "my-org/mine", "--device", "cpu", "--generator", "extractive"])
    assert said_beside == {"beside": "my-org/mine", "fills": True}


@pytest.mark.parametrize("pages", [["--documents", "boats.pdf"], ["--index", "index", "--collection", "pages"]])
def test_eval_says_what_is_beside(said_beside: dict[str, Any], place: Path, pages: list[str]) -> None:
    (place / "q.jsonl").write_text(QUESTIONS)
    with pytest.raises(NothingIsLoaded):
        main(["eval", "answers", "q.jsonl", *pages, "--preset", "cpu", "--quiet"])
    assert said_beside == {"beside": "ocr", "fills": "--documents" in pages}


@pytest.mark.parametrize(
    ("sizes", "share"),
    [(["NVIDIA L4, 24576 MiB"], 0.5), (["A, 81920 MiB", "B, 40960 MiB"], 0.66), (["T4, 8192 MiB"], 0.2), (["?"], None)],
)
def test_the_share_goes_by_the_smallest_gpu(gpu: list[str], sizes: list[str], share: float | None) -> None:
    gpu[:] = sizes
    weights = model_sizes.known_bytes("openbmb/VisRAG-Ret")
    assert weights == 6_800_000_000
    assert gpu_memory.share_beside(weights, machine.gpu_megabytes()) == share


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("generator", ["extractive", "http://127.0.0.1:9/v1"])
def test_a_share_for_what_vllm_does_not_run_is_refused(capsys: pytest.CaptureFixture[str], generator: str) -> None:
    code, _, err = run(capsys, "ask", "foo?", "--index", "index", "--generator", generator, "--gpu-memory", "0.5")
    assert code == 2
    assert "--gpu-memory is for a generator that vLLM runs in this process" in err


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("share", ["0", "1.5", "-1", "60%", "nan", "much"])
def test_a_share_is_a_number_up_to_one(capsys: pytest.CaptureFixture[str], share: str) -> None:
    with pytest.raises(SystemExit):
        main(["ask", "foo?", "--index", "index", f"--gpu-memory={share}"])
    assert "say a number such as 0.6" in capsys.readouterr().err


def _stop(name: str) -> Any:
    raise NothingIsLoaded(name)


@pytest.mark.usefixtures("place", "no_gpu")
@pytest.mark.parametrize("typed", ["y\n", "Yes\n", " YES \n"])
def test_a_yes_at_a_terminal_will_do(
    typed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody_types(typed, monkeypatch)
    with pytest.raises(NothingIsLoaded) as raised:
        main(["index", "boats.pdf", "--index", "new", "--preset", "gpu"])
    assert raised.value.args[1] == {"device": "cpu"}
    assert "run it on the processor? [y/N]" in capsys.readouterr().err


@pytest.mark.usefixtures("place", "no_gpu")
@pytest.mark.parametrize("typed", ["n\n", "\n", "", "yesterday\n"])
def test_anything_else_will_not(
    typed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody_types(typed, monkeypatch)
    code, _, err = run(capsys, "index", "boats.pdf", "--index", "new", "--preset", "gpu")
    assert code == 2
    assert "openbmb/VisRAG-Ret was not loaded, and nothing was fetched" in err


@pytest.mark.usefixtures("place", "a_gpu")
def test_with_a_gpu_nothing_is_asked() -> None:
    with pytest.raises(NothingIsLoaded):
        main(["index", "boats.pdf", "--index", "new", "--preset", "gpu"])


@pytest.mark.usefixtures("place", "no_gpu")
@pytest.mark.parametrize("name", ["BAAI/BGE-VL-base", "ModernVBERT/colmodernvbert-merged", "vidore/colSmol-256M"])
def test_small_models_are_for_a_processor(name: str) -> None:
    with pytest.raises(NothingIsLoaded):
        main(["index", "boats.pdf", "--index", "new", "--embedder", name])


@pytest.mark.usefixtures("place", "no_gpu")
def test_a_model_that_only_the_hub_knows_is_as_large_as_its_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["index", "boats.pdf", "--index", "new", "--embedder", "sentence-transformers:my-org/mine"]
    monkeypatch.setattr(loading, "bytes_on_hub", lambda name: {"my-org/mine": 9_400_000_000}[name])
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "my-org/mine needs about 9.4 GB" in err
    monkeypatch.setattr(loading, "bytes_on_hub", lambda name: 500_000_000)
    with pytest.raises(NothingIsLoaded):
        main(words)


def test_servers_folders_and_what_has_no_weights_are_never_large(tmp_path: Path) -> None:
    for name in ("ocr", "extractive", "https://gpu.example.org/models/8B", "endpoint:Qwen/Qwen3-VL-Embedding-8B"):
        assert not loading._may_be_large(name)
    (tmp_path / "my-7B").mkdir()
    assert not loading._may_be_large(str(tmp_path / "my-7B"))
    assert not loading._may_be_large("./models/my-7B")


def test_no_driver_and_no_torch_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    monkeypatch.setattr(loading.shutil, "which", lambda name: None)
    assert loading._why_no_gpu() == " (no NVIDIA driver is here)"
    monkeypatch.setattr(loading.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert loading._why_no_gpu() == ""


def test_a_cluster_has_its_own_devices(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "index", "boats.pdf", "--index", "new-one", "--ray", "local", "--device", "cpu")
    assert code == 2
    assert "--device cpu is for this machine" in err


# --- what is installed ------------------------------------------------------------------------------------------------


def test_the_gpu_extra_has_what_the_gpu_preset_needs() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras["gpu"]) == {"visrag-integrations[cpu,torch,vllm]"}
    assert {"torch>=2.4", "transformers>=5.0"} <= set(extras["torch"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 'pip install "visrag-integrations[gpu]"' in readme
    for name in presets.PRESETS["gpu"]:
        assert name in readme
