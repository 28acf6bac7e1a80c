"""`build_examples`: your own documents and questions about them, as examples for a reader.

A strong generator answers every question from its page and some others, in EVisRAG's form. What it wrote is kept where
the answer is right and the evidence stands on its page; so the small reader learns from checked answers only.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation import EvaluationSet, Question, evaluate_answers_of, page_key
from visrag_integrations.evaluation.batch_runner import BatchRunner
from visrag_integrations.evaluation.run_record import RunRecord
from visrag_integrations.generation.evisrag import build_prompt, evisrag_messages, parse_evidence
from visrag_integrations.interfaces import Generator
from visrag_integrations.interfaces.generators import generate
from visrag_integrations.interfaces.retrievers import Retriever, retrieve_many
from visrag_integrations.progress_bars import progress_bar
from visrag_integrations.readers import PageReader
from visrag_integrations.training.reader_examples import PLACE, ExampleTurn, ReaderExample, ReaderExamples
from visrag_integrations.training.reader_export import as_row, keep_picture
from visrag_integrations.training.rewards import format_reward
from visrag_integrations.training.run_trainer import append_line
from visrag_integrations.training.support import evidence_support
from visrag_integrations.types import Answer, GenerationSettings, Page

logger = logging.getLogger(__name__)

SETTINGS = GenerationSettings(temperature=0.1, max_tokens=2048)  # published for writing answers
RECORD, FILE = "written.jsonl", "train.jsonl"


@dataclass(frozen=True)
class AskedQuestion:
    """A question with the pages it is asked of, in the order they are shown."""

    question: Question
    pages: tuple[Page, ...]

    @property
    def page_ids(self) -> list[str]:
        """What is kept beside an answer: its evidence says "[2]", and means the second of these."""
        return [page.id for page in self.pages]


def build_examples(
    documents: Any,
    queries: EvaluationSet,
    generator: Generator,
    output: str | Path,
    *,
    pages: int = 3,
    retriever: Retriever | None = None,
    min_support: float = 1.0,
    seed: int = 0,
    settings: GenerationSettings = SETTINGS,
    batch_size: int = 4,
    reader: PageReader | None = None,
    progress: bool | None = None,
    on_dropped: Callable[[Question, str], None] | None = None,
) -> ReaderExamples:
    """Examples to train a reader on, from documents of your own.

    Args:
        documents: What `PageReader().read` takes (a folder, files), or pages you already hold.
        queries: Questions with answers and the pages that hold them: what `make_queries` writes.
        generator: What answers; best a far larger model than the one that is trained.
        output: A folder for pictures and rows; run again with the same to go on where it was stopped.
        pages: Pages a question is shown: those that answer it, filled up with others, in mixed order.
        retriever: Finds the others, which then look right and are not; without one they are drawn.
        min_support: The share of the evidence that must stand on its page.
        seed: Of the order and of the other pages.
        settings: How the generator writes.
        batch_size: Questions given to the generator together.
        reader: How documents are read; with text, because evidence is checked against it.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        on_dropped: Called with every question that gave no example, and why.

    Returns:
        The examples, which also stand in `output/train.jsonl`.

    Raises:
        DatasetError: No page can be read, or no answer was any good.
        SettingError: A value is not allowed, or `output` holds the work of other settings.
        GenerationError: The generator failed on five questions in a row.
    """
    if not 1 <= pages <= 5 or not 0 <= min_support <= 1:
        raise SettingError(f"pages is {pages} and min_support {min_support}; they must be 1 to 5, and from 0 to 1.")
    folder = Path(output).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    about = {"task": "reader examples", "set": queries.name, "generator": generator.name, "pages": pages, "seed": seed}
    record = RunRecord(folder / RECORD, about)
    by_key = kept_pages(documents, reader or PageReader(), folder)
    asked = list(with_pages(queries, by_key, pages, retriever, seed))
    _write_answers(asked, generator, settings, record, batch_size, progress)
    return _kept(queries.name, asked, record, folder, min_support, on_dropped or _ignore)


def kept_pages(documents: Any, reader: PageReader, folder: Path) -> dict[str, Page]:
    """The pages by `page_key`, their pictures as files in the folder: a collection does not fit into memory.

    Raises:
        DatasetError: There are none.
    """
    found: dict[str, Page] = {}
    (folder / "images").mkdir(exist_ok=True)
    for page in _read(documents, reader):
        if page.picture is None:
            continue
        kept = dataclasses.replace(page, picture=folder / keep_picture(page.picture, folder))
        if page_key(page) in found:
            logger.warning("There are two pages %r; the first is taken.", page_key(page))
        found.setdefault(page_key(page), kept)
    if not found:
        raise DatasetError(str(documents)[:80], "holds no page that can be read.")
    return found


def with_pages(
    queries: EvaluationSet, pages: Mapping[str, Page], count: int, retriever: Retriever | None, seed: int
) -> Iterator[AskedQuestion]:
    """The questions with their own page and others, in an order that follows from the seed."""
    keys = sorted(pages)
    missing: list[str] = []
    for number, question in enumerate(queries.questions):
        random = np.random.default_rng([seed, number])
        judged = queries.qrels.get(question.id, {})
        right = [key for key, grade in judged.items() if grade > 0 and key in pages][:count]
        if not right:
            missing.append(question.id)
            continue
        others = [keys[place] for place in random.permutation(len(keys))]
        if retriever is not None:
            hits = retrieve_many(retriever, [question.text], count + len(judged))[0]
            others = [page_key(hit.page) for hit in hits if page_key(hit.page) in pages]
        shown = list(right)
        for key in others:
            if len(shown) < count and key not in shown and judged.get(key, 0) < 1:
                shown.append(key)
        shuffled = [shown[place] for place in random.permutation(len(shown))]
        yield AskedQuestion(question, tuple(pages[key] for key in shuffled))
    if missing:
        logger.warning("%d questions are about pages that are not there, for example %r.", len(missing), missing[0])


def as_example(asked: AskedQuestion, answer: Answer, where: str) -> ReaderExample:
    """What a reader is to learn of a good answer: its parts, in the published form."""
    lines = []
    for entry in answer.evidence:
        lines.append(f"[{entry.page_index}]: {entry.text}")
    truth = (
        f"<observe>\n{answer.observation.strip()}\n</observe>\n<evidence>\n" + "\n".join(lines) + "\n</evidence>\n"
        f"<think>\n{answer.thinking.strip()}\n</think>\n<answer>\n{answer.text.strip()}\n</answer>"
    )
    pictures = []
    for page in asked.pages:
        assert page.picture is not None
        pictures.append(page.picture)
    # As the reader is asked later: the text, then the pages. A question that holds the mark of a picture is not one.
    prompt = build_prompt(asked.question.text).replace(PLACE, "<image >") + PLACE * len(pictures)
    return ReaderExample(
        (ExampleTurn("user", prompt),), tuple(pictures), truth, where, tuple(page.text for page in asked.pages)
    )


def reason_to_drop(asked: AskedQuestion, answer: Answer, min_support: float) -> str:
    """Why an answer is not learned from, in words; "" for a good one."""
    right = evaluate_answers_of({asked.question.id: answer.text}, [asked.question], ["f1"])[asked.question.id]["f1"]
    if right < 1:
        return f"its answer {answer.text[:80]!r} is not {' or '.join(asked.question.answers)[:80]!r}"
    indexes = [entry.page_index for entry in answer.evidence]
    if sorted(indexes) != list(range(1, len(asked.pages) + 1)):
        return f"it records evidence for the pages {indexes}, of {len(asked.pages)}"
    if not answer.observation.strip() or not answer.thinking.strip():
        return "it lacks an observation or thinking"
    support = evidence_support(answer)
    if support is None:
        return "none of its evidence can be checked"
    if support < min_support:
        return f"{support:.0%} of its evidence stands on its page"
    return ""


def _write_answers(
    asked: Sequence[AskedQuestion],
    generator: Generator,
    settings: GenerationSettings,
    record: RunRecord,
    batch_size: int,
    progress: bool | None,
) -> None:
    with progress_bar(progress, total=len(asked), unit="question", desc="Answering") as bar:

        def write(batch: list[AskedQuestion]) -> list[str]:
            conversations = [evisrag_messages(each.question.text, each.pages) for each in batch]
            return [written.text for written in generate(generator, conversations, settings)]

        def done(finished: list[tuple[AskedQuestion, str]]) -> None:
            entries: list[dict[str, Any]] = []
            for each, text in finished:
                entries.append({"id": each.question.id, "text": text, "pages": each.page_ids})
            record.append(entries)
            bar.update(len(finished))

        def fail(each: AskedQuestion, error: Exception) -> None:
            logger.warning("Question %r: %s", each.question.id, error)
            bar.update()

        left = [each for each in asked if not _is_answered(each, record)]
        bar.update(len(asked) - len(left))
        BatchRunner(write, done, fail, batch_size).all(left)


def _is_answered(asked: AskedQuestion, record: RunRecord) -> bool:
    """Whether the record holds an answer from these very pages: documents, or what a retriever finds, may change."""
    kept = record.done.get(asked.question.id)
    if kept is None:
        return False
    # Records from before pages were kept say none.
    return bool(kept.get("pages", asked.page_ids) == asked.page_ids)


def _kept(
    name: str,
    asked: Sequence[AskedQuestion],
    record: RunRecord,
    folder: Path,
    min_support: float,
    dropped: Callable[[Question, str], None],
) -> ReaderExamples:
    examples: list[ReaderExample] = []
    broken: dict[str, str] = {}
    scratch = folder / f".{FILE}.unfinished"
    scratch.unlink(missing_ok=True)
    for each in asked:
        where = f"{name}, question {each.question.id!r}"
        reason = "the generator failed on it"
        if _is_answered(each, record):
            answer = parse_evidence(str(record.done[each.question.id]["text"]), each.pages)
            reason = reason_to_drop(each, answer, min_support)
        if not reason:
            example = as_example(each, answer, where)
            if not format_reward(example.truth):
                reason = "its parts hold tags of their own"
        if reason:
            broken[where] = reason
            dropped(each.question, reason)
            continue
        examples.append(example)
        pictures = [f"images/{picture.name}" for picture in example.pictures if isinstance(picture, Path)]
        append_line(scratch, as_row(example, pictures))
    if not examples:
        common = Counter(broken.values()).most_common(1)
        why = common[0][0] if common else "no question is about these pages"
        raise DatasetError(name, f"not one answer is good enough to learn from. The first reason: {why}.")
    scratch.replace(folder / FILE)
    return ReaderExamples(name, tuple(examples), broken)


def _read(documents: Any, reader: PageReader) -> Iterator[Page]:
    if isinstance(documents, (str, Path)):
        yield from reader.read(documents)
        return
    for each in documents:
        if isinstance(each, Page):
            yield each
        else:
            yield from reader.read(each)


def _ignore(question: Question, reason: str) -> None:
    logger.info("Question %r is left out: %s", question.id, reason)
