"""What UltraRAG's client does with servers, for tests: `build`, then the steps of its two pipelines, over stdio.

Its own words are used (variables q_ls, ret_psg, prompt_ls, ans_ls; `$name` for a parameter), nothing of its code. How a
server is called is left open: the tests call with the SDK this library serves with; run as a script, in an environment
of its own, the calls go through fastmcp, which is what UltraRAG uses.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml

Call = Callable[[str, str, dict[str, Any]], Awaitable[str]]
"""Server, tool, arguments -> the text of the first part of the result."""

BUILD_CORPUS = ["corpus.build_image_corpus"]
INDEX = ["retriever.retriever_init", "retriever.retriever_embed", "retriever.retriever_index"]
MULTIMODAL: dict[str, Any] = {"generation.multimodal_generate": {"multimodal_path": "ret_psg"}}
ASK = ["retriever.retriever_init", "retriever.retriever_search", "generation.generation_init"]
VISRAG = [*ASK, "prompt.qa_boxed", MULTIMODAL]
EVISRAG = [*ASK, "prompt.evisrag_vqa", MULTIMODAL, "custom.evisrag_output_extract_from_special"]
MORE = ["custom.evisrag_parse", "custom.evisrag_ground", "retriever.retriever_search_pages", "retriever.write_run"]
SERVERS = ("retriever", "generation", "corpus", "custom")


async def run_job(call: Call, job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Build all servers, then run each pipeline of the job; gives the variables at the end of each."""
    folder = Path(job["folder"])
    parameters: dict[str, dict[str, Any]] = {}
    tools: dict[str, dict[str, Any]] = {}
    for server in SERVERS:
        file = folder / server / "parameter.yaml"
        await call(server, "build", {"parameter_file": str(file)})
        parameters[server] = yaml.safe_load(file.read_text("utf-8")) or {}
        tools[server] = yaml.safe_load((folder / server / "server.yaml").read_text("utf-8"))["tools"]
    results = {}
    for name, steps in job["pipelines"].items():
        variables = dict(job["variables"])
        for step in steps:
            await _step(call, step, variables, parameters, tools, job["templates"])
        await call("generation", "vllm_shutdown", {})  # UltraRAG calls every tool of this name at the end of a run
        results[name] = variables
    return results


async def _step(
    call: Call,
    step: Any,
    variables: dict[str, Any],
    parameters: dict[str, dict[str, Any]],
    tools: dict[str, dict[str, Any]],
    templates: dict[str, str],
) -> None:
    renamed: dict[str, str] = {}
    if isinstance(step, dict):
        ((step, renamed),) = step.items()
    server, tool = step.split(".")
    if server == "prompt":
        variables["prompt_ls"] = _prompts(templates[tool], variables)
        return
    entry = tools[server][tool]
    arguments: dict[str, Any] = {}
    for argument, source in entry["input"].items():
        source = renamed.get(argument, source)
        if source.startswith("$"):
            arguments[argument] = parameters[server][source[1:]]
        elif source in variables:
            arguments[argument] = variables[source]
    text = await call(server, tool, arguments)
    if entry.get("output"):
        found = json.loads(text)
        assert sorted(found) == sorted(entry["output"]), (step, sorted(found))
        variables.update(found)


def _prompts(template: str, variables: dict[str, Any]) -> list[dict[str, Any]]:
    """As an MCP prompt gives them: messages, with a mark for each picture where the template has one."""
    messages = []
    for question, paths in zip(variables["q_ls"], variables["ret_psg"], strict=True):
        text = template.replace("{{question}}", question).replace("<image>", "<image>" * len(paths))
        messages.append({"role": "user", "content": {"type": "text", "text": text}})
    return messages


async def _through_fastmcp(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    from fastmcp import Client

    started = {}
    for server in SERVERS:
        file = Path(job["folder"]) / server / "src" / f"{server}.py"
        started[server] = {"command": sys.executable, "args": [str(file)], "env": dict(os.environ)}
    async with Client({"mcpServers": started}) as client:

        async def call(server: str, tool: str, arguments: dict[str, Any]) -> str:
            result = await client.call_tool(f"{server}_{tool}", arguments)
            return str(result.content[0].text)

        return await run_job(call, job)


if __name__ == "__main__":
    finished = asyncio.run(_through_fastmcp(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
    Path(sys.argv[2]).write_text(json.dumps(finished), encoding="utf-8")
