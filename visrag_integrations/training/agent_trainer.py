"""`AgentGRPOTrainer`: TRL's GRPOTrainer, whose rollouts are runs of our own agent. Needs TRL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig

from visrag_integrations.agent import PictureRules, Trace, VRAGAgent
from visrag_integrations.errors import GenerationError
from visrag_integrations.generation.vrag import TEMPLATE
from visrag_integrations.interfaces.retrievers import Retriever
from visrag_integrations.training.agent import kl_to_start, trajectory_loss
from visrag_integrations.training.agent_devices import check_rounds, is_sharded
from visrag_integrations.training.agent_rewards import TrajectoryReward, own_text, parsed, seen_pages, was_cut
from visrag_integrations.training.agent_rollouts import DrawnTurn, RunEncoder, RunTokens, log_probs_of, roll_out
from visrag_integrations.training.grpo_inputs import own_tokens
from visrag_integrations.training.rollouts import Rollout
from visrag_integrations.training.scoped_trainer import ScopedGRPOTrainer
from visrag_integrations.training.trl_names import GENERATED
from visrag_integrations.types import GenerationSettings

HIGH = 0.2
"""The ratio is clipped above 1 + this where GRPOConfig leaves it open: published."""


class NetworkLimits:
    """In the place of the agent's generator: tells what the network takes. Turns are written by the trainer."""

    name = "the agent that is trained"

    def __init__(self, context_length: int | None, max_images: int | None) -> None:
        self.context_length, self.max_images = context_length, max_images

    def generate(self, conversations: Sequence[Any], settings: Any = None) -> list[Any]:
        """Never asked.

        Raises:
            GenerationError: Always.
        """
        raise GenerationError("Turns of the agent that is trained are written by its trainer.")

    def stream(self, conversation: Any, settings: Any = None) -> Any:
        """Never asked; raises as `generate`."""
        return self.generate([conversation])


class AgentGRPOTrainer(ScopedGRPOTrainer):
    """Trains the agent by GRPO over whole runs: search, look closer, answer.

    The rewards of the runs over one question are compared with each other; every token that the model wrote in a run
    gets its run's advantage, what it was shown and told gets none. Where `GRPOConfig` leaves `epsilon_high` open, 0.2
    holds. Runs of a step are all under way at once.

    Args:
        model: As GRPOTrainer takes it: a vision-language network of the Qwen2-VL family.
        reward: Rewards runs: a `TrajectoryReward`, or a function of a list of `Trace`s and a list of the data set's
            rows that gives a list of numbers.
        args: As GRPOTrainer takes it; `max_completion_length` is of one turn.
        train_dataset: A list of rows with `question` and whatever the reward reads; or a data set that has `prompt` as
            well, a conversation whose only text is the question.
        retriever: Finds pages.
        max_turns: At most so many; before the last one the model is asked to answer.
        max_tokens: A run that has so many is asked to answer.
        template: The prompt, with `{question}`.
        pictures: How pages and crops are shown.
        filter: Metadata that pages must have.
        published: The padding picture is trained too.
        **more: Anything else that GRPOTrainer takes, and `keep_groups` and `rounds` of `ScopedGRPOTrainer`.

    Raises:
        SettingError: A value is not allowed, or several devices would have to write in step.
    """

    def __init__(
        self,
        model: Any,
        reward: TrajectoryReward | Callable[[Sequence[Trace], Sequence[Any]], Sequence[float]],
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        *,
        retriever: Retriever,
        max_turns: int = 5,
        max_tokens: int | None = 10_240,
        template: str = TEMPLATE,
        pictures: PictureRules | None = None,
        filter: Any = None,
        published: bool = False,
        **more: Any,
    ) -> None:
        self.reward = reward
        super().__init__(
            model, [self.trajectory], args, with_prompts(train_dataset), scopes=["all"], published=False, **more
        )
        check_rounds(
            self.accelerator.num_processes,
            engine=self.args.vllm_mode if self.use_vllm else None,
            engine_devices=self.args.vllm_tensor_parallel_size,
            sharded=is_sharded(self.accelerator),
        )
        self.train_padding = published
        # TRL prepares pictures inside of completions only where it thinks that there are tools.
        self.tools = ["search", "bbox"]
        places = [token for token in (self._image_pad_token_id, self._video_pad_token_id) if token is not None]
        self.encoder = RunEncoder(self.processing_class, self.eos_token_ids, places)
        self.agent = VRAGAgent(
            retriever,
            NetworkLimits(max_tokens, None),
            max_turns,
            template=template,
            pictures=pictures,
            filter=filter,
            settings=GenerationSettings(max_tokens=self.max_completion_length),
        )

    # --- runs -------------------------------------------------------------------------------------------------------

    def write(self, prompts: list[Any]) -> tuple[Any, ...]:
        """Runs over the questions; gives the eight things of `GENERATED`."""
        questions = [prompt[0]["content"] for prompt in prompts]
        runs = roll_out(self.agent, questions, self.encoder, self.write_turns, self.max_completion_length)
        self._note_runs(runs)
        pictures = [run.pictures for run in runs]
        written: dict[str, Any] = {
            "prompt_ids": [run.prompt for run in runs],
            "completion_ids": [run.completion for run in runs],
            "tool_mask": [run.own(published=self.train_padding) for run in runs],
            "completions": [[{"role": "assistant", "content": own_text(run.trace)}] for run in runs],
            "logprobs": log_probs_of(runs),
            "extra_fields": {"trace": [run.trace for run in runs]},
            "images": pictures,
            "tool_images": pictures,
        }
        return tuple(written[name] for name in GENERATED)

    def write_turns(self, runs: Sequence[RunTokens]) -> list[DrawnTurn]:
        """One turn of each run, drawn as one batch; with vLLM all of them are in its engine together."""
        flat = [picture for run in runs for picture in run.pictures]
        fields: dict[str, Any] = {}
        if flat:
            fields = dict(self.processing_class.image_processor(images=flat, return_tensors="pt"))
        tokens, log_probs = self._generate_single_turn(
            [run.prompt + run.completion for run in runs],
            [run.pictures or None for run in runs] if flat else None,
            fields,
            num_generations=1,
            has_tool_images=bool(flat),
        )
        if log_probs is None:
            return [DrawnTurn(list(each)) for each in tokens]
        return [DrawnTurn(list(each), list(theirs)) for each, theirs in zip(tokens, log_probs, strict=True)]

    def trajectory(self, trace: Sequence[Trace], log_metric: Any = None, **columns: Any) -> list[float]:
        """The reward as TRL calls it: columns of the data set, one entry for each run."""
        rows = []
        for place in range(len(trace)):
            row = {name: values[place] for name, values in columns.items() if isinstance(values, list)}
            rows.append(row)
        if isinstance(self.reward, TrajectoryReward):
            scored = self.reward.score(trace, rows)
            for name in ("ndcg", "form", "judged"):
                self._log(f"rewards/{name}/mean", sum(getattr(each, name) for each in scored) / len(scored))
            self._log("judge_away", self.reward.away)
            return [each.reward for each in scored]
        return list(self.reward(trace, rows))

    # --- the loss -----------------------------------------------------------------------------------------------------

    def _count(self, parts: Sequence[dict[str, Any]]) -> None:
        """Beside the numbers of `ScopedGRPOTrainer`: how many runs there are in the update, over all devices."""
        super()._count(parts)
        rows = torch.tensor([float(sum(len(part["completion_ids"]) for part in parts))])
        total = self.accelerator.reduce(rows.to(self.accelerator.device), reduction="sum")
        for part in parts:
            part["runs_of_update"] = total[0].clone()

    def loss_of(self, log_probs: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The loss of one micro-batch; those of an update add up to the mean over its runs."""
        old = inputs.get("old_per_token_logps")
        if old is None:  # nothing was updated since they were written
            old = log_probs.detach()
        mask = own_tokens(inputs)
        advantages = inputs["scoped_advantages"][:, 0]
        # Runs of a group that was left out (`keep_groups`) have no token in their mask.
        kept = inputs["reward_masks"][:, 0].any(dim=1).to(log_probs.dtype)
        each = trajectory_loss(
            log_probs,
            old,
            advantages * kept,
            mask,
            low=self.epsilon_low,
            high=self.high,
            weights=inputs.get("importance_sampling_ratio"),  # vLLM's probabilities differ a little from the network's
        )
        self._log_clipped(log_probs.detach() - old, advantages[:, None], mask[:, None])
        loss = each.sum()
        if self.beta != 0.0:
            distance = kl_to_start(log_probs, inputs["ref_per_token_logps"], mask)
            self._log_share("kl", distance.detach(), torch.ones_like(distance))
            loss = loss + self.beta * distance.sum()
        mean: Tensor = loss / inputs["runs_of_update"]
        return mean

    @property
    def high(self) -> float:
        """The ratio is clipped above 1 + this."""
        return HIGH if self.args.epsilon_high is None else float(self.args.epsilon_high)

    # --- the log ------------------------------------------------------------------------------------------------------

    def _note_runs(self, runs: Sequence[RunTokens]) -> None:
        """What tells whether the agent works: turns, how runs end, what was wrong with them, tokens."""
        traces = [run.trace for run in runs]
        count = len(traces)
        own = [sum(run.own()) for run in runs]
        problems: Counter[str] = Counter()
        for trace in traces:
            problems += trace.problem_counts
        self._log("turns/mean", sum(len(trace.turns) for trace in traces) / count)
        self._log("pages_seen/mean", sum(len(seen_pages(trace)) for trace in traces) / count)
        self._log("share_answered", sum(trace.reason == "answered" for trace in traces) / count)
        self._log("share_without_tags", sum(not any(one.actions for one in parsed(trace)) for trace in traces) / count)
        self._log("completions/mean_length", sum(own) / count)
        self._log("completions/max_length", max(own))
        self._log("completions/clipped_ratio", sum(map(was_cut, traces)) / count)
        self._log("tokens_of_run/mean", sum(len(run.prompt) + len(run.completion) for run in runs) / count)
        for name, times in problems.items():
            self._log(f"problems/{name}", times / count)

    def _note_first(self, rollout: Rollout) -> None:
        """For those who keep samples; nothing here."""

    def _scoped(self, rollout: Rollout, dropped: Sequence[int], training: bool) -> dict[str, Tensor]:
        if training:
            self._note_first(rollout)
        tags = self._metrics["train" if training else "eval"]["share_without_tags"]
        said = tags[-1] if tags else None
        scoped = super()._scoped(rollout, dropped, training)
        # "all" has no tags to miss; what is told of here are the tags of actions.
        if said is not None:
            tags.pop()
        return scoped

    def _log_clipped(self, distance: Tensor, advantages: Tensor, masks: Tensor) -> None:
        """The share of tokens that no longer move because the policy has moved enough."""
        ratio = distance.exp()[:, None]
        gain = advantages[:, :, None]
        clipped = ((gain > 0) & (ratio > 1 + self.high)) | ((gain < 0) & (ratio < 1 - self.epsilon_low))
        self._log_share("share_clipped", clipped * masks, masks)


def with_prompts(rows: Any) -> Any:
    """A list of rows as a data set with the column that TRL asks for; the template is filled when a run begins."""
    if rows is None or not isinstance(rows, (list, tuple)):
        return rows
    return Dataset.from_list([{**row, "prompt": [{"role": "user", "content": row["question"]}]} for row in rows])
