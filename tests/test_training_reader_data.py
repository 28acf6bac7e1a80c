"""What a reader is trained on: rows read and written in the published layouts, and examples from documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from PIL import Image
from reader_runs import picture, truth_of, write_rows

from visrag_integrations.errors import DatasetError, GenerationError, SettingError
from visrag_integrations.evaluation import EvaluationSet, Question
from visrag_integrations.readers import PageReader
from visrag_integrations.training import build_examples, export_examples
from visrag_integrations.training.reader_building import with_pages
from visrag_integrations.training.reader_examples import (
    PLACE,
    ExampleTurn,
    ReaderExample,
    ReaderExamples,
    open_examples,
)
from visrag_integrations.training.rewards import answer_reward, evidence_reward, format_reward
from visrag_integrations.training.support import pages_with_words, support_reward
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page, ScoredPage

FACTS = {
    1: ("How many sailing boats does the harbour hold?", "forty", "The harbour holds forty sailing boats."),
    2: ("How much do the anchors weigh?", "two hundred pounds", "Anchors weigh two hundred pounds each."),
    3: ("Who built the lighthouse tower?", "Ada Fisher", "The lighthouse tower was built by Ada Fisher."),
}


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    draw_pdf(tmp_path / "boats.pdf", [fact for _, _, fact in FACTS.values()])
    return tmp_path / "boats.pdf"


def made() -> EvaluationSet:
    questions = [Question(f"q{number}", text, answers=(answer,)) for number, (text, answer, _) in FACTS.items()]
    qrels = {f"q{number}": {f"boats.pdf#page={number}": 1} for number in FACTS}
    return EvaluationSet("made", tuple(questions), qrels)


class Strong:
    """A generator that reads the text of the pages it is shown, and answers in EVisRAG's form."""

    name = "strong"

    def __init__(self, spoil: str = "", fails: Sequence[str] = ()) -> None:
        self.spoil, self.fails, self.asked = spoil, fails, 0

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        return [Generation(self._write(conversation)) for conversation in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        yield Generation(self._write(conversation))

    def _write(self, conversation: Conversation) -> str:
        self.asked += 1
        message = conversation[-1]
        _, answer, fact = next(fact for fact in FACTS.values() if fact[0] in message.text)
        if any(word in message.text for word in self.fails):
            raise GenerationError("the server went away")
        lines = []
        for number, page in enumerate(message.pages, 1):
            assert page.open_image().width > 100
            said = fact if fact in " ".join(page.text.split()) else "no relevant information"
            lines.append(f"[{number}]: {said}")
        text = (
            "<observe>\nPages of a harbour.\n</observe>\n<evidence>\n" + "\n".join(lines) + "\n</evidence>\n"
            f"<think>\nOne page says it.\n</think>\n<answer>\n{answer}\n</answer>"
        )
        if self.spoil == "answer":
            return text.replace(f"<answer>\n{answer}", "<answer>\nnobody knows")
        if self.spoil == "evidence":
            return text.replace(fact, "The submarine sank in 1912 near Iceland, say 77 witnesses.")
        if self.spoil == "form":
            return text.replace("<think>\nOne page says it.\n</think>", "")
        if self.spoil == "lines":
            return text.replace("[2]:", "[7]:")
        return text


# --- from documents -----------------------------------------------------------------------------------------------


def test_examples_from_documents(documents: Path, tmp_path: Path) -> None:
    examples = build_examples(documents, made(), Strong(), tmp_path / "out", pages=3, seed=1, progress=False)
    assert len(examples) == 3
    assert not examples.broken
    places = set()
    for example in examples.rows:
        assert format_reward(example.truth, published=True) == 1
        assert answer_reward(example.truth, example.truth) == 1
        assert evidence_reward(example.truth, example.truth) == 1
        assert len(example.pictures) == 3
        assert example.turns[0].text.endswith(PLACE * 3)
        places.add(next(n for n in (1, 2, 3) if "no relevant" not in example.truth.split(f"[{n}]: ")[1].split("\n")[0]))
    assert len(places) > 1  # the page that answers is not always the first one
    again = open_examples(tmp_path / "out" / "train.jsonl")
    assert again.fingerprint == examples.fingerprint
    assert again.rows[0].page_texts == examples.rows[0].page_texts


def test_the_page_that_answers_stands_anywhere() -> None:
    pages = {f"d.pdf#page={number}": Page("d", number, source="d.pdf") for number in range(1, 31)}
    questions = tuple(Question(f"q{number}", "?", answers=("x",)) for number in range(1, 91))
    qrels = {question.id: {f"d.pdf#page={1 + place % 30}": 1} for place, question in enumerate(questions)}
    counts = [0, 0, 0]
    others = set()
    for place, asked in enumerate(with_pages(EvaluationSet("many", questions, qrels), pages, 3, None, 0)):
        numbers = [page.number for page in asked.pages]
        assert len(set(numbers)) == 3
        counts[numbers.index(1 + place % 30)] += 1
        others |= set(numbers) - {1 + place % 30}
    assert min(counts) >= 15  # 30 each; 15 is more than three standard deviations away
    assert len(others) >= 25


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("answer", "its answer 'nobody knows' is not"),
        ("evidence", "0% of its evidence stands on its page"),
        ("form", "it lacks an observation or thinking"),
        ("lines", "it records evidence for the pages"),
    ],
)
def test_what_is_not_learned_from(spoil: str, reason: str, documents: Path, tmp_path: Path) -> None:
    dropped: list[str] = []
    with pytest.raises(DatasetError, match=f"not one answer is good enough.*{reason.split()[0]}"):
        build_examples(
            documents,
            made(),
            Strong(spoil),
            tmp_path / "out",
            progress=False,
            on_dropped=lambda question, why: dropped.append(why),
        )
    assert len(dropped) == 3
    assert all(why.startswith(reason) for why in dropped), dropped


def test_building_goes_on_where_it_stopped(documents: Path, tmp_path: Path) -> None:
    away = Strong(fails=["anchors"])
    examples = build_examples(documents, made(), away, tmp_path / "out", progress=False)
    assert len(examples) == 2
    assert list(examples.broken.values()) == ["the generator failed on it"]
    back = Strong()
    assert len(build_examples(documents, made(), back, tmp_path / "out", progress=False)) == 3
    assert back.asked == 1
    with pytest.raises(SettingError, match="seed"):
        build_examples(documents, made(), back, tmp_path / "out", progress=False, seed=1)


def test_an_answer_from_other_pages_is_not_taken_for_one(documents: Path, tmp_path: Path) -> None:
    """Its evidence says "[2]", and the second page may now be another one."""

    class Ranked:
        def __init__(self, numbers: Sequence[int]) -> None:
            pages = {page.number: page for page in PageReader().read(documents)}
            self.hits = [ScoredPage(pages[number], 1 / number) for number in numbers]

        def retrieve(self, query: Any, top_k: int | None = None) -> list[ScoredPage]:
            return self.hits[:top_k]

    def built(retriever: Ranked) -> int:
        strong = Strong()
        build_examples(documents, made(), strong, tmp_path / "out", pages=2, retriever=retriever, progress=False)
        return strong.asked

    assert built(Ranked([1, 2, 3])) == 3
    assert built(Ranked([1, 2, 3])) == 0
    # The second page of each: 2 1 1 before, 3 3 2 now.
    assert built(Ranked([3, 2, 1])) == 3


def test_data_without_rows_is_an_error() -> None:
    with pytest.raises(DatasetError, match="holds no row"):
        open_examples(ReaderExamples("mine", ()))


def test_the_same_seed_shows_the_same_pages(documents: Path, tmp_path: Path) -> None:
    first = build_examples(documents, made(), Strong(), tmp_path / "a", pages=2, progress=False)
    second = build_examples(documents, made(), Strong(), tmp_path / "b", pages=2, progress=False)
    assert [row.truth for row in first.rows] == [row.truth for row in second.rows]
    other = build_examples(documents, made(), Strong(), tmp_path / "c", pages=2, progress=False, seed=3)
    assert [row.truth for row in first.rows] != [row.truth for row in other.rows]


def test_a_question_that_holds_the_mark_of_a_picture(documents: Path, tmp_path: Path) -> None:
    text, answer, _ = FACTS[1]
    asked = EvaluationSet(
        "made", (Question("q", f"{text} <image>", answers=(answer,)),), {"q": {"boats.pdf#page=1": 1}}
    )
    (example,) = build_examples(documents, asked, Strong(), tmp_path / "out", pages=1, progress=False).rows
    assert example.turns[0].text.count(PLACE) == 1


def test_values_that_are_no_good(documents: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="pages is 6"):
        build_examples(documents, made(), Strong(), tmp_path / "out", pages=6)
    with pytest.raises(DatasetError, match="no question is about these pages"):
        build_examples(
            documents, EvaluationSet("other", (Question("q", "?", answers=("x",)),), {"q": {"b#page=1": 1}}), Strong(),
            tmp_path / "out", progress=False,
        )  # fmt: skip


# --- files --------------------------------------------------------------------------------------------------------


def test_rows_in_each_layout(tmp_path: Path) -> None:
    picture("red").save(tmp_path / "red.png")
    (tmp_path / "images").mkdir()
    picture("blue").save(tmp_path / "images" / "blue.png")
    messages = [{"role": "user", "content": "Colour? <image>"}, {"role": "assistant", "content": "red"}]
    rows: list[dict[str, Any]] = [
        {"prompt": "<image> Colour?", "answer": "red", "image": "red.png"},
        {"prompt": "Colour?", "answer": "blue", "image": ["blue.png"]},
        {"messages": messages, "images": ["red.png"]},
        {"messages": messages, "images": [{"bytes": None, "path": "red.png"}]},
        {"prompt": "No picture", "answer": "none"},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    examples = open_examples(tmp_path / "rows.json")
    assert not examples.broken
    assert [row.turns[0].text for row in examples.rows] == [
        "<image> Colour?",
        "Colour?<image>",
        "Colour? <image>",
        "Colour? <image>",
        "No picture",
    ]
    assert [row.truth for row in examples.rows] == ["red", "blue", "red", "red", "none"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [{"role": "user", "content": "?"}]}, "its last message must be the assistant's"),
        ({"messages": [{"role": "tool", "content": "?"}, {}]}, "a message is .*tool"),
        ({"messages": [{"role": "user", "content": 3}, {"role": "assistant", "content": "x"}]}, "it must be text"),
        ({"prompt": "<image>", "answer": "x", "image": {"a": 1}}, "its pictures are dict"),
        ({"prompt": "<image>", "answer": "x", "image": ["data:image/png;base64,!!"]}, "no data URL that can be read"),
        ({"prompt": "<image>", "answer": "x", "image": ["/etc/passwd"]}, "no path inside"),
        ({"prompt": "<image>", "answer": "x", "image": [7]}, "names the picture '7'"),
        ({"prompt": 3, "answer": "x"}, "it has the columns prompt, answer"),
        ({"prompt": "?", "answer": "x", "page_texts": "one text"}, "its page_texts are 'one text'"),
        ({"prompt": "?", "answer": "x", "page_texts": [1]}, "they are a list of texts"),
        ({"prompt": "?", "answer": "x", "page_texts": ["a text"]}, "it has 1 page_texts and 0 pictures"),
    ],
)
def test_rows_that_are_no_good(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    import re

    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(DatasetError, match="holds no good row") as caught:
        open_examples(tmp_path / "rows.jsonl")
    assert re.search(said, str(caught.value))


def test_export_for_llama_factory(tmp_path: Path) -> None:
    path = export_examples(write_rows(tmp_path / "data"), tmp_path / "out", layout="llama-factory")
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["evidencecot"]
    assert info["formatting"] == "sharegpt"
    assert path.name == info["file_name"]
    rows = json.loads(path.read_text())
    assert len(rows) == 16
    for row in rows:
        assert sum(message["content"].count("<image>") for message in row["messages"]) == len(row["images"]) == 2
        assert row["messages"][-1]["role"] == "assistant"
        for name in row["images"]:
            Image.open(tmp_path / "out" / name).verify()
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4  # each picture once


@pytest.mark.parametrize("layout", ["evisrag", "llama-factory", "ms-swift"])
def test_what_is_exported_is_read_again(layout: Any, tmp_path: Path) -> None:
    data = open_examples(write_rows(tmp_path / "data"))
    path = export_examples(data, tmp_path / "out", layout=layout)
    again = open_examples(path)
    assert [row.truth for row in again.rows] == [row.truth for row in data.rows]
    assert [row.turns for row in again.rows] == [row.turns for row in data.rows]


def test_export_for_ms_swift_names_the_solution(tmp_path: Path) -> None:
    path = export_examples(write_rows(tmp_path / "data"), tmp_path / "out", layout="ms-swift")
    row = json.loads(path.read_text().splitlines()[0])
    assert set(row) == {"messages", "images", "solution"}
    assert row["solution"] == truth_of("red", "red")


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="layout is 'verl'; it is one of evisrag"):
        export_examples(write_rows(tmp_path / "data"), tmp_path / "out", layout="verl")  # type: ignore[arg-type]


# --- evidence that stands on its page -----------------------------------------------------------------------------


def test_the_share_of_evidence_that_stands_on_its_page() -> None:
    pages = [Page("a", 1, text=FACTS[1][2]), Page("b", 1, text=FACTS[2][2])]

    def response(first: str, second: str) -> str:
        return f"<evidence>[1]: {first}\n[2]: {second}</evidence><answer>x</answer>"

    assert support_reward(response(FACTS[1][2], FACTS[2][2]), pages) == 1
    assert support_reward(response(FACTS[1][2], "Ships sank near Iceland in 1912."), pages) == 0.5
    assert support_reward("no tags", pages) == 0
    assert support_reward(response(FACTS[1][2], FACTS[2][2]), [Page("a", 1), Page("b", 1)]) is None


def test_words_come_from_the_row_or_from_ocr() -> None:
    example = ReaderExample((ExampleTurn("user", PLACE),), (picture("red"),), "x", "row", ("some words",))
    assert pages_with_words(example)[0].text == "some words"
    from PIL import ImageDraw

    drawn = Image.new("RGB", (600, 120), "white")
    ImageDraw.Draw(drawn).text((20, 30), "forty boats", "black", font_size=48)
    (page,) = pages_with_words(ReaderExample((ExampleTurn("user", PLACE),), (drawn,), "x", "row"))
    assert "boats" in " ".join(word.text for word in page.words)
