"""Rewards as TRL calls them: functions of whole batches, which say what went wrong, and where."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from visrag_integrations.errors import TrainingError, VisRAGError
from visrag_integrations.training import rewards
from visrag_integrations.training.rewards import RewardSpec

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


def evisrag_call(spec: RewardSpec, *, published: bool = False) -> RewardCall:
    """The function of one of EVisRAG's rewards; the ground truth is the data set's column `answer`."""
    if spec.name == "length":
        return length_call
    reward = OF_TEXTS[spec.name]

    def call(completions: Sequence[Any], answer: Sequence[str], **_: Any) -> list[float]:
        texts = [completion_text(completion) for completion in completions]
        return [reward(text, truth, published=published) for text, truth in zip(texts, answer, strict=True)]

    call.__name__ = spec.name
    return call


def length_call(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """`length_reward` of every response."""
    return [rewards.length_reward(len(ids)) for ids in completion_ids]


length_call.__name__ = "length"


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
            f"The reward {name!r} gave {len(found)} numbers for {len(completions)} responses; it must give one for each."
        )
    for value, completion in zip(found, completions, strict=True):
        if value is not None and not math.isfinite(float(value)):
            raise TrainingError(
                f"The reward {name!r} is {value} for the response {completion_text(completion)[:SHOWN]!r}. A reward is a "
                "number, or None where it says nothing of a response."
            )
    return found
