"""What every trainer of a run does in the same way: checkpoints that are whole or not there, and what it logged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visrag_integrations.training.history import best_of, logged_losses, logged_scores
from visrag_integrations.training.losses import world_size
from visrag_integrations.training.runs import RunFolder, saving

Save = Callable[[Path, Mapping[str, Tensor]], None]
"""Writes a checkpoint's own files into an empty folder: weights, config, tokenizer, model card."""


class WholeCheckpoints:
    """To be inherited before a Trainer; `keep_in` is called once, before it trains.

    Attributes:
        run: Where checkpoints go.
        best_by: The metric that tells which checkpoint is the best.
        resumed: How often the run was stopped and went on.
        seconds_before: How long the parts of the run before this one took.
    """

    run: RunFolder
    best_by: str
    resumed: int
    seconds_before: float

    def keep_in(self, run: RunFolder, save: Save, *, best_by: str, seconds_before: float, resumed: int) -> None:
        """Take over saving; the attributes and `Save` say what the arguments are."""
        self.run = run
        self.best_by = best_by
        self.seconds_before = seconds_before
        self.resumed = resumed
        self._save_files = save
        self._saving = False
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since training began, in this process and those before."""
        return self.seconds_before + time.monotonic() - self._started

    def losses(self) -> list[tuple[int, float]]:
        """(step, loss), as they were logged, those of a resumed run's first part too."""
        return logged_losses(self._history())

    def scores(self) -> list[tuple[int, dict[str, float]]]:
        """(step, metric -> value) of every evaluation."""
        return logged_scores(self._history())

    def best_saved(self) -> int | None:
        """The step of the best checkpoint there is; None without evaluation."""
        return best_of(self.scores(), self.best_by, self.run.steps())

    def notes(self) -> dict[str, Any]:
        """What `complete.json` says beside the files, for the part of the run that goes on from there."""
        return {"seconds": self.seconds, "resumed": self.resumed}

    def named_weights(self) -> Mapping[str, Tensor]:
        """The weights by the network's own names, where the Trainer did not gather them."""
        raise NotImplementedError

    def _history(self) -> list[dict[str, Any]]:
        trainer: Any = self
        history: list[dict[str, Any]] = trainer.state.log_history
        return history

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """The checkpoint's own files, written by one process; the Trainer calls this on all of them."""
        trainer: Any = self
        if not trainer.args.should_save:
            return
        folder = Path(str(output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        if state_dict is None:
            state_dict = self.named_weights()
        self._save_files(folder, state_dict)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Everything under a name that no one looks at, then renamed at once."""
        trainer: Any = self
        step = trainer.state.global_step
        # The Trainer asks twice where the last step ends an epoch too.
        if step in self.run.steps():
            return
        self._saving = True
        try:
            saving(f"checkpoint-{step}", lambda: self._write_checkpoint(model, trial))
        finally:
            self._saving = False

    def _write_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        wait_for_others()
        if trainer.args.should_save:
            self.run.finish_checkpoint(trainer.state.global_step, self.notes())
            self.run.remove_old(trainer.args.save_total_limit, self.best_saved())
        wait_for_others()

    def _get_output_dir(self, trial: Any) -> str:
        if self._saving:
            return str(self.run.unfinished)
        return str(self.run.path)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing: the weights are in the network already, read strictly.

        The Trainer's own loading only warns where names differ, as they do for Qwen2.5-VL (`visual.` in the file,
        `model.visual.` in the network), and goes on with the base's weights.
        """


def wait_for_others() -> None:
    """Until all devices have come so far."""
    if world_size() > 1:
        torch.distributed.barrier()
