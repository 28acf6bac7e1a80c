"""Questions on the demo page without a server: steps shown live, Stop, errors, conversations, settings."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator
from hypothesis import given
from hypothesis import strategies as st
from sparse_copies import copy_index

from visrag_integrations.cli import main
from visrag_integrations.errors import GenerationError, SettingError
from visrag_integrations.generation.extractive import ExtractiveGenerator
from visrag_integrations.servers.demo.asking import Asking, View
from visrag_integrations.servers.demo.conversation import (
    MOST_TURNS,
    KeptEvidence,
    KeptPage,
    KeptStep,
    KeptTurn,
    kept_conversation,
    read_conversation,
)
from visrag_integrations.servers.demo.follow_up import reworded, standalone
from visrag_integrations.servers.demo.knowledge_bases import FIRST_BASE, KnowledgeBases
from visrag_integrations.servers.demo.visitor_choices import read_choices
from visrag_integrations.servers.demo.visitor_limits import Limits
from visrag_integrations.servers.demo.words import about, shown_name, while_indexing
from visrag_integrations.types import Conversation, Generation, GenerationSettings

SEARCH = "<think>I need the boats.</think><search>boats</search>"
LOOK = "<think>Too small.</think><bbox>[20, 30, 200, 160]</bbox>"
ANSWER = "<think>Now I know.</think><answer>Forty boats.</answer>"
PLAIN = "<observe>a page</observe><evidence>[1]: forty boats</evidence><think>count</think><answer>Forty.</answer>"
ANNA: Any = SimpleNamespace(session_hash="anna")
BEN: Any = SimpleNamespace(session_hash="ben")


class Held(ScriptedGenerator):
    """Waits in the turn of a number until it may go on, then writes, or fails."""

    def __init__(self, *texts: str, hold: int, error: str = "") -> None:
        super().__init__(*texts)
        self.hold, self.error = hold, error
        self.reached, self.go_on = threading.Event(), threading.Event()

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        if len(self.batches) == self.hold:
            self.reached.set()
            assert self.go_on.wait(60)
            if self.error:
                raise GenerationError(self.error)
        return super().generate(conversations, settings)


Opened = Callable[..., Asking]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of knowledge bases with two documents of one page each; every test gets a copy."""
    folder = tmp_path_factory.mktemp("prepared")
    texts = {"a.pdf": "The harbour holds forty boats.", "b.pdf": "Anchors weigh two hundred pounds."}
    with KnowledgeBases(folder / "bases", embedder=PixelEmbedder(), generator=ExtractiveGenerator()) as bases:
        base = bases.get(FIRST_BASE)
        base.add([(draw_pdf(folder / name, [text]), name) for name, text in texts.items()])
        while base.is_indexing:
            threading.Event().wait(0.02)
    return folder / "bases"


@pytest.fixture
def opened(tmp_path: Path, prepared: Path) -> Iterator[Opened]:
    """What answers from a copy of the prepared documents."""
    open_ones: list[KnowledgeBases] = []

    def open_with(generator: Any, *, empty: bool = False, **settings: Any) -> Asking:
        folder = tmp_path / f"bases{len(open_ones)}"
        if not empty:
            copy_index(prepared, folder)
        open_ones.append(KnowledgeBases(folder, embedder=PixelEmbedder(), generator=generator, **settings))
        return Asking(open_ones[-1])

    yield open_with
    for bases in open_ones:
        bases.close()


def ask(asking: Asking, question: str, kept: Any = None, visitor: Any = ANNA, **choices: Any) -> list[View]:
    """All that the page shows until the answer ends."""
    return list(begun(asking, question, kept, visitor, **choices))


def begun(
    asking: Asking,
    question: str,
    kept: Any = None,
    visitor: Any = ANNA,
    *,
    documents: Any = None,
    top_k: Any = 2,
    mode: Any = "lexical",
    model: Any = "",
    steps: Any = False,
) -> Iterator[View]:
    return asking.ask(FIRST_BASE, question, kept, documents, top_k, mode, model, steps, visitor)


def last(views: Sequence[View], piece: str) -> Any:
    """A piece of the page as it was left."""
    left = None
    for view in views:
        value = getattr(view, piece)
        if value != gr.skip():
            left = value
    return left


# --- a model that searches by itself --------------------------------------------------------------------------------


def test_steps_are_shown_as_they_happen(opened: Opened) -> None:
    views = ask(opened(ScriptedGenerator(SEARCH, LOOK, ANSWER)), "How many boats?", steps=True)
    counts = [str(view.steps).count("<li") for view in views if view.steps != gr.skip()]
    assert counts == sorted(counts)  # each step stays, and is shown when it happens
    assert counts[-1] == 5  # three thoughts, a search, a look closer
    steps = last(views, "steps")
    for words in ("I need the boats.", "Searched for", "“boats”", "a.pdf, page 1", "Too small.", "close-up of a.pdf"):
        assert words in steps
    assert steps.count("data:image/jpeg;base64,") == 2  # the page, and the part of it
    assert "20, 30" not in steps  # numbers of pixels help nobody
    assert "Forty boats." in last(views, "answer")
    assert "a.pdf, page 1" in last(views, "pages")
    stages = [str(view.answer) for view in views]
    assert any("Step 1 of at most 10" in stage for stage in stages)
    assert any("Step 2 of at most 10" in stage for stage in stages)


def test_stop_ends_a_run_and_keeps_what_was_shown(opened: Opened) -> None:
    generator = Held(SEARCH, ANSWER, hold=1)
    asking = opened(generator)
    views: list[View] = []
    running = threading.Thread(target=lambda: views.extend(begun(asking, "How many boats?", steps=True)))
    running.start()
    assert generator.reached.wait(60)
    stopped = asking.stop(None, ANNA)
    assert "Stopped" in stopped.answer
    (turn,) = read_conversation(stopped.kept)
    assert (turn.outcome, [step.kind for step in turn.steps]) == ("stopped", ["thought", "search"])
    generator.go_on.set()
    running.join(60)
    # Nothing is shown after Stop, and nothing else was written.
    assert all("Forty boats" not in str(view) for view in views)
    assert len(generator.batches) == 2
    assert asking.running == {}
    again = asking.restored(FIRST_BASE, stopped.kept)
    assert "“boats”" in again.steps
    assert "Stopped" in again.answer


def test_who_chooses_another_base_gets_no_answer_into_it(opened: Opened) -> None:
    generator = Held(SEARCH, ANSWER, hold=1)
    asking = opened(generator)
    views: list[View] = []
    running = threading.Thread(target=lambda: views.extend(begun(asking, "How many boats?", steps=True)))
    running.start()
    assert generator.reached.wait(60)
    shown_so_far = len(views)
    kept = asking.leave(None, ANNA)
    assert asking.restored(FIRST_BASE, kept).stop == gr.update(visible=False)
    generator.go_on.set()
    running.join(60)
    assert len(views) == shown_so_far
    (turn,) = read_conversation(kept)
    assert (turn.base, turn.question, turn.outcome) == (FIRST_BASE, "How many boats?", "stopped")
    assert asking.leave(kept, ANNA) == gr.skip()


def test_an_error_in_the_middle_keeps_the_steps(opened: Opened) -> None:
    generator = Held(SEARCH, hold=1, error="The model's server is away.")
    generator.go_on.set()
    views = ask(opened(generator), "How many boats?", steps=True)
    assert "The generator failed or cannot be reached" in last(views, "answer")  # its address is for the log alone
    assert "“boats”" in last(views, "steps")
    (turn,) = read_conversation(last(views, "kept"))
    assert turn.outcome == "failed"
    assert last(views, "stop") == gr.update(visible=False)


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        (("nothing that can be read", ANSWER), "It said nothing that could be done."),
        (("<think>t</think><bbox>[1, 2, 3, 4]</bbox>", ANSWER), "It wanted to look closer before it had a page."),
        (("<think>t</think><search></search>", ANSWER), "It searched for nothing."),
        ((SEARCH, "<think>t</think><bbox>[9, 9, 1, 1]</bbox>", ANSWER), "It named no part of the picture."),
        ((SEARCH, "<think>t</think><bbox>[9000, 9000, 9100, 9100]</bbox>", ANSWER), "not on the picture"),
        ((SEARCH, SEARCH, SEARCH, SEARCH, ANSWER), "Nothing new was found."),
    ],
)
def test_what_goes_wrong_in_a_step_is_said_in_plain_words(opened: Opened, turns: tuple[str, ...], words: str) -> None:
    views = ask(opened(ScriptedGenerator(*turns)), "How many boats?", steps=True)
    assert words in last(views, "steps")
    assert "&lt;bbox" not in last(views, "steps")
    assert "Forty boats." in last(views, "answer")


def test_a_run_has_an_end(opened: Opened) -> None:
    asking = opened(ScriptedGenerator(SEARCH, SEARCH, SEARCH), limits=Limits(turns=3))
    views = ask(asking, "How many boats?", steps=True)
    assert "Step 3 of at most 3" in str(views)
    assert "used up its steps" in last(views, "answer")


def test_no_step_names_a_file_of_the_machine(opened: Opened, tmp_path: Path) -> None:
    asking = opened(ScriptedGenerator(SEARCH, ANSWER))
    pictures = [path for path in (tmp_path / "bases0").rglob("*") if path.suffix in {".png", ".webp", ".jpg"}]
    assert pictures
    for picture in pictures:
        picture.write_bytes(b"broken")
    views = ask(asking, "How many boats?", steps=True)
    assert "The picture of this page cannot be opened." in last(views, "steps")
    assert str(tmp_path) not in str(views)


def test_what_only_quotes_is_no_agent(opened: Opened, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    views = ask(opened(ExtractiveGenerator()), "How many boats?", steps=True)
    assert "This model only quotes passages" in last(views, "answer")
    assert main(["demo", "--agent", "--preset", "cpu", "--folder", str(tmp_path / "b")]) == 2
    said = capsys.readouterr().err
    assert "only quotes passages" in said
    assert "--generator http" in said
    assert not (tmp_path / "b").exists()


# --- conversations --------------------------------------------------------------------------------------------------


def test_a_follow_up_is_reworded_and_both_are_shown(opened: Opened) -> None:
    generator = ScriptedGenerator(PLAIN, "How heavy are the anchors of the boats?", PLAIN)
    asking = opened(generator)
    first = ask(asking, "How many boats?")
    assert "Understood as" not in last(first, "answer")
    second = ask(asking, "And their anchors?", last(first, "kept"))
    shown = last(second, "answer")
    assert "And their anchors?" in shown
    assert "Understood as: <b>How heavy are the anchors of the boats?</b>" in shown
    prompt = generator.batches[1][0][0].text
    for told in ("How many boats?", "Forty.", "And their anchors?"):
        assert told in prompt
    assert "How heavy are the anchors of the boats?" in generator.batches[2][0][0].text  # what is answered
    assert "How many boats?" in last(second, "earlier")
    assert [turn.meant for turn in read_conversation(last(second, "kept"))] == [
        "How many boats?",
        "How heavy are the anchors of the boats?",
    ]


@pytest.mark.parametrize(
    ("written", "question"),
    [
        ("How high was it in 2020?", "How high was it in 2020?"),
        ('"How high was it in 2020?"', "How high was it in 2020?"),
        ("Question: How high was it?\n", "How high was it?"),
        ("<think>They mean\n2020.</think>\n\nHow high was it?", "How high was it?"),
        ("Wie hoch war er 2020?", "Wie hoch war er 2020?"),
        ("", ""),
        ("…", ""),
        ("<answer>4,200</answer>", ""),
        ("First I look at the pages.\nThen I answer.", ""),
        ("word " * 200, ""),
    ],
)
def test_only_a_question_is_taken_from_what_a_model_writes(written: str, question: str) -> None:
    assert reworded(written) == question
    earlier = [KeptTurn("b", "How high was it in 2019?", text="4,200")]
    assert standalone("And then?", earlier, ScriptedGenerator(written)) == (question or "And then?")


def test_a_follow_up_is_asked_as_it_is_where_rewording_fails() -> None:
    earlier = [KeptTurn("b", "How many?", text="Forty.")]
    failing = Held(hold=0, error="away")
    failing.go_on.set()
    assert standalone("And then?", earlier, failing) == "And then?"
    assert standalone("And then?", earlier, ExtractiveGenerator()) == "And then?"
    assert standalone("And then?", [], ScriptedGenerator()) == "And then?"  # nothing is asked of the model


def test_a_conversation_comes_back_with_its_pages_and_outlines(opened: Opened) -> None:
    asking = opened(ScriptedGenerator(PLAIN))
    views = ask(asking, "How many boats?")
    kept = json.loads(json.dumps(last(views, "kept")))  # as the browser sends it
    again = asking.restored(FIRST_BASE, kept)
    for words in ("How many boats?", "Forty.", "forty boats", "Quoted from this page"):
        assert words in again.answer
    assert again.pages == last(views, "pages")
    assert "vr-outlined" in again.pages
    forgotten = asking.forget(FIRST_BASE, kept)
    assert read_conversation(forgotten.kept) == []
    assert "Ready when you are" in forgotten.answer


def test_pages_of_removed_documents_are_gone_from_the_conversation(opened: Opened) -> None:
    asking = opened(ScriptedGenerator(PLAIN))
    kept = last(ask(asking, "How many boats does the harbour hold? Anchors?"), "kept")
    base = asking.bases.get(FIRST_BASE)
    base.remove(["b.pdf"])
    again = asking.restored(FIRST_BASE, kept)
    assert "a.pdf" in again.pages
    assert "b.pdf" not in again.pages
    assert "Quoted from this page" in again.answer
    base.remove(["a.pdf"])
    again = asking.restored(FIRST_BASE, kept)
    assert again.pages == ""
    assert "Forty." in again.answer
    assert "b.pdf" not in asking.report(FIRST_BASE, kept)[0]


def test_a_conversation_belongs_to_its_knowledge_base(opened: Opened) -> None:
    asking = opened(ScriptedGenerator(PLAIN))
    kept = last(ask(asking, "How many boats?"), "kept")
    asking.bases.create("Other")
    assert "boats" not in str(asking.restored("Other", kept))
    assert asking.report("Other", kept) == ("", 0)
    assert read_conversation(asking.forget("Other", kept).kept) != []


def test_the_server_keeps_nothing_of_a_conversation(opened: Opened, tmp_path: Path) -> None:
    asking = opened(ScriptedGenerator(PLAIN, PLAIN))
    ask(asking, "How many boats? SECRETWORD")
    # Another visitor, who has kept nothing, is told nothing of it.
    other = ask(asking, "How many boats?", None, BEN)
    assert "SECRETWORD" not in str(other)
    assert "SECRETWORD" not in str(asking.restored(FIRST_BASE, None))
    assert asking.stop(None, BEN).answer == gr.skip()
    files = [path for path in (tmp_path / "bases0").rglob("*") if path.is_file()]
    assert files
    assert all(b"SECRETWORD" not in path.read_bytes() for path in files)


def test_a_visitor_cannot_stop_another_ones_answer(opened: Opened) -> None:
    generator = Held(SEARCH, ANSWER, hold=1)
    asking = opened(generator)
    views: list[View] = []
    running = threading.Thread(target=lambda: views.extend(begun(asking, "How many boats?", steps=True)))
    running.start()
    assert generator.reached.wait(60)
    asking.stop(None, BEN)
    generator.go_on.set()
    running.join(60)
    assert "Forty boats." in last(views, "answer")


def test_the_report_holds_the_conversation(opened: Opened) -> None:
    asking = opened(ScriptedGenerator(PLAIN, "And the anchors?", PLAIN))
    kept = last(ask(asking, "How many boats?"), "kept")
    kept = last(ask(asking, "Anchors?", kept), "kept")
    html, left_out = asking.report(FIRST_BASE, kept)
    assert left_out == 0
    assert html.startswith("<!doctype html>")
    for words in ("How many boats?", "And the anchors?", "Forty.", "a.pdf", "data:image/"):
        assert words in html
    assert str(asking.bases.folder) not in html
    assert asking.report(FIRST_BASE, None) == ("", 0)
    # Not more pictures than fit, whatever a browser asks for: the newest questions.
    many = {**kept["turns"][0], "pages": kept["turns"][0]["pages"] * 20}
    html, left_out = asking.report(FIRST_BASE, {"version": 1, "turns": [many] * 20})
    assert left_out == 20 - html.count('<section id="q')
    assert 0 < html.count('<section id="q') <= 5


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
PLAIN_JSON = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
INNER_JSON = st.lists(PLAIN_JSON, max_size=4) | st.dictionaries(st.text(max_size=10), PLAIN_JSON, max_size=4)
JSON = PLAIN_JSON | INNER_JSON | st.lists(INNER_JSON, max_size=4)
KEYS = st.sampled_from(["base", "question", "searched", "text", "outcome", "evidence", "pages", "steps", "model"])


@given(st.lists(st.dictionaries(KEYS, JSON, max_size=9) | JSON, max_size=30))
def test_whatever_a_browser_sends_is_read(turns: list[Any]) -> None:
    read = read_conversation({"version": 1, "turns": turns})
    assert len(read) <= MOST_TURNS
    kept = kept_conversation(read)
    json.dumps(kept).encode()
    assert read_conversation(json.loads(json.dumps(kept))) == read
    for value in (turns, {"version": 2, "turns": turns}, {"version": 1, "turns": 7}, None, "x"):
        assert read_conversation(value) == []


def test_a_kept_conversation_has_an_end() -> None:
    turn = KeptTurn(
        "b",
        "q" * 9000,
        "s" * 9000,
        "t" * 90_000,
        pages=(KeptPage("p"),) * 90,
        steps=(KeptStep("thought", "x" * 9000),) * 90,
        evidence=(KeptEvidence(1, "e" * 9000),) * 90,
    )
    kept = kept_conversation([turn] * 50)
    assert len(json.dumps(kept)) < 500_000  # a request may have 1 MiB, and a browser keeps 5 MB
    assert kept["turns"]
    (small,) = kept_conversation([KeptTurn("b", "q")])["turns"]
    assert small["question"] == "q"


def test_a_thin_region_from_a_browser_is_shown(opened: Opened) -> None:
    asking = opened(ScriptedGenerator(SEARCH, ANSWER))
    kept = last(ask(asking, "How many boats?", steps=True), "kept")
    step = {"kind": "look", "text": "x", "page": kept["turns"][0]["pages"][0]["id"]}
    for region in ([0.0, 0.0, 1e-9, 1e-9], [1 - 1e-9, 1 - 1e-9, 1.0, 1.0], [0.2, 0.1, 0.4, 0.3], [0, 0, 5, 5], "x"):
        kept["turns"][0]["steps"] = [{**step, "region": region}]
        assert "data:image/jpeg" in asking.restored(FIRST_BASE, kept).steps


# --- settings -------------------------------------------------------------------------------------------------------


def test_only_ticked_documents_are_searched(opened: Opened) -> None:
    asking = opened(ExtractiveGenerator())
    both = ask(asking, "harbour boats anchors pounds")
    assert "a.pdf" in last(both, "pages")
    assert "b.pdf" in last(both, "pages")
    one = ask(asking, "harbour boats anchors pounds", documents=["b.pdf"])
    assert "a.pdf" not in last(one, "pages")
    assert "b.pdf" in last(one, "pages")
    gone = ask(asking, "boats?", documents=["gone.pdf"])
    assert "gone or not read yet" in last(gone, "answer")
    agent = ask(opened(ScriptedGenerator(SEARCH, ANSWER)), "boats?", documents=["b.pdf"], mode="dense", steps=True)
    assert "b.pdf" in last(agent, "steps")
    assert "a.pdf" not in last(agent, "steps")


def test_settings_hold_for_one_question(opened: Opened) -> None:
    asking = opened(ScriptedGenerator(PLAIN), others=[ExtractiveGenerator()])
    quoted = ask(asking, "How many boats are in the harbour?", top_k=1, model="extractive")
    assert "Best passage" in last(quoted, "answer")
    assert last(quoted, "pages").count("<figure") == 1
    written = ask(asking, "How many boats?", top_k=2, mode="dense")
    assert "Forty." in last(written, "answer")
    assert last(written, "pages").count("<figure") == 2


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"top_k": 0}, "whole number from 1 to 10"),
        ({"top_k": 11}, "whole number from 1 to 10"),
        ({"top_k": 1e30}, "whole number"),
        ({"top_k": float("nan")}, "whole number"),
        ({"top_k": "many"}, "whole number"),
        ({"top_k": True}, "whole number"),
        ({"top_k": {"path": "x"}}, "whole number"),
        ({"mode": "nearest"}, "no such way to search"),
        ({"mode": ["dense"]}, "no such way to search"),
        ({"model": "http://evil.example/v1"}, "There is no model called"),
        ({"model": "/etc/passwd"}, "There is no model called"),
        ({"documents": ["x"] * 2000}, "at most 1000"),
    ],
)
def test_settings_that_are_not_offered_are_refused(opened: Opened, choices: dict[str, Any], words: str) -> None:
    assert words in last(ask(opened(ExtractiveGenerator()), "How many boats?", **choices), "answer")


def test_no_settings_are_the_demos_own() -> None:
    choices = read_choices(None, None, None, None, None, most_pages=10)
    assert (choices.documents, choices.top_k, choices.mode, choices.model, choices.steps) == ((), None, None, "", False)
    assert read_choices({"a": 1}, "", "", 7, "yes", most_pages=10) == choices


def test_only_so_many_are_answered_at_a_time(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visrag_integrations.servers.demo.asking._WAIT_FOR_SLOT", 0.05)
    generator = Held(SEARCH, ANSWER, hold=0)
    asking = opened(generator, limits=Limits(asking=1))
    running = threading.Thread(target=lambda: ask(asking, "How many boats?", steps=True))
    running.start()
    assert generator.reached.wait(60)
    asking.stop(None, ANNA)
    # The model still writes: Stop does not let a visitor have more answers written at once than are allowed.
    views = ask(asking, "How many boats?", None, BEN)
    assert "Too many questions" in last(views, "answer")
    generator.go_on.set()
    running.join(60)
    with asking.slot():
        pass


def test_an_answer_has_an_end(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = opened(ScriptedGenerator(SEARCH, SEARCH, ANSWER), limits=Limits(seconds=1))
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr("visrag_integrations.servers.demo.asking.time", SimpleNamespace(monotonic=lambda: next(clock)))
    views = ask(asking, "How many boats?", steps=True)
    assert "took longer than 1 seconds" in last(views, "answer")
    assert "I need the boats." in last(views, "steps")


# --- what is said where nothing is there ----------------------------------------------------------------------------


def test_an_empty_base_asks_for_a_document(opened: Opened) -> None:
    asking = opened(ExtractiveGenerator(), empty=True)
    shown = last(ask(asking, "How many boats?"), "answer")
    assert "There is nothing to search yet: add a document." in shown
    assert "alert" not in shown
    assert "insufficient" not in shown
    assert "Warnings" not in shown


def test_no_protocol_words_reach_people(opened: Opened) -> None:
    quoted = last(ask(opened(ExtractiveGenerator()), "zebra xylophone?"), "answer")
    assert "insufficient" not in quoted
    assert "No passage fits" in quoted
    assert "Compared the question" not in quoted  # how it works inside
    unknown = PLAIN.replace("Forty.", "insufficient to answer")
    written = last(ask(opened(ScriptedGenerator(unknown)), "How many boats?"), "answer")
    assert "insufficient" not in written
    assert "No answer in these pages" in written
    assert "What the model noted on each page" in written


def test_questions_are_checked(opened: Opened) -> None:
    asking = opened(ExtractiveGenerator(), limits=Limits(question=20))
    for wrong in ("", "  ", None, 7, {"path": "/etc/passwd"}, ["x"]):
        assert "Type a question first." in last(ask(asking, wrong), "answer")  # type: ignore[arg-type]
    assert "longer than 20" in last(ask(asking, "x" * 21), "answer")
    with pytest.raises(SettingError):
        asking.checked(" ")


def test_words_fit_the_models() -> None:
    class ReadsText(PixelEmbedder):
        reads = "text"

    class Named(ScriptedGenerator):
        name = "/srv/models/reader-7b"

    looks, reads = PixelEmbedder(), ReadsText()
    assert about(reads, ExtractiveGenerator()) == "Pages are found by their text, and the best passage is quoted."
    assert about(looks, Named()) == "Pages are found by how they look, and reader-7b writes the answer."
    assert "looked at" in while_indexing(looks)
    assert "by their text" in while_indexing(reads)
    assert "look" not in while_indexing(reads)
    for name, shown in {
        "openbmb/EVisRAG-7B": "openbmb/EVisRAG-7B",
        "C:\\models\\reader": "reader",
        "./reader/": "reader",
        "~/reader": "reader",
        "/": "model",
    }.items():
        assert shown_name(name) == shown
