"""What people mistype: each message says what to type next.

A row is what was typed, the exit code, and what the message must hold: the next command, the option, or the name that
was meant. The first table are mistakes that newcomers made when they were watched, the second others of our own.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing import draw_pdf

from visrag_integrations import load_embedder
from visrag_integrations.cli import loading, main, surroundings
from visrag_integrations.interfaces.closing import close

pytestmark = pytest.mark.slow  # some sixty commands
ROOT = Path(__file__).parent.parent

SEEN = [
    ("search boats --filter page=2", 2, "Say number=2"),
    ("search boats --filter sorce=x", 0, "keys here: doc_id, number, source"),
    ("search boats --filter source=boats", 0, "the nearest is 'boats.pdf'"),
    ("ask 'How many boats?' --filter sorce=x", 0, "The nearest is 'source'"),
    ("index boats.pdf --preset gpu", 2, "visrag reindex --preset gpu --index .visrag"),
    ("ask foo boats.pdf --preset gpu --index new", 2, "--device cpu"),
    (
        "ask foo --generator openbmb/EVisRAG-7B",
        2,
        "give --generator URL of a server that has one, or take --preset cpu",
    ),
    ("eval retrieval samples/nope.jsonl", 2, "samples/nope.jsonl: there is no such file"),
    ("index https://127.0.0.1:9/report.pdf", 2, "https://127.0.0.1:9/report.pdf: it cannot be fetched"),
    ("indx boats.pdf", 2, "Did you mean 'index'?"),
    ("ask What is a native package", 2, 'visrag ask "What is a native package"'),
    (
        "index boats.pdf --index new --embedder sentence-transformers/all-MiniLM-L6-v2",
        2,
        "Did you mean 'sentence-transformers:sentence-transformers/all-MiniLM-L6-v2', or --text-model",
    ),
    ("index boats.pdf --index new --embedder OCR", 2, "Did you mean 'ocr'"),
    ("index boats.pdf --index new --embedder openbmb/VisRAG-ret", 2, "Did you mean 'openbmb/VisRAG-Ret'"),
    ("ask foo --generator gpt-4o", 2, "OPENAI_API_KEY set: --generator https://api.openai.com/v1 --model gpt-4o"),
    ("ask 'Combien de voiliers ?'", 0, "The nearest page is boats.pdf, page 1. Quoting needs the words of the page"),
    ("ask 'zebra xylophone'", 0, "no passage fits well enough. The nearest page is boats.pdf"),
    ("search boats -v", 0, "1. boats.pdf, page 1"),
    ("search boats --verbose", 0, "1. boats.pdf, page 1"),
    # Those whose messages were right already, and must stay so.
    ("search boats --index nowhere", 2, "Make one first: visrag index PATH... --index nowhere"),
    ("index empty.pdf", 2, "the file is empty (0 bytes)"),
    ("index notes.xyz", 2, "This type of file cannot be read. Supported: .pdf"),
    ("index locked.pdf --index new", 2, "--password"),
    ("index locked.pdf --index new --password wrong", 2, "the password is wrong. Check it and try again."),
    ("search boats --index http://127.0.0.1:9 --timeout 1", 2, "Is the Qdrant server running and the URL right?"),
    ("search boats --embedder BAAI/BGE-VL-base", 2, "BAAI/BGE-VL-base"),
]
OWN = [
    ("ask foo --generator localhost:8000", 2, 'Did you mean "http://localhost:8000"?'),
    ("ask foo --generator http://", 2, 'Give one such as "http://localhost:8000/v1"'),
    ("ask foo --model gpt-4o --generator extractive", 2, "give --generator URL with it"),
    ("ask foo --strategy multi-image", 2, "choose one of multi_image"),
    ("ask foo --text-budget 5", 2, "--text-budget is for --strategy image_and_text"),
    ("ask foo --prompt evisragg", 2, "Did you mean 'evisrag'?"),
    ("ask foo --html nofolder/x.html", 2, "nofolder' does not exist"),
    ("ask foo --html folder", 2, "is a folder. Give the name of a file."),
    ("ask ''", 2, 'Type one, for example: visrag ask "What does figure 3 show?"'),
    ("ask foo --preset cpu --index new boats.pdf", 2, "Put files and folders straight after the first words"),
    ("search boats -k 0", 2, "'0' is not a whole number from 1"),
    ("search boats --collection nope", 2, "Fill it first: visrag index PATH... --index .visrag --collection nope"),
    ("search boats --filter source", 2, "'source' is not KEY=VALUE, for example source=report.pdf"),
    ("search boats --filter 'number=>1'", 0, "the nearest is '1'"),
    ("search boats --min-score 2", 2, "Say --rerank NAME|FOLDER|URL too."),
    ("search boats --rerank nosuch", 2, "Give a checkpoint's folder or its name"),
    ("search many boats", 2, "in quotes"),
    ("delete nothere.pdf", 2, "`visrag list` shows what there is"),
    ("list --filter sorce=x", 0, "The nearest is 'source'"),
    ("info --index boats.pdf", 2, "Make one first: visrag index PATH..."),
    ("index boats.pdf --index new --web-host 'http://a b'", 2, "for example cdn.example.org"),
    ("index folder --index new", 2, "Files with these endings are read: .pdf"),
    ("index nothere.pdf", 2, "Check the spelling and the working folder."),
    ("serve --port 99999", 2, "give one from 1 to 65535, or 0 for any that is free"),
    ("demo --k 3", 2, "Did you mean '-k'?"),
    ("demo --agent --preset cpu", 2, "visrag demo --agent --generator http://localhost:11434/v1"),
    ("models VisRAG-Rett", 2, "Nearest: openbmb/VisRAG-Ret"),
    ("eval retrieval quest.jsonl", 2, "Is 'questions.jsonl' meant?"),
    ("eval queries boats.pdf --generator extractive --out new.jsonl", 2, "Name a model or a server's URL."),
    ("eval answers questions.jsonl --judge-record v.jsonl", 2, "Say who judges: --judge NAME|FOLDER|URL"),
    ("train retriever nofolder questions.jsonl --output run", 2, "Give a checkpoint's folder or its name"),
    ("train retreiver x y", 2, "Did you mean 'retriever'?"),
    ("samples boats.pdf", 2, "cannot be written"),
    ("search", 2, "All of it: visrag search --help"),
    ("frobnicate", 2, "All of it: visrag --help"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an index of one document, and files that are wrong in several ways."""
    import pymupdf

    folder = tmp_path_factory.mktemp("mistakes")
    draw_pdf(folder / "boats.pdf", ["The harbour holds forty sailing boats.", "Anchors weigh two hundred pounds."])
    with pymupdf.open(folder / "boats.pdf") as plain:
        plain.save(folder / "locked.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="heron", owner_pw="heron")
    (folder / "empty.pdf").touch()
    (folder / "notes.xyz").write_text("hello", encoding="utf-8")
    (folder / "questions.jsonl").write_text('{"query": "boats", "source": "boats.pdf", "page": 1, "answer": "forty"}')
    (folder / "folder").mkdir()
    held = load_embedder("ocr", shared=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(loading, "_why_no_gpu", lambda: " (no NVIDIA driver is here)")
        for name in surroundings.SETTINGS:
            patch.delenv(f"VISRAG_{name.upper()}", raising=False)
        assert main(["index", "boats.pdf", "--preset", "cpu"]) == 0
        yield folder
    close(held)


@pytest.mark.parametrize(("typed", "code", "said"), [*SEEN, *OWN])
def test_the_message_says_what_to_type_next(
    place: Path, capsys: pytest.CaptureFixture[str], typed: str, code: int, said: str
) -> None:
    capsys.readouterr()
    try:
        ended = main(shlex.split(typed))
    except SystemExit as error:
        ended = int(error.code or 0)
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).split())
    assert said in text
    assert ended == code
    assert "Traceback" not in text
    assert "insufficient to answer" not in text


def test_the_tables_are_whole() -> None:
    assert len(OWN) >= 20
    assert len({typed for typed, _, _ in [*SEEN, *OWN]}) == len(SEEN) + len(OWN)


def test_an_index_that_another_process_has(place: Path) -> None:
    held = "import visrag_integrations as v; s = v.QdrantPageStore('.visrag'); s.count(); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        done = _typed("search", "boats")
        other.communicate("\n")
    assert done.returncode == 2
    assert f"in use by process {other.pid}. Close it there, or run a Qdrant server" in done.stderr


def test_python_m(place: Path) -> None:
    done = _typed("search", "boats")
    assert done.returncode == 0
    assert done.stdout.startswith("1. boats.pdf, page 1")


def _typed(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visrag_integrations", *words]
    return subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
