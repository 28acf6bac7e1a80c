"""`build_runs` and `train_agent` on a tiny Qwen2.5-VL: experts' runs, both stages, going on, what is remembered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from agent_proof import LETTERS, PICTURES, SMALL, LetterRetriever, approve, questions
from PIL import Image
from safetensors.torch import load_file
from tiny_models import shared_qwen2_5_vl

pytest.importorskip("trl", reason="TRL needs Python 3.11")

from visrag_integrations import load_generator
from visrag_integrations.agent import PictureRules, VRAGAgent
from visrag_integrations.agent.remembered import FILE, AgentSettings
from visrag_integrations.errors import CheckpointError, DatasetError, SettingError, TrainingError
from visrag_integrations.evaluation import EvaluationSet
from visrag_integrations.generation.vrag import ANSWER_NOW
from visrag_integrations.training import AgentRlRecipe, build_runs, train_agent
from visrag_integrations.training.agent_experts import LOOK_CLOSER
from visrag_integrations.training.agent_rows import closed, rescaled
from visrag_integrations.training.agent_training import begin_agent
from visrag_integrations.training.judges import match_judge
from visrag_integrations.training.reader_examples import ExampleTurn, ReaderExample
from visrag_integrations.training.runs import RunFolder
from visrag_integrations.types import Conversation, Generation, GenerationSettings

RIGHT = "</think><answer>r</answer>"


class Expert:
    """Says what a function of the conversation says, and remembers what it was asked."""

    def __init__(self, name: str, says: Any) -> None:
        self.name, self.says = name, says
        self.asked: list[Conversation] = []

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        self.asked += conversations
        return [Generation(self.says(conversation), finish_reason="stop") for conversation in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Any:
        yield self.generate([conversation])[0]


def reasons(conversation: Conversation) -> str:
    """Searches for the letter of the question, and then says the colour of the first page."""
    asked = str(conversation[0].content[0])
    return f"<think>s</think><search>{asked[0]}" if len(conversation) == 1 else RIGHT


def crops(conversation: Conversation) -> str:
    return "<think>c</think><bbox>[4, 8, 30, 40]"


def experts_runs(folder: Path, count: int = 4, **more: Any) -> Any:
    settings: dict[str, Any] = {
        "judge": match_judge,
        "template": "{question}",
        "trained_pictures": PICTURES,
        "progress": False,
        **more,
    }
    reasoner = settings.pop("reasoner", None) or Expert("reasoner", reasons)
    cropper = settings.pop("cropper", None)
    return build_runs(questions().first(count), LetterRetriever(), reasoner, cropper, folder, **settings)


def sample(text: str) -> ReaderExample:
    picture = Image.new("RGB", (56, 56), "red")
    turns = (
        ExampleTurn("user", "a?"),
        ExampleTurn("assistant", "<think>s</think><search>a</search>"),
        ExampleTurn("user", "<image>" + ANSWER_NOW),
    )
    return ReaderExample(turns, (picture,), text, f"sample {text}")


RL: dict[str, Any] = {
    "stage": "rl",
    "batch_size": 2,
    "micro_batch": 4,
    "lr": 1e-3,
    "recipe": {**SMALL, "samples": 2, "max_response": 8},
}


# --- runs of experts ------------------------------------------------------------------------------------------------


def test_runs_are_kept_where_the_judge_approves(tmp_path: Path) -> None:
    """One question in four has the answer that the expert always gives."""
    dropped: dict[str, str] = {}
    runs = experts_runs(tmp_path, on_dropped=lambda question, reason: dropped.update({question.id: reason}))
    assert len(runs) == 1
    assert dropped == {f"q{n}": "its answer 'r' is not approved" for n in (1, 2, 3)}
    (row,) = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [message["content"] for message in row["messages"]] == [
        "a?",
        "<think>s</think><search>a</search>",
        "<image>",
        RIGHT,
    ]
    (image,) = row["images"]
    with Image.open(tmp_path / image) as picture:
        assert picture.size == (56, 56)
    assert (tmp_path / "traces" / "000000.html").read_text().startswith("<!doctype html>")


def test_the_second_expert_looks_closer_at_what_was_found(tmp_path: Path) -> None:
    reasoner, cropper = Expert("reasoner", reasons), Expert("cropper", crops)
    runs = experts_runs(tmp_path, 1, reasoner=reasoner, cropper=cropper)
    assert [len(each) for each in reasoner.asked] == [1, 5]
    assert [len(each) for each in cropper.asked] == [3]
    assert cropper.asked[0][-1].content[-1] == LOOK_CLOSER
    (example,) = runs.rows
    said = [turn.text for turn in example.turns]
    assert said[3] == "<think>c</think><bbox>[4, 8, 30, 40]</bbox>"
    assert LOOK_CLOSER not in " ".join(said)  # it is not learned from
    assert len(example.pictures) == 2


def test_boxes_are_scaled_to_what_the_trained_model_sees(tmp_path: Path) -> None:
    """Experts see pages twice as wide and high."""
    large = PictureRules(16 * 28 * 28, 64 * 28 * 28, padding=0)
    small = PictureRules(4 * 28 * 28, 4 * 28 * 28, padding=0)
    runs = experts_runs(tmp_path, 1, cropper=Expert("cropper", crops), pictures=large, trained_pictures=small)
    (example,) = runs.rows
    assert example.turns[3].text == "<think>c</think><bbox>[2, 4, 15, 20]</bbox>"


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("<bbox>[10, 20, 30, 40]</bbox>", (50, 50), "<bbox>[5, 10, 15, 20]</bbox>"),
        ("<bbox>[10, 20, 30, 40]</bbox>", (200, 50), "<bbox>[20, 10, 60, 20]</bbox>"),
        ("<bbox>[-9, 0, 300, 40]</bbox>", (50, 50), "<bbox>[0, 0, 50, 20]</bbox>"),
        ("<bbox>(1.5 2 3 4)</bbox>", (200, 200), "<bbox>[3, 4, 6, 8]</bbox>"),
        ("<bbox>here</bbox>", (50, 50), "<bbox>here</bbox>"),
        ("[10, 20, 30, 40]", (50, 50), "[10, 20, 30, 40]"),
    ],
)
def test_a_box_for_a_picture_of_another_size(text: str, after: tuple[int, int], expected: str) -> None:
    assert rescaled(text, (100, 100), after) == expected


@pytest.mark.parametrize("text", ["<answer>12", "<think>a</think><search>b", "<BBOX>[1, 2, 3, 4]"])
def test_what_a_stop_string_took_away_is_put_back(text: str) -> None:
    name = text.rpartition("<")[2].partition(">")[0].lower()
    assert closed(text) == f"{text}</{name}>"
    assert closed(closed(text)) == closed(text)


def test_runs_go_on_where_they_were_stopped(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not one run is good enough"):
        experts_runs(tmp_path / "none", reasoner=Expert("reasoner", lambda _: "hm"))
    first = Expert("reasoner", reasons)
    experts_runs(tmp_path / "some", 2, reasoner=first)
    again = Expert("reasoner", reasons)
    runs = experts_runs(tmp_path / "some", 5, reasoner=again)
    assert {str(each[0].content[0]) for each in again.asked} == {"c?", "d?", "e?"}
    assert len(runs) == 2
    with pytest.raises(SettingError, match="reasoner was 'reasoner', is 'another'"):
        experts_runs(tmp_path / "some", reasoner=Expert("another", reasons))


def test_a_page_with_the_answer_is_shown_before_better_ranked_ones(tmp_path: Path) -> None:
    def lost(conversation: Conversation) -> str:
        return "<think>s</think><search>t</search>" if len(conversation) == 1 else RIGHT

    runs = experts_runs(tmp_path / "golden", 1, reasoner=Expert("lost", lost))
    (example,) = runs.rows
    assert len(runs) == 1
    red = Image.open(example.pictures[0]).getpixel((9, 9))  # type: ignore[arg-type]
    assert red[0] > 200  # type: ignore[index]
    others = experts_runs(tmp_path / "ranked", 1, reasoner=Expert("lost", lost), golden_first=False)
    black = Image.open(others.rows[0].pictures[0]).getpixel((9, 9))  # type: ignore[arg-type]
    assert black[0] < 50  # type: ignore[index]


# --- what a checkpoint remembers ------------------------------------------------------------------------------------


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    kept = AgentSettings(3, "Q: {question}", PICTURES)
    kept.save(tmp_path)
    assert AgentSettings.of(tmp_path) == kept

    class Named:
        name = str(tmp_path)

    agent = VRAGAgent(LetterRetriever(), Named())  # type: ignore[arg-type]
    assert (agent.rules.max_turns, agent.rules.template, agent.rules.pictures) == (3, "Q: {question}", PICTURES)
    said = VRAGAgent(LetterRetriever(), Named(), 7, template="{question}!")  # type: ignore[arg-type]
    assert (said.rules.max_turns, said.rules.template, said.rules.pictures) == (7, "{question}!", PICTURES)
    server = VRAGAgent(LetterRetriever(), Expert("http://x/v1", reasons), trained=tmp_path)
    assert server.rules.max_turns == 3
    plain = VRAGAgent(LetterRetriever(), Expert("x" * 9000, reasons))
    assert plain.rules.max_turns == 10


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "max_turns": 0}', "\udce4"]
)
def test_a_damaged_memory_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match="is damaged"):
        AgentSettings.of(tmp_path)


def test_the_published_values_are_the_defaults() -> None:
    recipe = AgentRlRecipe()
    assert (recipe.batch_size, recipe.samples, recipe.lr, recipe.warmup_steps) == (32, 5, 1e-6, 5)
    assert (recipe.low, recipe.high, recipe.kl, recipe.epochs) == (0.2, 0.2, 0.01, 1.0)
    assert (recipe.max_turns, recipe.max_tokens, recipe.max_response) == (4, 10_240, 2048)
    assert (recipe.min_pixels, recipe.max_pixels) == (256 * 28 * 28, 512 * 28 * 28)
    # Four turns, and one more generation that may only answer.
    assert recipe.agent.max_turns == 5
    assert recipe.agent.pictures.padding == 28


# --- training -------------------------------------------------------------------------------------------------------


def test_the_first_stage_learns_and_the_agent_runs_its_checkpoint(tmp_path: Path) -> None:
    report = train_agent(
        shared_qwen2_5_vl(),
        [sample(RIGHT), sample(RIGHT)],
        tmp_path / "run",
        retriever=LetterRetriever(),
        max_steps=6,
        batch_size=2,
        micro_batch=2,
        lr=3e-3,
        recipe={**SMALL, "max_response": 8},
        evaluate=questions().first(2),
    )
    assert report.losses[-1][1] < report.losses[0][1] * 0.8
    assert report.pages == 12
    assert set(report.scores[-1][1]) == {"em", "f1", "ndcg", "turns"}
    assert (tmp_path / "run" / "traces" / "held-out-6.html").is_file()
    agent = VRAGAgent(LetterRetriever(), load_generator(report.checkpoint, engine="transformers", device="cpu"))
    assert (agent.rules.max_turns, agent.rules.template) == (2, "{question}")
    assert agent.rules.pictures.max_pixels == 16 * 28 * 28
    trace = agent.run("a?")
    assert trace.reason in ("answered", "turns")
    card = (Path(report.checkpoint) / "README.md").read_text()
    assert "recipe of VRAG-RL, supervised" in card
    assert str(tmp_path) not in card


class Killed(BaseException):
    """In the place of a kill: nothing in the library catches it."""


def test_a_run_that_was_killed_ends_as_if_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and rewards; the distance is to the base, also after it went on from a checkpoint of its own."""
    from transformers import TrainerCallback

    from visrag_integrations.training import agent_training

    class Killer(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                raise Killed

    def begin_and_kill(plan: Any, run: RunFolder, reader: Any, trainer: Any, newest: Path | None) -> None:
        begin_agent(plan, run, reader, trainer, newest)
        trainer.add_callback(Killer())

    def first_letter(question: str, answer: str, right: Sequence[str]) -> float:
        return 0.0

    def train(name: str) -> Any:
        settings = {**RL, "max_steps": 4, "save_steps": 2, "recipe": {**RL["recipe"], "kl": 0.5}}
        return train_agent(
            shared_qwen2_5_vl(),
            questions(),
            tmp_path / name,
            retriever=LetterRetriever(),
            judge=first_letter,
            **settings,
        )

    whole = train("whole")
    with monkeypatch.context() as patch:
        patch.setattr(agent_training, "begin_agent", begin_and_kill)
        with pytest.raises(Killed):
            train("killed")
    resumed = train("killed")
    assert resumed.resumed == 1
    assert resumed.losses == whole.losses
    assert whole.losses[0][1] != whole.losses[-1][1]  # the distance to the start grows
    ours, theirs = (load_file(Path(each.checkpoint) / "model.safetensors") for each in (resumed, whole))
    for key, weight in ours.items():
        assert torch.equal(weight, theirs[key]), key
    base = load_file(shared_qwen2_5_vl() / "model.safetensors")
    assert any(not torch.equal(weight, base[key]) for key, weight in ours.items())
    samples = [json.loads(line) for line in (tmp_path / "killed" / "samples.jsonl").read_text().splitlines()]
    assert [each["step"] for each in samples] == [1, 2, 3, 4]
    assert samples[0]["run"]["question"] == samples[0]["question"]
    assert (tmp_path / "killed" / "traces" / "step-1.html").is_file()
    assert AgentSettings.of(resumed.checkpoint) is not None
    assert train("killed").as_dict() == resumed.as_dict()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"retriever": None}, "retriever is NoneType"),
        ({"judge": None}, "give judge="),
        ({"judge": 3}, "judge is int"),
        ({"questions": 7}, "questions is int"),
        ({"questions": EvaluationSet("empty", ())}, "does not say what the right answers are"),
        ({"stage": "sft", "recipe": {}}, "learns from whole runs"),
        ({"stage": "both"}, "stage is 'both'"),
        ({"recipe": {"turns": 3}}, "has no turns"),
        ({"recipe": {"max_turns": 0}}, "max_turns is 0"),
        ({"recipe": {"template": "no place"}}, "has no {question}"),
        ({"recipe": {"samples": 1}}, "samples is 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"retriever": LetterRetriever(), "judge": match_judge, **RL, **changes}
    asked = settings.pop("questions", questions())
    with pytest.raises(SettingError, match=says):
        train_agent(shared_qwen2_5_vl(), asked, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    settings = {**RL, "max_steps": 1, "retriever": LetterRetriever(), "judge": match_judge}
    train_agent(shared_qwen2_5_vl(), questions(), tmp_path / "run", **settings)
    for changes, says in (({"judge": approve}, "judge was"), ({"weights": (1.0, 1.0, 1.0)}, "weights was")):
        with pytest.raises(SettingError, match=says):
            train_agent(shared_qwen2_5_vl(), questions(), tmp_path / "run", **{**settings, **changes})


def test_a_judge_that_gives_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="a verdict is a number from 0 to 1"):
        experts_runs(tmp_path, judge=lambda *_: 7)
    assert len(LETTERS) == 20
