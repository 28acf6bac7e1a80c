"""Where pairs come from, in which order they are seen, and pairs of your own documents with hard negatives."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from PIL import Image
from quads import all_quads, draw, quads_set, query_of

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation import EvaluationSet, Question
from visrag_integrations.training import build_pairs
from visrag_integrations.training import rows as rows_module
from visrag_integrations.training.examples import Example, TextOfPage
from visrag_integrations.training.mining import Ask, mine_negatives
from visrag_integrations.training.pairs import ListedPairs, open_pairs
from visrag_integrations.training.stream import PairPreparer, PairStream
from visrag_integrations.types import Page

QUADS = all_quads()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_parquet(path: Path, count: int, *, first: int = 0, group: int = 100, **columns: list[Any]) -> Path:
    """As the published files are: `query`, `image` (a struct of bytes and path), `source`."""
    quads = QUADS[first : first + count]
    images = [{"bytes": png(draw(quad)), "path": f"{number}.png"} for number, quad in enumerate(quads)]
    table = {"query": [query_of(quad) for quad in quads], "image": images, "source": ["quads"] * count, **columns}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path, row_group_size=group)
    return path


def queries_of(pairs: Any) -> list[str]:
    return [pairs.example(index).query for index in range(len(pairs))]


def test_published_layout(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_parquet(tmp_path / "0.parquet", 5, group=2)
    write_parquet(tmp_path / "1.parquet", 3, first=5)
    (tmp_path / "metadata.json").write_text('{"length": 8}')
    pairs = open_pairs(tmp_path)
    assert queries_of(pairs) == [query_of(quad) for quad in QUADS[:8]]
    example = pairs.example(4)
    assert example.where == f"{tmp_path / '0.parquet'}, row 5"
    assert example.pages == (png(draw(QUADS[4])),)
    assert not caplog.records
    (tmp_path / "metadata.json").write_text('{"length": 9}')
    open_pairs(str(tmp_path))
    assert "says 9 rows, and there are 8" in caplog.text


def test_jsonl_with_files_data_urls_and_texts(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(png(draw(QUADS[0])))
    rows: list[Any] = [
        {"query": "a", "image": "page.png"},
        {"query": "b", "text": "words"},
        {"query": "c"},
        {"query": " ", "text": "words"},
        {"query": "e", "image": "../../etc/passwd"},
        {"query": "f", "image": "https://example.org/page.png"},
    ]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines[:2], "{not json", *lines[2:]]) + "\n")
    pairs = open_pairs(tmp_path / "pairs.jsonl")
    assert len(pairs) == 7
    assert pairs.example(0).pages == (tmp_path / "page.png",)
    assert pairs.example(1).pages == (TextOfPage("words"),)
    for index, says in (
        (2, "no JSON"),
        (3, "neither a picture"),
        (4, "no query"),
        (5, "refused"),
        (6, "no path|refused"),
    ):
        with pytest.raises(DatasetError, match=says) as caught:
            pairs.example(index)
        assert f"row {index + 1}" in caught.value.source


def test_hard_negatives_are_a_column(tmp_path: Path) -> None:
    others = [[{"bytes": png(draw(quad)), "path": ""} for quad in QUADS[10:12]] for _ in range(4)]
    others[2] = others[2][:1]
    pairs = open_pairs(write_parquet(tmp_path / "0.parquet", 4, negatives=others))
    assert pairs.negatives == 2
    assert [len(pairs.example(index).pages) for index in (0, 1, 3)] == [3, 3, 3]
    with pytest.raises(DatasetError, match="fewer than the 2 hard negatives"):
        pairs.example(2)


def test_a_broken_row_group_is_broken_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "0.parquet", 6, group=3)
    metadata = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    place = metadata.dictionary_page_offset or metadata.data_page_offset
    data[place : place + 40] = b"\xff" * 40
    path.write_bytes(data)
    pairs = open_pairs(path)
    assert pairs.example(2).query == query_of(QUADS[2])
    with pytest.raises(DatasetError, match="row group cannot be read"):
        pairs.example(3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: root / "nothing_there", "no such file"),
        (lambda root: root, r"no \.parquet or \.jsonl"),
        (lambda root: (root / "a.parquet").write_bytes(b"PAR1 no") and root, "no parquet file"),
        (lambda root: pq.write_table(pa.table({"question": ["a"]}), root / "a.parquet") or root, "has the columns"),
        (lambda root: 3, "pairs is int"),
        (lambda root: [], "empty list"),
        (lambda root: EvaluationSet("bare", (Question("1", "a"),), {"1": {"p": 1}}), "comes without pages"),
    ],
)
def test_what_is_no_source_of_pairs(tmp_path: Path, make: Any, says: str) -> None:
    with pytest.raises((DatasetError, SettingError), match=says):
        open_pairs(make(tmp_path))


def test_an_epoch_has_every_row_once_in_an_order_of_the_seed(tmp_path: Path) -> None:
    pairs = open_pairs(write_parquet(tmp_path / "0.parquet", 50, group=10))
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        assert sorted(pairs.order(seed, epoch)) == list(range(50))
    assert list(pairs.order(0, 0)) == list(pairs.order(0, 0))
    assert list(pairs.order(0, 0)) != list(pairs.order(0, 1)) != list(pairs.order(1, 0))
    # All of a small file is shuffled, not its row groups only.
    assert len({number // 10 for number in pairs.order(0, 0)[:10]}) > 2


def test_a_large_file_is_shuffled_by_windows_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "0.parquet", 80, group=10)
    size = pq.ParquetFile(path).metadata.row_group(0).total_byte_size
    monkeypatch.setattr(rows_module, "WINDOW", 2 * size + size // 2)
    pairs: Any = open_pairs(path)
    order = pairs.order(0, 0)
    assert sorted(order) == list(range(80))
    windows = [Counter(int(number) // 10 for number in order[start : start + 20]) for start in range(0, 80, 20)]
    assert all(len(window) == 2 for window in windows)  # two row groups at a time, whole
    for number in order:
        pairs.example(int(number))
        assert len(pairs._kept) <= 5


def test_sources_are_mixed_by_weight(tmp_path: Path) -> None:
    one = write_parquet(tmp_path / "one" / "0.parquet", 30)
    two = write_parquet(tmp_path / "two" / "0.parquet", 10, first=1000)
    both = open_pairs([str(one.parent), two.parent])
    assert len(both) == 40
    assert sorted(both.order(0, 0)) == list(range(40))
    weighted = open_pairs({str(one.parent): 1.0, str(two.parent): 3.0})
    order = [int(number) for number in weighted.order(0, 0)]
    assert len(order) == 40
    assert sum(number >= 30 for number in order) == 30  # three of four from the small one, each row three times
    assert Counter(order)[35] == 3
    assert 4 < sum(number >= 30 for number in order[:10]) < 10  # interleaved
    assert weighted.example(35).query == query_of(QUADS[1005])
    assert weighted.fingerprint != both.fingerprint
    with pytest.raises(SettingError, match="above 0"):
        open_pairs({str(one): 0.0})


def test_evaluation_sets_are_pairs() -> None:
    pairs = open_pairs(quads_set(QUADS[:5], "quads"))
    assert queries_of(pairs) == [query_of(quad) for quad in QUADS[:5]]
    nothing = EvaluationSet("lost", (Question("1", "a"),), {"1": {"other.pdf#page=1": 1}}, (Page("d", 1, text="t"),))
    with pytest.raises(DatasetError, match=r"'other\.pdf#page=1'.*'d#page=1'"):
        open_pairs(nothing)


def stream_of(pairs: Any, **values: Any) -> PairStream:
    settings: dict[str, Any] = {"batch_size": 4, "micro_batch": 2, "seed": 0, **values}
    return PairStream(pairs, PairPreparer(str, lambda image: image.size, str), **settings)


def test_devices_share_a_batch_and_an_epoch_ends_on_a_whole_one() -> None:
    pairs = ListedPairs("p", [Example(str(n), (TextOfPage(str(n)),), f"row {n}") for n in range(11)])
    alone = stream_of(pairs)
    shares = [stream_of(pairs, rank=rank, world=2) for rank in range(2)]
    seen: list[int] = []
    for step in range(4):
        assert [*shares[0].numbers(step), *shares[1].numbers(step)] == alone.numbers(step)
        seen += alone.numbers(step)
    assert len(set(seen[:8])) == 8  # two whole batches of 11
    assert seen[8:] != seen[:8]  # another order in the next epoch
    batch = alone.batch(0)
    assert [len(part.queries) for part in batch] == [2, 2]
    with pytest.raises(SettingError, match="must be a multiple"):
        stream_of(pairs, world=3)
    for stream in (alone, *shares):
        stream.close()


def test_equal_pages_have_equal_ids_wherever_they_come_from(tmp_path: Path) -> None:
    file = png(draw(QUADS[0]))
    (tmp_path / "a.png").write_bytes(file)
    sources: list[Any] = [file, tmp_path / "a.png", lambda: file, png(draw(QUADS[1])), TextOfPage("a")]
    pairs = ListedPairs("p", [Example("q", (source,), "row") for source in sources])
    preparer = PairPreparer(str, lambda image: image.size, str)
    ids = [preparer.ready(pairs, index).page_ids[0] for index in range(5)]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids)) == 3
    with pytest.raises(DatasetError, match="this network's pages are pictures"):
        PairPreparer(str, lambda image: image.size).ready(pairs, 4)


def folder_of(root: Path, documents: int) -> tuple[Path, EvaluationSet]:
    """PDFs of two pages, and a question about each page."""
    questions: list[Question] = []
    qrels: dict[str, dict[str, int]] = {}
    for number in range(documents):
        draw_pdf(root / f"{number}.pdf", [f"Report {number} page one", f"Report {number} page two"])
        for page in (1, 2):
            id_ = f"q{number}-{page}"
            questions.append(Question(id_, f"What does report {number} say on page {page}?"))
            qrels[id_] = {f"{number}.pdf#page={page}": 1}
    return root, EvaluationSet("made", tuple(questions), qrels)


def test_documents_are_split_and_drawn_when_needed(tmp_path: Path) -> None:
    folder, queries = folder_of(tmp_path, 10)
    train, held_out = build_pairs(folder, queries, held_out=0.2)
    assert held_out is not None
    assert (len(train), len(held_out.questions), len(held_out.pages)) == (16, 4, 4)
    held = {page.doc_id for page in held_out.pages}
    assert len(held) == 2
    # A question and its page are on the same side.
    keys = {key for judged in held_out.qrels.values() for key in judged}
    assert not any(key in example.where for key in keys for example in train.examples)
    assert held_out.pages[0].open_image().size[0] > 100
    again, _ = build_pairs(folder, queries, held_out=0.2)
    assert again.fingerprint == train.fingerprint
    other, _ = build_pairs(folder, queries, held_out=0.2, seed=1)
    assert other.fingerprint != train.fingerprint
    everything, none = build_pairs(folder, queries, held_out=0)
    assert (len(everything), none) == (20, None)


def test_a_document_that_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, queries = folder_of(tmp_path, 3)
    (folder / "1.pdf").write_bytes(b"%PDF-1.7 broken")
    train, _ = build_pairs(folder, queries, held_out=0)
    assert len(train) == 4
    assert "1.pdf" in caplog.text
    assert "2 relevant pages are not there" in caplog.text


def test_what_cannot_be_split(tmp_path: Path) -> None:
    folder, queries = folder_of(tmp_path, 1)
    with pytest.raises(SettingError, match="one document only"):
        build_pairs(folder, queries)
    with pytest.raises(SettingError, match="held_out 1"):
        build_pairs(folder, queries, held_out=1)
    with pytest.raises(DatasetError, match="no page it judges"):
        build_pairs(folder, EvaluationSet("x", (Question("1", "a"),), {"1": {"b.pdf#page=1": 1}}), held_out=0)


class ByAngle:
    """Vectors in the plane: a query at 0 degrees, a page where its name says."""

    name, kind, dimension = "angles", "single", 2

    def __init__(self, angles: dict[str, float]) -> None:
        self.angles = angles

    def embed_pages(self, pages: Any) -> list[Any]:
        return [self._at(self.angles[page.doc_id]) for page in pages]

    def embed_queries(self, queries: Any) -> list[Any]:
        return [self._at(0.0) for _ in queries]

    def _at(self, degrees: float) -> Any:
        return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], dtype=np.float32)


def test_negatives_are_the_best_wrong_pages_below_the_right_one() -> None:
    # Scores are cosines: 0.95 of the right page's 0.866 is 0.823, which lies between 34 and 35 degrees.
    angles = {"right": 30.0, "better": 10.0, "as good": 34.0, "hard": 36.0, "easy": 80.0, "other side": 170.0}
    pages = {page.id: page for page in (Page(name, 1, text=name) for name in angles)}
    embedder: Any = ByAngle(angles)
    right = next(page for page in pages.values() if page.doc_id == "right")
    ask = Ask("?", right, frozenset({right.id}))
    mined = mine_negatives([ask], pages, embedder, 2, progress=False)
    assert [page.doc_id for page in mined[0]] == ["hard", "easy"]
    # Three wrong pages are left; where more are asked for, even those that look right have to do.
    names = [page.doc_id for page in mine_negatives([ask], pages, embedder, 5, progress=False)[0]]
    assert names[:3] == ["hard", "easy", "other side"]
    assert set(names[3:]) == {"better", "as good"}
    with pytest.raises(SettingError, match="Ask for fewer"):
        mine_negatives([ask], pages, embedder, 6, progress=False)


def test_build_pairs_with_negatives(tmp_path: Path) -> None:
    folder, queries = folder_of(tmp_path, 4)
    train, _ = build_pairs(folder, queries, negatives=3, held_out=0, embedder=PixelEmbedder(), progress=False)
    assert train.negatives == 3
    for example in train.examples:
        drawn = [(page.document.name, page.number) for page in example.pages]  # type: ignore[union-attr]
        assert len(set(drawn)) == 4
        assert example.where.endswith(f"'{Path(drawn[0][0]).name}#page={drawn[0][1]}'")
