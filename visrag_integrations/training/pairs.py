"""Query-page pairs to train on, from whatever `train_retriever` is given, and in which order they are seen."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation import EvaluationSet, load_evaluation_set, page_key
from visrag_integrations.training.examples import Example, Order, PageSource, Pairs, TextOfPage
from visrag_integrations.training.rows import download, open_rows
from visrag_integrations.types import Page

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedPairs:
    """Examples that are all at hand; their pictures are opened when needed."""

    name: str
    examples: Sequence[Example] = field(repr=False)
    negatives: int = 0

    @property
    def fingerprint(self) -> str:
        """Of the queries and where they come from: pictures are not opened for it."""
        digest = hashlib.sha256()
        for example in self.examples:
            digest.update(f"{example.query}\0{example.where}\0{len(example.pages)}\n".encode("utf-8", "replace"))
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, index: int) -> Example:
        """One example."""
        return self.examples[index]

    def order(self, seed: int, epoch: int) -> Order:
        """Shuffled as a whole."""
        return np.random.default_rng([seed, epoch]).permutation(len(self.examples))


class MixedPairs:
    """Several sources as one, each as large a share of an epoch as its weight says."""

    def __init__(self, sources: Sequence[Pairs], weights: Sequence[float] | None = None) -> None:
        if not sources:
            raise SettingError("pairs is an empty list; name at least one source.")
        counts = {source.negatives for source in sources}
        if len(counts) > 1:
            raise SettingError(
                f"The sources have {sorted(counts)} hard negatives a query; all must have equally many. Mine again."
            )
        for weight in weights or ():
            if not weight > 0:
                raise SettingError(f"A weight is {weight}; it must be above 0. Leave the source out instead.")
        self.sources, self.negatives = list(sources), counts.pop()
        self._first = np.cumsum([0, *map(len, sources)])
        total = int(self._first[-1])
        shares = np.array(weights or [len(source) for source in sources], dtype=float)
        # An epoch has as many examples as there are pairs; a source with a large weight gives some of them twice.
        self._counts = [max(1, round(total * share)) for share in shares / shares.sum()]

    @property
    def name(self) -> str:
        """All names, with how many examples of an epoch each gives."""
        named = []
        for source, count in zip(self.sources, self._counts, strict=True):
            named.append(f"{source.name} ({count})")
        return ", ".join(named)

    @property
    def fingerprint(self) -> str:
        """Of all sources and their shares."""
        parts = [source.fingerprint for source in self.sources]
        return hashlib.sha256(f"{parts} {self._counts}".encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return sum(self._counts)

    def example(self, index: int) -> Example:
        """Numbers count through the sources: 0, 1, .. of the first, then those of the second."""
        place = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.sources[place].example(index - int(self._first[place]))

    def order(self, seed: int, epoch: int) -> Order:
        """The sources' own orders, interleaved at random; within a source its order is kept."""
        # Two sources, counts 2 and 4: the first gives a b, the second c d e f, and the turns may be 0 1 1 0 1 1:
        # the epoch is then a c d b e f.
        drawn = []
        for place, (source, count) in enumerate(zip(self.sources, self._counts, strict=True)):
            rounds = []
            for again in range(-(-count // len(source))):  # a source that is smaller than its share starts anew
                rounds.append(source.order(seed, epoch * 1000 + again))
            drawn.append(np.concatenate(rounds)[:count] + self._first[place])
        turns = np.repeat(np.arange(len(drawn)), self._counts)
        turns = np.random.default_rng([seed, epoch, 1]).permutation(turns)
        order = np.empty(len(turns), dtype=np.int64)
        for place, numbers in enumerate(drawn):
            order[turns == place] = numbers
        return order


def open_pairs(pairs: Any) -> Pairs:
    """What `train_retriever` is given, as `Pairs`.

    Args:
        pairs: A file or folder of rows, a data set's name on the hub, an evaluation set with pages, what `build_pairs`
            gives, a list of these, or a dict of these with weights: `{"mine": 0.7, "openbmb/...": 0.3}`.

    Raises:
        DatasetError: A source cannot be read, or has no pairs.
        SettingError: It is none of those.
    """
    opened: Pairs
    if isinstance(pairs, Mapping):
        opened = MixedPairs([open_pairs(source) for source in pairs], list(pairs.values()))
    elif isinstance(pairs, (list, tuple)):
        opened = MixedPairs([open_pairs(source) for source in pairs])
    elif isinstance(pairs, EvaluationSet):
        opened = pairs_of_set(pairs)
    elif isinstance(pairs, (str, Path)):
        opened = _open_path(pairs)
    elif hasattr(pairs, "example") and hasattr(pairs, "order"):
        opened = pairs
    else:
        raise SettingError(
            f"pairs is {type(pairs).__name__}; give a path, a data set's name on the hub, an evaluation set, "
            "what build_pairs gives, or a list of these."
        )
    if len(opened) == 0:
        raise DatasetError(opened.name, "holds no pair of a query and a page.")
    return opened


def pairs_of_set(questions: EvaluationSet) -> ListedPairs:
    """Every question with every page that is relevant to it.

    Raises:
        DatasetError: The set comes without pages, or none of them is relevant.
    """
    if not questions.pages:
        raise DatasetError(
            questions.name, "comes without pages. Say which documents it is about: build_pairs(documents, queries=set)."
        )
    examples = match_pages(questions, {page_key(page): page for page in questions.pages})
    return ListedPairs(questions.name, examples)


def match_pages(questions: EvaluationSet, pages: Mapping[str, Page]) -> list[Example]:
    """The questions' relevant pages among these (by `page_key`); those that are not there are left out, and said so.

    Raises:
        DatasetError: Not one is there.
    """
    examples: list[Example] = []
    lost: list[str] = []
    for question in questions.questions:
        for key, grade in questions.qrels.get(question.id, {}).items():
            if grade < 1:
                continue
            # A question may be about documents that were not given, or are held out.
            if key not in pages:
                lost.append(key)
                continue
            where = f"{questions.name}, question {question.id!r}, page {key!r}"
            examples.append(Example(question.text, (source_of(pages[key]),), where))
    if not examples:
        there = next(iter(pages), "none")
        wanted = lost[0] if lost else "none: it has no judgements"
        raise DatasetError(
            questions.name,
            f"no page it judges is among the pages given. It names pages like {wanted!r}; there are pages like "
            f"{there!r}. Give the documents that the questions were written for.",
        )
    if lost:
        logger.warning("%s: %d relevant pages are not there, for example %r.", questions.name, len(lost), lost[0])
    return examples


def source_of(page: Page) -> PageSource:
    """The page's picture, or its text where it has no picture."""
    if page.picture is not None:
        return page.picture
    return TextOfPage(page.text)


def _open_path(name: str | Path) -> Pairs:
    path = Path(name).expanduser()
    if not path.exists():
        path = download(str(name))
    # The layouts of test sets hold questions and pages in tables of their own; all else is rows of pairs.
    is_set = (path / "corpus").is_dir() or (path / "corpus.jsonl").is_file()
    if path.is_dir() and is_set:
        return pairs_of_set(load_evaluation_set(path, split="train"))
    return open_rows(path, str(name))
