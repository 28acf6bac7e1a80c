"""`visrag eval`: how well pages are found and questions answered, and questions for documents of your own."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import loading, options, output, presets
from visrag_integrations.cli.index import index_paths
from visrag_integrations.errors import SettingError, printable
from visrag_integrations.files import write_whole
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.evaluation import Comparison, EvaluationResult, EvaluationSet
    from visrag_integrations.interfaces.retrievers import Retriever
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.types import Failure, Page, ScoredPage

_WHERE = (
    "Without --index and --collection, pages that come with the set, or --documents, are indexed in .visrag-eval, in a "
    "collection of the set's name, and kept for the next run; else the pages are searched that are in .visrag."
)


def add_parser(subparsers: Any) -> None:
    """Add `visrag eval` and its three tasks."""
    parser = subparsers.add_parser("eval", help="measure retrieval and answers on a set of questions")
    parser.set_defaults(when_ended="What --record and the index have is kept; run the same command again to go on.")
    tasks = parser.add_subparsers(title="tasks", metavar="TASK", required=True)
    _add_retrieval(tasks.add_parser("retrieval", help="how well the right pages are found", epilog=_WHERE))
    _add_answers(tasks.add_parser("answers", help="how well questions are answered", epilog=_WHERE))
    _add_queries(tasks.add_parser("queries", help="write questions for documents of your own"))


def _add_retrieval(parser: argparse.ArgumentParser) -> None:
    _add_set_options(parser, metrics="mrr@10,recall@5")
    parser.add_argument("--run-out", metavar="FILE", help="write what was found as a TREC run")
    parser.add_argument("--compare", metavar="FILE", help="a TREC run to compare with, or a memory file of UltraRAG")
    parser.set_defaults(run=run_retrieval)


def _add_answers(parser: argparse.ArgumentParser) -> None:
    _add_set_options(parser, metrics="em,accuracy,f1")
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
    options.add_generator_options(parser)
    parser.set_defaults(run=run_answers)


def _add_set_options(parser: argparse.ArgumentParser, metrics: str) -> None:
    """What is asked, of which pages, and what is done with the results."""
    parser.add_argument("set", metavar="SET", help="a file, a folder, or the name of a data set on the hub")
    parser.add_argument("--split", default="test", help="which part of it, where it has several (default: test)")
    parser.add_argument("--limit", type=options.positive, metavar="N", help="only its first N questions")
    parser.add_argument("--documents", nargs="+", default=[], metavar="PATH", help="index these first")
    parser.add_argument("-k", type=options.positive, help="how many pages (default: as many as are needed)")
    parser.add_argument("--metrics", default=metrics, metavar="NAMES", help=f"separated by commas (default: {metrics})")
    parser.add_argument("--record", metavar="FILE", help="keep every result there; a run that was stopped goes on")
    parser.add_argument("--per-query", metavar="FILE", help="write each question's values, one JSON object a line")
    parser.add_argument("--batch-size", type=options.positive, default=16, metavar="N", help="questions asked together")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options.add_search_options(parser)
    options.add_store_options(parser)
    options.add_reading_options(parser)
    parser.set_defaults(index=None, collection=None)


def _add_queries(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files and folders (PDF, images, office files)")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the questions go; `visrag eval` takes it")
    parser.add_argument(
        "--generator", required=True, metavar="NAME|FOLDER|URL", help="what writes; it must see pictures"
    )
    parser.add_argument("--model", metavar="NAME", help="of the models at --generator URL (default: its first)")
    loading.add_device_option(parser)
    parser.add_argument(
        "--per-page", type=options.positive, default=6, metavar="N", help="at most N a page (default: 6)"
    )
    parser.add_argument("--record", metavar="FILE", help="keep what was written there; a run that was stopped goes on")
    parser.add_argument(
        "--max-pages", type=options.positive, metavar="N", help="at most the first N pages of a document"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_queries)


def run_retrieval(arguments: argparse.Namespace) -> int:
    """`visrag eval retrieval`."""
    from visrag_integrations.evaluation import compare, evaluate_retrieval, evaluate_run, read_run, write_run
    from visrag_integrations.evaluation.runs import pages_needed

    _check_outputs(arguments)
    dataset, metrics = _dataset(arguments), _metrics(arguments)
    pages_needed(metrics, arguments.k)  # wrong names are refused before hours of indexing
    baseline = read_run(arguments.compare, dataset) if arguments.compare else None
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(_open_store(arguments, dataset))
        failed = _fill(arguments, dataset, store, opened)
        retriever = _retriever(arguments, store, opened)
        result = evaluate_retrieval(dataset, retriever, metrics, top_k=arguments.k, **_running(arguments))
    if arguments.run_out:
        write_run(result.run, arguments.run_out)
    compared: list[Comparison] = []
    if baseline is not None and result.per_query:
        # Only the questions that were asked: --limit leaves some out, and a mean over others says nothing.
        judged = {id_: dataset.qrels[id_] for id_ in result.per_query}
        compared = compare(result.per_query, evaluate_run(baseline, judged, metrics))
    return _report(arguments, dataset, result, compared, failed)


def run_answers(arguments: argparse.Namespace) -> int:
    """`visrag eval answers`."""
    from visrag_integrations.evaluation import compare, evaluate_answers, evaluate_answers_of, read_answers

    _check_outputs(arguments)
    dataset, metrics = _dataset(arguments), _metrics(arguments)
    evaluate_answers_of({}, (), metrics)  # wrong names are refused before hours of indexing
    baseline = read_answers(arguments.compare, dataset.questions) if arguments.compare else None
    loading.ask_before_loading(arguments, options.generator_name(arguments))
    how = {"top_k": arguments.k, "pages": arguments.pages, **_running(arguments)}
    with contextlib.ExitStack() as opened:
        failed = 0
        retriever: Retriever = _NoRetriever()
        if _needs_index(arguments, dataset):
            store = opened.enter_context(_open_store(arguments, dataset))
            failed = _fill(arguments, dataset, store, opened)
            retriever = _retriever(arguments, store, opened)
        rag = _rag(arguments, retriever)
        opened.callback(close, rag.generator)
        result = evaluate_answers(dataset, rag, metrics, **how)
    compared: list[Comparison] = []
    if baseline is not None and result.per_query:
        compared = compare(result.per_query, evaluate_answers_of(baseline, dataset.questions, metrics))
    return _report(arguments, dataset, result, compared, failed)


def run_queries(arguments: argparse.Namespace) -> int:
    """`visrag eval queries`."""
    from visrag_integrations.evaluation import make_queries
    from visrag_integrations.readers import PageReader

    _check_outputs(arguments)
    generator = loading.load_generator(arguments, arguments.generator)
    if generator.name == "extractive":  # it takes sentences from pages, as they are
        raise SettingError(
            "The extractive generator quotes; it cannot write questions. Name a model or a server's URL."
        )
    failed: list[Failure] = []
    dropped: list[tuple[Page, tuple[str, str], str]] = []
    try:
        made = make_queries(
            PageReader(max_pages=arguments.max_pages).read(arguments.paths, on_error=failed.append),
            generator,
            per_page=arguments.per_page,
            name=Path(arguments.out).stem,
            record=arguments.record,
            progress=_progress(arguments),
            on_dropped=lambda page, pair, reason: dropped.append((page, pair, reason)),
            on_failure=failed.append,
        )
    finally:
        close(generator)
    for line in output.failure_lines(failed):
        options.note(line)
    made.save(arguments.out)
    if arguments.json:
        counts = {"questions": len(made.questions), "left_out": len(dropped), "out": arguments.out}
        failures = [{"source": failure.source, "page": failure.page, "error": failure.error} for failure in failed]
        output.print_json({**counts, "failed": failures})
    else:
        print(f"{len(made.questions)} questions in {arguments.out}; {len(dropped)} were left out.")
    if not made.questions:
        return 2
    return 1 if failed else 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be written now, and not at the end of the work."""
    # Each task has some of these options.
    for option in ("run_out", "per_query", "record", "out"):
        options.check_output(f"--{option.replace('_', '-')}", getattr(arguments, option, None))


def _dataset(arguments: argparse.Namespace) -> EvaluationSet:
    from visrag_integrations.evaluation import load_evaluation_set

    dataset = load_evaluation_set(arguments.set, split=arguments.split)
    if arguments.limit:
        return dataset.first(arguments.limit)
    return dataset


def _metrics(arguments: argparse.Namespace) -> list[str]:
    return list(filter(None, map(str.strip, arguments.metrics.split(","))))


def _running(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"record": arguments.record, "batch_size": arguments.batch_size, "progress": _progress(arguments)}


def _progress(arguments: argparse.Namespace) -> bool | None:
    """None leaves it to the terminal: a bar where somebody looks."""
    return False if arguments.quiet else None


def _open_store(arguments: argparse.Namespace, dataset: EvaluationSet) -> QdrantPageStore:
    """The index that is named; else one of the set's own, where there are pages to fill it with."""
    fills = bool(arguments.documents or dataset.pages)
    # "org/Data set" -> "org-Data-set": what a collection may be called.
    own = re.sub(r"[^A-Za-z0-9_-]+", "-", dataset.name).strip("-")[:100] or "set"
    if not fills and arguments.index is None and not Path(".visrag").is_dir():
        raise SettingError(
            f"The set {dataset.name!r} comes without pages, and there is no index here. "
            "Say which documents it is about: --documents PATH..., or which index they are in: --index DIR"
        )
    # What is filled for a set must not mix with the user's own pages, nor with those of another set.
    index, collection = (".visrag-eval", own) if fills else (".visrag", "pages")
    if arguments.index is not None:
        collection = "pages"
    arguments.index = arguments.index or index
    arguments.collection = arguments.collection or collection
    return options.open_store(arguments, must_exist=not fills)


def _fill(
    arguments: argparse.Namespace, dataset: EvaluationSet, store: QdrantPageStore, opened: contextlib.ExitStack
) -> int:
    """Index what comes with the set, or --documents; says how many documents or pages failed."""
    from visrag_integrations.evaluation import index_pages

    if not arguments.documents and not dataset.pages:
        return 0
    embedder = options.embedder_to_fill(arguments, store)
    opened.callback(close, embedder)  # at the end: searching needs the same one
    if arguments.documents:
        arguments.paths = arguments.documents
        return len(index_paths(arguments, store, embedder).failed)
    report = index_pages(dataset.pages, embedder, store, progress=_progress(arguments))
    for line in output.failure_lines(report.failed):
        options.note(line)
    return len(report.failed)


def _needs_index(arguments: argparse.Namespace, dataset: EvaluationSet) -> bool:
    """Whether the set itself does not hold what the generator is to be shown."""
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

    embedder = options.embedder_that_filled(store, arguments)
    opened.callback(close, embedder)
    return PageRetriever(embedder, store, mode=arguments.mode, filter=options.filter_of(arguments))


def _rag(arguments: argparse.Namespace, retriever: Retriever) -> VisRAG:
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.types import GenerationSettings

    writer = loading.load_generator(arguments, options.generator_name(arguments))
    settings = GenerationSettings(max_tokens=arguments.max_tokens, guided=arguments.guided)
    return VisRAG(
        retriever,
        writer,
        strategy=options.strategy_of(arguments),
        prompt=presets.prompt_of(arguments),
        settings=settings,
    )


def _report(
    arguments: argparse.Namespace,
    dataset: EvaluationSet,
    result: EvaluationResult,
    compared: list[Comparison],
    failed: int,
) -> int:
    """Print the result, write what was asked for, and give the exit code."""
    from visrag_integrations.evaluation.results import comparison_table

    if arguments.per_query:
        _write_per_query(arguments.per_query, dataset, result)
    for failure in result.failed:
        options.note(f"failed: {printable(failure.id)}: {printable(failure.error)}")
    if arguments.json:
        output.print_json({**result.as_dict(), "comparison": [one.as_dict() for one in compared]})
    elif result.per_query:
        print(result)
        if compared:
            print(f"\n{comparison_table(compared, 'this run', Path(arguments.compare).name)}")
    if not result.per_query:
        options.note("no question could be asked.")
        return 2
    return 1 if result.failed or failed else 0


def _write_per_query(path: str, dataset: EvaluationSet, result: EvaluationResult) -> None:
    lines: list[str] = []
    for question in dataset.questions:
        if question.id not in result.per_query:  # it failed
            continue
        row: dict[str, Any] = {"id": question.id, "query": question.text}
        if question.id in result.answers:
            row["answer"] = result.answers[question.id]
        row["metrics"] = result.per_query[question.id]
        row["pages"] = result.run.get(question.id, {})
        row["relevant"] = dataset.qrels.get(question.id, {})
        lines.append(f"{json.dumps(row, ensure_ascii=False)}\n")
    try:
        write_whole(path, "".join(lines).encode("utf-8", "replace"))
    except OSError as error:
        raise SettingError(f"{path!r} cannot be written ({error.strerror or error}). Name another file.") from error
