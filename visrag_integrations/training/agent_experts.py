"""`build_runs`: whole runs to learn from, made by experts: large models walk the agent over your questions.

One expert reasons, searches and answers; another looks closer at what was found, as in VRAG-RL's data. A run is kept
where the judge approves of its answer and nothing in it was refused, so the small model learns from good runs only.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visrag_integrations.agent import PictureRules, SearchStep, Trace, VRAGAgent
from visrag_integrations.agent.episode import Episode, Find, Write
from visrag_integrations.agent.rounds import requests_of, run_rounds
from visrag_integrations.errors import DatasetError, SettingError, TrainingError
from visrag_integrations.evaluation import EvaluationSet, Question
from visrag_integrations.evaluation.batch_runner import BatchRunner
from visrag_integrations.evaluation.judging import AnswerToJudge
from visrag_integrations.evaluation.run_record import RunRecord
from visrag_integrations.generation.vrag import ANSWER_NOW, STOP, TEMPLATE
from visrag_integrations.interfaces import Generator
from visrag_integrations.interfaces.generators import generate
from visrag_integrations.interfaces.retrievers import Retriever
from visrag_integrations.progress_bars import progress_bar
from visrag_integrations.training.agent_evaluation import check_agent_questions, golden_of, keep_trace
from visrag_integrations.training.agent_recipe import AgentRlRecipe
from visrag_integrations.training.agent_rewards import name_among
from visrag_integrations.training.agent_rows import as_chat_row
from visrag_integrations.training.judges import Judged, JudgeFunction
from visrag_integrations.training.reader_examples import ReaderExamples, open_examples
from visrag_integrations.training.run_trainer import append_line
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Message, ScoredPage

logger = logging.getLogger(__name__)

LOOK_CLOSER = (
    "Now look closer at this page: write <think> what you look for </think>, then <bbox>[x1, y1, x2, y2]</bbox> around "
    "the part of the last picture that matters for the question."
)
"""What the cropping expert is told beside a page that was just found; it is not in what is learned."""
SETTINGS = GenerationSettings(temperature=0.7, max_tokens=2048, stop=STOP)
RECORD, FILE, TRACES = "runs.jsonl", "train.jsonl", "traces"
_MORE_HITS = 10
"""Pages asked for beyond those that were seen, to find one that holds the answer among them."""


@dataclass
class ExpertRun:
    """One question on its way.

    Attributes:
        question: What is asked.
        episode: The run.
        golden: The pages that hold the answer.
        conversation: What the last turn was written to.
    """

    question: Question
    episode: Episode
    golden: Sequence[str]
    conversation: Conversation = field(default=(), repr=False)


@dataclass(frozen=True)
class Experts:
    """Walks the agent: who writes which turn, and which page is shown.

    Attributes:
        agent: Its rules hold, and its retriever; its generator is the one that reasons.
        cropper: Takes the turn after every page that was found; None leaves all turns to the first.
        settings: How both write.
        golden_first: A page that holds the answer is shown before better-ranked others, as published: else many runs
            are lost to a search that a better question would not mend.
    """

    agent: VRAGAgent
    cropper: Generator | None
    settings: GenerationSettings
    golden_first: bool

    def walk(self, runs: Sequence[ExpertRun]) -> None:
        """Runs all of them to their end."""
        by_episode = {id(run.episode): run for run in runs}

        def perform(waiting: list[Episode]) -> Sequence[Any]:
            requests = requests_of(waiting)
            walking = [by_episode[id(episode)] for episode in waiting]
            if isinstance(requests[0], Write):
                return self._write(walking)
            if isinstance(requests[0], Find):
                return self._find(walking)
            return self.agent.perform(requests)

        for _ in run_rounds([run.episode for run in runs], perform):
            pass  # the steps stay in their episode

    def _write(self, runs: Sequence[ExpertRun]) -> list[Generation]:
        to_crop: list[int] = []
        written: list[Generation | None] = [None] * len(runs)
        for place, run in enumerate(runs):
            assert isinstance(run.episode.waiting, Write)
            run.conversation = run.episode.waiting.conversation
            if self.cropper is not None and looks_closer_next(run.episode, run.conversation):
                to_crop.append(place)
        others = [place for place in range(len(runs)) if place not in to_crop]
        for writer, places in ((self.cropper, to_crop), (self.agent.generator, others)):
            if not places or writer is None:
                continue
            asked = [runs[place].conversation for place in places]
            if writer is self.cropper and places is to_crop:
                asked = [with_words(conversation, LOOK_CLOSER) for conversation in asked]
            for place, text in zip(places, generate(writer, asked, self.settings), strict=True):
                written[place] = text
        return [each for each in written if each is not None]

    def _find(self, runs: Sequence[ExpertRun]) -> list[Sequence[ScoredPage]]:
        requests: list[Find] = []
        for run in runs:
            assert isinstance(run.episode.waiting, Find)
            more = _MORE_HITS if self.golden_first else 0
            requests.append(dataclasses.replace(run.episode.waiting, count=run.episode.waiting.count + more))
        found: list[Sequence[ScoredPage]] = []
        for run, hits in zip(runs, self.agent.perform(requests), strict=True):
            if self.golden_first:
                hits = sorted(hits, key=lambda hit: name_among(hit.page, run.golden) not in run.golden)
            found.append(hits)
        return found


def build_runs(
    questions: EvaluationSet,
    retriever: Retriever,
    reasoner: Generator,
    cropper: Generator | None,
    output: str | Path,
    *,
    judge: Generator | JudgeFunction | Judged,
    approved: float = 1.0,
    max_turns: int = 10,
    template: str = TEMPLATE,
    pictures: PictureRules | None = None,
    trained_pictures: PictureRules | None = None,
    golden_first: bool = True,
    settings: GenerationSettings = SETTINGS,
    batch_size: int = 8,
    progress: bool | None = None,
    on_dropped: Callable[[Question, str], None] | None = None,
) -> ReaderExamples:
    """Runs of experts over questions, to train the agent on: `train_agent(base, runs, output, stage="sft")`.

    Args:
        questions: With answers, and the pages that hold them.
        retriever: Finds pages.
        reasoner: Reasons, searches and answers: a far larger model than the one that is trained.
        cropper: Takes the turn after every page that was found, and is told to look closer; one that gives boxes in
            pixels. None: the reasoner does all.
        output: A folder for pictures, rows and traces; run again with the same to go on where it was stopped.
        judge: Says whether an answer is right.
        approved: Runs are kept whose answer is judged as good as this.
        max_turns: Turns of a run (published: 10).
        template: The prompt, with `{question}`.
        pictures: How large the experts see pages and crops; None: as the trained model does.
        trained_pictures: How large the trained model sees them; None: as `AgentRlRecipe` has it. Boxes are scaled from
            one to the other.
        golden_first: A page that holds the answer is shown before better-ranked others, as published.
        settings: How experts write.
        batch_size: Questions that are under way together.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        on_dropped: Called with every question that gave no run, and why.

    Returns:
        The runs, which also stand in `output/train.jsonl` as chat rows (LLaMA-Factory and ms-swift read them).

    Raises:
        SettingError: A value is not allowed, or `output` holds the work of other settings.
        DatasetError: Not one run was any good.
        GenerationError: An expert failed on five questions in a row.
        TrainingError: The judge is away.
    """
    check_agent_questions(questions, "questions")
    if not 0 <= approved <= 1:
        raise SettingError(f"approved is {approved}; it must be from 0 to 1.")
    judged = judge if isinstance(judge, Judged) else Judged(judge)
    shown = trained_pictures or AgentRlRecipe().pictures
    folder = Path(output).expanduser()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    about = {"task": "agent runs", "set": questions.name, "reasoner": reasoner.name}
    about |= {"cropper": "" if cropper is None else cropper.name, "judge": judged.name, "turns": str(max_turns)}
    record = RunRecord(folder / RECORD, about)
    agent = VRAGAgent(retriever, reasoner, max_turns, template=template, pictures=pictures or shown, settings=settings)
    experts = Experts(agent, cropper, settings, golden_first)
    asked = [question for question in questions.questions if question.answers]
    with progress_bar(progress, total=len(asked), unit="question", desc="Walking") as bar:

        def walk(batch: list[Question]) -> list[dict[str, Any]]:
            episodes = agent.begin([question.text for question in batch])
            runs = []
            for question, episode in zip(batch, episodes, strict=True):
                runs.append(ExpertRun(question, episode, golden_of(questions, question.id)))
            experts.walk(runs)
            return _judged_rows(runs, judged, approved, shown, folder)

        def done(finished: list[tuple[Question, dict[str, Any]]]) -> None:
            record.append([row for _, row in finished])
            bar.update(len(finished))

        def fail(question: Question, error: Exception) -> None:
            if isinstance(error, TrainingError):
                raise error  # the judge is away, or is none: so it would be for every question
            logger.warning("Question %r: %s", question.id, error)
            bar.update()

        left = [question for question in asked if question.id not in record.done]
        bar.update(len(asked) - len(left))
        BatchRunner(walk, done, fail, batch_size).all(left)
    return _kept(questions.name, asked, record, folder, on_dropped or _ignore)


def looks_closer_next(episode: Episode, conversation: Conversation) -> bool:
    """Whether a page was just found, and there is a turn left to look at it."""
    if not episode.steps or not isinstance(episode.steps[-1], SearchStep):
        return False
    shown = episode.steps[-1].observation.shown
    last_turn = any(isinstance(part, str) and ANSWER_NOW in part for part in conversation[-1].content)
    return bool(shown) and shown[0].picture is not None and not last_turn


def with_words(conversation: Conversation, words: str) -> Conversation:
    """The conversation with a sentence more at its end."""
    last = conversation[-1]
    return (*conversation[:-1], Message((*last.content, words), last.role))


def reason_to_drop(trace: Trace, verdict: float, approved: float) -> str:
    """Why a run is not learned from, in words; "" for a good one."""
    if trace.reason != "answered":
        return f"it ended without an answer ({trace.reason})"
    if trace.problems:
        names = ", ".join(trace.problem_counts)
        return f"something in it was wrong: {names}"
    if verdict < approved:
        return f"its answer {trace.answer.text[:80]!r} is not approved"
    return ""


def _judged_rows(
    runs: Sequence[ExpertRun], judged: Judged, approved: float, shown: PictureRules, folder: Path
) -> list[dict[str, Any]]:
    answers = []
    for run in runs:
        text = run.episode.trace.answer.text
        answers.append(AnswerToJudge(run.question.text, text, run.question.answers))
    rows: list[dict[str, Any]] = []
    for run, verdict in zip(runs, judged.many(answers), strict=True):
        trace = run.episode.trace
        reason = reason_to_drop(trace, verdict, approved)
        row: dict[str, Any] = {"id": run.question.id, "reason": reason}
        if not reason:
            row["row"] = as_chat_row(run.conversation, trace.turns[-1].text, shown, folder)
            name = f"{len(list((folder / TRACES).glob('*.html'))) if (folder / TRACES).is_dir() else 0:06}.html"
            keep_trace(folder / TRACES / name, trace)
            row["trace"] = f"{TRACES}/{name}"
        rows.append(row)
    return rows


def _kept(
    name: str,
    asked: Sequence[Question],
    record: RunRecord,
    folder: Path,
    dropped: Callable[[Question, str], None],
) -> ReaderExamples:
    broken: dict[str, str] = {}
    scratch = folder / f".{FILE}.unfinished"
    scratch.unlink(missing_ok=True)
    for question in asked:
        row: Mapping[str, Any] = record.done.get(question.id, {"reason": "an expert failed on it"})
        if row["reason"]:
            broken[f"{name}, question {question.id!r}"] = row["reason"]
            dropped(question, row["reason"])
        else:
            append_line(scratch, row["row"])
    if not scratch.is_file():
        common = Counter(broken.values()).most_common(1)
        raise DatasetError(name, f"not one run is good enough to learn from. The first reason: {common[0][0]}.")
    scratch.replace(folder / FILE)
    rows = open_examples(folder / FILE)
    return ReaderExamples(name, rows.rows, {**rows.broken, **broken})


def _ignore(question: Question, reason: str) -> None:
    logger.info("Question %r is left out: %s", question.id, reason)
