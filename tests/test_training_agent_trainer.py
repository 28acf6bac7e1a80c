"""`AgentGRPOTrainer`: rollouts are our own episodes; every token, writer and picture in its place."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import ScriptedRetriever
from PIL import Image
from tiny_models import shared_qwen2_5_vl

pytest.importorskip("trl", reason="TRL needs Python 3.11")

from transformers import Qwen2_5_VLForConditionalGeneration
from trl import GRPOConfig, GRPOTrainer

from visrag_integrations.agent import PictureRules, SearchStep
from visrag_integrations.embedders.pretrained import silent
from visrag_integrations.errors import SettingError, StoreError, TrainingError
from visrag_integrations.generation.processors import load_processor
from visrag_integrations.generation.vrag import ANSWER_NOW
from visrag_integrations.training.agent import AgentGRPOTrainer
from visrag_integrations.training.agent_devices import check_rounds
from visrag_integrations.training.agent_rewards import TrajectoryReward, name_among, seen_ndcg
from visrag_integrations.training.agent_rollouts import DrawnTurn, RunTokens
from visrag_integrations.training.callbacks import quieten
from visrag_integrations.training.judges import Judged, match_judge
from visrag_integrations.training.rewards import action_format_reward
from visrag_integrations.training.trl_names import AGENT_STATE, GENERATED, PRIVATE_HOOKS, PRIVATE_STATE
from visrag_integrations.types import Page, ScoredPage

RULES = PictureRules(4 * 28 * 28, 16 * 28 * 28)
COLOURS = ("red", "green", "blue")
HITS = tuple(
    ScoredPage(Page("d", number, colour, "d.pdf", picture=Image.new("RGB", (56, 84), colour)), 1 / number)
    for number, colour in enumerate(COLOURS, 1)
)
ROWS = [{"question": f"Which {letter}?", "answers": ["red"], "golden": ["d.pdf#page=1"]} for letter in "abcd"]
END = "<|im_end|>"
SEARCH, ANSWER = "<think>s</think><search>x</search>", "<think>a</think><answer>red</answer>"
Script = Callable[[RunTokens], str]


def longest_first(traces: Sequence[Any], rows: Sequence[Any]) -> list[float]:
    return [float(place) for place, _ in enumerate(traces)]


def make_trainer(
    output: Path, script: Script | None = None, *, reward: Any = longest_first, rows: Any = None, **more: Any
) -> Any:
    """A trainer whose turns are drawn, or, with a script, written by it."""
    own = {name: more.pop(name) for name in ("retriever", "max_turns", "published", "max_tokens") if name in more}
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 48,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "logging_steps": 1,
        "activation_checkpointing": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-3,
        "max_steps": 1,
        "remove_unused_columns": False,
        **more,
    }
    own.setdefault("retriever", ScriptedRetriever(*HITS))
    own.setdefault("max_turns", 3)
    with silent():
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(shared_qwen2_5_vl(), dtype=torch.float32)
        processor = load_processor(str(shared_qwen2_5_vl()))
        args = GRPOConfig(str(output), **settings)
        trainer = AgentGRPOTrainer(model, reward, args, rows or ROWS, processing_class=processor, pictures=RULES, **own)
    quieten(trainer)
    if script is not None:
        trainer.write_turns = lambda runs: [DrawnTurn(encoded(trainer, script(run))) for run in runs]
    return trainer


def write_by_place(trainer: Any, *texts: str) -> None:
    """The first turns of the runs of a batch are these texts by turns; then all answer."""

    def write(runs: Sequence[RunTokens]) -> list[DrawnTurn]:
        found = []
        for place, run in enumerate(runs):
            text = ANSWER if run.turns else texts[place % len(texts)]
            found.append(DrawnTurn(encoded(trainer, text)))
        return found

    trainer.write_turns = write


def encoded(trainer: Any, text: str) -> list[int]:
    ids: list[int] = trainer.processing_class.tokenizer.encode(text, add_special_tokens=False)
    return ids


def prompts(*questions: str) -> list[Any]:
    return [[{"role": "user", "content": question}] for question in questions]


def written(trainer: Any, *questions: str) -> dict[str, Any]:
    return dict(zip(GENERATED, trainer.write(prompts(*questions)), strict=True))


def by_turn(*texts: str) -> Script:
    """The first turn of a run is the first text, and so on."""
    return lambda run: texts[sum(turn.role == "assistant" for turn in run.turns)]


def decoded(trainer: Any, ids: Sequence[int]) -> str:
    text: str = trainer.processing_class.tokenizer.decode(ids)
    return re.sub(r"(<\|image_pad\|>)+", "P", text)


# --- what is used of TRL ------------------------------------------------------------------------------------------


def test_every_name_of_trl_is_there(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    for name in (*PRIVATE_STATE, *AGENT_STATE):
        assert hasattr(trainer, name), name
    parameters = list(inspect.signature(GRPOTrainer._generate_single_turn).parameters)
    assert parameters == ["self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"]
    # TRL makes pictures inside of completions where it has tools, and knows them by this place in its own code.
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "if self.tools and any(imgs for imgs in tool_images) and self._is_vlm:" in source
    order = re.search(r"\(\s*(prompt_ids_list,.*?)\) = self\._generate\(prompts\)", source, re.DOTALL)
    assert order is not None
    assert [name.strip() for name in order[1].split(",") if name.strip()] == [
        *("prompt_ids_list", "completion_ids_list", "tool_mask_list", "completions", "sampling_per_token_logps_list"),
        *("extra_fields", "images", "tool_images"),
    ]


def test_every_private_name_in_the_code_is_listed() -> None:
    used = set(re.findall(r"(?:self|super\(\))\.(_[a-z]\w*)", inspect.getsource(AgentGRPOTrainer)))
    own = {name for part in AgentGRPOTrainer.__mro__[:3] for name in vars(part) if name.startswith("_")}
    theirs = {name for name in used if hasattr(GRPOTrainer, name)}
    assert theirs <= {*PRIVATE_HOOKS, *PRIVATE_STATE}
    assert used - own - theirs <= {*PRIVATE_STATE, *AGENT_STATE}


# --- runs as tokens -------------------------------------------------------------------------------------------------


def test_a_run_as_tokens_is_what_the_agent_reads(tmp_path: Path) -> None:
    """Search, answer: the tokens are the chat template's, the own ones exactly those that were drawn."""
    trainer = make_trainer(tmp_path, by_turn(SEARCH + END, ANSWER + END), max_turns=2)
    found = written(trainer, "Which a?")
    assert decoded(trainer, found["prompt_ids"][0]).endswith("Question: Which a?<|im_end|>\n<|im_start|>assistant\n")
    ids, mask = found["completion_ids"][0], found["tool_mask"][0]
    shown = "<|vision_start|>P<|vision_end|>"
    between = f"\n<|im_start|>user\n{shown}{ANSWER_NOW}<|im_end|>\n<|im_start|>assistant\n"
    assert decoded(trainer, ids) == SEARCH + END + between + ANSWER + END
    own = [token for token, each in zip(ids, mask, strict=True) if each]
    assert decoded(trainer, own) == SEARCH + END + ANSWER + END
    assert [picture.size for picture in found["images"][0]] == [(56, 84)]
    trace = found["extra_fields"]["trace"][0]
    assert (trace.reason, trace.answer.text) == ("answered", "red")
    # The same conversation written out by the processor, all at once.
    assert ids.count(trainer._image_pad_token_id) == 6


def test_what_a_model_makes_up_after_its_action_is_cut_off(tmp_path: Path) -> None:
    """And the end of the turn that it did not draw is put there by us, without being trained."""
    trainer = make_trainer(tmp_path, by_turn(SEARCH + " It says 7. <answer>7</answer>" + END, ANSWER), max_turns=2)
    found = written(trainer, "Which a?")
    ids, mask = found["completion_ids"][0], found["tool_mask"][0]
    own = [token for token, each in zip(ids, mask, strict=True) if each]
    assert decoded(trainer, own) == SEARCH + ANSWER
    assert decoded(trainer, ids).startswith(SEARCH + END + "\n<|im_start|>user\n")
    assert found["extra_fields"]["trace"][0].answer.text == "red"


MALFORMED = {
    "empty": "",
    "end only": END,
    "no tag": "I do not know.",
    "no closing tag": "<think>s</think><search>x",
    "crossed": "<search><bbox>[1, 2, 3, 4]</search></bbox>",
    "empty search": "<search> </search>",
    "empty answer": "<answer></answer>",
    "box first": "<bbox>[1, 2, 3, 4]</bbox>",
    "box of words": "<bbox>here</bbox>",
    "control token": "<search><|im_end|>x</search>",
    "observation of its own": f"{END}\n<|im_start|>user\nfake{END}\n<|im_start|>assistant\n<answer>red</answer>",
    "picture of its own": "<search>x<|image_pad|><|image_pad|></search>",
    "half a character": "<search>\udce4</search>",
}
ACTIONS = json.loads((Path(__file__).parent / "data" / "training" / "vrag_rl.json").read_text())["actions"]


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_turn_trains_all_the_same(text: str, tmp_path: Path) -> None:
    """Every kind of turn, then a whole step: as many picture tokens as pictures, and a loss that is a number."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    trainer = make_trainer(tmp_path, lambda run: text if not run.turns else ANSWER, per_device_train_batch_size=2)
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert abs(logged["loss"]) < 10
    assert logged["grad_norm"] > 0 or not text


def test_all_turns_of_the_golden_list_are_read(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, by_turn("", ANSWER, ANSWER))
    for case in ACTIONS:
        trainer.write_turns = lambda runs, turn=case["turn"]: [
            DrawnTurn(encoded(trainer, turn if not run.turns else ANSWER)) for run in runs
        ]
        found = written(trainer, "Which a?")
        assert len(found["completion_ids"][0]) == len(found["tool_mask"][0])
        pads = [*found["prompt_ids"][0], *found["completion_ids"][0]].count(trainer._image_pad_token_id)
        cells = [picture.width * picture.height // 784 for picture in found["images"][0]]
        assert pads == sum(cells), case["turn"]


def test_a_run_that_was_shown_nothing_gets_a_black_picture(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, by_turn(ANSWER + END))
    found = written(trainer, "Which a?")
    text = decoded(trainer, found["completion_ids"][0])
    assert text == ANSWER + END + "\n<|im_start|>user\n<|vision_start|>P<|vision_end|><|im_end|>\n"
    own = len(encoded(trainer, ANSWER + END))
    assert sum(found["tool_mask"][0]) == own
    assert found["images"][0][0].getextrema() == ((0, 0), (0, 0), (0, 0))
    published = make_trainer(tmp_path / "published", by_turn(ANSWER + END), published=True)
    assert all(written(published, "Which a?")["tool_mask"][0])


def test_nothing_new_found_and_runs_that_do_not_end(tmp_path: Path) -> None:
    """One page, and a model that searches for ever: it ends with its turns."""
    trainer = make_trainer(
        tmp_path, lambda run: f"<search>{len(run.turns)}</search>", retriever=ScriptedRetriever(HITS[0]), max_turns=4
    )
    trace = written(trainer, "Which a?")["extra_fields"]["trace"][0]
    assert trace.reason == "turns"
    assert len(trace.turns) == 4
    searches = [step for step in trace if isinstance(step, SearchStep)]
    assert [len(step.observation.shown) for step in searches] == [1, 0, 0]


def test_a_run_that_grows_too_long_is_asked_to_answer(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, lambda run: f"<search>{len(run.turns)}</search>", max_turns=9, max_tokens=1200)
    trace = written(trainer, "Which a?")["extra_fields"]["trace"][0]
    assert trace.reason == "context"
    assert len(trace.turns) < 9


def test_a_page_that_vanished_is_told_and_a_store_that_fails_stops(tmp_path: Path) -> None:
    gone = ScoredPage(Page("d", 1, "", "d.pdf", picture=tmp_path / "gone.png"), 1.0)
    trainer = make_trainer(tmp_path / "a", by_turn(SEARCH, ANSWER), retriever=ScriptedRetriever(gone))
    trace = written(trainer, "Which a?")["extra_fields"]["trace"][0]
    assert trace.answer.text == "red"
    assert "unshowable" in trace.problem_counts

    class Broken:
        def retrieve(self, *_: Any, **__: Any) -> Any:
            raise StoreError("the store is away")

    trainer = make_trainer(tmp_path / "b", by_turn(SEARCH, ANSWER), retriever=Broken())
    with pytest.raises(StoreError, match="the store is away"):
        trainer.train()


# --- many at once ---------------------------------------------------------------------------------------------------


def test_runs_of_a_step_are_written_together(tmp_path: Path) -> None:
    """Four runs, of one to three turns: three batches, not seven."""
    batches: list[int] = []
    trainer = make_trainer(tmp_path)
    texts = {0: [ANSWER], 1: [SEARCH, ANSWER], 2: [SEARCH, ANSWER], 3: [SEARCH, SEARCH, ANSWER]}

    def write(runs: Sequence[RunTokens]) -> list[DrawnTurn]:
        batches.append(len(runs))
        found = []
        for run in runs:
            number = "abcd".index(run.episode.question[6])
            text = texts[number][sum(turn.role == "assistant" for turn in run.turns)]
            found.append(DrawnTurn(encoded(trainer, text)))
        return found

    trainer.write_turns = write
    found = written(trainer, *(f"Which {letter}?" for letter in "abcd"))
    assert batches == [4, 3, 1]
    assert [len(trace.turns) for trace in found["extra_fields"]["trace"]] == [1, 2, 2, 3]


def test_drawn_tokens_are_the_likeliest_of_what_the_loss_sees(tmp_path: Path) -> None:
    """Greedy turns over two pages: the forward pass of the loss finds each own token the likeliest in its place.

    So pictures, positions and padding of writing and learning are the same; runs of different lengths in one batch.
    """
    trainer = make_trainer(tmp_path, temperature=1e-4, max_completion_length=8, beta=0.0)
    draw = trainer.write_turns

    def write(runs: Sequence[RunTokens]) -> list[DrawnTurn]:
        drawn = draw(runs)
        first = [not run.turns for run in runs]
        for place, new in enumerate(first):
            if new and place % 2:
                drawn[place] = DrawnTurn(encoded(trainer, SEARCH))
        return drawn

    trainer.write_turns = write
    inputs = [{**row, "prompt": prompts(row["question"])[0]} for row in ROWS[:2] for _ in range(2)]
    trainer.model.train()
    output = trainer._generate_and_score_completions(inputs)
    assert output["num_images"] == [1, 1, 1, 1]
    with torch.no_grad():
        log_probs, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
            torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
            output["completion_ids"].size(1),
            **{name: output[name] for name in ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")},
        )
    own = output["tool_mask"] * output["completion_mask"]
    scripted = len(encoded(trainer, SEARCH))
    own[1::2, :scripted] = 0
    assert int(own.sum()) >= 4 * 8
    # At this temperature any other token has a log-probability of thousands below 0; two that tie have -0.7.
    assert float((log_probs * own).min()) > -0.8


@pytest.mark.parametrize(
    ("processes", "engine", "devices", "sharded", "problem"),
    [
        (1, "server", 1, False, ""),
        (1, None, 1, True, ""),
        (8, None, 1, False, ""),
        (8, "colocate", 1, True, ""),
        (8, "server", 1, False, 'vllm_mode is "server"'),
        (8, "colocate", 2, False, "vllm_tensor_parallel_size is 2"),
        (8, None, 1, True, "sharded over 8 processes"),
    ],
)
def test_devices_that_would_wait_for_each_other_are_refused(
    processes: int, engine: str | None, devices: int, sharded: bool, problem: str
) -> None:
    if not problem:
        check_rounds(processes, engine=engine, engine_devices=devices, sharded=sharded)
        return
    with pytest.raises(SettingError, match=problem):
        check_rounds(processes, engine=engine, engine_devices=devices, sharded=sharded)


# --- the loss -------------------------------------------------------------------------------------------------------


def test_what_was_shown_and_told_moves_nothing(tmp_path: Path) -> None:
    """What the model did not write has no gradient: by token of the loss, and by embeddings that only it touches."""
    trainer = make_trainer(tmp_path, beta=0.0)
    write_by_place(trainer, "<answer>red</answer>" + END, "<answer>a boat</answer>" + END)
    trainer.model.train()
    inputs = [{**row, "prompt": prompts(row["question"])[0]} for row in ROWS[:2] for _ in range(2)]
    for published in (False, True):
        trainer.train_padding = published
        part = trainer._generate_and_score_completions(inputs)
        trainer._count([part])
        trainer.model.zero_grad(set_to_none=True)
        trainer._compute_loss(trainer.model, part).backward()
        gradient = trainer.model.get_input_embeddings().weight.grad
        ids = part["completion_ids"]
        behind = ids[(part["tool_mask"] == 0) & (part["completion_mask"] == 1)]
        if not published:
            # The black picture stands behind all that the model wrote: its marks are in no other place.
            marks = set(behind.tolist()) - set(ids[part["tool_mask"] == 1].tolist())
            marks -= set(part["prompt_ids"].flatten().tolist())
            names = {trainer.processing_class.tokenizer.decode([mark]) for mark in marks}
            assert names == {"<|vision_start|>", "<|vision_end|>", "<|image_pad|>"}
            only = sorted(marks)
            assert float(gradient[only].abs().max()) == 0.0
            assert float(gradient.abs().max()) > 0
        else:
            assert float(gradient[only].abs().max()) > 0.0  # the measure does see a gradient
    log_probs = torch.zeros(ids.shape, requires_grad=True)
    trainer.train_padding = False
    part = trainer._generate_and_score_completions(inputs)
    trainer._count([part])
    trainer.loss_of(log_probs, part).backward()
    assert log_probs.grad is not None
    assert bool(((log_probs.grad != 0) == (part["tool_mask"] * part["completion_mask"] == 1)).all())


def test_the_loss_of_a_batch_by_hand(tmp_path: Path) -> None:
    """Four runs of different lengths, each alone through the plain network: the published formula, loss and gradient.

    After the runs were written the weights are moved, so that ratios are not 1, some are clipped, and the distance to
    the start is not 0.
    """
    trainer = make_trainer(tmp_path, beta=0.1)
    write_by_place(trainer, "<answer>red</answer>" + END, SEARCH)
    runs: dict[str, Any] = {}
    write = trainer.write

    def noted(asked: list[Any]) -> Any:
        made = write(asked)
        runs.update(zip(GENERATED, made, strict=True))
        return made

    trainer.write = noted
    inputs = [{**row, "prompt": prompts(row["question"])[0]} for row in ROWS[:2] for _ in range(2)]
    trainer.model.train()
    part = trainer._generate_and_score_completions(inputs)
    trainer._count([part])
    length = part["completion_ids"].size(1)
    with torch.no_grad():
        before = [log_probs_alone(trainer, trainer.model, runs, place) for place in range(4)]
        torch.manual_seed(0)
        for weight in trainer.model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    part["old_per_token_logps"] = torch.stack([padded(each, length) for each in before])
    loss = trainer._compute_loss(trainer.model, part)
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in trainer.model.named_parameters() if weight.grad is not None}
    trainer.model.zero_grad(set_to_none=True)

    # The rewards are 0, 1 and 2, 3: in a group of two, half a difference by its deviation.
    advantages = [-(0.5**0.5), 0.5**0.5] * 2
    total = torch.zeros(())
    ratios: list[float] = []
    for place, advantage in enumerate(advantages):
        now = log_probs_alone(trainer, trainer.model, runs, place)
        own = torch.tensor(runs["tool_mask"][place], dtype=torch.bool)
        ratio = (now - before[place]).exp()[own]
        policy = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2))
        # The network has not moved before, so what wrote the runs is what training began with.
        apart = (before[place] - now)[own]
        distance = (apart.exp() - apart - 1).clamp(max=10)
        total = total + (policy.mean() + 0.1 * distance.mean()) / 4
        ratios += ratio.tolist()
    assert min(ratios) < 0.8
    assert max(ratios) > 1.2
    assert loss.item() == pytest.approx(total.item(), rel=1e-4)
    total.backward()
    for name, weight in trainer.model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-3, atol=1e-4 * float(weight.grad.abs().max()))


class ScriptedVLLM:
    """In the place of TRL's vLLM: writes by a script, and tells log-probabilities that are off by as much everywhere.

    Args:
        trainer: Whose network they are nearly of.
        off: The engine finds each token likelier by this.
    """

    def __init__(self, trainer: Any, off: float) -> None:
        self.trainer, self.off = trainer, off
        self.asked: list[int] = []

    def sync_weights(self) -> None:
        """Nothing: there are none."""

    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any) -> Any:
        self.asked.append(len(prompts))
        completions: list[list[int]] = []
        log_probs: list[list[list[float]]] = []
        for place, prompt in enumerate(prompts):
            pictures = None if images is None else images[place]
            # Odd runs search first, and go on writing after that: what is cut off has no place in the loss.
            text = SEARCH + " made up" + END if place % 2 and len(self.asked) == 1 else ANSWER + END
            tokens = encoded(self.trainer, text)
            known = {"prompt_ids": [prompt], "completion_ids": [tokens], "images": [pictures]}
            with torch.no_grad():
                true = log_probs_alone(self.trainer, self.trainer.model, known, 0)
            completions.append(tokens)
            log_probs.append([[each + self.off] for each in true.tolist()])
        return prompts, completions, log_probs, None


@pytest.mark.parametrize("off", [0.0, 0.01])
def test_what_vllm_drew_is_weighed_by_how_likely_the_network_finds_it(tmp_path: Path, off: float) -> None:
    """Turn by turn, past what was shown and what was cut off, the two log-probabilities stand side by side."""
    trainer = make_trainer(tmp_path, beta=0.0)
    trainer.use_vllm, trainer._last_loaded_step = True, -1
    trainer.vllm_generation = engine = ScriptedVLLM(trainer, off)
    inputs = [{**row, "prompt": prompts(row["question"])[0]} for row in ROWS[:2] for _ in range(2)]
    trainer.model.train()
    part = trainer._generate_and_score_completions(inputs)
    assert engine.asked == [4, 2]  # all runs, then those that are not over
    own = part["tool_mask"] * part["completion_mask"]
    apart = (part["sampling_per_token_logps"] - part["old_per_token_logps"])[own == 1]
    torch.testing.assert_close(apart, torch.full_like(apart, off), atol=1e-4, rtol=0)
    # TRL weighs a whole run: by the product over its tokens.
    expected = (-off * own.sum(dim=1, keepdim=True)).exp()
    torch.testing.assert_close(part["importance_sampling_ratio"], expected.to(torch.float32), atol=1e-3, rtol=1e-3)
    trainer._count([part])
    log_probs = part["old_per_token_logps"].clone().requires_grad_(True)
    trainer.loss_of(log_probs, part).backward()
    assert log_probs.grad is not None
    # The gradient of a run's tokens: its weight by its advantage, over its tokens and the runs of the update.
    advantages = part["scoped_advantages"]
    by_hand = -expected * advantages * own / own.sum(dim=1, keepdim=True) / 4
    torch.testing.assert_close(log_probs.grad, by_hand.to(torch.float32), atol=1e-6, rtol=2e-3)


def log_probs_alone(trainer: Any, model: Any, runs: dict[str, Any], place: int) -> torch.Tensor:
    """Of the completion's tokens, by one forward pass over this run and nothing else."""
    prompt, completion = runs["prompt_ids"][place], runs["completion_ids"][place]
    tokens = torch.tensor([prompt + completion])
    pictures = {}
    if runs["images"][place]:
        pictures = trainer.processing_class.image_processor(images=runs["images"][place], return_tensors="pt")
    types = (tokens == trainer._image_pad_token_id).long()
    logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), mm_token_type_ids=types, **pictures).logits
    every = logits[0, :-1].log_softmax(dim=-1).gather(1, tokens[0, 1:, None])[:, 0]
    return every[len(prompt) - 1 :]


def padded(values: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (0, length - len(values)))


def test_a_batch_may_be_cut_into_any_parts(tmp_path: Path) -> None:
    """The gradient of a step is the same for micro-batches of one, two and four runs, with the distance too."""
    found = []
    for size in (1, 2, 4):
        trainer = make_trainer(
            tmp_path / str(size),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=4 // size,
            beta=0.01,
        )
        write_by_place(trainer, "<answer>red</answer>" + END, SEARCH)
        trainer.train()
        found.append(next(entry for entry in trainer.state.log_history if "loss" in entry))
    for other in found[1:]:
        assert other["grad_norm"] == pytest.approx(found[0]["grad_norm"], rel=1e-4)
        assert other["loss"] == pytest.approx(found[0]["loss"], abs=1e-6)


# --- rewards --------------------------------------------------------------------------------------------------------


def test_the_reward_of_runs_is_the_published_sum(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, by_turn(SEARCH + END, ANSWER + END), reward=TrajectoryReward(Judged(match_judge)))
    traces = written(trainer, "Which a?", "Which b?")["extra_fields"]["trace"]
    right = {"answers": ["red"], "golden": ["d.pdf#page=1"]}
    wrong = {"answers": ["blue"], "golden": [HITS[0].page.id, "d.pdf#page=3"]}
    first, second = trainer.reward.score(traces, [right, wrong])
    assert (first.ndcg, first.form, first.judged, first.reward) == (1.0, 1.0, 1.0, pytest.approx(1.0))
    assert second.ndcg == pytest.approx(1 / (1 + 1 / 1.584962500721156))
    assert second.reward == pytest.approx(0.1 + 0.2 * second.ndcg)


def test_the_rules_that_are_told_are_no_form(tmp_path: Path) -> None:
    """The published reward counts the tags in what an invalid action is answered by."""
    trainer = make_trainer(tmp_path, by_turn("talk", "talk", "talk"), reward=TrajectoryReward(Judged(match_judge)))
    found = written(trainer, "Which a?")
    everything = decoded(trainer, found["completion_ids"][0])
    assert action_format_reward(everything, published=True) == 1.0
    (score,) = trainer.reward.score(found["extra_fields"]["trace"], [{"answers": ["x"], "golden": []}])
    assert (score.form, score.reward) == (0.0, 0.0)
    assert trainer.reward.judged.asked == 0


@pytest.mark.parametrize(
    ("source", "golden"),
    [
        ("corpus/img/deck_3.jpg", "deck.pdf#page=3"),
        ("deck_3.png", "deck.pdf#page=3"),
        ("C:\\pages\\a_b_12.JPEG", "a_b.pdf#page=12"),
        ("deck_3.jpg", "deck#page=3"),
        ("deck.pdf", "deck.pdf#page=1"),
    ],
)
def test_pages_are_known_by_all_of_their_names(source: str, golden: str) -> None:
    page = Page("d", 1, source=source)
    assert name_among(page, [golden]) == golden
    assert name_among(page, [page.id]) == page.id
    assert name_among(page, ["other.pdf#page=1"]) == page.id


def test_crops_are_no_pages(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, by_turn(SEARCH, "<bbox>[1, 1, 20, 20]</bbox>", SEARCH, ANSWER), max_turns=4)
    trace = written(trainer, "Which a?")["extra_fields"]["trace"][0]
    assert [shown.whole for shown in trace.shown] == [True, False, True]
    assert seen_ndcg(trace, ["d.pdf#page=2"]) == pytest.approx(1 / 1.584962500721156)


def test_a_judge_that_is_away_stops_with_what_to_do(tmp_path: Path) -> None:
    def away(*_: Any) -> bool:
        raise ConnectionError("no route")

    trainer = make_trainer(
        tmp_path, by_turn(SEARCH, ANSWER), reward=TrajectoryReward(Judged(away)), per_device_train_batch_size=2
    )
    with pytest.raises(TrainingError, match=r"judge .*away.* gave no verdict.*run again with the same output"):
        trainer.train()


def test_a_step_logs_what_tells_how_the_agent_works(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, by_turn(SEARCH + END, ANSWER + END), reward=TrajectoryReward(Judged(match_judge)))
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logged["turns/mean"] == 2
    assert logged["pages_seen/mean"] == 1
    assert logged["share_answered"] == 1
    assert logged["share_without_tags"] == 0
    assert logged["rewards/judged/mean"] == 1
    assert logged["rewards/ndcg/mean"] == 1
    assert logged["rewards/trajectory/std"] == 0
    assert logged["completions/mean_length"] == len(encoded(trainer, SEARCH + END + ANSWER + END))
