"""How EVisRAG was trained: every published value of both stages, by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from visrag_integrations.errors import SettingError
from visrag_integrations.training.rollouts import KEPT_MEANS, MOST_ROUNDS

ReaderStage = Literal["sft", "rl"]


@dataclass(frozen=True)
class SftRecipe:
    """The first stage, supervised: `full_sft.sh` of EVisRAG's repository, and LLaMA-Factory's defaults.

    Attributes:
        epochs: How often every example is seen.
        max_steps: So many steps instead, where it is not None.
        batch_size: Examples a step, over all devices (published: 1 x 8 accumulated, on each of 8).
        micro_batch: Examples that a device has in memory at once; changes the memory and the speed.
        lr: The highest learning rate.
        warmup_steps: Steps in which the rate rises from 0; a tenth of all steps where that is less.
        scheduler: How it falls after.
        beta1: AdamW's, of the gradient's mean.
        beta2: AdamW's, of its square's mean.
        epsilon: AdamW's.
        weight_decay: AdamW's.
        max_grad_norm: A longer gradient is shortened to this.
        max_tokens: An example with more, pictures included, is left out.
        max_response: Tokens of an answer when held-out questions are asked.
        max_images: An example with more pages is left out.
        min_pixels: A smaller picture is enlarged to this area.
        max_pixels: A larger one is made smaller.
        train_merger: Whether what joins the vision tower to the language model is trained; the tower never is.
        save_steps: A checkpoint every so many steps, and after the last.
        keep_checkpoints: The last ones that stay, beside the best; None keeps all.
        seed: Of the order of the examples.
    """

    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 64
    micro_batch: int = 1
    lr: float = 5e-7
    warmup_steps: int = 200
    scheduler: str = "cosine"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_tokens: int = 32_000
    max_response: int = 1536
    max_images: int = 5
    min_pixels: int = 32 * 32
    max_pixels: int = 3_920_000
    train_merger: bool = False
    save_steps: int = 500
    keep_checkpoints: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, ("batch_size", "micro_batch", "save_steps", "max_tokens", "max_images", "max_pixels"))

    def steps(self, examples: int) -> int:
        """Steps of a run; a last batch that is not full is a step too.

        >>> SftRecipe().steps(6400)
        100
        """
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil(self.epochs * math.ceil(examples / self.batch_size)))

    def warmup(self, steps: int) -> int:
        """Steps of the warm-up in a run of so many."""
        return min(self.warmup_steps, steps // 10)

    @property
    def rows(self) -> int:
        """Sequences a step."""
        return self.batch_size


@dataclass(frozen=True)
class RlRecipe:
    """The second stage, RS-GRPO: `examples/config.yaml` and `run_evidencecot.sh` of EVisRAG's `rsgrpo`.

    Attributes:
        epochs: How often every prompt is seen.
        max_steps: So many steps instead, where it is not None.
        batch_size: Prompts a step, over all devices.
        samples: Responses a prompt.
        micro_batch: Responses that a device has in memory at once when it learns.
        lr: The learning rate, constant.
        warmup_steps: None.
        scheduler: The rate's way.
        beta1: AdamW's, of the gradient's mean.
        beta2: AdamW's, of its square's mean.
        epsilon: AdamW's.
        weight_decay: AdamW's.
        max_grad_norm: A longer gradient is shortened to this.
        max_tokens: A prompt with more, pictures included, is left out.
        max_response: Tokens of a response.
        temperature: Responses are drawn at.
        top_p: The same.
        low: The ratio of probabilities is clipped at 1 - low,
        high: and at 1 + high.
        dual: Where the advantage is below 0, a token's loss is at most this many times its size.
        kl: Weight of the distance to the network that training began with; published without.
        keep_above: Groups of responses are kept whose mean reward is above,
        keep_below: and below this.
        rounds: Rounds of writing a step, to fill it with groups that are kept.
        max_images: A prompt with more pages is left out.
        min_pixels: A smaller picture is enlarged to this area.
        max_pixels: A larger one is made smaller.
        train_merger: Whether what joins the vision tower to the language model is trained; the tower never is.
        save_steps: A checkpoint every so many steps, and after the last.
        keep_checkpoints: The last ones that stay, beside the best; None keeps all.
        seed: Of the order of the prompts, and of what is drawn.
    """

    epochs: float = 16.0
    max_steps: int | None = None
    batch_size: int = 32
    samples: int = 8
    micro_batch: int = 1
    lr: float = 1e-6
    warmup_steps: int = 0
    scheduler: str = "constant"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_tokens: int = 15_000
    max_response: int = 1536
    temperature: float = 1.0
    top_p: float = 1.0
    low: float = 0.2
    high: float = 0.28
    dual: float = 3.0
    kl: float = 0.0
    keep_above: float = KEPT_MEANS[0]
    keep_below: float = KEPT_MEANS[1]
    rounds: int = MOST_ROUNDS
    max_images: int = 5
    min_pixels: int = 262_144
    max_pixels: int = 1_568_000
    train_merger: bool = True
    save_steps: int = 10
    keep_checkpoints: int | None = 8
    seed: int = 0

    def __post_init__(self) -> None:
        whole = ("batch_size", "micro_batch", "save_steps", "max_tokens", "max_response", "max_images", "rounds")
        check_numbers(self, (*whole, "max_pixels"))
        if self.samples < 2:
            raise SettingError(f"samples is {self.samples}; responses are compared with each other: give 2 or more.")
        if not self.keep_above < self.keep_below:
            raise SettingError(f"keep_above is {self.keep_above} and keep_below {self.keep_below}; nothing is between.")

    def steps(self, prompts: int) -> int:
        """Steps of a run; prompts that do not fill a batch at the end of an epoch are left out.

        >>> RlRecipe().steps(3200)
        1600
        """
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil(self.epochs * (prompts // self.batch_size)))

    def warmup(self, steps: int) -> int:
        """Steps of the warm-up in a run of so many."""
        return min(self.warmup_steps, steps)

    @property
    def rows(self) -> int:
        """Sequences a step."""
        return self.batch_size * self.samples


Recipe = SftRecipe | RlRecipe
OF_STAGE: dict[str, type[SftRecipe] | type[RlRecipe]] = {"sft": SftRecipe, "rl": RlRecipe}


def recipe_of(stage: str, said: Mapping[str, Any]) -> Recipe:
    """The stage's published recipe with other values where some are said; None is not said.

    Raises:
        SettingError: There is no such stage or value.
    """
    if stage not in OF_STAGE:
        raise SettingError(
            f'stage is {stage!r}; it is "sft" (learn from written answers) or "rl" (learn from rewards).'
        )
    kind = OF_STAGE[stage]
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(said) - set(known))
    if unknown:
        raise SettingError(f"the recipe of stage {stage!r} has no {', '.join(unknown)}; it has: {', '.join(known)}.")
    return kind(**{name: value for name, value in said.items() if value is not None})


def check_numbers(recipe: Recipe, whole: tuple[str, ...]) -> None:
    """Nothing, if all values are possible.

    Raises:
        SettingError: One is not.
    """
    for name in whole:
        value = getattr(recipe, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SettingError(f"{name} is {value!r}; it must be a whole number from 1.")
    if recipe.max_steps is not None and recipe.max_steps < 1:
        raise SettingError(f"max_steps is {recipe.max_steps}; it must be 1 or more, or None to go by epochs.")
    if recipe.min_pixels > recipe.max_pixels:
        raise SettingError(
            f"min_pixels is {recipe.min_pixels} and max_pixels {recipe.max_pixels}; no picture fits both."
        )
    for name in ("epochs", "lr"):
        if not getattr(recipe, name) > 0:
            raise SettingError(f"{name} is {getattr(recipe, name)}; it must be above 0.")
