"""What a user of the LangChain classes writes: it must type-check."""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import HumanMessage

from visrag_integrations import PageRetriever, QdrantPageStore, load_embedder
from visrag_integrations.langchain import (
    ChatEVisRAG,
    VisRAGLoader,
    VisRAGReranker,
    VisRAGRetriever,
    VisRAGVectorStore,
    create_visrag_chain,
    create_visrag_tool,
    pages_to_content,
)

embedder = load_embedder("ocr")
store = QdrantPageStore(":memory:")
texts = VisRAGVectorStore.from_texts(["a"], DeterministicFakeEmbedding(size=4), tenant="ada", collection="texts")
pages = VisRAGVectorStore(store, embedder, tenant="ada")
ids: list[str] = pages.add_documents(VisRAGLoader("a.pdf", pages="1-3").lazy_load())
found: list[Document] = pages.similarity_search("a", k=2, filter={"page": 0})
retriever = VisRAGRetriever(retriever=PageRetriever(embedder, store), k=3, with_scores=True)
chat = ChatEVisRAG("a-model", base_url="http://localhost:8000/v1", timeout=60)
message = HumanMessage(content=[*pages_to_content(found, max_pixels=1_000_000)])
reranker = VisRAGReranker(embedder=embedder, top_n=2)
chain = create_visrag_chain(retriever, chat)
tool = create_visrag_tool(retriever, pictures=False)
