"""What each command does. Heavy rooms are imported inside the command that needs them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from visrag_integrations.cli import output
from visrag_integrations.errors import SettingError, StoreError

if TYPE_CHECKING:
    from visrag_integrations.ingestion import IndexReport
    from visrag_integrations.interfaces import Filter, PageEmbedder
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.types import Answer

PRESETS = {"cpu": ("ocr", "extractive"), "gpu": ("openbmb/VisRAG-Ret", "openbmb/EVisRAG-7B")}
"""Preset -> (embedder, generator)."""


def run_index(arguments: argparse.Namespace) -> int:
    """`visrag index`."""
    with _open_store(arguments) as store:
        report = _index(arguments, store, _embedder_to_fill(arguments, store))
    if arguments.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    elif report.documents or report.removed:
        print(output.report_line(report, arguments.index))
    return _exit_code(report)


def run_search(arguments: argparse.Namespace) -> int:
    """`visrag search`."""
    query = _text_or_stdin(arguments.query, 'visrag search "torque of the M8 bolts"')
    with _open_store(arguments, must_exist=True) as store:
        from visrag_integrations.retrieval import PageRetriever

        hits = PageRetriever(_embedder_that_filled(store, arguments), store).retrieve(query, top_k=arguments.k)
    if arguments.json:
        print(json.dumps({"query": query, "pages": output.pages_json(hits)}, ensure_ascii=False))
    else:
        print("\n".join(output.hit_lines(hits)) or "No page was found.")
    return 0


def run_ask(arguments: argparse.Namespace) -> int:
    """`visrag ask`."""
    question = _text_or_stdin(arguments.question, 'visrag ask "What does figure 3 show?"')
    generator = arguments.generator or _preset(arguments)[1]
    exit_code, only = 0, None
    with _open_store(arguments, must_exist=not arguments.paths) as store:
        if arguments.paths:
            embedder = _embedder_to_fill(arguments, store)
            report = _index(arguments, store, embedder)
            exit_code, only = _exit_code(report), {"doc_id": list(report.doc_ids)}
            if not report.documents:
                return exit_code
        else:
            embedder = _embedder_that_filled(store, arguments)
        answer = _ask(arguments, question, embedder, store, generator, only)
        if arguments.html:
            _write_html(arguments.html, question, answer)
    print(
        json.dumps(output.answer_json(question, answer), ensure_ascii=False)
        if arguments.json
        else output.answer_text(answer)
    )
    return exit_code


def _ask(
    arguments: argparse.Namespace,
    question: str,
    embedder: PageEmbedder,
    store: QdrantPageStore,
    generator: str,
    only: Filter | None,
) -> Answer:
    from visrag_integrations.generation import load_generator
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.types import GenerationSettings

    retriever = PageRetriever(embedder, store)
    settings = GenerationSettings(max_tokens=arguments.max_tokens, guided=arguments.guided)
    writer = load_generator(generator)
    rag = VisRAG(retriever, writer, strategy=arguments.strategy, prompt=arguments.prompt, settings=settings)
    try:
        return rag.ask(question, top_k=arguments.k, filter=only)
    finally:
        getattr(writer, "close", lambda: None)()


def _open_store(arguments: argparse.Namespace, *, must_exist: bool = False) -> QdrantPageStore:
    from visrag_integrations.store import QdrantPageStore

    is_url = "://" in arguments.index
    if must_exist and not is_url and not Path(arguments.index).is_dir():
        raise StoreError(
            f"There is no index at {arguments.index!r}. Make one first: visrag index PATH... --index {arguments.index}"
        )
    api_key = os.environ.get("QDRANT_API_KEY") if is_url else None
    return QdrantPageStore(arguments.index, collection=arguments.collection, api_key=api_key)


def _embedder_to_fill(arguments: argparse.Namespace, store: QdrantPageStore) -> PageEmbedder:
    """The embedder that was asked for; else the one that filled the collection; else the preset's."""
    from visrag_integrations.embedders import load_embedder

    if arguments.embedder is None and store.info is not None:
        return load_embedder(store.info.embedder)
    return load_embedder(arguments.embedder or _preset(arguments)[0])


def _embedder_that_filled(store: QdrantPageStore, arguments: argparse.Namespace) -> PageEmbedder:
    from visrag_integrations.embedders import load_embedder

    if store.info is None:
        raise StoreError(
            f"Collection {arguments.collection!r} in {arguments.index!r} is empty. "
            f"Fill it first: visrag index PATH... --index {arguments.index} --collection {arguments.collection}"
        )
    return load_embedder(store.info.embedder)


def _preset(arguments: argparse.Namespace) -> tuple[str, str]:
    """(embedder, generator) of the preset; `auto` says on standard error which it took and why."""
    if arguments.preset != "auto":
        return PRESETS[arguments.preset]
    missing = _missing_for_gpu()
    chosen = "cpu" if missing else "gpu"
    why = missing or "an NVIDIA driver, torch and vLLM are here"
    _note(f"preset {chosen} ({' + '.join(PRESETS[chosen])}): {why}. --preset chooses another.")
    arguments.preset = chosen
    return PRESETS[chosen]


def _missing_for_gpu() -> str:
    """Why the gpu preset cannot run here; "" when it can."""
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver was found"
    return next((f"{name} is not installed" for name in ("torch", "vllm") if find_spec(name) is None), "")


def _index(arguments: argparse.Namespace, store: QdrantPageStore, embedder: PageEmbedder) -> IndexReport:
    from visrag_integrations.ingestion import index_documents
    from visrag_integrations.readers import PageReader

    reader = PageReader(
        backend=arguments.backend, ocr=arguments.ocr, password=arguments.password, max_pages=arguments.max_pages
    )
    report = index_documents(
        arguments.paths,
        store=store,
        embedder=embedder,
        reader=reader,
        workers=arguments.workers,
        page_timeout=arguments.page_timeout,
        prune=getattr(arguments, "prune", False),
        progress=False if getattr(arguments, "quiet", False) else None,
    )
    for line in output.failure_lines(report):
        _note(line)
    if not report.documents and not report.removed:
        _note("nothing was indexed.")
    return report


def _exit_code(report: IndexReport) -> int:
    if not report.documents and not report.removed:
        return 2
    return 1 if report.failed else 0


def _text_or_stdin(text: str, example: str) -> str:
    text = sys.stdin.read() if text == "-" else text
    if not text.strip():
        raise SettingError(f"The question is empty. Type one, for example: {example}")
    return text.strip()


def _write_html(path: str, question: str, answer: Answer) -> None:
    from visrag_integrations.report import answer_to_html

    try:
        Path(path).write_text(answer_to_html(question, answer), encoding="utf-8")
    except OSError as error:
        raise SettingError(
            f"The HTML report cannot be written to {path!r} ({error.strerror or error}). Give --html another file."
        ) from error


def _note(message: str) -> None:
    print(f"visrag: {message}", file=sys.stderr)
