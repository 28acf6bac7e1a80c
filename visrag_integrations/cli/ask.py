"""`visrag ask`: an answer with its evidence."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import ending, html_files, live_answer, loading, opening, options, output, reranking
from visrag_integrations.cli.agent import add_options as add_agent_options
from visrag_integrations.cli.agent import run_agent, trace_json
from visrag_integrations.cli.index import exit_code as index_exit_code
from visrag_integrations.cli.index import index_paths
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.stores import why_nothing

if TYPE_CHECKING:
    from visrag_integrations.agent import Trace
    from visrag_integrations.interfaces import Filter
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.types import Answer


def add_parser(subparsers: Any) -> None:
    """Add `visrag ask` and its options."""
    parser = subparsers.add_parser("ask", help="answer a question from the pages that fit it, with evidence")
    parser.add_argument("question", help="the question; - reads it from standard input")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="index these first, and search only them")
    parser.add_argument("-k", type=options.positive, default=3, help="how many pages to read (default: 3)")
    options.add_search_options(parser)
    reranking.add_rerank_options(parser)
    options.add_generator_options(parser)
    add_agent_options(parser)
    html_files.add_options(parser, "the answer with its pages")
    options.add_store_options(parser)
    options.add_reading_options(parser)
    parser.set_defaults(run=run, when_ended=ending.KEPT)


def run(arguments: argparse.Namespace) -> int:
    """`visrag ask`."""
    if arguments.paths:
        from visrag_integrations.readers.kept import KEPT

        KEPT.start_early()  # it imports what it reads with while this process imports what searches
    question = options.text_or_stdin(arguments.question, 'visrag ask "What does figure 3 show?"')
    with_html = html_files.wanted(arguments)
    arguments.generator = opening.generator_name(arguments)
    loading.ask_before_loading(arguments, arguments.generator)
    if arguments.paths:  # which are indexed before the generator is loaded
        loading.check_server(arguments, arguments.generator)
    only = dict(options.filter_of(arguments) or {})
    exit_code = 0
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(opening.open_store(arguments, must_exist=not arguments.paths))
        if arguments.paths:
            embedder = opening.embedder_to_fill(arguments, store)
            opened.callback(close, embedder)
            report = index_paths(arguments, store, embedder)
            exit_code = index_exit_code(report)
            if not report.documents:  # there is nothing to answer from
                _note_unquoted(arguments)
                return exit_code
            only["$doc_ids"] = list(report.doc_ids)  # and no other document
        else:
            embedder = opening.embedder_that_filled(store, arguments)
            opened.callback(close, embedder)
        searching = reranking.retriever_settings(arguments, opened)
        rag = opening.build_rag(arguments, embedder, store, searching, fills=bool(arguments.paths))
        opened.callback(close, rag.generator)
        answered = _answered(arguments, question, rag, only)
        if not answered.answer.pages:
            answered = replace(answered, answer=_with_filter_note(answered.answer, store, only))
        html = ""
        if with_html:  # while the store can give the pictures
            html = answered.html(question)
    _print(arguments, question, answered)
    if with_html:
        html_files.write(arguments, html)
    return exit_code


@dataclass(frozen=True)
class Answered:
    """What came out.

    Attributes:
        answer: With its evidence checked.
        trace: The run of the agent, where it was asked.
        live: Its words are on the terminal already.
        quotes: What answered only quotes.
    """

    answer: Answer
    trace: Trace | None
    live: bool
    quotes: bool

    def html(self, question: str) -> str:
        """A page of its own."""
        from visrag_integrations.report import answer_to_html

        if self.trace is not None:
            return self.trace.to_html()
        return answer_to_html(question, self.answer)


def _answered(arguments: argparse.Namespace, question: str, rag: VisRAG, only: dict[str, Any]) -> Answered:
    """By the agent, in the terminal as it is written, or as a whole."""
    from visrag_integrations.grounding import ground
    from visrag_integrations.interfaces.generators import only_quotes

    live = not arguments.agent and live_answer.is_wanted(as_json=arguments.json)
    trace: Trace | None = None
    if arguments.agent:
        trace = run_agent(arguments, rag, question, only or None)
        answer = trace.answer
    elif live:
        answer = live_answer.written_live(rag.stream(question, top_k=arguments.k, filter=only or None))
    else:
        answer = rag.ask(question, top_k=arguments.k, filter=only or None)
    return Answered(ground(answer), trace, live, only_quotes(rag.generator))


def _print(arguments: argparse.Namespace, question: str, answered: Answered) -> None:
    answer = answered.answer
    if arguments.json:
        steps: dict[str, Any] = {}
        if answered.trace is not None:
            steps = trace_json(answered.trace)
        output.print_json({**output.answer_json(question, answer), **steps})
        return
    if answered.live:
        print("\n".join(output.answer_details(answer)))
    else:
        print(output.answer_text(answer))
    advice = output.no_answer_advice(answer, quotes=answered.quotes)
    if advice:
        options.note(advice)


def _note_unquoted(arguments: argparse.Namespace) -> None:
    """Say what to type where the "paths" are the rest of a question without quotes."""
    if any("/" in path or "." in path.rstrip(".?!") or Path(path).exists() for path in arguments.paths):
        return
    question = " ".join([arguments.question, *arguments.paths])
    options.note(f'if all of this is the question, put it in quotes: visrag ask "{question}"')


def _with_filter_note(answer: Answer, store: QdrantPageStore, only: Filter) -> Answer:
    """The answer from no page at all, and what the filter did."""
    note = why_nothing(store, only)
    if not note:
        return answer
    return replace(answer, problems=(*answer.problems, note))
