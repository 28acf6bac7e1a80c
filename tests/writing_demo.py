"""A demo, as a program, whose generator writes: answers, follow-ups reworded, and the turns of an agent.

It waits while the file FOLDER/hold is there, and fails while FOLDER/fail is. It prints its address.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio  # noqa: F401  (not collected where it is not installed)
from fakes import PixelEmbedder

from visrag_integrations.errors import GenerationError
from visrag_integrations.generation import vrag
from visrag_integrations.generation.extractive import ExtractiveGenerator
from visrag_integrations.servers.demo import KnowledgeBases, build_demo
from visrag_integrations.servers.web.hosts import LOOPBACK
from visrag_integrations.types import Conversation, Generation, GenerationSettings

TURNS = (
    "<think>I need the page about boats first.</think><search>boats in the harbour</search>",
    "<think>The number is small. I look closer at it.</think><bbox>[20, 30, 200, 160]</bbox>",
    "<think>Anchors may matter too.</think><search>weight of anchors</search>",
    "<think>Now I know.</think><answer>Forty boats.</answer>",
)


class Writer:
    """Acts as an agent, rewords follow-ups, and quotes for everything else."""

    name = "writer"
    max_images = 9

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._quoting = ExtractiveGenerator()

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        return [self._written(conversation) for conversation in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        self._wait()
        yield from self._quoting.stream(conversation, settings)

    def _written(self, conversation: Conversation) -> Generation:
        told = conversation[0].text
        if "Write only the question" in told:
            return Generation(
                f'Question: "{told.split("message is:")[1].split("Write this")[0].strip()} (of the boats)"'
            )
        if vrag.question_of(conversation) is None:
            return self._quoting.generate([conversation])[0]
        turn = sum(message.role == "assistant" for message in conversation)
        if turn:
            self._wait()
        return Generation(TURNS[min(turn, len(TURNS) - 1)])

    def _wait(self) -> None:
        while (self._folder / "hold").exists():
            time.sleep(0.02)
        if (self._folder / "fail").exists():
            raise GenerationError("The model's server is away. Start it again.")


def main(folder: Path, port: int, *, local: bool) -> None:
    writer = Writer(folder)
    with KnowledgeBases(
        folder / "bases", embedder=PixelEmbedder(), generator=writer, others=[ExtractiveGenerator()]
    ) as bases:
        demo = build_demo(bases, hosts=LOOPBACK if local else None, local=local, agent=False)
        _, url, _ = demo.launch(server_port=port, prevent_thread_lock=True, quiet=True)
        print(url, flush=True)
        sys.stdin.read()
        demo.close(verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), local=sys.argv[3:] == ["local"])
