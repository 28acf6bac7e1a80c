"""`visrag eval`: how well pages are found and questions answered, and questions for documents of your own."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import loading, opening, options, output, presets, reranking
from visrag_integrations.cli.evaluate_merge import add_merge
from visrag_integrations.cli.evaluate_options import (
    add_progress,
    add_set_options,
    add_which_questions,
    check_outputs,
    dataset_of,
    metrics_of,
    progress_of,
    running,
    share,
    whole_set,
)
from visrag_integrations.cli.evaluate_queries import add_queries
from visrag_integrations.cli.evaluate_report import report_result, write_html
from visrag_integrations.cli.index import index_paths
from visrag_integrations.cli.judging import add_judge_options, judged_by, load_judge
from visrag_integrations.errors import SettingError, printable
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.evaluation import EvaluationResult, EvaluationSet
    from visrag_integrations.interfaces.retrievers import Retriever
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.types import ScoredPage

_WHERE = (
    "Pages that come with the set, or --documents, are indexed in a collection of their own, eval-NAME, beside yours, "
    "and kept for the next run; else the pages of the index are searched."
)


def add_parser(subparsers: Any) -> None:
    """Add `visrag eval` and its tasks."""
    parser = subparsers.add_parser("eval", help="measure retrieval and answers on a set of questions")
    parser.set_defaults(when_ended="What --record and the index have is kept; run the same command again to go on.")
    tasks = parser.add_subparsers(title="tasks", metavar="TASK", required=True)
    _add_retrieval(tasks.add_parser("retrieval", help="how well the right pages are found", epilog=_WHERE))
    _add_answers(tasks.add_parser("answers", help="how well questions are answered", epilog=_WHERE))
    _add_index(tasks.add_parser("index", help="embed the pages that come with a set, and ask nothing", epilog=_WHERE))
    add_merge(tasks.add_parser("merge", help="the records of all shards of a run as one result"))
    add_queries(tasks.add_parser("queries", help="write questions for documents of your own"))


def _add_retrieval(parser: argparse.ArgumentParser) -> None:
    add_set_options(parser, metrics="mrr@10,recall@5")
    parser.add_argument("--run-out", metavar="FILE", help="write what was found as a TREC run")
    parser.add_argument("--compare", metavar="FILE", help="a TREC run to compare with, or a memory file of UltraRAG")
    parser.set_defaults(run=run_retrieval)


def _add_answers(parser: argparse.ArgumentParser) -> None:
    add_set_options(parser, metrics="em,accuracy,f1")
    parser.add_argument(
        "--compare",
        metavar="FILE",
        help="answers to compare with: a --record, or a memory file of UltraRAG",
    )
    parser.add_argument(
        "--pages",
        choices=["auto", "retrieved", "given", "relevant"],
        default="auto",
        help="what the generator is shown (default: the pages the set gives with each question, else retrieved ones)",
    )
    parser.add_argument(
        "--evidence",
        action="store_true",
        help="score the evidence too: pages, words, refusals (default: where the set says where its answers stand)",
    )
    parser.add_argument(
        "--run",
        dest="run_file",
        metavar="FILE",
        help="show the best -k pages of this TREC run, or memory file of UltraRAG; nothing is searched",
    )
    add_judge_options(parser)
    options.add_generator_options(parser)
    parser.set_defaults(run=run_answers)


def _add_index(parser: argparse.ArgumentParser) -> None:
    add_which_questions(parser)
    parser.add_argument(
        "--shard",
        type=share,
        metavar="I/N",
        help="only the I-th of N shares of the pages; several processes fill one collection of a server",
    )
    add_progress(parser)
    options.add_store_options(parser)
    options.add_reading_options(parser)
    parser.set_defaults(run=run_index, own_defaults=("collection",), documents=[])


def run_retrieval(arguments: argparse.Namespace) -> int:
    """`visrag eval retrieval`."""
    from visrag_integrations.evaluation import EvaluationResult, evaluate_retrieval, evaluate_run, read_run, write_run
    from visrag_integrations.evaluation.runs import pages_needed

    check_outputs(arguments)
    dataset, metrics = dataset_of(arguments), metrics_of(arguments)
    pages_needed(metrics, arguments.k)  # wrong names are refused before hours of indexing
    baseline = read_run(arguments.compare, dataset) if arguments.compare else None
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(_open_store(arguments, dataset))
        failed = _fill(arguments, dataset, store, opened)
        retriever = _retriever(arguments, store, opened)
        result = evaluate_retrieval(dataset, retriever, metrics, top_k=arguments.k, **running(arguments))
        other: EvaluationResult | None = None
        if baseline is not None and result.per_query:
            # Only the questions that were asked: --limit leaves some out, and a mean over others says nothing.
            judged = {id_: dataset.qrels[id_] for id_ in result.per_query}
            other = EvaluationResult(arguments.compare, evaluate_run(baseline, judged, metrics), run=baseline)
        # The numbers first: a file that cannot be written must not take them along.
        code = report_result(arguments, dataset, result, other, failed)
        if arguments.run_out:
            write_run(result.run, arguments.run_out)
        write_html(arguments, dataset, result, other, store)
    return code


def run_answers(arguments: argparse.Namespace) -> int:
    """`visrag eval answers`."""
    from visrag_integrations.evaluation import EvaluationResult, evaluate_answers, evaluate_answers_of, read_answers
    from visrag_integrations.grounding import ground

    check_outputs(arguments)
    dataset, metrics = dataset_of(arguments), metrics_of(arguments)
    evaluate_answers_of({}, (), metrics)  # wrong names are refused before hours of indexing
    baseline = read_answers(arguments.compare, dataset.questions) if arguments.compare else None
    writer = opening.generator_name(arguments)
    loading.ask_before_loading(arguments, writer)
    loading.check_server(arguments, writer)
    how = {"top_k": arguments.k, "pages": arguments.pages, **running(arguments)}
    if arguments.evidence or any(question.boxes or question.marked for question in dataset.questions):
        dataset = dataset.with_boxes()
        how["ground"] = ground
    with contextlib.ExitStack() as opened:
        failed = 0
        store: QdrantPageStore | None = None
        judge = load_judge(arguments, opened)
        retriever: Retriever = _NoRetriever()
        beside = ""
        if _needs_index(arguments, dataset):
            store = opened.enter_context(_open_store(arguments, dataset))
            failed = _fill(arguments, dataset, store, opened)
            found_by = _retriever(arguments, store, opened)
            retriever, beside = found_by, found_by.embedder.name
        if arguments.run_file:
            how["run"] = _run_to_show(arguments, store)
        rag = _rag(arguments, retriever, beside, fills=_fills(arguments, dataset))
        opened.callback(close, rag.generator)
        result = evaluate_answers(dataset, rag, metrics, **how)
        if judge is not None and result.answers:
            judged = judged_by(arguments, dataset, result, judge)
            result = dataclasses.replace(result, judged=judged)
            failed += len(judged.unjudged)
        other: EvaluationResult | None = None
        if baseline is not None and result.per_query:
            values = evaluate_answers_of(baseline, dataset.questions, metrics)
            other = EvaluationResult(arguments.compare, values, answers=baseline)
        code = report_result(arguments, dataset, result, other, failed)
        write_html(arguments, dataset, result, other, store)
    return code


def run_index(arguments: argparse.Namespace) -> int:
    """`visrag eval index`."""
    dataset = whole_set(arguments)
    if not dataset.pages:
        raise SettingError(f"The set {dataset.name!r} comes without pages. Index its documents: visrag index PATH...")
    if arguments.shard:
        number, count = arguments.shard
        dataset = dataclasses.replace(dataset, pages=dataset.pages[number - 1 :: count])
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(_open_store(arguments, dataset))
        failed = _fill(arguments, dataset, store, opened)
        there = store.count()
    if arguments.json:
        output.print_json({"set": dataset.name, "pages": len(dataset.pages), "failed": failed, "indexed": there})
    else:
        print(f"{len(dataset.pages) - failed} pages of {dataset.name} are indexed; the collection has {there}.")
    return 1 if failed else 0


def _run_to_show(arguments: argparse.Namespace, store: QdrantPageStore | None) -> Mapping[str, Mapping[str, float]]:
    """The run whose pages are shown; what it names must be there, and a line that names something else is told."""
    from visrag_integrations.evaluation import page_key, read_run

    # All questions of the set: --limit and --shard leave some out, which the run may well have.
    dataset = whole_set(arguments)
    pages = dataset.pages
    if not pages and store is not None:
        pages = tuple(store.scroll())
    return read_run(arguments.run_file, dataset, pages={page_key(page) for page in pages})


def _open_store(arguments: argparse.Namespace, dataset: EvaluationSet) -> QdrantPageStore:
    """The index that is named; else one of the set's own, where there are pages to fill it with."""
    fills = _fills(arguments, dataset)
    # "org/Data set" -> "org-Data-set": what a collection may be called.
    own = re.sub(r"[^A-Za-z0-9_-]+", "-", dataset.name).strip("-")[:100] or "set"
    if not fills and "://" not in arguments.index and not Path(arguments.index).is_dir():
        raise SettingError(
            f"The set {dataset.name!r} comes without pages, and there is no index at {printable(arguments.index)}. "
            "Say which documents it is about: --documents PATH..., or which index they are in: --index DIR"
        )
    # What is filled for a set must not mix with the user's own pages, nor with those of another set.
    if arguments.collection is None:
        arguments.collection = f"eval-{own}" if fills else getattr(arguments, "said_collection", "pages")
    return opening.open_store(arguments, must_exist=not fills)


def _fill(
    arguments: argparse.Namespace, dataset: EvaluationSet, store: QdrantPageStore, opened: contextlib.ExitStack
) -> int:
    """Index what comes with the set, or --documents; says how many documents or pages failed."""
    from visrag_integrations.evaluation import index_pages

    if not _fills(arguments, dataset):
        return 0
    embedder = opening.embedder_to_fill(arguments, store)
    opened.callback(close, embedder)  # at the end: searching needs the same one
    if arguments.documents:
        arguments.paths = arguments.documents
        return len(index_paths(arguments, store, embedder).failed)
    report = index_pages(dataset.pages, embedder, store, progress=progress_of(arguments))
    for line in output.failure_lines(report.failed):
        options.note(line)
    return len(report.failed)


def _fills(arguments: argparse.Namespace, dataset: EvaluationSet) -> bool:
    """Whether there are pages to embed, where an index is needed."""
    return bool(arguments.documents or dataset.pages)


def _needs_index(arguments: argparse.Namespace, dataset: EvaluationSet) -> bool:
    """Whether the set itself does not hold what the generator is to be shown."""
    if arguments.run_file:
        return not dataset.pages
    # As `evaluate_answers` decides: given pages where every question has some, else retrieved ones.
    if arguments.pages == "auto":
        return not all(question.pages for question in dataset.questions)
    return arguments.pages == "retrieved" or (arguments.pages == "relevant" and not dataset.pages)


class _NoRetriever:
    """Searches nothing: the pages come with the questions."""

    def retrieve(self, query: str, top_k: int = 5, *, filter: Mapping[str, Any] | None = None) -> list[ScoredPage]:
        return []


def _retriever(arguments: argparse.Namespace, store: QdrantPageStore, opened: contextlib.ExitStack) -> PageRetriever:
    """What finds pages in the store; its embedder is closed with what is opened."""
    from visrag_integrations.retrieval import PageRetriever

    embedder = opening.embedder_that_filled(store, arguments)
    opened.callback(close, embedder)
    settings = reranking.retriever_settings(arguments, opened)
    return PageRetriever(embedder, store, mode=arguments.mode, filter=options.filter_of(arguments), **settings)


def _rag(arguments: argparse.Namespace, retriever: Retriever, beside: str, *, fills: bool) -> VisRAG:
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.types import GenerationSettings

    writer = loading.load_generator(arguments, opening.generator_name(arguments), beside=beside, fills=fills)
    settings = GenerationSettings(max_tokens=arguments.max_tokens, guided=arguments.guided)
    return VisRAG(
        retriever,
        writer,
        strategy=opening.strategy_of(arguments),
        prompt=presets.prompt_of(arguments),
        settings=settings,
    )
