"""Verdicts on evidence: what is quoted is supported, however it is written; a changed number or name never is."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from visrag_integrations.grounding import ground, ground_text, grounding_dict, outlined, similar_regions
from visrag_integrations.types import Answer, Evidence, Page, ScoredPage, Word

LINE = 0.05
TEXT = (
    "Sales of the Berlin branch rose to 1,234 units in 2019.",
    "Miller reported a margin of 12.5 % and costs of 40 kg.",
    "The Hamburg branch sold 980 units, as Jansen reported.",
    "Temperatures fell to -5 degrees during the winter.",
)


def page_of(*lines: str) -> Page:
    """Every word 0.01 of the width a letter, a line every 0.05 of the height."""
    words = []
    for row, line in enumerate(lines):
        left = 0.1
        for word in line.split(" "):
            words.append(Word(word, (left, row * LINE, left + 0.01 * len(word), row * LINE + 0.03)))
            left += 0.01 * (len(word) + 1)
    return Page(doc_id="d", number=1, words=tuple(words))


PAGE = page_of(*TEXT)
KOREAN = page_of("김민수는 2019년에 서울 지점을 열었다.", "이영희는 부산 지점을 맡았다.")
CHINESE = Page("d", 1, words=(Word("张伟在二〇一九年担任北京分行行长，", (0.1, 0.1, 0.6, 0.13)),))


@pytest.mark.parametrize(
    "text",
    [
        "Sales of the Berlin branch rose to 1234 units",
        "SALES OF THE BERLIN BRANCH ROSE TO 1.234 UNITS",
        "a margin of 12.5% and costs of 40kg",
        "a margin of 12,5 %",
        "a mar-\ngin of 12.5 %\nand costs",
        "Ternperatures fell to −5 degrees during the vvinter",  # misread
        "Temperatures fell to -5 degrees during the wintor.",  # mistyped
        "Salesofthe Berlin branch roseto 1,234 units",  # spaces lost
        "The Hamburg branch sold 980 units, as Jansen reported. Sales of the Berlin branch rose to 1,234 units.",
        "Temperatures fell during the winter",  # shortened
        "**Miller** reported a margin of “12.5 %”",
        "1,234",
        "Berlin",
    ],
)
def test_a_quotation_is_supported_however_it_is_written(text: str) -> None:
    found = ground_text(PAGE, text)
    assert found.verdict == "supported"
    assert found.support > 0.85
    assert found.boxes
    assert found.missing == ()


@pytest.mark.parametrize(
    "text",
    [
        "Sales of the Berlin branch rose to 1,235 units in 2019",
        "Sales of the Berlin branch rose to 12.34 units",
        "Sales of the Berlin branch rose to 1,234 units in 2018",
        "Sales of the Berlin branch rose to 980 units in 2019",  # stands elsewhere on the page
        "Sales of the Hamburg branch rose to 1,234 units",
        "Sales of the Munich branch rose to 1,234 units",
        "Jansen reported a margin of 12.5 %",
        "a margin of 125 % and costs",
        "a margin of 12.5 kg and costs of 40 kg",
        "costs of 40 g.",
        "Temperatures fell to 5 degrees during the winter",
        "Temperatures fell to -5 degrees during the summer holidays",
        "Temperatures rose to -5 degrees during the winter",
        "Temperatures never fell to -5 degrees during the winter",
        "The Berlin branch sold 980 units",
        "as Janson reported",  # one letter of a name
        "980 units in 2019",
        "5",
        "234",
    ],
)
def test_another_number_unit_or_name_is_not_supported(text: str) -> None:
    assert ground_text(PAGE, text).verdict != "supported"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("The net profit was 12 million euros in 2019.", "The net profit was 12 billion euros in 2019."),
        ("The net profit was 12 billion euros in 2019.", "The net profit was 12 million euros in 2019."),
        ("The net profit was 12 million euros in 2019.", "The net profit was 12 billion"),
        ("The net profit was 12 million; several billion were lost.", "The net profit was 12 billion"),
        ("The net profit was 12 million euros in 2019.", "The net profit was 12 euros in 2019."),
        ("The dose is 5 microgram per day for adults.", "The dose is 5 milligram per day for adults."),
        ("The disk holds 20 megabytes of data in total.", "The disk holds 20 gigabytes of data in total."),
        ("Growth of 12 % in 2019 was reported by the group.", "Growth of 12 in 2019 was reported by the group."),
        ("Growth of 12% in 2019 was reported by the group.", "Growth of 12 in 2019 was reported by the group."),
        ("A blood alcohol of 5 ‰ was measured that night.", "A blood alcohol of 5 was measured that night."),
        ("The group had costs of € 12 in 2019 and later.", "The group had costs of 12 in 2019 and later."),
        ("Growth of 12 % or more in 2019 was reported.", "Growth of 12 in 2019 was reported."),
    ],
)
def test_another_scale_or_a_dropped_sign_is_not_supported(page: str, text: str) -> None:
    assert ground_text(page_of(page), page).verdict == "supported"
    assert ground_text(page_of(page), text).verdict == "partly"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("The net profit was 12 million euros in 2019.", "The net profit was 12 rnillion euros in 2019."),  # misread
        ("Revenue (€) in 2019 was far above that of 2018.", "Revenue in 2019 was far above that of 2018."),
    ],
)
def test_a_misread_scale_and_a_sign_of_no_number_do_not_matter(page: str, text: str) -> None:
    assert ground_text(page_of(page), text).verdict == "supported"


def test_what_is_missing_is_said() -> None:
    text = "Sales of the Berlin branch rose to 1,299 units in 2019"
    found = ground_text(PAGE, text)
    assert found.verdict == "partly"
    assert [text[start:end] for start, end in found.missing] == ["1,299"]
    assert "“1,299”" in found.note
    assert 0.5 < found.support < 1


@pytest.mark.parametrize(
    "text",
    ["The orchestra has two flutes", "quite something else entirely", "1999", "Schmidt", "the of a and to"],
)
def test_something_else_is_not_found(text: str) -> None:
    found = ground_text(PAGE, text)
    assert (found.verdict, found.boxes) == ("not found on the page", ())


@pytest.mark.parametrize(
    ("page", "text", "verdict"),
    [
        (KOREAN, "김민수는 2019년에 서울 지점을 열었다", "supported"),
        (KOREAN, "김민수는2019년에 서울지점을 열었다", "supported"),
        (KOREAN, "김민우는 2019년에 서울 지점을 열었다", "partly"),
        (KOREAN, "김민는 2019년에 서울 지점을 열었다", "partly"),
        (KOREAN, "김수는 2019년에 서울 지점을 열었다", "partly"),
        (KOREAN, "민수는 2019년에 지점을 열었다", "supported"),  # "서울", a whole word, is left out
        (KOREAN, "김민수는 2018년에 서울 지점을 열었다", "partly"),
        (KOREAN, "이영희는 2019년에 서울 지점을 열었다", "partly"),
        (CHINESE, "张伟在二〇一九年 担任\n北京分行行长", "supported"),
        (CHINESE, "张华在二〇一九年担任北京分行行长", "partly"),
        (CHINESE, "张在二〇一九年担任北京分行行长", "partly"),
        (CHINESE, "小提琴有四根弦", "not found on the page"),
        (page_of("السيد محمد دفع ١٢٣٤ دينار"), "السيد محمد دفع 1234 دينار", "supported"),
        (page_of("السيد محمد دفع ١٢٣٤ دينار"), "السيد أحمد دفع 1234 دينار", "partly"),
        (page_of("क\u094dया राम घर गया और खाना खाया"), "राम घर गया", "supported"),
        (page_of("क\u094dया राम घर गया और खाना खाया"), "क\u094dया रीमा घर गया और खाना खाया", "partly"),
    ],
)
def test_scripts_without_capitals_or_spaces(page: Page, text: str, verdict: str) -> None:
    assert ground_text(page, text).verdict == verdict


def test_cells_of_a_table_are_partly_supported() -> None:
    table = page_of("Year 2018 2019 2020", "Revenue 40 45 50", "Costs 30 31 32")
    assert ground_text(table, "Costs: 30").verdict == "supported"
    for text in ("Revenue in 2019 was 45", "Revenue in 2019 was 50"):  # its words cannot tell which column is meant
        found = ground_text(table, text)
        assert found.verdict == "partly"
        assert found.boxes


@pytest.mark.parametrize("text", ["Alice earned 12.", "Bob earned 10.", "Alice earned 10 and Bob earned 10."])
def test_pieces_of_two_sentences_do_not_make_a_third(text: str) -> None:
    found = ground_text(page_of("Alice earned 10. Bob earned 12."), text)
    assert found.verdict != "supported"
    assert found.note


def test_a_page_without_word_boxes_is_read_in_its_text() -> None:
    found = ground_text(Page("d", 1, text="\n".join(TEXT)), "costs of 40 kg")
    assert (found.verdict, found.boxes) == ("supported", ())


def test_nothing_to_check_is_not_a_verdict() -> None:
    for page, text in (
        (Page("d", 1), "12 violins"),
        (PAGE, " -- "),
        (PAGE, ""),
        (PAGE, "a"),
        (PAGE, "The of a"),
        (PAGE, "and to"),
    ):
        found = ground_text(page, text)
        assert (found.verdict, found.support, found.boxes) == ("unchecked", 0.0, ())
        assert found.note


def test_ground_fills_the_evidence_of_an_answer() -> None:
    bare = Page("d", 1, source="a.pdf")
    entries = (
        Evidence(1, "costs of 40 kg", page=PAGE),
        Evidence(1, "costs of 40 kg", page=bare),  # the same page, as a host gave it back
        Evidence(2, "no relevant information", relevant=False, page=PAGE),
        Evidence(7, "somewhere"),
    )
    answer = Answer("40 kg", evidence=entries, pages=(ScoredPage(PAGE, 0.5),))
    grounded = ground(answer)
    verdicts = [entry.grounding and entry.grounding.verdict for entry in grounded.evidence]
    assert verdicts == ["supported", "supported", None, "unchecked"]
    assert grounded == answer  # it is still the same answer
    assert ground(grounded).evidence[0].grounding == grounded.evidence[0].grounding
    assert grounding_dict(grounded.evidence[0])["verdict"] == "supported"
    assert grounding_dict(answer.evidence[0]) == {"verdict": None, "support": None, "boxes": [], "missing": []}


def test_evidence_that_is_cut_short_is_never_supported() -> None:
    words = tuple(Word(f"w{place}", (0, 0, 1, 1)) for place in range(60_000))
    text = " ".join(word.text for word in words)
    assert ground_text(Page("d", 1, words=words), text).verdict == "partly"
    assert ground_text(Page("d", 1, words=words), text[:100_000].rsplit(" ", 1)[0]).verdict == "supported"


# --- whatever the words are ---------------------------------------------------------------------------------------

# Cut off from its number, each of these leaves another quantity: "≥ 18", "2 %".
SIGNS_OF_QUANTITY = set("%‰<>≤≥≦≧⩽⩾＜＞=±≠≈~∼～≃")
ANY_WORDS = st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=14)


@pytest.mark.parametrize("sign", ["¤", "֏", "°", "→", "™", "⃝", "|"])
@pytest.mark.parametrize("quantity", ["5 kg", "0A", "12,5 m/s", "Anna 5 kg"])
def test_a_sign_behind_a_unit_is_quoted_with_it(quantity: str, sign: str) -> None:
    text = quantity + sign
    page = Page("d", 1, words=tuple(Word(word, (0.1, 0.1, 0.2, 0.2)) for word in text.split()))
    assert ground_text(page, text).verdict == "supported"
    squared = Page("d", 1, words=(Word("25", (0.1, 0.1, 0.2, 0.2)), Word("m²", (0.2, 0.1, 0.3, 0.2))))
    assert ground_text(squared, f"25 m{sign}").verdict == "partly"


@settings(max_examples=300, deadline=None)
@given(ANY_WORDS, st.data())
def test_an_exact_quotation_is_always_supported(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    stop = data.draw(st.integers(start + 1, len(words)))
    assume(SIGNS_OF_QUANTITY.isdisjoint("".join(words[max(0, start - 1) : start] + words[stop : stop + 1])))
    text = " ".join(words[start:stop])
    found = ground_text(Page("d", 1, words=tuple(Word(word, (0.1, 0.1, 0.2, 0.2)) for word in words)), text)
    assert (found.verdict, found.support) == ("supported", 1.0) or found.verdict == "unchecked"


@settings(max_examples=300, deadline=None)
@given(ANY_WORDS, st.text(max_size=60), st.tuples(*[st.floats(allow_nan=True)] * 4))
def test_any_evidence_on_any_page(words: list[str], text: str, box: tuple[float, float, float, float]) -> None:
    page = Page("d", 1, words=tuple(Word(word, box) for word in words))
    for said in (text, text + " ".join(words), " ".join(reversed(words))):
        found = ground_text(page, said)
        assert 0 <= found.support <= 1
        assert (not found.boxes) or found.verdict in ("supported", "partly")
        for left, top, right, bottom in found.boxes:
            assert 0 <= left <= right <= 1
            assert 0 <= top <= bottom <= 1
        assert all(0 <= start < end <= len(said) for start, end in found.missing)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["alpha", "beta", "gamma", "of", "the", "Rome", "Paris", "kg", "%"]), st.integers(0, 9999)
        ),
        min_size=2,
        max_size=30,
    ),
    st.data(),
)
def test_a_changed_digit_is_never_supported(page_words: list[str | int], data: st.DataObject) -> None:
    words = [str(word) for word in page_words]
    numbers = [place for place, word in enumerate(words) if word.isdigit()]
    assume(numbers)
    place = data.draw(st.sampled_from(numbers))
    at = data.draw(st.integers(0, len(words[place]) - 1))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != words[place][at]]))
    changed = words[place][:at] + digit + words[place][at + 1 :]
    assume(changed not in words)
    start, end = data.draw(st.integers(0, place)), data.draw(st.integers(place + 1, len(words)))
    text = " ".join([*words[start:place], changed, *words[place + 1 : end]])
    joined = "".join(words[start:place]) + changed  # digits of neighbouring words may read as one number
    assume(not (joined.isdigit() and joined in words))
    assert ground_text(page_of(" ".join(words)), text).verdict != "supported"


@pytest.fixture(scope="module")
def huge_pages() -> tuple[Page, ...]:
    repeated = Page("d", 1, words=tuple(Word("a" * 20, (0, 0, 1, 1)) for _ in range(20_000)))
    various = Page("d", 1, words=tuple(Word(f"{place % 977}", (0, 0, 1, 1)) for place in range(100_000)))
    one = Page("d", 1, words=(Word("税 a 1 " * 50_000, (0, 0, 1, 1)),))
    return repeated, various, one


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "ab " * 300_000, "税" * 300_000, "1 " * 300_000, "a\u0301\u0316" * 99_999]
)
def test_huge_evidence_and_pages_are_quick(huge_pages: tuple[Page, ...], text: str) -> None:
    start = time.process_time()
    for page in huge_pages:
        ground_text(page, text)
    assert time.process_time() - start < 30  # it takes about two


# --- pictures -----------------------------------------------------------------------------------------------------


def test_outlined_draws_what_was_found_of_this_page() -> None:
    page = Page.from_image(Image.new("RGB", (400, 400), "white"), doc_id="d", words=PAGE.words)
    (entry,) = ground(Answer("x", evidence=(Evidence(1, "costs of 40 kg", page=page),))).evidence
    picture = np.asarray(outlined(page, entry))
    assert entry.grounding is not None
    ((left, top, right, bottom),) = entry.grounding.boxes
    coloured = np.argwhere((picture != 255).any(axis=2))
    assert coloured.min(axis=0) == pytest.approx((top * 400, left * 400), abs=3)
    assert coloured.max(axis=0) == pytest.approx((bottom * 400, right * 400), abs=3)
    elsewhere = Page.from_image(Image.new("RGB", (400, 400), "white"), doc_id="other")
    assert (np.asarray(outlined(elsewhere, [entry])) == 255).all()
    assert outlined(page, [entry], max_pixels=10_000).size == (100, 100)


def test_outlines_differ_by_more_than_colour() -> None:
    page = Page.from_image(Image.new("RGB", (400, 400), "white"), doc_id="d", words=PAGE.words)
    texts = ("Sales of the Berlin branch rose to 1,234 units", "Sales of the Berlin branch rose to 1,299 units")
    answer = ground(Answer("x", evidence=tuple(Evidence(1, text, page=page) for text in texts)))
    edges = []
    for entry in answer.evidence:
        assert entry.grounding is not None
        picture = np.asarray(outlined(page, entry))
        row = picture[round(entry.grounding.boxes[0][1] * 400)].astype(int)
        inner = row[60 : int(entry.grounding.boxes[0][2] * 400) - 5].sum(axis=1)
        edges.append(len(set(inner.tolist())))
    assert edges[0] == 1  # one line
    assert edges[1] > 1  # dashes


class PatchEmbedder:
    """Two patches of four are like every query."""

    name, kind, dimension = "patches", "multi", 2

    def embed_pages(self, pages: object) -> list[np.ndarray]:
        return [np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32) for _ in pages]  # type: ignore[attr-defined]

    def embed_queries(self, queries: object) -> list[np.ndarray]:
        return [np.array([[0, 1]], np.float32) for _ in queries]  # type: ignore[attr-defined]

    def patch_grid(self, page: Page) -> np.ndarray:
        return np.array([[0, 1], [2, 3]])


def test_a_page_without_words_gets_the_regions_that_are_like_the_evidence() -> None:
    page = Page("d", 1)
    assert similar_regions("x", page, PatchEmbedder()) == ((0.5, 0.0, 1.0, 1.0),)
    answer = Answer("x", evidence=(Evidence(1, "twelve", page=page), Evidence(2, "40 kg", page=PAGE)))
    first, second = ground(answer, embedder=PatchEmbedder()).evidence
    assert first.grounding is not None
    assert second.grounding is not None
    assert (first.grounding.verdict, first.grounding.boxes) == ("unchecked", ((0.5, 0.0, 1.0, 1.0),))
    assert (second.grounding.verdict, len(second.grounding.boxes)) == ("supported", 1)
