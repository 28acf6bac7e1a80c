"""Examples as files: in the layout that EVisRAG's RS-GRPO reads, and in those of LLaMA-Factory and ms-swift.

Those two pin versions of transformers and TRL that conflict with ours, so they train from files in an environment of
their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from visrag_integrations.errors import SettingError
from visrag_integrations.files import write_whole
from visrag_integrations.images import PictureSource, encode
from visrag_integrations.training.reader_examples import ReaderExample, open_examples

ExportLayout = Literal["evisrag", "llama-factory", "ms-swift"]
LAYOUTS = ("evisrag", "llama-factory", "ms-swift")
DATASET = "evidencecot"
"""What EVisRAG's LLaMA-Factory settings call the data."""
PICTURES = "images"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def export_examples(examples: Any, folder: str | Path, *, layout: ExportLayout = "evisrag") -> Path:
    """Write examples and their pictures to a folder; gives the file that names them.

    Args:
        examples: What `train_evidence` takes.
        folder: A folder; pictures go into its `images`. What it holds of an earlier export is replaced.
        layout: "evisrag" (train.jsonl; read by `train_evidence` again), "llama-factory" (evidencecot.json and
            dataset_info.json: give the folder as dataset_dir) or "ms-swift" (train.jsonl with `solution`, the ground
            truth for its reward functions: run it with ROOT_IMAGE_DIR set to the folder).

    Raises:
        SettingError: There is no such layout, or the folder cannot be written to.
    """
    if layout not in LAYOUTS:
        raise SettingError(f"layout is {layout!r}; it is one of {', '.join(LAYOUTS)}.")
    opened = open_examples(examples)
    target = Path(folder).expanduser()
    try:
        (target / PICTURES).mkdir(parents=True, exist_ok=True)
        rows = [_row(example, target, layout) for example in opened.rows]
        if layout == "llama-factory":
            write_whole(target / "dataset_info.json", (json.dumps(_dataset_info(), indent=1) + "\n").encode("utf-8"))
            return _written(target / f"{DATASET}.json", json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
        return _written(target / "train.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    except OSError as err:
        raise SettingError(f"{str(target)!r} cannot be written to: {err}. Name another folder.") from err


def keep_picture(source: PictureSource, folder: Path) -> str:
    """Put a picture into the folder's `images`, once, and give its path in the folder.

    A file is copied as it is; pixels become a JPEG, as stored pages do.
    """
    if isinstance(source, Path) and source.suffix.lower() in SUFFIXES:
        name = f"{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}{source.suffix.lower()}"
        if not (folder / PICTURES / name).is_file():
            write_whole(folder / PICTURES / name, source.read_bytes())
        return f"{PICTURES}/{name}"
    data = encode(source)
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.jpg"
    if not (folder / PICTURES / name).is_file():
        write_whole(folder / PICTURES / name, data)
    return f"{PICTURES}/{name}"


def as_row(example: ReaderExample, pictures: list[str]) -> dict[str, Any]:
    """A row in EVisRAG's own layout; one of several turns keeps them."""
    if len(example.turns) == 1:
        row: dict[str, Any] = {"prompt": example.turns[0].text, "answer": example.truth, "image": pictures}
    else:
        row = {"messages": _messages(example), "images": pictures}
    if example.page_texts:
        row["page_texts"] = list(example.page_texts)
    return row


def _row(example: ReaderExample, folder: Path, layout: str) -> dict[str, Any]:
    pictures = [keep_picture(source, folder) for source in example.pictures]
    if layout == "evisrag":
        return as_row(example, pictures)
    row: dict[str, Any] = {"messages": _messages(example), "images": pictures}
    if layout == "ms-swift":
        row["solution"] = example.truth
    return row


def _messages(example: ReaderExample) -> list[dict[str, str]]:
    messages = [{"role": turn.role, "content": turn.text} for turn in example.turns]
    return [*messages, {"role": "assistant", "content": example.truth}]


def _dataset_info() -> Mapping[str, Any]:
    """How LLaMA-Factory finds the columns."""
    return {
        DATASET: {
            "file_name": f"{DATASET}.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    }


def _written(path: Path, text: str) -> Path:
    write_whole(path, text.encode("utf-8", "replace"))
    return path
