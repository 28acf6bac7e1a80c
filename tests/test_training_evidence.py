"""`train_evidence` on a tiny Qwen2.5-VL: both stages, saving, going on, adapters, answers, broken rows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from reader_runs import COLOURS, SMALL, picture, questions, truth_of, write_rows
from safetensors.torch import load_file
from tiny_models import build_qwen2_5_vl, shared_qwen2_5_vl

pytest.importorskip("trl", reason="TRL needs Python 3.11")

from visrag_integrations import Page, VisRAG, load_generator
from visrag_integrations.errors import DatasetError, SettingError, TrainingError
from visrag_integrations.training import EVISRAG_REWARDS, RewardSpec, merge_adapter, train_evidence
from visrag_integrations.training.evidence import begin
from visrag_integrations.training.runs import RunFolder
from visrag_integrations.types import GenerationSettings, ScoredPage

SFT: dict[str, Any] = {"stage": "sft", "batch_size": 4, "micro_batch": 4, "lr": 3e-3, "recipe": SMALL}
LETTERS = (RewardSpec("letters", 1.0, "all", lambda response, truth: float(sum(map(str.isalpha, response)))),)
RL: dict[str, Any] = {
    "stage": "rl",
    "batch_size": 2,
    "micro_batch": 4,
    "lr": 1e-3,
    "rewards": LETTERS,
    "recipe": {**SMALL, "samples": 4, "max_response": 8, "keep_above": -1.0, "keep_below": 100.0},
}


def weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(checkpoint) / "model.safetensors")


class Killed(BaseException):
    """In the place of a kill: nothing in the library catches it."""


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The run ends without warning after so many steps."""
    from transformers import TrainerCallback

    from visrag_integrations.training import evidence

    class Killer(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                raise Killed

    def begin_and_kill(plan: Any, run: RunFolder, reader: Any, trainer: Any, newest: Path | None) -> None:
        begin(plan, run, reader, trainer, newest)
        trainer.add_callback(Killer())

    monkeypatch.setattr(evidence, "begin", begin_and_kill)


def test_the_loss_falls(tmp_path: Path) -> None:
    report = train_evidence(shared_qwen2_5_vl(), write_rows(tmp_path / "data"), tmp_path / "run", max_steps=12, **SFT)
    first, last = report.losses[0][1], report.losses[-1][1]
    assert len(report.losses) == 12
    assert last < first / 2
    assert report.pages == 12 * 4 * 2
    card = (Path(report.checkpoint) / "README.md").read_text()
    assert "stay under its terms" in card
    assert "recipe of EVisRAG, supervised" in card
    assert str(tmp_path) not in card
    # The vision tower, and what joins it to the language model, stay as they are.
    base, trained = weights(shared_qwen2_5_vl()), weights(report.checkpoint)
    assert base.keys() == trained.keys()
    for name, weight in trained.items():
        same = torch.equal(weight, base[name])
        assert same if name.startswith("visual.") else not same or "bias" in name, name
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 13))


@pytest.mark.parametrize("settings", [SFT, RL, {**SFT, "lora": True}], ids=["sft", "rl", "lora"])
def test_a_run_that_was_killed_ends_as_if_it_was_not(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, and all that is logged; a resumed run of the plain Trainer would go on from the base's weights."""
    data = write_rows(tmp_path / "data")
    run = {**settings, "max_steps": 4, "save_steps": 2}
    whole = train_evidence(shared_qwen2_5_vl(), data, tmp_path / "whole", **run)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Killed):
            train_evidence(shared_qwen2_5_vl(), data, tmp_path / "killed", **run)
    resumed = train_evidence(shared_qwen2_5_vl(), data, tmp_path / "killed", **run)
    assert resumed.resumed == 1
    assert resumed.losses == whole.losses
    assert resumed.pages == whole.pages
    name = "adapter_model.safetensors" if "lora" in settings else "model.safetensors"
    ours, theirs = (load_file(Path(report.checkpoint) / name) for report in (resumed, whole))
    assert ours.keys() == theirs.keys()
    for key, weight in ours.items():
        assert torch.equal(weight, theirs[key]), key
    middle = load_file(tmp_path / "whole" / "checkpoint-2" / name)
    assert any(not torch.equal(weight, middle[key]) for key, weight in ours.items())
    for file in ("log.jsonl", "samples.jsonl"):
        path = tmp_path / "killed" / file
        if path.exists():
            steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
            assert steps == sorted(steps)
            if file == "samples.jsonl":
                assert steps == [1, 2, 3, 4]
    again = train_evidence(shared_qwen2_5_vl(), data, tmp_path / "killed", **run)
    assert again.as_dict() == resumed.as_dict()


@pytest.mark.parametrize("settings", [SFT, RL, {**SFT, "lora": True}], ids=["sft", "rl", "lora"])
def test_activations_that_are_computed_again_change_no_number(settings: dict[str, Any], tmp_path: Path) -> None:
    """The default on a GPU."""
    data = write_rows(tmp_path / "data")
    losses, found = [], []
    for again in (False, True):
        run = {**settings, "max_steps": 2, "arguments": {"gradient_checkpointing": again}}
        report = train_evidence(shared_qwen2_5_vl(), data, tmp_path / f"run-{again}", **run)
        losses.append([loss for _, loss in report.losses])
        name = "adapter_model.safetensors" if "lora" in settings else "model.safetensors"
        found.append(load_file(Path(report.checkpoint) / name))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-6)
    for key, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][key], rtol=1e-3, atol=1e-4)


def test_a_step_by_rewards_is_logged(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data")
    settings = {**RL, "rewards": EVISRAG_REWARDS, "max_steps": 1, "recipe": {**RL["recipe"], "keep_above": -9.0}}
    report = train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", **settings)
    logged = report.history[0]
    for spec in EVISRAG_REWARDS:
        assert f"rewards/{spec.name}/mean" in logged
        assert f"rewards/{spec.name}/std" in logged
    for name in ("groups_dropped", "share_clipped", "completions/mean_length", "share_without_tags"):
        assert name in logged
    assert logged["share_without_tags"] == 1.0
    (sample,) = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert sample["step"] == 1
    assert sample["prompt"].startswith("Colour ")
    assert set(sample["rewards"]) == {spec.name for spec in EVISRAG_REWARDS}
    assert "by RS-GRPO" in (Path(report.checkpoint) / "README.md").read_text()


def test_evaluated_while_it_is_trained(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data")
    settings = {**SFT, "max_steps": 2, "save_steps": 1, "evaluate": questions()}
    settings["recipe"] = {**SMALL, "max_response": 16}
    report = train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", **settings)
    assert [step for step, _ in report.scores] == [1, 2]
    for _, scores in report.scores:
        assert {"em", "f1"} <= set(scores)
    plain = train_evidence(shared_qwen2_5_vl(), data, tmp_path / "plain", **{**settings, "evaluate": None})
    for name, weight in weights(tmp_path / "run" / "checkpoint-2").items():
        assert torch.equal(weight, weights(plain.checkpoint)[name])  # to evaluate changes nothing


def ask(checkpoint: str | Path) -> str:
    """A greedy answer through the whole library."""
    generator = load_generator(checkpoint, engine="transformers", device="cpu")
    rag = VisRAG(OnePage(), generator, settings=GenerationSettings(temperature=0.0, max_tokens=24))
    return rag.ask("Which colour?").raw


class OnePage:
    def retrieve(self, *_: Any, **__: Any) -> list[ScoredPage]:
        return [ScoredPage(Page.from_image(picture("red"), doc_id="d"), 1.0, "cosine")]


def test_a_checkpoint_answers(tmp_path: Path) -> None:
    report = train_evidence(shared_qwen2_5_vl(), write_rows(tmp_path / "data"), tmp_path / "run", max_steps=8, **SFT)
    said = ask(report.checkpoint)
    assert said
    assert said != ask(shared_qwen2_5_vl())


def test_an_adapter_answers_as_its_merged_checkpoint(tmp_path: Path) -> None:
    base = build_qwen2_5_vl(tmp_path / "base")
    settings = {**SFT, "max_steps": 8, "lr": 3e-2, "lora": {"r": 8, "alpha": 32}}
    report = train_evidence(base, write_rows(tmp_path / "data"), tmp_path / "run", **settings)
    assert (Path(report.checkpoint) / "adapter_model.safetensors").is_file()
    assert not (Path(report.checkpoint) / "model.safetensors").exists()
    merged = merge_adapter(report.checkpoint, tmp_path / "merged")
    trained, before = weights(merged), weights(base)
    changed = {name for name in trained if not torch.equal(trained[name], before[name])}
    assert changed
    assert all(name.endswith(("q_proj.weight", "v_proj.weight")) and "visual" not in name for name in changed)
    said = ask(merged)
    assert said != ask(base)
    assert ask(report.checkpoint) == said


def test_a_base_in_half_precision(tmp_path: Path) -> None:
    from transformers import Qwen2_5_VLForConditionalGeneration

    base = tmp_path / "half"
    shutil.copytree(shared_qwen2_5_vl(), base)
    network = Qwen2_5_VLForConditionalGeneration.from_pretrained(base, dtype=torch.bfloat16)
    network.save_pretrained(base)
    del network
    data = write_rows(tmp_path / "data")
    run = {**SFT, "lr": 1e-6, "save_steps": 1}
    report = train_evidence(base, data, tmp_path / "run", max_steps=2, **run)
    assert {weight.dtype for weight in weights(report.checkpoint).values()} == {torch.bfloat16}
    fine = [load_file(tmp_path / "run" / f"checkpoint-{step}" / "float32_weights.safetensors") for step in (1, 2)]
    # A step of 1e-6 is lost in bfloat16, and not in the weights that are trained.
    assert any(not torch.equal(weight, fine[1][name]) for name, weight in fine[0].items())
    assert ask(report.checkpoint)


# --- data that is no good -----------------------------------------------------------------------------------------


def test_broken_rows_are_named_and_left_out(tmp_path: Path) -> None:
    pages = [f"{colour}.png" for colour in COLOURS]
    extra = [
        {"prompt": "no tags <image>", "answer": "red", "image": ["red.png"]},
        {"prompt": "six <image>", "answer": truth_of("red", "red"), "image": [*pages, "red.png", "red.png"]},
        {"prompt": "six" + "<image>" * 6, "answer": truth_of("red", "red"), "image": [*pages, "red.png", "red.png"]},
        {"prompt": "x" * 9000 + "<image>", "answer": truth_of("red", "red"), "image": ["red.png"]},
        {"prompt": "gone <image>", "answer": truth_of("red", "red"), "image": ["gone.png"]},
        {"prompt": "out <image>", "answer": truth_of("red", "red"), "image": ["../out.png"]},
        {"prompt": "no picture <image>", "answer": truth_of("red", "red"), "image": ["train.jsonl"]},
        {"question": "other columns"},
    ]
    data = write_rows(tmp_path / "data", extra=extra)
    with data.open("a") as file:
        file.write("{no json\n[1]\n")
    settings = {**RL, "rewards": EVISRAG_REWARDS, "max_steps": 1}
    settings["recipe"] = {**RL["recipe"], "keep_above": -9.0, "max_tokens": 8000}
    report = train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", **settings)
    said = "\n".join(f"{where}: {why}" for where, why in report.skipped.items())
    assert report.skipped_pages == 10, said
    for expected in (
        r"row 17: .*it has no <answer>",
        r"row 18: it has 1 <image> in its text and 6 pictures",
        r"row 19: it has 6 pages; at most 5 fit \(max_images\)",
        r"row 20: it takes \d+ tokens with its pictures; at most 8000 fit \(max_tokens\)",
        r"row 21: its picture 'gone\.png' is not in",
        r"row 22: names the picture '\.\./out\.png', which is no path inside",
        r"row 23: a picture cannot be opened",
        r"row 24: it has the columns question; a row has prompt, answer and image",
        r"row 25: it is no JSON",
        r"row 26: it is no JSON object",
    ):
        assert re.search(expected, said), (expected, said)


def test_data_without_a_good_row_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    picture("red").save(tmp_path / "red.png")
    path.write_text(json.dumps({"prompt": "?", "answer": "red", "image": ["red.png"]}))
    with pytest.raises(DatasetError, match=r"no row of it is any good.*row 1: .*it has no <answer>"):
        train_evidence(shared_qwen2_5_vl(), path, tmp_path / "run", **RL | {"rewards": EVISRAG_REWARDS})
    path.write_text("")
    with pytest.raises(DatasetError, match="it holds no row"):
        train_evidence(shared_qwen2_5_vl(), path, tmp_path / "run", **SFT)
    with pytest.raises(DatasetError, match="cannot be read"):
        train_evidence(shared_qwen2_5_vl(), tmp_path / "nothing.jsonl", tmp_path / "run", **SFT)


def test_a_reward_that_fails_leaves_a_run_to_go_on_with(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data")
    away = {"now": False}

    def judge(response: str, truth: str) -> float:
        if away["now"]:
            raise ConnectionError("the judge is away")
        return float(sum(map(str.isalpha, response)))

    settings = {**RL, "rewards": (RewardSpec("judged", 1.0, "all", judge),), "max_steps": 2, "save_steps": 1}
    from transformers import TrainerCallback

    from visrag_integrations.training import evidence

    class Leaves(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            away["now"] = True

    with pytest.MonkeyPatch.context() as patch:

        def begin_and_leave(plan: Any, run: RunFolder, reader: Any, trainer: Any, newest: Path | None) -> None:
            begin(plan, run, reader, trainer, newest)
            trainer.add_callback(Leaves())

        patch.setattr(evidence, "begin", begin_and_leave)
        with pytest.raises(TrainingError, match="The reward 'judged' failed: ConnectionError: the judge is away"):
            train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", **settings)
    away["now"] = False
    report = train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", **settings)
    assert report.resumed == 1
    assert len(report.losses) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stage": "dpo"}, "stage is 'dpo'; it is \"sft\""),
        ({"recipe": {"sampels": 4}}, "the recipe of stage 'rl' has no sampels; it has: .*samples"),
        ({"recipe": {"samples": 1}}, "samples is 1; responses are compared"),
        ({"batch_size": 3, "recipe": {"samples": 3, "max_response": 8}}, "A step has 9 sequences.*multiple of 4"),
        (
            {"rewards": (RewardSpec("taste", 1.0, "all"),)},
            "The reward 'taste' has no function, and is none of accuracy",
        ),
        ({"arguments": {"generation_batch_size": 4}}, "generation_batch_size.*say it by batch_size"),
        ({"arguments": {"loss_type": "grpo"}}, "loss_type is 'grpo', which the scoped loss has no use for"),
        ({"arguments": {"nothing": 4}}, "arguments has 'nothing', which trl.GRPOConfig does not have"),
        ({"evaluate": 3}, "evaluate is int; give an EvaluationSet"),
        ({"lora": {"rank": 3}}, "lora has rank; it can have: r, alpha"),
    ],
)
def test_settings_that_are_no_good(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data")
    with pytest.raises(SettingError, match=said):
        train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", **{**RL, "max_steps": 1, **change})


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data")
    train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", max_steps=1, **SFT)
    with pytest.raises(SettingError, match=r"holds another run: lr was 0.003 and is 0.1"):
        train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", max_steps=1, **{**SFT, "lr": 0.1})
    with pytest.raises(SettingError, match="holds this run already"):
        train_evidence(shared_qwen2_5_vl(), data, tmp_path / "run", max_steps=1, **SFT, resume=None)
