"""Rewards as TRL calls them: functions of whole batches, which say what went wrong, and where."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from visrag_integrations.errors import SettingError, TrainingError, VisRAGError
from visrag_integrations.training import rewards
from visrag_integrations.training.rewards import RewardSpec
from visrag_integrations.types import Page

RewardCall = Callable[..., Any]
"""`function(prompts, completions, completion_ids, **columns of the data set) -> one number or None a completion`."""

SHOWN = 200  # characters of a response in an error: enough to recognise it

TextReward = Callable[..., float]
"""`function(response, truth, published=...) -> number`."""

OF_TEXTS: dict[str, TextReward] = {
    "accuracy": rewards.answer_reward,
    "evidence": rewards.evidence_reward,
    "format": rewards.format_reward,
    "observation": rewards.observation_reward,
    "thinking": rewards.thinking_reward,
}
"""Name of an EVisRAG reward -> its function; `length` counts tokens instead."""


Pages = Callable[[int], Sequence[Page]]
"""The number of a data set's row -> its pages, with their words."""


def reward_call(spec: RewardSpec, *, longest: int, published: bool, pages: Pages) -> RewardCall:
    """A reward as a function of a batch; the data set has the columns `answer` (the ground truth) and `row`.

    Args:
        spec: Which one.
        longest: Tokens that a response may have.
        published: Exactly the published numbers.
        pages: For the reward that looks at them.

    Raises:
        SettingError: It is none of ours, and has no function.
    """
    if spec.function is not None:
        call = _of_texts(spec.function)
    elif spec.name == "length":
        call = _length_call(longest)
    elif spec.name == "support":
        call = _support_call(pages)
    elif spec.name in OF_TEXTS:
        call = _of_texts(functools.partial(OF_TEXTS[spec.name], published=published))
    else:
        known = ", ".join([*OF_TEXTS, "length", "support"])
        raise SettingError(f"The reward {spec.name!r} has no function, and is none of {known}.")
    call.__name__ = spec.name
    return call


def _of_texts(reward: Callable[[str, str], float | None]) -> RewardCall:
    def call(completions: Sequence[Any], answer: Sequence[str], **_: Any) -> list[float | None]:
        texts = [completion_text(completion) for completion in completions]
        return [reward(text, truth) for text, truth in zip(texts, answer, strict=True)]

    return call


def _length_call(longest: int) -> RewardCall:
    # The published proportions of 1536 tokens: a third is the buffer, and 200 are too few. Another limit keeps them.
    buffer, shortest = max(1, longest // 3), longest * 200 // 1536

    def call(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [rewards.length_reward(len(ids), longest, buffer, shortest) for ids in completion_ids]

    return call


def _support_call(pages: Pages) -> RewardCall:
    from visrag_integrations.training.support import support_reward

    def call(completions: Sequence[Any], row: Sequence[int], **_: Any) -> list[float | None]:
        found = []
        for completion, number in zip(completions, row, strict=True):
            found.append(support_reward(completion_text(completion), pages(number)))
        return found

    return call


def completion_text(completion: Any) -> str:
    """The text of a completion, which TRL gives as a conversation of one turn."""
    if isinstance(completion, str):
        return completion
    texts = []
    for message in completion:
        content = message.get("content") or ""
        texts.append(content if isinstance(content, str) else "".join(part.get("text", "") for part in content))
    return "".join(texts)


def checked(function: Any) -> Any:
    """The reward function, or one that stops the run with a plain error where it fails or gives no number.

    Reward models (torch modules, or their names) are given back as they are.
    """
    if isinstance(function, str) or not callable(function) or hasattr(function, "parameters"):
        return function
    name = reward_name(function)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

        @functools.wraps(function, updated=())
        async def call_later(**columns: Any) -> list[float | None]:
            try:
                return numbers_of(name, await function(**columns), columns)
            except Exception as err:  # a user's function may raise anything
                raise failure(name, err) from err

        call_later.__name__ = name
        return call_later

    @functools.wraps(function, updated=())
    def call(**columns: Any) -> list[float | None]:
        try:
            return numbers_of(name, function(**columns), columns)
        except Exception as err:  # as above
            raise failure(name, err) from err

    call.__name__ = name
    return call


def reward_name(function: Any) -> str:
    """What it is called in logs."""
    return str(getattr(function, "__name__", type(function).__name__))


def failure(name: str, err: Exception) -> TrainingError:
    """What is said when a reward cannot be had; an error that is plain already is said as it is."""
    if isinstance(err, TrainingError):
        return err
    said = str(err) if isinstance(err, VisRAGError) else f"{type(err).__name__}: {err}"
    return TrainingError(
        f"The reward {name!r} failed: {said} The last checkpoint is good: run again with the same output once this is "
        "mended, and it goes on from there."
    )


def numbers_of(name: str, values: Any, columns: dict[str, Any]) -> list[float | None]:
    """The rewards, if there is one for every completion and each is a number, or None where it says nothing.

    Raises:
        TrainingError: Otherwise.
    """
    completions = columns["completions"]
    found = list(values)
    if len(found) != len(completions):
        raise TrainingError(
            f"The reward {name!r} gave {len(found)} numbers for {len(completions)} responses; give one for each."
        )
    for value, completion in zip(found, completions, strict=True):
        if value is not None and not math.isfinite(float(value)):
            raise TrainingError(
                f"The reward {name!r} is {value} for the response {completion_text(completion)[:SHOWN]!r}. A reward is "
                "a number, or None where it says nothing of a response."
            )
    return found
