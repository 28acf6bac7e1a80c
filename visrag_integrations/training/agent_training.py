"""`train_agent`: a model that searches, looks closer and answers, by VRAG-RL's two stages."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import Tensor
from transformers import set_seed

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import EvaluationSet, load_evaluation_set
from visrag_integrations.files import write_whole
from visrag_integrations.interfaces.retrievers import Retriever, is_retriever
from visrag_integrations.training.agent_evaluation import BEST_BY, check_agent_questions, golden_of, run_held_out
from visrag_integrations.training.agent_recipe import AGENT_STAGES, AgentRlRecipe, AgentSftRecipe
from visrag_integrations.training.agent_rewards import WEIGHTS, TrajectoryReward
from visrag_integrations.training.bases import Base
from visrag_integrations.training.card import agent_card
from visrag_integrations.training.evidence import NO_NUMBERS, SKIPPED_SHOWN, lora_of
from visrag_integrations.training.judges import Judged, JudgeFunction
from visrag_integrations.training.lazily import check_trl
from visrag_integrations.training.losses import world_size
from visrag_integrations.training.reader import ReaderNetwork, find_reader, load_reader
from visrag_integrations.training.reader_arguments import OWN, merge_asked, reader_arguments
from visrag_integrations.training.reader_checks import fitting
from visrag_integrations.training.reader_examples import ReaderExamples, open_examples
from visrag_integrations.training.reader_recipe import ReaderStage, recipe_of
from visrag_integrations.training.reader_saving import load_reader_state, save_reader
from visrag_integrations.training.recipe import HARMLESS, LoraRecipe
from visrag_integrations.training.report import TrainingReport
from visrag_integrations.training.runs import RunFolder, read_complete

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator


@dataclass(frozen=True)
class AgentPlan:
    """Everything a run is: what `train_agent` was asked, checked.

    `data` are whole runs to learn from (`sft`), or questions (`rl`).
    """

    base: Base
    data: ReaderExamples | EvaluationSet
    stage: ReaderStage
    recipe: AgentSftRecipe | AgentRlRecipe
    steps: int
    retriever: Retriever | None
    judged: Judged | None
    weights: tuple[float, float, float]
    published: bool
    lora: LoraRecipe | None
    evaluate: EvaluationSet | None
    asked: Mapping[str, Any]

    def started_with(self) -> dict[str, Any]:
        """What must be the same for a run to go on. Not what changes no number: memory, logging, how often it saves."""
        numbers = dataclasses.asdict(self.recipe)
        for name in NO_NUMBERS:
            numbers.pop(name)
        others: dict[str, str] = {}
        for name, value in sorted(self.asked.items()):
            if name not in HARMLESS and name not in OWN:
                others[name] = str(value)
        return {
            "task": "agent",
            "stage": self.stage,
            "base": self.base.fingerprint,
            "data": fingerprint_of(self.data),
            "steps": self.steps,
            **numbers,
            **self._rewarded(),
            "lora": None if self.lora is None else dataclasses.asdict(self.lora),
            "arguments": others,
        }

    def settings(self) -> dict[str, Any]:
        """For the report and the model card."""
        settings = {"stage": self.stage, **dataclasses.asdict(self.recipe), "steps": self.steps, **self._rewarded()}
        if self.lora is not None:
            settings["lora"] = {**dataclasses.asdict(self.lora), "target_modules": list(self.lora.target_modules)}
        return settings

    def _rewarded(self) -> dict[str, Any]:
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
    named = {"epochs": epochs, "max_steps": max_steps, "lr": lr, "batch_size": batch_size, "micro_batch": micro_batch}
    said = {**(recipe or {}), **{name: value for name, value in named.items() if value is not None}}
    said |= {name: value for name, value in (("save_steps", save_steps), ("seed", seed)) if value is not None}
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
        start,
        data,
        stage,
        chosen,
        chosen.steps(count),
        retriever,
        judged,
        weights,
        published,
        lora_of(lora),
        held_out,
        asked,
    )
    return _run(plan, RunFolder(output), resume)


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


def _run(plan: AgentPlan, run: RunFolder, resume: str | bool | None) -> TrainingReport:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    args = reader_arguments(run.path, plan.recipe, plan.steps, plan.asked, world)
    if args.process_index == 0:
        run.prepare(plan.started_with(), resume)
    if world_size() > 1:
        dist.barrier()
    # Finished: nothing heavy has been loaded yet.
    if run.report.is_file():
        return TrainingReport.read(run.report)
    newest = run.newest()
    set_seed(plan.recipe.seed)  # of LoRA's first values
    reader = load_reader(plan.base, plan.recipe, plan.lora, newest, str(args.device))
    if newest is not None:
        load_reader_state(reader.model, newest, plan.lora)
    data = plan.data
    if isinstance(data, ReaderExamples):
        data = fitting(data, reader, answered=True)
    trainer = make_agent_trainer(plan, reader, data, args)
    begin_agent(plan, run, reader, trainer, newest)
    trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    report = _report(plan, run, trainer, data)
    if args.process_index == 0:
        write_whole(run.report, report.to_json().encode("utf-8"))
    return report


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

    def save(folder: Path, state: Mapping[str, Tensor]) -> None:
        save_reader(plan.base, folder, trainer.accelerator.unwrap_model(trainer.model), state, plan.lora)
        settings.save(folder)
        # Evaluated just before: the Trainer saves after it has looked.
        scores = trainer.scores()
        last = scores[-1][1] if scores else {}
        about = f"{plan.data.name}: {_count_of(plan.data)}."
        card = agent_card(plan.base, plan.stage, about, plan.settings(), last, adapter=plan.lora is not None)
        (folder / "README.md").write_text(card, encoding="utf-8")

    trainer.begin_run(
        run,
        save,
        best_by=BEST_BY,
        evaluate=None if plan.evaluate is None else evaluate,
        evaluate_every=plan.recipe.save_steps,
        before=None if newest is None else read_complete(newest),
    )


def _count_of(data: ReaderExamples | EvaluationSet) -> str:
    if isinstance(data, ReaderExamples):
        return f"{len(data)} runs"
    return f"{_answered(data)} questions"


def _report(plan: AgentPlan, run: RunFolder, trainer: Any, data: ReaderExamples | EvaluationSet) -> TrainingReport:
    best = trainer.best_saved() or run.steps()[-1]
    broken: Mapping[str, str] = {}
    if isinstance(data, ReaderExamples):
        broken = data.broken
    return TrainingReport(
        base=plan.base.name,
        data=plan.data.name,
        checkpoint=str(run.checkpoint(best)),
        steps=plan.steps,
        best_step=best,
        losses=tuple(trainer.losses()),
        scores=tuple(trainer.scores()),
        pages=trainer.pages * world_size(),  # each device counts its own, and all have equally many rows
        skipped=dict(list(broken.items())[:SKIPPED_SHOWN]),
        skipped_pages=len(broken),
        seconds=trainer.seconds,
        resumed=trainer.resumed,
        settings=plan.settings(),
        history=tuple(trainer.state.log_history) if plan.stage == "rl" else (),
    )
