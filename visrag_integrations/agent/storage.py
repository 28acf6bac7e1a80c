"""A run in a folder: `trace.json` with every step, and `pictures/` with what was shown, by the hash of its pixels."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from visrag_integrations import images
from visrag_integrations.agent.recorded_run import RecordedRun
from visrag_integrations.agent.steps import KINDS, Finish, Observation, Problem, Shown, Step, kind_of
from visrag_integrations.errors import TraceError, VisRAGError
from visrag_integrations.files import write_whole
from visrag_integrations.types import Answer, Generation, Page, ScoredPage, Usage, Word

FORMAT = 1
"""Of `trace.json`; a later version that older ones cannot read gets the next number."""
_FILE = "trace.json"
_PICTURES = "pictures"
_PICTURE_NAME = re.compile(r"[0-9a-f]{64}\.png")


def save_record(record: RecordedRun, folder: Path) -> Path:
    """Pictures first, then the steps under their final name, then what an older run left is removed."""
    (folder / _PICTURES).mkdir(parents=True, exist_ok=True)
    saver = _Saver(folder)
    kept = {
        "format": FORMAT,
        "question": record.question,
        "template": record.template,
        "steps": list(map(saver.step, record.steps)),
        "turns": list(map(asdict, record.turns)),
    }
    text = json.dumps({**kept, "pages": list(saver.pages.values())}, ensure_ascii=True, indent=1, default=str)
    write_whole(folder / _FILE, text.encode("ascii"))
    # Only files named as ours are: the folder may hold what the user put there.
    for path in (folder / _PICTURES).iterdir():
        if _PICTURE_NAME.fullmatch(path.name) and path.name not in saver.pictures:
            path.unlink(missing_ok=True)
    return folder


def load_record(folder: Path) -> RecordedRun:
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
    version = None
    if isinstance(kept, dict):
        version = kept.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise TraceError(
            f"{folder / _FILE} has the format {version!r}; this version reads up to {FORMAT}. Upgrade "
            "visrag-integrations, or run the question again."
        )
    try:
        loader = _Loader(folder, kept["pages"])
        # First, because a page may be named before the step that shows it.
        loader.find_pictures(kept["steps"])
        steps = tuple(map(loader.step, kept["steps"]))
        turns = tuple(map(generation_from, kept["turns"]))
        return RecordedRun(kept["question"], steps, turns, kept["template"])
    except (KeyError, IndexError, TypeError, ValueError, VisRAGError) as err:
        raise TraceError(f"{folder / _FILE} is damaged: {type(err).__name__}: {err}") from err


class _Saver:
    """Steps as JSON; pages and pictures are kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pages: dict[str, dict[str, Any]] = {}
        self.pictures: set[str] = set()

    def step(self, step: Step) -> dict[str, Any]:
        kept = {"kind": kind_of(step), **vars(step)}
        if isinstance(step, Finish):
            kept["answer"] = {**vars(step.answer), "pages": list(map(self._hit, step.answer.pages))}
        shown = list(map(self._shown, step.observation.shown))
        kept["observation"] = {**vars(step.observation), "shown": shown}
        return kept

    def _shown(self, shown: Shown) -> dict[str, Any]:
        return {
            "page": self._hit(shown.page),
            "region": shown.region,
            "size": shown.size,
            "picture": self._picture(shown),
        }

    def _hit(self, hit: ScoredPage) -> dict[str, Any]:
        page = hit.page
        if page.id not in self.pages:
            # Not `vars`, which also has what a page has worked out once, its id.
            kept: dict[str, Any] = {each.name: getattr(page, each.name) for each in fields(page)}
            # Without its picture: what was shown of it is kept with the step.
            kept |= {"picture": None, "words": list(page.words), "metadata": dict(page.metadata)}
            self.pages[page.id] = kept
        place = list(self.pages).index(page.id)
        return {"page": place, "score": hit.score, "score_type": hit.score_type}

    def _picture(self, shown: Shown) -> str | None:
        if shown.picture is None:
            return None
        # By the hash of its content: a picture that was shown twice is one file.
        data = images.encode(shown.picture, "PNG")
        name = f"{hashlib.sha256(data).hexdigest()}.png"
        path = self._folder / _PICTURES / name
        if name not in self.pictures and not path.exists():
            write_whole(path, data)
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
        # JSON has lists where steps have tuples.
        fields = dict(kept)
        kind = fields.pop("kind")
        if kind == "finish":
            fields["answer"] = self._answer(fields["answer"])
        elif fields.get("box") is not None:
            fields["box"] = tuple(fields["box"])
        fields["observation"] = self._observation(fields["observation"])
        return KINDS[kind](**fields)

    def _answer(self, kept: Mapping[str, Any]) -> Answer:
        pages = tuple(map(self._hit, kept["pages"]))
        return Answer(**{**kept, "evidence": (), "pages": pages, "problems": tuple(kept["problems"])})

    def _observation(self, kept: Mapping[str, Any]) -> Observation:
        shown = tuple(map(self._shown, kept["shown"]))
        problems = tuple(Problem(*one) for one in kept["problems"])
        return Observation(shown, kept["text"], problems)

    def _shown(self, kept: Mapping[str, Any]) -> Shown:
        left, top, right, bottom = kept["region"]
        width, height = kept["size"]
        picture = None
        if kept["picture"] is not None:
            picture = images.open_picture(self._file(kept["picture"]))
        return Shown(self._hit(kept["page"]), (left, top, right, bottom), (width, height), picture)

    def _hit(self, kept: Mapping[str, Any]) -> ScoredPage:
        place = kept["page"]
        if place not in self._pages:
            fields = dict(self._kept[place])
            words = tuple(Word(text, tuple(box)) for text, box in fields.pop("words"))
            self._pages[place] = Page(**{**fields, "words": words, "picture": self._files.get(place)})
        return ScoredPage(self._pages[place], kept["score"], kept["score_type"])

    def _file(self, name: object) -> Path:
        # The file may come from anywhere: a name with a path in it could lead out of the folder.
        if not isinstance(name, str) or not _PICTURE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a picture")
        return self._folder / _PICTURES / name


def generation_from(kept: Mapping[str, Any]) -> Generation:
    """A turn that was kept as a dict of its fields."""
    usage = None
    if kept["usage"] is not None:
        usage = Usage(**kept["usage"])
    return Generation(**{**kept, "usage": usage})
