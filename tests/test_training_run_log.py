"""The log of a run: a disk that is full ends it as plainly as a checkpoint that cannot be written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from visrag_integrations.errors import TrainingError
from visrag_integrations.training.run_trainer import LOG, SAMPLES, RunTrainer
from visrag_integrations.training.runs import RunFolder


class PlainTrainer:
    """What a run's trainer needs of the Trainer to log."""

    state = SimpleNamespace(global_step=3)

    def log(self, logs: dict[str, float], *others: Any, **more: Any) -> None:
        pass

    def is_world_process_zero(self) -> bool:
        return True


class LoggingTrainer(RunTrainer, PlainTrainer):
    pass


@pytest.fixture
def trainer(tmp_path: Path) -> LoggingTrainer:
    trainer = LoggingTrainer()
    trainer.run = RunFolder(tmp_path)
    return trainer


def test_lines_of_the_log(trainer: LoggingTrainer, tmp_path: Path) -> None:
    trainer.log({"loss": 0.5})
    trainer.note_sample({"response": "forty"})
    assert (tmp_path / LOG).read_text() == '{"step": 3, "loss": 0.5}\n'
    assert (tmp_path / SAMPLES).read_text() == '{"step": 4, "response": "forty"}\n'


def test_a_log_that_cannot_be_written_says_so(trainer: LoggingTrainer, tmp_path: Path) -> None:
    for name in (LOG, SAMPLES):
        (tmp_path / name).mkdir()  # a folder refuses lines as a full disk does, with an OSError
    with pytest.raises(TrainingError, match=rf"{LOG} could not be written.*Is the disk full"):
        trainer.log({"loss": 0.5})
    with pytest.raises(TrainingError, match=rf"{SAMPLES} could not be written.*Is the disk full"):
        trainer.note_sample({"response": "forty"})
