"""Every extra, really absent: whatever needs it says the pip line that installs it.

Each extra is tried in a Python of its own in which the packages that pyproject.toml lists for it are not installed,
and no others are missing; then all of it in one that has the core alone. Reading processes, which are children, are
the same.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from drawing import draw_pdf

from visrag_integrations.cli import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parent.parent
LOCKED = ROOT / "tests" / "data" / "cases" / "encrypted-office"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
# "all" and those of developers are lists of the others.
# Nothing refuses to run without `notebook`: progress is text then. The site is built by MkDocs, not by this package.
NAMED = [extra for extra in EXTRAS if extra not in ("all", "dev", "dev-full", "docs", "notebook")]


class Way(NamedTuple):
    """Something that needs an extra.

    Attributes:
        extra: Which one.
        typed: Words of the command line; or one text: Python code.
    """

    extra: str
    typed: tuple[str, ...] | str

    @property
    def name(self) -> str:
        shown = " ".join(self.typed) if isinstance(self.typed, tuple) else self.typed
        return f"{self.extra}: {shown}"


TRAINING = "from visrag_integrations.training import {0}; {0}"
ASK = "from visrag_integrations import load_generator as g; from visrag_integrations.types import Message; "
GPU = ("--device", "cuda")  # nobody is asked whether a processor will do
WAYS = [
    Way("cpu", ("index", "text.pdf", "--preset", "cpu", "--index", "new")),
    Way("cpu", ("search", "boats")),
    Way("cpu", ("ask", "How many boats?")),
    Way("cpu", ("ask", "How many boats?", "text.pdf", "--preset", "cpu")),
    Way("cpu", ("eval", "retrieval", "set.jsonl", "--documents", "text.pdf", "--preset", "cpu")),
    Way("cpu", "from visrag_integrations import load_embedder; load_embedder('ocr').embed_queries(['boats'])"),
    Way("cpu", "from visrag_integrations import PageReader; list(PageReader(ocr='always').read('text.pdf'))"),
    Way("pdfium", "from visrag_integrations import PageReader; list(PageReader(backend='pdfium').read('text.pdf'))"),
    Way("pdfium", ("index", "text.pdf", "--preset", "cpu", "--index", "new", "--backend", "pdfium")),
    Way("heif", ("index", "photo.heic", "--preset", "cpu", "--index", "new")),
    Way("heif", "from visrag_integrations import PageReader; list(PageReader().read('photo.heic'))"),
    Way("office", ("index", str(LOCKED / "lockers.xlsx"), "--preset", "cpu", "--index", "new", "--password", "heron")),
    Way("office", ("index", str(LOCKED / "harbour.odt"), "--preset", "cpu", "--index", "new", "--password", "heron")),
    Way("torch", ("index", "text.pdf", "--embedder", "openbmb/VisRAG-Ret", "--index", "new", *GPU)),
    Way("torch", ("index", "text.pdf", "--embedder", "BAAI/BGE-VL-base", "--index", "new", *GPU)),
    Way("torch", ("index", "text.pdf", "--embedder", "vidore/colpali-v1.3-hf", "--index", "new", *GPU)),
    Way("torch", "from visrag_integrations import load_embedder; load_embedder('openbmb/VisRAG-Ret')"),
    Way("torch", "from visrag_integrations import load_embedder; load_embedder('cpu-visual').embed_queries(['a'])"),
    Way("torch", f"{ASK}g('checkpoint', engine='transformers').generate([(Message(('q',)),)])"),
    Way("sentence-transformers", ("index", "text.pdf", "--embedder", "vidore/colSmol-256M", "--index", "new")),
    Way("sentence-transformers", ("index", "text.pdf", "--text-model", "a/b", "--preset", "cpu", "--index", "new")),
    Way("sentence-transformers", ("search", "boats", "--rerank", "a/b")),
    Way("sentence-transformers", "from visrag_integrations import load_embedder as e; e('Qwen/Qwen3-VL-Embedding-2B')"),
    Way("sentence-transformers", "from visrag_integrations.rerankers import CrossEncoderReranker as R; R('a/b')"),
    Way("vllm", f"{ASK}g('checkpoint', engine='vllm').generate([(Message(('q',)),)])"),
    Way("vllm", "from visrag_integrations import load_embedder as e; e('TomoroAI/tomoro-colqwen3-embed-4b')"),
    Way("vllm", "from visrag_integrations import load_embedder as e; e('checkpoint', backend='vllm')"),
    Way("gpu", ("index", "text.pdf", "--preset", "gpu", "--index", "new", *GPU)),
    Way("gpu", ("ask", "boats?", "text.pdf", "--preset", "gpu", "--index", "new", *GPU)),
    Way("openai", ("ask", "How many boats?", "--generator", "http://localhost:9/v1")),
    Way("openai", ("demo", "--generator", "http://localhost:9/v1", "--preset", "cpu")),
    Way("openai", ("serve", "--generator", "http://localhost:9/v1")),
    Way("openai", ("mcp", "--generator", "http://localhost:9/v1")),
    Way("openai", ("eval", "queries", "text.pdf", "--generator", "http://localhost:9/v1", "--out", "new.jsonl")),
    Way("openai", "from visrag_integrations import load_generator; load_generator('http://localhost:9/v1')"),
    Way("openai", "from visrag_integrations.langchain import ChatEVisRAG as C; C('http://localhost:9/v1').invoke('a')"),
    Way("remote", ("index", "s3://bucket/a.pdf", "--preset", "cpu", "--index", "new")),
    Way("remote", "from visrag_integrations import PageReader; list(PageReader().read('gs://bucket/a.pdf'))"),
    Way("langchain", "from visrag_integrations.langchain import VisRAGRetriever"),
    Way("langchain", "import visrag_integrations.langchain as l; l.ChatEVisRAG"),
    Way("llamaindex", "from visrag_integrations.llamaindex import VisRAGRetriever"),
    Way("llamaindex", "import visrag_integrations.llamaindex as l; l.EVisRAGLLM"),
    Way("eval", ("eval", "retrieval", "openbmb/VisRAG-Ret-Test-ArxivQA", "--preset", "cpu")),
    Way("eval", ("eval", "retrieval", "table.parquet", "--preset", "cpu")),
    Way("eval", "from visrag_integrations.evaluation import load_evaluation_set as s; s('vidore/docvqa_test')"),
    Way(
        "mteb",
        "from visrag_integrations.evaluation.mteb import MtebEmbedder; from visrag_integrations import load_embedder;"
        "MtebEmbedder(load_embedder('ocr')).mteb_model_meta",
    ),
    Way("training", ("train", "retriever", "checkpoint", "set.jsonl", "--output", "run")),
    Way("training", ("train", "evidence", "checkpoint", "set.jsonl", "--output", "run")),
    Way("training", ("train", "agent", "checkpoint", "set.jsonl", "--output", "run")),
    Way("training", ("train", "merge", "checkpoint", "merged")),
    Way("training", TRAINING.format("train_retriever")),
    Way("training", TRAINING.format("train_evidence")),
    Way("training", TRAINING.format("train_agent")),
    Way("ray", ("index", "text.pdf", "--preset", "cpu", "--index", "http://localhost:9", "--ray", "local")),
    Way("demo", ("demo", "--preset", "cpu")),
    Way("demo", "from visrag_integrations.servers.demo import build_demo"),
    Way("serve", ("serve",)),
    Way("serve", "from visrag_integrations.servers.http import create_app"),
    Way("mcp", ("mcp",)),
    Way("mcp", "from visrag_integrations.servers.mcp import create_mcp_server"),
    Way("ultrarag", ("ultrarag", "init", "servers", "--preset", "cpu")),
    Way("ultrarag", "from visrag_integrations.servers.ultrarag import create_server"),
]

# Tries each way, and prints for each its exit code and what it said.
PROGRAM = """
import contextlib, io, json, sys, traceback
sys.stdin = io.StringIO("")
results = []
for typed in json.load(open(sys.argv[1], encoding="utf-8")):
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            if isinstance(typed, str):
                exec(typed, {})
            else:
                from visrag_integrations.cli import main
                code = main(typed)
        except SystemExit as ended:
            code = ended.code
        except __import__("visrag_integrations").errors.VisRAGError as error:  # its message is what is looked at
            code = 2
            print(f"{type(error).__name__}: {error}", file=said)
        except BaseException:
            code = -1
            traceback.print_exc(file=said)
    results.append([code, said.getvalue()])
print(json.dumps(results))
"""


@functools.cache
def packages_of(extra: str) -> frozenset[str]:
    """The distributions that pyproject.toml lists for an extra, with those of the extras that it contains."""
    found: set[str] = set()
    for line in EXTRAS[extra]:
        name = re.split(r"[\[<>=;, ]", line)[0].lower()
        if name == "visrag-integrations":
            for inner in re.search(r"\[(.*?)\]", line)[1].split(","):  # type: ignore[index]
                found |= packages_of(inner)
        else:
            found.add(name)
    return frozenset(found)


def importable(distributions: frozenset[str]) -> set[str]:
    """The names under which they are imported; of one that is not installed here its own name."""
    names = {distribution.replace("-", "_") for distribution in distributions}
    for package, owners in importlib.metadata.packages_distributions().items():
        if distributions & {owner.lower().replace("_", "-") for owner in owners}:
            names.add(package)
    return names - {"visrag_integrations"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents, a filled index, a set of questions, and a checkpoint of which only the name counts."""
    folder = tmp_path_factory.mktemp("absent")
    draw_pdf(folder / "text.pdf", ["The harbour holds forty sailing boats."])
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    (folder / "table.parquet").write_bytes(b"PAR1" + bytes(32) + b"PAR1")
    row = {"query": "How many boats?", "source": "text.pdf", "page": 1, "answer": "forty"}
    (folder / "set.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "config.json").write_text('{"model_type": "qwen2_5_vl"}', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["index", "text.pdf", "--preset", "cpu"]) == 0
    return folder


def tried(place: Path, ways: list[Way], absent: frozenset[str]) -> list[tuple[int, str]]:
    """What became of each way in a Python without these distributions."""
    typed: list[object] = []
    for number, way in enumerate(ways):
        # An index of its own for each: one that another model filled is refused before anything is missed.
        own = f"new-{len(absent)}-{number}"
        typed.append(
            way.typed if isinstance(way.typed, str) else [own if word == "new" else word for word in way.typed]
        )
    (place / "ways.json").write_text(json.dumps(typed), encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "absent_packages"), str(ROOT)]),
        "VISRAG_TEST_ABSENT": ",".join(sorted(importable(absent))),
        "VISRAG_TEST_ABSENT_DISTRIBUTIONS": ",".join(sorted(absent)),
        "HF_HUB_OFFLINE": "1",
    }
    program = [sys.executable, "-c", PROGRAM, "ways.json"]
    done = subprocess.run(program, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [(code, said) for code, said in json.loads(done.stdout.splitlines()[-1])]


def test_every_extra_has_ways() -> None:
    assert {way.extra for way in WAYS} == set(NAMED)


@pytest.mark.parametrize("extra", NAMED)
def test_without_an_extra_its_pip_line_is_said(place: Path, extra: str) -> None:
    ways = [way for way in WAYS if way.extra == extra]
    wrong: dict[str, tuple[int, str]] = {}
    for way, (code, said) in zip(ways, tried(place, ways, packages_of(extra)), strict=True):
        if code != 2 or "Traceback" in said or f'pip install "visrag-integrations[{extra}]"' not in said:
            wrong[way.name] = (code, said[-1500:])
    assert wrong == {}


def test_with_the_core_alone_a_pip_line_is_said(place: Path) -> None:
    """Another extra may be missed first: what answers before what is served."""
    everything = frozenset().union(*map(packages_of, NAMED))
    wrong: dict[str, tuple[int, str]] = {}
    for way, (code, said) in zip(WAYS, tried(place, WAYS, everything), strict=True):
        extras = re.findall(r'pip install "visrag-integrations\[([a-z-]+)\]"', said)
        if code != 2 or "Traceback" in said or not extras or not set(extras) <= set(NAMED):
            wrong[way.name] = (code, said[-1500:])
    assert wrong == {}


def test_the_core_needs_none(place: Path) -> None:
    """Documents are read, listed and removed, and sizes told, with the core alone."""
    everything = frozenset().union(*map(packages_of, NAMED))
    ways = [
        Way("", ("info",)),
        Way("", ("list",)),
        Way("", ("models",)),
        Way("", ("samples", "given")),
        Way(
            "",
            "from visrag_integrations import PageReader; assert 'forty' in list(PageReader().read('text.pdf'))[0].text",
        ),
        Way("", "import visrag_integrations as v; v.VisRAG, v.PageRetriever, v.QdrantPageStore(':memory:').close()"),
    ]
    for way, (code, said) in zip(ways, tried(place, ways, everything), strict=True):
        assert code == 0, (way.name, said)
