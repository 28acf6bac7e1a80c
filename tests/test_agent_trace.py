"""Runs that are kept: saved, loaded, run again, and drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fakes import PixelEmbedder, ScriptedGenerator, ScriptedRetriever
from PIL import Image
from test_report import EVIL, Elements

from visrag_integrations import Page, PageRetriever, QdrantPageStore, ScoredPage
from visrag_integrations.agent import Finish, Search, Thought, Trace, VRAGAgent
from visrag_integrations.errors import GenerationError, TraceError
from visrag_integrations.types import Generation, Usage, Word

LOOK = "<think>I look.</think><search>totals</search>"
CLOSER = "<think>Small.</think><bbox>[100, 100, 200, 200]</bbox>"
ANSWER = "<think>I see.</think><answer>42</answer>"
TEXTS = (Generation(LOOK, -0.5, Usage(10, 5), "stop"), CLOSER, CLOSER, "nonsense", LOOK, ANSWER)
HITS = tuple(
    ScoredPage(
        Page(
            f"d{number}",
            number,
            "Text.",
            f"folder/d{number}.pdf",
            {"total_pages": 3, "title": "T"},
            (Word("Text.", (0.1, 0.1, 0.2, 0.2)),),
            picture=Image.new("RGB", (560, 504), colour),
        ),
        0.5,
        "maxsim",
    )
    for number, colour in enumerate(["red", "green"], start=1)
)


@pytest.fixture
def trace() -> Trace:
    return VRAGAgent(ScriptedRetriever(*HITS), ScriptedGenerator(*TEXTS)).run("How much?")


def test_a_saved_run_is_loaded_as_it_was(trace: Trace, tmp_path: Path) -> None:
    folder = trace.save(tmp_path / "run")
    loaded = Trace.load(folder)
    assert loaded == trace
    assert (loaded.answer, loaded.turns, loaded.usage) == (trace.answer, trace.turns, Usage(10, 5))
    assert [one.picture.tobytes() for one in loaded.shown if one.picture] == [
        one.picture.tobytes() for one in trace.shown if one.picture
    ]
    assert len(loaded.shown) == 4
    first = loaded.answer.pages[0].page
    assert first.open_image().tobytes() == Image.new("RGB", (560, 504), "red").tobytes()  # as it was shown
    assert loaded.to_html() == trace.to_html()
    assert sorted(path.name for path in folder.iterdir()) == ["pictures", "trace.json"]


def test_saving_again_replaces_what_was_there(trace: Trace, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "mine.png").write_bytes(b"kept")
    trace.save(tmp_path)
    before = {path.name for path in (tmp_path / "pictures").iterdir()}
    short = VRAGAgent(ScriptedRetriever(HITS[1]), ScriptedGenerator(LOOK, ANSWER)).run("How much?")
    short.save(str(tmp_path))
    assert Trace.load(str(tmp_path)) == short
    after = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert len(before) > len(after) == 2
    assert "mine.png" in after


def test_an_unfinished_run_can_be_kept_too(tmp_path: Path) -> None:
    stream = VRAGAgent(ScriptedRetriever(*HITS), ScriptedGenerator(LOOK, ANSWER)).stream("How much?")
    steps = (next(stream), next(stream))
    trace = Trace("How much?", steps)  # type: ignore[arg-type]
    assert (trace.reason, trace.answer.sufficient) == (None, False)
    trace.save(tmp_path)
    assert Trace.load(tmp_path) == trace
    assert "not finished" in trace._repr_html_()


def test_a_run_is_run_again_without_a_model(trace: Trace) -> None:
    again = VRAGAgent(ScriptedRetriever(*HITS), trace.generator())
    assert again.run("How much?") == trace
    assert again.run_many(["How much?"] * 2) == [trace, trace]
    *steps, whole = again.stream("How much?")
    assert (tuple(steps), whole) == (trace.steps, trace)
    with pytest.raises(GenerationError, match="has 6 turns, and turn 7 is asked for"):
        VRAGAgent(ScriptedRetriever(*HITS), Trace("", (), trace.turns[:-1] + trace.turns[:1]).generator()).run("How?")


def test_a_run_is_stepped_through(trace: Trace) -> None:
    steps = list(trace)
    assert isinstance(steps[0], Thought)
    assert isinstance(steps[1], Search)
    assert isinstance(steps[-1], Finish)
    assert [step.turn for step in steps] == sorted(step.turn for step in steps)


def test_a_run_for_programs(trace: Trace) -> None:
    kept = json.loads(json.dumps(trace.to_dict()))
    assert (kept["answer"], kept["reason"], kept["problems"]) == ("42", "answered", {"no_action": 1})
    assert kept["steps"][1] == {
        "turn": 1,
        "kind": "search",
        "query": "totals",
        "shown": [
            {
                "source": "folder/d1.pdf",
                "page": 1,
                "doc_id": "d1",
                "id": HITS[0].page.id,
                "score": 0.5,
                "region": [0, 0, 1, 1],
                "size": [560, 504],
            }
        ],
        "told": "",
        "problems": [],
    }
    assert kept["steps"][3]["box"] == [100, 100, 200, 200]


def _break(folder: Path, **changed: object) -> None:
    kept = json.loads((folder / "trace.json").read_text())
    (folder / "trace.json").write_text(json.dumps({**kept, **changed}))


def test_what_is_no_run_is_refused(trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"holds no trace\.json"):
        Trace.load(tmp_path)
    trace.save(tmp_path)
    _break(tmp_path, format=2)
    with pytest.raises(TraceError, match=r"format 2; this version reads up to 1\. Upgrade"):
        Trace.load(tmp_path)
    for changed in ({"steps": [{"kind": "jump"}]}, {"steps": 7}, {"pages": []}, {"turns": [{}]}):
        trace.save(tmp_path)
        _break(tmp_path, **changed)
        with pytest.raises(TraceError, match="is damaged"):
            Trace.load(tmp_path)
    for text in ("{", "[]", "7", "\0"):
        (tmp_path / "trace.json").write_text(text)
        with pytest.raises(TraceError):
            Trace.load(tmp_path)


def test_a_run_opens_no_file_outside_its_folder(trace: Trace, tmp_path: Path) -> None:
    Image.new("RGB", (560, 504)).save(tmp_path / "secret.png")
    folder = trace.save(tmp_path / "run")
    text = (folder / "trace.json").read_text()
    name = next(path.name for path in (folder / "pictures").iterdir())
    for other in ("../../secret.png", os.fspath(tmp_path / "secret.png"), "a" * 64 + ".png"):
        (folder / "trace.json").write_text(text.replace(name, other))
        with pytest.raises(TraceError, match="damaged"):
            Trace.load(folder)


def test_pages_of_a_store_are_kept(tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    pages = [hit.page for hit in HITS]
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
        retriever = PageRetriever(embedder, store)
        trace = VRAGAgent(retriever, ScriptedGenerator(*TEXTS)).run("How much?")
        assert Trace.load(trace.save(tmp_path / "run")).to_dict() == trace.to_dict()
        assert {hit.page.id for hit in trace.answer.pages} == {page.id for page in pages}


# --- drawn ------------------------------------------------------------------------------------------------------------


def test_the_drawing_shows_pages_boxes_and_the_answer(trace: Trace) -> None:
    drawn = trace._repr_html_()
    elements = Elements(drawn)
    assert len(elements.all("img")) == 4
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in elements.all("img"))
    boxes = [span["style"] for span in elements.all("span") if span.get("class") == "box"]
    # Turn 2 looked at 44 to 256 of 560 and of 504 pixels; turn 3 at a part of that.
    assert boxes[0] == "left:7.86%;top:8.73%;width:37.86%;height:42.06%"
    assert len(boxes) == 2
    for text in (
        "How much?",
        "42",
        "d1.pdf, page 1",
        "d2.pdf, page 2",
        "I look.",
        "holds no action",
        "score 0.5",
    ):
        assert text in elements.text, text
    assert "6 turns · 2 pages · 2 close-ups · 15 tokens · 1 problem · answered" in elements.text
    assert elements.open == []


def test_the_drawing_is_safe_whatever_models_and_documents_say() -> None:
    page = ScoredPage(Page("d", 1, EVIL, EVIL, picture=Image.new("RGB", (30, 30))), 0.5, EVIL)
    texts = (
        f"<think>{EVIL}</think><search>{EVIL}</search>",
        f"<think>{EVIL}</think><bbox>{EVIL}</bbox>",
        EVIL,
        f"<think>{EVIL}</think><answer>{EVIL}</answer>",
    )
    trace = VRAGAgent(ScriptedRetriever(page), ScriptedGenerator(*texts)).run(EVIL)
    for drawn in (trace._repr_html_(), trace.to_html()):
        elements = Elements(drawn)
        assert {"script", "iframe", "object", "link"}.isdisjoint(tag for tag, _ in elements.tags)
        assert all((image["src"] or "").startswith("data:") for image in elements.all("img"))
        assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
        assert "alert(1)" in elements.text
        assert elements.open == []
        drawn.encode("utf-8")
    assert "default-src 'none'" in trace.to_html()


def test_an_answer_that_was_not_given_as_one_is_called_so() -> None:
    texts = (f"{LOOK} or <answer>41</answer>", LOOK)
    trace = VRAGAgent(ScriptedRetriever(*HITS), ScriptedGenerator(*texts), 2).run("How much?")
    elements = Elements(trace._repr_html_())
    assert "Best answer so far41" in elements.text
    assert "the turns were used up" in elements.text


def test_an_empty_run_and_a_page_without_a_picture_can_be_drawn() -> None:
    assert "The model gave no answer." in Trace("How much?", ())._repr_html_()
    text = ScoredPage(Page("d", 1, "Only text."), 0.5)
    trace = VRAGAgent(ScriptedRetriever(text), ScriptedGenerator(LOOK, LOOK, ANSWER)).run("How much?")
    drawn = trace._repr_html_()
    assert "shown as its text" in drawn
    assert "Nothing new was found." in drawn
