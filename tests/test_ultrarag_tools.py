"""Each tool of UltraRAG's servers alone: what it takes, what it refuses, and that nothing is lost or changes places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator
from mcp import Client
from PIL import Image

import visrag_integrations.embedders as embedders
from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.cli import main
from visrag_integrations.errors import (
    DatasetError,
    PictureError,
    SettingError,
    StoreError,
    StoreMismatchError,
    UnknownNameError,
)
from visrag_integrations.generation.evisrag import build_prompt, prompt_template, question_of
from visrag_integrations.servers.ultrarag import create_server, write_folders
from visrag_integrations.servers.ultrarag.corpus import CorpusTools
from visrag_integrations.servers.ultrarag.custom import CustomTools
from visrag_integrations.servers.ultrarag.found_pages import FoundPages
from visrag_integrations.servers.ultrarag.generation import GenerationTools
from visrag_integrations.servers.ultrarag.prompts import PromptRules, conversations_of
from visrag_integrations.servers.ultrarag.retriever import RetrieverTools
from visrag_integrations.types import Word

COLOURS = ("red", "green", "blue", "black")


@pytest.fixture(autouse=True)
def pixels(monkeypatch: pytest.MonkeyPatch) -> list[PixelEmbedder]:
    """`load_embedder("pixels")` makes one; the list holds those that were made."""
    made: list[PixelEmbedder] = []

    def make(**settings: Any) -> PixelEmbedder:
        made.append(PixelEmbedder())
        return made[-1]

    monkeypatch.setitem(embedders._named, "pixels", make)
    return made


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[RetrieverTools]:
    tools = RetrieverTools(tmp_path / "visrag")
    yield tools
    tools.close()


@pytest.fixture
def generation(tmp_path: Path) -> Iterator[GenerationTools]:
    tools = GenerationTools(tmp_path / "visrag")
    tools.generation_init({"visrag": {"model_name_or_path": "extractive"}}, {})
    yield tools
    tools.close()


def write_corpus(place: Path, colours: tuple[str, ...] = COLOURS, **more: Any) -> Path:
    """A corpus as UltraRAG writes it: one plain picture a page."""
    rows = []
    for number, colour in enumerate(colours):
        file = place / "image" / "book" / f"{colour}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 60), colour).save(file)
        name = f"book/{colour}.png"
        rows.append({"id": number, "image_id": name, "image_path": f"image/{name}", "contents": colour * 9, **more})
    corpus = place / "image.jsonl"
    corpus.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return corpus


def init(tools: RetrieverTools, place: Path, corpus: Path | None = None, **ours: Any) -> None:
    visrag = {"store": str(place / "index"), **ours}
    tools.retriever_init(
        "pixels", {"visrag": visrag}, corpus_path=str(corpus or place / "image.jsonl"), is_multimodal=True
    )


def names(result: Any) -> list[list[str]]:
    return [[Path(path).name for path in paths] for paths in result["ret_psg"]]


# --- the retriever ---


def test_a_corpus_is_indexed_once_and_found_by_its_paths(
    retriever: RetrieverTools, pixels: list[PixelEmbedder], tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path)
    init(retriever, tmp_path)
    retriever.retriever_embed()
    retriever.retriever_index()
    retriever.retriever_embed()
    assert pixels[-1].embedded == 4
    found = retriever.retriever_search(["bluebluebluebluebluebluebluebluebluE", "redredredred"], top_k=2)
    assert [paths[0] for paths in found["ret_psg"]] == [
        str(corpus.parent / "image" / "book" / "blue.png"),
        str(corpus.parent / "image" / "book" / "red.png"),
    ]
    assert retriever.retriever_search("redredred", top_k=1)["ret_psg"] == [[found["ret_psg"][1][0]]]
    assert len(retriever.retriever_search(["red"], top_k=50)["ret_psg"][0]) == 4  # more than there are
    batches = retriever.retriever_batch_search([["redredred"], ["blueblue", "greengreen"]], top_k=1)["ret_psg_ls"]
    assert [[Path(one[0]).name for one in batch] for batch in batches] == [["red.png"], ["blue.png", "green.png"]]


def test_a_filled_collection_is_searched_at_once_and_without_its_corpus(
    retriever: RetrieverTools, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path)
    init(retriever, tmp_path)
    retriever.retriever_embed()
    corpus.unlink()
    init(retriever, tmp_path)
    assert names(retriever.retriever_search(["redredred"], top_k=1)) == [["red.png"]]


def test_changed_and_removed_pages_follow_the_corpus(
    retriever: RetrieverTools, pixels: list[PixelEmbedder], tmp_path: Path
) -> None:
    write_corpus(tmp_path)
    init(retriever, tmp_path)
    retriever.retriever_embed()
    write_corpus(tmp_path, ("red", "green", "blue"))
    Image.new("RGB", (40, 60), "yellow").save(tmp_path / "image" / "book" / "red.png")
    retriever.retriever_embed()
    assert pixels[-1].embedded == 5  # four, and the one whose picture changed
    found = names(retriever.retriever_search(["black"], top_k=10))[0]
    assert sorted(found) == ["blue.png", "green.png", "red.png"]
    retriever.retriever_embed(overwrite=True)
    assert pixels[-1].embedded == 8


def test_vectors_are_written_and_read_as_ultrarag_keeps_them(
    retriever: RetrieverTools, pixels: list[PixelEmbedder], tmp_path: Path
) -> None:
    write_corpus(tmp_path)
    vectors = tmp_path / "embedding" / "e.npy"
    init(retriever, tmp_path, write_embeddings=True)
    retriever.retriever_embed(str(vectors))
    rows = np.load(vectors)
    assert (rows.dtype, rows.shape) == (np.float32, (4, 74))
    pages = [Page("p", 1, colour * 9, picture=Image.new("RGB", (40, 60), colour)) for colour in COLOURS]
    made = np.array(PixelEmbedder().embed_pages(pages))
    np.testing.assert_allclose(rows, made / np.linalg.norm(made, axis=1, keepdims=True), atol=1e-6)

    init(retriever, tmp_path, store=str(tmp_path / "other"))
    retriever.retriever_index(str(vectors))
    assert pixels[-1].embedded == 0
    assert names(retriever.retriever_search(["redredred"], top_k=1)) == [["red.png"]]
    np.save(vectors, rows[:3])
    init(retriever, tmp_path, store=str(tmp_path / "third"))
    with pytest.raises(SettingError, match=r"need \(4, 74\)"):
        retriever.retriever_index(str(vectors))


def test_filters_and_tenants_hold(retriever: RetrieverTools, tmp_path: Path) -> None:
    write_corpus(tmp_path, ("red", "green"), year=2001)
    init(retriever, tmp_path, tenant="ada")
    retriever.retriever_embed()
    assert names(retriever.retriever_search(["red"])) == [["red.png", "green.png"]]
    init(retriever, tmp_path, tenant="ada", filter={"year": {"gt": 2001}})
    assert names(retriever.retriever_search(["red"])) == [[]]
    init(retriever, tmp_path, tenant="bob")
    with pytest.raises(StoreError, match=r"is empty\. Run corpus_index\.yaml"):
        retriever.retriever_search(["red"])


def test_pages_that_others_indexed_are_shown_as_files(retriever: RetrieverTools, tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    page = Page("d", 1, "harbour", source="report.pdf", words=(Word("harbour", (0.1, 0.1, 0.4, 0.2)),))
    with QdrantPageStore(tmp_path / "index", "mine") as store:
        store.prepare(embedder)
        shown = Page.from_image(
            Image.new("RGB", (40, 60), "red"), doc_id="d", source="report.pdf", text=page.text, words=page.words
        )
        store.add_pages([shown], embedder.embed_pages([shown]))
    write_corpus(tmp_path)
    init(retriever, tmp_path)
    ((path,),) = retriever.retriever_search(["harbour"], collection_name="mine")["ret_psg"]
    with Image.open(path) as image:
        assert image.size == (40, 60)
    known = FoundPages(tmp_path / "visrag" / "found").page_at(path)
    assert (known.text, known.source, list(known.words)) == ("harbour", "report.pdf", list(page.words))
    detailed = retriever.retriever_search_pages(["harbour"], collection_name="mine")
    assert detailed["ret_pages"] == [[{"source": "report.pdf", "page": 1, "key": "report.pdf#page=1"}]]
    assert len(detailed["ret_scores"][0]) == 1


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"corpus_path": "gone.jsonl"}, DatasetError, "there is no such corpus"),
        ({"corpus_path": ""}, SettingError, "corpus_path is empty"),
        ({"model_name_or_path": "openbmb/NoSuch"}, UnknownNameError, "There is no embedder 'openbmb/NoSuch'"),
        ({"backend": "faiss"}, SettingError, "backend is 'faiss'; use visrag"),
        ({"visrag": {"store": "http://127.0.0.1:1"}}, StoreError, "127.0.0.1:1"),
        ({"visrag": {"stores": "x"}}, SettingError, "backend_configs.visrag has stores; allowed: store,"),
        ({"visrag": {"mode": "fast"}}, SettingError, "mode is 'fast'; use dense, lexical, hybrid"),
        ({"visrag": {"rerank": {"collection": "x"}}}, SettingError, "embedder"),
        ({"visrag": "ocr"}, SettingError, "must be keys and values"),
    ],
)
def test_what_cannot_be_opened_says_why(
    retriever: RetrieverTools, tmp_path: Path, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    visrag = change.pop("visrag", {"store": str(tmp_path / "index")})
    arguments = {"model_name_or_path": "pixels", "corpus_path": str(write_corpus(tmp_path)), **change}
    with pytest.raises(error, match=r".*") as raised:
        retriever.retriever_init(backend_configs={"visrag": visrag, "infinity": {"their": "own"}}, **arguments)
    assert said in str(raised.value)
    with pytest.raises(SettingError, match="retriever_init before this one"):
        retriever.retriever_search(["x"])


def test_another_embedders_collection_is_refused(retriever: RetrieverTools, tmp_path: Path) -> None:
    write_corpus(tmp_path)
    init(retriever, tmp_path)
    retriever.retriever_embed()
    with pytest.raises(StoreMismatchError, match="pixels"):
        retriever.retriever_init("ocr", {"visrag": {"store": str(tmp_path / "index")}})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no json", "line 5 is no JSON"),
        ('{"id": 9}', "neither image_path nor contents"),
        ('{"contents": "x"}', "needs image_id or id"),
        ('{"id": 9, "image_path": "../../etc/passwd"}', "refused"),
        ('{"id": 9, "image_path": "/etc/passwd"}', "refused"),
        ('{"image_id": "book/red.png", "contents": "x"}', "is the same page as line 1"),
        ('{"id": 9, "contents": 7}', "contents is int"),
        ('{"id": 9, "contents": "x", "words": "damaged"}', "words cannot be read"),
    ],
)
def test_a_bad_line_of_a_corpus_is_named(retriever: RetrieverTools, tmp_path: Path, line: str, said: str) -> None:
    corpus = write_corpus(tmp_path)
    with corpus.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    with pytest.raises(DatasetError, match="image.jsonl, line 5" if "no json" not in line else "line 5") as raised:
        init(retriever, tmp_path)
    assert said in str(raised.value)


def test_pictures_that_are_gone_are_an_error_and_the_others_are_indexed(
    retriever: RetrieverTools, tmp_path: Path
) -> None:
    write_corpus(tmp_path)
    (tmp_path / "image" / "book" / "green.png").unlink()
    (tmp_path / "image" / "book" / "blue.png").write_bytes(b"no picture")
    init(retriever, tmp_path)
    with pytest.raises(SettingError, match=r"2 of 4 pages could not be indexed, the first: book/green\.png"):
        retriever.retriever_embed()
    assert sorted(names(retriever.retriever_search(["red"]))[0]) == ["black.png", "red.png"]
    init(retriever, tmp_path, skip_unreadable=True)
    retriever.retriever_embed()
    assert len(names(retriever.retriever_search(["red"]))[0]) == 2


def test_a_page_without_any_picture_left_is_an_error_of_the_search(retriever: RetrieverTools, tmp_path: Path) -> None:
    write_corpus(tmp_path)
    init(retriever, tmp_path, pictures=False)
    retriever.retriever_embed()
    (tmp_path / "image" / "book" / "green.png").unlink()
    with pytest.raises(PictureError, match=r"book/green.png' is gone"):
        retriever.retriever_search(["red"])


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_must_be_positive(retriever: RetrieverTools, tmp_path: Path, top_k: int) -> None:
    write_corpus(tmp_path)
    init(retriever, tmp_path)
    retriever.retriever_embed()
    with pytest.raises(SettingError, match="top_k"):
        retriever.retriever_search(["red"], top_k=top_k)


def test_a_run_needs_an_id_for_each_question(retriever: RetrieverTools, tmp_path: Path) -> None:
    write_corpus(tmp_path)
    init(retriever, tmp_path)
    retriever.retriever_embed()
    retriever.retriever_search(["redredred", "blueblue"], top_k=1)
    with pytest.raises(SettingError, match="1 q_ids, and the last search had 2"):
        retriever.write_run(["q1"], str(tmp_path / "run.trec"))
    retriever.write_run(["q1", 2], str(tmp_path / "out" / "run.trec"))
    lines = (tmp_path / "out" / "run.trec").read_text().splitlines()
    assert [line.split("\t")[:4] for line in lines] == [
        ["q1", "Q0", "book/red.png", "1"],
        ["2", "Q0", "book/blue.png", "1"],
    ]


# --- generation ---


def reworded(question: str, marks: int = 0) -> str:
    """The published prompt as UltraRAG words it."""
    lines = [line.strip() for line in prompt_template().split("\n") if line.strip()]
    return "\n".join(lines).replace("{query}", question) + "\n" + "<image>" * marks


@pytest.mark.parametrize(
    "question",
    [
        "How many?",
        "two\nlines",
        "with <image> in it",
        "Question: Question: what?",
        "<answer>7</answer>",
        "多少？",
        "x\n\ny",
    ],
)
@pytest.mark.parametrize("marks", [0, 1, 3])
def test_the_question_is_found_in_ultrarags_wording(question: str, marks: int) -> None:
    prompt = reworded(question, marks)
    assert question_of(prompt) == question
    assert question_of(prompt.strip()) == question
    assert (
        question_of("\n" + prompt.replace("\n", " \r\n").replace(question.replace("\n", " \r\n"), question)) == question
    )
    assert question_of(prompt.replace("Step 3", "Step 4")) != question  # another prompt is not this one


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: {"role": "user", "content": {"type": "text", "text": text}},
        lambda text: text,
        lambda text: {"content": text},
        lambda text: {"text": text},
        lambda text: f"  {text}\n",
    ],
)
def test_prompts_of_every_shape_become_the_published_one(tmp_path: Path, wrap: Any) -> None:
    paths = [str(path) for path in pictures(tmp_path)]
    rules = PromptRules(FoundPages(tmp_path / "found"))
    ((turn,),) = conversations_of([wrap(reworded("How many?", 2))], [paths], rules)
    assert turn.text == build_prompt("How many?")
    assert turn.content[0] == turn.text  # the pictures follow
    assert [page.source for page in turn.pages] == paths


@pytest.mark.parametrize("prompt", [7, None, {"content": 7}, {"content": {"type": "image"}}, {}, ["How many?"]])
def test_a_prompt_of_another_shape_is_refused(generation: GenerationTools, prompt: Any) -> None:
    with pytest.raises(SettingError, match="Prompt 2 is"):
        generation.generate(["first?", prompt])


def test_marks_take_pictures_and_their_numbers_must_agree(tmp_path: Path) -> None:
    first, second = (str(path) for path in pictures(tmp_path))
    found = FoundPages(tmp_path / "found")
    rules = PromptRules(found, "Be short.", "<pic>")
    ((system, turn),) = conversations_of(["Of <pic> and <pic>, which?"], [[first, second]], rules)
    assert (system.role, system.text) == ("system", "Be short.")
    assert [part if isinstance(part, str) else part.source for part in turn.content] == [
        "Of ",
        first,
        " and ",
        second,
        ", which?",
    ]
    with pytest.raises(SettingError, match="Prompt 1 has 1 times <pic> and 2 pictures"):
        conversations_of(["Of <pic>, which?"], [[first, second]], rules)
    with pytest.raises(SettingError, match="Prompt 1 has 3 times <image> and 2 pictures"):
        conversations_of([reworded("which?", 3)], [[first, second]], PromptRules(found))
    # Without a mark pictures come first, and prompts beyond the list of pictures have none.
    (one,), (two,) = conversations_of(["a?", "b?"], [[first]], PromptRules(found))
    assert ([page.source for page in one.pages], one.content[-1], two.content) == ([first], "a?", ("b?",))


@pytest.mark.parametrize("broken", ["gone.png", "broken.png", "", "http://127.0.0.1:1/a.png", "data:,!"])
def test_a_picture_that_cannot_be_opened_is_an_error(generation: GenerationTools, tmp_path: Path, broken: str) -> None:
    first, second = (str(path) for path in pictures(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    path = str(tmp_path / broken) if broken.endswith("n.png") or broken == "gone.png" else broken
    with pytest.raises(PictureError, match="Picture 2 of prompt 1 cannot be shown"):
        generation.multimodal_generate([[first, path, second]], [reworded("How many?", 3)])


def test_a_batch_is_one_call_with_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation: GenerationTools
) -> None:
    scripted = ScriptedGenerator("one", "two", "three")
    calls: list[Any] = []
    monkeypatch.setattr(generation, "_generator", scripted)
    write = scripted.generate

    def counted(conversations: Any, settings: Any = None) -> Any:
        calls.append(settings)
        return write(conversations, settings)

    monkeypatch.setattr(scripted, "generate", counted)
    assert generation.generate(["a", "b", "c"], None)["ans_ls"] == ["one", "two", "three"]
    assert len(calls) == 1
    assert (calls[0].temperature, calls[0].repetition_penalty) == (None, None)  # as published
    assert generation.generate([])["ans_ls"] == []


def test_extractive_answers_from_what_the_retriever_found(
    retriever: RetrieverTools, generation: GenerationTools, tmp_path: Path
) -> None:
    write_corpus(tmp_path, ("red",), contents="The harbour holds forty boats.")
    init(retriever, tmp_path)
    retriever.retriever_embed()
    found = retriever.retriever_search(["how many boats does the harbour hold"])["ret_psg"]
    asked = reworded("how many boats does the harbour hold", 1)
    (answer,) = generation.multimodal_generate(found, [asked])["ans_ls"]
    assert "<answer>The harbour holds forty boats.</answer>" in answer
    plain = "Think.\n\nQuestion: how many boats does the harbour hold"
    assert generation.multimodal_generate(found, [plain])["ans_ls"] == ["The harbour holds forty boats."]
    parsed = CustomTools(tmp_path / "visrag").evisrag_parse([answer], found)
    assert parsed["pred_ls"] == ["The harbour holds forty boats."]
    assert parsed["evidence_ls"][0][0]["image"] == found[0][0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (({"visrag": {"model": "x"}}, {}), "backend_configs.visrag has model; allowed: model_name_or_path"),
        (({"visrag": {"prompt": "x"}}, {}), "use published or as_given"),
        (({}, {"top_k": 3}), "sampling_params has top_k; allowed: max_tokens, temperature"),
        (({}, {}, None, "gguf"), "backend is 'gguf'; use visrag, vllm, openai, hf"),
        (({}, {}, None, "vllm"), "backend_configs.vllm.model_name_or_path names no model"),
        (({"visrag": {"model_name_or_path": "no-such"}}, {}), "No generator is called 'no-such'"),
    ],
)
def test_a_generator_that_cannot_be_loaded_says_why(
    generation: GenerationTools, arguments: tuple[Any, ...], said: str
) -> None:
    with pytest.raises((SettingError, UnknownNameError)) as raised:
        generation.generation_init(*arguments)
    assert said in str(raised.value)
    with pytest.raises(SettingError, match="generation_init before this one"):
        generation.generate(["x"])


def test_turns_and_shutdown(generation: GenerationTools) -> None:
    turns = [
        {"role": "user", "content": "a?"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c?"},
    ]
    assert len(generation.multiturn_generate(turns)["ans_ls"]) == 1
    for bad in ([], turns[:2], [{"role": "tool", "content": "x"}]):
        with pytest.raises(SettingError):
            generation.multiturn_generate(bad)
    generation.vllm_shutdown()
    generation.vllm_shutdown()


# --- custom and corpus ---


def test_answers_keep_their_number(tmp_path: Path) -> None:
    custom = CustomTools(tmp_path)
    texts = [
        "<think>x</think><answer> 7 </answer>",
        "no tags ",
        "<answer>a</answer><answer>b</answer>",
        "<answer>cut",
        "",
    ]
    extracted = custom.evisrag_output_extract_from_special(texts)
    assert extracted == {"pred_ls": ["7", "no tags", "a", "cut", ""]}
    with pytest.raises(SettingError, match="There are 1 answers and pictures for 2"):
        custom.evisrag_parse(["x"], [[], []])
    parsed = custom.evisrag_parse(["<evidence>[3]: seven</evidence><answer>7</answer>"], [[]])
    assert parsed["evidence_ls"] == [
        [{"index": 3, "text": "seven", "relevant": True, "image": None, "source": None, "page": None}]
    ]
    assert any("3" in problem for problem in parsed["problems_ls"][0])


def test_a_corpus_of_many_kinds_keeps_every_page_apart(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    draw_pdf(docs / "report.pdf", ["Forty boats.", "Ten anchors."])
    draw_pdf(docs / "sub" / "report.pdf", ["A loaf of rye."])
    Image.new("RGB", (40, 60), "red").save(
        docs / "scan.tiff", save_all=True, append_images=[Image.new("RGB", (40, 60))]
    )
    (docs / "notes.txt").write_text("Lanterns burn oil.", encoding="utf-8")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    tools, corpus = CorpusTools(tmp_path), tmp_path / "out" / "c.jsonl"
    with pytest.raises(SettingError, match=r"1 documents or pages .*broken.pdf") as raised:
        tools.build_image_corpus(str(docs), str(corpus))
    assert "The other 6 pages are in" in str(raised.value)
    tools.build_image_corpus(str(docs), str(corpus), skip_unreadable=True)
    rows = [json.loads(line) for line in corpus.read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == list(range(6))
    assert sorted(row["image_id"] for row in rows) == [
        "notes/page_0.jpg",
        "report-2/page_0.jpg",
        "report/page_0.jpg",
        "report/page_1.jpg",
        "scan/page_0.jpg",
        "scan/page_1.jpg",
    ]
    texts = {row["image_id"]: row["contents"] for row in rows}
    assert "Ten anchors." in texts["report/page_1.jpg"]
    assert "rye" in texts["report-2/page_0.jpg"]
    for row in rows:
        with Image.open(corpus.parent / row["image_path"]) as image:
            assert image.format == "JPEG"


@pytest.mark.parametrize(("source", "target"), [("gone", "c.jsonl"), ("empty", "c.jsonl"), ("empty", "c.json")])
def test_a_corpus_that_cannot_be_built_says_why(tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((SettingError, DatasetError, FileNotFoundError)):
        CorpusTools(tmp_path).build_image_corpus(str(tmp_path / source), str(tmp_path / target))
    assert not (tmp_path / target).exists()


# --- servers ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "visrag", embedder="pixels", generator="extractive").folder


async def test_build_says_where_arguments_come_from(folder: Path) -> None:
    for name in ("retriever", "generation", "corpus", "custom"):
        server, tools = create_server(name, folder)
        async with Client(server) as client:
            result = await client.call_tool("build", {"parameter_file": str(folder / name / "parameter.yaml")})
            assert not result.is_error
            listed = {tool.name for tool in (await client.list_tools()).tools}
        written = yaml.safe_load((folder / name / "server.yaml").read_text("utf-8"))
        assert set(written["tools"]) == listed - {"build"} == {spec.name for spec in tools.specs()}
        assert written["path"] == str(folder / name / "src" / f"{name}.py")
    retriever = yaml.safe_load((folder / "retriever" / "server.yaml").read_text("utf-8"))["tools"]
    assert retriever["retriever_search"] == {
        "input": {
            "query_list": "q_ls",
            "top_k": "$top_k",
            "query_instruction": "$query_instruction",
            "collection_name": "$collection_name",
        },
        "output": ["ret_psg"],
    }
    assert "output" not in retriever["retriever_init"]
    assert all(source.startswith("$") for source in retriever["retriever_init"]["input"].values())


async def test_errors_reach_the_client_in_words(folder: Path, tmp_path: Path) -> None:
    server, _ = create_server("retriever", folder)
    async with Client(server) as client:
        arguments = {"model_name_or_path": "pixels", "backend_configs": {}, "corpus_path": str(tmp_path / "no.jsonl")}
        result = await client.call_tool("retriever_init", arguments)
        assert result.is_error
        assert "there is no such corpus" in result.content[0].text  # type: ignore[union-attr]
        missing = await client.call_tool("build", {"parameter_file": str(tmp_path / "x" / "parameter.yaml")})
        assert missing.is_error
        assert "visrag ultrarag init" in missing.content[0].text  # type: ignore[union-attr]


def test_init_keeps_what_the_user_changed(folder: Path) -> None:
    changed = folder / "retriever" / "parameter.yaml"
    changed.write_text("top_k: 9\n", encoding="utf-8")
    (folder / "retriever" / "src" / "retriever.py").write_text("old", encoding="utf-8")
    written = write_folders(folder, embedder="ocr", generator="extractive")
    assert changed.read_text("utf-8") == "top_k: 9\n"
    assert changed in written.kept
    assert sys.executable in (folder / "retriever" / "src" / "retriever.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("generator", "name", "settings"),
    [
        ("http://localhost:8000/v1#EVisRAG-7B", "http://localhost:8000/v1", {"model": "EVisRAG-7B"}),
        ("https://host/v1#qwen2.5vl:7b", "https://host/v1", {"model": "qwen2.5vl:7b"}),
        ("http://localhost:8000/v1#", "http://localhost:8000/v1", {}),
        ("http://localhost:8000/v1", "http://localhost:8000/v1", {}),
        ("openbmb/EVisRAG-7B", "openbmb/EVisRAG-7B", {}),
        ("models/run #2: last", "models/run #2: last", {}),
        ("C#models", "C#models", {}),
        ("null", "null", {}),
        ("123", "123", {}),
        ("EMBEDDER", "EMBEDDER", {}),
    ],
)
def test_init_writes_the_generator_as_it_was_named(
    tmp_path: Path, generator: str, name: str, settings: dict[str, str]
) -> None:
    assert main(["ultrarag", "init", str(tmp_path), "--embedder", "ocr", "--generator", generator]) == 0
    written = yaml.safe_load((tmp_path / "generation" / "parameter.yaml").read_text("utf-8"))
    ours = written["backend_configs"]["visrag"]
    assert (ours["model_name_or_path"], ours["settings"]) == (name, settings)
    retriever = yaml.safe_load((tmp_path / "retriever" / "parameter.yaml").read_text("utf-8"))
    assert retriever["model_name_or_path"] == "ocr"


@pytest.mark.parametrize(
    "name",
    [
        "models/📄 berichte",
        "𝔐odell: größe",
        "模型/𠮷 #1",
        "a\x85b\u2028c\x7fd\ufeff",  # line breaks to YAML, and what it does not take
        "broken \udcff 📄",  # a byte that is no UTF-8, as Python names it
        "back\\ud83d\\udcc4",
    ],
)
def test_init_keeps_every_character_of_a_name(tmp_path: Path, name: str) -> None:
    write_folders(tmp_path, embedder=name, generator=f"http://host/v1#{name}")
    retriever = yaml.safe_load((tmp_path / "retriever" / "parameter.yaml").read_text("utf-8"))
    generation = yaml.safe_load((tmp_path / "generation" / "parameter.yaml").read_text("utf-8"))
    assert retriever["model_name_or_path"] == name
    assert generation["backend_configs"]["visrag"]["settings"] == {"model": name}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retrieve"], "There is no server 'retrieve' for UltraRAG; there is retriever,"),
        ([], "Say which server"),
        (["retriever"], "parameter.yaml cannot be read"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(folder: Path, arguments: list[str], said: str) -> None:
    (folder / "retriever" / "parameter.yaml").write_text("a: [1\nb: }", encoding="utf-8")
    if arguments:
        arguments = [*arguments, str(folder)]
    command = [sys.executable, "-m", "visrag_integrations.servers.ultrarag", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert finished.returncode == 2
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert said in line


def test_a_python_that_is_gone_is_named(folder: Path) -> None:
    starter = folder / "custom" / "src" / "custom.py"
    starter.write_text(starter.read_text("utf-8").replace(repr(sys.executable), "'/no/such/python'"), encoding="utf-8")
    finished = subprocess.run([sys.executable, starter], capture_output=True, text=True)
    assert finished.returncode == 1
    assert (finished.stdout, finished.stderr.count("\n")) == ("", 1)
    assert "there is no Python at /no/such/python any more" in finished.stderr


NOISY = """
import os, sys
from visrag_integrations.servers.ultrarag import custom
from visrag_integrations.servers.ultrarag.__main__ import main
def noisy(text):
    print("printed"); os.write(1, b"written by C code\\n"); sys.stdout.flush()
    return text
custom._first_answer = noisy
sys.exit(main(["custom", sys.argv[1]]))
"""


async def test_nothing_but_the_protocol_is_on_standard_output(folder: Path) -> None:
    from mcp import StdioServerParameters, stdio_client

    started = StdioServerParameters(command=sys.executable, args=["-c", NOISY, str(folder)], env=dict(os.environ))
    async with Client(stdio_client(started)) as client:
        result = await client.call_tool("evisrag_output_extract_from_special", {"ans_ls": ["7"]})
        assert json.loads(result.content[0].text) == {"pred_ls": ["7"]}  # type: ignore[union-attr]


def pictures(place: Path) -> list[Path]:
    files = []
    for colour in ("red", "blue"):
        files.append(place / f"{colour}.png")
        Image.new("RGB", (40, 60), colour).save(files[-1])
    return files
