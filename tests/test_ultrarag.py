"""UltraRAG's pipelines on our servers, through the SDK's own client, and what each tool does with bad input."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client
from ultrarag_pipeline import SERVERS, run_job
from ultrarag_set import PlayedSet, check_agreement, evaluated, make_set


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlayedSet, dict[str, dict[str, Any]]]:
    """All steps of both pipelines, once for all tests: servers start slowly."""
    made = make_set(tmp_path_factory.mktemp("ultrarag"))
    return made, asyncio.run(through_the_sdk(made))


async def through_the_sdk(made: PlayedSet) -> dict[str, dict[str, Any]]:
    async with contextlib.AsyncExitStack() as stack:
        clients: dict[str, Client] = {}
        for server in SERVERS:
            file = str(made.folder / server / "src" / f"{server}.py")
            started = StdioServerParameters(command=sys.executable, args=[file], env=dict(os.environ))
            clients[server] = await stack.enter_async_context(Client(stdio_client(started)))

        async def call(server: str, tool: str, arguments: dict[str, Any]) -> str:
            result = await clients[server].call_tool(tool, arguments)
            text = str(result.content[0].text)  # type: ignore[union-attr]
            assert not result.is_error, f"{server}.{tool}: {text}"
            return text

        return await run_job(call, made.job)


@pytest.mark.slow
def test_both_pipelines_find_and_answer_as_visrag_eval_does(
    played: tuple[PlayedSet, dict[str, dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, results = played
    check_agreement(results, evaluated(made.place, capsys, monkeypatch), made.place)
