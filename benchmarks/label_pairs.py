"""Labels and their values on drawn invoices: which pairs are called supported, true ones and crossed ones.

    python benchmarks/grounding.py --pairs 25 [--backend pdfium]

Each invoice has six to twelve labels with values (dates, numbers, amounts, names, words; one in ten has none) and some
lines of text. It is drawn by PyMuPDF, in a layout and in an order of painting, and read by `PageReader`. A true pair is
a label with its value; a crossed pair is a label with the value of another label of the page.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pymupdf

from visrag_integrations import PageReader
from visrag_integrations.grounding import ground_text
from visrag_integrations.types import Page

Rng = random.Random
LABELS = (
    "Invoice date", "Order date", "Due date", "Invoice number", "Order number", "Customer no.", "Tax number",
    "Contact", "Your reference", "Payment terms", "Ship to", "Colour", "Amount due", "Net total", "Weight",
    "Method of delivery", "Name of boat", "Home port", "Reg. No.", "Total amount including all taxes",
    "Phase 1", "Room 12", "Rechnungsdatum", "Date de la facture", "IBAN", "Status", "Discount", "Shape of the lid",
)  # fmt: skip
WORDS = ("dark red", "fairly round", "by ship", "on hold", "thirty days net", "paid", "none", "by courier, insured")
NAMES = ("Morning Heron", "Lower Quay", "Ida Brandt", "Northern Rope Works Ltd", "J. van Dam", "Ö. Åkesson", "Miller")
TEXT = ("One memory card, 16 GB", "Two coils of rope, 12 mm", "Thank you for your order", "Goods stay ours until paid")
LAYOUTS = ("label left", "label above", "two columns, label left", "two columns, label above")
ORDERS = ("as read", "value before label", "all labels, then all values", "by chance")


class Cell(NamedTuple):
    """A text, where it is drawn, and how large; nothing is drawn of an empty one."""

    x: float
    y: float
    text: str
    size: float = 11


class Invoice(NamedTuple):
    """Pairs of label and value, as they are drawn."""

    pairs: list[tuple[Cell, Cell]]
    others: list[Cell]


def value(rng: Rng) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return f"{rng.randint(1, 28):02}-{rng.randint(1, 12):02}-20{rng.randint(10, 39)}"
    if kind == 1:
        return str(rng.randint(10_000, 99_999_999))
    if kind == 2:
        return f"{rng.randint(1, 9)},{rng.randint(100, 999)}.{rng.randint(10, 99)}"
    if kind == 3:
        return f"{rng.choice(('AC', 'KX-', 'DE'))}{rng.randint(1000, 9_999_999)}"
    if kind == 4:
        return rng.choice(WORDS)
    return rng.choice(NAMES)


def draw_up(layout: str, rng: Rng) -> Invoice:
    """Where everything of an invoice stands, in points."""
    count = rng.randint(6, 12)
    labels = rng.sample(LABELS, count)
    values: list[str] = []
    while len(values) < count:
        new = value(rng)
        if new not in values:
            values.append(new)
    colon = rng.choice((":", ":", ""))
    columns = 2 if layout.startswith("two") else 1
    step = rng.uniform(15, 22)
    start = rng.uniform(90, 140)
    indent = rng.uniform(165, 200)
    to_the_right = columns == 1 and layout.endswith("left") and rng.random() < 0.3  # values end at one edge
    small = rng.choice((7, 9, 11, 11))  # labels are often smaller than values
    pairs: list[tuple[Cell, Cell]] = []
    for place, (label, said) in enumerate(zip(labels, values, strict=True)):
        if rng.random() < 0.1:
            said = ""
        row = place // columns
        x = 60 + (place % columns) * rng.choice((250, 250, 260))
        if layout.endswith("left"):
            y = start + row * step
            left = x + min(indent, 110 if columns == 2 else indent)
            if to_the_right:
                left = 520 - pymupdf.get_text_length(said, fontsize=11)
            where = Cell(left, y, said)
            label = label[:18].rstrip() if columns == 2 else label  # what does not fit is not drawn into the value
        else:
            y = start + row * (2 * step + 8)
            where = Cell(x, y + 13, said)
        pairs.append((Cell(x, y, label + colon, small), where))
    last = max(below.y for pair in pairs for below in pair)
    others = [Cell(60, 60, f"Invoice {rng.randint(1000, 9999)}")]
    for row, text in enumerate(rng.sample(TEXT, 3)):
        others.append(Cell(60, last + 40 + 16 * row, text))
    return Invoice(pairs, others)


def painted(invoice: Invoice, order: str, rng: Rng) -> list[Cell]:
    """The cells in the order in which they are painted."""
    title, *text = invoice.others
    if order == "as read":
        by_place = [cell for pair in invoice.pairs for cell in pair]
        return [title, *sorted(by_place, key=lambda cell: (cell.y, cell.x)), *text]
    if order == "value before label":
        return [title, *(cell for label, said in invoice.pairs for cell in (said, label)), *text]
    if order == "all labels, then all values":
        return [title, *(label for label, _ in invoice.pairs), *(said for _, said in invoice.pairs), *text]
    cells = [*invoice.others, *(cell for pair in invoice.pairs for cell in pair)]
    rng.shuffle(cells)
    return cells


def page_of(cells: Sequence[Cell], backend: str, folder: Path) -> Page:
    with pymupdf.open() as document:
        drawn = document.new_page(width=595, height=842)
        for cell in cells:
            if cell.text:
                drawn.insert_text((cell.x, cell.y), cell.text, fontsize=cell.size, fontname="helv")
        document.save(folder / "invoice.pdf")
    (page,) = PageReader(ocr="never", backend=backend).read(folder / "invoice.pdf")
    return page


def claim(label: Cell, said: Cell, rng: Rng) -> str:
    name = label.text.removesuffix(":")
    return rng.choice(("{}: {}", "{} {}", "{} : {}.", "**{}**: {}", "{} – {}")).format(name, said.text)


def measure(page: Page, invoice: Invoice, rng: Rng) -> Iterator[tuple[bool, str, bool]]:
    """Of each label its own value and another's: whether the pair is true, the evidence, whether it is supported."""
    for place, (label, said) in enumerate(invoice.pairs):
        others = [other for at, (_, other) in enumerate(invoice.pairs) if at != place and other.text]
        for is_true, told in ((True, said), (False, rng.choice(others))):
            if told.text:
                text = claim(label, told, rng)
                yield is_true, text, ground_text(page, text).verdict == "supported"


def print_table(invoices: int, backend: str, *, examples: bool = False) -> None:
    """How many pairs of each layout and order of painting are supported.

    Args:
        invoices: Of each layout and order.
        backend: Of the `PageReader`.
        examples: Print what went wrong, too.
    """
    rng = random.Random(16)
    wrong: list[str] = []
    totals = {True: [0, 0], False: [0, 0]}  # of true and of crossed pairs: how many, and how many are supported
    print(f"{'layout':<27}{'painted':<30}{'true pairs':>11}{'supported':>11}{'crossed':>9}{'supported':>11}")
    with tempfile.TemporaryDirectory() as folder:
        for layout, order in itertools.product(LAYOUTS, ORDERS):
            counts = {True: [0, 0], False: [0, 0]}
            for _ in range(invoices):
                invoice = draw_up(layout, rng)
                page = page_of(painted(invoice, order, rng), backend, Path(folder))
                for is_true, text, supported in measure(page, invoice, rng):
                    for count in (counts, totals):
                        count[is_true][0] += 1
                        count[is_true][1] += supported
                    if supported != is_true:
                        wrong.append(f"{layout}, {order}: {text!r} is {is_true}\n{page.text}\n")
            print(f"{layout:<27}{order:<30}{_cells(counts)}")
    print(f"{'all':<57}{_cells(totals)}")
    if examples:
        print("\n".join(wrong[:40]))


def _cells(counts: dict[bool, list[int]]) -> str:
    pairs, supported = counts[True]
    crossed, wrongly = counts[False]
    return f"{pairs:>11}{supported / max(1, pairs):>11.3f}{crossed:>9}{wrongly / max(1, crossed):>11.3f}"
