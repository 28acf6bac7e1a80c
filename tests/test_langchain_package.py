"""What the package offers, what importing it loads, and that its objects serialise where the host expects it."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
from fakes import PixelEmbedder
from langchain_core.document_loaders import BaseBlobParser, BaseLoader
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser
from langchain_core.retrievers import BaseRetriever
from langchain_core.structured_query import Visitor
from langchain_core.vectorstores import VectorStore

from visrag_integrations import PageRetriever, QdrantPageStore, langchain

BASES: dict[str, type] = {
    "ChatEVisRAG": BaseChatModel,
    "EvidenceOutputParser": BaseCumulativeTransformOutputParser,
    "VisRAGBlobParser": BaseBlobParser,
    "VisRAGCrossEncoderReranker": BaseDocumentCompressor,
    "VisRAGEmbeddings": Embeddings,
    "VisRAGLoader": BaseLoader,
    "VisRAGReranker": BaseDocumentCompressor,
    "VisRAGRetriever": BaseRetriever,
    "VisRAGTranslator": Visitor,
    "VisRAGVectorStore": VectorStore,
}


def test_every_name_is_what_the_host_expects() -> None:
    assert langchain.__all__ == sorted(langchain._HOMES) == dir(langchain)
    for name in langchain.__all__:
        found = getattr(langchain, name)
        assert found.__name__ == name
        assert inspect.isfunction(found) == (name not in BASES)
        if name in BASES:
            assert issubclass(found, BASES[name])
    with pytest.raises(AttributeError, match="VisRAGLoader"):
        _ = langchain.VisRAGLoaders


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import visrag_integrations.langchain\nprint('langchain_core' in sys.modules, 'torch' in sys.modules)",
            "False False",
        ),
        (
            "from visrag_integrations.langchain import *\n"
            "print('torch' in sys.modules, 'qdrant_client' in sys.modules)",
            "False False",
        ),
        (
            "sys.modules['langchain_core'] = None\n"
            "import visrag_integrations.langchain as v\n"
            "try: v.VisRAGLoader\n"
            "except ImportError as err: print(err)",
            'langchain-core is not installed. Install it with: pip install "visrag-integrations[langchain]"',
        ),
    ],
)
def test_what_importing_loads(code: str, said: str) -> None:
    found = subprocess.run([sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == said


def test_objects_pickle_and_can_be_told_apart_in_traces() -> None:
    made: list[Any] = [
        langchain.ChatEVisRAG("extractive", temperature=0),
        langchain.EvidenceOutputParser(),
        langchain.VisRAGBlobParser(pages="1"),
        langchain.VisRAGEmbeddings("some-folder", device="cpu"),
        langchain.VisRAGLoader("a.pdf", pages="1-3"),
        langchain.VisRAGReranker(embedder=PixelEmbedder(), top_n=2),
    ]
    for one in made:
        copy = pickle.loads(pickle.dumps(one))
        assert type(copy) is type(one)
        assert repr(copy).split(" at 0x")[0] == repr(one).split(" at 0x")[0]
    with QdrantPageStore(":memory:") as store:
        retriever = langchain.VisRAGRetriever(retriever=PageRetriever(PixelEmbedder(), store))
        chain = langchain.create_visrag_chain(retriever, made[0])
        agent = langchain.create_vrag_agent(retriever, made[0])
        for runnable in (made[0], made[1], retriever, chain, agent, langchain.create_visrag_tool(retriever)):
            assert dumpd(runnable)["id"]
