"""`ScopedGRPOTrainer`: the published numbers through TRL's own trainer, its hooks, scopes, groups that are kept."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_scoped import GOLDEN, LOSSES, close, tensor
from tiny_models import build_qwen2_5_vl, shared_qwen2_5_vl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

pytest.importorskip("trl", reason="TRL needs Python 3.11")

from datasets import Dataset
from scoped_proof import make_trainer, rows_with_two_pictures
from trl import GRPOConfig, GRPOTrainer

from visrag_integrations.errors import MissingExtraError, SettingError, TrainingError
from visrag_integrations.training import lazily, scopes
from visrag_integrations.training.evidence_trainer import EvidenceTrainer
from visrag_integrations.training.group_replacing import GroupReplacing
from visrag_integrations.training.rewards import EVISRAG_REWARDS
from visrag_integrations.training.scoped import ScopedGRPOTrainer
from visrag_integrations.training.spelling import spell
from visrag_integrations.training.trl_names import (
    GENERATED,
    NETWORK_INPUTS,
    NOT_USED,
    PRIVATE_HOOKS,
    PRIVATE_STATE,
)

DATA = Path(__file__).parent / "data" / "training"


@pytest.fixture
def checkpoint() -> Path:
    return shared_qwen2_5_vl()


# --- what is used of TRL ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRIVATE_HOOKS)
def test_every_private_method_is_there(name: str) -> None:
    assert callable(getattr(GRPOTrainer, name))


@pytest.mark.parametrize("name", PRIVATE_STATE)
def test_every_private_attribute_is_there(name: str, checkpoint: Path, tmp_path: Path) -> None:
    assert hasattr(make_trainer(checkpoint, tmp_path), name)


def test_every_private_name_in_the_code_is_listed() -> None:
    """Each `self._name` that is TRL's, and each method of TRL's that is overridden."""
    own: set[str] = {"_ready"}
    used: set[str] = set()
    for part in (ScopedGRPOTrainer, GroupReplacing, EvidenceTrainer):
        own |= {name for name in vars(part) if name.startswith("_")}
        used |= set(re.findall(r"(?:self|super\(\))\.(_[a-z]\w*)", inspect.getsource(part)))
    assert len(used) > 10
    theirs = {name for name in used | own if hasattr(GRPOTrainer, name) and not name.startswith("__")} - {"_abc_impl"}
    attributes = used - own - theirs
    assert theirs <= {*PRIVATE_HOOKS, *PRIVATE_STATE}
    assert attributes <= set(PRIVATE_STATE)


def test_signatures_of_the_hooks() -> None:
    def names(hook: str) -> list[str]:
        return list(inspect.signature(getattr(GRPOTrainer, hook)).parameters)

    assert names("_generate") == ["self", "prompts"]
    assert names("_calculate_rewards") == ["self", "inputs", "prompts", "completions", "completion_ids_list"]
    assert names("_generate_and_score_completions") == ["self", "inputs"]
    assert names("_prepare_inputs") == ["self", "generation_batch"]
    assert names("_compute_loss") == ["self", "model", "inputs"]
    log_probs = names("_get_per_token_logps_and_entropies")
    assert log_probs[:5] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    assert set(NETWORK_INPUTS) == set(log_probs[8:])


def test_what_is_written_comes_in_eight_parts(checkpoint: Path, tmp_path: Path) -> None:
    trainer = make_trainer(checkpoint, tmp_path)
    rows = trainer.train_dataset[:1]["prompt"]
    assert len(trainer.write(rows)) == len(GENERATED)


@pytest.mark.parametrize(("name", "value"), NOT_USED.items())
def test_defaults_of_what_is_not_used(name: str, value: Any) -> None:
    fields = GRPOConfig.__dataclass_fields__
    assert fields[name].default == value


def test_trl_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import trl

    monkeypatch.setattr(trl, "__version__", "1.17.0")
    with pytest.raises(MissingExtraError, match=r"1\.17\.0.*from 1\.16 to before 1\.17"):
        lazily.check_trl()


def test_the_functions_import_with_torch_alone() -> None:
    code = (
        "import sys\n"
        "from visrag_integrations.training.scoped import group_advantages, scoped_loss\n"
        "from visrag_integrations.training.rewards import answer_reward\n"
        "from visrag_integrations.training.scopes import token_scope\n"
        "assert not {'trl', 'transformers', 'peft', 'accelerate', 'datasets'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the published loss -------------------------------------------------------------------------------------------


def through_the_trainer(trainer: Any, case: str, rows: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient of a golden case, by `_compute_loss`; only the network's forward pass is golden."""
    names = ("log_probs", "old_log_probs", "advantages", "reward_masks")
    log_probs, old, advantages, masks = (tensor(f"loss.{case}.{name}") for name in names)
    log_probs = log_probs.clone().requires_grad_()
    shape = log_probs.shape
    inputs = {
        "prompt_ids": torch.zeros(shape[0], 1, dtype=torch.long),
        "prompt_mask": torch.ones(shape[0], 1, dtype=torch.long),
        "completion_ids": torch.zeros(shape, dtype=torch.long),
        "completion_mask": tensor(f"loss.{case}.response_mask").long(),
        "old_per_token_logps": old,
        "scoped_advantages": advantages,
        "reward_masks": masks.bool(),
    }
    trainer._count([inputs])
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (log_probs, torch.zeros(shape), None)
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    assert log_probs.grad is not None
    return loss.detach(), log_probs.grad


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("case", [case for case in LOSSES if not case.startswith("micro")])
def test_published_loss_and_gradient_through_the_trainer(
    case: str, published: bool, checkpoint: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(checkpoint, tmp_path, rewards=6, published=published)
    loss, gradient = through_the_trainer(trainer, case)
    close(loss, tensor(f"loss.{case}.loss").float())
    close(gradient, tensor(f"loss.{case}.grad_log_probs"))
    assert trainer.silent is False


def test_no_advantage_at_all_is_no_step(checkpoint: Path, tmp_path: Path) -> None:
    """The published code divides 0 by 0 there."""
    trainer = make_trainer(checkpoint, tmp_path, rewards=6)
    loss, gradient = through_the_trainer(trainer, "all_zero_is_nan")
    assert loss == 0
    assert not gradient.any()
    assert trainer.silent is True


def test_published_settings_hold_where_the_config_is_silent(checkpoint: Path, tmp_path: Path) -> None:
    trainer = make_trainer(checkpoint, tmp_path)
    assert (trainer.epsilon_low, trainer.high, trainer.dual) == (0.2, 0.28, 3.0)
    trainer = make_trainer(checkpoint, tmp_path, epsilon=0.1, epsilon_high=0.3, delta=2.0)
    assert (trainer.epsilon_low, trainer.high, trainer.dual) == (0.1, 0.3, 2.0)


def test_how_a_batch_is_cut_changes_no_weight(tmp_path: Path) -> None:
    """Micro-batches of 2 and of 8, one step: the published code steps further where rewards vary in some only."""
    weights = []
    for size in (8, 2):
        base = build_qwen2_5_vl(tmp_path / f"base{size}")
        trainer = make_trainer(
            base,
            tmp_path,
            generations=4,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            learning_rate=1e-3,
            max_steps=1,
            optim="sgd",
            max_grad_norm=0.0,
            top_k=1,  # what is written must not depend on the order of draws
            functions=[first_letters_differ],
        )
        trainer.train()
        weights.append({name: weight.detach().clone() for name, weight in trainer.model.named_parameters()})
    base_weights = dict(make_trainer(tmp_path / "base8", tmp_path).model.named_parameters())
    moved = 0.0
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-7)
        moved += float((weight - base_weights[name].detach()).abs().sum())
    assert moved > 0


def first_letters_differ(completions: Sequence[Any], **_: Any) -> list[float]:
    """Greedy responses to a prompt are the same, so that the reward has to vary without them."""
    return [float(place % 3) for place in range(len(completions))]


# --- which tokens a reward reaches --------------------------------------------------------------------------------

AFTER_THINK = (
    *(
        "The",
        "To",
        "I",
        "In",
        "\n",
        "\nThe",
        " The",
        "It",
        "We",
        "Therefore",
        "Based",
        "From",
        "1",
        "4.2",
        "€4",
        "“So”",
    ),
    *("因为", "それ", "Это", "é", "<b>", "[1]", "(", ">", ">>", "$5", "- ", "\t", "\r\n", "A"),
)


def published_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DATA / "rs_grpo_tokenizer.json"))


def byte_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(shared_qwen2_5_vl() / "tokenizer.json"))


def merging_tokenizer() -> Tokenizer:
    """Joins `>` with whatever byte follows, and then with the next one too."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges = []
    for letter in letters:
        merges.append((">", letter))
        vocabulary[">" + letter] = len(vocabulary)
    for letter in "hoaĊ<":
        merges.append((">T", letter))
        vocabulary[">T" + letter] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "published": published_tokenizer,
    "byte": byte_tokenizer,
    "merging": merging_tokenizer,
}


def tags_of_characters(text: str) -> dict[str, tuple[int, int]]:
    """Name of a scope -> its characters, by the rule in words: from this tag on, or until before that one."""
    evidence, think, answer = (text.index(f"<{tag}>") for tag in ("evidence", "think", "answer"))
    end = len(text)
    return {
        "all": (0, end),
        "from_think": (think, end),
        "before_think": (0, think),
        "before_evidence": (0, evidence),
        "think": (think, answer),
    }


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("opening", range(30))
def test_scopes_by_characters(kind: str, opening: int) -> None:
    """The tokenizer's own offsets say where a token begins; a token belongs to where its first character stands."""
    before, after = ("", "\n", " ", "\n\n", ".")[opening % 5], AFTER_THINK[opening]
    text = (
        f"<observe>{after} observed</observe>{before}<evidence>{after}: 12 — ¥</evidence>{before}<think>{after} is"
        f"</think>{before}<answer>{after}</answer>"
    )
    tokenizer = TOKENIZERS[kind]()
    encoded = tokenizer.encode(text)
    found_text, offsets = spell(encoded.ids, lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True))
    assert found_text == text
    assert [start for start, _ in offsets] == [start for start, _ in encoded.offsets]
    for scope, (first, end) in tags_of_characters(text).items():
        span = scopes.token_scope(text, offsets, scope)  # type: ignore[arg-type]
        assert span is not None
        inside = [place for place, (start, _) in enumerate(encoded.offsets) if first <= start < end]
        assert list(range(*span)) == inside, scope
        assert inside


def test_the_published_search_loses_most_of_these() -> None:
    """Why characters: with a vocabulary that splits as Qwen2.5's does, both rewards would reach every token."""
    tokenizer = published_tokenizer()
    lost = 0
    for after in AFTER_THINK:
        ids = tokenizer.encode(f"<evidence>x</evidence>\n<think>{after}</think>").ids
        span = scopes.published_scope(ids, len(ids), "from_think", lambda tag: tokenizer.encode(tag).ids)
        lost += span is not None and span[0] == 0
    assert lost >= 5


def test_offsets_of_bytes_that_are_no_character() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("a€b").ids
    cut = [*ids[:3], *ids[4:]]  # the last byte of the euro sign is missing
    text, offsets = spell(cut, lambda each: tokenizer.decode(list(each)))
    assert text == tokenizer.decode(cut)
    assert offsets[0] == (0, 1)
    assert offsets[-1] == (len(text) - 1, len(text))


def test_masks_of_the_trainer(checkpoint: Path, tmp_path: Path) -> None:
    trainer = make_trainer(checkpoint, tmp_path, rewards=6, scopes=[spec.scope for spec in EVISRAG_REWARDS])
    text = "<observe>o</observe><evidence>[1]: €</evidence><think>To</think><answer>b</answer>"
    tokenizer = trainer.processing_class.tokenizer
    ids = [*tokenizer.encode(text), trainer.eos_token_ids[0]]
    short = tokenizer.encode("no tags")
    rollout = rollout_of([ids, short])
    masks, without_tags = trainer._masks(rollout)
    assert without_tags == 0.5
    accuracy, evidence, form, length, observation, thinking = masks[0]
    assert form.all()
    assert length.all()
    assert not (accuracy & evidence).any()
    assert (accuracy | evidence).all()
    assert tokenizer.decode([each for each, here in zip(ids, thinking.tolist(), strict=True) if here]) == (
        "<think>To</think>"
    )
    assert tokenizer.decode([each for each, here in zip(ids, observation.tolist(), strict=True) if here]) == (
        "<observe>o</observe>"
    )
    # Without tags the whole response is judged, and padding never.
    assert masks[1, :, : len(short)].all()
    assert not masks[1, :, len(short) :].any()


def rollout_of(all_ids: list[list[int]], own: list[list[int]] | None = None) -> Any:
    from visrag_integrations.training.rollouts import Rollout

    written: list[Any] = [None] * len(GENERATED)
    written[GENERATED.index("completion_ids")] = all_ids
    written[GENERATED.index("tool_mask")] = own
    return Rollout([{} for _ in all_ids], written, torch.zeros(len(all_ids), 1))


def test_words_of_others_are_masked(checkpoint: Path, tmp_path: Path) -> None:
    trainer = make_trainer(checkpoint, tmp_path, rewards=1, scopes=["all"])
    masks, _ = trainer._masks(rollout_of([[5, 6, 7, 8]], [[1, 0, 0, 1]]))
    assert masks[0, 0].tolist() == [True, False, False, True]


# --- which groups are worth a step --------------------------------------------------------------------------------


def judged_by_prompt(worth: dict[str, Sequence[float]]) -> Callable[..., list[float]]:
    """Rewards that follow from the prompt alone: for its n-th response the n-th number."""

    def reward(prompts: Sequence[Any], **_: Any) -> list[float]:
        seen: dict[str, int] = {}
        values = []
        for prompt in prompts:
            content = prompt[0]["content"]
            text = content if isinstance(content, str) else next(part["text"] for part in content if "text" in part)
            place = seen.get(text, 0)
            seen[text] = place + 1
            numbers = worth[text]
            values.append(numbers[place % len(numbers)])
        return values

    return reward


def kept(checkpoint: Path, tmp_path: Path, worth: dict[str, Sequence[float]], **more: Any) -> tuple[Any, list[Any]]:
    """One step over the first prompts of so many; the trainer, and the prompts that the step was taken on."""
    rows = rows_with_two_pictures(list(worth))
    trainer = make_trainer(
        checkpoint,
        tmp_path,
        rows=rows,
        functions=[judged_by_prompt(worth)],
        scopes=["all"],
        generations=2,
        per_device_train_batch_size=4,
        keep_groups=(0.01, 6.9),
        shuffle_dataset=False,
        max_steps=1,
        **more,
    )
    seen: list[Any] = []
    scoped = trainer._scoped

    def note(rollout: Any, dropped: Any, training: bool) -> Any:
        for row in rollout.inputs:
            seen.append(row["prompt"][0]["content"])
        return scoped(rollout, dropped, training)

    trainer._scoped = note
    trainer.train()
    return trainer, seen


def test_groups_without_a_lesson_are_replaced(checkpoint: Path, tmp_path: Path) -> None:
    worth = {"useless": [0.0, 0.0], "good": [1.0, 2.0], "perfect": [7.0, 7.0], "other": [3.0, 1.0]}
    trainer, seen = kept(checkpoint, tmp_path, worth)
    assert sorted(set(seen)) == ["good", "other"]
    assert sorted(seen) == ["good", "good", "other", "other"]
    logged = trainer.state.log_history[0]
    assert logged["groups_replaced"] == 1
    assert logged["groups_dropped"] == 0
    assert 2 <= logged["generation_rounds"] <= 3
    assert logged["rewards/reward/mean"] == pytest.approx((1 + 2 + 3 + 1) / 4)
    assert logged["rewards/reward/std"] > 0


def test_a_step_runs_on_the_groups_there_are(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worth = {"useless": [0.0, 0.0], "good": [1.0, 2.0], "perfect": [7.0, 7.0]}
    trainer, seen = kept(checkpoint, tmp_path, worth)
    assert "good" in seen
    assert trainer.state.log_history[0]["groups_dropped"] == 1
    assert "1 of 2 groups teach nothing" in caplog.text
    assert trainer.state.log_history[0]["grad_norm"] > 0


def test_a_step_without_any_group_is_skipped(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = make_trainer(checkpoint, tmp_path).model.state_dict()
    worth = {"useless": [0.0, 0.0], "perfect": [7.0, 7.0], "worse": [-1.0, -0.5]}
    trainer, _ = kept(checkpoint, tmp_path, worth, weight_decay=0.1, learning_rate=0.1)
    assert "Step 1 is skipped" in caplog.text
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, before[name]), name


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_rounds_are_limited(checkpoint: Path, tmp_path: Path, rounds: int) -> None:
    worth = {f"useless {number}": [0.0, 0.0] for number in range(20)}
    trainer, _ = kept(checkpoint, tmp_path, worth, rounds=rounds)
    assert trainer.state.log_history[0]["generation_rounds"] == rounds


# --- bad input ----------------------------------------------------------------------------------------------------


def broken(value: Any) -> Callable[..., Any]:
    def reward(completions: Sequence[Any], **_: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value if isinstance(value, list) else [value] * len(completions)

    return reward


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (ValueError("no such thing"), r"The reward 'reward' failed: ValueError: no such thing.*goes on from there"),
        (ConnectionError("the judge is away"), r"ConnectionError: the judge is away"),
        (float("nan"), r"is nan for the response .*None where it says nothing"),
        (float("inf"), r"is inf for the response"),
        ([1.0], r"gave 1 numbers for 4 responses"),
        ("many", r"could not convert string to float"),
    ],
    ids=["raises", "judge-away", "nan", "inf", "too-few", "text"],
)
def test_rewards_that_fail(value: Any, said: str, checkpoint: Path, tmp_path: Path) -> None:
    trainer = make_trainer(checkpoint, tmp_path, functions=[broken(value)], scopes=["all"], max_steps=1)
    with pytest.raises(TrainingError, match=f"(?s){said}"):
        trainer.train()


def test_a_reward_may_say_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def sometimes(completions: Sequence[Any], **_: Any) -> list[float | None]:
        return [None if place % 2 else float(place) for place in range(len(completions))]

    trainer = make_trainer(checkpoint, tmp_path, functions=[sometimes], scopes=["all"], max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["grad_norm"] > 0


def test_a_judge_may_be_asynchronous(checkpoint: Path, tmp_path: Path) -> None:
    async def away(completions: Sequence[Any], **_: Any) -> list[float]:
        raise TimeoutError("no answer in 30 s")

    trainer = make_trainer(checkpoint, tmp_path, functions=[away], scopes=["all"], max_steps=1)
    with pytest.raises(TrainingError, match="The reward 'away' failed: TimeoutError: no answer in 30 s"):
        trainer.train()


def test_scopes_and_rewards_belong_together(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="1 scopes for 2 rewards"):
        make_trainer(checkpoint, tmp_path, rewards=2, scopes=["all"])
    with pytest.raises(SettingError, match="The scope 'thinking' is unknown; say all, "):
        make_trainer(checkpoint, tmp_path, rewards=1, scopes=["thinking"])


@pytest.mark.parametrize(
    ("name", "value"), [("loss_type", "grpo"), ("scale_rewards", "none"), ("top_entropy_quantile", 0.5)]
)
def test_settings_without_a_use_are_refused(name: str, value: Any, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"{name} is {value!r}, which the scoped loss has no use for"):
        make_trainer(checkpoint, tmp_path, **{name: value})


def test_the_golden_file_has_what_is_tested() -> None:
    assert len(LOSSES) >= 3
    assert "loss.all_zero_is_nan.loss" in GOLDEN.files
    assert isinstance(Dataset.from_dict({"a": [1]}), Dataset)
