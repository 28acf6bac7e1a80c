"""How VisRAG-Ret was trained: every published value, by name, and what they mean for transformers' Trainer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visrag_integrations.errors import SettingError


@dataclass(frozen=True)
class RetrieverRecipe:
    """The recipe of VisRAG-Ret: `scripts/train_retriever/train.sh` of its repository, and that trainer's defaults.

    Attributes:
        epochs: How often every pair is seen.
        max_steps: So many steps instead, where it is not None.
        batch_size: Pairs a step, over all devices (published: 16 on each of 8).
        micro_batch: Pairs that a device has in memory at once; changes the memory and the speed, no number.
        lr: The highest learning rate.
        temperature: What scores are divided by.
        warmup: The share of all steps in which the rate rises from 0.
        scheduler: How it falls after: "linear", to 0 at the last step.
        beta1: AdamW's, of the gradient's mean.
        beta2: AdamW's, of its square's mean.
        epsilon: AdamW's.
        weight_decay: AdamW's.
        max_grad_norm: A longer gradient is shortened to this.
        max_tokens: Longer sequences are cut off there, queries and pages.
        save_steps: A checkpoint every so many steps, and after the last.
        seed: Of the order of the pairs, and of dropout.
    """

    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 128
    micro_batch: int = 2
    lr: float = 1e-5
    temperature: float = 0.02
    warmup: float = 0.1
    scheduler: str = "linear"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_tokens: int = 2048
    save_steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch", "save_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingError(f"{name} is {value!r}; it must be a whole number from 1.")
        if self.max_steps is not None and self.max_steps < 1:
            raise SettingError(f"max_steps is {self.max_steps}; it must be 1 or more, or None to go by epochs.")
        for name in ("epochs", "lr", "temperature"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name} is {getattr(self, name)}; it must be above 0.")

    def steps(self, pairs: int) -> int:
        """Steps of a run over so many pairs; what does not fill a batch at the end of an epoch is left out.

        >>> RetrieverRecipe(batch_size=128).steps(362_110)
        2828
        """
        # Steps are the surer word: whoever says both has counted them.
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil(self.epochs * (pairs // self.batch_size)))


@dataclass(frozen=True)
class LoraRecipe:
    """VisRAG's LoRA, which is off by default there too.

    Attributes:
        r: The rank of what is added to a matrix.
        alpha: What is added is times `alpha / r`.
        dropout: On what goes into it.
        target_modules: The ends of the names of the matrices.
    """

    r: int = 32
    alpha: int = 32
    dropout: float = 0.1
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")

    @classmethod
    def of(cls, lora: bool | Mapping[str, Any] | LoraRecipe | None) -> LoraRecipe | None:
        """What the argument `lora` says: None and False are none, True is as published, a mapping changes values."""
        if lora is None or lora is False:
            return None
        if lora is True:
            return cls()
        if isinstance(lora, LoraRecipe):
            return lora
        if not isinstance(lora, Mapping):
            raise SettingError(f"lora is {lora!r}; say True, or values such as {{'r': 16}}.")
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(lora) - set(known))
        if unknown:
            raise SettingError(f"lora has {', '.join(unknown)}; it can have: {', '.join(known)}.")
        values = dict(lora)
        if "target_modules" in values:
            values["target_modules"] = tuple(values["target_modules"])
        return cls(**values)


OWN = {
    "output_dir": "output",
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "max_steps": "max_steps",
    "seed": "seed",
    "save_steps": "save_steps",
}
"""Fields of TrainingArguments that are arguments of `train_retriever` too; said in `arguments`, they win."""
REFUSED = {
    "per_device_train_batch_size": "batch_size, which counts over all devices",
    "gradient_accumulation_steps": "batch_size and micro_batch: negatives of other steps would be lost",
    "load_best_model_at_end": "evaluate: the report names the best checkpoint",
    "resume_from_checkpoint": "resume",
    "auto_find_batch_size": "micro_batch",
    "deepspeed": "fsdp: its checkpoints have not been tried here",
}
"""Fields that would break the loss, and what to say instead."""
HARMLESS = frozenset(
    [
        "report_to",
        "run_name",
        "disable_tqdm",
        "logging_steps",
        "logging_first_step",
        "logging_strategy",
        "log_level",
        "save_total_limit",
        "save_steps",
        "eval_steps",
        "eval_strategy",
        "save_strategy",
        "gradient_checkpointing",
        "activation_checkpointing",
        "dataloader_num_workers",
        "use_cpu",
        "ddp_backend",
        "ddp_timeout",
        "fsdp",
        "fsdp_config",
        "project",
    ]
)
"""Fields that a run may be continued with in another value: they change no number of the result."""


def read_arguments(arguments: Any, fields_of: Any = None, refused: Mapping[str, str] = REFUSED) -> dict[str, Any]:
    """What `arguments` says, by name: a mapping, or a TrainingArguments, of which the fields that were changed count.

    Args:
        arguments: What the user said.
        fields_of: The class whose fields they are; transformers.TrainingArguments where None.
        refused: Fields that cannot be set, and what to say instead.

    Raises:
        SettingError: It is neither, names a field that there is not, or one that cannot be set.
    """
    if arguments is None:
        return {}
    from transformers import TrainingArguments

    kind = fields_of or TrainingArguments
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if isinstance(arguments, kind):
        # The object does not say which of its fields were set; those that differ from a fresh one were.
        usual = kind(output_dir=arguments.output_dir)
        asked = {}
        for name in fields:
            value = getattr(arguments, name)
            if name != "output_dir" and value != getattr(usual, name):
                asked[name] = value
    elif isinstance(arguments, Mapping):
        asked = dict(arguments)
    else:
        raise SettingError(f"arguments is {type(arguments).__name__}; give a dict or a {kind.__name__}.")
    # Given to us under both of its names, whatever the version of transformers.
    known = {*fields, "gradient_checkpointing", "activation_checkpointing"}
    for name in asked:
        if name not in known:
            package = kind.__module__.partition(".")[0]
            raise SettingError(f"arguments has {name!r}, which {package}.{kind.__name__} does not have.")
        if name in refused:
            raise SettingError(f"arguments has {name!r}; say it by {refused[name]}.")
    _check_sharding(asked)
    return asked


def _check_sharding(asked: Mapping[str, Any]) -> None:
    """FSDP only as it was tried: other state dicts leave a checkpoint without weights, version 2 rounds them."""
    if not asked.get("fsdp"):
        return
    config = asked.get("fsdp_config")
    if not isinstance(config, Mapping):
        config = {}
    if config.get("version") != 1 or config.get("state_dict_type") != "FULL_STATE_DICT":
        raise SettingError(
            f"fsdp_config is {dict(config)}; sharding needs "
            '{"version": 1, "fsdp_version": 1, "state_dict_type": "FULL_STATE_DICT"}.'
        )


def merge_arguments(recipe: RetrieverRecipe, asked: Mapping[str, Any]) -> RetrieverRecipe:
    """The recipe with what `arguments` says of its own values."""
    changes = {}
    for name, ours in OWN.items():
        if name in asked and ours != "output":
            changes[ours] = asked[name]
    if changes.get("max_steps", 1) is not None and changes.get("max_steps", 1) < 1:
        changes["max_steps"] = None  # -1 is how TrainingArguments says: by epochs
    return dataclasses.replace(recipe, **changes)
