"""Evaluation while a reader is trained: held-out questions, answered from their own pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import EvaluationSet, evaluate_answers
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.rag import VisRAG
from visrag_integrations.training.held_out import warn_of_failures
from visrag_integrations.training.reader import ReaderNetwork
from visrag_integrations.training.support import evidence_support
from visrag_integrations.types import Answer, GenerationSettings, Query, ScoredPage

METRICS = ("em", "f1")
BEST_BY = "f1"  # finer than exact match: two checkpoints seldom differ in whole answers
SUPPORT = "support"
TEMPERATURE = 0.1  # published for validation


def check_questions(evaluate: Any) -> EvaluationSet:
    """The set, if it can be answered.

    Raises:
        SettingError: It is no evaluation set, or its questions come without pages or answers.
    """
    if not isinstance(evaluate, EvaluationSet):
        raise SettingError(
            f"evaluate is {type(evaluate).__name__}; give an EvaluationSet, as load_evaluation_set makes."
        )
    if not any(question.answers for question in evaluate.questions):
        raise SettingError(f"The evaluation set {evaluate.name!r} does not say what the right answers are.")
    given = all(question.pages for question in evaluate.questions)
    if not given and not (evaluate.pages and evaluate.qrels):
        raise SettingError(f"The evaluation set {evaluate.name!r} comes without pages; a reader needs some to read.")
    return evaluate


class _NothingToSearch:
    """In the place of a retriever: the pages are given."""

    def retrieve(self, *_: Any, **__: Any) -> NoReturn:
        raise SettingError("Held-out questions are answered from their own pages.")


class HeldOutReader:
    """Answers from given pages, and counts how much of the evidence stands there."""

    def __init__(self, generator: Any, settings: GenerationSettings) -> None:
        self._rag = VisRAG(_NothingToSearch(), generator, settings=settings)
        self.name = "the reader that is trained"
        self.supports: list[float] = []

    def ask(self, question: str) -> Answer:
        """The pages must be given."""
        return self._rag.ask(question)

    def answer_from(self, questions: Iterable[str | Query], pages: Iterable[Sequence[ScoredPage]]) -> list[Answer]:
        """As `VisRAG.answer_from`."""
        answers = self._rag.answer_from(questions, pages)
        for answer in answers:
            share = evidence_support(answer)
            if share is not None:
                self.supports.append(share)
        return answers


def answer_held_out(evaluate: EvaluationSet, reader: ReaderNetwork, max_tokens: int) -> dict[str, float]:
    """EM and F1 of the network as it is now, and the share of its evidence that stands on the pages."""
    recipe = reader.recipe
    generator = TransformersGenerator.around(
        reader.model, reader.processor, name="the reader that is trained", max_images=recipe.max_images
    )
    settings = GenerationSettings(temperature=TEMPERATURE, max_tokens=max_tokens, seed=recipe.seed)
    held = HeldOutReader(generator, settings)
    pages: Any = "relevant"
    if all(question.pages for question in evaluate.questions):
        pages = "given"
    result = evaluate_answers(evaluate, held, METRICS, pages=pages, top_k=recipe.max_images, progress=False)
    warn_of_failures(evaluate.name, result)
    metrics = dict(result.metrics)
    if held.supports:
        metrics[SUPPORT] = sum(held.supports) / len(held.supports)
    return metrics
