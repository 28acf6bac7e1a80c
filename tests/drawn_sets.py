"""Sets of ten pages, written in the layouts that the published ones have, and a search whose order is known by hand.

Page N is a red picture, redder the higher N is. The question "near 3.1" finds the pages in the order of |N - 3.1|:
3 4 2 5 1 6 0 7 8 9; "near 8.1": 8 9 7 6 5 4 3 2 1 0; "near 0.1": 0 1 2 3 4 5 6 7 8 9.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from visrag_integrations.types import Page, Query

COUNT = 10
# What stands in every layout: the question, its grades, its language. The scores are computed in the tests.
QUESTIONS = {
    0: ("near 3.1", {3: 1, 6: 2}, "english"),
    1: ("near 8.1", {7: 1}, "english"),
    2: ("near 0.1", {1: 1}, "french"),
}


class RedEmbedder:
    """A page by how red it is, a question by the number in it: near numbers have near vectors."""

    name: str = "red"
    kind: Literal["single"] = "single"
    dimension: int = 2

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        return [_direction(_number_of(page)) for page in pages]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Any]:
        found = []
        for query in queries:
            text = query if isinstance(query, str) else query.text
            found.append(_direction(float(re.findall(r"[\d.]+", text)[0])))
        return found


def _number_of(page: Page) -> float:
    with page.open_image() as image:
        pixel: Any = image.convert("RGB").getpixel((0, 0))
    return float(pixel[0]) / 10


def _direction(number: float) -> Any:
    # A tenth of a radian apart: ten of them stay within a quarter turn, where the cosine only falls.
    return np.array([np.cos(number / 10), np.sin(number / 10)], dtype=np.float32)


def png(number: int, size: tuple[int, int] = (20, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (10 * number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def picture(number: int) -> dict[str, Any]:
    """As `datasets` keeps one in a parquet file."""
    return {"bytes": png(number), "path": None}


def write_table(folder: Path, rows: list[dict[str, Any]], split: str = "test") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet", row_group_size=4)


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def write_card(folder: Path, split: str = "test") -> None:
    """The README by which `datasets` knows the tables, and which columns are pictures."""
    configs, infos = "configs:\n", "dataset_info:\n"
    for table in sorted(each.name for each in folder.iterdir() if each.is_dir()):
        configs += f"- config_name: {table}\n  data_files:\n  - split: {split}\n    path: {table}/{split}-*\n"
        for file in (folder / table).glob("*.parquet"):
            infos += f"- config_name: {table}\n  features:\n"
            for field in pq.read_schema(file):
                infos += _feature(field)
    (folder / "README.md").write_text(f"---\n{infos}{configs}---\n", encoding="utf-8")


def _feature(field: Any) -> str:
    """A column, as a card has it."""
    kinds = {"int64": "int64", "string": "string"}
    if field.name == "image":
        return "  - name: image\n    dtype: image\n"
    if str(field.type) in kinds:
        return f"  - name: {field.name}\n    dtype: {kinds[str(field.type)]}\n"
    if field.name == "bounding_boxes":
        inner = "".join(f"    - name: {side}\n      dtype: int64\n" for side in ("annotator", "x1", "x2", "y1", "y2"))
        return f"  - name: {field.name}\n    list:\n{inner}"
    return f"  - name: {field.name}\n    list: {field.type.value_type}\n"


def write_vidore_v1(folder: Path) -> Path:
    """As vidore/infovqa_test_subsampled_beir: ids are whole numbers, questions have nothing but their text."""
    write_table(folder / "corpus", [{"corpus-id": n, "image": picture(n)} for n in range(COUNT)])
    write_table(folder / "queries", [{"query-id": id_, "query": text} for id_, (text, _, _) in QUESTIONS.items()])
    write_table(folder / "qrels", _qrels("query-id", "corpus-id"))
    write_card(folder)
    return folder


def write_vidore_v2(folder: Path) -> Path:
    """As vidore/esg_reports_v2: a language for each question, a document for each page."""
    corpus = [{"corpus-id": n, "image": picture(n), "doc-id": f"report {n // 5}"} for n in range(COUNT)]
    write_table(folder / "corpus", corpus)
    queries = [
        {"query-id": id_, "query": text, "language": language, "source_type": "summary", "answer": f"answer {id_}"}
        for id_, (text, _, language) in QUESTIONS.items()
    ]
    write_table(folder / "queries", queries)
    write_table(folder / "qrels", _qrels("query-id", "corpus-id"))
    write_card(folder)
    return folder


def write_vidore_v3(folder: Path) -> Path:
    """As vidore/vidore_v3_hr: the columns of its card."""
    corpus = [
        {
            "corpus_id": n,
            "image": picture(n),
            "doc_id": f"report_{n // 5}",
            "markdown": f"# Page {n}",
            "page_number_in_doc": n % 5,
        }
        for n in range(COUNT)
    ]
    write_table(folder / "corpus", corpus)
    types = {0: ["numerical", "multi-hop"], 1: ["extractive"], 2: ["numerical"]}
    queries = [
        {
            "query_id": id_,
            "query": text,
            "language": language,
            "query_types": types[id_],
            "query_format": "question",
            "content_type": ["Table"],
            "raw_answers": [f"raw {id_}"],
            "query_generator": "human",
            "answer": f"answer {id_}",
        }
        for id_, (text, _, language) in QUESTIONS.items()
    ]
    write_table(folder / "queries", queries)
    qrels = _qrels("query_id", "corpus_id")
    for row in qrels:
        row["content_type"] = ["Table"]
        row["bounding_boxes"] = [
            {"annotator": 0, "x1": 2, "x2": 10, "y1": 4, "y2": 20},
            {"annotator": 1, "x1": 0, "x2": 20, "y1": 0, "y2": 40},
        ]
    write_table(folder / "qrels", qrels)
    write_table(folder / "documents_metadata", [{"doc_id": "report_0", "license": "cc"}])
    write_card(folder)
    return folder


def write_mteb_languages(folder: Path) -> Path:
    """As vidore/vidore_v3_hr_mteb_format: the whole corpus once for each language."""
    for language in ("english", "french"):
        corpus = [{"image": picture(n), "id": f"corpus-test-{n}"} for n in range(COUNT)]
        write_table(folder / f"{language}-corpus", corpus)
        asked = {id_: row for id_, row in QUESTIONS.items() if row[2] == language}
        queries = [
            {"language": language, "id": f"query-test-{id_}", "text": text} for id_, (text, _, _) in asked.items()
        ]
        write_table(folder / f"{language}-queries", queries)
        qrels = []
        for id_, (_, grades, _) in asked.items():
            for page, grade in grades.items():
                row = {"query-id": f"query-test-{id_}", "corpus-id": f"corpus-test-{page}", "score": grade}
                qrels.append(row)
        write_table(folder / f"{language}-qrels", qrels)
    write_card(folder)
    return folder


def write_mteb_default(folder: Path) -> Path:
    """As mteb's one-language sets: the judgements are the table "default"."""
    write_table(folder / "corpus", [{"id": f"d{n}", "image": picture(n), "text": f"words {n}"} for n in range(COUNT)])
    write_table(folder / "queries", [{"id": f"q{id_}", "text": text} for id_, (text, _, _) in QUESTIONS.items()])
    qrels = [
        {"query-id": f"q{id_}", "corpus-id": f"d{page}", "score": grade}
        for id_, (_, grades, _) in QUESTIONS.items()
        for page, grade in grades.items()
    ]
    write_table(folder / "default", qrels)
    write_card(folder)
    return folder


def write_mmdocir(folder: Path) -> Path:
    """As mteb/MMDocIRT2ITRetrieval: a corpus for each domain, with ids that repeat, and candidates; split "train"."""
    for domain, numbers in {"laws": range(6), "news": range(4, COUNT)}.items():
        corpus = [{"id": str(place), "image": picture(n), "text": f"words {n}"} for place, n in enumerate(numbers)]
        write_table(folder / f"{domain}-corpus", corpus, "train")
        write_table(folder / f"{domain}-queries", [{"id": "0", "text": "near 4.1"}], "train")
        # Page 5: of the laws the sixth, of the news the second.
        right = str(list(numbers).index(5))
        write_table(folder / f"{domain}-qrels", [{"query-id": "0", "corpus-id": right, "score": 1}], "train")
        among = {"laws": ["1", "2", "3", "5"], "news": ["1", "2", "3", "4"]}[domain]
        write_table(folder / f"{domain}-top_ranked", [{"query-id": "0", "corpus-ids": among}], "train")
    write_card(folder, "train")
    return folder


def write_vidoseek(folder: Path) -> Path:
    """As VLM2Vec/ViDoSeek: `corpus_range` is the pages that a question is asked of; the others of them have grade 0."""
    write_table(folder / "corpus", [{"corpus-id": n, "image": picture(n)} for n in range(COUNT)])
    queries = [
        {"query-id": 0, "query": "near 3.1", "corpus_range": [4, 5, 6, 9]},
        {"query-id": 1, "query": "near 8.1", "corpus_range": [0, 7]},
    ]
    write_table(folder / "queries", queries)
    qrels = []
    for id_, right, among in ((0, 6, (4, 5, 6, 9)), (1, 7, (0, 7))):
        qrels += [{"query-id": id_, "corpus-id": page, "score": int(page == right)} for page in among]
    write_table(folder / "qrels", qrels)
    write_card(folder)
    return folder


def _qrels(question: str, page: str) -> list[dict[str, Any]]:
    rows = []
    for id_, (_, grades, _) in QUESTIONS.items():
        for number, grade in grades.items():
            rows.append({question: id_, page: number, "score": grade})
    return rows
