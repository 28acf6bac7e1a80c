"""The embedder `ocr` with a text model of sentence-transformers: values, names, what a collection remembers, errors."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from pathlib import Path

import numpy as np
import pytest
from tiny_text_model import DIMENSION, library, save_text_model

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, load_embedder
from visrag_integrations.cli import main
from visrag_integrations.embedders.ocr import OCREmbedder, towards_page
from visrag_integrations.errors import CheckpointError, SettingError, StoreMismatchError
from visrag_integrations.interfaces import PageEmbedder

TEXTS = ["the violin has four strings", "a loaf of bread is baked", "boats are tied to the pier"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = {"query": "query ", "document": "passage "}
    return save_text_model(tmp_path_factory.mktemp("text") / "model", prompts=prompts)


@pytest.fixture(scope="module")
def embedder(folder: Path) -> OCREmbedder:
    made = load_embedder("ocr", text_model=folder, device="cpu")
    assert isinstance(made, OCREmbedder)
    return made


def pages(texts: list[str]) -> list[Page]:
    return [Page("d", number, text=text) for number, text in enumerate(texts, 1)]


def test_values_are_the_librarys_with_the_models_own_prompts(folder: Path, embedder: OCREmbedder) -> None:
    model = library.SentenceTransformer(str(folder), device="cpu")
    expected = model.encode(TEXTS, prompt="passage ", normalize_embeddings=True)
    for vectors, wanted in zip(embedder.embed_pages(pages(TEXTS)), expected, strict=True):
        assert vectors.shape == (1, DIMENSION)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors[0], wanted, atol=1e-5)
    (asked,) = embedder.embed_queries(["boats?"])
    np.testing.assert_allclose(
        asked[0], model.encode(["boats?"], prompt="query ", normalize_embeddings=True)[0], atol=1e-5
    )


def test_it_is_an_embedder_of_many_vectors(folder: Path, embedder: OCREmbedder) -> None:
    assert isinstance(embedder, PageEmbedder)
    assert (embedder.kind, embedder.dimension, embedder.default_mode) == ("multi", DIMENSION, "hybrid")
    assert embedder.name == f"ocr:{folder.resolve()}"
    assert (embedder.chunk_size, embedder.chunk_overlap) == (800, 0)


def test_a_long_page_has_a_vector_a_chunk_turned_towards_the_page(folder: Path) -> None:
    short = load_embedder("ocr", text_model=folder, chunk_size=40, device="cpu")
    text = "the violin has four strings and a bow. a loaf of bread is baked in an oven. boats are tied to the pier."
    (vectors,) = short.embed_pages(pages([text]))
    model = library.SentenceTransformer(str(folder), device="cpu")
    pieces = ["the violin has four strings and a bow. a", "loaf of bread is baked in an oven."]
    alone = model.encode(pieces, prompt="passage ", normalize_embeddings=True)
    assert len(vectors) == 3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert (vectors[0] @ vectors[1]) > (alone[0] @ alone[1]), "chunks of one page are nearer to each other"
    assert (vectors[0] @ alone[0]) > 0.9, "and still say what they are about"


LONG = [
    "violin bow " * 12 + "boats are tied to the pier",
    "x" * 130,  # without a space
    "the violin has four strings and a bow. " * 9,
    "short",
]


@pytest.mark.parametrize("prompts", [None, {"document": "passage "}, {"passage": "passage "}, {"corpus": "of a page "}])
@pytest.mark.parametrize("longest", [24, 60])
def test_what_the_model_cannot_read_at_once_is_cut_and_read_whole(
    prompts: dict[str, str] | None, longest: int, tmp_path: Path
) -> None:
    """Every piece is one the model reads to its end, and together they are the text."""
    folder = save_text_model(tmp_path / "model", prompts=prompts)
    _read_at_most(folder, longest)
    cutting = load_embedder("ocr", text_model=folder, device="cpu")
    assert isinstance(cutting, OCREmbedder)
    model = library.SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == longest
    prompt = next(iter((prompts or {}).values()), "")
    for text in LONG:
        chunks = cutting._chunks(text)
        assert "".join(chunks).replace(" ", "") == text.replace(" ", "")
        for chunk in chunks:
            given = model.tokenizer(prompt + chunk, truncation=False, verbose=False)["input_ids"]
            assert len(given) <= longest
        (vectors,) = cutting.embed_pages(pages([text]))
        assert len(vectors) == len(chunks)
    assert len(cutting._chunks("short")) == 1


def test_the_end_of_a_long_chunk_counts(tmp_path: Path) -> None:
    """Two pages that differ in their last words alone had the same vectors where the model stopped reading before."""
    folder = save_text_model(tmp_path / "model")
    _read_at_most(folder, 40)
    cutting = load_embedder("ocr", text_model=folder, device="cpu")
    beginning = "the violin has four strings " * 5
    one, other = cutting.embed_pages(pages([beginning + "and boats", beginning + "and bread"]))
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 1e-3


def test_a_model_whose_prompt_takes_all_it_reads_is_refused(tmp_path: Path) -> None:
    folder = save_text_model(tmp_path / "model", prompts={"document": "a prompt longer than the model reads "})
    _read_at_most(folder, 10)
    with pytest.raises(CheckpointError, match="reads 10 tokens, and its prompt for documents, 'a prompt longer"):
        load_embedder("ocr", text_model=folder, device="cpu")


def _read_at_most(folder: Path, tokens: int) -> None:
    """Sets the longest input, as the published models do."""
    model = library.SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = tokens
    model.save(str(folder))


def test_alone_is_the_same_as_in_a_batch(embedder: OCREmbedder) -> None:
    texts = ["x", "a much longer text. " * 70, "", "中文页面", *TEXTS]
    together = embedder.embed_pages(pages(texts))
    for text, vectors in zip(texts, together, strict=True):
        (alone,) = embedder.embed_pages(pages([text]))
        assert vectors.shape == alone.shape
        np.testing.assert_allclose(alone, vectors, atol=1e-5)
    assert together[2].shape == (0, DIMENSION)
    assert embedder.embed_pages([]) == embedder.embed_queries([]) == []


def test_a_query_with_nothing_to_read_is_zeros(embedder: OCREmbedder) -> None:
    nothing, some = embedder.embed_queries([" \n", Query("boats")])
    assert nothing.shape == some.shape == (1, DIMENSION)
    assert not nothing.any()
    assert some.any()


@pytest.mark.parametrize("text", ["[SEP] [CLS]", "half \ud800", "\x00 \ufffd", "many words " * 9_000, "한국어 🙂‍↔️"])
def test_any_text_is_a_text(embedder: OCREmbedder, text: str) -> None:
    for vectors in (*embedder.embed_queries([text]), *embedder.embed_pages(pages([text]))):
        assert np.isfinite(vectors).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-4)


def test_special_tokens_in_a_text_are_plain_text(embedder: OCREmbedder) -> None:
    (as_token,), (spaced,) = embedder.embed_queries(["a[SEP]b"]), embedder.embed_queries(["a[ SEP]b"])
    np.testing.assert_allclose(as_token, spaced, atol=1e-6)


def test_the_name_that_a_collection_remembers_loads_it_again(embedder: OCREmbedder, tmp_path: Path) -> None:
    with QdrantPageStore(tmp_path) as store:
        store.prepare(embedder)
        store.add_pages(pages(TEXTS), embedder.embed_pages(pages(TEXTS)))
    with QdrantPageStore(tmp_path) as store:
        assert store.info is not None
        assert store.info.fingerprint == embedder.fingerprint
        again = load_embedder(store.info.embedder)
        hits = PageRetriever(again, store).retrieve("boats")
        assert hits[0].page.number == 3
        with pytest.raises(StoreMismatchError, match="ocr:"):
            PageRetriever(load_embedder("ocr"), store).retrieve("boats")


def test_a_copy_has_the_same_fingerprint_and_other_weights_another(
    folder: Path, embedder: OCREmbedder, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert load_embedder(f"ocr:{copy}").fingerprint == embedder.fingerprint  # type: ignore[attr-defined]
    other = save_text_model(tmp_path / "other", prompts={"query": "query ", "document": "passage "}, seed=8)
    assert load_embedder(f"ocr:{other}").fingerprint != embedder.fingerprint  # type: ignore[attr-defined]


def test_one_model_for_all_who_ask_for_it_by_either_name(folder: Path) -> None:
    first = load_embedder("ocr", text_model=str(folder), shared=True)
    second = load_embedder(f"ocr:{folder}", shared=True)
    assert first._model is second._model  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("ocr:", {}), ("ocr: ", {}), ("ocr:/models/a", {"text_model": "/models/b"}), ("ocr", {"device": "cpu"})],
)
def test_settings_that_say_no_one_model(name: str, settings: dict[str, str]) -> None:
    with pytest.raises(SettingError, match="text_model"):
        load_embedder(name, **settings)


def test_what_is_no_text_model_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_embedder("ocr", text_model=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty"):
        load_embedder("ocr", text_model=tmp_path / "empty")
    pickled = Path(shutil.copytree(folder, tmp_path / "pickled"))
    weights = next(pickled.rglob("model.safetensors"))
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(CheckpointError, match="safetensors"):
        load_embedder("ocr", text_model=pickled)


def test_a_model_of_many_vectors_is_refused_with_what_reads_it(folder: Path, tmp_path: Path) -> None:
    many = Path(shutil.copytree(folder, tmp_path / "many"))
    config = many / "config_sentence_transformers.json"
    said = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**said, "model_type": "MultiVectorEncoder"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"sentence-transformers"):
        load_embedder("ocr", text_model=many)


def test_chunks_are_turned_towards_their_page_and_zeros_stay() -> None:
    one = np.array([[0.6, 0.8]], np.float32)
    np.testing.assert_allclose(towards_page(one), one, atol=1e-6)
    assert not towards_page(np.zeros((2, 3), np.float32)).any()
    assert towards_page(np.zeros((0, 3), np.float32)).shape == (0, 3)
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    np.testing.assert_allclose(towards_page(opposite), opposite, atol=1e-6)  # they have no common direction


def test_the_command_line_takes_it_and_the_index_remembers_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pymupdf = pytest.importorskip("pymupdf")
    monkeypatch.chdir(tmp_path)
    document = pymupdf.open()
    for text in TEXTS:
        document.new_page().insert_text((72, 72), text)
    document.save("boats.pdf")
    shutil.copytree(folder, tmp_path / "model")
    assert main(["index", "boats.pdf", "--text-model", "./model", "--ocr", "never", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 3
    assert main(["search", "tied boats", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pages"][0]["page"] == 3
    with QdrantPageStore(".visrag") as store:
        assert store.info is not None
        assert store.info.embedder == f"ocr:{(tmp_path / 'model').resolve()}"
    assert main(["reindex", "--embedder", "ocr"]) == 0
    with QdrantPageStore(".visrag") as store:
        assert store.info is not None
        assert store.info.embedder == "ocr"
    capsys.readouterr()
    assert main(["index", "boats.pdf", "--embedder", "visrag-ret:x", "--text-model", "./model"]) == 2
    assert "--text-model" in capsys.readouterr().err


def test_texts_are_not_cut_while_others_are_measured(embedder: OCREmbedder) -> None:
    """Whether a tokenizer cuts texts off is a state of it: who asks how long a text is waits for who embeds."""
    model = embedder._text_model
    assert model is not None
    with ThreadPoolExecutor(1) as thread:
        with model._lock:
            measured = thread.submit(model.reads_whole, "a boat")
            with pytest.raises(TookTooLong):
                measured.result(timeout=0.2)
        assert measured.result(timeout=60)
