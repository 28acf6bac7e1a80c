"""What the trainers of readers and agents share beside whole checkpoints: evaluation, and a log to read.

output/log.jsonl        what was logged, a line a step: losses, rewards, lengths
output/samples.jsonl    what the network wrote while it was trained, as text
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from visrag_integrations.errors import TrainingError
from visrag_integrations.files import write_whole
from visrag_integrations.training.callbacks import LastStep, StepBar, quieten
from visrag_integrations.training.losses import world_size
from visrag_integrations.training.runs import RunFolder, saving
from visrag_integrations.training.trouble import memory_trouble
from visrag_integrations.training.whole_checkpoints import Save, WholeCheckpoints, wait_for_others

LOG = "log.jsonl"
SAMPLES = "samples.jsonl"


class EvaluateEvery(TrainerCallback):  # type: ignore[misc]
    """Asks for an evaluation every so many steps. The Trainer's own way would want a data set to iterate."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Called by the Trainer."""
        if state.global_step % self.steps == 0:
            control.should_evaluate = True
        return control


class RunTrainer(WholeCheckpoints):
    """To be inherited before a Trainer; `begin_run` comes after its construction.

    Attributes:
        pages: Pages that went through the network, in all parts of the run.
    """

    pages: int

    def begin_run(
        self,
        run: RunFolder,
        save: Save,
        *,
        best_by: str,
        evaluate: Callable[[], dict[str, float]] | None,
        evaluate_every: int,
        before: Mapping[str, Any] | None,
    ) -> None:
        """Take over saving, evaluation and the log.

        Args:
            run: The run's folder.
            save: Writes what a checkpoint is loaded from.
            best_by: The metric that tells which checkpoint is the best.
            evaluate: Gives metric -> value; None where there is nothing to evaluate with.
            evaluate_every: Steps between evaluations.
            before: What `complete.json` says of the checkpoint that the run goes on from.
        """
        trainer: Any = self
        known = before or {}
        self.keep_in(
            run,
            save,
            best_by=best_by,
            seconds_before=float(known.get("seconds", 0.0)),
            resumed=int(known.get("resumed", -1)) + 1,
        )
        self.pages = int(known.get("pages", 0))
        self._evaluate_now = evaluate
        quieten(trainer)
        if evaluate is not None:
            trainer.add_callback(EvaluateEvery(evaluate_every))
        trainer.add_callback(LastStep(evaluate is not None))
        trainer.add_callback(StepBar(trainer.args.disable_tqdm))
        if trainer.is_world_process_zero():
            # A run that was stopped between two checkpoints has logged steps that it takes again.
            for name in (LOG, SAMPLES):
                keep_until(run.path / name, int(known.get("step", 0)))

    def notes(self) -> dict[str, Any]:
        """With the pages, which each device counts for itself."""
        return {**super().notes(), "pages": self.pages}

    def named_weights(self) -> Mapping[str, Tensor]:
        """The network's, without what distributed training puts around it."""
        trainer: Any = self
        weights: Mapping[str, Tensor] = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        return weights

    def log(self, logs: dict[str, float], *others: Any, **more: Any) -> None:
        """Also as a line of log.jsonl."""
        trainer: Any = self
        super().log(logs, *others, **more)  # type: ignore[misc]
        if trainer.is_world_process_zero() and hasattr(self, "run"):
            line = {"step": trainer.state.global_step, **logs}
            saving(LOG, lambda: append_line(self.run.path / LOG, line))

    def note_sample(self, sample: Mapping[str, Any]) -> None:
        """A line of samples.jsonl."""
        trainer: Any = self
        if trainer.is_world_process_zero():
            line = {"step": trainer.state.global_step + 1, **sample}
            saving(SAMPLES, lambda: append_line(self.run.path / SAMPLES, line))

    def training_step(self, *arguments: Any, **more: Any) -> Tensor:
        """As the Trainer's; what does not fit into memory is said plainly."""
        trainer: Any = self
        with memory_trouble(trainer.args.per_device_train_batch_size, "sequences"):
            loss: Tensor = super().training_step(*arguments, **more)  # type: ignore[misc]
        if not bool(torch.isfinite(loss)):
            raise TrainingError(self._not_finite("The loss"))
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[misc]
        if norm is not None and not math.isfinite(float(norm)):
            raise TrainingError(self._not_finite("The gradient"))
        return norm

    def _not_finite(self, what: str) -> str:
        trainer: Any = self
        return (
            f"{what} of step {trainer.state.global_step + 1} is not finite, so training stopped; the last checkpoint "
            f"is good. What was written last stands in {self.run.path / SAMPLES}. Lower lr."
        )

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """How well held-out questions are answered, by one process; the others wait for it."""
        trainer: Any = self
        scores: list[Any] = [None]
        if self._evaluate_now is not None and trainer.is_world_process_zero():
            training = trainer.model.training
            trainer.model.eval()
            with random_kept():
                scores[0] = self._evaluate_now()
            trainer.model.train(training)
        if world_size() > 1:
            torch.distributed.broadcast_object_list(scores, src=0)
        metrics: dict[str, float] = {}
        for name, value in (scores[0] or {}).items():
            metrics[f"{metric_key_prefix}_{name}"] = value
        self.log(dict(metrics))
        trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
        return metrics

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Nothing: a checkpoint has a card of ours, and the run's folder none."""

    def _rotate_checkpoints(self, *_: Any, **__: Any) -> None:
        """Nothing: `RunFolder.remove_old` knows which one is the best."""

    def _sorted_checkpoints(self, *_: Any, **__: Any) -> list[str]:
        return []


def open_run(run: RunFolder, args: Any, started_with: Mapping[str, Any], resume: str | bool | None) -> bool:
    """Prepare the run's folder by one process; whether the run was finished before. Nothing heavy is loaded yet.

    Args:
        run: The folder.
        args: The Trainer's arguments; where there are several devices, they have made the process group.
        started_with: What must be the same for a run to go on.
        resume: Whether it may.
    """
    if args.process_index == 0:
        run.prepare(started_with, resume)
    wait_for_others()
    return run.report.is_file()


@contextlib.contextmanager
def random_kept() -> Iterator[None]:
    """What happens inside draws no numbers that training would have drawn."""
    state = torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if devices:
            torch.cuda.set_rng_state_all(devices)


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """One JSON object more in a file of lines."""
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(json.dumps(values, ensure_ascii=False) + "\n")


def keep_until(path: Path, step: int) -> None:
    """Take away the lines of later steps, and one that was cut off when the process was killed."""
    if not path.is_file():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    write_whole(path, "".join(kept).encode("utf-8"))
