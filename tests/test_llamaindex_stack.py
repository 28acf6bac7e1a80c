"""A LlamaIndex stack as people have it, end to end on the CPU default: what the model was shown, and what came back.

Ingestion pipeline with a cache and a document store, router, fusion, sub-questions, auto-retriever, agents, multi-modal
index and chat engines are LlamaIndex's own, with the classes of this library in the places of others.
"""

from __future__ import annotations

import gc
import json
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator
from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.query_engine import RetrieverQueryEngine, RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever, VectorIndexAutoRetriever
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.tools import QueryEngineTool
from llama_index.core.vector_stores import MetadataFilters, MetadataInfo, VectorStoreInfo
from PIL import Image

from visrag_integrations import QdrantPageStore, load_embedder
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.generation.evisrag import build_prompt
from visrag_integrations.llamaindex import (
    EVisRAGLLM,
    PageNodeParser,
    VisRAGEmbedding,
    VisRAGQueryEngine,
    VisRAGReader,
    VisRAGVectorStore,
    create_visrag_tool,
    open_node_image,
)
from visrag_integrations.types import Conversation, Page

STOCK = ["The warehouse holds twelve boxes of apples.", "Bananas are kept in the cold room.", "Ships sail at dawn."]
RULES = ["Holidays are thirty days a year.", "Expenses are paid within a month."]
RAW = "<observe>o</observe><evidence>[1]: twelve</evidence><think>t</think><answer>Twelve boxes</answer>"

pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step"),
]


@pytest.fixture(autouse=True)
def what_llamaindex_leaves_open() -> Iterator[None]:
    """LlamaIndex leaves event loops and the database of its memory to the garbage collector, which warns of them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Stack:
    """Two documents that went through a pipeline into a store, by the embedder that runs on every machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader = VisRAGReader(image_dir=folder / "pictures", ocr="never")
        self.store = QdrantPageStore(folder / "index")
        self.vector_store = VisRAGVectorStore(self.store, load_embedder("ocr", shared=True))
        self.pipeline = IngestionPipeline(
            transformations=[PageNodeParser(), self.vector_store.embed_model],
            vector_store=self.vector_store,
            docstore=SimpleDocumentStore(),
            docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
            cache=IngestionCache(),
        )
        draw_pdf(folder / "stock.pdf", STOCK)
        draw_pdf(folder / "rules.pdf", RULES)

    def ingest(self) -> list[str]:
        """The texts that were embedded."""
        documents = self.reader.load_data([self.folder / "stock.pdf", self.folder / "rules.pdf"])
        return sorted(node.get_content() for node in self.pipeline.run(documents=documents))

    @property
    def index(self) -> VectorStoreIndex:
        return VectorStoreIndex.from_vector_store(self.vector_store, embed_model=self.vector_store.embed_model)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("stack"))
    made.ingest()
    yield made
    made.store.close()


def shown_pages(generator: ScriptedGenerator, call: int = 0) -> list[str]:
    """The first words of the pages that the model was shown in one call."""
    (conversation,) = generator.batches[call]
    return [page.text.split()[0] for turn in conversation for page in turn.pages]


def shown_text(generator: ScriptedGenerator, call: int = 0) -> str:
    conversation: Conversation = generator.batches[call][0]
    return "\n".join(turn.text for turn in conversation)


def test_only_what_changed_is_embedded_and_every_picture_is_kept(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    assert stack.ingest() == sorted([*STOCK, *RULES])
    assert stack.ingest() == []
    draw_pdf(tmp_path / "stock.pdf", [STOCK[0], "Bananas are sold out.", STOCK[2]])
    assert stack.ingest() == ["Bananas are sold out."]
    nodes = stack.vector_store.get_nodes()
    assert sorted(node.get_content() for node in nodes) == sorted([STOCK[0], "Bananas are sold out.", STOCK[2], *RULES])
    assert all(open_node_image(node).width > 100 for node in nodes)
    kept = stack.pipeline.docstore
    assert kept is not None
    for document in kept.docs.values():
        assert open_node_image(document).width > 100
    stack.pipeline.persist(str(tmp_path / "kept"))
    again = SimpleDocumentStore.from_persist_path(str(tmp_path / "kept" / "docstore.json"))
    assert len(again.docs) == 5
    stack.store.close()


def test_two_workers_and_vectors_of_pictures(tmp_path: Path) -> None:
    documents = VisRAGReader(image_dir=tmp_path / "p", ocr="never").load_data(draw_pdf(tmp_path / "a.pdf", STOCK))
    with QdrantPageStore(":memory:") as store:
        embedder = PixelEmbedder()
        vector_store = VisRAGVectorStore(store, embedder)
        pipeline = IngestionPipeline(
            transformations=[PageNodeParser(), VisRAGEmbedding(embedder=PixelEmbedder())], vector_store=vector_store
        )
        assert len(pipeline.run(documents=documents, num_workers=2)) == 3
        assert store.count() == 3
        assert embedder.embedded == 0  # the vectors came with the nodes
    again = pickle.loads(pickle.dumps(VisRAGEmbedding(embedder=embedder, embed_batch_size=3)))
    assert (again.embed_batch_size, again.get_query_embedding("a")) == (3, embedder.embed_queries(["a"])[0].tolist())


def test_the_query_engine_answers_with_evidence(stack: Stack) -> None:
    generator = ScriptedGenerator(RAW)
    engine = VisRAGQueryEngine.from_defaults(stack.index, EVisRAGLLM(generator=generator), similarity_top_k=2)
    response = engine.query("How many boxes of apples are there?")
    assert str(response) == "Twelve boxes"
    assert shown_pages(generator)[0] == "The"
    assert shown_text(generator) == build_prompt("How many boxes of apples are there?")
    metadata = json.loads(json.dumps(response.metadata))
    assert metadata["evidence"][0]["text"] == "twelve"
    assert metadata["evidence"][0]["node_id"] == response.source_nodes[0].node_id
    assert response.metadata["answer"].evidence[0].page.number == 1
    with pytest.raises(SettingError, match="'similarity_top_k'"):
        VisRAGQueryEngine.from_defaults(stack.index, "extractive", similarity_topk=2)


def test_a_router_chooses_between_two_engines(stack: Stack) -> None:
    generator = ScriptedGenerator(json.dumps([{"choice": 2, "reason": "about rules"}]), RAW)
    llm = EVisRAGLLM(generator=generator)
    tools = []
    for name in ("stock", "rules"):
        path = str(stack.folder / f"{name}.pdf")
        retriever = stack.index.as_retriever(similarity_top_k=2, filters=_only(file_path=path))
        engine = VisRAGQueryEngine(retriever, llm)
        tools.append(QueryEngineTool.from_defaults(engine, name=name, description=f"Answers about {name}."))
    router = RouterQueryEngine(selector=LLMSingleSelector.from_defaults(llm=llm), query_engine_tools=tools, llm=llm)
    response = router.query("How many days of holidays are there?")
    assert str(response) == "Twelve boxes"
    assert set(shown_pages(generator, 1)) == {"Holidays", "Expenses"}
    assert {node.metadata["file_name"] for node in response.source_nodes} == {"rules.pdf"}
    assert response.metadata["selector_result"].ind == 1


def _only(**wanted: str) -> Any:
    return MetadataFilters.from_dicts([{"key": key, "value": value} for key, value in wanted.items()])


@pytest.mark.parametrize("mode", ["reciprocal_rerank", "relative_score", "simple"])
def test_fusion_of_rewritten_questions_shows_a_page_once(stack: Stack, mode: str) -> None:
    generator = ScriptedGenerator("Where are bananas?\nBananas in the cold room", RAW)
    llm = EVisRAGLLM(generator=generator)
    fusion = QueryFusionRetriever(
        [stack.index.as_retriever(similarity_top_k=3)],
        llm=llm,
        num_queries=3,
        similarity_top_k=4,
        mode=mode,  # type: ignore[arg-type]
        use_async=False,
    )
    engine = VisRAGQueryEngine(fusion, llm)
    engine.query("Where are the bananas kept?")
    pages = shown_pages(generator, 1)
    assert pages[0] == "Bananas"
    assert len(pages) == len(set(pages))


def test_sub_questions_are_answered_from_pages(stack: Stack) -> None:
    questions = [
        {"sub_question": "How many boxes of apples are there?", "tool_name": "stock"},
        {"sub_question": "Where are the bananas kept?", "tool_name": "stock"},
    ]
    asked = ScriptedGenerator(json.dumps({"items": questions}), "Twelve, and in the cold room.")
    pages = ScriptedGenerator(RAW, RAW.replace("Twelve boxes", "In the cold room"))
    engine = VisRAGQueryEngine.from_defaults(stack.index, EVisRAGLLM(generator=pages), similarity_top_k=1)
    tool = QueryEngineTool.from_defaults(engine, name="stock", description="What is in stock.")
    llm = EVisRAGLLM(generator=asked)
    both = SubQuestionQueryEngine.from_defaults(
        [tool],
        llm=llm,
        question_gen=LLMQuestionGenerator.from_defaults(llm=llm),
        response_synthesizer=get_response_synthesizer(llm=llm, use_async=False),
        use_async=False,
        verbose=False,
    )
    assert str(both.query("How many boxes are there and where are the bananas?")) == "Twelve, and in the cold room."
    assert [shown_pages(pages, call) for call in (0, 1)] == [["The"], ["Bananas"]]
    assert "Twelve boxes" in shown_text(asked, 1)
    assert "In the cold room" in shown_text(asked, 1)


def test_the_auto_retriever_filters_by_what_it_was_told(stack: Stack) -> None:
    spec = {"query": "holidays", "filters": [{"key": "file_name", "value": "rules.pdf", "operator": "=="}], "top_k": 2}
    numbered = {"query": "bananas", "filters": [{"key": "number", "value": 2, "operator": ">="}], "top_k": 5}
    generator = ScriptedGenerator(json.dumps(spec), json.dumps(numbered))
    keys = [
        MetadataInfo(name="file_name", type="str", description="The name of the file"),
        MetadataInfo(name="number", type="int", description="The number of the page"),
    ]
    retriever = VectorIndexAutoRetriever(
        stack.index,
        vector_store_info=VectorStoreInfo(content_info="Pages of a company", metadata_info=keys),
        llm=EVisRAGLLM(generator=generator),
        similarity_top_k=5,
        max_top_k=5,
    )
    found = retriever.retrieve("What do the rules say of holidays?")
    assert found[0].node.get_content() == RULES[0]
    assert {node.metadata["file_name"] for node in found} == {"rules.pdf"}
    assert {node.metadata["number"] for node in retriever.retrieve("bananas after the first page")} == {2, 3}
    assert "The number of the page" in shown_text(generator)


async def test_an_agent_searches_and_asks(stack: Stack) -> None:
    generator = ScriptedGenerator(
        'Thought: I search.\nAction: search_pages\nAction Input: {"query": "boxes of apples"}',
        "Thought: I can answer without using any more tools.\nAnswer: Twelve.",
    )
    tool = create_visrag_tool(stack.index.as_retriever(similarity_top_k=1), image_dir=stack.folder / "tool")
    assert str(await ReActAgent(tools=[tool], llm=EVisRAGLLM(generator=generator)).run("How many boxes?")) == "Twelve."
    assert "stock.pdf, page 1:" in shown_text(generator, 1)
    blocks = tool.call(query="bananas").blocks
    assert isinstance(blocks[1], ImageBlock)
    assert blocks[1].path is not None


def test_the_stock_engine_gets_the_text_of_pages(stack: Stack) -> None:
    generator = ScriptedGenerator("In the cold room.")
    engine = RetrieverQueryEngine.from_args(
        stack.index.as_retriever(similarity_top_k=1), llm=EVisRAGLLM(generator=generator, prompt="plain")
    )
    assert str(engine.query("Where are the bananas kept?")) == "In the cold room."
    assert "Bananas are kept in the cold room." in shown_text(generator)


@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "condense_question", "simple"])
def test_chat_engines_go_on(stack: Stack, mode: str) -> None:
    generator = ScriptedGenerator(*["First.", "Second.", "Third."])
    engine = stack.index.as_chat_engine(chat_mode=mode, llm=EVisRAGLLM(generator=generator))  # type: ignore[arg-type]
    answers = [str(engine.chat("Where are the bananas kept?")), str(engine.chat("And the apples?"))]
    assert answers == (["First.", "Second."] if mode in ("context", "simple") else [answers[0], answers[1]])
    if mode == "context":
        assert "Bananas are kept in the cold room." in shown_text(generator)
    later = range(len(generator.batches) // 2, len(generator.batches))
    assert any("bananas" in shown_text(generator, call) for call in later)  # it remembers


def test_a_further_question_about_shown_pages_gets_an_ordinary_answer(stack: Stack) -> None:
    (node, *_) = stack.index.as_retriever(similarity_top_k=1).retrieve("boxes of apples")
    assert isinstance(node.node, ImageNode)
    generator = ScriptedGenerator(RAW, "A dozen.")
    llm = EVisRAGLLM(generator=generator, guided=True)
    asked = ChatMessage(blocks=[TextBlock(text="How many boxes?"), ImageBlock(path=Path(str(node.node.image_path)))])
    first = llm.chat([asked])
    assert generator.asked_with is not None
    assert generator.asked_with.guided
    engine = SimpleChatEngine.from_defaults(llm=llm, chat_history=[asked, first.message])
    assert str(engine.chat("In one word?")) == "A dozen."
    (conversation,) = generator.batches[1]
    assert [turn.role for turn in conversation] == ["user", "assistant", "user"]
    assert conversation[0].content[0] == build_prompt("How many boxes?")  # as it was asked
    assert isinstance(conversation[0].content[1], Page)
    assert conversation[2].content == ("In one word?",)
    assert generator.asked_with.guided is False


@pytest.mark.filterwarnings("ignore:Call to deprecated class SimpleMultiModalQueryEngine")
def test_a_multi_modal_index_finds_pages_by_text_and_by_picture(tmp_path: Path) -> None:
    documents = VisRAGReader(image_dir=tmp_path / "p", ocr="never").load_data(draw_pdf(tmp_path / "a.pdf", STOCK))
    for transformations in ([PageNodeParser()], None):
        with QdrantPageStore(":memory:") as store:
            vector_store = VisRAGVectorStore(store, PixelEmbedder())
            index = MultiModalVectorStoreIndex.from_documents(
                documents,
                storage_context=StorageContext.from_defaults(vector_store=vector_store, image_store=vector_store),
                embed_model=vector_store.embed_model,
                image_embed_model=VisRAGEmbedding(embedder=PixelEmbedder()),
                transformations=transformations,
            )
            assert store.count() == 3
            retriever: Any = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
            assert [hit.node.get_content() for hit in retriever.retrieve(STOCK[1])] == [STOCK[1]]
            assert [hit.node.get_content() for hit in retriever.text_to_image_retrieve(STOCK[2])] == [STOCK[2]]
            assert len(retriever.image_to_image_retrieve(documents[0].image_path)) == 1
            generator = ScriptedGenerator("In the cold room.")
            engine: Any = index.as_query_engine(llm=EVisRAGLLM(generator=generator, prompt="plain"))
            assert str(engine.query("Where are the bananas kept?")) == "In the cold room."
            (conversation,) = generator.batches[0]
            assert conversation[0].pages  # the pictures are shown


# --- what comes from outside ------------------------------------------------------------------------------------------


def test_files_behind_urls_are_read_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "private.png"
    Image.new("RGB", (30, 20)).save(path)
    urls = [path.as_uri(), path.as_uri().replace("file:", "FILE:"), f"file://localhost{path}", f"file:{path}"]
    for url in urls:
        message = [ChatMessage(blocks=[TextBlock(text="?"), ImageBlock(url=url)])]
        node = ImageNode(image_url=url)
        with QdrantPageStore(":memory:") as store:
            tries: list[Any] = [
                lambda message=message: EVisRAGLLM(generator=ScriptedGenerator("a")).chat(message),
                lambda node=node: open_node_image(node),
                lambda node=node, store=store: VisRAGVectorStore(store, PixelEmbedder()).add([node]),
                lambda node=node: VisRAGEmbedding(embedder=PixelEmbedder())([node]),
                lambda node=node: EVisRAGLLM(generator=ScriptedGenerator("a")).complete("?", image_documents=[node]),
                lambda node=node: VisRAGQueryEngine(None, EVisRAGLLM(generator=ScriptedGenerator("a"))).synthesize(  # type: ignore[arg-type]
                    _bundle(), [_scored(node)]
                ),
            ]
            for attempt in tries:
                with pytest.raises(PictureError, match=r"file_urls=True|no URL of a picture"):
                    attempt()
    generator = ScriptedGenerator("a")
    EVisRAGLLM(generator=generator, file_urls=True).chat([ChatMessage(blocks=[ImageBlock(url=path.as_uri())])])
    assert generator.batches[0][0][0].pages[0].open_image().size == (30, 20)
    assert open_node_image(ImageNode(image_url=path.as_uri()), file_urls=True).size == (30, 20)
    assert open_node_image(ImageNode(image_path=str(path))).size == (30, 20)


def _bundle() -> Any:
    return QueryBundle("?")


def _scored(node: Any) -> Any:
    return NodeWithScore(node=node, score=1.0)


def test_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-very-secret-7"
    llms = [
        EVisRAGLLM("http://localhost:9/v1", api_key=secret, timeout=5, max_retries=0),
        EVisRAGLLM("m", base_url="http://localhost:9/v1", api_key=secret),
        EVisRAGLLM("http://localhost:9/v1", engine_settings={"api_key": secret}),
    ]
    for llm in llms:
        for shown in (repr(llm), str(llm), str(llm.to_dict()), llm.model_dump_json(), llm.to_json(), str(llm.dict())):
            assert secret not in shown
        assert llm.api_key is not None
        assert llm.api_key.get_secret_value() == secret
        assert llm._load_settings()["api_key"] == secret
        assert pickle.loads(pickle.dumps(llm))._load_settings()["api_key"] == secret
        assert EVisRAGLLM.from_dict(llm.to_dict()).api_key is None
    assert llms[0]._load_settings() == {"api_key": secret, "timeout": 5, "max_retries": 0}
    assert llms[1]._load_settings() == {"api_key": secret, "model": "m"}
    monkeypatch.setattr(Settings, "_llm", llms[0])
    assert secret not in repr(Settings.llm)


def test_what_an_llm_does_not_know_is_refused() -> None:
    tries: list[tuple[dict[str, Any], str]] = [
        ({"temprature": 0.1}, "'temperature'"),
        ({"api_base": "http://localhost:9/v1"}, "base_url"),
        ({"maxtokens": 7}, "'max_tokens'"),
        ({"model": "extractive", "api_key": "k"}, "runs on this machine"),
        ({"generator": ScriptedGenerator("a"), "timeout": 3}, "has its own"),
        ({"model": "http://localhost:8/v1", "base_url": "http://localhost:9/v1"}, "two servers"),
    ]
    for fields, told in tries:
        with pytest.raises(SettingError, match=told):
            EVisRAGLLM(**fields)
    with pytest.raises(SettingError, match="'embed_batch_size'"):
        VisRAGEmbedding(embed_batchsize=3)
