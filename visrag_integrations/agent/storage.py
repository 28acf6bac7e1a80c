"""A run in a folder: `trace.json` with every step, and `pictures/` with what was shown, by the hash of its pixels."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from visrag_integrations import images
from visrag_integrations.agent.run_record import RunRecord
from visrag_integrations.agent.steps import Crop, Finish, Observation, Problem, Search, Shown, Step, Thought
from visrag_integrations.errors import TraceError, VisRAGError
from visrag_integrations.types import Answer, Generation, Page, ScoredPage, Usage, Word

FORMAT = 1
_FILE = "trace.json"
_PICTURES = "pictures"
_KINDS: dict[str, type[Step]] = {"thought": Thought, "search": Search, "crop": Crop, "finish": Finish}
_PICTURE_NAME = re.compile(r"[0-9a-f]{64}\.png")


def save_record(record: RunRecord, folder: Path) -> Path:
    """Pictures first, then the steps under their final name, then what an older run left is removed."""
    (folder / _PICTURES).mkdir(parents=True, exist_ok=True)
    saver = _Saver(folder)
    kept = {
        "format": FORMAT,
        "question": record.question,
        "template": record.template,
        "steps": [saver.step(step) for step in record.steps],
        "turns": [asdict(turn) for turn in record.turns],
    }
    text = json.dumps({**kept, "pages": list(saver.pages.values())}, ensure_ascii=True, indent=1, default=str)
    _write_whole(folder / _FILE, text.encode("ascii"))
    for path in (folder / _PICTURES).iterdir():
        if _PICTURE_NAME.fullmatch(path.name) and path.name not in saver.pictures:
            path.unlink(missing_ok=True)
    return folder


def load_record(folder: Path) -> RunRecord:
    """The run as it was saved.

    Raises:
        TraceError: It cannot be read.
    """
    try:
        kept = json.loads((folder / _FILE).read_bytes())
    except FileNotFoundError as err:
        raise TraceError(f"{folder} holds no {_FILE}. Give the folder that trace.save(folder) wrote.") from err
    except (OSError, ValueError) as err:
        raise TraceError(f"{folder / _FILE} cannot be read: {err}") from err
    version = kept.get("format") if isinstance(kept, dict) else None
    if not isinstance(version, int) or version > FORMAT:
        raise TraceError(
            f"{folder / _FILE} has the format {version!r}; this version reads up to {FORMAT}. Upgrade "
            "visrag-integrations, or run the question again."
        )
    try:
        loader = _Loader(folder, kept["pages"])
        loader.find_pictures(kept["steps"])
        steps = tuple(loader.step(step) for step in kept["steps"])
        turns = tuple(generation_from(turn) for turn in kept["turns"])
        return RunRecord(kept["question"], steps, turns, kept["template"])
    except (KeyError, IndexError, TypeError, ValueError, VisRAGError) as err:
        raise TraceError(f"{folder / _FILE} is damaged: {type(err).__name__}: {err}") from err


class _Saver:
    """Steps as JSON; pages and pictures are kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pages: dict[str, dict[str, Any]] = {}
        self.pictures: set[str] = set()

    def step(self, step: Step) -> dict[str, Any]:
        said = {name: value for name, value in vars(step).items() if name not in ("observation", "answer")}
        if isinstance(step, Finish):
            said["answer"] = {**vars(step.answer), "pages": [self._hit(hit) for hit in step.answer.pages]}
        kind = next(name for name, kind in _KINDS.items() if kind is type(step))
        observed = step.observation
        shown = [self._shown(one) for one in observed.shown]
        return {"kind": kind, **said, "observation": {**vars(observed), "shown": shown}}

    def _shown(self, shown: Shown) -> dict[str, Any]:
        return {
            "page": self._hit(shown.page),
            "region": shown.region,
            "size": shown.size,
            "picture": self._picture(shown),
        }

    def _hit(self, hit: ScoredPage) -> dict[str, Any]:
        page = hit.page
        self.pages.setdefault(
            page.id, {**vars(page), "picture": None, "words": [*page.words], "metadata": dict(page.metadata)}
        )
        return {"page": list(self.pages).index(page.id), "score": hit.score, "score_type": hit.score_type}

    def _picture(self, shown: Shown) -> str | None:
        if shown.picture is None:
            return None
        data = images.encode(shown.picture, "PNG")
        name = f"{hashlib.sha256(data).hexdigest()}.png"
        path = self._folder / _PICTURES / name
        if name not in self.pictures and not path.exists():
            _write_whole(path, data)
        self.pictures.add(name)
        return name


class _Loader:
    """JSON as steps again."""

    def __init__(self, folder: Path, pages: list[dict[str, Any]]) -> None:
        self._folder, self._kept = folder, pages
        self._files: dict[int, Path] = {}
        self._pages: dict[int, Page] = {}

    def find_pictures(self, steps: list[dict[str, Any]]) -> None:
        """Which file shows each page as a whole."""
        for step in steps:
            for shown in step["observation"]["shown"]:
                if shown["picture"] is not None:
                    self._files.setdefault(shown["page"]["page"], self._file(shown["picture"]))

    def step(self, kept: Mapping[str, Any]) -> Step:
        said = {name: value for name, value in kept.items() if name not in ("kind", "observation")}
        if kept["kind"] == "finish":
            answer = said["answer"]
            pages = tuple(self._hit(hit) for hit in answer["pages"])
            said["answer"] = Answer(**{**answer, "evidence": (), "pages": pages, "problems": tuple(answer["problems"])})
        elif said.get("box") is not None:
            said["box"] = tuple(said["box"])
        observed = kept["observation"]
        observation = Observation(
            tuple(self._shown(shown) for shown in observed["shown"]),
            observed["text"],
            tuple(Problem(*one) for one in observed["problems"]),
        )
        return _KINDS[kept["kind"]](**said, observation=observation)

    def _shown(self, kept: Mapping[str, Any]) -> Shown:
        left, top, right, bottom = kept["region"]
        width, height = kept["size"]
        picture = None if kept["picture"] is None else images.open_picture(self._file(kept["picture"]))
        return Shown(self._hit(kept["page"]), (left, top, right, bottom), (width, height), picture)

    def _hit(self, kept: Mapping[str, Any]) -> ScoredPage:
        place = kept["page"]
        if place not in self._pages:
            fields = dict(self._kept[place])
            words = tuple(Word(text, tuple(box)) for text, box in fields.pop("words"))
            self._pages[place] = Page(**{**fields, "words": words, "picture": self._files.get(place)})
        return ScoredPage(self._pages[place], kept["score"], kept["score_type"])

    def _file(self, name: object) -> Path:
        if not isinstance(name, str) or not _PICTURE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a picture")
        return self._folder / _PICTURES / name


def generation_from(kept: Mapping[str, Any]) -> Generation:
    """A turn that was kept as a dict of its fields."""
    usage = kept["usage"]
    return Generation(**{**kept, "usage": None if usage is None else Usage(**usage)})


def _write_whole(path: Path, data: bytes) -> None:
    """The file under its final name only once all of it is there."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)
