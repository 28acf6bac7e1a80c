"""Retrieval and answers evaluated end to end on a real store: stopped, resumed, failing, in parallel."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import CountingEmbedder, ScriptedGenerator
from PIL import Image

from visrag_integrations.errors import GenerationError, SettingError, StoreMismatchError, UnknownNameError
from visrag_integrations.evaluation import (
    EvaluationSet,
    Question,
    evaluate_answers,
    evaluate_retrieval,
    evaluate_run,
    index_pages,
    read_run,
    write_run,
)
from visrag_integrations.evaluation.answer_runs import with_options
from visrag_integrations.evaluation.results import comparison_table
from visrag_integrations.rag import VisRAG
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Answer, Conversation, Generation, GenerationSettings, Page, ScoredPage

WORDS = CountingEmbedder.words


def page(name: str, text: str) -> Page:
    picture = Image.new("RGB", (8, 8), "white")
    return Page(name, 1, text, source=f"set/{name}", metadata={"corpus_id": name}, picture=picture)


PAGES = tuple(page(f"{word}.png", f"{word} {word}") for word in WORDS)
QUESTIONS = tuple(
    Question(word, f"{word}?", answers=(word,), group="greek" if i else "first") for i, word in enumerate(WORDS)
)
SET = EvaluationSet("words", QUESTIONS, {word: {f"{word}.png": 1} for word in WORDS}, PAGES)


@pytest.fixture
def retriever() -> PageRetriever:
    embedder, store = CountingEmbedder(), QdrantPageStore(":memory:")
    report = index_pages(SET.pages, embedder, store, progress=False)
    assert (report.pages, report.added, report.failed) == (4, 4, ())
    return PageRetriever(embedder, store)


class ScriptedRanks:
    """Gives each question the pages it was told to, all with the same score; fails on one text."""

    def __init__(self, ranks: dict[str, str], fail: str = "") -> None:
        self.ranks, self.fail = ranks, fail
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def retrieve(self, query: str, top_k: int = 5) -> Sequence[ScoredPage]:
        with self._lock:
            self.asked.append(query)
        if query == self.fail:
            raise RuntimeError("out of luck")
        return [ScoredPage(PAGES[int(place)], 0.5, "cosine") for place in self.ranks[query]][:top_k]


RANKS = {"alpha?": "0123", "beta?": "2130", "gamma?": "0132", "delta?": "01"}  # right at ranks 1, 2, 4, none


def test_retrieval_of_a_set(retriever: PageRetriever) -> None:
    result = evaluate_retrieval(SET, retriever, ["mrr@10", "recall@1"], progress=False)
    assert result.metrics == {"mrr@10": 1.0, "recall@1": 1.0}
    assert result.intervals == {"mrr@10": (1.0, 1.0), "recall@1": (1.0, 1.0)}
    assert next(iter(result.run["beta"])) == "beta.png"
    assert result.settings["embedder"] == "counting"
    assert result.settings["mode"] == "dense"
    assert result.settings["indexed"] == 4


@pytest.mark.parametrize(("batch_size", "workers"), [(32, 1), (1, 1), (3, 2), (1, 8)])
def test_the_retrievers_own_order_counts(batch_size: int, workers: int, tmp_path: Path) -> None:
    """All scores are equal, and a run file ranks equal scores by id: it must not."""
    result = evaluate_retrieval(
        SET, ScriptedRanks(RANKS), ["mrr@10", "recall@2"], batch_size=batch_size, workers=workers
    )
    assert [result.per_query[word]["mrr@10"] for word in WORDS] == [1.0, 0.5, 0.25, 0.0]
    assert result.metrics == {"mrr@10": 1.75 / 4, "recall@2": 0.5}
    assert list(result.per_query) == list(WORDS)
    write_run(result.run, tmp_path / "run.trec")
    assert evaluate_run(read_run(tmp_path / "run.trec"), SET.qrels, ["mrr@10", "recall@2"]) == result.per_query


def test_results_are_shown(retriever: PageRetriever) -> None:
    result = evaluate_retrieval(SET, ScriptedRanks(RANKS), ["mrr@10", "hit@1"])
    lines = str(result).splitlines()
    assert lines[0] == "words: retriever ScriptedRanks, top_k 10"
    assert lines[1].split() == ["queries", "mrr@10", "hit@1"]
    assert lines[2].startswith("all          4  0.438 [")
    assert lines[3].startswith("first        1  1.000 [1.000, 1.000]")
    assert lines[4].startswith("greek        3  0.250 [")
    shown = result._repr_html_()
    assert "<th" in shown
    assert "0.438" in shown
    assert "<b>" not in replace(result, name="<b>x</b>")._repr_html_()
    values = json.loads(json.dumps(result.as_dict()))
    assert values["metrics"] == {"mrr@10": 0.4375, "hit@1": 0.25}
    assert values["groups"]["greek"] == {"queries": 3, "metrics": {"mrr@10": 0.25, "hit@1": 0.0}}
    better = evaluate_retrieval(SET, retriever, ["mrr@10", "hit@1"])
    found = better.compare(result)[0]
    assert (found.first, found.second, found.wins, found.losses) == (1.0, 0.4375, 3, 0)
    assert found.p_value == 2 / 8  # three differences of one sign: only all or none swapped is as large
    table = comparison_table(better.compare(result), "better", "scripted")
    assert "+0.562" in table
    assert "0.250" in table


def test_one_failing_query_is_reported_and_asked_again(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    broken = ScriptedRanks(RANKS, fail="gamma?")
    result = evaluate_retrieval(SET, broken, ["mrr@10"], record=record)
    assert [failure.id for failure in result.failed] == ["gamma"]
    assert result.failed[0].error == "RuntimeError: out of luck"
    assert result.metrics == {"mrr@10": 1.5 / 3}
    assert "1 of 4 queries failed and are not in the table; the first: gamma: RuntimeError: out of luck" in str(result)
    assert "out of luck" in result._repr_html_()

    mended = ScriptedRanks(RANKS)
    assert evaluate_retrieval(SET, mended, ["mrr@10"], record=record).metrics == {"mrr@10": 1.75 / 4}
    assert mended.asked == ["gamma?"]
    assert evaluate_retrieval(SET, mended, ["hit@1"], top_k=10, record=record).metrics == {"hit@1": 0.25}
    assert mended.asked == ["gamma?"]


@pytest.mark.parametrize(("batch_size", "calls"), [(1, 5), (32, 1 + 5)])
def test_a_broken_retriever_ends_the_run(batch_size: int, calls: int) -> None:
    class Broken:
        calls = 0

        def retrieve(self, query: str, top_k: int = 5) -> Sequence[ScoredPage]:
            self.calls += 1
            raise ConnectionError("the server is away")

    many = EvaluationSet(
        "many", tuple(Question(str(i), f"q{i}") for i in range(50)), {str(i): {"a": 1} for i in range(50)}
    )
    broken = Broken()
    with pytest.raises(ConnectionError, match="the server is away"):
        evaluate_retrieval(many, broken, ["mrr@10"], batch_size=batch_size)
    assert broken.calls == calls


def test_another_embedder_ends_the_run_at_once(retriever: PageRetriever) -> None:
    class Other(CountingEmbedder):
        name = "other"

    with pytest.raises(StoreMismatchError):
        evaluate_retrieval(SET, PageRetriever(Other(), retriever.store), ["mrr@10"])


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    evaluate_retrieval(SET.first(3), ScriptedRanks(RANKS), ["mrr@10"], record=record, batch_size=1)
    whole = record.read_bytes()
    lines = whole.split(b"\n")
    for cut in (len(whole) - 1, len(whole) - 20, len(lines[0]) + 5, len(lines[0]) - 5, 0):
        record.write_bytes(whole[:cut])
        left = ScriptedRanks(RANKS)
        result = evaluate_retrieval(SET, left, ["mrr@10"], record=record)
        kept = max(0, whole[:cut].count(b"\n") - 1)
        assert len(left.asked) == 4 - kept
        assert result.metrics == {"mrr@10": 1.75 / 4}
        assert len(record.read_bytes().split(b"\n")) == 6  # a header, four queries, and the end
        again = ScriptedRanks(RANKS)
        evaluate_retrieval(SET, again, ["mrr@10"], record=record)
        assert again.asked == []


@pytest.mark.parametrize(
    "content", ['{"query": "Who?"}', "notes\nof mine", '{"id": "alpha"}\n{"id": "be', '{"visrag": 1}', "x"]
)
def test_a_file_that_is_no_record_stays_as_it_is(content: str, tmp_path: Path) -> None:
    """Its last line has no line break, as that of a record that a kill cut off."""
    path = tmp_path / "mine.jsonl"
    path.write_text(content, encoding="utf-8")
    asked = ScriptedRanks(RANKS)
    with pytest.raises(SettingError, match=r"no record of an evaluation|no line of a record"):
        evaluate_retrieval(SET, asked, ["mrr@10"], record=path)
    assert path.read_text(encoding="utf-8") == content
    assert asked.asked == []


def test_a_record_of_other_settings_is_refused(retriever: PageRetriever, tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    evaluate_retrieval(SET, retriever, ["mrr@10"], record=record)
    before = record.read_bytes()
    with pytest.raises(SettingError, match=r"mode was 'dense', is 'lexical'.*give another file"):
        evaluate_retrieval(SET, retriever, ["mrr@10"], mode="lexical", record=record)
    with pytest.raises(SettingError, match="top_k was 10, is 3"):
        evaluate_retrieval(SET, retriever, ["mrr@3"], record=record)
    changed = replace(SET, questions=(replace(QUESTIONS[0], text="else?"), *QUESTIONS[1:]))
    with pytest.raises(SettingError, match=r"another question 'alpha': 'alpha\?', not 'else\?'"):
        evaluate_retrieval(changed, retriever, ["mrr@10"], record=record)
    assert record.read_bytes() == before

    record.write_text('{"id": "alpha"}\n', encoding="utf-8")
    with pytest.raises(SettingError, match="no record of an evaluation"):
        evaluate_retrieval(SET, retriever, ["mrr@10"], record=record)
    record.write_bytes(before.split(b"\n")[0] + b"\nnonsense\n")
    with pytest.raises(SettingError, match="line 2: this is no line of a record"):
        evaluate_retrieval(SET, retriever, ["mrr@10"], record=record)
    with pytest.raises(SettingError, match=r"cannot be read"):
        evaluate_retrieval(SET, retriever, ["mrr@10"], record=tmp_path)
    asked = ScriptedRanks(RANKS)
    with pytest.raises(SettingError, match=r"cannot be written.*Name another file"):
        evaluate_retrieval(SET, asked, ["mrr@10"], record=tmp_path / "no" / "such" / "folder.jsonl")
    assert asked.asked == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"metrics": ["mrr@10"], "top_k": 5}, "look at 10 pages, and top_k is 5"),
        ({"metrics": []}, "look at 0 pages"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"workers": True}, "workers is True"),
    ],
)
def test_settings_that_do_not_fit(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        evaluate_retrieval(SET, ScriptedRanks(RANKS), **arguments)


def test_sets_without_judgements_or_answers() -> None:
    bare = EvaluationSet("bare", (Question("1", "?"),))
    with pytest.raises(SettingError, match="does not say which pages are relevant"):
        evaluate_retrieval(bare, ScriptedRanks({}))
    with pytest.raises(SettingError, match="does not say what the right answers are"):
        evaluate_answers(bare, VisRAG(ScriptedRanks({}), ScriptedGenerator()))


# --- indexing a set ---------------------------------------------------------------------------------------------------


def test_index_pages_goes_on_and_reports(tmp_path: Path) -> None:
    embedder = CountingEmbedder(refuse="gamma")
    with QdrantPageStore(tmp_path / "index") as store:
        heard: list[Any] = []
        report = index_pages(iter(PAGES), embedder, store, batch_size=2, on_failure=heard.append)
        assert (report.pages, report.added) == (3, 3)
        assert [(failure.source, failure.page) for failure in report.failed] == [("set/gamma.png", 1)]
        assert heard == list(report.failed)
    with QdrantPageStore(tmp_path / "index") as store:
        whole = CountingEmbedder()
        report = index_pages(PAGES, whole, store)
        assert (report.pages, report.added, report.failed) == (4, 1, ())
        assert whole.embedded == [("set/gamma.png", 1)]
        assert store.get_pages([PAGES[2].id])[0].metadata["corpus_id"] == "gamma.png"


# --- answers ----------------------------------------------------------------------------------------------------------


def written(answer: str, evidence: str = "[1]: it says so") -> str:
    return f"<observe>o</observe><evidence>{evidence}</evidence><think>t</think><answer>{answer}</answer>"


def test_answers_from_retrieved_pages(retriever: PageRetriever) -> None:
    generator = ScriptedGenerator(*map(written, ("alpha", "it is Beta", "insufficient to answer", "wrong")))
    rag = VisRAG(retriever, generator, top_k=2)
    result = evaluate_answers(SET, rag, ["em", "accuracy"], progress=False)
    assert result.answers == {
        "alpha": "alpha",
        "beta": "it is Beta",
        "gamma": "insufficient to answer",
        "delta": "wrong",
    }
    assert result.metrics == {"em": 0.25, "accuracy": 0.5}
    assert len(generator.batches) == 1  # one batch of four
    assert [len(pages) for pages in result.run.values()] == [2, 2, 2, 2]
    assert next(iter(result.run["delta"])) == "delta.png"
    assert (result.settings["generator"], result.settings["strategy"]) == ("scripted", "multi_image")


def test_answers_are_kept_and_scored_again(retriever: PageRetriever, tmp_path: Path) -> None:
    record = tmp_path / "answers.jsonl"
    rag = VisRAG(retriever, ScriptedGenerator(*map(written, WORDS)), settings=GenerationSettings(temperature=0.0))
    evaluate_answers(SET, rag, record=record)
    rag.generator = ScriptedGenerator()  # it has nothing left to say
    assert evaluate_answers(SET, rag, ["anls", "exact"], record=record).metrics == {"anls": 1.0, "exact": 1.0}
    rag.settings = GenerationSettings(temperature=0.5)
    with pytest.raises(SettingError, match=r"generation was \{'temperature': 0.0\}, is \{'temperature': 0.5\}"):
        evaluate_answers(SET, rag, record=record)
    with pytest.raises(UnknownNameError, match="bleu"):
        evaluate_answers(SET, rag, ["bleu"], record=record)
    rag.settings, rag.top_k = GenerationSettings(temperature=0.0), 1
    with pytest.raises(SettingError, match="top_k was 3, is 1"):
        evaluate_answers(SET, rag, record=record)


def test_given_pages_and_unanswerable_questions() -> None:
    questions = (
        Question("1", "Which?", answers=("alpha",), group="answerable", pages=PAGES[:3]),
        Question("2", "What?", answers=("beta",), answerable=False, group="unanswerable", pages=PAGES[1:]),
    )
    generator = ScriptedGenerator(written("alpha"), written("insufficient to answer"))
    rag = VisRAG(ScriptedRanks({}), generator)  # never asked: RANKS would lack the question
    result = evaluate_answers(EvaluationSet("EVisRAG-Test", questions), rag, top_k=2)
    assert result.metrics == {"em": 1.0, "accuracy": 1.0, "f1": 1.0}
    assert result.settings["pages"] == "given"
    shown = [[part.doc_id for part in conversation[0].pages] for conversation in generator.batches[0]]
    assert shown == [["alpha.png", "beta.png"], ["beta.png", "gamma.png"]]
    assert result.group("unanswerable").metrics["em"] == 1.0
    assert "unanswerable" in str(result)


def test_relevant_pages_show_how_good_it_could_be() -> None:
    generator = ScriptedGenerator(*map(written, WORDS))
    evaluate_answers(SET, VisRAG(ScriptedRanks({}), generator), pages="relevant")
    shown = [[part.doc_id for part in conversation[0].pages] for conversation in generator.batches[0]]
    assert shown == [[f"{word}.png"] for word in WORDS]


def test_relevant_pages_are_taken_from_the_index_where_the_set_has_none(retriever: PageRetriever) -> None:
    generator = ScriptedGenerator(*map(written, WORDS))
    evaluate_answers(replace(SET, pages=()), VisRAG(retriever, generator), pages="relevant")
    shown = [[part.metadata["corpus_id"] for part in asked[0].pages] for asked in generator.batches[0]]
    assert shown == [[f"{word}.png"] for word in WORDS]


def test_relevant_pages_by_names_of_ones_own() -> None:
    generator = ScriptedGenerator(*map(written, WORDS))
    judged = {word: {f"PAGE OF {word}": 1} for word in WORDS}
    rag, named = VisRAG(ScriptedRanks({}), generator), lambda page: f"PAGE OF {page.doc_id.removesuffix('.png')}"
    evaluate_answers(replace(SET, qrels=judged), rag, pages="relevant", key=named)
    shown = [[part.doc_id for part in conversation[0].pages] for conversation in generator.batches[0]]
    assert shown == [[f"{word}.png"] for word in WORDS]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("Asia", "Brazil", "China"), ["A. Asia", "B. Brazil", "C. China"]),  # begin with the letters, and have none
        (("A1", "B2"), ["A. A1", "B. B2"]),
        (("A lot", "B movie"), ["A. A lot", "B. B movie"]),
        (("A-10", "B-52"), ["A. A-10", "B. B-52"]),
        (("A/C", "B&B", "C++"), ["A. A/C", "B. B&B", "C. C++"]),
        (("A) x", "B. y", "C"), ["A) x", "B. y", "C"]),
        (("A", "B"), ["A", "B"]),
        (("A: x", " B: y "), ["A: x", "B: y"]),
        (("A. x", "red"), ["A. A. x", "B. red"]),
    ],
)
def test_every_option_is_shown_with_a_letter(options: tuple[str, ...], shown: list[str]) -> None:
    lines = with_options(Question("1", "Which?", options=options)).splitlines()
    assert lines == ["Which?", "Options:", *shown, "Answer with the letter of the right option only."]


def test_options_are_shown_to_the_generator_and_not_searched() -> None:
    assert with_options(Question("1", "Which?", options=("red", " blue"))).splitlines()[:4] == [
        "Which?", "Options:", "A. red", "B. blue",
    ]  # fmt: skip
    assert "A. A) red" not in with_options(Question("1", "Which?", options=("A) red", "B) blue")))
    asked = ScriptedRanks({"Which?": "0"})
    generator = ScriptedGenerator(written("B. blue"))
    questions = (Question("1", "Which?", answers=("B",), options=("red", "blue")),)
    result = evaluate_answers(EvaluationSet("ArxivQA", questions), VisRAG(asked, generator), ["choice"])
    assert asked.asked == ["Which?"]
    assert "B. blue" in generator.batches[0][0][0].text
    assert result.metrics == {"choice": 1.0}


@pytest.mark.parametrize("workers", [1, 3])
def test_one_failing_answer_is_not_fatal(retriever: PageRetriever, workers: int) -> None:
    class Fragile:
        name = "fragile"

        def generate(
            self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
        ) -> list[Generation]:
            if any("gamma?" in conversation[0].text for conversation in conversations):
                raise GenerationError("too long")
            return [Generation(written("alpha")) for _ in conversations]

    rag = VisRAG(retriever, Fragile())  # type: ignore[arg-type]
    result = evaluate_answers(SET, rag, ["em"], batch_size=2, workers=workers)
    assert [failure.id for failure in result.failed] == ["gamma"]
    assert result.metrics == {"em": 1 / 3}


def test_other_answerers() -> None:
    class Agent:
        """Only `ask`, as an agent has."""

        def ask(self, question: str) -> Answer:
            return Answer(question.rstrip("?"))

    assert evaluate_answers(SET, Agent()).metrics["em"] == 1.0
    with pytest.raises(SettingError, match="needs an object with answer_from"):
        evaluate_answers(SET, Agent(), pages="relevant")
    with pytest.raises(SettingError, match="allowed: auto, retrieved, given, relevant"):
        evaluate_answers(SET, Agent(), pages="all")  # type: ignore[arg-type]
    rag = VisRAG(ScriptedRanks({}), ScriptedGenerator())
    with pytest.raises(SettingError, match="gives no pages"):
        evaluate_answers(SET, rag, pages="given")
    with pytest.raises(SettingError, match="None of the pages that words calls relevant"):
        evaluate_answers(replace(SET, pages=()), rag, pages="relevant")
