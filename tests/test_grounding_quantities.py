"""Quantities as people write them: what is the same one, and what is another; a false "supported" is the worst."""

from __future__ import annotations

import pytest

from visrag_integrations.grounding import ground_text
from visrag_integrations.types import Page, Word

SAME = [
    ("Turnover ₹ 12,34,567 this year", "Turnover ₹1234567 this year"),
    ("Turnover 1,23,45,678 rupees", "Turnover 12,345,678 rupees"),
    ("Add 1½ cups of flour", "Add 1 1/2 cups of flour"),
    ("Add 3/4 cup of flour", "Add ¾ cup of flour"),
    ("a width of 2 3/8 inches", "a width of 2⅜ inches"),
    ("about 6.02 × 10²³ molecules", "about 6.02 × 10^23 molecules"),
    ("about 6.02 × 10²³ molecules", "about 6.02 x 10^23 molecules"),
    ("a room of 3 x 4 m here", "a room of 3 × 4 m here"),
    ("size 10x20 cm", "size 10×20 cm"),
    ("a charge of 1.6 × 10⁻¹⁹ C", "a charge of 1.6 × 10^-19 C"),
    ("area of 25 m² per room", "area of 25 m2 per room"),
    ("pressure of 10 kN/m² here", "pressure of 10 kN/m2 here"),
    ("speed 5 m/s²", "speed 5 m/s2"),
    ("CO₂ emissions fell", "CO2 emissions fell"),
    ("Price: € 1.299,00 per unit", "Price: 1.299,00 € per unit"),
    ("Price: 50 CHF per unit", "Price: CHF 50 per unit"),
    ("Price: £20 per unit", "Price: 20£ per unit"),
    ("営業損失 ▲1,234 百万円", "△1,234 百万円"),
    ("営業損失 ▲1,234 百万円", "-1,234 百万円"),
    ("Shares ▼ 3.4 % today", "Shares -3.4 % today"),
    ("for ages 10–15 years", "for ages 10-15 years"),
    ("a load of 40 kg only", "a load of 40kg only"),
    ("a load of 40kg only", "a load of 40 kg only"),
    ("DOSE 5 MG", "dose 5 mg"),
    ("at 20 °C it melts", "at 20°C it melts"),
    ("Loss (1,234)", "Loss -1,234"),
    ("Net €(1,234.50)", "Net €-1,234.50"),
    ("Total: 1’234’567.89", "Total: 1,234,567.89"),
    ("٣٤٥ كتاب جديد", "345 كتاب جديد"),
    ("x >= 5 holds", "x ≥ 5 holds"),
    ("≥18 years old", "≥ 18 years old"),
    ("tolerance +/- 5 mm", "tolerance ± 5 mm"),
    ("tolerance +5/-3 mm", "tolerance +5/-3 mm"),
    ("go to File -> 5 items", "go to File → 5 items"),
    ("growth of 5%, then", "growth of 5 %"),
    ("growth of 5 per cent here", "growth of 5 per cent"),
    ("a dose of 5 mg/kg daily", "a dose of 5 mg/kg daily"),
]
OTHER = [
    ("Turnover 1,23,45,678 rupees", "Turnover 1,234,567 rupees"),
    ("Turnover ₹12.5 lakh", "Turnover ₹12.5 crore"),
    ("Add 1½ cups of flour", "Add 11/2 cups of flour"),
    ("Add ⅔ cup of flour", "Add ¾ cup of flour"),
    ("a width of 2 3/8 inches", "a width of 23/8 inches"),
    ("about 6.02 × 10²³ molecules", "about 6.02 × 1023 molecules"),
    ("a charge of 1.6 × 10⁻¹⁹ C", "a charge of 1.6 × 10¹⁹ C"),
    ("area of 25 m² per room", "area of 25 m per room"),
    ("area of 25 m² per room", "area of 25 m³ per room"),
    ("pressure of 10 kN/m² here", "pressure of 10 kN/m here"),
    ("pressure of 10 kN/m² here", "pressure of 10 kN here"),
    ("speed 5 m/s²", "speed 5 m/s"),
    ("a speed of 30 km/h", "a speed of 30 km"),
    ("a dose of 5 mg/kg daily", "a dose of 5 mg daily"),
    ("2³ = 8", "23 = 8"),
    ("²³⁵U is used", "²³⁸U is used"),
    ("Price: £20 per unit", "Price: 20 per unit"),
    ("Price: A$20 per unit", "Price: US$20 per unit"),
    ("営業損失 ▲1,234 百万円", "1,234 百万円"),
    ("Shares ▲ 3.4 % today", "Shares ▼ 3.4 % today"),
    ("rates rose by 2 percentage points", "rates rose by 2 percent"),
    ("rates rose by 2 percentage points", "rates rose by 2 %"),
    ("rates rose by 2 percent", "rates rose by 2 percentage points"),
    ("rates rose by 25 bps", "rates rose by 25 %"),
    ("rates rose by 2 %", "rates rose by 2"),
    ("rates rose by 2 %", "rates rose by 2 ‰"),
    ("growth of 5 per cent here", "growth of 5 per mille"),
    ("for ages 10–15 years", "for ages 15–10 years"),
    ("for ages 10–15 years", "for ages 10 years"),
    ("for ages 10–15 years", "for ages 1015 years"),
    ("between -5 and 10 degrees", "between 5 and 10 degrees"),
    ("temperature minus 5 °C", "temperature 5 °C"),
    ("on 03/04/2024 we met", "on 04/03/2024 we met"),
    ("on 2024-03-04 we met", "on 2024-04-03 we met"),
    ("15:30 o'clock", "13:50 o'clock"),
    ("a load of 40kg only", "a load of 40 g only"),
    ("a load of 40 MW only", "a load of 40 mW only"),
    ("storage of 5 GB only", "storage of 5 Gb only"),
    ("dose 5 mg", "dose 5 Mg"),
    ("at 20 °C it melts", "at 20 °F it melts"),
    ("Loss (1,234) EUR", "Loss 1,234 EUR"),
    ("a deficit of $(5,000)", "a deficit of $5,000"),
    ("≥ 18 years", "≤ 18 years"),
    ("≥ 18 years", "> 18 years"),
    ("≥ 18 years", "18 years"),
    ("> 18 years of age", "< 18 years of age"),
    ("18 years of age", "> 18 years of age"),
    ("5 < x holds", "5 > x holds"),
    ("Income > €5 million", "Income < €5 million"),
    ("Income > €5 million", "Income €5 million"),
    ("± 5 mm tolerance", "5 mm tolerance"),
    ("± 5 mm tolerance", "- 5 mm tolerance"),
    ("tolerance +/-5 mm", "tolerance 5 mm"),
    ("tolerance +5/-3 mm", "tolerance +3/-5 mm"),
    ("pH ~7.4 here", "pH 7.4 here"),
    ("a ratio of 3:1", "a ratio of 1:3"),
    ("version 1.10 of it", "version 1.1 of it"),
    ("1,5 Mio. Euro Umsatz", "1,5 Mrd. Euro Umsatz"),
    ("三百万円の損失", "三百円の損失"),
    ("Chapter IV begins here", "Chapter VI begins here"),
    ("Millerson paid 5 euros", "Miller paid 5 euros"),
    ("12 violinists played", "12 violin played"),
]


def both_ways(page: str) -> list[Page]:
    """As the words of a text, as words with boxes, and as one line that OCR gave as one word."""
    words: list[Word] = []
    left = 0.05
    for word in page.split():
        right = left + 0.01 * len(word)
        words.append(Word(word, (left, 0.1, right, 0.12)))
        left = right + 0.01
    return [
        Page("d", 1, page),
        Page("d", 1, page, words=tuple(words)),
        Page("d", 1, page, words=(Word(page, (0.1, 0.1, 0.9, 0.13)),)),
    ]


@pytest.mark.parametrize(("page", "said"), SAME)
def test_another_way_to_write_it_is_a_quotation(page: str, said: str) -> None:
    for each in both_ways(page):
        assert ground_text(each, said).verdict == "supported"


@pytest.mark.parametrize(("page", "said"), OTHER)
def test_another_quantity_is_no_quotation(page: str, said: str) -> None:
    for each in both_ways(page):
        assert ground_text(each, said).verdict != "supported"


@pytest.mark.parametrize("page", sorted({page for page, _ in [*SAME, *OTHER]}))
def test_every_page_supports_itself(page: str) -> None:
    for each in both_ways(page):
        found = ground_text(each, page)
        assert (found.verdict, found.support) == ("supported", 1.0)
