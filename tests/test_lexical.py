"""BM25 vectors: against the formula, across scripts, and what pairs, lines and fusion are for."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import pytest

from visrag_integrations import PageReader, QdrantPageStore, load_embedder
from visrag_integrations.scores import lexical
from visrag_integrations.scores.lexical import document_vector, fuse, query_vector, tokens


def search(pages: list[str], query: str) -> list[float]:
    """What a sparse index with idf does: the reference here, written out from Qdrant's documentation."""
    vectors = [dict(zip(*document_vector(page), strict=True)) for page in pages]
    scores = [0.0] * len(pages)
    for index, weight in zip(*query_vector(query), strict=True):
        having = sum(index in vector for vector in vectors)
        idf = math.log(1 + (len(pages) - having + 0.5) / (having + 0.5))
        for i, vector in enumerate(vectors):
            scores[i] += weight * idf * vector.get(index, 0.0)
    return scores


def best(pages: list[str], query: str) -> int:
    scores = search(pages, query)
    assert scores.count(max(scores)) == 1, "a tie is no answer"
    return scores.index(max(scores))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("café", "cafe\u0301"),
        ("ﬁnd", "find"),
        ("ＡＢＣ１２", "abc12"),
        ("パイプ", "ﾊﾟｲﾌﾟ"),
        ("설치", "\u1109\u1165\u11af\u110e\u1175"),
        ("soft\u00adware", "software"),
        ("1,234,567", "1234567"),
        ("软件 \n 包", "软件包"),
        ("한국 어", "한국어"),
        ("كِتَاب", "كتاب"),
    ],
)
def test_spellings_of_the_same_word_are_the_same_tokens(one: str, other: str) -> None:
    assert tokens(one) == tokens(other) != []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t—!?", []),
        ("pi=3.14; n=10.", ["pi", "3.14", "n", "10"]),
        ("1,2,3", ["1,2,3"]),
        ("データベース", ["デー", "ータ", "タベ", "ベー", "ース"]),
        ("锁", ["锁"]),
        ("使用GPU加速", ["使用", "gpu", "加速"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("สวัสดี", ["สว", "วั", "ัส", "สด", "ดี"]),
        ("dh_auto_configure --with=x", ["dh", "auto", "configure", "with", "x"]),
        ("\ud800 lone", ["lone"]),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


CASES = Path(__file__).parent / "data" / "cases"


def pages_of(case: str) -> list[str]:
    (file,) = (CASES / case).glob("*.pdf")
    return [page.text for page in PageReader(ocr="never").read(file)]


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("1845,50", 0),
        ("1845.50", 0),
        ("1,845.50", 0),
        ("1.845,50", 0),
        ("1 845,50", 0),
        ("2318,40", 1),
        ("2318.40", 1),
        ("2'318.40", 1),
        ("4716.90", 2),
        ("4\u202f716,90", 2),
        ("9127,35", 3),
        ("9.127,35", 3),
    ],
)
def test_an_amount_is_found_in_any_spelling(query: str, page: int) -> None:
    assert best(pages_of("numbers-as-written"), query) == page


@pytest.mark.parametrize(("query", "page"), [("maintenance", 0), ("October", 1)])
def test_a_word_divided_at_the_end_of_a_line_is_found(query: str, page: int) -> None:
    assert best(pages_of("line-end-hyphen"), query) == page


WRITTEN = [
    "Konto DE89 3704 0044 0532 0130 00 bei der Bank",
    "Teil AB-1234/5 im Lager",
    "Tel. 030 123 4567 im Amt",
    "am 20.10.2031 um acht",
    "Einwohner 12,34,567 heute",
    "Herr Müller aus Köln",
    "Søren Kierkegaard, Łódź",
    "البرمجة بلغةR وPython",
    "تكلفـــة المشروع",
    "well-\nknown facts",
    "Part KX 4471 here",
    "KX9981 there",
    "soft\u00ad\nware here",
    "Preis 1.234 Stück",
    "population ١٢٣٤٥٦ here",
    "cafe\u0301 noir",
    "con\u2010\nnected pipes",
    "card 4111 1111 1111 1111 x",
    "\ufefb\ufeee\ufefb\ufef3\ufe94 here",
]


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("DE89370400440532013000", 0),
        ("de89 3704 0044 0532 0130 00", 0),
        ("ab12345", 1),
        ("AB 1234/5", 1),
        ("0301234567", 2),
        ("030/1234567", 2),
        ("20-10-2031", 3),
        ("20/10/2031", 3),
        ("1234567", 4),
        ("1,234,567", 4),
        ("Mueller", 5),
        ("Muller", 5),
        ("MÜLLER", 5),
        ("Mu\u0308ller", 5),
        ("Koeln", 5),
        ("Soeren", 6),
        ("Soren", 6),
        ("Lodz", 6),
        ("R", 7),
        ("بلغة", 7),
        ("تكلفة", 8),
        ("wellknown", 9),
        ("well-known", 9),
        ("kx4471", 10),
        ("KX-4471", 10),
        ("KX 9981", 11),
        ("software", 12),
        ("1234", 13),
        ("1,234", 13),
        ("1.234", 13),
        ("123456", 14),
        ("café", 15),
        ("connected", 16),
        ("4111111111111111", 17),
        ("\u0644\u0627\u0648\u0644\u0627\u064a\u0629", 18),
    ],
)
def test_words_are_found_as_people_type_them(query: str, page: int) -> None:
    assert best(WRITTEN, query) == page


@pytest.mark.parametrize(
    ("page", "query"),
    [("pages 3-4", "34"), ("12.34", "1234"), ("2018 2019", "20182019"), ("Octo-\nBer", "october"), ("blue", "blu")],
)
def test_what_is_something_else_is_not_found(page: str, query: str) -> None:
    assert search([page, "nothing"], query)[0] == 0


def test_pages_indexed_by_the_old_rules_are_found_as_before() -> None:
    """All terms of a query by rules 1 (its words, their pairs, the line) are among those of today's."""
    text = "Total 1.845,50 of Müller, part ab-1234"
    words = tokens(text)
    old = {crc32(word.encode()) for word in words}
    old |= {crc32(f"{one} {two}".encode()) for one, two in pairwise(words)}
    assert old <= set(query_vector(text)[0])


def test_weights_follow_bm25() -> None:
    text = "red red blue " + "grey " * 97
    found = dict(zip(*document_vector(text), strict=True))
    length, k1, b = 100, lexical.K1, lexical.B
    for word, count in Counter(text.split()).items():
        index = query_vector(word)[0][-1]  # words come after pairs and lines
        expected = count * (k1 + 1) / (count + k1 * (1 - b + b * length / lexical.AVERAGE_LENGTH))
        assert found[index] == pytest.approx(expected)


def test_indices_are_uint32_unique_and_stable() -> None:
    for indices, weights in (document_vector("a b a c\nd"), query_vector("a b a c")):
        assert len(indices) == len(weights) == len(set(indices))
        assert all(0 <= index < 2**32 for index in indices)
        assert all(weight > 0 for weight in weights)
    assert 0xCBF43926 in query_vector("123456789")[0], "the published CRC-32 check value: stored vectors depend on it"


def test_no_words_is_an_empty_vector() -> None:
    assert document_vector("") == document_vector(" \n ?! ") == query_vector("…") == ([], [])


def test_a_page_with_the_words_wins_and_a_page_without_scores_nothing() -> None:
    scores = search(["the cat sat", "a dog barked at the cat", "nothing here"], "dog barked")
    assert scores[1] > 0
    assert scores[0] == scores[2] == 0


def test_a_phrase_beats_the_same_words_scattered() -> None:
    assert best(["new plans for york and a city", "plans for a new york and city"], "New York") == 1


def test_a_heading_beats_its_table_of_contents_and_its_mentions() -> None:
    contents = "Contents\n1 Basics . . . . . 3\n2 Widgets\n. . . . . . 7\n3 Charts ........ 9"
    section = "2 Widgets\nThey are drawn last. " + "More text follows here. " * 20
    mention = "There are widgets and widgets.\nAll widgets are alike.\n" + "More text. " * 10
    assert best([contents, section, mention, "Basics\nnothing"], "Widgets") == 1


def test_white_space_inside_chinese_words_does_not_matter() -> None:
    pages = ["安装软\n件包的方法", "安装硬件的方法", "其他内容"]
    assert best(pages, "软件包") == 0
    assert best(pages, "软 件 包") == 0


def test_long_pages_are_discounted() -> None:
    assert best(["needle " + "hay " * 1000, "needle " + "hay " * 10], "needle") == 1


def test_a_query_of_100_kb_is_bounded() -> None:
    text = " ".join(f"word{i}" for i in range(12_000))
    started = time.perf_counter()
    indices, _ = query_vector(text)
    assert len(indices) <= 2 * lexical.MAX_QUERY_WORDS
    assert time.perf_counter() - started < 2.0
    assert set(query_vector("word7")[0]) & set(indices), "the beginning counts"


def test_one_long_word_costs_no_more_than_its_length() -> None:
    started = time.perf_counter()
    document_vector("x" * 300_000 + ". " * 100_000 + "软" * 100_000)
    assert time.perf_counter() - started < 5.0


def test_fuse_knows_every_id_and_orders_by_both_halves() -> None:
    fused = fuse({"a": 0.9, "b": 0.2}, {"b": 0.4, "c": 0.4}, "two words")
    assert set(fused) == {"a", "b", "c"}
    assert fused["a"] > fused["b"] > fused["c"], "weak word matches: the vectors decide"
    exact = fuse({"a": 0.6, "b": 0.3}, {"b": 9.0, "a": 2.0}, "two words")
    assert exact["b"] > exact["a"], "the query's own words decide where a page has them"


def test_fuse_with_an_empty_half_keeps_the_order_of_the_other() -> None:
    assert fuse({}, {}, "x") == {}
    dense = fuse({"a": 0.1, "b": 0.7, "c": -0.5}, {}, "")
    assert max(dense, key=dense.__getitem__) == "b"
    words = fuse({}, {"a": 3.0, "b": 1.0}, "query")
    assert words["a"] > words["b"]


def test_a_collection_of_older_rules_is_told_with_the_command(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    embedder = load_embedder("ocr")
    with QdrantPageStore(tmp_path) as store:
        store.prepare(embedder)
        assert store.info is not None
        assert store.info.text_rules == lexical.RULES
        old = store.info.as_dict()
        del old["text_rules"]
        store._engine.save_info(old)
    assert "reindex" not in caplog.text
    with QdrantPageStore(tmp_path) as store:
        assert store.info is not None
        assert store.info.text_rules == 1
    assert caplog.text.count("visrag reindex") == 1
