"""What a reader is trained on: conversations with pictures, from files in the published layouts or made of your own.

Three layouts are read, told by their columns:

    RS-GRPO        {"prompt": "... <image> <image>", "answer": "<evidence>..</evidence><answer>..</answer>",
                    "image": ["a.png", "b.png"]}
    LLaMA-Factory  {"messages": [{"role": "user", "content": "<image>.."}, {"role": "assistant", "content": ".."}],
                    "images": ["a.png"]}
    ms-swift       the same

Paths are inside the file's folder, or inside `images` beside it; a data URL will do too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DatasetError, PictureError
from visrag_integrations.evaluation.tables import picture_inside
from visrag_integrations.images import PictureSource, urls

PLACE = "<image>"
"""Where a picture stands in a text."""
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class ExampleTurn:
    """One turn of a conversation.

    Attributes:
        role: "system", "user" or "assistant".
        text: What is said; `<image>` where a picture stands.
    """

    role: str
    text: str


@dataclass(frozen=True)
class ReaderExample:
    """A conversation that ends where the network is to write, and what it should write.

    Attributes:
        turns: Until then; may hold earlier turns of the assistant, which are learned from too.
        pictures: In the order of their places, and of all turns.
        truth: The right response, with its tags.
        where: Where the example stands, in words: for messages.
        page_texts: The texts of the pictures' pages where they are known: what evidence is checked against.
    """

    turns: tuple[ExampleTurn, ...]
    pictures: tuple[PictureSource, ...] = field(repr=False)
    truth: str
    where: str
    page_texts: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        places = sum(turn.text.count(PLACE) for turn in self.turns)
        if places != len(self.pictures):
            raise DatasetError(self.where, f"it has {places} {PLACE} in its text and {len(self.pictures)} pictures.")


@dataclass(frozen=True)
class ReaderExamples:
    """Examples by number, and the rows that were no good.

    Attributes:
        name: What the data is called in the report and on the model card.
        rows: The examples.
        broken: Where -> why, of rows that are left out.
    """

    name: str
    rows: tuple[ReaderExample, ...]
    broken: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """Of all texts and of how many pictures they have: other data gives another."""
        digest = hashlib.sha256()
        for row in self.rows:
            said = [[turn.role, turn.text] for turn in row.turns]
            digest.update(json.dumps([said, row.truth, len(row.pictures)]).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def open_examples(source: Any) -> ReaderExamples:
    """The examples of a file, of several, or those you hold already.

    Args:
        source: A .jsonl or .json file, a folder of such files, a list of these, `ReaderExamples`, or `ReaderExample`s.

    Raises:
        DatasetError: There are none, or a file cannot be read. A row that is no good is left out and named instead.
    """
    if isinstance(source, ReaderExamples):
        return _checked(source)
    if isinstance(source, (str, Path)):
        return _checked(_from_path(Path(source).expanduser()))
    parts: list[ReaderExamples] = []
    held: list[ReaderExample] = []
    for each in source:
        if isinstance(each, ReaderExample):
            held.append(each)
        else:
            parts.append(open_examples(each))
    if held:
        parts.append(ReaderExamples("given examples", tuple(held)))
    return _checked(_joined(parts))


def read_example(row: Any, where: str, root: Path) -> ReaderExample:
    """A row of a file as an example.

    Raises:
        DatasetError: It is in none of the layouts, or a picture of it cannot be had.
    """
    if not isinstance(row, Mapping):
        raise DatasetError(where, "it is no JSON object.")
    pictures = tuple(_picture(each, where, root) for each in _listed(row, where))
    texts = _page_texts(row, pictures, where)
    if isinstance(row.get("prompt"), str) and isinstance(row.get("answer"), str):
        text = row["prompt"]
        # Published prompts hold a place for each picture; one without any shows them after the text, as EVisRAG does.
        if PLACE not in text:
            text += PLACE * len(pictures)
        return ReaderExample((ExampleTurn("user", text),), pictures, row["answer"], where, texts)
    if isinstance(row.get("messages"), list):
        return _of_messages(row["messages"], pictures, where, texts)
    raise DatasetError(
        where,
        f"it has the columns {', '.join(map(str, row))}; a row has prompt, answer and image, or messages and images.",
    )


def _of_messages(
    messages: Sequence[Any], pictures: tuple[PictureSource, ...], where: str, texts: tuple[str, ...]
) -> ReaderExample:
    turns: list[ExampleTurn] = []
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise DatasetError(
                where, f"a message is {str(message)[:80]!r}; it has a role ({', '.join(ROLES)}) and content."
            )
        if not isinstance(message.get("content"), str):
            raise DatasetError(
                where, f"the content of a message is {str(message.get('content'))[:80]!r}; it must be text."
            )
        turns.append(ExampleTurn(message["role"], message["content"]))
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise DatasetError(where, "its last message must be the assistant's: that is what is learned.")
    return ReaderExample(tuple(turns[:-1]), pictures, turns[-1].text, where, texts)


def _page_texts(row: Mapping[str, Any], pictures: Sequence[PictureSource], where: str) -> tuple[str, ...]:
    """The texts of the pages, one a picture; none where the row does not say them."""
    texts = row.get("page_texts") or ()
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise DatasetError(where, f"its page_texts are {texts!r:.80}; they are a list of texts, one for each picture.")
    # Evidence would be checked against another page's text.
    if texts and len(texts) != len(pictures):
        raise DatasetError(where, f"it has {len(texts)} page_texts and {len(pictures)} pictures; give one for each.")
    return tuple(texts)


def _listed(row: Mapping[str, Any], where: str) -> list[Any]:
    found = row.get("image", row.get("images"))
    if found is None:
        return []
    if isinstance(found, (str, bytes)):
        return [found]
    if not isinstance(found, list):
        raise DatasetError(where, f"its pictures are {type(found).__name__}; they must be a list of paths.")
    return found


def _picture(value: Any, where: str, root: Path) -> PictureSource:
    if isinstance(value, Mapping):  # as `datasets` writes an image
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise DatasetError(where, f"names the picture {str(value)[:80]!r}; give a path inside the data's folder.")
    if value.startswith("data:"):
        try:
            return urls.decode_data_url(value)
        except PictureError as err:
            raise DatasetError(where, f"its picture is no data URL that can be read: {err}") from err
    path = picture_inside(root, value, where)
    if not path.is_file():
        beside = picture_inside(root, f"images/{value}", where)
        if not beside.is_file():
            raise DatasetError(where, f"its picture {value!r} is not in {str(root)!r}.")
        return beside
    return path


def _from_path(path: Path) -> ReaderExamples:
    if path.is_dir():
        parts: list[ReaderExamples] = []
        for file in sorted(path.iterdir()):
            if file.suffix in (".jsonl", ".json"):
                parts.append(_from_path(file))
        joined = _joined(parts)
        return ReaderExamples(path.name, joined.rows, joined.broken)
    rows: list[ReaderExample] = []
    broken: dict[str, str] = {}
    for number, row in enumerate(_rows_of(path), 1):
        where = f"{path.name}, row {number}"
        try:
            if isinstance(row, ValueError):
                raise DatasetError(where, f"it is no JSON: {row}.")
            rows.append(read_example(row, where, path.parent))
        except DatasetError as err:
            broken[where] = err.reason
    return ReaderExamples(path.stem, tuple(rows), broken)


def _rows_of(path: Path) -> Iterable[Any]:
    """The rows of a file; one that is no JSON is the error."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise DatasetError(
            str(path), f"cannot be read: {err}. Give a .jsonl or .json file, or a folder of them."
        ) from err
    if path.suffix == ".json":
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as err:
            raise DatasetError(str(path), f"is no JSON: {err}.") from err
        if not isinstance(rows, list):
            raise DatasetError(str(path), "holds no list of rows.")
        yield from rows
        return
    for line in text.split("\n"):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as err:
                yield ValueError(str(err))


def _joined(parts: Sequence[ReaderExamples]) -> ReaderExamples:
    rows: list[ReaderExample] = []
    broken: dict[str, str] = {}
    for part in parts:
        rows += part.rows
        broken |= part.broken
    return ReaderExamples(", ".join(part.name for part in parts), tuple(rows), broken)


def _checked(examples: ReaderExamples) -> ReaderExamples:
    if not examples.rows:
        why = "it holds no row."
        if examples.broken:
            where, reason = next(iter(examples.broken.items()))
            why = f"it holds no good row. The first: {where}: {reason}"
        raise DatasetError(examples.name or "examples", why)
    return examples
