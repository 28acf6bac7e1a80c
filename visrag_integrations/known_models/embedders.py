"""Embedders: those that run here by name, and those that a vLLM server runs."""

from __future__ import annotations

from visrag_integrations.known_models.rows import KnownModel, Way

ENGLISH = "English"


def _here(name: str, extra: str = "torch") -> Way:
    """In this process, by its name."""
    return Way("in process", extra, f'load_embedder("{name}")')


def _library(name: str) -> Way:
    """In this process, through sentence-transformers, by its name."""
    return Way("sentence-transformers", "sentence-transformers", f'load_embedder("{name}")')


def _served(name: str, *, multi: bool = False) -> Way:
    """By a vLLM server, which may run what a checkpoint needs."""
    vectors = ', kind="multi", path="/pooling"' if multi else ""
    serve = f"vllm serve {name} --runner pooling"
    load = f'load_embedder("{name}", system="endpoint", base_url="http://gpu:8000/v1"{vectors})'
    return Way("vLLM", "", f"{serve}\n{load}")


def _by_vllm_alone(name: str, parameters: float = 0, dimension: int = 0, score: str = "") -> KnownModel:
    """Late interaction whose network only vLLM has: on a server, or in this process where vLLM is installed."""
    load = f'load_embedder("{name}", url="http://gpu:8000")'
    serve = f"vllm serve {name} --runner pooling --max-model-len 4096"
    return KnownModel(
        name,
        "embedder",
        (Way("vLLM", "", f"{serve}\n{load}"), Way("in process", "vllm", f'load_embedder("{name}")')),
        parameters=parameters,
        vectors="multi",
        dimension=dimension,
        score=score,
    )


EMBEDDERS: tuple[KnownModel, ...] = (
    KnownModel(
        "ocr",
        "embedder",
        (_here("ocr", "cpu"),),
        languages="those of the text layer; of scans English, French, Chinese, Japanese",
        vectors="multi",
        speed="58.9 pages/s with reading, 2 shared cores",
        needs_gpu=False,
        note="reads the page's words, not its picture; nothing is downloaded",
    ),
    KnownModel(
        "openbmb/VisRAG-Ret",
        "embedder",
        (_here("openbmb/VisRAG-Ret"),),
        parameters=3400,
        licence="MiniCPM Model License",
        vectors="single",
        dimension=2304,
    ),
    KnownModel(
        "RhapsodyAI/minicpm-visual-embedding-v0",
        "embedder",
        (_here("RhapsodyAI/minicpm-visual-embedding-v0"),),
        parameters=3400,
        vectors="single",
        dimension=2304,
    ),
    KnownModel(
        "Qwen/Qwen3-VL-Embedding-2B",
        "embedder",
        (_library("Qwen/Qwen3-VL-Embedding-2B"), _served("Qwen/Qwen3-VL-Embedding-2B")),
        parameters=2000,
        vectors="single",
    ),
    KnownModel(
        "Qwen/Qwen3-VL-Embedding-8B",
        "embedder",
        (_library("Qwen/Qwen3-VL-Embedding-8B"), _served("Qwen/Qwen3-VL-Embedding-8B")),
        parameters=8000,
        vectors="single",
    ),
    KnownModel(
        "nanovdr/NanoVDR-S-Multi",
        "embedder",
        (
            Way(
                "sentence-transformers",
                "sentence-transformers",
                'load_embedder("Qwen/Qwen3-VL-Embedding-2B", queries="nanovdr/NanoVDR-S-Multi")',
            ),
        ),
        parameters=70,
        vectors="single",
        needs_gpu=False,
        note="embeds queries only, for pages of Qwen3-VL-Embedding-2B: the queries then need no GPU",
    ),
    KnownModel(
        "llamaindex/vdr-2b-multi-v1",
        "embedder",
        (_here("llamaindex/vdr-2b-multi-v1"),),
        parameters=2000,
        vectors="single",
        note="the first numbers of a vector say most: dimension= keeps fewer",
    ),
    KnownModel(
        "llamaindex/vdr-2b-v1",
        "embedder",
        (_here("llamaindex/vdr-2b-v1"),),
        parameters=2000,
        vectors="single",
        note="the first numbers of a vector say most: dimension= keeps fewer",
    ),
    KnownModel(
        "marco/mcdse-2b-v1",
        "embedder",
        (_here("marco/mcdse-2b-v1"),),
        parameters=2000,
        vectors="single",
        note="the first numbers of a vector say most: dimension= keeps fewer",
    ),
    KnownModel(
        "MrLight/dse-qwen2-2b-mrl-v1",
        "embedder",
        (_here("MrLight/dse-qwen2-2b-mrl-v1"),),
        parameters=2000,
        vectors="single",
        note="the first numbers of a vector say most: dimension= keeps fewer",
    ),
    KnownModel(
        "BAAI/BGE-VL-base",
        "embedder",
        (_here("BAAI/BGE-VL-base"),),
        parameters=150,
        languages=ENGLISH,
        vectors="single",
        dimension=512,
        needs_gpu=False,
    ),
    KnownModel(
        "BAAI/BGE-VL-large",
        "embedder",
        (_here("BAAI/BGE-VL-large"),),
        parameters=428,
        languages=ENGLISH,
        vectors="single",
        dimension=768,
        needs_gpu=False,
    ),
    KnownModel(
        "BAAI/BGE-VL-MLLM-S1",
        "embedder",
        (_here("BAAI/BGE-VL-MLLM-S1"),),
        parameters=7570,
        vectors="single",
        dimension=4096,
    ),
    KnownModel(
        "BAAI/BGE-VL-MLLM-S2",
        "embedder",
        (_here("BAAI/BGE-VL-MLLM-S2"),),
        parameters=7570,
        vectors="single",
        dimension=4096,
    ),
    KnownModel(
        "vidore/colqwen2.5-v0.2",
        "embedder",
        (_library("vidore/colqwen2.5-v0.2"),),
        parameters=3800,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .540",
        note="an adapter; its base is fetched too",
    ),
    KnownModel(
        "vidore/colpali-v1.3-hf",
        "embedder",
        (_here("vidore/colpali-v1.3-hf"),),
        parameters=2900,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .480",
    ),
    KnownModel(
        "vidore/colqwen2-v1.0-hf",
        "embedder",
        (_here("vidore/colqwen2-v1.0-hf"),),
        parameters=2200,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .469",
    ),
    KnownModel(
        "ModernVBERT/colmodernvbert-merged",
        "embedder",
        (_here("ModernVBERT/colmodernvbert-merged"),),
        parameters=250,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .263",
        needs_gpu=False,
    ),
    KnownModel(
        "vidore/colpali-v1.3",
        "embedder",
        (_library("vidore/colpali-v1.3"),),
        parameters=2900,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .480",
        note="an adapter; the one with -hf needs less",
    ),
    KnownModel(
        "vidore/colpali-v1.2",
        "embedder",
        (_library("vidore/colpali-v1.2"),),
        parameters=2900,
        vectors="multi",
        dimension=128,
        note="an adapter; its base is fetched too",
    ),
    KnownModel(
        "vidore/colqwen2-v1.0",
        "embedder",
        (_library("vidore/colqwen2-v1.0"),),
        parameters=2200,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .469",
        note="an adapter; the one with -hf needs less",
    ),
    KnownModel(
        "vidore/colSmol-500M",
        "embedder",
        (_library("vidore/colSmol-500M"),),
        parameters=500,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .346",
        needs_gpu=False,
        note="an adapter; its base is fetched too",
    ),
    KnownModel(
        "vidore/colSmol-256M",
        "embedder",
        (_library("vidore/colSmol-256M"),),
        parameters=256,
        vectors="multi",
        dimension=128,
        needs_gpu=False,
        note="an adapter; its base is fetched too",
    ),
    KnownModel(
        "nomic-ai/colnomic-embed-multimodal-3b",
        "embedder",
        (_library("nomic-ai/colnomic-embed-multimodal-3b"),),
        parameters=3000,
        vectors="multi",
        dimension=128,
        note="an adapter; its base is fetched too",
    ),
    KnownModel(
        "nomic-ai/colnomic-embed-multimodal-7b",
        "embedder",
        (_library("nomic-ai/colnomic-embed-multimodal-7b"),),
        parameters=7000,
        vectors="multi",
        dimension=128,
        note="an adapter; its base is fetched too",
    ),
    KnownModel(
        "tencent/EVIE-Preview-4.5B",
        "embedder",
        (_library("tencent/EVIE-Preview-4.5B"),),
        parameters=4540,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .641",
        note="by name in sentence-transformers, without code of its own; never loaded here",
    ),
    KnownModel(
        "Alibaba-NLP/gme-Qwen2-VL-2B-Instruct",
        "embedder",
        (_served("Alibaba-NLP/gme-Qwen2-VL-2B-Instruct"),),
        parameters=2000,
        vectors="single",
        note="runs code of its own, which is not run in this process",
    ),
    KnownModel(
        "Alibaba-NLP/gme-Qwen2-VL-7B-Instruct",
        "embedder",
        (_served("Alibaba-NLP/gme-Qwen2-VL-7B-Instruct"),),
        parameters=7000,
        vectors="single",
        note="runs code of its own, which is not run in this process",
    ),
    KnownModel(
        "cpu-visual",
        "embedder",
        (_here("cpu-visual"),),
        parameters=250,
        vectors="multi",
        dimension=128,
        score="NanoViDoRe .263",
        speed="5.0 s of one core a page of 1024 px, with random weights",
        needs_gpu=False,
        note="ColModernVBERT made for a processor: pictures of 1024 px, 8-bit weights, searched with the words",
    ),
    _by_vllm_alone("TomoroAI/tomoro-colqwen3-embed-4b", 4000, 320, "NanoViDoRe .602"),
    _by_vllm_alone("TomoroAI/tomoro-colqwen3-embed-8b", 8000, score="NanoViDoRe .621"),
    _by_vllm_alone("OpenSearch-AI/Ops-Colqwen3-4B", 4000, 2560),
    _by_vllm_alone("OpenSearch-AI/Ops-Colqwen3-8B", 8000),
    _by_vllm_alone("nvidia/nemotron-colembed-vl-4b-v2", 4000, 2560),
    _by_vllm_alone("nvidia/nemotron-colembed-vl-8b-v2", 8000),
    _by_vllm_alone("athrael-soju/colqwen3.5-4.5B", 4500),
    _by_vllm_alone("athrael-soju/colqwen3.5-4.5B-v3", 4500),
    _by_vllm_alone("vultr/VultronRetrieverPrime-Qwen3.5-8B", 8000),
)
