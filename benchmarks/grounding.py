"""How well evidence is found on its page, and how seldom something else is called supported.

    python benchmarks/grounding.py DIR [--pages 30] [--documents NAME...]
    python benchmarks/grounding.py --pairs 25 [--backend pdfium]

Evidence is cut from the words of every page of the documents in DIR (text layer, or OCR where there is none) and
changed as a model may change it; then it is looked for. What must be found: the words themselves, with line breaks and
hyphens, misspellings, sentences in another order, words left out, numbers written in another way, and words around it.
What must not be called supported: text of another page, and the page's own text with one number or one name changed, or
with another scale or no percent sign after a number (the page gets "million" or "%" there first). A changed text that
by chance stands on the page, letter for letter, is left out.

With `--pairs`, labels and values on invoices that are drawn for it (label_pairs.py) are measured instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from label_pairs import print_table

from visrag_integrations import PageReader
from visrag_integrations.grounding import ground_text
from visrag_integrations.types import Box, Grounding, Page, Word

GRID = 800
# Dots and lines between a title and its page number. Other signs stay: without its ">=" a number is another one.
LEADERS = re.compile(r"[.·…․‥_\-–—|\s]+")
# What OCR makes of letters. Not "1" for "l" nor "0" for "o": a word with a digit in it reads as a changed number.
MISREAD = (("m", "rn"), ("i", "l"), ("w", "vv"), ("e", "c"))
Rng = random.Random
Cut = list[Word]


# --- evidence -------------------------------------------------------------------------------------------------------


def cuts(page: Page, rng: Rng, count: int = 4) -> Iterator[Cut]:
    """Neighbouring words, about a sentence, that stand on the page once; they begin after the end of a sentence."""
    words = [word for word in page.words if not LEADERS.fullmatch(word.text)]
    starts = [0, *(i + 1 for i, word in enumerate(words[:-1]) if word.text[-1] in ".!?。:")]
    for start in rng.sample(starts, min(count, len(starts))):
        cut: Cut = []
        for word in words[start : start + 40]:
            cut.append(word)
            if letters(cut) >= 25 and (word.text[-1] in ".!?。" or letters(cut) >= rng.randint(40, 160)):
                break
        if letters(cut) >= 25 and plain(said(words)).count(plain(said(cut))) == 1:
            yield cut


def letters(cut: Sequence[Word]) -> int:
    return sum(len(plain(word.text)) for word in cut)


def plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum() or character in "%$")


def said(cut: Sequence[Word]) -> str:
    return " ".join(word.text for word in cut)


def broken(cut: Cut, rng: Rng) -> str:
    """With line breaks, some of them inside words."""
    words = []
    for word in cut:
        text = word.text
        if text.isalpha() and len(text) > 5 and rng.random() < 0.2:
            at = rng.randint(2, len(text) - 2)
            text = f"{text[:at]}-\n{text[at:]}"
        words.append(text + rng.choice("  \n"))
    return "".join(words).strip()


def misspelt(cut: Cut, rng: Rng) -> str:
    """Misread: letters that look alike in any word, another letter in a word in small letters, spaces lost."""
    text = ""
    for word in cut:
        read = word.text
        if rng.random() < 0.15 and not any(c.isdigit() for c in read):
            read = misspelt_word(read, rng)
        text += read
        loses_space = rng.random() < 0.05 and read.isalpha()
        if not loses_space:
            text += " "
    return text.strip()


def misspelt_word(word: str, rng: Rng) -> str:
    if word.isascii() and word.islower() and len(word) > 5 and rng.random() < 0.5:
        at = rng.randrange(1, len(word))
        return word[:at] + rng.choice("aeiouns") + word[at + 1 :]
    one, other = rng.choice(MISREAD)
    return word.replace(one, other, 1)


def shortened(cut: Cut, rng: Rng) -> tuple[str, Cut]:
    """Without some words in the middle."""
    gone = max(1, len(cut) // 5)
    start = rng.randint(1, max(1, len(cut) - gone - 1))
    kept = cut[:start] + cut[start + gone :]
    return said(kept), kept


def framed(cut: Cut, rng: Rng) -> str:
    return rng.choice(["the text reads: {}", "it says that {}", "{} (see there)"]).format(said(cut))


def reformatted(text: str) -> str:
    """Numbers and percent signs as others write them."""
    text = re.sub(r"(?<![\d.,])(\d{1,3}),(\d{3})(?![\d.,])", r"\1\2", text)
    text = re.sub(r"(?<![\d.,-])(\d)(\d{3})(?![\d.,-])", r"\1,\2", text)
    return re.sub(r"(\d) ?%", lambda m: f"{m[1]}%" if " " in m[0] else f"{m[1]} %", text)


def changed_digit(text: str, rng: Rng) -> str | None:
    places = [match.start() for match in re.finditer(r"\d", text)]
    if not places:
        return None
    at = rng.choice(places)
    return text[:at] + rng.choice([d for d in "123456789" if d != text[at]]) + text[at + 1 :]


def swapped_number(text: str, page: Page, rng: Rng) -> str | None:
    """With another number of the same page in the place of one."""
    numbers = sorted(set(re.findall(r"\d+", said(page.words))))
    here = list(re.finditer(r"\d+", text))
    if not here:
        return None
    chosen = rng.choice(here)
    others = [number for number in numbers if number != chosen.group()]
    return text[: chosen.start()] + rng.choice(others) + text[chosen.end() :] if others else None


def changed_name(text: str, names: Sequence[str], rng: Rng) -> str | None:
    here = [m for m in re.finditer(r"(?<=\s)[^\W\d_]{3,}", text) if m.group() in names]
    if not here:
        return None
    chosen = rng.choice(here)
    other = rng.choice([name for name in names if name.lower() != chosen.group().lower()])
    return text[: chosen.start()] + other + text[chosen.end() :]


def with_unit(words: Sequence[Word], number: Word, unit: str) -> Cut:
    """The words with a unit after the number."""
    joined: Cut = []
    for word in words:
        joined.append(word)
        if word is number:
            joined.append(Word(unit, word.box))
    return joined


def measure_units(groups: Sequence[str], page: Page, cut: Cut, table: Table, rng: Rng) -> None:
    """One of the numbers inside the cut gets a scale or a sign on the page; the evidence says another, or none."""
    numbers = [word for word in cut[:-1] if re.fullmatch(r"\d+", word.text)]
    if not numbers:
        return
    number = rng.choice(numbers)
    for kind, there, here in UNITS:
        altered = dataclasses.replace(page, words=tuple(with_unit(page.words, number, there)))
        claimed = cut
        if here:
            claimed = with_unit(cut, number, here)
        table.false(groups, kind, altered, said(claimed))


def names_of(pages: Sequence[Page]) -> list[str]:
    """Words with a capital inside sentences; Korean words, which have none."""
    found: set[str] = set()
    for page in pages:
        for before, word in zip(page.words, page.words[1:], strict=False):
            text = word.text.strip(".,;:()\"'")
            if not text.isalpha() or before.text[-1] in ".!?:":
                continue
            is_korean = re.fullmatch("[\uac00-\ud7a3]{2,6}", text) is not None
            is_capitalised = text[0].isupper() and text[1:].islower() and len(text) > 3
            if is_korean or is_capitalised:
                found.add(text)
    return sorted(found)


# --- measures -------------------------------------------------------------------------------------------------------


def area(boxes: Sequence[Box]) -> np.ndarray:
    grid = np.zeros((GRID, GRID), bool)
    for left, top, right, bottom in boxes:
        grid[round(top * GRID) : round(bottom * GRID) + 1, round(left * GRID) : round(right * GRID) + 1] = True
    return grid


def overlap(found: Sequence[Box], words: Sequence[Word]) -> float:
    """Area in both over area in either; spaces between the words of a line belong to the line."""
    one, other = area(found), area(lines([word.box for word in words]))
    return float((one & other).sum() / max(1, (one | other).sum()))


def lines(boxes: Sequence[Box]) -> list[Box]:
    joined: list[Box] = []
    for box in boxes:
        last = joined[-1] if joined else None
        if last and abs(last[1] - box[1]) < 0.006 and -0.02 < box[0] - last[2] < 0.03:
            joined[-1] = (last[0], min(last[1], box[1]), box[2], max(last[3], box[3]))
        else:
            joined.append(box)
    return joined


class Table:
    """Counts by group and kind."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[tuple[Grounding, float]]] = defaultdict(list)
        self.seconds: list[float] = []
        self.examples: list[str] = []

    def true(self, groups: Sequence[str], kind: str, page: Page, text: str, words: Sequence[Word]) -> None:
        found = self._ground(page, text)
        share = overlap(found.boxes, words) if found.boxes else 0.0
        for group in groups:
            self.rows[group, kind].append((found, share))
        if found.verdict == "not found on the page" or share < 0.7:
            self.examples.append(
                f"MISS {kind} {page.source} {page.number} {found.verdict} {found.support} {share:.2f} {text!r}"
            )
        elif found.verdict == "partly":
            self.examples.append(f"PART {kind} {page.source} {page.number} {found.support} {found.note} {text!r}")

    def false(self, groups: Sequence[str], kind: str, page: Page, text: str | None) -> None:
        if text is None or plain(text) in plain(said(page.words)):
            return
        found = self._ground(page, text)
        for group in groups:
            self.rows[group, kind].append((found, 0.0))
        if found.verdict == "supported":
            self.examples.append(f"FALSE {kind} {page.source} {page.number} {found.support} {text!r}")

    def _ground(self, page: Page, text: str) -> Grounding:
        start = time.perf_counter()
        found = ground_text(page, text)
        self.seconds.append(time.perf_counter() - start)
        return found

    def print(self) -> None:
        for group in dict.fromkeys(group for group, _ in self.rows):
            print(f"\n{group:<34}{'n':>6}{'found':>9}{'supported':>11}{'IoU >= 0.7':>12}{'mean IoU':>10}")
            for (name, kind), found in self.rows.items():
                if name == group:
                    print(f"  {kind:<32}{len(found):>6}" + self._cells(kind, found))
            for title, kinds in (("TAKEN FROM THE PAGE", TRUE), ("NOT ON THE PAGE", FALSE)):
                of_all = [item for kind in kinds for item in self.rows.get((group, kind), ())]
                print(f"  {title:<32}{len(of_all):>6}" + self._cells(kinds[0], of_all))
        times = sorted(self.seconds)
        print(
            f"\n{1000 * times[len(times) // 2]:.1f} ms a piece of evidence (median), {1000 * times[-1]:.0f} ms at most"
        )

    @staticmethod
    def _cells(kind: str, found: Sequence[tuple[Grounding, float]]) -> str:
        if not found:
            return ""
        seen = sum(item.verdict != "not found on the page" for item, _ in found) / len(found)
        supported = sum(item.verdict == "supported" for item, _ in found) / len(found)
        cells = f"{seen:>9.3f}{supported:>11.3f}"
        if kind in TRUE:
            overlaps = [share for _, share in found]
            well_outlined = sum(share >= 0.7 for share in overlaps) / len(overlaps)
            cells += f"{well_outlined:>12.3f}{sum(overlaps) / len(overlaps):>10.3f}"
        return cells


TRUE = (
    "as it stands",
    "line breaks, hyphens",
    "misspellings",
    "other order",
    "shortened",
    "other number formats",
    "framed",
)
UNITS = (
    ("billion for million", "million", "billion"),
    ("percent sign left out", "%", ""),
)
FALSE = (
    "of another page",
    "of another document",
    "one digit changed",
    "a number of the page put in",
    "a name changed",
    *(kind for kind, _, _ in UNITS),
)


def measure(pages: Sequence[Page], others: Sequence[Page], table: Table, groups: Sequence[str]) -> None:
    rng = random.Random(zlib.crc32(Path(pages[0].source).name.encode()))
    names = names_of(pages)
    for page in pages:
        found = list(cuts(page, rng))
        for cut in found:
            text = said(cut)
            table.true(groups, "as it stands", page, text, cut)
            table.true(groups, "line breaks, hyphens", page, broken(cut, rng), cut)
            table.true(groups, "misspellings", page, misspelt(cut, rng), cut)
            table.true(groups, "framed", page, framed(cut, rng), cut)
            if len(cut) >= 6:
                short, kept = shortened(cut, rng)
                table.true(groups, "shortened", page, short, kept)
            if reformatted(text) != text:
                table.true(groups, "other number formats", page, reformatted(text), cut)
            table.false(groups, "one digit changed", page, changed_digit(text, rng))
            table.false(groups, "a number of the page put in", page, swapped_number(text, page, rng))
            if len(names) > 1:
                table.false(groups, "a name changed", page, changed_name(text, names, rng))
            measure_units(groups, page, cut, table, rng)
            other = rng.choice([one for one in pages if one is not page])
            table.false(groups, "of another page", other, text)
            table.false(groups, "of another document", rng.choice(others), text)
        if len(found) >= 2 and not {id(w) for w in found[0]} & {id(w) for w in found[1]}:
            table.true(groups, "other order", page, f"{said(found[1])}\n{said(found[0])}", [*found[1], *found[0]])


def read(path: Path, most: int) -> list[Page]:
    pages = [page for page in PageReader(max_pages=400).read(path) if len(page.words) > 3]
    step = max(1, len(pages) // most)
    return pages[::step][:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=0, help="invoices of each layout and order of painting")
    parser.add_argument("--backend", default="pymupdf", choices=("pymupdf", "pdfium"), help="what reads the invoices")
    parser.add_argument("--pages", type=int, default=30, help="at most so many pages of a document, evenly spread")
    parser.add_argument("--documents", nargs="*", help="only these files")
    parser.add_argument("--each", action="store_true", help="also one table a document")
    parser.add_argument("--examples", action="store_true", help="print what went wrong")
    arguments = parser.parse_args()
    if arguments.pairs:
        print_table(arguments.pairs, arguments.backend, examples=arguments.examples)
    if arguments.directory is None:
        return
    paths = sorted(arguments.directory.glob("*.pdf"))
    if arguments.documents:
        paths = [path for path in paths if path.name in arguments.documents]
    documents = [read(path, arguments.pages) for path in paths]
    table = Table()
    for place, pages in enumerate(documents):
        groups = [("first", "second")[place % 2] + " half of the documents"]
        if arguments.each:
            groups.append(paths[place].name)
        others = [page for rest in documents if rest is not pages for page in rest] or pages
        measure(pages, others, table, groups)
    table.print()
    if arguments.examples:
        print("\n".join(table.examples))


if __name__ == "__main__":
    main()
