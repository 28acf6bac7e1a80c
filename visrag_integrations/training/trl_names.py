"""What is used of TRL that its documentation does not promise; a test holds every name."""

from __future__ import annotations

from typing import Any

from visrag_integrations.errors import SettingError

PRIVATE_HOOKS = (
    "_generate",
    "_calculate_rewards",
    "_generate_and_score_completions",
    "_prepare_inputs",
    "_compute_loss",
    "_get_per_token_logps_and_entropies",
    "_send_telemetry",
)
"""Methods of GRPOTrainer that are overridden or called here."""
PRIVATE_STATE = ("_buffered_inputs", "_metrics", "_tokenizer", "_pending_extra_logs", "_is_vlm")
"""Attributes of GRPOTrainer that are read here."""
GENERATED = (
    "prompt_ids",
    "completion_ids",
    "tool_mask",
    "completions",
    "logprobs",
    "extra_fields",
    "images",
    "tool_images",
)
"""What `_generate` gives, in order."""
NETWORK_INPUTS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)
"""What `_get_per_token_logps_and_entropies` takes beside the tokens."""
NOT_USED = {
    "loss_type": "dapo",
    "importance_sampling_level": "token",
    "scale_rewards": "group",
    "multi_objective_aggregation": "sum_then_normalize",
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "off_policy_mask_threshold": None,
    "router_aux_loss_coef": None,
}
"""Fields of GRPOConfig that the scoped loss has no use for, with their defaults: another value is refused."""


def check_config(args: Any) -> None:
    """Nothing, if the scoped loss does all that the settings ask for.

    Raises:
        SettingError: It does not; nothing is ignored in silence.
    """
    for name, usual in NOT_USED.items():
        value = getattr(args, name)
        if value != usual:
            raise SettingError(f"{name} is {value!r}, which the scoped loss has no use for; leave it at {usual!r}.")
    if args.steps_per_generation % args.gradient_accumulation_steps:
        raise SettingError(
            f"steps_per_generation is {args.steps_per_generation} and gradient_accumulation_steps is "
            f"{args.gradient_accumulation_steps}; an update must not reach over two rounds of writing: give a multiple."
        )
