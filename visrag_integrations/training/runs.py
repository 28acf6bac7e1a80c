"""The folder of a run: what it was started with, its checkpoints, and which of them are whole.

    output/run.json               what the run was started with; another run in the same folder is refused
    output/checkpoint-500/        a checkpoint, as load_embedder takes it, with what training goes on from
    output/checkpoint-500/complete.json     its files and their sizes
    output/report.json            there once the run is finished
    output/.unfinished/           what is being written; a run that goes on throws it away

A checkpoint is written under `.unfinished`, `complete.json` last, and then renamed: a name without a dot is always a
whole checkpoint, whenever the process was killed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError, TrainingError
from visrag_integrations.files import write_whole

UNFINISHED = ".unfinished"
COMPLETE = "complete.json"
RUN = "run.json"
REPORT = "report.json"
CHECKPOINT = "checkpoint-"


class RunFolder:
    """A run's folder.

    Args:
        path: Where it is, or will be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.unfinished = self.path / UNFINISHED
        self.report = self.path / REPORT

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of that step."""
        return self.path / f"{CHECKPOINT}{step}"

    def prepare(self, started_with: Mapping[str, Any], resume: str | bool | None) -> None:
        """Make the folder, or check that it is this run's.

        Raises:
            SettingError: It holds another run, or something else; or this run, and `resume` says not to go on with it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise SettingError(f"output is {str(self.path)!r}, which is a file. Name a folder.")
        known = self._started_with()
        if known is None:
            if self.path.is_dir() and any(entry.name != UNFINISHED for entry in self.path.iterdir()):
                raise SettingError(
                    f"output is {str(self.path)!r}, a folder that holds something else. Name a new or empty folder."
                )
            self.path.mkdir(parents=True, exist_ok=True)
            text = json.dumps(started_with, indent=1, ensure_ascii=False) + "\n"
            write_whole(self.path / RUN, text.encode("utf-8"))
        else:
            # Through JSON, so that a tuple of today equals the list that was written.
            self._compare(known, json.loads(json.dumps(started_with)), resume)
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def newest(self) -> Path | None:
        """The last whole checkpoint.

        Raises:
            TrainingError: It has been changed since it was written.
        """
        steps = self.steps()
        if not steps:
            return None
        # Sizes tell a file that was cut off or replaced; to hash gigabytes at every start would take minutes.
        folder = self.checkpoint(steps[-1])
        for name, size in read_complete(folder)["files"].items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise TrainingError(
                    f"{path} is missing or has another size than when it was written. Remove {str(folder)!r}; "
                    "the run then goes on from the checkpoint before."
                )
        return folder

    def steps(self) -> list[int]:
        """Of all whole checkpoints, in order."""
        steps: list[int] = []
        for folder in self.path.glob(f"{CHECKPOINT}*"):
            number = folder.name.removeprefix(CHECKPOINT)
            if number.isdecimal() and (folder / COMPLETE).is_file():
                steps.append(int(number))
        return sorted(steps)

    def finish_checkpoint(self, step: int, notes: Mapping[str, Any]) -> None:
        """Mark what was written under `.unfinished` as whole, and give it its name."""
        folder = self.unfinished / f"{CHECKPOINT}{step}"
        files: dict[str, int] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files[str(path.relative_to(folder))] = path.stat().st_size
                _to_disk(path)
        # Last: where it is missing, something else may be missing too.
        complete = json.dumps({"step": step, "files": files, **notes}, ensure_ascii=False)
        write_whole(folder / COMPLETE, complete.encode("utf-8"))
        os.replace(folder, self.checkpoint(step))
        _to_disk(self.path)

    def remove_old(self, limit: int | None, keep: int | None) -> None:
        """Keep the last `limit` checkpoints, and the best one."""
        if not limit:
            return
        for step in self.steps()[:-limit]:
            if step != keep:
                gone = self.unfinished / "removed"
                self.unfinished.mkdir(exist_ok=True)
                os.replace(self.checkpoint(step), gone)  # at once, so that no half of it has a checkpoint's name
                shutil.rmtree(gone, ignore_errors=True)

    def _started_with(self) -> dict[str, Any] | None:
        path = self.path / RUN
        if not path.is_file():
            return None
        try:
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return known
        except (OSError, ValueError) as err:
            raise SettingError(f"{path} cannot be read: {err}. Name another folder for output.") from err

    def _compare(self, known: Mapping[str, Any], asked: Mapping[str, Any], resume: str | bool | None) -> None:
        differing: list[str] = []
        for name in sorted({*known, *asked}):
            if known.get(name) != asked.get(name):
                differing.append(f"{name} was {known.get(name)!r} and is {asked.get(name)!r}")
        if differing:
            raise SettingError(
                f"output {str(self.path)!r} holds another run: {'; '.join(differing)}. Name another folder for output."
            )
        if resume != "auto":
            raise SettingError(
                f'output {str(self.path)!r} holds this run already. Say resume="auto" to go on with it, or name '
                "another folder."
            )


def read_complete(folder: Path) -> dict[str, Any]:
    """What `complete.json` of a checkpoint says."""
    try:
        complete: dict[str, Any] = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        return complete
    except (OSError, ValueError) as err:
        raise TrainingError(f"{folder / COMPLETE} cannot be read: {err}. Remove {str(folder)!r}.") from err


def saving(what: str, work: Callable[[], None]) -> None:
    """Run `work`, which writes; what goes wrong becomes one plain error.

    Raises:
        TrainingError: The disk is full, or cannot be written to.
    """
    from safetensors import SafetensorError

    try:
        work()
    except (OSError, SafetensorError, RuntimeError) as err:
        # torch says so where a file ends early; other errors of it have nothing to do with the disk.
        if isinstance(err, RuntimeError) and "writ" not in str(err).casefold():
            raise
        raise TrainingError(
            f"{what} could not be written: {err}. Is the disk full? What was written before is whole: make room and "
            "run the same command again, and it goes on from there."
        ) from err


def _to_disk(path: Path) -> None:
    """Wait until it is on the disk, so that no power cut leaves a name without its content."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
