"""How well pages are found and questions answered: sets of questions, metrics, runs, and how sure they are."""

from visrag_integrations.evaluation.answer_runs import evaluate_answers, read_answers
from visrag_integrations.evaluation.answers import ANSWER_METRICS, evaluate_answers_of
from visrag_integrations.evaluation.corpus import PagesReport, index_pages
from visrag_integrations.evaluation.evidence import evaluate_evidence
from visrag_integrations.evaluation.evidence_scores import EVIDENCE_METRICS, EvidenceScores
from visrag_integrations.evaluation.judged import JudgedAnswers
from visrag_integrations.evaluation.loading import load_evaluation_set
from visrag_integrations.evaluation.marks import MarkedBox, PageBox
from visrag_integrations.evaluation.metrics import RETRIEVAL_METRICS, evaluate_run, mean_metrics
from visrag_integrations.evaluation.model_judge import judge_answers
from visrag_integrations.evaluation.questions import make_queries
from visrag_integrations.evaluation.results import EvaluationResult, QueryFailure, comparison_table
from visrag_integrations.evaluation.runs import evaluate_retrieval
from visrag_integrations.evaluation.sets import EvaluationSet, Question, page_key
from visrag_integrations.evaluation.shards import merge_records
from visrag_integrations.evaluation.statistics import Comparison, bootstrap_interval, compare, randomisation_test
from visrag_integrations.evaluation.trec import read_qrels, read_run, write_qrels, write_run

__all__ = [
    "ANSWER_METRICS",
    "EVIDENCE_METRICS",
    "RETRIEVAL_METRICS",
    "Comparison",
    "EvaluationResult",
    "EvaluationSet",
    "EvidenceScores",
    "JudgedAnswers",
    "MarkedBox",
    "PageBox",
    "PagesReport",
    "QueryFailure",
    "Question",
    "bootstrap_interval",
    "compare",
    "comparison_table",
    "evaluate_answers",
    "evaluate_answers_of",
    "evaluate_evidence",
    "evaluate_retrieval",
    "evaluate_run",
    "index_pages",
    "judge_answers",
    "load_evaluation_set",
    "make_queries",
    "mean_metrics",
    "merge_records",
    "page_key",
    "randomisation_test",
    "read_answers",
    "read_qrels",
    "read_run",
    "write_qrels",
    "write_run",
]
