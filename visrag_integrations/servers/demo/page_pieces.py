"""Pieces that several parts of the page are made of."""

from __future__ import annotations

from typing import Any

import gradio as gr

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}
"""How every handler is wired. It checks what comes by itself, because other visitors change what can be chosen."""


def html(value: str = "", **settings: Any) -> Any:
    """A piece of the page whose look is all in demo.css."""
    return gr.HTML(value, apply_default_css=False, padding=False, **settings)
