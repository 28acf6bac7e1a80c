"""CrossEncoderReranker: sentence-transformers' own scores, what is read of a page, and what is refused or said."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, ScoredPage, load_embedder
from visrag_integrations.errors import CheckpointError, MissingExtraError, RerankerError, SettingError
from visrag_integrations.rerankers import CrossEncoderReranker

library = pytest.importorskip("sentence_transformers")
pytest.importorskip("torchvision")
from tiny_rerankers import picture_reranker, text_reranker  # noqa: E402

TEXTS = ["many apples", "pears, Grüße 世界", "a text of some more words", "hm"]
COLOURS = ["red", "blue", "gold", "white"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_reranker(tmp_path_factory.mktemp("reranker") / "text")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_reranker(tmp_path_factory.mktemp("reranker"))


def hits(texts: list[str] = TEXTS, *, pictures: bool = True) -> list[ScoredPage]:
    found = []
    for number, text in enumerate(texts, 1):
        picture = Image.new("RGB", (30 + 17 * number, 90), COLOURS[number % 4]) if pictures else None
        found.append(ScoredPage(Page("d", number, text, picture=picture), 1 / number))
    return found


def by_number(scored: list[ScoredPage]) -> list[float]:
    return [hit.score for hit in sorted(scored, key=lambda hit: hit.page.number)]


def test_scores_are_the_librarys(folder: Path) -> None:
    by_hand = library.CrossEncoder(str(folder), device="cpu")
    expected = by_hand.predict([("how many?", text) for text in TEXTS])
    with CrossEncoderReranker(folder, device="cpu") as reranker:
        assert (reranker.name, reranker.reads) == (str(folder), "text")
        scored = reranker.rerank("how many?", hits())
    np.testing.assert_allclose(by_number(scored), expected, rtol=0, atol=1e-5)
    assert [hit.page.number for hit in scored] == list(np.argsort(-expected) + 1)
    assert {hit.score_type for hit in scored} == {"rerank"}
    assert all(0 < score < 1 for score in by_number(scored))


def test_scores_are_raw_or_from_0_to_1_as_asked(folder: Path) -> None:
    by_hand = library.CrossEncoder(str(folder), device="cpu")
    pairs = [("how many?", text) for text in TEXTS]
    import torch

    raw = by_hand.predict(pairs, activation_fn=torch.nn.Identity())
    with CrossEncoderReranker(folder, device="cpu", scores="raw") as reranker:
        np.testing.assert_allclose(by_number(reranker.rerank("how many?", hits())), raw, rtol=0, atol=1e-5)
    with CrossEncoderReranker(folder, device="cpu", scores="sigmoid") as reranker:
        expected = 1 / (1 + np.exp(-raw))
        np.testing.assert_allclose(by_number(reranker.rerank("how many?", hits())), expected, rtol=0, atol=1e-5)


def test_a_checkpoint_says_whether_its_scores_are_raw(tmp_path: Path) -> None:
    folder = text_reranker(tmp_path / "raw", activation="torch.nn.modules.linear.Identity")
    expected = library.CrossEncoder(str(folder), device="cpu").predict([("how many?", text) for text in TEXTS])
    with CrossEncoderReranker(folder, device="cpu") as reranker:
        np.testing.assert_allclose(by_number(reranker.rerank("how many?", hits())), expected, rtol=0, atol=1e-5)
        assert any(not 0 <= score <= 1 for score in by_number(reranker.rerank("how many?", hits())))


@pytest.mark.parametrize("reads", ["text", "image", "both"])
def test_pictures_and_texts_are_scored_as_by_the_library(seeing: Path, reads: Any) -> None:
    by_hand = library.CrossEncoder(str(seeing), device="cpu")
    pairs = []
    for hit in hits():
        whole = {"text": hit.page.text, "image": hit.page.open_image()}
        shown = {"text": ["text"], "image": ["image"], "both": ["text", "image"]}[reads]
        pairs.append(({"text": "how many?"}, {kind: whole[kind] for kind in shown}))
    expected = by_hand.predict(pairs)
    with CrossEncoderReranker(seeing, device="cpu", reads=reads, batch_size=3) as reranker:
        scored = reranker.rerank("how many?", hits())
    np.testing.assert_allclose(by_number(scored), expected, rtol=0, atol=1e-5)
    assert len({round(score, 7) for score in by_number(scored)}) > 1


def test_a_query_may_be_a_picture_where_the_model_sees(seeing: Path, folder: Path) -> None:
    picture = Image.new("RGB", (64, 64), "green")
    by_hand = library.CrossEncoder(str(seeing), device="cpu")
    with CrossEncoderReranker(seeing, device="cpu") as reranker:
        assert reranker.reads == "image"
        for query, shown in (
            (Query(image=picture), {"image": picture}),
            (Query("this", picture), {"text": "this", "image": picture}),
        ):
            expected = by_hand.predict([(shown, {"image": hit.page.open_image()}) for hit in hits()])
            np.testing.assert_allclose(by_number(reranker.rerank(query, hits())), expected, rtol=0, atol=1e-5)
    with CrossEncoderReranker(folder, device="cpu") as reranker:
        with pytest.raises(SettingError, match="The query is a picture"):
            reranker.rerank(Query(image=picture), hits())
        assert reranker.rerank(Query("this", picture), hits()) == reranker.rerank("this", hits())


def test_a_score_does_not_depend_on_batch_mates(folder: Path) -> None:
    with CrossEncoderReranker(folder, device="cpu", batch_size=3) as reranker:
        together = by_number(reranker.rerank("how many?", hits()))
        alone = [reranker.rerank("how many?", [hit])[0].score for hit in hits()]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_long_texts_are_cut_where_the_library_would_and_that_is_said(folder: Path) -> None:
    texts = ["short", "many long words " * 40, "x" * 500]
    by_hand = library.CrossEncoder(str(folder), device="cpu")  # it reads 64 tokens, a byte each, 3 of them marks
    expected = by_hand.predict([("how?", text) for text in texts])
    notes: list[str] = []
    with CrossEncoderReranker(folder, device="cpu", on_note=notes.append) as reranker:
        np.testing.assert_allclose(by_number(reranker.rerank("how?", hits(texts))), expected, rtol=0, atol=1e-5)
        reranker.rerank("how?", hits(texts))
        said = f"2 of 3 page texts are longer than the reranker {folder.name} is given (57 characters)"
        assert notes == [f"{said}; their ends were not read"]
        long_query = "what " * 100
        assert len(reranker.rerank(long_query, hits(texts))) == 3
    assert len(notes) == 2
    assert "the query is longer" in notes[1]


def test_max_chars_cuts_before_the_model_does(folder: Path) -> None:
    notes: list[str] = []
    with CrossEncoderReranker(folder, device="cpu", max_chars=4, on_note=notes.append) as reranker:
        cut = reranker.rerank("how?", hits(["pear", "pears and apples"]))
    assert cut[0].score == pytest.approx(cut[1].score, abs=1e-6)
    assert len(notes) == 1


def test_marks_of_the_tokenizer_in_a_page_are_letters(folder: Path) -> None:
    """A page must not end its own text and begin another: [SEP] is a token, [ SEP] is none."""
    by_hand = library.CrossEncoder(str(folder), device="cpu")
    expected = by_hand.predict([("how?", "a [ SEP] b")])
    with CrossEncoderReranker(folder, device="cpu") as reranker:
        assert reranker.rerank("how?", hits(["a [SEP] b"]))[0].score == pytest.approx(float(expected[0]), abs=1e-5)


def test_a_text_that_looks_like_a_picture_is_read_as_text(seeing: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    Image.new("RGB", (64, 64), "red").save(path)
    by_hand = library.CrossEncoder(str(seeing), device="cpu")
    texts = [str(path), "https://127.0.0.1:9/a.png"]
    expected = by_hand.predict([({"text": "how?"}, {"text": text}) for text in texts])
    with CrossEncoderReranker(seeing, device="cpu", reads="text") as reranker:
        np.testing.assert_allclose(by_number(reranker.rerank("how?", hits(texts))), expected, rtol=0, atol=1e-5)


def test_thresholds_top_k_and_ties(folder: Path) -> None:
    with CrossEncoderReranker(folder, device="cpu") as reranker:
        scored = reranker.rerank("how many?", hits())
        assert reranker.rerank("how many?", hits(), 2) == scored[:2]
        assert reranker.rerank("how many?", [], 2) == []
        same = reranker.rerank("how many?", hits(["same", "same", "same"]))
        assert [hit.page.number for hit in same] == [1, 2, 3]
        with pytest.raises(SettingError, match="top_k is 0"):
            reranker.rerank("how many?", hits(), 0)
    middle = (scored[1].score + scored[2].score) / 2
    notes: list[str] = []
    with CrossEncoderReranker(folder, device="cpu", min_score=middle, on_note=notes.append) as reranker:
        assert reranker.rerank("how many?", hits()) == scored[:2]
        assert notes == []
    with CrossEncoderReranker(folder, device="cpu", min_score=1.5, on_note=notes.append) as reranker:
        assert reranker.rerank("how many?", hits()) == []
    assert "scored none of the 4 pages 1.5 or higher; the highest is 0." in notes[0]


def test_pages_without_what_is_read_are_left_out_and_that_is_said(folder: Path, seeing: Path) -> None:
    notes: list[str] = []
    mixed = [*hits(["apples", " ", "pears"], pictures=False)]
    with CrossEncoderReranker(folder, device="cpu", on_note=notes.append) as reranker:
        assert sorted(hit.page.number for hit in reranker.rerank("how?", mixed)) == [1, 3]
        assert notes == [f"1 of 3 pages have no text for the reranker {folder.name}, and are left out"]
        with pytest.raises(RerankerError, match=r"None of the 2 pages.*reads='text'.*--ocr auto"):
            reranker.rerank("how?", hits(["", "\n"]))
    with (
        CrossEncoderReranker(seeing, device="cpu", on_note=notes.append) as reranker,
        pytest.raises(RerankerError, match=r"None of the 3 pages.*picture"),
    ):
        reranker.rerank("how?", mixed)
    with CrossEncoderReranker(seeing, device="cpu", reads="both", on_note=notes.append) as reranker:
        both = [*hits(["", "text"]), ScoredPage(Page("e", 1, "only text"), 0.1), ScoredPage(Page("f", 1), 0.1)]
        assert len(reranker.rerank("how?", both)) == 3
    assert len(notes) == 2


def test_a_retriever_takes_it_and_its_threshold_holds(folder: Path) -> None:
    embedder = load_embedder("ocr")
    pages = [hit.page for hit in hits(pictures=False)]
    with QdrantPageStore(":memory:") as store, CrossEncoderReranker(folder, device="cpu") as reranker:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
        retriever = PageRetriever(embedder, store, reranker=reranker)
        found = retriever.retrieve("how many apples", 3)
        again = reranker.rerank("how many apples", found)
        assert [hit.page.id for hit in found] == [hit.page.id for hit in again]
        threshold = (found[1].score + found[2].score) / 2
        assert retriever.retrieve("how many apples", 3, score_threshold=threshold) == found[:2]
        assert asyncio.run(retriever.aretrieve("how many apples", 3)) == found
        assert asyncio.run(reranker.arerank("how many apples", found, 1))[0].page == found[0].page


def test_a_loaded_model_is_taken(folder: Path) -> None:
    model = library.CrossEncoder(str(folder), device="cpu")
    with CrossEncoderReranker(model, name="mine") as reranker, CrossEncoderReranker(folder, device="cpu") as other:
        assert reranker.name == "mine"
        np.testing.assert_allclose(
            by_number(reranker.rerank("how?", hits())), by_number(other.rerank("how?", hits())), rtol=0, atol=1e-6
        )
    with pytest.raises(SettingError, match=r"not a dict"):
        CrossEncoderReranker({})


def test_scores_that_are_no_numbers_are_refused(folder: Path) -> None:
    import torch

    model = library.CrossEncoder(str(folder), device="cpu")
    with torch.no_grad():
        model.model.classifier.bias.fill_(float("nan"))
    with (
        CrossEncoderReranker(model, name="broken") as reranker,
        pytest.raises(RerankerError, match=r"broken gave the score nan for d, page 1"),
    ):
        reranker.rerank("how?", hits())


def test_what_is_no_reranker_is_refused(folder: Path, seeing: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gives 3 numbers a pair"):
        CrossEncoderReranker(text_reranker(tmp_path / "classes", labels=3), device="cpu")
    bare = Path(shutil.copytree(seeing, tmp_path / "bare"))
    (bare / "modules.json").unlink()
    with pytest.raises(CheckpointError, match=r"is no reranker.*Qwen3VLForConditionalGeneration.*modules\.json"):
        CrossEncoderReranker(bare, device="cpu")
    headless = Path(shutil.copytree(folder, tmp_path / "headless"))
    from safetensors.torch import load_file, save_file

    kept = {key: value for key, value in load_file(folder / "model.safetensors").items() if "classifier" not in key}
    save_file(kept, headless / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="no weights of a last layer"):
        CrossEncoderReranker(headless, device="cpu")
    pickled = Path(shutil.copytree(folder, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin; only safetensors"):
        CrossEncoderReranker(pickled, device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        CrossEncoderReranker(tmp_path / "empty", device="cpu")


@pytest.mark.parametrize("where", ["auto_map", "modules.json"])
def test_code_of_a_checkpoint_is_refused_with_the_way_through_a_server(
    folder: Path, tmp_path: Path, where: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "code"))
    (copy / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    if where == "auto_map":
        config = json.loads((copy / "config.json").read_text())
        config |= {"architectures": ["MyRanker"], "auto_map": {"AutoModel": "modeling.MyRanker"}}
        (copy / "config.json").write_text(json.dumps(config))
    else:
        (copy / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "modeling.Mine"}]))
    with pytest.raises(CheckpointError, match=r"needs code from (the|its) checkpoint.*--rerank-url URL"):
        CrossEncoderReranker(copy, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["jinaai/jina-reranker-m0", "nvidia/llama-nemotron-rerank-vl-1b-v2"])
def test_published_ones_with_code_say_how_they_are_served(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"vllm serve {name} --runner pooling.*--rerank {name} --rerank-url"):
        CrossEncoderReranker(name)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reads": "pixels"}, "reads is 'pixels'"),
        ({"reads": "image"}, 'Say reads="text"'),
        ({"min_score": float("nan")}, "min_score is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_chars": -1}, "max_chars is -1"),
        ({"scores": "softmax"}, "scores is 'softmax'"),
        ({"min_scor": 1}, "did you mean 'min_score'"),
        ({"api_key": "k"}, "it is for a server"),
    ],
)
def test_settings_that_are_not_allowed(folder: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        CrossEncoderReranker(folder, **{"device": "cpu", **settings})


def test_a_closed_one_says_so_and_a_missing_library_its_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reranker = CrossEncoderReranker(folder, device="cpu")
    reranker.close()
    reranker.close()
    for found in (hits(), []):
        with pytest.raises(RerankerError, match="was closed"):
            reranker.rerank("how?", found)
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"visrag-integrations\[sentence-transformers\]"):
        CrossEncoderReranker(folder, device="cpu")
