"""Labels and values are paired by their places on the page, whatever order the file has them in."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from visrag_integrations import PageReader
from visrag_integrations.generation.passages import best_passages
from visrag_integrations.grounding import ground_text
from visrag_integrations.grounding.cells import PageCells
from visrag_integrations.types import Page, Word

CASES = Path(__file__).parent / "data" / "cases"
LINE = 0.04
LETTER = 0.01


def words_of(text: str, left: float, row: float) -> list[Word]:
    """The words of a cell, each letter 0.01 of the width."""
    words = []
    for word in text.split(" "):
        words.append(Word(word, (left, row * LINE, left + LETTER * len(word), row * LINE + 0.03)))
        left += LETTER * (len(word) + 1)
    return words


def page_of(*cells: tuple[str, float, float]) -> Page:
    """Cells as (text, left, row), painted in this order."""
    words = [word for cell in cells for word in words_of(*cell)]
    return Page("d", 1, words=tuple(words))


def verdict(page: Page, text: str) -> str:
    return ground_text(page, text).verdict


@pytest.fixture(scope="module")
def invoice() -> Page:
    (page,) = PageReader(ocr="never").read(CASES / "label-after-value" / "invoice.pdf")
    return page


@pytest.mark.parametrize(
    "text",
    ["Invoice date: 20-10-2031", "Order date: 15-10-2031", "Tax number: AC8725001", "Customer no. 29670869"],
)
def test_a_value_beside_its_label_is_supported(invoice: Page, text: str) -> None:
    found = ground_text(invoice, text)
    assert (found.verdict, found.support) == ("supported", 1.0)
    assert len(found.boxes) == 2
    assert found.boxes[0][1] == pytest.approx(found.boxes[1][1], abs=0.005)


@pytest.mark.parametrize(
    "text",
    [
        "Order date: 20-10-2031",
        "Invoice date: 29670869",
        "Customer no.: AC8725001",
        "Customer no. AC8725001",
        "Invoice date:\n29670869",
        "Invoice date: 15-10-2031",
        "Tax number: One memory card",
        "Order date: 20-10-2031 Invoice date: 29670869",
    ],
)
def test_a_value_of_another_label_is_not_supported(invoice: Page, text: str) -> None:
    assert verdict(invoice, text) == "partly"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hull number: KX-4471", "supported"),
        ("Name of boat: Morning Heron", "supported"),
        ("Home port: Lower Quay", "supported"),
        ("Hull number: Morning Heron", "partly"),
        ("Home port: Morning Heron", "partly"),
        ("Name of boat: Lower Quay", "partly"),
    ],
)
def test_fields_of_a_form(text: str, expected: str) -> None:
    (page,) = PageReader(ocr="never").read(CASES / "filled-form" / "form.pdf")
    assert verdict(page, text) == expected


PAIRS = (
    ("Invoice date:", "20-10-2031"),
    ("Ship to:", "Lower Quay"),
    ("Colour:", "dark red"),
    ("Shape of the lid:", "fairly round"),
    ("Room 12:", "Miller"),
    ("Amount due:", "1,234.50"),
)
LAYOUTS = {
    "left": [((0.1, row), (0.4, row)) for row in range(6)],
    "above": [((0.1, 3 * row), (0.1, 3 * row + 1)) for row in range(6)],
    "two columns": [((0.05 + 0.5 * (n % 2), n // 2), (0.3 + 0.5 * (n % 2), n // 2)) for n in range(6)],
    "three columns, above": [
        ((0.05 + 0.3 * (n % 3), 4 * (n // 3)), (0.05 + 0.3 * (n % 3), 4 * (n // 3) + 1)) for n in range(6)
    ],
    "value a little lower": [((0.1, 2 * row), (0.4, 2 * row + 0.2)) for row in range(6)],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(6))
def test_pairs_painted_in_any_order(layout: str, seed: int) -> None:
    cells = []
    for (label, value), (where, at) in zip(PAIRS, LAYOUTS[layout], strict=True):
        cells += [(label, *where), (value, *at)]
    if seed == 0:
        cells = cells[::2] + cells[1::2]  # all labels, then all values
    elif seed == 1:
        cells.reverse()
    else:
        random.Random(seed).shuffle(cells)
    page = page_of(*cells)
    for label, _ in PAIRS:
        for other, value in PAIRS:
            expected = label == other
            assert (verdict(page, f"{label} {value}") == "supported") == expected, (label, value)


def test_arabic_labels_stand_right_of_their_values() -> None:
    page = page_of(("1234", 0.3, 0), ("رقم الفاتورة:", 0.6, 0), ("5678", 0.3, 1), ("رقم العميل:", 0.6, 1))
    words = {word.text: word for word in page.words}
    # In a right-to-left line the first word of the label stands right of the second.
    swapped = []
    for one, two in (("رقم", "الفاتورة:"), ("رقم", "العميل:")):
        row = words[two].box
        swapped += [Word(one, (0.75, row[1], 0.78, row[3])), Word(two, (0.6, row[1], 0.74, row[3]))]
    page = Page("d", 1, words=(words["1234"], *swapped[:2], words["5678"], *swapped[2:]))
    assert verdict(page, "رقم الفاتورة: 1234") == "supported"
    assert verdict(page, "رقم العميل: 5678") == "supported"
    assert verdict(page, "رقم الفاتورة: 5678") == "partly"


def test_a_label_without_a_value_has_none() -> None:
    page = page_of(
        ("Paid by:", 0.1, 0), ("Ship to:", 0.1, 1), ("Lower Quay", 0.4, 1), ("Colour:", 0.1, 2), ("red", 0.4, 2)
    )
    assert verdict(page, "Paid by: Lower Quay") == "partly"
    assert verdict(page, "Ship to: Lower Quay") == "supported"


def test_a_number_of_a_row_and_a_column_stays_partly() -> None:
    header = [("Year", 0.1, 0), ("2018", 0.3, 0), ("2019", 0.4, 0)]
    rows = [("Revenue", 0.1, 1), ("40", 0.3, 1), ("45", 0.4, 1), ("Costs", 0.1, 2), ("30", 0.3, 2), ("31", 0.4, 2)]
    page = page_of(*header, *rows)
    assert verdict(page, "Revenue: 40") == "supported"
    assert verdict(page, "Revenue in 2019: 45") == "partly"
    assert verdict(page, "Revenue: 45") == "partly"
    assert verdict(page, "Costs: 40") == "partly"


def test_prose_in_two_columns_goes_on_in_the_next() -> None:
    left = ("The hedges along the canal are", "cut in October and in spring by", "the gardener of the upper town")
    right = ("who also waters the lime trees", "of the market every evening and", "is paid by the parish for that")
    cells = [(line, 0.05, row) for row, line in enumerate(left)]
    cells += [(line, 0.55, row) for row, line in enumerate(right)]
    page = page_of(*cells)
    assert verdict(page, " ".join(left + right)) == "supported"
    assert verdict(page, "by the gardener of the upper town who also waters the lime trees") == "supported"


def test_a_page_of_very_many_words_is_quick() -> None:
    chance = random.Random(1)
    words = []
    for place in range(50_000):
        left, top = chance.random(), chance.random()
        words.append(Word(f"w{place % 977}:", (left, top, left + 0.01, top + 0.001)))
    start = time.process_time()
    PageCells.of(words)
    ground_text(Page("d", 1, words=tuple(words)), "w1: w2 w3: w4")
    assert time.process_time() - start < 10


INVOICE = "Order date: 15-10-2031\nInvoice date: 20-10-2031\nTax number: AC8725001"
FORM = "Name of boat:\nMorning Heron\nHull number:\nKX-4471\nHome port:\nLower Quay"


@pytest.mark.parametrize(
    ("text", "question", "value"),
    [
        (INVOICE, "What is the invoice date?", "20-10-2031"),
        (INVOICE, "What is the tax number?", "AC8725001"),
        (FORM, "What is the hull number?", "KX-4471"),
    ],
)
def test_the_passage_of_a_label_has_its_value(text: str, question: str, value: str) -> None:
    (passage,) = best_passages(question, [text])
    assert passage is not None
    assert passage.text.endswith(value)
    assert passage.text.count(":") == 1


@pytest.mark.parametrize("leaders", ["........", ". . . .", "______", "…………"])
def test_dots_lead_from_a_label_to_its_value(leaders: str) -> None:
    words: list[Word] = []
    for row, (label, value) in enumerate([("Rent", "1,200"), ("Deposit", "3,600"), ("Keys", "–")]):
        top = 0.1 + 0.03 * row
        for left, text in ((0.1, label), (0.3, leaders), (0.6, value)):
            words.append(Word(text, (left, top, left + 0.01 * len(text), top + 0.015)))
    page = Page("d", 1, words=tuple(words))
    assert ground_text(page, "Rent: 1,200").verdict == "supported"
    assert ground_text(page, "Deposit 3,600").verdict == "supported"
    assert ground_text(page, f"Deposit {leaders} 3,600").verdict == "supported"
    assert ground_text(page, "Rent: 3,600").verdict == "partly"
    assert ground_text(page, "Deposit: 1,200").verdict == "partly"
    assert ground_text(page, "Keys: 3,600").verdict == "partly"


def test_lines_read_one_after_another_are_a_quotation_and_a_pair_is_not() -> None:
    rows = [("Control Codes",), ("Control", "Example", "Result"), ("bold", "{/:Bold x}", "x")]
    words: list[Word] = []
    for row, texts in enumerate(rows):
        top = 0.1 + 0.05 * row
        # The title stands apart from what is below it.
        lefts = (0.7,) if len(texts) == 1 else (0.1, 0.3, 0.5)
        for left, text in zip(lefts, texts, strict=True):
            for place, word in enumerate(text.split()):
                at = left + 0.09 * place
                words.append(Word(word, (at, top, at + 0.08, top + 0.015)))
    page = Page("d", 1, words=tuple(words))
    assert ground_text(page, "Control Codes Control Example Result").verdict == "supported"


@pytest.mark.parametrize("gap", [0.02, 0.035, 0.05, 0.2])
def test_labels_and_the_first_value_below_them_are_no_quotation(gap: float) -> None:
    rows = [(0.1, ("Order date", "Invoice date", "Ship date")), (0.1 + gap, ("15-10-2031", "20-10-2031", "25-10-2031"))]
    words: list[Word] = []
    for top, texts in rows:
        for left, text in zip((0.1, 0.4, 0.7), texts, strict=True):
            for place, word in enumerate(text.split()):
                at = left + 0.09 * place
                words.append(Word(word, (at, top, at + 0.08, top + 0.015)))
    page = Page("d", 1, words=tuple(words))
    assert ground_text(page, "Ship date 15-10-2031").verdict == "partly"
    assert ground_text(page, "Order date: 20-10-2031").verdict == "partly"
    assert ground_text(page, "Invoice date Ship date 15-10-2031").verdict == "partly"
