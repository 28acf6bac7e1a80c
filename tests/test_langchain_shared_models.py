"""One model for every LangChain class that names it; what a class opened it can close, and nothing else."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import PixelEmbedder
from langchain_core.documents import Document

from visrag_integrations import Page, PageRetriever, QdrantPageStore
from visrag_integrations.embedders import _named, register_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.opened import OpenedResources, model_behind
from visrag_integrations.langchain import (
    ChatEVisRAG,
    VisRAGEmbeddings,
    VisRAGReranker,
    VisRAGRetriever,
    VisRAGVectorStore,
    create_visrag_chain,
    create_vrag_agent,
)
from visrag_integrations.store.edge import EdgeEngine

PAGE = Page("d", 1, "zebra")


class Counted(PixelEmbedder):
    """Counts how many of it were made and closed; a closed one refuses to work."""

    name = "counted"
    made = 0
    freed = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        self.open = True

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        assert self.open
        return super().embed_pages(pages)

    def embed_queries(self, queries: Iterable[Any]) -> list[Any]:
        assert self.open
        return super().embed_queries(queries)

    def close(self) -> None:
        self.open = False
        type(self).freed += 1


@pytest.fixture(autouse=True)
def name() -> Iterator[str]:
    Counted.made = Counted.freed = 0
    register_embedder("counted", Counted, replace=True)
    yield "counted"
    gc.collect()
    del _named["counted"]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    embedder = PixelEmbedder()
    embedder.name = "counted"
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(embedder)
        store.add_pages([PAGE], embedder.embed_pages([PAGE]))
    return tmp_path / "index"


def texts_of(documents: Sequence[Document]) -> list[str]:
    return [document.page_content for document in documents]


def test_one_name_is_one_model_and_closing_one_leaves_the_others(name: str, index: Path) -> None:
    embeddings = VisRAGEmbeddings(name)
    retriever = VisRAGRetriever.from_index(index, name)
    by_name = VisRAGVectorStore.from_texts(["a violin"], name)
    over_embeddings = VisRAGVectorStore.from_texts(["a cello"], embeddings)
    reranker = VisRAGReranker(embedder=name)
    uses = {
        "embeddings": (embeddings, lambda: embeddings.embed_query("a")),
        "retriever": (retriever, lambda: retriever.invoke("zebra")),
        "by_name": (by_name, lambda: by_name.embedder.embed_queries(["a"])),
        "over_embeddings": (over_embeddings, lambda: over_embeddings.similarity_search("cello")),
        "reranker": (reranker, lambda: reranker.compress_documents([Document("a")], "a")),
    }
    for _, use in uses.values():
        use()
    assert Counted.made == 1
    for closed in list(uses):
        opener, _ = uses.pop(closed)
        opener.close()
        opener.close()
        for _, use in uses.values():
            use()
        assert (Counted.made, Counted.freed) == (1, int(not uses)), closed


def test_what_is_used_after_it_was_closed(name: str, index: Path) -> None:
    embeddings = VisRAGEmbeddings(name)
    before = embeddings.embed_query("a")
    embeddings.close()
    assert (Counted.freed, embeddings.embed_query("a")) == (1, before)
    assert Counted.made == 2
    retriever = VisRAGRetriever.from_index(index, name)
    assert texts_of(retriever.invoke("zebra")) == ["zebra"]
    retriever.close()
    with pytest.raises(SettingError, match="'counted' was closed"):
        retriever.invoke("zebra")


def test_what_was_given_stays_open(name: str, index: Path) -> None:
    embedder = Counted()
    with QdrantPageStore(index) as store:
        retriever = VisRAGRetriever(retriever=PageRetriever(embedder, store))
        for opener in (
            VisRAGEmbeddings(embedder=embedder),
            VisRAGVectorStore(store, embedder),
            VisRAGReranker(embedder=embedder),
            retriever,
        ):
            opener.close()
        assert texts_of(retriever.invoke("zebra")) == ["zebra"]
    assert Counted.freed == 0


def test_closing_gives_the_folder_back(name: str, index: Path) -> None:
    def open_folders() -> list[Path]:
        return [home for home in EdgeEngine._open if index in Path(home).parents]

    retriever = VisRAGRetriever.from_index(index, name)
    retriever.invoke("zebra")
    assert open_folders()
    retriever.close()
    assert not open_folders()
    vectorstore = VisRAGVectorStore.from_texts(["a"], name, location=index)
    assert open_folders()
    vectorstore.close()
    assert not open_folders()


def test_a_retriever_that_cannot_be_made_leaves_nothing_open(name: str, index: Path) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        VisRAGRetriever.from_index(index, name, k=0)
    assert (Counted.made, Counted.freed) == (1, 1)


def test_chat_models_share_an_engine_and_their_copies_one_hold() -> None:
    one, other = ChatEVisRAG("extractive"), ChatEVisRAG("extractive", temperature=0.5)
    copy = one.model_copy(update={"prompt": "plain"})
    engine = model_behind(one._generator())
    assert model_behind(other._generator()) is model_behind(copy._generator()) is engine
    assert copy._generator() is one._generator()
    one.close()
    assert model_behind(other._generator()) is engine
    assert one.invoke("Hello").text  # opened again
    for maker in (create_visrag_chain, create_vrag_agent):
        maker(VisRAGRetriever(retriever=PageRetriever(PixelEmbedder(), QdrantPageStore(":memory:"))), one)
    one.close()
    other.close()
    assert model_behind(ChatEVisRAG("extractive")._generator()) is not engine


def test_what_is_open_is_no_part_of_the_value() -> None:
    opened, nothing = OpenedResources(), OpenedResources()
    opened.keep(PixelEmbedder())
    assert opened == nothing == pickle.loads(pickle.dumps(opened))
    assert opened != PixelEmbedder()
