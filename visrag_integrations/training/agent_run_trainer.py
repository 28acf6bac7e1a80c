"""The trainer of the agent's second stage in a run's folder: checkpoints, samples, traces. Needs TRL."""

from __future__ import annotations

from functools import partial
from typing import Any

from datasets import Dataset
from torch import Tensor

from visrag_integrations.evaluation import EvaluationSet
from visrag_integrations.interfaces.retrievers import Retriever
from visrag_integrations.training.agent_evaluation import golden_of, keep_trace
from visrag_integrations.training.agent_recipe import AgentRlRecipe
from visrag_integrations.training.agent_rewards import TrajectoryReward
from visrag_integrations.training.agent_trainer import AgentGRPOTrainer
from visrag_integrations.training.reader import ReaderNetwork
from visrag_integrations.training.rollouts import Rollout
from visrag_integrations.training.run_trainer import RunTrainer
from visrag_integrations.training.runs import saving


class AgentRunTrainer(RunTrainer, AgentGRPOTrainer):
    """Reinforcement learning of the agent, by VRAG-RL's rewards.

    Args:
        reader: What is trained.
        args: TRL's settings.
        questions: What is asked.
        reward: What runs are rewarded for.
        retriever: Finds pages.
        published: The padding picture is trained too.
    """

    def __init__(
        self,
        reader: ReaderNetwork,
        args: Any,
        questions: EvaluationSet,
        reward: TrajectoryReward,
        *,
        retriever: Retriever,
        published: bool,
    ) -> None:
        self.reader, self.questions = reader, questions
        recipe = reader.recipe
        assert isinstance(recipe, AgentRlRecipe)
        # TRL loads what the distance is measured to by this name: the run's start, also where it goes on from a
        # checkpoint of its own.
        model: Any = reader.model
        model.config._name_or_path = str(reader.base.folder)
        super().__init__(
            model,
            reward,
            args,
            question_rows(questions),
            processing_class=reader.processor,
            retriever=retriever,
            max_turns=recipe.max_turns + 1,
            max_tokens=recipe.max_tokens,
            template=recipe.template,
            pictures=recipe.pictures,
            keep_groups=(recipe.keep_above, recipe.keep_below),
            rounds=recipe.rounds,
            published=published,
        )

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self.pages += sum(inputs.get("num_images") or ())
        return super()._compute_loss(model, inputs)

    def _note_first(self, rollout: Rollout) -> None:
        """The first run of the step as text, with its reward; at each checkpoint's step also as a page to look at."""
        row = rollout.inputs[0]
        trace = row["trace"]
        self.note_sample(
            {"question": trace.question, "right": row["answers"], "golden": row["golden"]}
            | {"run": trace.to_dict(), "written": [turn.text for turn in trace.turns]}
            | {"reward": float(rollout.rewards[0, 0])}
        )
        step = self.state.global_step + 1
        if (step == 1 or step % self.args.save_steps == 0) and self.is_world_process_zero():
            path = self.run.path / "traces" / f"step-{step}.html"
            saving(path.name, lambda: keep_trace(path, trace))


def question_rows(questions: EvaluationSet) -> Any:
    """Questions as TRL's rows: those that have an answer."""
    rows: list[dict[str, Any]] = []
    for question in questions.questions:
        if question.answers:
            golden = golden_of(questions, question.id)
            rows.append({"question": question.text, "answers": list(question.answers), "golden": golden})
    return Dataset.from_dict({"row": list(range(len(rows)))}).with_transform(partial(_as_rows, rows))


def _as_rows(rows: list[dict[str, Any]], batch: dict[str, list[int]]) -> dict[str, list[Any]]:
    numbers = batch["row"]
    found: dict[str, list[Any]] = {"row": numbers}
    for name in ("question", "answers", "golden"):
        found[name] = [rows[number][name] for number in numbers]
    found["prompt"] = [[{"role": "user", "content": question}] for question in found["question"]]
    return found
