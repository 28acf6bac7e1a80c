"""The tools of UltraRAG's `retriever`: pages of an image corpus, or of any index of this library, by their pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import page_key, write_run
from visrag_integrations.servers.ultrarag.filling import read_embeddings, write_embeddings
from visrag_integrations.servers.ultrarag.found_pages import FoundPages
from visrag_integrations.servers.ultrarag.image_corpus import read_corpus
from visrag_integrations.servers.ultrarag.open_index import OpenIndex, load_named_embedder
from visrag_integrations.servers.ultrarag.settings import RetrieverSettings, retriever_settings, use_gpus
from visrag_integrations.servers.ultrarag.tool_table import Output, ToolSpec
from visrag_integrations.types import Failure, Mode, Page, ScoredPage

logger = logging.getLogger(__name__)

_SEARCH = ("q_ls", "top_k", "query_instruction", "collection_name")


class RetrieverTools:
    """The tools, and what `retriever_init` opened for them.

    Args:
        folder: What `visrag ultrarag init` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._found = FoundPages(folder / "found")
        self._opened: OpenIndex | None = None
        self._last: list[list[ScoredPage]] = []  # of the last search, for `write_run`

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, by the names UltraRAG's pipelines use."""
        init = (
            *("model_name_or_path", "backend_configs", "batch_size", "corpus_path", "gpu_ids", "is_multimodal"),
            *("backend", "index_backend", "index_backend_configs", "is_demo", "collection_name"),
        )
        return (
            ToolSpec(self.retriever_init, init),
            ToolSpec(self.retriever_embed, ("embedding_path", "overwrite", "is_multimodal")),
            ToolSpec(self.retriever_index, ("embedding_path", "overwrite", "collection_name", "corpus_path")),
            ToolSpec(self.retriever_search, _SEARCH, ("ret_psg",)),
            ToolSpec(self.retriever_search_pages, _SEARCH, ("ret_psg", "ret_scores", "ret_pages")),
            ToolSpec(self.retriever_batch_search, ("batch_query_list", *_SEARCH[1:]), ("ret_psg_ls",)),
            ToolSpec(self.write_run, ("q_ids", "run_path")),
        )

    def close(self) -> None:
        """Close the stores and the embedder."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # --- tools: their arguments are UltraRAG's -----------------------------------------------------------------------

    def retriever_init(
        self,
        model_name_or_path: str,
        backend_configs: dict[str, Any] | None,
        batch_size: int = 16,
        corpus_path: str = "",
        gpu_ids: str | int | None = None,
        is_multimodal: bool = False,
        backend: str = "visrag",
        index_backend: str = "qdrant",
        index_backend_configs: dict[str, Any] | None = None,
        is_demo: bool = False,
        collection_name: str = "",
    ) -> Output:
        """Load the embedder and open the collection; a full one can be searched at once."""
        self.close()
        settings = retriever_settings(backend_configs)
        use_gpus(gpu_ids)
        embedder = load_named_embedder(model_name_or_path, backend, backend_configs or {}, settings)
        mode: Mode | None = settings.mode
        if mode is None and backend == "bm25":
            mode = "lexical"
        corpus = Path(corpus_path).absolute() if corpus_path else None
        opened = OpenIndex(embedder, settings, mode, corpus, collection_name or "pages")
        try:
            opened.multimodal, opened.batch_size = is_multimodal, batch_size
            opened.check()
        except BaseException:
            opened.close()
            raise
        self._opened = opened
        return {}

    def retriever_embed(
        self, embedding_path: str | None = None, overwrite: bool = False, is_multimodal: bool = False
    ) -> Output:
        """Embed the corpus into the collection; what is there and unchanged is kept, unless it is to be overwritten."""
        opened = self._ready()
        opened.multimodal = opened.multimodal or is_multimodal
        pages = read_corpus(opened.corpus_file())
        failed = opened.fill(pages, overwrite=overwrite)
        if opened.settings.write_embeddings and not failed:
            if not embedding_path:
                raise SettingError(
                    "write_embeddings is true, and embedding_path says no file. Name one, for example x.npy."
                )
            write_embeddings(pages, opened.embedder, opened.store(), Path(embedding_path))
        opened.filled = True
        _check_failures(failed, len(pages), opened.settings)
        return {}

    def retriever_index(
        self,
        embedding_path: str | None = None,
        overwrite: bool = False,
        collection_name: str = "",
        corpus_path: str = "",
    ) -> Output:
        """Make the collection hold the corpus, from the .npy if there is one; done already by `retriever_embed`."""
        opened = self._ready()
        if opened.filled and opened.collection == (collection_name or opened.collection):
            return {}
        opened.collection = collection_name or opened.collection
        if corpus_path:
            opened.corpus = Path(corpus_path).absolute()
        pages = read_corpus(opened.corpus_file())
        maker = opened.embedder
        if embedding_path and Path(embedding_path).is_file() and opened.embedder.kind == "single":
            maker = read_embeddings(Path(embedding_path), pages, opened.embedder)
        failed = opened.fill(pages, overwrite=overwrite, maker=maker)
        opened.filled = True
        _check_failures(failed, len(pages), opened.settings)
        return {}

    def retriever_search(
        self, query_list: list[str] | str, top_k: int = 5, query_instruction: str = "", collection_name: str = ""
    ) -> Output:
        """For each question the paths of the pages that fit it, best first."""
        return {"ret_psg": self._search(query_list, top_k, query_instruction, collection_name)}

    def retriever_search_pages(
        self, query_list: list[str] | str, top_k: int = 5, query_instruction: str = "", collection_name: str = ""
    ) -> Output:
        """`retriever_search`, with the scores, and the source and number of each page."""
        paths = self._search(query_list, top_k, query_instruction, collection_name)
        scores = []
        pages = []
        for hits in self._last:
            scores.append([float(hit.score) for hit in hits])
            pages.append([_named(hit.page) for hit in hits])
        return {"ret_psg": paths, "ret_scores": scores, "ret_pages": pages}

    def retriever_batch_search(
        self,
        batch_query_list: list[list[str]],
        top_k: int = 5,
        query_instruction: str = "",
        collection_name: str = "",
    ) -> Output:
        """`retriever_search` for several lists of questions."""
        found = []
        for queries in batch_query_list:
            found.append(self._search(queries, top_k, query_instruction, collection_name))
        return {"ret_psg_ls": found}

    def write_run(self, q_ids: list[str | int], path: str = "output/run.trec") -> Output:
        """What the last search found as a TREC run, for UltraRAG's eval_trec.yaml and for `visrag eval --compare`."""
        if len(q_ids) != len(self._last):
            raise SettingError(f"There are {len(q_ids)} q_ids, and the last search had {len(self._last)} questions.")
        run: dict[str, dict[str, float]] = {}
        for id_, hits in zip(q_ids, self._last, strict=True):
            run[str(id_)] = {page_key(hit.page): float(hit.score) for hit in hits}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_run(run, path)
        return {}

    # --- how ---------------------------------------------------------------------------------------------------------

    def _ready(self) -> OpenIndex:
        if self._opened is None:
            raise SettingError("Nothing is open. Put the step retriever.retriever_init before this one.")
        return self._opened

    def _search(self, queries: list[str] | str, top_k: int, instruction: str, collection: str) -> list[list[str]]:
        opened = self._ready()
        if isinstance(queries, str):
            queries = [queries]
        retriever = opened.retriever(collection or opened.collection)
        hits = retriever.retrieve_many([f"{instruction}{query}" for query in queries], top_k)
        shown: list[list[str]] = []
        for found in hits:
            if opened.multimodal:
                folder = opened.corpus.parent if opened.corpus else None
                shown.append([self._found.show(hit.page, folder) for hit in found])
            else:
                shown.append([hit.page.text for hit in found])
        self._last = hits
        return shown


def _named(page: Page) -> dict[str, Any]:
    """How a pipeline may name the page: by its document and number, or as judgements do."""
    return {"source": page.source, "page": page.number, "key": page_key(page)}


def _check_failures(failed: Sequence[Failure], pages: int, settings: RetrieverSettings) -> None:
    """An error for pages that are not in the index, unless the parameter file says that they may be missing."""
    for failure in failed:
        logger.warning("%s: %s", failure.source, failure.error)
    if failed and not settings.skip_unreadable:
        first = failed[0]
        raise SettingError(
            f"{len(failed)} of {pages} pages could not be indexed, the first: {first.source}: {first.error}. The "
            "others are in the index. Put the pages right and run this again, or set "
            "backend_configs.visrag.skip_unreadable: true."
        )
