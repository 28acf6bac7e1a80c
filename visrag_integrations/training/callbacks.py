"""What happens between the steps of a run: the last one is saved, and a progress bar shows the loss."""

from __future__ import annotations

import logging
from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from visrag_integrations.progress_bars import progress_bar

logger = logging.getLogger(__name__)


def quieten(trainer: Trainer) -> None:
    """Take away the Trainer's own output: it prints every log line to standard output."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


class LastStep(TrainerCallback):  # type: ignore[misc]
    """The last step is always saved, and evaluated first where there is something to evaluate with."""

    def __init__(self, evaluates: bool) -> None:
        self.evaluates = evaluates

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Called by the Trainer."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = self.evaluates
            control.should_save = True
            control.should_log = True
        return control


class StepBar(TrainerCallback):  # type: ignore[misc]
    """Steps and the last loss, on standard error; silent where that is no terminal."""

    def __init__(self, off: bool) -> None:
        self.off = off
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer."""
        if state.is_world_process_zero:
            shown = False if self.off else None
            self.bar = progress_bar(
                shown, total=state.max_steps, initial=state.global_step, unit="step", desc="Training"
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Called by the Trainer."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer."""
        if self.bar is not None:
            self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer."""
        if self.bar is not None:
            self.bar.close()


class SkipSilentSteps(TrainerCallback):  # type: ignore[misc]
    """No update where no response was better than another: a gradient of 0 would still let AdamW move and decay."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer, between the gradient and the update."""
        if self.trainer.silent:
            logger.warning("Step %d is skipped: no response is better than another one.", state.global_step + 1)
            self.trainer.model.zero_grad(set_to_none=True)
