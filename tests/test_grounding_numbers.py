"""Numbers as people write them: losses, money, fractions, powers, groups of digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from visrag_integrations import PageReader
from visrag_integrations.grounding import ground_text
from visrag_integrations.types import Page, Word

CASES = Path(__file__).parent / "data" / "cases"


def page_of(line: str) -> Page:
    """Words 0.01 of the width a letter; two spaces part cells of a table."""
    words = []
    left = 0.1
    for cell in line.split("  "):
        for word in cell.split(" "):
            words.append(Word(word, (left, 0.1, left + 0.01 * len(word), 0.13)))
            left += 0.01 * (len(word) + 1)
        left += 0.05
    return Page("d", 1, words=tuple(words))


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("Net result -1,234", True),
        ("Net result (1,234)", True),
        ("Net result −1.234", True),
        ("Costs -9,644", True),
        ("Revenue 8,410", True),
        ("Net result 1,234", False),
        ("Costs 9,644", False),
        ("Tax refund -77", False),
    ],
)
def test_losses_in_brackets(text: str, is_true: bool) -> None:
    (page,) = PageReader(ocr="never").read(CASES / "losses-in-brackets" / "statement.pdf")
    assert (ground_text(page, text).verdict == "supported") == is_true


@pytest.mark.parametrize(
    ("page", "true", "false"),
    [
        ("Net result  ▲1,234", ["Net result ▲1,234"], ["Net result 1,234"]),
        ("純損失  ▲1,234", ["純損失 -1,234", "純損失 ▲1,234"], ["純損失 1,234"]),
        ("純損失  △ 1,234", ["純損失 −1,234"], ["純損失 1,234"]),
        ("Change  ▼ 12.5 %", ["Change -12.5 %"], ["Change 12.5 %"]),
        ("Net result  1,234-", ["Net result -1,234", "Net result 1,234-"], ["Net result 1,234"]),
        ("Net result  (€ 1,234)", ["Net result -€ 1,234"], ["Net result 1,234", "Net result € 1,234"]),
        ("Net result  €(1,234)", ["Net result -€1,234", "Net result €-1,234"], ["Net result €1,234"]),
        ("Net result  ( 1,234 )", ["Net result -1,234"], ["Net result 1,234"]),
        ("Net result  (77)", ["Net result -77"], ["Net result 77"]),
        ("Margin  (12.5 %)", ["Margin -12.5 %", "Margin (12.5%)"], ["Margin 12.5 %"]),
        ("Loss  –1,234  +56", ["Loss -1,234"], ["Loss 1,234"]),
        ("Ergebnis  4'716.90-", ["Ergebnis -4716,90"], ["Ergebnis 4716,90"]),
        ("see the note on stocks (12)", ["the note on stocks (12)", "the note on stocks 12"], ["stocks -12"]),
        ("in all (1,234 pieces) were sold", ["in all 1,234 pieces were sold"], ["in all -1,234 pieces"]),
        ("as Miller wrote (2019)", ["as Miller wrote 2019"], ["as Miller wrote -2019"]),
        ("The years 2018-2019 were dry", ["The years 2018–2019 were dry"], ["The years 2018-2018 were dry"]),
        ("Total  € 1,234.50", ["Total 1,234.50 €", "Total € 1.234,50"], ["Total $ 1,234.50", "Total 1,234.60 €"]),
        ("Total  1 234,50 EUR", ["Total EUR 1,234.50"], ["Total USD 1,234.50"]),
        ("Total  -€1,234", ["Total -1,234 €", "Total €-1,234"], ["Total €1,234", "Total 1,234 €"]),
        ("Population  12,34,567", ["Population 1234567", "Population 1,234,567"], ["Population 1234568"]),
        ("Add 2½ cups of milk", ["Add 2 1/2 cups of milk"], ["Add 2 cups of milk", "Add 212 cups of milk"]),
        ("Add 1/2 cup of milk", ["Add ½ cup of milk"], ["Add 12 cup of milk", "Add ¼ cup of milk"]),
        ("about 10⁶ cells each", ["about 10^6 cells each"], ["about 106 cells each", "about 10⁵ cells each"]),
        ("The flat has 75 m² of floor", ["The flat has 75 m2 of floor"], ["75 m³ of floor"]),
        ("Water is H₂O and no more", ["Water is H2O and no more"], ["Water is H3O and no more"]),
    ],
)
def test_numbers_as_people_write_them(page: str, true: list[str], false: list[str]) -> None:
    for text in [page, *true]:
        assert ground_text(page_of(page), text).verdict == "supported", text
    for text in false:
        assert ground_text(page_of(page), text).verdict != "supported", text
