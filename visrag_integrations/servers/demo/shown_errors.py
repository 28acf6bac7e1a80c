"""Errors as the page shows them, and what came from a browser as what it should be."""

from __future__ import annotations

from typing import Any

import gradio as gr

from visrag_integrations.servers.demo import fragments

UNFORESEEN = "Something went wrong; the log of the server says what."


def typed(value: Any) -> str:
    """What somebody typed or chose; "" for anything else: a file sent in its place would come back with its path."""
    return value if isinstance(value, str) else ""


def in_words(error: Exception) -> str:
    """What is wrong; of errors of the system, without the paths of this machine."""
    if isinstance(error, OSError):
        return error.strerror or "The file system failed."
    return str(error)


def shown(error: Exception) -> gr.Error:
    """What Gradio shows in a corner of the page."""
    return gr.Error(fragments.escaped(in_words(error)), print_exception=False)
