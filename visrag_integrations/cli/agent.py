"""`visrag ask --agent`: the model searches and looks closer by itself; its steps are told as they happen."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import options
from visrag_integrations.errors import printable

if TYPE_CHECKING:
    from visrag_integrations.agent import Shown, Step, Trace
    from visrag_integrations.interfaces import Filter
    from visrag_integrations.rag import VisRAG

_THOUGHT = 160  # characters of a thought that are shown: two lines of a terminal


def add_options(parser: argparse.ArgumentParser) -> None:
    """What an answer by the agent may be asked for."""
    parser.add_argument(
        "--agent",
        action="store_true",
        help="let the model search and look closer by itself, in several turns; --html then shows every step",
    )
    parser.add_argument(
        "--turns",
        type=options.positive,
        metavar="N",
        help="of --agent: at most so many (default: as the checkpoint was trained, else 10)",
    )


def run_agent(arguments: argparse.Namespace, rag: VisRAG, question: str, only: Filter | None) -> Trace:
    """The run, step by step on standard error."""
    from visrag_integrations.agent import Trace, VRAGAgent

    agent = VRAGAgent(rag.retriever, rag.generator, arguments.turns, filter=only, settings=rag.settings)
    for step in agent.stream(question):
        if isinstance(step, Trace):
            return step
        line = step_line(step)
        if line:
            options.note(line)
    raise AssertionError("a run ends with its trace")


def step_line(step: Step) -> str:
    """One step for people; "" for the last one, whose answer is printed whole."""
    from visrag_integrations.agent import Crop, SearchStep, Thought

    turn = f"turn {step.turn}: "
    if isinstance(step, Thought):
        text = textwrap.shorten(printable(" ".join(step.text.split())), _THOUGHT, placeholder=" ...")
        return turn + "thinks: " + text if text else ""
    if isinstance(step, SearchStep):
        return turn + f"searches {printable(step.query)!r}" + _shown(step.observation.shown)
    if isinstance(step, Crop):
        box = step.written if step.box is None else ", ".join(f"{side:g}" for side in step.box)
        return turn + f"looks closer at [{printable(box.strip('[]'))}]" + _shown(step.observation.shown)
    return ""


def trace_json(trace: Trace) -> dict[str, Any]:
    """What `--json` gives beside the answer."""
    from visrag_integrations.agent.steps import step_dict

    return {"reason": trace.reason, "steps": list(map(step_dict, trace.steps))}


def _shown(shown: tuple[Shown, ...]) -> str:
    if not shown:
        return ", and is shown nothing new"
    page = shown[0].page.page
    return f", and sees {printable(page.source or page.doc_id)}, page {page.number}"
