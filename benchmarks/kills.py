"""`kill -9` at random moments: `python benchmarks/kills.py [--chains 10] [--kills 5] [--seed 0]`.

A chain is what people do with an index for a year: index a folder, add a second embedder, change files and remove
some (prune), delete documents by hand, embed again by another model, read the files again, export and import. Every
step runs in a process of its own. In each chain so many steps as are asked for are killed, at a random moment of
their work, and run again to their end. After the chain: every page is there once and found by its own words, no
deleted page is, no picture is left that no page speaks of, and nothing is left in the temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from drawing import draw_pdf
from fakes import PixelEmbedder

from visrag_integrations import Page, PageReader, PageRetriever, QdrantPageStore, Query, index_documents
from visrag_integrations.errors import StoreError
from visrag_integrations.ingestion import reindex

READER = PageReader(ocr="never", max_pixels=60_000)
STARTED = "started"
"""What a step says when it begins its work. A moment is counted from there: to load Python takes longer than a step."""
LONGEST = 1.0
"""Seconds of its work after which a step is killed at the latest; most take about that long."""


def word(document: int, version: int, page: int) -> str:
    """A word that stands on one page only, of letters that no other has in this number."""
    letters = "abcdefghijklmnop"
    return "".join(letters[int(digit, 16)] for digit in f"{document:02x}{version:02x}{page:02x}")


class WordEmbedder:
    """A vector for every word: how often each letter stands in it."""

    name, kind, dimension = "words", "multi", 26

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        return [self._vectors(page.text) for page in pages]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Any]:
        texts = [query if isinstance(query, str) else query.text for query in queries]
        return [self._vectors(text) for text in texts]

    def _vectors(self, text: str) -> Any:
        words = text.split() or [""]
        return np.array([[word.count(chr(97 + i)) + 0.01 for i in range(26)] for word in words], np.float32)


EMBEDDERS = {"pixels": PixelEmbedder, "words": WordEmbedder}


def embedders(names: str) -> list[Any]:
    return [EMBEDDERS[name]() for name in names.split("+")]


def step(action: str, index: str, documents: str, models: str) -> None:
    """One step, in this process, to its end."""
    chosen = embedders(models)
    print(STARTED, flush=True)
    with QdrantPageStore(index) as store:
        if action == "index":
            settings = {"reader": READER, "workers": 1, "progress": False, "batch_size": 3, "prune": True}
            report = index_documents([documents], store=store, embedder=chosen, **settings)
            assert not report.failed, report.failed
        elif action == "reindex":
            reindex(store, embedder=chosen, batch_size=3, progress=False)
        elif action == "reread":
            settings = {"reader": READER, "workers": 1, "batch_size": 3, "progress": False}
            reindex(store, embedder=chosen, sources=[documents], **settings)
        elif action.startswith("delete"):
            store.prepare(chosen[0], also=chosen[1:])
            name = action.partition(" ")[2]
            for document in store.documents({"source": name}):
                store.delete(doc_id=document.doc_id)
        elif action == "export":
            store.export(f"{index}.zip")
        elif action == "import":
            try:
                QdrantPageStore.import_from(f"{index}.zip", f"{index}.copy").close()
            except StoreError as error:  # the run before came to its end
                if "holds pages already" not in str(error):
                    raise


STEPS = 10
"""Of a chain."""


class Chain:
    def __init__(self, folder: Path, seed: int, kills: int) -> None:
        self.random = random.Random(seed)
        self.folder, self.kills = folder, kills
        self.documents, self.index = folder / "documents", folder / "index"
        self.temporary = folder / "tmp"
        self.documents.mkdir()
        self.temporary.mkdir()
        self.versions: dict[int, int] = {}
        self.killed = 0
        self.steps = STEPS

    def draw(self, document: int, version: int) -> None:
        draw_pdf(self.documents / f"{document}.pdf", [word(document, version, page) for page in range(4)])
        self.versions[document] = version

    def run(self, action: str, models: str) -> None:
        """The step, killed at a random moment where this chain has kills left, then to its end."""
        command = [sys.executable, __file__, "--step", action, str(self.index), str(self.documents), models]
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        # As many as are wanted, spread over the steps that are left: a step that ends by itself was not killed.
        while self.random.random() < (self.kills - self.killed) / self.steps:
            process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(LONGEST * self.random.random() ** 2)
                assert process.returncode == 0, f"{action} failed"
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)  # this process alone: its readers must notice by themselves
                process.wait()
                self.killed += 1
            process.stdout.close()
        self.steps -= 1
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    def check(self, index: Path, models: str) -> dict[str, int]:
        expected = {(f"{d}.pdf", page + 1): word(d, v, page) for d, v in self.versions.items() for page in range(4)}
        with QdrantPageStore(index) as store:
            found = [(Path(page.source).name, page.number, page.text.strip()) for page in store.scroll()]
            retriever = PageRetriever(embedders(models)[0], store, mode="lexical")
            unfound = sum(not retriever.retrieve(text, 1) for text in expected.values())
            pictures = {str(page.picture) for page in store.scroll()}
        places = [(source, number) for source, number, _ in found]
        files = [path for path in index.glob("pictures/**/*") if path.is_file()]
        return {
            "lost": sum(place not in places for place in expected) + unfound,
            "wrong": sum(expected.get((source, number)) != text for source, number, text in found),
            "doubled": len(places) - len(set(places)),
            "orphans": sum(not any(str(path) in picture for picture in pictures) for path in files),
        }


COUNTS = ("lost", "wrong", "doubled", "orphans", "temporary folders", "unfinished files", "processes")


def living(temporary: Path) -> int:
    """Processes that work in a temporary folder of the chain; those of killed parents end by themselves."""
    deadline = time.monotonic() + 30
    while True:
        found = 0
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                found += str(temporary).encode() in path.read_bytes()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def chain(seed: int, kills: int) -> tuple[int, dict[str, int]]:
    with tempfile.TemporaryDirectory() as name:
        made = Chain(Path(name), seed, kills)
        for document in range(4):
            made.draw(document, 0)
        made.run("index", "pixels")
        made.draw(0, 1)
        made.draw(4, 0)
        (made.documents / "1.pdf").unlink()
        del made.versions[1]
        made.run("index", "pixels")
        made.run("reindex", "pixels+words")
        made.draw(2, 1)
        (made.documents / "3.pdf").unlink()
        del made.versions[3]
        made.run("index", "pixels+words")
        (made.documents / "4.pdf").unlink()
        del made.versions[4]
        made.run("delete 4.pdf", "pixels+words")
        made.draw(5, 0)
        made.run("index", "pixels+words")
        made.run("reindex", "words")
        made.draw(0, 2)
        made.run("reread", "words")
        made.run("export", "words")
        made.run("import", "words")
        counts = made.check(made.index, "words")
        for key, value in made.check(Path(f"{made.index}.copy"), "words").items():
            counts[key] += value
        counts["temporary folders"] = sum(1 for _ in made.temporary.iterdir())
        counts["unfinished files"] = sum(1 for _ in made.folder.rglob("*.unfinished"))
        counts["processes"] = living(made.temporary)
        return made.killed, counts


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        step(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=10)
    parser.add_argument("--kills", type=int, default=5, help="of each chain")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    killed, totals = 0, dict.fromkeys(COUNTS, 0)
    for number in range(options.chains):
        times, counts = chain(options.seed + number, options.kills)
        killed += times
        for key, value in counts.items():
            totals[key] += value
        print(f"chain {number}: killed {times} times, {counts}", flush=True)
    print(f"{killed} kills in {options.chains} chains: {totals}")
    sys.exit(any(totals.values()))


if __name__ == "__main__":
    main()
