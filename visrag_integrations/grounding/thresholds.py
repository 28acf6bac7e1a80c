"""Every number that grounding decides with, in one place, each with what it protects.

How the values came about: they were set once, by hand, while the mistakes of `benchmarks/grounding.py` on seven
documents were read; there was no search over values, and no blind test (benchmarks/RESULTS.md, "Evidence on its page").
Where the history shows that another value was in use before, the comment says so. Else it says what the value protects.

To change one: edit it here, run `benchmarks/grounding.py` on the documents before and after, and hold the two tables
side by side. What must not move is "supported" of the changed texts: 0.000. docs/grounding.md follows one claim through
all passes and says which value acts where.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """The numbers of grounding. "Letters" are folded letters, digits and signs; spaces and punctuation do not count."""

    # --- How much text is compared -------------------------------------------------------------------------------
    # These bound time and memory for hostile text. Evidence beyond them is cut short, and then never "supported".

    # Characters of the evidence that are looked at. A page of a book has about 3,000.
    max_characters: int = 200_000
    # Letters of evidence that is compared piece by piece. Longer evidence must stand on the page as a whole.
    max_aligned_letters: int = 4000
    # Places on the page at which the whole evidence is tried ("a" on a page of "aaaa...").
    max_whole_places: int = 1000
    # Places on the page at which one seed or one word is tried.
    max_candidates: int = 64
    # Places of one word that are compared by distance in the last pass. It came with the tests of hostile input;
    # before, all `max_candidates` were compared, for every word of the evidence.
    max_compared: int = 16
    # The anchor (pass 4) tries this many of the heaviest tokens, and counts this many tokens around each place.
    max_anchors: int = 3
    max_anchor_tokens: int = 200
    # Cells of a line, and words of a cell, that are looked at as a whole.
    max_row_cells: int = 64
    # Letters of the page, and words in them, among which a misspelt word is looked for.
    max_misspelling_reach: int = 200
    max_misspelling_places: int = 40

    # --- What a token weighs -----------------------------------------------------------------------------------------
    # Support is a share of these weights. A reader looks at numbers first, then at names: a claim whose number is wrong
    # must lose more than one that lacks three plain words.

    number_weight: float = 4.0
    # Only inside a sentence: the first word of one has its capital anyway, and weighs as a word.
    name_weight: float = 3.0
    # It was 2.0 at first. A wrong unit is found by rule (contradictions.py), so this only moves the share.
    unit_weight: float = 1.0
    sign_weight: float = 1.0
    word_weight: float = 1.0
    # Articles and the like, which stand on every page; and each character of a script without spaces.
    short_word_weight: float = 0.5
    # Characters of a short word. The last pass takes a word this short only close by (`close`), for the same reason.
    short_word: int = 3
    # A word after a number is its unit when it is in small letters ("million", "kilometres") or, with a capital in it,
    # at most this long ("MB", "kWh"). Longer ones are names: "in 2019 Berlin".
    longest_unit_with_capital: int = 3
    # Characters before a word in which the end of the last sentence is looked for, with quotation marks between.
    sentence_end_reach: int = 12

    # Cells that evidence goes through from line to line, without one left out, when it is a stretch of the page and not
    # a label with a value. Fewer: three labels and the first value below them would be one. More: two rows of a table
    # with three columns, begun in the second, are no quotation any more.
    cells_of_a_stretch: int = 5

    # Characters before and after a number among which its minus, bracket or triangle stands: "( € 1,234" has three.
    mark_reach: int = 4

    # --- Passes 1 to 3: long stretches that agree ----------------------------------------------------------------

    # Letters that must agree before a stretch is looked at. Smaller: likenesses on every line ("of the"). Larger: short
    # quotations are found word by word only. A character of a script without spaces says more: half as many there.
    seed: int = 8
    # A stretch that goes on where the last one ended, within `near`, is worth this many letters more, so that a
    # sentence is not continued in another paragraph for one letter more.
    continues_bonus: int = 12
    # A stretch of so many letters counts wherever it stands: two sentences quoted from both ends of a page. A shorter
    # one counts only near the longest.
    counts_anywhere: int = 16

    # --- Passes 4 to 6: the words between them ----------------------------------------------------------------------

    # Letters of the page around what was found in which the rest is looked for, beside the length of the claim.
    near: int = 120
    # Letters between two parts of one passage; farther apart, one part says nothing about the other.
    close: int = 60
    # Between two found tokens the gap on the page may be so much longer than in the claim: words that were left out.
    gap_factor: int = 3
    gap_allowance: int = 48
    # The same where only one side was found, and nothing stops the search on the other.
    open_gap_factor: int = 2
    open_gap_allowance: int = 24
    # A word on the wrong side of its neighbour counts as this many times as far away, and `near` farther: order
    # matters, but the cells of a table may stand anywhere.
    wrong_side_factor: int = 3
    # From so many letters on a word may have one other letter, or two. In shorter words one letter makes another word
    # ("cost", "most").
    one_misspelling_from: int = 5
    two_misspellings_from: int = 10

    # --- What was found in its place, and the verdict -----------------------------------------------------------------

    # The least support of "supported". Below 1 so that small words may be missing and letters misread; what may *not*
    # differ is found by rule (contradictions.py), not by this number.
    supported_from: float = 0.85
    # The least support of "partly". Measured: a claim held against another page of its document reaches it in 14 %
    # (slides with one navigation bar among them) and 3 % of the cases, against another document in under 1 %.
    partly_from: float = 0.4
    # What a plain word counts that stands on the page, but not beside its neighbours.
    word_elsewhere: float = 0.25
    # What a number, unit or name counts there. It had `word_elsewhere` too, once; but it may be the cell of a table,
    # which is to be outlined and called "partly".
    cell_elsewhere: float = 0.5
    # What a misspelt word counts. So close to 1 that misread letters alone do not cost the verdict.
    misspelt: float = 0.9
    # Tokens on both sides of a cut that the words left out may contradict. It was 4. A wider look calls more shortened
    # quotations "partly", a narrower one misses more left-out numbers and names.
    beside_cut: int = 3
    # Two found tokens farther apart than so many times `close` are a jump to another part of the page. A jump is fine
    # between clauses, but not inside one that says a number or a name.
    jump_factor: int = 4
    # Words of the claim stand where the page has others when the page has at most so many letters there: this many
    # times the letters of the words, and at least the second number. With more room the claim's words may be a frame.
    replaced_factor: int = 2
    replaced_least: int = 12

    # --- Labels and values: what belongs together by its place on the page (cells.py, neighbours.py) ----------------

    # Two words are on one line when their middles are no farther apart than this share of the lower one's height:
    # a value in a form field stands a little lower than its label, a line of the other column half a line lower.
    same_line: float = 0.5
    # A gap wider than so many letters of the line ends a cell. Justified text has gaps of two letters; columns of
    # labels and values that stand closer than this are one cell, and still read from left to right.
    cell_gap_letters: float = 2.5
    # The cell below begins at most so many heights under the end of this one: text with double spacing, a value
    # under its label. Farther down stands something else.
    below_heights: float = 1.5
    # Lines below a cell among which the one under it is looked for. Lines of another column, which stand a little
    # higher or lower, are lines of their own and come between.
    rows_below: int = 4
    # The most letters of a label. What is longer is taken for text, which goes on in the next column.
    label_letters: int = 40
    # From so many letters on a line that goes on from the line above is text.
    text_line_letters: int = 20
    # Evidence longer than this is looked for in the order of the file only.
    max_reordered_letters: int = 600

    # --- Boxes ---------------------------------------------------------------------------------------------------
    # As fractions of the page or of the line's height.

    # Two boxes are on one line when they share so much of the lower one's height.
    line_overlap: float = 0.5
    # How far the second may begin before the end of the first: kerning, and slanted letters.
    line_backstep: float = 0.02
    # The widest gap between two words of one box: so much of the page's width, or so many line heights. It was 0.1 of
    # the width, and boxes ran on over gaps wider than words have.
    word_gap: float = 0.015
    word_gap_heights: float = 1.5

    # --- Regions of pages without words, and the note --------------------------------------------------------------

    # A patch belongs to a region from this share of the way between the map's lowest and highest value.
    hot_share: float = 0.7
    # Regions that are shown. They say where to look; more than three say "everywhere".
    max_regions: int = 3
    # Missing parts that the note quotes, and characters of each: it is one line beside the evidence.
    max_missing_quoted: int = 5
    max_quoted_characters: int = 60


THRESHOLDS = Thresholds()
"""The values in use."""
