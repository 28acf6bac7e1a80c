"""Other networks than VisRAG-Ret, adapters, several processes: the same loss, the same gradients, folders that load."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quads import all_quads, draw, make_base, quads_set, query_of
from safetensors.torch import load_file
from tiny_retrievers import tiny

from visrag_integrations import load_embedder
from visrag_integrations.embedders.late_interaction import LateInteractionEmbedder
from visrag_integrations.errors import CheckpointError, SettingError
from visrag_integrations.scores.exact import maxsim
from visrag_integrations.training import TrainingReport, merge_adapter, train_retriever
from visrag_integrations.training.examples import Example
from visrag_integrations.training.late_interaction import contrastive_late, max_sim, pad_rows
from visrag_integrations.training.pairs import ListedPairs
from visrag_integrations.training.stream import MicroBatch, PairPreparer
from visrag_integrations.training.trainable import TrainableRetriever

torch.set_num_threads(1)
QUADS = all_quads()
SMALL: dict[str, Any] = {"max_steps": 3, "lr": 1e-3, "batch_size": 8, "micro_batch": 4, "save_steps": 2}
TRAIN = quads_set(QUADS[:32], "train")
MULTI = ("colqwen2", "colpali", "colmodernvbert")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("systems") / "base")


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(Path(folder) / "model.safetensors")
    return found


def micro_batch(retriever: TrainableRetriever, quads: list[Any], negatives: int = 0) -> MicroBatch:
    preparer: PairPreparer = retriever.preparer()
    examples = []
    for number, quad in enumerate(quads):
        wrong = [draw(other) for other in QUADS[100 + number * negatives :][:negatives]]
        examples.append(Example(query_of(quad), (draw(quad), *wrong), "row"))
    pairs = ListedPairs("p", examples, negatives)
    return MicroBatch([preparer.ready(pairs, number) for number in range(len(quads))])


def gradients(network: torch.nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    found = {}
    for name, weight in network.named_parameters():
        if weight.grad is not None and bool(weight.grad.abs().max() > 0):
            found[name.removeprefix(prefix)] = weight.grad.clone()
    return found


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Within 1e-5, and 1e-5 of the largest gradient: some are 0 but for rounding (a key's bias changes no softmax)."""
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name in ours.keys() | theirs.keys():
        shape = ours.get(name, theirs.get(name))
        assert shape is not None
        nothing = torch.zeros_like(shape)
        torch.testing.assert_close(
            ours.get(name, nothing), theirs.get(name, nothing), rtol=1e-5, atol=1e-5 * largest, msg=name
        )


@pytest.mark.parametrize("negatives", [0, 2])
def test_clip_is_trained_as_sentence_transformers_trains_it(negatives: int) -> None:
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    retriever = TrainableRetriever(load_embedder(tiny("bge-vl-clip"), device="cpu"))
    retriever.open_weights(None)
    batch = micro_batch(retriever, QUADS[:4], negatives)
    ids = [page_id for pair in batch.pairs for page_id in pair.page_ids]
    loss = retriever.loss([retriever(batch)], 0.02, ids)
    loss.backward()

    model = library.SentenceTransformer(str(tiny("bge-vl-clip")), device="cpu")
    columns = [model.preprocess([query_of(quad) for quad in QUADS[:4]])]
    columns.append(model.preprocess([draw(quad) for quad in QUADS[:4]]))
    for place in range(negatives):
        columns.append(model.preprocess([draw(QUADS[100 + number * negatives + place]) for number in range(4)]))
    theirs = MultipleNegativesRankingLoss(model, scale=50.0)(columns, None)
    theirs.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert_close(gradients(retriever.network), gradients(model, "0.model."))


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("system", ["colqwen2", "colpali"])
def test_late_interaction_is_trained_as_sentence_transformers_trains_it(system: str, mean: bool) -> None:
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
    from sentence_transformers.multi_vector_encoder.scoring import colbert_scores, mean_colbert_scores

    # "flat": the library does not tell the network where patches are.
    options = {"positions": "flat"} if system == "colqwen2" else {}
    embedder: Any = load_embedder(tiny(system), device="cpu", **options)
    retriever = TrainableRetriever(embedder)
    retriever.open_weights(None)
    quads = sorted(QUADS[:60], key=lambda quad: len(query_of(quad)))[20:24]
    assert len({len(query_of(quad)) for quad in quads}) == 1
    queries, pages = retriever(micro_batch(retriever, quads))
    temperature = 0.02 if mean else 1.0
    loss = contrastive_late(queries, pages, temperature, mean=mean)
    loss.backward()

    model = library.MultiVectorEncoder(str(tiny(system)), device="cpu")
    columns: list[Any] = [
        dict(embedder._processor.process_queries(text=[query_of(quad) for quad in quads])),
        dict(embedder._processor.process_images(images=[draw(quad) for quad in quads])),
    ]
    columns[0] |= {"modality": "text", **embedder._settings(columns[0]["input_ids"])}
    columns[1] |= {"modality": "image", **embedder._settings(columns[1]["input_ids"])}
    scoring = mean_colbert_scores if mean else colbert_scores
    their_loss = MultiVectorMultipleNegativesRankingLoss(model, scale=1 / temperature, similarity_fct=scoring)
    theirs = their_loss(columns)
    theirs.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert_close(gradients(retriever.network), gradients(model, "0.model."))


def test_max_sim_is_the_scores_of_the_store() -> None:
    random = np.random.default_rng(0)
    made = [random.standard_normal((length, 8)).astype(np.float32) for length in (2, 5, 7, 1, 3)]
    unit = [matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in made]
    queries, pages = unit[:2], unit[2:]
    padded = [pad_rows([torch.from_numpy(matrix) for matrix in matrices]) for matrices in (queries, pages)]
    scores = max_sim(padded[0], padded[1])
    expected = np.array([[maxsim(query, page) for page in pages] for query in queries])
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("system", ["bge-vl-clip", *MULTI])
def test_other_systems_are_trained_by_the_same_call(system: str, tmp_path: Path) -> None:
    folder = tiny(system)
    held_out = quads_set(QUADS[-6:], "held")
    report = train_retriever(folder, TRAIN, tmp_path / "run", evaluate=held_out, **SMALL)
    before, after = weights(folder), weights(report.checkpoint)
    assert {name: (weight.shape, weight.dtype) for name, weight in before.items()} == {
        name: (weight.shape, weight.dtype) for name, weight in after.items()
    }
    assert sum(not torch.equal(weight, after[name]) for name, weight in before.items()) > len(before) / 2
    assert report.losses[-1][1] < report.losses[0][1] * 1.5
    with load_embedder(report.checkpoint, device="cpu") as embedder:
        assert isinstance(embedder, LateInteractionEmbedder) == (system in MULTI)
        embedder.embed_pages(TRAIN.pages[:2])


def test_gradcache_of_many_vectors_is_the_whole_batch(tmp_path: Path) -> None:
    losses = []
    for micro_batch_size in (2, 8):
        settings = {**SMALL, "micro_batch": micro_batch_size}
        report = train_retriever(tiny("colqwen2"), TRAIN, tmp_path / str(micro_batch_size), **settings)
        losses.append([loss for _, loss in report.losses])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_what_cannot_be_trained_says_what_can(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"bge-vl-mllm, which cannot be trained here.*visrag-ret"):
        train_retriever(tiny("bge-vl-mllm"), TRAIN, tmp_path / "run", **SMALL)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    lora = {"r": 4, "alpha": 8, "dropout": 0.0}
    return train_retriever(base, TRAIN, tmp_path_factory.mktemp("adapter") / "run", lora=lora, **SMALL)


def vectors(folder: str | Path) -> Any:
    with load_embedder(folder, device="cpu") as embedder:
        return np.stack(embedder.embed_queries(["red", "blue"]) + embedder.embed_pages(TRAIN.pages[:3]))


def test_an_adapter_loads_by_its_base(base: Path, adapter: TrainingReport, tmp_path: Path) -> None:
    folder = Path(adapter.checkpoint)
    assert not (folder / "model.safetensors").exists()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, str(base))
    names = sorted(load_file(folder / "adapter_model.safetensors"))
    assert names[0] == "base_model.model.llm.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert len(names) == 2 * 2 * 2  # layers, projections, halves
    with_adapter = vectors(folder)
    assert np.abs(with_adapter - vectors(base)).max() > 1e-3
    merged = merge_adapter(folder, tmp_path / "merged")
    np.testing.assert_allclose(vectors(merged), with_adapter, atol=1e-6)
    changed = [name for name, weight in weights(base).items() if not torch.equal(weight, weights(merged)[name])]
    assert len(changed) == 4
    assert all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in changed)
    with load_embedder(folder, device="cpu") as one, load_embedder(base, device="cpu") as other:
        assert (one.name, one.fingerprint) != (other.name, other.fingerprint)


def test_peft_reads_the_adapter(base: Path, adapter: TrainingReport) -> None:
    """On a network whose names are the published ones."""
    peft = pytest.importorskip("peft")

    class Published(torch.nn.Module):
        def __init__(self, decoder: torch.nn.Module) -> None:
            super().__init__()
            self.llm = torch.nn.Module()
            self.llm.model = decoder

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.llm.model(x)  # type: ignore[operator]
            return result

    ids = torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0))
    with load_embedder(base, device="cpu") as plain, load_embedder(adapter.checkpoint, device="cpu") as ours:
        theirs = peft.PeftModel.from_pretrained(Published(plain.module.llm), adapter.checkpoint)
        theirs.eval()
        torch.testing.assert_close(theirs.base_model.model(ids), ours.module.llm(ids), rtol=1e-4, atol=1e-5)


def test_a_lora_run_resumes(base: Path, adapter: TrainingReport, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(Path(adapter.checkpoint).parent, run)
    (run / "report.json").unlink()
    shutil.rmtree(run / "checkpoint-3")
    report = train_retriever(base, TRAIN, run, lora={"r": 4, "alpha": 8, "dropout": 0.0}, **SMALL)
    assert report.resumed == 1
    whole = load_file(Path(adapter.checkpoint).parent / "checkpoint-3" / "adapter_model.safetensors")
    again = load_file(run / "checkpoint-3" / "adapter_model.safetensors")
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())


@pytest.mark.parametrize("system", ["bge-vl-clip", "colqwen2"])
def test_adapters_of_other_systems(system: str, tmp_path: Path) -> None:
    report = train_retriever(tiny(system), TRAIN, tmp_path / "run", lora=True, **SMALL)
    merged = merge_adapter(report.checkpoint, tmp_path / "merged")
    with load_embedder(merged, device="cpu") as whole, load_embedder(report.checkpoint, device="cpu") as added:
        for ours, theirs in zip(whole.embed_queries(["red"]), added.embed_queries(["red"]), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_folders_that_are_no_adapter(base: Path, adapter: TrainingReport, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it is no adapter"):
        merge_adapter(base, tmp_path / "merged")
    (tmp_path / "there").mkdir()
    with pytest.raises(SettingError, match="there already"):
        merge_adapter(adapter.checkpoint, tmp_path / "there")


def run_two(base: Path, output: Path, *arguments: str) -> TrainingReport:
    """The same training in two processes, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parent
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "WORLD_SIZE": "2",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, str(here / "training_pair.py"), str(base), str(output), *arguments]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return TrainingReport.read(output / "report.json")


@pytest.mark.slow
@pytest.mark.parametrize("system", ["visrag-ret", "colqwen2"])
def test_two_processes_are_one_big_batch(base: Path, tmp_path: Path, system: str) -> None:
    start = base if system == "visrag-ret" else tiny(system)
    two = run_two(start, tmp_path / "two")
    one = train_retriever(start, TRAIN, tmp_path / "one", evaluate=quads_set(QUADS[-10:], "held"), **SMALL)
    assert [loss for _, loss in two.losses] == pytest.approx([loss for _, loss in one.losses], rel=1e-4)
    assert two.scores == one.scores
    ours, theirs = weights(one.checkpoint), weights(two.checkpoint)
    for name, weight in ours.items():
        # A weight whose gradient is rounding alone moves by the rate either way: Adam divides by its size.
        assert float((weight - theirs[name]).abs().mean()) < 2e-5, name
