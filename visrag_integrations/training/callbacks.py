"""What happens between the steps of a run: the last one is saved, and a progress bar shows the loss."""

from __future__ import annotations

from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from visrag_integrations.progress_bars import progress_bar


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
