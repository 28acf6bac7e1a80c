"""How well the evidence of answers is outlined: box F1 on pages that are drawn here, so that the right boxes are known.

    python benchmarks/evidence_boxes.py DIR [--generator extractive] [--embedder ocr]
    visrag eval answers DIR/questions.jsonl --documents DIR/text-layer --generator YOURS    # another row for the table

DIR gets the set: ten reports of four pages, once as PDFs with a text layer and once as scans (PNG, for OCR), and
`questions.jsonl` with answers and right boxes. A page has a paragraph, a table and a list about one harbour; the same
sentences stand on the other pages with other names and numbers. Half of a question's words are not the page's. A right
box is what a reader would mark: the lines of the sentence, the row of the table, the item of the list. A seventh of the
questions asks for a harbour that is nowhere.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymupdf

from visrag_integrations import PageRetriever, QdrantPageStore, VisRAG, index_documents, load_embedder, load_generator
from visrag_integrations.evaluation import (
    EvaluationResult,
    comparison_table,
    evaluate_answers,
    evaluate_evidence,
    load_evaluation_set,
)
from visrag_integrations.grounding import ground
from visrag_integrations.types import Answer, Evidence, Grounding

WIDTH, HEIGHT, SIZE, LINE = 595, 842, 11, 15
MARGIN = 2  # points between the letters and a right box, as by a careful hand
SCAN_DPI = 150
STEMS = ("Alder", "Brack", "Esk", "Hart", "Lyme", "Norr", "Tarn", "Vex")
ENDINGS = ("by", "holm", "mouth", "vik", "haven")
NAMES = [stem + ending for stem in STEMS for ending in ENDINGS]
ABSENT = ("Braxton", "Corwen", "Dorvik", "Elstree", "Fallmouth", "Greyvale")
METRICS = ("accuracy", "f1")
GOODS = ("timber", "barley", "slate", "herring", "coal", "wool")


@dataclass(frozen=True)
class Fact:
    """A question, its answer, and where on the page it stands."""

    kind: str
    question: str
    answer: str
    boxes: list[list[float]]


class Sheet:
    """A page that remembers where its lines are."""

    def __init__(self, document: Any) -> None:
        self.page = document.new_page(width=WIDTH, height=HEIGHT)
        self.y = 70.0

    def line(self, text: str, x: float = 60, size: float = SIZE, gap: float = LINE) -> list[float]:
        """One line; its box as fractions of the page."""
        self.page.insert_text((x, self.y), text, fontsize=size, fontname="helv")
        right = x + pymupdf.get_text_length(text, fontname="helv", fontsize=size)
        box = _box(x, self.y - 0.75 * size, right, self.y + 0.22 * size)
        self.y += gap
        return box

    def row(self, cells: list[str]) -> list[float]:
        """One row of a table with lines around it."""
        for place, cell in enumerate(cells):
            self.page.insert_text((66 + 150 * place, self.y), cell, fontsize=SIZE, fontname="helv")
        top, bottom = self.y - 12, self.y + 5
        self.page.draw_rect(pymupdf.Rect(60, top, 60 + 150 * len(cells), bottom), width=0.5)
        self.y += 17
        return _box(60, top, 60 + 150 * len(cells), bottom)


def _box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [
        (left - MARGIN) / WIDTH,
        (top - MARGIN) / HEIGHT,
        (right + MARGIN) / WIDTH,
        (bottom + MARGIN) / HEIGHT,
    ]


def draw(document: Any, name: str, chance: random.Random) -> Iterator[Fact]:
    """A page about one harbour, and what can be asked of it."""
    sheet = Sheet(document)
    sheet.line(f"{name}: annual harbour report", size=18, gap=34)
    boats, depth, founded = chance.randint(20, 900), chance.randint(4, 28), chance.randint(1720, 1960)
    sheet.line("This report was drawn up by the harbour office. All numbers are those of the last full year.")
    first = sheet.line(
        f"At the end of the year {boats} sailing boats were registered at {name}, which is more than the"
    )
    second = sheet.line("office had expected after the storms of the spring.")
    yield Fact("prose", f"How many vessels with sails are on the register in {name}?", str(boats), [first, second])
    dug = sheet.line(f"The main basin of {name} was dug in {founded}.")
    yield Fact("prose", f"In which year was the principal basin at {name} made?", str(founded), [dug])
    sheet.line("Winter work on the eastern wall will be finished by the same crew as before.", gap=30)
    sheet.line(f"Cargo through {name}", size=13, gap=22)
    sheet.row(["Goods", "Tonnes in", "Tonnes out"])
    asked = chance.sample(GOODS, 2)
    for goods in GOODS:
        tonnes = [str(chance.randint(100, 9_999)) for _ in range(2)]
        box = sheet.row([goods, *tonnes])
        if goods in asked:
            yield Fact("table", f"Tonnes in of {goods} at the port of {name}?", tonnes[0], [box])
    sheet.y += 20
    sheet.line("Rules for guests", size=13, gap=22)
    fee, hours = chance.randint(9, 80), chance.randint(2, 30)
    paid = sheet.line(f"-  Berth fee in {name}: {fee} crowns a night", x=72)
    yield Fact("list", f"What does a night at a berth cost in {name}?", f"{fee} crowns", [paid])
    sheet.line("-  Dogs on a lead", x=72)
    deep = sheet.line(f"-  Greatest draught at the {name} quay: {depth} metres", x=72)
    yield Fact("list", f"How much draught may a boat have at the quay of {name}?", f"{depth} metres", [deep])
    sheet.line(f"-  Office open {hours} hours a week", x=72)


def write_set(folder: Path) -> None:
    """Both forms of the documents, and the questions."""
    chance = random.Random(20261127)
    for name in ("text-layer", "scans"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number in range(10):
        with pymupdf.open() as document:
            for page, name in enumerate(NAMES[4 * number : 4 * number + 4], start=1):
                for fact in draw(document, name, chance):
                    rows.append(row_of(fact, number, page))
                document[page - 1].get_pixmap(dpi=SCAN_DPI).save(folder / "scans" / f"report-{number}-{page}.png")
            document.save(folder / "text-layer" / f"report-{number}.pdf")
    for name in ABSENT:
        for text in (f"How many vessels with sails are on the register in {name}?", f"Tonnes in of wool at {name}?"):
            rows.append({"id": f"q{len(rows)}", "query": text, "answerable": False, "group": "nowhere"})
    for place, row in enumerate(rows):
        row["id"] = f"q{place}"
    write(folder / "questions.jsonl", rows)
    write(folder / "questions-scans.jsonl", [{**row, **on_scans(row)} for row in rows])


def row_of(fact: Fact, number: int, page: int) -> dict[str, Any]:
    key = f"report-{number}.pdf#page={page}"
    return {
        "query": fact.question,
        "answers": [fact.answer],
        "relevant": [key],
        "group": fact.kind,
        "boxes": [[key, *box] for box in fact.boxes],
    }


def on_scans(row: dict[str, Any]) -> dict[str, Any]:
    """The same places in the pictures: report-3.pdf#page=2 is report-3-2.png#page=1."""
    if "boxes" not in row:
        return {}
    document, _, page = row["relevant"][0].partition(".pdf#page=")
    key = f"{document}-{page}.png#page=1"
    return {"relevant": [key], "boxes": [[key, *box[1:]] for box in row["boxes"]]}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def measure(folder: Path, form: str, questions: str, options: argparse.Namespace) -> None:
    """The whole system, with three pages and with one; the same where the right page is given; whole pages as boxes."""
    dataset = load_evaluation_set(folder / questions)
    # Without a relevant page there is nothing to give.
    answerable = replace(dataset, questions=tuple(question for question in dataset.questions if question.answerable))
    embedder, generator = load_embedder(options.embedder), load_generator(options.generator)
    with QdrantPageStore(folder / f"index-{form}") as store:
        index_documents([folder / form], store=store, embedder=embedder)
        rag = VisRAG(PageRetriever(embedder, store), generator)
        three = evaluate_answers(dataset, rag, METRICS, ground=ground, top_k=3)
        one = evaluate_answers(dataset, rag, METRICS, ground=ground, top_k=1)
        given = evaluate_answers(answerable, rag, METRICS, ground=ground, pages="relevant")
        for result in (three, one, given):
            print(f"\n== {form}\n{result}")
            print_groups(result)
        if one.evidence and three.evidence:
            print(f"\n{comparison_table(one.evidence.compare(three.evidence), 'one page', 'three pages')}")
        print(f"\n== {form}, the whole of the page that was found first\n{whole_pages(dataset, rag.retriever)}")


def print_groups(result: EvaluationResult) -> None:
    """Box F1 by kind of question."""
    values = result.evidence.values["box-f1"] if result.evidence else {}
    for kind, ids in result.groups.items():
        of_kind = [values[id_] for id_ in ids if id_ in values]
        if of_kind:
            print(f"box-f1 of {kind}: {sum(of_kind) / len(of_kind):.3f} ({len(of_kind)} questions)")


def whole_pages(dataset: Any, retriever: Any) -> str:
    """What a system gets that only names a page: what the box rows have to be compared with."""
    answers: dict[str, Answer] = {}
    everything = Grounding("supported", 1.0, ((0.0, 0.0, 1.0, 1.0),))
    for question in dataset.questions:
        (hit,) = retriever.retrieve(question.text, 1)
        answers[question.id] = Answer("", evidence=(Evidence(1, "", page=hit.page, grounding=everything),))
    scores = evaluate_evidence(answers, dataset)
    return "\n".join(f"{metric}: {scores.metrics[metric]:.3f}" for metric in scores.metrics if metric.startswith("box"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--generator", default="extractive")
    parser.add_argument("--embedder", default="ocr")
    options = parser.parse_args()
    write_set(options.folder)
    measure(options.folder, "text-layer", "questions.jsonl", options)
    measure(options.folder, "scans", "questions-scans.jsonl", options)


if __name__ == "__main__":
    main()
