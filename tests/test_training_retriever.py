"""`train_retriever`: what it writes, that it goes on after a kill, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from quads import all_quads, draw, make_base, quads_set, query_of
from safetensors.torch import load_file, save_file

from visrag_integrations import load_embedder
from visrag_integrations.errors import CheckpointError, DatasetError, SettingError, TrainingError
from visrag_integrations.evaluation import EvaluationSet
from visrag_integrations.training import TrainingReport, train_retriever
from visrag_integrations.training.examples import Example
from visrag_integrations.training.pairs import ListedPairs

torch.set_num_threads(1)  # sums of several threads differ in the last digit, and weights are compared exactly
QUADS = all_quads()
SMALL: dict[str, Any] = {"max_steps": 4, "lr": 5e-4, "batch_size": 16, "micro_batch": 4, "save_steps": 2}
WORKER = Path(__file__).parent / "training_run.py"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("training") / "base")


@pytest.fixture(scope="module")
def train_set() -> EvaluationSet:
    return quads_set(QUADS[:64], "train")


@pytest.fixture(scope="module")
def finished(base: Path, train_set: EvaluationSet, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    """A run without interruption, to compare with."""
    output = tmp_path_factory.mktemp("training") / "run"
    return train_retriever(base, train_set, output, evaluate=quads_set(QUADS[-20:], "held"), **SMALL)


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(Path(folder) / "model.safetensors")
    return found


def assert_same_weights(one: str | Path, other: str | Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name


def run_in_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(WORKER), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        **options,
    )


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(WORKER.parent), str(WORKER.parent.parent)])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}


def test_a_checkpoint_is_like_its_base(base: Path, finished: TrainingReport) -> None:
    before, after = weights(base), weights(finished.checkpoint)
    assert [(name, weight.shape, weight.dtype) for name, weight in before.items()] == [
        (name, weight.shape, weight.dtype) for name, weight in after.items()
    ]
    same = {name for name, weight in before.items() if torch.equal(weight, after[name])}
    # The head writes text, and the resampler's sines are fixed: all else has moved.
    assert same == {"llm.lm_head.weight", "resampler.pos_embed"}
    for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        assert (Path(finished.checkpoint) / name).read_bytes() == (base / name).read_bytes()
    assert json.loads((Path(finished.checkpoint) / "config.json").read_text()) == json.loads(
        (base / "config.json").read_text()
    )
    card = (Path(finished.checkpoint) / "README.md").read_text()
    assert "64 pairs" in card
    assert "MiniCPM Model License" in card


def test_every_checkpoint_loads_and_embeds(base: Path, finished: TrainingReport) -> None:
    folders = sorted(Path(finished.checkpoint).parent.glob("checkpoint-*"))
    assert [folder.name for folder in folders] == ["checkpoint-2", "checkpoint-4"]
    made = []
    for folder in [base, *folders]:
        with load_embedder(folder, device="cpu") as embedder:
            made.append((embedder.embed_queries(["red green above blue pink"])[0], embedder.fingerprint))
    assert len({fingerprint for _, fingerprint in made}) == 3
    assert all(np.isclose(np.linalg.norm(vector), 1, atol=1e-5) for vector, _ in made)


def test_the_report_says_what_happened(finished: TrainingReport) -> None:
    assert (finished.steps, finished.pages, finished.skipped_pages, finished.resumed) == (4, 64, 0, 0)
    assert [step for step, _ in finished.losses] == [1, 2, 3, 4]
    # Nothing learned yet: a query has 16 pages to choose from.
    assert finished.losses[0][1] == pytest.approx(np.log(16), rel=0.25)
    assert [step for step, _ in finished.scores] == [2, 4]
    assert set(finished.scores[0][1]) == {"recall@1", "recall@10", "mrr@10"}
    best = max(finished.scores, key=lambda entry: (entry[1]["mrr@10"], -entry[0]))
    assert finished.checkpoint.endswith(f"checkpoint-{best[0]}")
    read = json.loads((Path(finished.checkpoint).parent / "report.json").read_text())
    assert read["pages_per_second"] == pytest.approx(finished.pages / finished.seconds)


def test_a_finished_run_gives_its_report_again(base: Path, train_set: EvaluationSet, finished: TrainingReport) -> None:
    output = Path(finished.checkpoint).parent
    started = time.monotonic()
    again = train_retriever(base, train_set, output, evaluate=quads_set(QUADS[-20:], "held"), **SMALL)
    assert again == finished
    assert time.monotonic() - started < finished.seconds


@pytest.mark.parametrize("change", [{"lr": 1e-4}, {"seed": 1}, {"batch_size": 8}, {"max_steps": 5}, {"lora": True}])
def test_the_folder_of_another_run_is_refused(
    base: Path, train_set: EvaluationSet, finished: TrainingReport, change: dict[str, Any]
) -> None:
    with pytest.raises(SettingError, match=r"holds another run: .* was .* and is"):
        train_retriever(base, train_set, Path(finished.checkpoint).parent, **{**SMALL, **change})


def test_a_folder_with_something_else_is_refused(base: Path, train_set: EvaluationSet, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(SettingError, match="something else"):
        train_retriever(base, train_set, tmp_path, **SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_without_resume_a_run_is_not_continued(base: Path, train_set: EvaluationSet, finished: TrainingReport) -> None:
    with pytest.raises(SettingError, match='resume="auto"'):
        train_retriever(base, train_set, Path(finished.checkpoint).parent, resume=None, **SMALL)


def test_micro_batches_change_no_number(
    base: Path, train_set: EvaluationSet, finished: TrainingReport, tmp_path: Path
) -> None:
    whole = train_retriever(base, train_set, tmp_path / "run", **{**SMALL, "micro_batch": 16})
    for (_, ours), (_, theirs) in zip(whole.losses, finished.losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1.0, 2.0, 3.5])
def test_killed_and_run_again_it_ends_with_the_same_weights(
    base: Path, train_set: EvaluationSet, finished: TrainingReport, tmp_path: Path, after: float
) -> None:
    """At several moments; the last checkpoint there was is gone on from, or the beginning."""
    output = tmp_path / "run"
    command = [sys.executable, str(WORKER), "train", str(base), str(output)]
    for extra in (after, 2 * after, None):
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"  # everything is imported
        if extra is not None:
            time.sleep(extra)
            process.send_signal(signal.SIGKILL)
        process.communicate()
    last = Path(finished.checkpoint).parent / "checkpoint-4"
    assert_same_weights(output / "checkpoint-4", last)
    assert not list(output.glob(".unfinished/*"))
    assert process.returncode == 0


@pytest.mark.slow
def test_resumed_in_the_middle_it_says_so(base: Path, finished: TrainingReport, tmp_path: Path) -> None:
    """Killed while the second checkpoint is being written: it goes on from the first, whole one."""
    killed = run_in_process("kill-in-second-save", str(base), str(tmp_path / "run"))
    assert killed.returncode == -signal.SIGKILL
    assert [folder.name for folder in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]
    assert (tmp_path / "run" / ".unfinished" / "checkpoint-4" / "model.safetensors").is_file()
    again = run_in_process("train", str(base), str(tmp_path / "run"))
    assert again.returncode == 0, again.stderr
    report = TrainingReport.read(tmp_path / "run" / "report.json")
    assert report.resumed == 1
    assert [loss for _, loss in report.losses] == [loss for _, loss in finished.losses]
    assert_same_weights(report.checkpoint, Path(finished.checkpoint).parent / "checkpoint-4")


def test_it_goes_on_from_the_last_whole_checkpoint(
    base: Path, train_set: EvaluationSet, finished: TrainingReport, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(Path(finished.checkpoint).parent, run)
    forget_the_end(run)
    (run / ".unfinished" / "checkpoint-4").mkdir(parents=True)
    (run / ".unfinished" / "checkpoint-4" / "model.safetensors").write_bytes(b"half of it")
    report = train_retriever(base, train_set, run, evaluate=quads_set(QUADS[-20:], "held"), **SMALL)
    assert report.resumed == 1
    assert (report.losses, report.scores) == (finished.losses, finished.scores)
    assert report.seconds > 0
    assert_same_weights(run / "checkpoint-4", Path(finished.checkpoint).parent / "checkpoint-4")


def test_a_damaged_checkpoint_is_not_gone_on_from(
    base: Path, train_set: EvaluationSet, finished: TrainingReport, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(Path(finished.checkpoint).parent, run)
    forget_the_end(run)
    (run / "checkpoint-2" / "optimizer.pt").write_bytes(b"cut off")
    with pytest.raises(TrainingError, match=r"optimizer\.pt is missing or has another size"):
        train_retriever(base, train_set, run, **SMALL)


@pytest.mark.slow
def test_a_full_disk_is_said_and_loses_nothing(base: Path, finished: TrainingReport, tmp_path: Path) -> None:
    full = run_in_process("small-disk", str(base), str(tmp_path / "run"))
    assert "TrainingError: checkpoint-2 could not be written" in full.stderr
    assert "Is the disk full?" in full.stderr
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    again = run_in_process("train", str(base), str(tmp_path / "run"))
    assert again.returncode == 0, again.stderr
    assert_same_weights(tmp_path / "run" / "checkpoint-4", Path(finished.checkpoint).parent / "checkpoint-4")


def test_small_steps_move_half_precision_weights(train_set: EvaluationSet, tmp_path: Path) -> None:
    """The recipe's rate of 1e-5 would round to nothing in bfloat16; what is trained is float32."""
    base = make_base(tmp_path / "base", dtype=torch.bfloat16)
    report = train_retriever(base, train_set, tmp_path / "run", **{**SMALL, "max_steps": 1, "lr": 1e-6})
    checkpoint = Path(report.checkpoint)
    before, after = weights(base), weights(checkpoint)
    assert {weight.dtype for weight in after.values()} == {torch.bfloat16}
    master = load_file(checkpoint / "float32_weights.safetensors")
    name = "llm.layers.0.self_attn.q_proj.weight"
    moved = master[name] - before["llm.model.layers.0.self_attn.q_proj.weight"].float()
    assert float(moved.abs().max()) == pytest.approx(1e-6, rel=0.01)
    assert torch.equal(master[name].bfloat16(), after["llm.model.layers.0.self_attn.q_proj.weight"])


def test_half_precision_resumes_from_the_finer_weights(train_set: EvaluationSet, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", dtype=torch.bfloat16)
    small = {**SMALL, "lr": 1e-5}
    whole = train_retriever(base, train_set, tmp_path / "whole", **small)
    stopped = train_retriever(base, train_set, tmp_path / "stopped", **small)
    forget_the_end(tmp_path / "stopped")
    assert stopped.checkpoint == train_retriever(base, train_set, tmp_path / "stopped", **small).checkpoint
    ours = load_file(Path(stopped.checkpoint) / "float32_weights.safetensors")
    theirs = load_file(Path(whole.checkpoint) / "float32_weights.safetensors")
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def forget_the_end(run: Path) -> None:
    """As if the run had been stopped after its first checkpoint."""
    (run / "report.json").unlink()
    shutil.rmtree(run / "checkpoint-4")


def test_half_precision_products_train_too(base: Path, train_set: EvaluationSet, tmp_path: Path) -> None:
    """As on a GPU: bfloat16 products over float32 weights, close to float32 throughout."""
    report = train_retriever(base, train_set, tmp_path / "run", **SMALL, arguments={"bf16": True})
    exact = train_retriever(base, train_set, tmp_path / "exact", **SMALL)
    assert report.losses[0][1] != exact.losses[0][1]
    assert report.losses[0][1] == pytest.approx(exact.losses[0][1], rel=0.03)  # later the weights differ too
    assert report.losses[-1][1] < report.losses[0][1]


def test_gradient_checkpointing_changes_no_number(
    base: Path, train_set: EvaluationSet, finished: TrainingReport, tmp_path: Path
) -> None:
    report = train_retriever(base, train_set, tmp_path / "run", **SMALL, arguments={"gradient_checkpointing": True})
    assert [loss for _, loss in report.losses] == pytest.approx([loss for _, loss in finished.losses], rel=1e-5)


def test_the_last_step_is_saved_and_max_steps_win_over_epochs(
    base: Path, train_set: EvaluationSet, tmp_path: Path
) -> None:
    report = train_retriever(base, train_set, tmp_path / "run", **{**SMALL, "max_steps": 3, "epochs": 50.0})
    assert report.steps == 3
    assert {folder.name for folder in (tmp_path / "run").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-3"}
    by_epochs = train_retriever(
        base,
        train_set,
        tmp_path / "epochs",
        **{**SMALL, "max_steps": None, "epochs": 0.5},
        arguments={"save_total_limit": 1},
    )
    assert by_epochs.steps == 2
    assert [folder.name for folder in (tmp_path / "epochs").glob("checkpoint-*")] == ["checkpoint-2"]


def test_from_minicpm_v_it_becomes_visrag_ret(train_set: EvaluationSet, tmp_path: Path) -> None:
    base = make_base(
        tmp_path / "base", architectures=["MiniCPMV"], auto_map={"AutoModel": "modeling_minicpmv.MiniCPMV"}
    )
    report = train_retriever(base, train_set, tmp_path / "run", **SMALL)
    config = json.loads((Path(report.checkpoint) / "config.json").read_text())
    assert config["architectures"] == ["VisRAG_Ret"]
    assert config["auto_map"]["AutoModel"] == "modeling_visrag_ret.VisRAG_Ret"
    with load_embedder(report.checkpoint, device="cpu") as embedder:
        assert embedder.kind == "single"


def test_minicpm_visual_embedding_keeps_its_instruction(train_set: EvaluationSet, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", architectures=["SomethingElse"])
    report = train_retriever(f"minicpm-visual-embedding:{base}", train_set, tmp_path / "run", **SMALL)
    with load_embedder(report.checkpoint, device="cpu") as embedder:
        assert "relavant" in str(embedder.instruction)  # spelled as that model was trained


def with_rows(*pages: Any) -> ListedPairs:
    examples = [
        Example(query_of(quad), (page,), f"row {number}")
        for number, (quad, page) in enumerate(zip(QUADS, pages, strict=False), 1)
    ]
    return ListedPairs("rows", examples)


def test_broken_rows_are_named_skipped_and_counted(base: Path, tmp_path: Path) -> None:
    good = [draw(quad) for quad in QUADS[:20]]
    broken: list[Any] = [b"no picture", tmp_path / "not_there.png"]
    report = train_retriever(base, with_rows(*good[:5], *broken, *good[5:]), tmp_path / "run", **SMALL)
    assert report.skipped_pages == 2
    assert set(report.skipped) == {"row 6", "row 7"}
    assert "not_there.png" in report.skipped["row 7"]


def test_nothing_but_broken_rows(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no pair that can be read"):
        train_retriever(base, with_rows(*[b"broken"] * 20), tmp_path / "run", **SMALL)


def test_all_pages_equal(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="all pages of the first 4 steps are the same"):
        train_retriever(base, with_rows(*[draw(QUADS[0])] * 20), tmp_path / "run", **SMALL)


def test_a_batch_of_one_has_nothing_to_compare(base: Path, train_set: EvaluationSet, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="batch_size is 1"):
        train_retriever(base, train_set, tmp_path / "run", **{**SMALL, "batch_size": 1})


def test_a_batch_of_one_with_hard_negatives(base: Path, tmp_path: Path) -> None:
    examples = [
        Example(query_of(quad), (draw(quad), draw(other)), f"row {n}")
        for n, (quad, other) in enumerate(zip(QUADS[:8], QUADS[8:16], strict=True))
    ]
    report = train_retriever(
        base, ListedPairs("rows", examples, 1), tmp_path / "run", **{**SMALL, "batch_size": 1, "micro_batch": 1}
    )
    assert report.pages == 8
    assert all(0 < loss < 5 for _, loss in report.losses)


def test_a_loss_that_is_no_number_names_the_rows(train_set: EvaluationSet, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    state = weights(base)
    state["llm.model.norm.weight"][0] = float("nan")
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"loss of step 1 is not finite.*train, question 'train-\d+'"):
        train_retriever(base, train_set, tmp_path / "run", **SMALL)


def out_of_memory(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def processor_memory(*_: Any, **__: Any) -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried to ...")


@pytest.mark.parametrize("fails", [out_of_memory, processor_memory])
def test_too_little_memory_says_micro_batch(
    base: Path, train_set: EvaluationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., None]
) -> None:
    monkeypatch.setattr("visrag_integrations.models.siglip.SiglipTower.forward", fails)
    with pytest.raises(TrainingError, match="micro_batch=2"):
        train_retriever(base, train_set, tmp_path / "run", **SMALL)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("nowhere", CheckpointError, "no folder"),
        ("empty", CheckpointError, r"config\.json"),
        ("ocr", CheckpointError, "no folder"),
    ],
)
def test_a_base_that_is_no_checkpoint(
    train_set: EvaluationSet, tmp_path: Path, name: str, error: type[Exception], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    given = str(tmp_path / name) if name == "empty" else name
    with pytest.raises(error, match=says):
        train_retriever(given, train_set, tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"batch_size": 1000}, "there are 64 pairs"),
        ({"lora": {"rank": 3}}, "lora has rank"),
        ({"lora": {"target_modules": ["nothing_like_it"]}}, "LoRA cannot be added"),
        ({"arguments": {"no_such_field": 1}}, "no_such_field"),
        ({"arguments": {"gradient_accumulation_steps": 2}}, "micro_batch"),
        ({"arguments": {"fsdp": "full_shard"}}, "FULL_STATE_DICT"),
        ({"arguments": {"deepspeed": "config.json"}}, "say it by fsdp"),
        ({"arguments": 3}, "a dict or"),
        ({"evaluate": 3}, "EvaluationSet"),
    ],
)
def test_settings_that_are_not_allowed(
    base: Path, train_set: EvaluationSet, tmp_path: Path, values: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingError, match=says):
        train_retriever(base, train_set, tmp_path / "run", **{**SMALL, **values})


def test_pages_of_other_sizes_and_modes(base: Path, tmp_path: Path) -> None:
    """A wide page is cut into slices; a grey one and one with a palette are pages too."""
    pages = [draw(quad) for quad in QUADS[:16]]
    pages[0] = pages[0].resize((200, 60))
    pages[1] = pages[1].convert("L")
    pages[2] = pages[2].convert("P")
    pages[3] = Image.new("RGB", (3, 500), "red")
    report = train_retriever(base, with_rows(*pages), tmp_path / "run", **SMALL)
    assert report.skipped_pages == 0
