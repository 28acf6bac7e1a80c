"""The published rewards, on responses that the published code itself was run on (`tests/data/training`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.training import reward_words, rewards, scopes

DATA = Path(__file__).parent / "data" / "training"
GOLDEN = json.loads((DATA / "rs_grpo_rewards.json").read_text(encoding="utf-8"))
AGENT = json.loads((DATA / "vrag_rl.json").read_text(encoding="utf-8"))
FUNCTIONS = {
    "accuracy_reward": rewards.answer_reward,
    "evidence_reward": rewards.evidence_reward,
    "format_reward": rewards.format_reward,
    "isObserve_punishment": rewards.observation_reward,
    "isThink_punishment": rewards.thinking_reward,
}
BY_SCOPE_NAME = {
    "accuracy": "accuracy",
    "evidence": "evidence",
    "format": "format",
    "length": "overlong",
    "observation": "isObserve",
    "thinking": "isThink",
}
LINES = "[1]: no relevant information\n[2]: Sales were 40 boats in 2031, says the table"
TRUTH = f"<evidence>{LINES}</evidence><answer>40</answer>"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["id"])
def test_published_rewards(case: dict[str, Any]) -> None:
    for name, reward in FUNCTIONS.items():
        expected = case["expected"][name]
        if isinstance(expected, dict):  # the published code raises an IndexError there
            with pytest.raises(DatasetError, match="it has no <"):
                reward(case["response"], case["ground_truth"], published=True)
        else:
            assert reward(case["response"], case["ground_truth"], published=True) == pytest.approx(expected, abs=1e-12)
    expected = case["expected"]["soft_overlong_punishment"]
    assert rewards.length_reward(case["response_length"], 1536, 512, 200) == expected


@pytest.mark.parametrize(
    "case", [c for c in GOLDEN["cases"] if "overall" in c["expected"]["sum_all"]], ids=lambda c: c["id"]
)
def test_the_weights_add_up_to_the_published_sum(case: dict[str, Any]) -> None:
    found = dict(zip(("accuracy", "evidence", "format", "observation", "thinking"), FUNCTIONS.values(), strict=True))
    total = 0.0
    for spec in rewards.EVISRAG_REWARDS:
        if spec.name == "length":
            total += spec.weight * rewards.length_reward(case["response_length"])
        else:
            total += spec.weight * found[spec.name](case["response"], case["ground_truth"], published=True)
    assert total == pytest.approx(case["expected"]["sum_all"]["overall"], abs=1e-9)


@pytest.mark.parametrize("case", GOLDEN["normalize_answer_qa"], ids=lambda case: repr(case["text"]))
def test_published_normalisation(case: dict[str, str]) -> None:
    assert reward_words.normalised(case["text"], published=True) == case["expected"]


def test_evidence_of_many_pages_is_averaged_by_default() -> None:
    lines = "\n".join(f"[{n}]: fact number {n} is about the year 200{n} exactly" for n in range(1, 10))
    text = f"<evidence>{lines}</evidence>"
    assert rewards.evidence_reward(text, text) == pytest.approx(1.0)
    assert rewards.evidence_reward("<evidence></evidence>", text) == 0
    assert rewards.evidence_reward(text, text, published=True) == pytest.approx(18.0)


def test_chinese_is_compared_character_by_character_by_default() -> None:
    truth = "<evidence></evidence><answer>420万欧元</answer>"
    response = "<answer>420 万欧元</answer>"
    assert rewards.answer_reward(response, truth, published=True) == 0
    assert rewards.answer_reward(response, truth) == 1
    # 2 of 3 characters found, 2 of 4 wanted: F1 = 2 * 2/3 * 2/4 / (2/3 + 2/4)
    assert rewards.answer_reward("<answer>万欧年</answer>", truth) == pytest.approx(4 / 7)


def test_evidence_lines_are_read_by_their_place_by_default() -> None:
    response = (
        "<evidence>[1] no relevant information, see [2]\n[2]：Sales were 40 boats in 2031, says the table</evidence>"
    )
    assert rewards.evidence_reward(response, TRUTH) == 1
    assert rewards.evidence_reward(response, TRUTH, published=True) == 0


def test_blank_space_around_a_response_costs_nothing_by_default() -> None:
    response = "\n<observe>a</observe><evidence>b</evidence>\n<think>c</think><answer>d</answer> "
    assert rewards.format_reward(response) == 1
    assert rewards.format_reward(response, published=True) == 0
    assert rewards.format_reward(response + "x") == 0
    assert rewards.format_reward(response.replace("c", "<answer>")) == 0


@pytest.mark.parametrize("reward", [rewards.answer_reward, rewards.evidence_reward])
@pytest.mark.parametrize("published", [True, False])
def test_a_ground_truth_without_tags_is_an_error(reward: Any, published: bool) -> None:
    response = "<evidence>[1]: x</evidence><answer>40</answer>"
    with pytest.raises(DatasetError, match="'40': it has no <"):
        reward(response, "40", published=published)


def test_by_default_a_ground_truth_without_tags_is_an_error_for_any_response() -> None:
    """Otherwise a broken data set is found only once the model writes tags."""
    with pytest.raises(DatasetError):
        rewards.answer_reward("nothing", "40")


def test_lengths_are_checked() -> None:
    with pytest.raises(SettingError, match="buffer is 0"):
        rewards.length_reward(100, 1536, 0)


@pytest.mark.parametrize("case", AGENT["ndcg"])
def test_ndcg(case: dict[str, Any]) -> None:
    if len(set(case["retrieved"])) == len(case["retrieved"]):
        assert rewards.ndcg_reward(case["retrieved"], case["golden"]) == pytest.approx(case["ndcg"], abs=1e-12)
    else:  # published, a page that is seen twice counts twice, and the reward may exceed 1
        assert rewards.ndcg_reward(case["retrieved"], case["golden"]) <= 1


@pytest.mark.parametrize("case", AGENT["cases"], ids=lambda case: case["id"])
def test_trajectories(case: dict[str, Any]) -> None:
    expected = case["expected"]
    form = rewards.action_format_reward(case["response"], published=True)
    assert form == expected["format"]
    name = case["file_name"].removesuffix(".pdf")
    golden = [f"{name}_{page}" for page in case["reference_page"]]
    seen = [Path(path).name.partition(".jpg")[0] for path in case["retrieved_images"]]
    ndcg = rewards.ndcg_reward(seen, golden)
    if len(set(seen)) == len(seen):
        assert ndcg == pytest.approx(expected["ndcg"], abs=1e-12)
    if not case["eval_mode"] and expected["judged_answer"] is not None and len(set(seen)) == len(seen):
        judged = case["judge"]
        assert rewards.trajectory_reward(ndcg, form, judged) == pytest.approx(expected["score"], abs=1e-6)
    elif not case["eval_mode"] and form == 0:
        assert rewards.trajectory_reward(ndcg, form, 1.0) == expected["score"] == 0


def test_the_form_is_that_of_the_models_own_words() -> None:
    assert rewards.action_format_reward("<search>a</search>\n<answer>b</answer>") == 1
    assert rewards.action_format_reward("<answer>b</answer>\n<search>a</search>") == 0
    assert rewards.action_format_reward("<search>a<answer>b</answer>") == 0


SCOPES = GOLDEN["scopes"]
TOKENIZER = Tokenizer.from_file(str(DATA / "rs_grpo_tokenizer.json"))


@pytest.mark.parametrize("item", SCOPES["items"], ids=lambda item: item["id"])
def test_published_scopes(item: dict[str, Any]) -> None:
    ids, length = item["response_ids"], item["response_mask_sum"]
    for spec in rewards.EVISRAG_REWARDS:
        expected = item["scopes"][BY_SCOPE_NAME[spec.name]]
        found = scopes.published_scope(ids, length, spec.scope, lambda tag: TOKENIZER.encode(tag).ids)
        assert (None if found is None else list(found)) == expected, spec.name
