"""How VRAG-RL was trained: every published value of both stages, by name."""

from __future__ import annotations

from dataclasses import dataclass

from visrag_integrations.agent import PictureRules
from visrag_integrations.agent.remembered import AgentSettings
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.vrag import TEMPLATE, check_template
from visrag_integrations.training.reader_recipe import RlRecipe, SftRecipe

CELL = 28
"""Pixels of the side of what Qwen2.5-VL sees as one token."""


@dataclass(frozen=True)
class AgentSftRecipe(SftRecipe):
    """The first stage: whole runs, as experts made them.

    How long and how fast is not in VRAG-RL's repository; these are EVisRAG's values. Its pictures are published.

    Attributes:
        max_images: A run with more pictures is left out: ten turns have nine.
        max_pixels: A larger picture is made smaller.
        max_turns: For `VRAGAgent`: turns that search or look closer; one more answers.
        template: For `VRAGAgent`: the prompt, with `{question}`.
        padding_after: For `VRAGAgent`: pixels of the page around a box.
    """

    max_images: int = 10
    max_pixels: int = 512 * CELL * CELL
    max_turns: int = 4
    template: str = TEMPLATE
    padding_after: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)

    @property
    def agent(self) -> AgentSettings:
        """What a checkpoint remembers."""
        rules = PictureRules(self.max_pixels // 2, self.max_pixels, self.padding_after)
        return AgentSettings(self.max_turns + 1, self.template, rules)


@dataclass(frozen=True)
class AgentRlRecipe(RlRecipe):
    """The second stage: `train_grpo_qwen2_5_vl_7b.sh` of VRAG-RL and its defaults; the rest is `RlRecipe`.

    Attributes:
        epochs: How often every question is asked.
        batch_size: Questions a step, over all devices.
        samples: Runs a question.
        warmup_steps: Steps in which the rate rises from 0.
        high: The ratio is clipped above 1 + high.
        kl: Weight of the distance to the network that this stage began with.
        max_tokens: A run that has so many is asked to answer; one picture counts as its tokens.
        max_response: Tokens of a turn.
        keep_above: Groups are kept whose mean reward is above; published, all are.
        keep_below: And below this.
        min_pixels: A page or crop that is smaller is enlarged to this area.
        max_pixels: A larger one is made smaller.
        max_turns: Turns that search or look closer; one more answers.
        template: The prompt, with `{question}`.
        padding: Pixels of the page around a box, while it is trained;
        padding_after: and after that, for `VRAGAgent` (published: in validation).
        save_steps: A checkpoint every so many steps, and an evaluation.
    """

    epochs: float = 1.0
    samples: int = 5
    warmup_steps: int = 5
    high: float = 0.2
    kl: float = 0.01
    max_tokens: int = 10_240
    max_response: int = 2048
    keep_above: float = -1.0
    keep_below: float = 2.0
    rounds: int = 1
    max_images: int = 10
    min_pixels: int = 256 * CELL * CELL
    max_pixels: int = 512 * CELL * CELL
    max_turns: int = 4
    template: str = TEMPLATE
    padding: int = 0
    padding_after: int = 28
    save_steps: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)
        self.pictures  # noqa: B018 (checks the two areas)

    @property
    def pictures(self) -> PictureRules:
        """How pages and crops are shown while it is trained."""
        return PictureRules(self.min_pixels, self.max_pixels, self.padding)

    @property
    def agent(self) -> AgentSettings:
        """What a checkpoint remembers."""
        rules = PictureRules(self.min_pixels, self.max_pixels, self.padding_after)
        return AgentSettings(self.max_turns + 1, self.template, rules)


def _check(recipe: AgentSftRecipe | AgentRlRecipe) -> None:
    if recipe.max_turns < 1:
        raise SettingError(f"max_turns is {recipe.max_turns}; give 1 or more: turns that search or look closer.")
    check_template(recipe.template)


AGENT_STAGES: dict[str, type[AgentSftRecipe] | type[AgentRlRecipe]] = {"sft": AgentSftRecipe, "rl": AgentRlRecipe}
"""Recipes of the agent by stage."""
