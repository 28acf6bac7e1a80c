"""Evaluation while the agent is trained: held-out questions, answered by whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visrag_integrations.agent import Trace, VRAGAgent
from visrag_integrations.agent.remembered import AgentSettings
from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import EvaluationSet, evaluate_answers_of, mean_metrics
from visrag_integrations.evaluation.metrics import relevant_pages
from visrag_integrations.files import write_whole
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.generation.vrag import STOP
from visrag_integrations.interfaces.retrievers import Retriever
from visrag_integrations.training.agent_rewards import seen_ndcg
from visrag_integrations.training.reader import ReaderNetwork
from visrag_integrations.types import GenerationSettings

METRICS = ("em", "f1")
BEST_BY = "f1"
TEMPERATURE = 0.1
"""Enough to leave a loop, too little to matter otherwise; the reader's, because VRAG-RL says nothing of it."""


def check_agent_questions(questions: Any, what: str) -> EvaluationSet:
    """The set, if runs over it can be scored.

    Raises:
        SettingError: It is no evaluation set, or no question of it has an answer.
    """
    if not isinstance(questions, EvaluationSet):
        raise SettingError(
            f"{what} is {type(questions).__name__}; give an EvaluationSet, as load_evaluation_set makes."
        )
    if not any(question.answers for question in questions.questions):
        raise SettingError(f"The set {questions.name!r} does not say what the right answers are.")
    return questions


def golden_of(questions: EvaluationSet, question_id: str) -> list[str]:
    """The pages that hold the answer, as the set names them."""
    return relevant_pages(questions.qrels.get(question_id, {}))


def run_held_out(
    evaluate: EvaluationSet,
    reader: ReaderNetwork,
    retriever: Retriever,
    settings: AgentSettings,
    max_tokens: int,
    traces: Path | None = None,
) -> dict[str, float]:
    """EM and F1 of the network's runs as it is now, how early they saw the right pages, and how many turns they took.

    Args:
        evaluate: Held-out questions.
        reader: The network.
        retriever: Finds pages.
        settings: How the agent is run.
        max_tokens: Of a turn.
        traces: A file: the first run as HTML.
    """
    generator = TransformersGenerator.around(
        reader.model, reader.processor, name="the agent that is trained", max_images=settings.max_turns
    )
    agent = VRAGAgent(
        retriever,
        generator,
        settings.max_turns,
        template=settings.template,
        pictures=settings.pictures,
        settings=GenerationSettings(temperature=TEMPERATURE, max_tokens=max_tokens, seed=reader.recipe.seed, stop=STOP),
    )
    asked = [question for question in evaluate.questions if question.answers]
    runs = agent.run_many([question.text for question in asked])
    answers: dict[str, str] = {}
    early = 0.0
    turns = 0
    for question, run in zip(asked, runs, strict=True):
        answers[question.id] = run.answer.text
        early += seen_ndcg(run, golden_of(evaluate, question.id))
        turns += len(run.turns)
    metrics = mean_metrics(evaluate_answers_of(answers, asked, METRICS))
    metrics["ndcg"] = early / len(runs)
    metrics["turns"] = turns / len(runs)
    if traces is not None:
        keep_trace(traces, runs[0])
    return metrics


def keep_trace(path: Path, trace: Trace) -> None:
    """A run as an HTML page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, trace.to_html().encode("utf-8", "replace"))
