"""`train_agent`: a model that searches, looks closer and answers, by VRAG-RL's two stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import EvaluationSet, load_evaluation_set
from visrag_integrations.interfaces.retrievers import Retriever, is_retriever
from visrag_integrations.training.agent_evaluation import BEST_BY, check_agent_questions, golden_of, run_held_out
from visrag_integrations.training.agent_recipe import AGENT_STAGES
from visrag_integrations.training.agent_rewards import WEIGHTS, TrajectoryReward
from visrag_integrations.training.card import agent_card
from visrag_integrations.training.judges import Judged, JudgeFunction
from visrag_integrations.training.lazily import check_trl
from visrag_integrations.training.reader import ReaderNetwork, find_reader
from visrag_integrations.training.reader_arguments import merge_asked
from visrag_integrations.training.reader_examples import ReaderExamples, open_examples
from visrag_integrations.training.reader_recipe import ReaderStage, recipe_of
from visrag_integrations.training.recipe import LoraRecipe
from visrag_integrations.training.report import TrainingReport
from visrag_integrations.training.runs import RunFolder
from visrag_integrations.training.stage_run import StagePlan, begin_stage, lora_of, run_stage, said_values

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator


@dataclass(frozen=True, kw_only=True)
class AgentPlan(StagePlan):
    """Everything a run is: what `train_agent` was asked, checked.

    `data` are whole runs to learn from (`sft`), or questions (`rl`).
    """

    retriever: Retriever | None
    judged: Judged | None
    weights: tuple[float, float, float]

    @property
    def data_fingerprint(self) -> str:
        return fingerprint_of(self.data)

    def own_numbers(self) -> dict[str, Any]:
        return {"task": "agent", **self.own_settings()}

    def own_settings(self) -> dict[str, Any]:
        if self.judged is None:
            return {}
        return {"judge": self.judged.name, "weights": list(self.weights), "published": self.published}


def train_agent(
    base: str | Path,
    questions: Any,
    output: str | Path,
    *,
    retriever: Retriever | None = None,
    judge: Generator | JudgeFunction | Judged | None = None,
    stage: ReaderStage = "sft",
    epochs: float | None = None,
    max_steps: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    save_steps: int | None = None,
    seed: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    weights: tuple[float, float, float] = WEIGHTS,
    published: bool = False,
    lora: bool | Mapping[str, Any] | LoraRecipe | None = None,
    evaluate: EvaluationSet | None = None,
    resume: str | bool | None = "auto",
    arguments: Any = None,
) -> TrainingReport:
    """Train the agent by VRAG-RL's recipe: first on whole runs of experts (`sft`), then by its own runs (`rl`).

    The defaults are the published values of the stage; None leaves a value at that. Under `torchrun` or `accelerate
    launch` all devices train together. Checkpoints remember prompt, turns and picture sizes for `VRAGAgent`.

    Args:
        base: A Qwen2.5-VL checkpoint or one that was trained from it: a name or folder. For `rl`, the folder that
            `sft` gave.
        questions: Of `rl`: an `EvaluationSet` with answers and the pages that hold them, or the name of one as
            `load_evaluation_set` takes it (VRAG's own layouts too). Of `sft`: runs as `build_runs` gives them, or files
            of chat rows.
        output: The run's folder; its checkpoints are `output/checkpoint-STEP`.
        retriever: Finds pages: a `PageRetriever`, or `RemoteRetriever(url)` of a `visrag serve` that all devices ask.
            `sft` needs it for `evaluate` alone.
        judge: Says whether answers are right (`rl`): a `Generator`, a function of question, answer and right answers,
            or a `Judged` with limits of your own.
        stage: "sft" or "rl".
        epochs: How often every example or question is seen.
        max_steps: So many steps instead.
        lr: The learning rate, at its highest.
        batch_size: Examples a step, over all devices; of `rl` questions, each with `samples` runs.
        micro_batch: Sequences a device has in memory at once; changes memory and speed.
        save_steps: A checkpoint every so many steps, and an evaluation; the last step always.
        seed: Of the order, and of what is drawn.
        recipe: Other values of the stage's recipe by name, for example `{"samples": 8, "max_turns": 3}`; see
            `AgentSftRecipe` and `AgentRlRecipe`.
        weights: Of pages, form and answer in the reward.
        published: The padding picture is trained too, as in the published code.
        lora: True trains small matrices beside the language model's weights (PEFT); a dict changes `r`, `alpha`,
            `dropout` or `target_modules`.
        evaluate: Held-out questions with answers, asked at every checkpoint; the best one is kept.
        resume: "auto" goes on where this run was stopped, and gives the report of a finished one. None refuses a
            folder that holds a run.
        arguments: Anything else of transformers.TrainingArguments, for `rl` of trl.GRPOConfig: a dict or an object.

    Returns:
        The report; its `checkpoint` is the folder to load.

    Raises:
        SettingError: A value is not allowed, or `output` holds another run.
        CheckpointError: The base is no checkpoint.
        DatasetError: No example is any good.
        TrainingError: The loss is no number, the judge is away, memory does not suffice, or the disk is full.
        MissingExtraError: `rl` needs TRL, and TRL Python 3.11.
    """
    said = said_values(
        recipe,
        epochs=epochs,
        max_steps=max_steps,
        lr=lr,
        batch_size=batch_size,
        micro_batch=micro_batch,
        save_steps=save_steps,
        seed=seed,
    )
    chosen = recipe_of(stage, said, AGENT_STAGES)
    if stage == "rl":
        check_trl()
    chosen, asked = merge_asked(stage, chosen, arguments)
    held_out = None if evaluate is None else check_agent_questions(evaluate, "evaluate")
    _check_retriever(retriever, needed=stage == "rl" or held_out is not None)
    start = find_reader(base)
    data = _data_of(stage, questions)
    judged = None
    if stage == "rl":
        judged = _judged(judge)
    count = len(data) if isinstance(data, ReaderExamples) else _answered(data)
    plan = AgentPlan(
        base=start,
        data=data,
        stage=stage,
        recipe=chosen,
        steps=chosen.steps(count),
        retriever=retriever,
        judged=judged,
        weights=weights,
        published=published,
        lora=lora_of(lora),
        evaluate=held_out,
        asked=asked,
    )
    return run_stage(plan, RunFolder(output), resume, make_agent_trainer, begin_agent)


def _check_retriever(retriever: Any, *, needed: bool) -> None:
    if needed and not is_retriever(retriever):
        raise SettingError(
            f"retriever is {type(retriever).__name__}; the agent searches: give a PageRetriever, or "
            'RemoteRetriever("http://127.0.0.1:8000") for a `visrag serve`.'
        )


def _data_of(stage: str, questions: Any) -> ReaderExamples | EvaluationSet:
    if stage == "rl":
        if isinstance(questions, (str, Path)):
            questions = load_evaluation_set(questions)
        return check_agent_questions(questions, "questions")
    if isinstance(questions, EvaluationSet):
        raise SettingError(
            'stage "sft" learns from whole runs, and questions alone were given. Make runs of them: '
            "build_runs(questions, retriever, reasoner, cropper, FOLDER, judge=...)."
        )
    return open_examples(questions)


def _judged(judge: Any) -> Judged:
    if judge is None:
        raise SettingError(
            'stage "rl" rewards right answers; give judge=load_generator(URL), or a function of question, answer and '
            "right answers such as visrag_integrations.training.judges.match_judge."
        )
    return judge if isinstance(judge, Judged) else Judged(judge)


def _answered(questions: EvaluationSet) -> int:
    return sum(bool(question.answers) for question in questions.questions)


def fingerprint_of(data: ReaderExamples | EvaluationSet) -> str:
    """Tells what is trained on from other data."""
    if isinstance(data, ReaderExamples):
        return data.fingerprint
    said = [[each.text, each.answers, golden_of(data, each.id)] for each in data.questions]
    return hashlib.sha256(json.dumps(said).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def make_agent_trainer(plan: AgentPlan, reader: ReaderNetwork, data: ReaderExamples | EvaluationSet, args: Any) -> Any:
    """The stage's trainer."""
    if isinstance(data, ReaderExamples):
        from visrag_integrations.training.sft_trainer import SftTrainer

        return SftTrainer(reader, args, data)
    from visrag_integrations.training.agent_run_trainer import AgentRunTrainer

    assert plan.judged is not None
    assert plan.retriever is not None
    reward = TrajectoryReward(plan.judged, weights=plan.weights)
    return AgentRunTrainer(reader, args, data, reward, retriever=plan.retriever, published=plan.published)


def begin_agent(plan: AgentPlan, run: RunFolder, reader: ReaderNetwork, trainer: Any, newest: Path | None) -> None:
    """Give the trainer its run: where it saves, what it evaluates with."""
    settings = plan.recipe.agent

    def evaluate() -> dict[str, float]:
        assert plan.evaluate is not None
        assert plan.retriever is not None
        path = run.path / "traces" / f"held-out-{trainer.state.global_step}.html"
        return run_held_out(plan.evaluate, reader, plan.retriever, settings, plan.recipe.max_response, path)

    def card_of(scores: Mapping[str, float]) -> str:
        about = f"{plan.data.name}: {_count_of(plan.data)}."
        return agent_card(plan.base, plan.stage, about, plan.settings(), scores, adapter=plan.lora is not None)

    begin_stage(
        plan,
        run,
        trainer,
        newest,
        best_by=BEST_BY,
        evaluate=None if plan.evaluate is None else evaluate,
        card_of=card_of,
        save_more=settings.save,
    )


def _count_of(data: ReaderExamples | EvaluationSet) -> str:
    if isinstance(data, ReaderExamples):
        return f"{len(data)} runs"
    return f"{_answered(data)} questions"
