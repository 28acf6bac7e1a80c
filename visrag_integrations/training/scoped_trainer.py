"""`ScopedGRPOTrainer`: TRL's GRPOTrainer, in which each reward moves only the tokens it judges.

TRL does the loop, the generation (transformers or vLLM), several devices, the pictures and the log. Here are which
tokens each reward reaches, the advantages of each reward by itself, the loss over both, and the groups that are written
anew. TRL's names that this rests on begin with an underscore; `trl_names.py` lists them, and a test holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from visrag_integrations.errors import SettingError
from visrag_integrations.training.callbacks import SkipSilentSteps
from visrag_integrations.training.group_replacing import GroupReplacing
from visrag_integrations.training.grpo_inputs import conversations_of, own_tokens
from visrag_integrations.training.lazily import without_old_names
from visrag_integrations.training.reward_calls import checked
from visrag_integrations.training.rollouts import MOST_ROUNDS, Rollout
from visrag_integrations.training.scope_masks import AnyScope, scope_masks
from visrag_integrations.training.scoped import LARGEST_KL, group_advantages, scoped_loss
from visrag_integrations.training.scopes import tags_of
from visrag_integrations.training.trl_names import GENERATED, NETWORK_INPUTS, check_config

# Where GRPOConfig leaves its own open (None).
PUBLISHED_HIGH = 0.28
PUBLISHED_DUAL = 3.0


class ScopedGRPOTrainer(GroupReplacing, GRPOTrainer):  # type: ignore[misc]
    """Trains by RS-GRPO.

    Every reward has a scope, the part of a response it may change. Where `GRPOConfig` leaves `epsilon_high` and `delta`
    open, the published 0.28 and 3.0 hold. `reward_weights` count in the sum that groups are kept by.

    Args:
        model: As GRPOTrainer takes it.
        reward_funcs: As GRPOTrainer takes them. One that raises, or gives a number that is none, stops the run; None is
            for a response it says nothing of.
        args: As GRPOTrainer takes it.
        train_dataset: As GRPOTrainer takes it.
        scopes: Of each reward; None: all of them reach the whole response.
        keep_groups: Groups of responses are kept where the mean of their summed rewards is inside of these two; the
            others are written anew to new prompts. None keeps all.
        rounds: At most so many rounds of writing a step; then the step runs on the groups there are.
        published: Scopes by the published search for tokens, and a loss that depends on how a batch is cut.
        **more: Anything else that GRPOTrainer takes.

    Raises:
        SettingError: There is not one scope a reward, or `args` asks for what this loss does not do.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        *,
        scopes: Sequence[AnyScope] | None = None,
        keep_groups: tuple[float, float] | None = None,
        rounds: int = MOST_ROUNDS,
        published: bool = False,
        **more: Any,
    ) -> None:
        functions = list(reward_funcs) if isinstance(reward_funcs, (list, tuple)) else [reward_funcs]
        self.scopes: list[AnyScope] = list(scopes) if scopes is not None else ["all"] * len(functions)
        if len(self.scopes) != len(functions):
            raise SettingError(f"{len(self.scopes)} scopes for {len(functions)} rewards; give one for each.")
        for scope in self.scopes:
            tags_of(scope)
        if args is not None:
            check_config(args)
        self.keep_groups, self.rounds, self.published = keep_groups, rounds, published
        self.silent = False
        """Whether the step that goes on has nothing to learn from."""
        self._ready: Rollout | None = None
        super().__init__(model, [checked(function) for function in functions], args, train_dataset, **more)
        check_config(self.args)  # made by TRL where none was given
        self.add_callback(SkipSilentSteps(self))

    # --- what is written, and to which prompts ------------------------------------------------------------------------

    def write(self, prompts: list[Any]) -> tuple[Any, ...]:
        """Write to the prompts; gives the eight things of `GENERATED`. Override this one to write in another way."""
        with without_old_names():
            written: tuple[Any, ...] = super()._generate(prompts)
        return written

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        """What was written already, when TRL asks; it is scored before TRL sees it."""
        if self._ready is None:
            return self.write(prompts)
        written = list(self._ready.written)
        written[GENERATED.index("extra_fields")] = {}  # they are in the rows already
        return tuple(written)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        if self._ready is not None:
            return self._ready.rewards
        found: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return found

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        with without_old_names():
            return self._written_and_scored(inputs)

    def _written_and_scored(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        training = bool(self.model.training)
        rollout = self._write_and_score(inputs)
        dropped: list[int] = []
        if training and self.keep_groups is not None:
            dropped = self._replace_groups(rollout)
        self._ready = rollout
        try:
            self._pending_extra_logs.update(rollout.columns)
            output: dict[str, Any] = super()._generate_and_score_completions(rollout.inputs)
        finally:
            self._ready = None
        return output | self._scoped(rollout, dropped, training)

    def open_rows(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with what is opened only when they are written to, such as their pictures. As they are, here."""
        return inputs

    def _write_and_score(self, inputs: list[dict[str, Any]]) -> Rollout:
        """One round, for these rows of the data set."""
        inputs = self.open_rows(inputs)
        written = list(self.write(conversations_of(inputs)))
        more = written[GENERATED.index("extra_fields")] or {}
        rows = []
        for place, row in enumerate(inputs):
            own = {name: values[place] if isinstance(values, list) else values for name, values in more.items()}
            rows.append({**row, **own})
        completions = written[GENERATED.index("completions")]
        completion_ids = written[GENERATED.index("completion_ids")]
        rewards = self._calculate_rewards(rows, [row["prompt"] for row in rows], completions, completion_ids)
        columns = dict(self._pending_extra_logs)
        self._pending_extra_logs.clear()
        return Rollout(rows, written, rewards, columns)

    # --- which tokens each reward reaches -----------------------------------------------------------------------------

    def _scoped(self, rollout: Rollout, dropped: Sequence[int], training: bool) -> dict[str, Tensor]:
        """The advantages `(B, K)` and masks `(B, K, T)` of this device's responses."""
        device = self.accelerator.device
        size = self.num_generations if training else self.num_generations_eval
        groups = torch.arange(len(rollout.rewards), device=device) // size
        advantages = group_advantages(rollout.rewards * self.reward_weights.to(device), groups)
        count = len(rollout.inputs)
        first = self.accelerator.process_index * count
        masks, without_tags = self._masks(rollout)
        for place in range(count):
            if (first + place) // size in dropped:
                masks[place] = False
        self._log("share_without_tags", without_tags)
        return {"scoped_advantages": advantages[first : first + count], "reward_masks": masks.to(device)}

    def _masks(self, rollout: Rollout) -> tuple[Tensor, float]:
        """Which tokens each reward reaches, `(B, K, T)`; the share of responses in which a scope's tag is missing."""
        return scope_masks(
            rollout.written[GENERATED.index("completion_ids")],
            self.scopes,
            self._tokenizer,
            own=rollout.written[GENERATED.index("tool_mask")],
            multiple=self.pad_to_multiple_of,
            published=self.published,
        )

    # --- the loss -----------------------------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """With what a loss must know of the whole update: how many tokens each reward reaches, which rewards vary."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training:
            self._count([inputs])
        elif self._buffered_inputs is not before:
            # Responses were shuffled and cut into the micro-batches of one or several updates.
            window = self.args.gradient_accumulation_steps
            for start in range(0, len(self._buffered_inputs), window):
                self._count(self._buffered_inputs[start : start + window])
        return inputs

    def _count(self, parts: Sequence[dict[str, Any]]) -> None:
        """Put the numbers of all parts of one update, over all devices, into each of them."""
        totals = torch.zeros(len(self.scopes), device=self.accelerator.device)
        moved = torch.zeros_like(totals)
        tokens = torch.zeros(1, device=self.accelerator.device)
        for part in parts:
            masks = part["reward_masks"]
            totals += masks.sum(dim=(0, 2))
            reaches = masks.any(dim=2) & (part["scoped_advantages"] != 0)  # (B, K)
            moved += reaches.any(dim=0)
            tokens += own_tokens(part).sum()
        numbers = self.accelerator.reduce(torch.cat([totals, moved, tokens]), reduction="sum")
        kinds = len(self.scopes)
        for part in parts:
            part["reward_totals"] = numbers[:kinds].clone()
            part["rewards_moved"] = (numbers[kinds : 2 * kinds] > 0).sum()
            part["tokens_of_update"] = numbers[-1].clone()

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        completions = inputs["completion_ids"]
        log_probs, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], completions], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            completions.size(1),
            compute_entropy=True,
            **{name: inputs.get(name) for name in NETWORK_INPUTS},
        )
        world = int(self.accelerator.num_processes)
        loss = self.loss_of(log_probs, inputs) * world  # the gradients of devices are averaged
        self.silent = bool(inputs["rewards_moved"] == 0) and self.beta == 0.0
        own = own_tokens(inputs)
        self._log_share("entropy", entropies * own, own)
        return loss

    def loss_of(self, log_probs: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The loss of one micro-batch; those of an update add up.

        Args:
            log_probs: `(B, T)`, of the completions' tokens.
            inputs: As `_prepare_inputs` gives them.
        """
        old = inputs.get("old_per_token_logps")
        if old is None:  # nothing was updated since they were written
            old = log_probs.detach()
        masks = inputs["reward_masks"].to(log_probs.dtype)
        ratio = inputs.get("importance_sampling_ratio")  # vLLM's probabilities differ a little from the network's
        weighted = masks if ratio is None else masks * ratio[:, None]
        loss = scoped_loss(
            log_probs,
            old,
            inputs["scoped_advantages"],
            weighted,
            totals=inputs["reward_totals"],
            speaking=None if self.published else inputs["rewards_moved"],
            low=self.epsilon_low,
            high=self.high,
            dual=self.dual,
        )
        self._log_clipped(log_probs.detach() - old, inputs["scoped_advantages"], masks)
        if self.beta != 0.0:
            loss = loss + self.beta * self._distance(log_probs, old, inputs)
        return loss

    @property
    def high(self) -> float:
        """The ratio is clipped above 1 + this."""
        return PUBLISHED_HIGH if self.args.epsilon_high is None else float(self.args.epsilon_high)

    @property
    def dual(self) -> float:
        """Where an advantage is below 0, a token's loss is at most this many times its size."""
        return PUBLISHED_DUAL if self.args.delta is None else float(self.args.delta)

    def _distance(self, log_probs: Tensor, old: Tensor, inputs: dict[str, Any]) -> Tensor:
        """How far the network has moved from where it started (low_var_kl), a token."""
        difference = inputs["ref_per_token_logps"] - log_probs
        each = (difference.exp() - difference - 1).clamp(max=LARGEST_KL)
        if self.args.use_bias_correction_kl:
            each = each * (log_probs - old).exp()
        own = own_tokens(inputs)
        self._log_share("kl", each.detach() * own, own)
        mean: Tensor = (each * own).sum() / inputs["tokens_of_update"].clamp(min=1)
        return mean

    # --- the log ------------------------------------------------------------------------------------------------------

    def _log(self, name: str, value: float) -> None:
        mode = "train" if self.model.training else "eval"
        self._metrics[mode][name].append(float(value))

    def _log_share(self, name: str, values: Tensor, counted: Tensor) -> None:
        """The mean of the values over what is counted, on all devices."""
        sums = torch.stack([values.detach().sum(), counted.sum().to(values.dtype)])
        total, count = self.accelerator.reduce(sums, reduction="sum").tolist()
        self._log(name, total / max(count, 1.0))

    def _log_clipped(self, distance: Tensor, advantages: Tensor, masks: Tensor) -> None:
        """The share of tokens, each reward for itself, that no longer move because the policy has moved enough."""
        ratio = distance.exp()[:, None]
        gain = advantages[:, :, None]
        up = (gain > 0) & (ratio > 1 + self.high)
        down = (gain < 0) & ((ratio < 1 - self.epsilon_low) | (ratio > self.dual))
        self._log_share("share_clipped", (up | down) * masks, masks)

    def _send_telemetry(self) -> None:
        """Nothing is reported to anybody."""
