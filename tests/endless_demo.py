"""A demo, as a program, whose generator writes until it is stopped; it prints its address, and that it was stopped."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gradio  # noqa: F401  (not collected where it is not installed)
from fakes import PixelEmbedder

from visrag_integrations.servers.demo import KnowledgeBases, build_demo
from visrag_integrations.types import Generation


class EndlessGenerator:
    name = "endless"

    def generate(self, *_: object) -> list[Generation]:
        raise NotImplementedError

    def stream(self, *_: object) -> Iterator[Generation]:
        try:
            yield Generation("<answer>")
            for number in itertools.count():
                yield Generation(f"word{number} ")
                time.sleep(0.1)  # the server has to run meanwhile
        finally:
            print("stopped", flush=True)


def main(folder: Path, port: int) -> None:
    with KnowledgeBases(folder, embedder=PixelEmbedder(), generator=EndlessGenerator()) as bases:
        demo = build_demo(bases)
        _, url, _ = demo.launch(server_port=port, prevent_thread_lock=True, quiet=True)
        print(url, flush=True)
        sys.stdin.read()
        demo.close(verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
