"""`build_pairs`: your own documents and questions about them, as pairs to train on and a set to measure with."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations import images
from visrag_integrations.errors import DatasetError, DocumentError, SettingError
from visrag_integrations.evaluation import EvaluationSet, Question, page_key
from visrag_integrations.readers import PageReader, sources
from visrag_integrations.training.examples import Example
from visrag_integrations.training.pairs import ListedPairs, match_pages, source_of
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import PageEmbedder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DrawnPage:
    """A page of a document, drawn anew whenever it is called: a folder of documents does not fit into memory."""

    document: sources.Source
    number: int
    reader: PageReader

    def __call__(self) -> Image:
        # Opened every time: an open file a page would soon be more files than a process may have.
        with self.reader.open(self.document) as opened:
            page = opened.page(self.number)
            if page.picture is None:
                raise DatasetError(f"{opened.source}, page {self.number}", "it has no picture.")
            return images.open_picture(page.picture)


def build_pairs(
    documents: Any,
    queries: EvaluationSet,
    *,
    negatives: int = 0,
    held_out: float = 0.1,
    embedder: str | PageEmbedder = "openbmb/VisRAG-Ret",
    seed: int = 0,
    reader: PageReader | None = None,
    progress: bool | None = None,
) -> tuple[ListedPairs, EvaluationSet | None]:
    """Pairs to train on, and held-out questions with their pages, from other documents.

    train, held_out = build_pairs("folder", queries=made)
    train_retriever("openbmb/VisRAG-Ret", train, "run", evaluate=held_out)

    Args:
        documents: What `PageReader().read` takes (a folder, files), or pages you already hold.
        queries: Questions and the pages that answer them: what `make_queries` writes.
        negatives: Hard negatives a query, mined by searching with `embedder`.
        held_out: The share of the documents that is kept apart to measure with; 0 keeps none.
        embedder: What hard negatives are mined with; best what is to be trained.
        seed: Of the split.
        reader: How documents are read.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.

    Returns:
        The pairs, and the held-out set; None where nothing is held out.

    Raises:
        DatasetError: No document can be read, or the questions are about others.
        SettingError: A value is not allowed, or there are too few documents to hold some out.
    """
    if negatives < 0 or not 0 <= held_out < 1:
        raise SettingError(
            f"negatives is {negatives} and held_out {held_out}; they must be 0 or more, and from 0 to below 1."
        )
    pages = _pages_of(documents, reader or PageReader(ocr="never"))
    kept = _held_out_documents(list(pages.values()), held_out, seed)
    train_pages = {key: page for key, page in pages.items() if page.doc_id not in kept}
    test_pages = {key: page for key, page in pages.items() if page.doc_id in kept}
    train_questions, test_questions = _split(queries, test_pages)
    if not train_questions.questions:
        raise DatasetError(
            queries.name, f"all its questions are about the {len(kept)} held-out documents. Hold out less."
        )
    examples = match_pages(train_questions, train_pages)
    if negatives:
        examples = _with_negatives(examples, train_questions, train_pages, negatives, embedder, seed, progress)
    train = ListedPairs(queries.name, examples, negatives)
    if not kept:
        return train, None
    test = replace(test_questions, name=f"{queries.name}, held out", pages=tuple(test_pages.values()))
    return train, test


def _pages_of(documents: Any, reader: PageReader) -> dict[str, Page]:
    """By `page_key`; of two pages with one key the first counts, as in an evaluation."""
    pages: dict[str, Page] = {}
    for page in _listed(documents, reader):
        if page_key(page) in pages:
            logger.warning("There are two pages %r; the first is taken.", page_key(page))
        pages.setdefault(page_key(page), page)
    if not pages:
        raise DatasetError(str(documents)[:80], "holds no page that can be read.")
    return pages


def _listed(documents: Any, reader: PageReader) -> Iterable[Page]:
    if isinstance(documents, (str, Path)):
        yield from _document_pages(documents, reader)
        return
    for each in documents:
        if isinstance(each, Page):
            yield each
        else:
            yield from _document_pages(each, reader)


def _document_pages(source: Any, reader: PageReader) -> Iterable[Page]:
    """Every page of every document, not drawn yet; what cannot be read is logged and left out."""
    for found in reader.find(source):
        try:
            # Known by its bytes from here on, so that they are not hashed again for every page that is drawn.
            known = sources.identify(found, max_bytes=reader.max_bytes)
            with reader.open(known) as opened:
                doc_id, name, numbers = opened.doc_id, opened.source, opened.numbers
        except DocumentError as err:
            logger.warning("%s: %s", err.source, err.reason)
            continue
        for number in numbers:
            yield Page(doc_id, number, source=name, picture=DrawnPage(known, number, reader))


def _held_out_documents(pages: Sequence[Page], share: float, seed: int) -> frozenset[str]:
    # Sorted by content, so that the split does not depend on the order in which a folder lists its files.
    documents = sorted({page.doc_id for page in pages})
    if not share:
        return frozenset()
    if len(documents) < 2:
        raise SettingError(
            "There is one document only, and pages of one document must not be on both sides. Say held_out=0, or give "
            "more documents."
        )
    # At least one document on each side, however small the share or the folder.
    count = min(len(documents) - 1, max(1, round(share * len(documents))))
    order = np.random.default_rng(seed).permutation(len(documents))
    return frozenset(documents[number] for number in order[:count])


def _split(queries: EvaluationSet, held_out: Mapping[str, Page]) -> tuple[EvaluationSet, EvaluationSet]:
    """Questions to train on and those held out: a question that has a held-out page is not trained on."""
    sides: tuple[list[Question], list[Question]] = ([], [])
    for question in queries.questions:
        right = [key for key, grade in queries.qrels.get(question.id, {}).items() if grade > 0]
        # One held-out page is enough: to train on the question's other pages would give its answer away.
        sides[any(key in held_out for key in right)].append(question)
    split: list[EvaluationSet] = []
    for questions in sides:
        qrels = {question.id: queries.qrels[question.id] for question in questions if question.id in queries.qrels}
        split.append(replace(queries, questions=tuple(questions), qrels=qrels, pages=()))
    return split[0], split[1]


def _with_negatives(
    examples: Sequence[Example],
    questions: EvaluationSet,
    pages: Mapping[str, Page],
    count: int,
    embedder: str | PageEmbedder,
    seed: int,
    progress: bool | None,
) -> list[Example]:
    from visrag_integrations.embedders import load_embedder
    from visrag_integrations.interfaces.closing import close
    from visrag_integrations.training.mining import mine_negatives

    # The same order as `examples`: both go through the questions, and each question's pages, one by one.
    asks = _asks(questions, pages)
    by_id = {page.id: page for page in pages.values()}
    loaded = load_embedder(embedder) if isinstance(embedder, str) else embedder
    try:
        mined = mine_negatives(asks, by_id, loaded, count, seed=seed, progress=progress)
    finally:
        if isinstance(embedder, str):
            close(loaded)
    full: list[Example] = []
    for example, negatives in zip(examples, mined, strict=True):
        wrong = [source_of(page) for page in negatives]
        full.append(replace(example, pages=(*example.pages, *wrong)))
    return full


def _asks(questions: EvaluationSet, pages: Mapping[str, Page]) -> list[Any]:
    """One for every example of `match_pages`, in its order."""
    from visrag_integrations.training.mining import Ask

    asks: list[Any] = []
    for question in questions.questions:
        right = [
            pages[key] for key, grade in questions.qrels.get(question.id, {}).items() if grade > 0 and key in pages
        ]
        ids = frozenset(page.id for page in right)
        for page in right:
            asks.append(Ask(question.text, page, ids))
    return asks
