"""Each published layout as a set of ten pages, read from a folder and by name, and scored as computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from drawn_sets import (
    COUNT,
    RedEmbedder,
    picture,
    write_card,
    write_jsonl,
    write_mmdocir,
    write_mteb_default,
    write_mteb_languages,
    write_table,
    write_vidore_v1,
    write_vidore_v2,
    write_vidore_v3,
    write_vidoseek,
)

from visrag_integrations.errors import DatasetError, SettingError, UnknownNameError
from visrag_integrations.evaluation import (
    EvaluationResult,
    EvaluationSet,
    MarkedBox,
    PageBox,
    evaluate_retrieval,
    index_pages,
    load_evaluation_set,
    page_key,
)
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page, ScoredPage

METRICS = ["mrr@10", "recall@5", "ndcg@10"]
# "near 3.1" finds 3 4 2 5 1 6 ..., and 3 (grade 1) and 6 (grade 2) are right: at ranks 1 and 6. The best order has the
# grades 2, 1. "near 8.1" finds 8 9 7 ..., and 7 is right; "near 0.1" finds 0 1 2 ..., and 1 is right.
FIRST = [1, 1 / 2, (1 / math.log2(2) + 2 / math.log2(7)) / (2 / math.log2(2) + 1 / math.log2(3))]
SECOND = [1 / 3, 1, 1 / math.log2(4)]
THIRD = [1 / 2, 1, 1 / math.log2(3)]
ENGLISH = [(a + b) / 2 for a, b in zip(FIRST, SECOND, strict=True)]
ALL = [(a + b + c) / 3 for a, b, c in zip(FIRST, SECOND, THIRD, strict=True)]

Writer = Callable[[Path], Path]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a folder the data set of a name, for `datasets` itself, which reads it as it reads a repository."""
    folders: dict[str, str] = {}
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for function in ("get_dataset_config_names", "get_dataset_split_names", "load_dataset"):
        own = getattr(datasets, function)

        def by_name(name: str, *args: Any, own: Callable[..., Any] = own, **options: Any) -> Any:
            return own(folders[name], *args, **options)

        monkeypatch.setattr(datasets, function, by_name)

    def serve(name: str) -> Path:
        folder = tmp_path / "hub" / name.replace("/", "--")
        folder.mkdir(parents=True)
        folders[name] = str(folder)
        return folder

    return serve


def score(dataset: EvaluationSet) -> EvaluationResult:
    """Its pages in a store of their own, its questions asked."""
    embedder, store = RedEmbedder(), QdrantPageStore(":memory:")
    report = index_pages(dataset.pages, embedder, store, progress=False)
    assert (report.pages, report.failed) == (len(dataset.pages), ())
    return evaluate_retrieval(dataset, PageRetriever(embedder, store, mode="dense"), METRICS, progress=False)


def values(result: EvaluationResult) -> list[float]:
    return [result.metrics[metric] for metric in METRICS]


@pytest.mark.parametrize(
    "write", [write_vidore_v1, write_vidore_v2, write_vidore_v3, write_mteb_languages, write_mteb_default]
)
def test_a_layout_has_its_golden_score(write: Writer, tmp_path: Path, hub: Callable[[str], Path]) -> None:
    from_folder = load_evaluation_set(write(tmp_path / "set"))
    write(hub("org/set"))
    by_name = load_evaluation_set("org/set")
    for found in (from_folder, by_name):
        assert len(found.pages) == COUNT
        assert values(score(found)) == pytest.approx(ALL, abs=1e-9)
    assert [question.id for question in from_folder.questions] == [question.id for question in by_name.questions]
    assert from_folder == by_name


def test_a_language_is_chosen_by_any_of_its_names(tmp_path: Path, hub: Callable[[str], Path]) -> None:
    for number, write in enumerate((write_vidore_v2, write_vidore_v3, write_mteb_languages)):
        folder = write(tmp_path / f"set{number}")
        write(hub(f"org/set{number}"))
        for language in ("fr", "fra", "french", "French", "fra-Latn"):
            assert values(score(load_evaluation_set(folder, language=language))) == pytest.approx(THIRD)
        assert values(score(load_evaluation_set(f"org/set{number}", language="en"))) == pytest.approx(ENGLISH)
        with pytest.raises(UnknownNameError, match=r"language 'german'; there is english, french"):
            load_evaluation_set(folder, language="german")
    with pytest.raises(UnknownNameError, match="does not say in which language"):
        load_evaluation_set(write_vidore_v1(tmp_path / "v1"), language="fr")


def test_results_by_group(tmp_path: Path) -> None:
    found = load_evaluation_set(write_vidore_v3(tmp_path / "v3"))
    by_language = score(found.grouped_by("language"))
    assert values(by_language.group("english")) == pytest.approx(ENGLISH)
    assert values(by_language.group("french")) == pytest.approx(THIRD)
    # The first question is of two types: it counts in both.
    by_type = score(found.grouped_by("query_type"))
    assert {name: len(ids) for name, ids in by_type.groups.items()} == {"numerical": 2, "multi-hop": 1, "extractive": 1}
    assert values(by_type.group("multi-hop")) == pytest.approx(FIRST)
    assert values(by_type.group("numerical")) == pytest.approx([(a + b) / 2 for a, b in zip(FIRST, THIRD, strict=True)])
    assert "multi-hop" in str(by_type)
    with pytest.raises(UnknownNameError, match=r"grouped by 'queries'; there is .*language.*query_types"):
        found.grouped_by("queries")


def test_vidore_v3_is_kept_whole(tmp_path: Path) -> None:
    found = load_evaluation_set(write_vidore_v3(tmp_path / "v3"))
    question = found.questions[0]
    assert (question.id, question.language, question.answers) == ("0", "english", ("answer 0",))
    assert question.metadata == {
        "query_types": ["numerical", "multi-hop"], "query_format": "question", "content_type": ["Table"],
        "raw_answers": ["raw 0"], "query_generator": "human",
    }  # fmt: skip
    # Its pages count from 0 here; they are the pages 1 to 5 of two documents.
    assert [(page.doc_id, page.number) for page in found.pages[3:7]] == [
        ("report_0", 4), ("report_0", 5), ("report_1", 1), ("report_1", 2),
    ]  # fmt: skip
    assert [page.text for page in found.pages[:2]] == ["# Page 0", "# Page 1"]
    assert [page_key(page) for page in found.pages] == [str(n) for n in range(COUNT)]
    # In pixels of a picture of 20 x 40; x1, x2, y1, y2 in the file.
    one, other = question.marked["3"]
    assert one == MarkedBox((2, 4, 10, 20), in_pixels=True, annotator="0")
    assert (other.annotator, other.box) == ("1", (0, 0, 20, 40))
    assert question.boxes == ()
    boxes = found.with_boxes().questions[0].boxes
    assert boxes == tuple(PageBox(key, *box) for key in ("3", "6") for box in [(0.1, 0.1, 0.5, 0.5), (0, 0, 1, 1)])


def test_what_a_set_holds_is_saved_with_it(tmp_path: Path) -> None:
    found = load_evaluation_set(write_vidore_v3(tmp_path / "v3"))
    found.save(tmp_path / "saved.jsonl")
    again = load_evaluation_set(tmp_path / "saved.jsonl")
    assert again.questions == found.questions
    assert again.qrels == found.qrels


def test_pages_without_their_text(tmp_path: Path) -> None:
    found = load_evaluation_set(write_vidore_v3(tmp_path / "v3"), text=False)
    assert {page.text for page in found.pages} == {""}
    assert found.name == "v3-pictures"  # the pages of the whole set are in a collection of its name
    assert values(score(found)) == pytest.approx(ALL)


def test_pages_that_count_from_one_keep_their_numbers(tmp_path: Path) -> None:
    folder = write_vidore_v3(tmp_path / "v3")
    corpus = [{"corpus_id": n, "image": picture(n), "doc_id": "d", "page_number_in_doc": n + 1} for n in range(COUNT)]
    write_table(folder / "corpus", corpus)
    assert [page.number for page in load_evaluation_set(folder).pages] == list(range(1, COUNT + 1))
    # The same page of a document twice: the set's own ids tell them apart.
    for row in corpus:
        row["page_number_in_doc"] = 1
    write_table(folder / "corpus", corpus)
    assert [page.doc_id for page in load_evaluation_set(folder).pages] == [str(n) for n in range(COUNT)]


def test_a_question_is_asked_of_its_candidates_only(tmp_path: Path, hub: Callable[[str], Path]) -> None:
    write_vidoseek(hub("org/seek"))
    for found in (load_evaluation_set(write_vidoseek(tmp_path / "seek")), load_evaluation_set("org/seek")):
        assert found.questions[0].candidates == ("4", "5", "6", "9")
        result = score(found)
        # Near 3.1 among 4 5 6 9: 6 is third. Near 8.1 among 0 7: 7 is first. Of all pages they are sixth and third.
        assert result.run["0"] == dict(sorted(result.run["0"].items(), key=lambda found: -found[1]))
        assert [list(result.run[id_]) for id_ in ("0", "1")] == [["4", "5", "6", "9"], ["7", "0"]]
        assert result.per_query["0"]["mrr@10"] == pytest.approx(1 / 3)
        assert result.per_query["1"]["mrr@10"] == 1


def test_mmdocir_is_searched_domain_by_domain(tmp_path: Path, hub: Callable[[str], Path]) -> None:
    write_mmdocir(hub("org/mmdocir"))
    for found in (load_evaluation_set(write_mmdocir(tmp_path / "m")), load_evaluation_set("org/mmdocir")):
        assert [question.id for question in found.questions] == ["laws/0", "news/0"]
        assert len(found.pages) == 12
        result = score(found.grouped_by("subset"))
        # Near 4.1: of the laws 1 2 3 5 the page 5 is first (0.9 away, 3 is 1.1); of the news 5 6 7 8 it is first too.
        assert list(result.run["laws/0"]) == ["laws/5", "laws/3", "laws/2", "laws/1"]
        assert list(result.run["news/0"]) == ["news/1", "news/2", "news/3", "news/4"]
        assert set(result.groups) == {"laws", "news"}
    one = load_evaluation_set("org/mmdocir", subset="news")
    assert (one.name, [page_key(page) for page in one.pages]) == ("mmdocir-news", ["0", "1", "2", "3", "4", "5"])
    with pytest.raises(UnknownNameError, match=r"no part 'sports'; there is laws, news"):
        load_evaluation_set("org/mmdocir", subset="sports")


def test_domains_without_candidates_stay_apart(tmp_path: Path) -> None:
    folder = write_mmdocir(tmp_path / "m")
    for domain in ("laws", "news"):
        (folder / f"{domain}-top_ranked" / "train-00000-of-00001.parquet").unlink()
        (folder / f"{domain}-top_ranked").rmdir()
    found = load_evaluation_set(folder)
    result = score(found)
    # The laws are pages 0 to 5, the news 4 to 9: near 4.1 is page 4 of each, then page 5.
    assert list(result.run["laws/0"]) == ["laws/4", "laws/5", "laws/3", "laws/2", "laws/1", "laws/0"]
    assert list(result.run["news/0"])[:2] == ["news/0", "news/1"]
    assert values(result)[0] == pytest.approx(1 / 2)


def test_languages_of_different_pages_stay_apart(tmp_path: Path) -> None:
    folder = write_mteb_languages(tmp_path / "m")
    # The French corpus is other pages under the same ids.
    corpus = [{"image": picture(COUNT - n), "id": f"corpus-test-{n}"} for n in range(COUNT)]
    write_table(folder / "french-corpus", corpus)
    found = load_evaluation_set(folder)
    assert len(found.pages) == 2 * COUNT
    result = score(found)
    # Near 0.1 among the French ones, which count down from 10: the last has 1 and is first, then 2, 3, ...
    assert next(iter(result.run["french/query-test-2"])) == f"french/corpus-test-{COUNT - 1}"


def test_a_beir_set_with_judgements_as_json_lines(tmp_path: Path) -> None:
    """As mteb's older sets: config "default" is qrels/test.jsonl."""
    folder = tmp_path / "old"
    write_jsonl(folder / "corpus.jsonl", [{"_id": f"d{n}", "title": "", "text": f"words {n}"} for n in range(COUNT)])
    write_jsonl(
        folder / "queries.jsonl", [{"_id": "q0", "text": "near 3.1"}, {"_id": "q1", "text": "of another split"}]
    )
    write_jsonl(folder / "qrels" / "test.jsonl", [{"query-id": "q0", "corpus-id": "d4", "score": 1.0}])
    found = load_evaluation_set(folder)
    assert ([question.id for question in found.questions], found.qrels) == (["q0"], {"q0": {"d4": 1}})


def test_ultrarags_benchmark_by_name(hub: Callable[[str], Path]) -> None:
    rows = [{"id": 0, "question": "how many boats", "golden_answers": ["forty", "40"], "meta_data": {"from": "x"}}]
    folder = hub("org/bench")
    write_jsonl(folder / "data" / "test-0.jsonl", rows)
    write_card(folder)
    found = load_evaluation_set("org/bench")
    assert [(question.id, question.answers) for question in found.questions] == [("0", ("forty", "40"))]
    assert found.questions[0].metadata == {"meta_data": {"from": "x"}}


# --- what is wrong with a set -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "rows", "says"),
    [
        ("corpus", [{"corpus-id": 1, "image": picture(n)} for n in (1, 2)], "page '1' was there before"),
        ("queries", [{"query-id": 1, "query": "near 1"}] * 2, "2 questions with the id '1'"),
        ("queries", [{"query-id": 99, "query": "near 1"}], "judgements are about other questions: there is '0'"),
        ("queries", [{"query-id": 0, "query": "near 1", "corpus_range": [77]}], "the candidate '77', which is not in"),
        ("queries", [{"query-id": 0, "query": "near 1", "corpus_range": []}], "list of candidates is empty"),
        ("qrels", [{"query-id": 0, "corpus-id": 1, "score": 1.5}], r"qrels row 1: the grade is 1.5"),
        ("qrels", [{"corpus-id": 1, "score": 1}], "lacks query-id"),
        ("corpus", [{"image": picture(1)}], "corpus row 1: a page needs an id"),
        ("corpus", [{"corpus-id": 1, "image": None}], "neither a picture"),
        (
            "qrels",
            [{"query-id": 0, "corpus-id": 1, "score": 1, "bounding_boxes": [{"x1": 9, "x2": 1, "y1": 0, "y2": 5}]}],
            "is no box",
        ),
    ],
)
def test_what_is_wrong_is_named(table: str, rows: list[dict[str, Any]], says: str, tmp_path: Path) -> None:
    folder = write_vidore_v1(tmp_path / "set")
    if rows and rows[0].get("corpus_range") == []:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("query-id", pa.int64()), ("query", pa.string()), ("corpus_range", pa.list_(pa.int64()))])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / table / "test-00000-of-00001.parquet")
    else:
        write_table(folder / table, rows)
    with pytest.raises(DatasetError, match=says) as caught:
        load_evaluation_set(folder)
    assert "set" in str(caught.value)


def test_judgements_of_unknown_pages_are_told_with_the_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_vidore_v1(tmp_path / "set")
    write_table(folder / "corpus", [{"corpus-id": n, "image": picture(n)} for n in range(7)])
    found = load_evaluation_set(folder)
    assert "1 relevant pages are not in the corpus and can never be found: '7'" in caplog.text
    result = score(found)
    assert "1 relevant pages are not in the corpus" in str(result)
    assert result.per_query["1"]["mrr@10"] == 0


def test_judgements_that_contradict_each_other_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_vidore_v1(tmp_path / "set")
    box = {"annotator": 1, "x1": 0, "x2": 10, "y1": 0, "y2": 10}
    rows = [
        {"query-id": 0, "corpus-id": 3, "score": 1, "bounding_boxes": [box]},
        {"query-id": 0, "corpus-id": 3, "score": 2, "bounding_boxes": [{**box, "annotator": 2}]},
        {"query-id": 1, "corpus-id": 7, "score": 1, "bounding_boxes": []},
        {"query-id": 1, "corpus-id": 7, "score": 1, "bounding_boxes": []},
    ]
    write_table(folder / "qrels", rows)
    found = load_evaluation_set(folder)
    assert found.qrels == {"0": {"3": 2}, "1": {"7": 1}}
    assert "1 judgements contradict an earlier one, and the last counts: '3' for '0'" in caplog.text
    assert [mark.annotator for mark in found.questions[0].marked["3"]] == ["1", "2"]


def test_a_page_that_is_there_twice_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_vidore_v1(tmp_path / "set")
    write_table(folder / "corpus", [{"corpus-id": n % COUNT, "image": picture(n % COUNT)} for n in range(COUNT + 3)])
    assert values(score(load_evaluation_set(folder))) == pytest.approx(ALL)
    assert "3 pages more than once" in caplog.text


def test_a_part_that_lacks_a_table_is_named(tmp_path: Path) -> None:
    folder = write_mteb_languages(tmp_path / "set")
    (folder / "french-qrels" / "test-00000-of-00001.parquet").unlink()
    (folder / "french-qrels").rmdir()
    with pytest.raises(DatasetError, match="has french-corpus, and no french-qrels"):
        load_evaluation_set(folder)


def test_splits_and_tables_of_a_hub_set_are_not_guessed(hub: Callable[[str], Path]) -> None:
    folder = hub("org/many")
    for table in ("easy", "hard"):
        write_jsonl(folder / table / "train-0.jsonl", [{"query": f"near {table} 1"}])
    write_card(folder, "train")
    with pytest.raises(DatasetError, match=r"several tables, and none of them is a corpus: easy, hard"):
        load_evaluation_set("org/many")
    assert load_evaluation_set("org/many", subset="hard").questions[0].text == "near hard 1"
    card = "configs:\n- config_name: easy\n  data_files:\n"
    for split in ("train", "validation"):
        write_jsonl(folder / "easy" / f"{split}-0.jsonl", [{"query": f"near {split} 1"}])
        card += f"  - split: {split}\n    path: easy/{split}-*\n"
    (folder / "README.md").write_text(f"---\n{card}---\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"no split 'test'; there is train, validation"):
        load_evaluation_set("org/many", subset="easy")
    assert load_evaluation_set("org/many", split="validation").questions[0].text == "near validation 1"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("samples/nope.jsonl", "samples/nope.jsonl: there is no such file."),
        ("samples/querys.jsonl", "Is 'samples/queries.jsonl' meant?"),
        ("nope.jsonl", "nope.jsonl: there is no such file."),
        ("nope.parquet", "there is no such file."),
        ("other/nope.json", "There is no folder 'other' either."),
        ("samples/nope", "samples/nope: there is no such file or folder, and 'samples' is a folder here."),
        ("./samples/nope", "there is no such file or folder"),
        ("../nope/nope", "there is no such file or folder"),
        ("/nope", "there is no such file or folder"),
    ],
)
def test_a_mistyped_path_is_a_path(name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "queries.jsonl").write_text('{"query": "a"}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # The hub is not asked, be its package installed or not.
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: pytest.fail(f"the hub was asked for {name}"))
    with pytest.raises(DatasetError) as caught:
        load_evaluation_set(name)
    assert says in str(caught.value)


class Deaf:
    """Finds every page, whatever the filter says."""

    def __init__(self, pages: tuple[Page, ...]) -> None:
        self.pages = pages

    def retrieve(self, query: str, top_k: int = 5, *, filter: Any = None) -> list[ScoredPage]:
        return [ScoredPage(page, 1.0) for page in self.pages[:top_k]]


def test_a_retriever_that_does_not_heed_candidates_is_refused(tmp_path: Path) -> None:
    found = load_evaluation_set(write_vidoseek(tmp_path / "seek"))
    with pytest.raises(SettingError, match=r"Deaf found '0' for question '0', which is not among its candidates"):
        evaluate_retrieval(found, Deaf(found.pages), METRICS, progress=False)
