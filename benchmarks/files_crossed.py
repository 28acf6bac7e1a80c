"""How many files of the package one call runs through: `python benchmarks/files_crossed.py`.

A reader who wants to know what a call does has to open so many. Counted while the call runs, in every thread, with
models loaded and the index open before.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import visrag_integrations
from visrag_integrations import PageRetriever, QdrantPageStore, VisRAG, index_documents, load_embedder, load_generator

PACKAGE = Path(visrag_integrations.__file__).parent
SAMPLES = Path(__file__).parent.parent / "samples"
QUESTION = "What is a native Debian package?"


def files_of(call: Callable[[], Any]) -> set[str]:
    """The package's files whose functions run during the call."""
    found: set[str] = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            found.add(str(Path(frame.f_code.co_filename).relative_to(PACKAGE)))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return found


def main() -> None:
    from visrag_integrations.langchain import ChatEVisRAG, create_visrag_chain
    from visrag_integrations.langchain import VisRAGRetriever as LangChainRetriever
    from visrag_integrations.llamaindex import EVisRAGLLM, VisRAGQueryEngine
    from visrag_integrations.llamaindex import VisRAGRetriever as LlamaIndexRetriever

    with tempfile.TemporaryDirectory() as folder, QdrantPageStore(Path(folder) / "index") as store:
        embedder = load_embedder("ocr")
        index_documents([SAMPLES / "debian-packaging-basics.pdf"], store=store, embedder=embedder, progress=False)
        retriever = PageRetriever(embedder, store)
        generator = load_generator("extractive")
        rag = VisRAG(retriever, generator)
        chain = create_visrag_chain(LangChainRetriever(retriever=retriever, k=3), ChatEVisRAG(generator=generator))
        engine = VisRAGQueryEngine(LlamaIndexRetriever(retriever=retriever), EVisRAGLLM(generator=generator))
        calls: dict[str, Callable[[], Any]] = {
            "VisRAG.ask": lambda: rag.ask(QUESTION),
            "LangChain retriever.invoke": lambda: LangChainRetriever(retriever=retriever, k=3).invoke(QUESTION),
            "LangChain chain.invoke": lambda: chain.invoke(QUESTION),
            "LlamaIndex engine.query": lambda: engine.query(QUESTION),
        }
        for name, call in calls.items():
            call()  # what is loaded once is loaded now
            found = files_of(call)
            print(f"{name:28} {len(found):3} files")
            if "--files" in sys.argv:
                for file in sorted(found):
                    print(f"    {file}")


if __name__ == "__main__":
    main()
