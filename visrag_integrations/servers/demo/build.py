"""`build_demo`: the page, and how Gradio serves it: with nothing that it does not need, and behind the gate."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Collection
from importlib import resources
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from visrag_integrations.embedders import load_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.generation import load_generator
from visrag_integrations.interfaces import Generator, PageEmbedder
from visrag_integrations.interfaces.closing import close
from visrag_integrations.servers.demo.gate import Gate, GateSettings
from visrag_integrations.servers.demo.knowledge_bases import KnowledgeBases
from visrag_integrations.servers.demo.page import DemoPage
from visrag_integrations.servers.web.hosts import LOOPBACK

_OPENED: dict[Path, contextlib.ExitStack] = {}
"""What `build_demo` opened itself, by folder: running a notebook's cell again takes it over from the page before."""


def build_demo(
    bases: KnowledgeBases | str | Path,
    *,
    embedder: PageEmbedder | str | None = None,
    generator: Generator | str | None = None,
    password: str | None = None,
    hosts: Collection[str] | None = None,
    local: bool = False,
    agent: bool = False,
) -> gr.Blocks:
    """The page; `.launch()` serves it, with what protects it. Its arguments are Gradio's own.

    Args:
        bases: Knowledge bases, or the folder where they are kept.
        embedder: Fills new ones, or its name; not together with `KnowledgeBases`.
        generator: Answers, or its name; not together with `KnowledgeBases`.
        password: What visitors have to type first; None lets in everybody who can reach the server.
        hosts: The host names the server may be called by; any when None.
        local: Folders, files and web addresses may be typed in on the page. Only for a page that nobody but you can
            open, without a password and without `share`: it reads this machine's disk.
        agent: The model searches in several steps unless a visitor unticks it.

    Raises:
        SettingError: A folder without models, an empty password.
        StoreLockedError: Another demo has the folder open.
    """
    if password is not None and not password.strip():
        raise SettingError("The password is empty. Give one that nobody guesses, or None for no password.")
    if local and (password is not None or not hosts or not set(hosts) <= set(LOOPBACK)):
        raise SettingError(
            "local=True lets whoever opens the page read this machine's files. It needs hosts=LOOPBACK and no password."
        )
    if not isinstance(bases, KnowledgeBases):
        bases = _open(bases, embedder, generator)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(bases.incoming)  # not the folder that all programs on this machine share
    demo = DemoPage(bases, local, agent).build()
    demo.queue(max_size=bases.limits.waiting, default_concurrency_limit=8, api_open=False)
    limits = bases.limits
    settings = GateSettings(bases.room, limits.file_bytes * limits.files, bases.incoming, password, hosts)
    demo.launch = functools.partial(_launch, demo.launch, bases, settings, local)
    return demo


def _open(folder: str | Path, embedder: PageEmbedder | str | None, generator: Generator | str | None) -> KnowledgeBases:
    if embedder is None or generator is None:
        raise SettingError(
            'Say what embeds and what answers: build_demo(folder, embedder="ocr", generator="extractive").'
        )
    with contextlib.ExitStack() as opened:
        # Before the page that has the folder lets go of its models: those of the same name are not loaded again.
        if isinstance(embedder, str):
            embedder = load_embedder(embedder, shared=True)
            opened.callback(close, embedder)
        if isinstance(generator, str):
            generator = load_generator(generator, shared=True)
            opened.callback(close, generator)
        opened_before = _OPENED.pop(Path(folder).absolute(), None)
        if opened_before is not None:
            opened_before.close()
        bases = opened.enter_context(KnowledgeBases(folder, embedder=embedder, generator=generator))
        _OPENED[bases.folder] = opened.pop_all()
    return bases


def _launch(launch: Callable[..., Any], bases: KnowledgeBases, gate: GateSettings, local: bool, **settings: Any) -> Any:
    """Gradio's `launch`, with nothing of what this page does not need."""
    if local and (settings.get("share") or settings.get("server_name") not in (None, *LOOPBACK)):
        raise SettingError("A page with local=True reads this machine's files: it can be for this machine only.")
    files = resources.files("visrag_integrations.servers.demo")
    style = files.joinpath("demo.css").read_text(encoding="utf-8")
    script = files.joinpath("demo.js").read_text(encoding="utf-8")
    ours = {
        "share": False,
        "theme": _theme(),
        "head": f"<style>{style}</style><script>{script}</script>",
        "footer_links": [],
        "max_file_size": bases.limits.file_bytes,
        "app_kwargs": {"middleware": [Middleware(Gate, settings=gate)], "docs_url": None, "redoc_url": None},
        "ssr_mode": False,
        "mcp_server": False,
        "run_history": False,
        "enable_monitoring": False,
        "pwa": False,
        "num_workers": 0,  # its workers serve files on ports of their own
        "show_error": False,  # of what nobody foresaw; the page's own errors are shown all the same
    }
    if local:
        ours["server_name"] = "127.0.0.1"  # whatever GRADIO_SERVER_NAME says
    # Versions of Gradio differ in what they know; what the caller gives is passed on, known or not.
    known = inspect.signature(launch).parameters
    for name in ours.keys() - known.keys():
        del ours[name]
    return launch(**{**ours, **settings})


def _theme() -> Any:
    system = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    return gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=system,
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    )
